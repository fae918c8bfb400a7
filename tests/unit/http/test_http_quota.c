/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas as clients see them: which one, of whom, and when to try again. */
#include <unistd.h>

#include "tests/unit/http/http_roles.h"

/* The lines of the file, with the words for the team's. */
static void use_words(const char *words)
{
	http_use_principals(
		http_text("team token=%s owner=team/* %s\nother token=%s owner=other,team/x\n"
			  "scraper token=%s owner=team/x metrics\nops token=%s admin\n",
			  hash_of(OWNER), words, hash_of(OTHER), hash_of(READER), hash_of(ADMIN)));
}

static uint64_t connections(void)
{
	struct maas_lend_usage usage;

	assert_true(maas_lend_usage(server.lend, "team", &usage));
	return usage.used[MAAS_AUTH_CONNECTIONS];
}

/* Asks on a connection of its own; returns the status. */
static int ask_on(int fd, enum role role, char *buffer, size_t max)
{
	http_send_text(fd, HTTP_REQUEST("GET /allocations", "%s\r\n"), with(tokens[role]));
	return http_recv_answer(fd, buffer, max);
}

TEST(connections__one_too_many)
{
	char buffer[4096];
	int fds[3];

	use_words("max-connections=2");
	for (int i = 0; i < 3; i++) {
		fds[i] = http_connect();
		assert_int_equal(ask_on(fds[i], OWNER, buffer, sizeof(buffer)), i < 2 ? 200 : 429);
	}
	assert_non_null(strstr(buffer, "\r\nRetry-After: 5\r\n"));
	assert_non_null(strstr(buffer, "\r\nConnection: close\r\n"));
	assert_non_null(strstr(buffer, "max-connections=2"));
	/* The others go on, and whoever else comes. */
	assert_int_equal(ask_on(fds[0], OWNER, buffer, sizeof(buffer)), 200);
	ask(OTHER, "GET", "/allocations", NULL, 200);
	assert_int_equal(connections(), 2);
	/* A connection is that of who made its last request. */
	assert_int_equal(ask_on(fds[0], OTHER, buffer, sizeof(buffer)), 200);
	assert_int_equal(connections(), 1);
	close(fds[2]);
	fds[2] = http_connect();
	assert_int_equal(ask_on(fds[2], OWNER, buffer, sizeof(buffer)), 200);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	AWAIT(!connections());
}

/* ---- which quota, and whose */

static void expect_quota(enum role role, const char *path, const char *body, long status,
			 const char *quota, const char *payer)
{
	const json_t *json = http_parse(ask(role, "POST", path, body, status));
	const json_t *error = json_object_get(json, "error");
	const json_t *principal = json_object_get(error, "principal");

	assert_string_equal(http_string(error, "code"),
			    status == 429 ? "too_many" : "quota_exhausted");
	assert_string_equal(http_string(error, "quota"), quota);
	if (payer)
		assert_string_equal(json_string_value(principal), payer);
	else
		assert_null(principal);
	/* Nor do the words name whoever pays. */
	assert_int_equal(strstr(http_string(error, "message"), "team ") != NULL,
			 payer && !strcmp(payer, "team"));
}

TEST(refusal__names_the_quota_to_whoever_pays)
{
	use_words("max-bytes=4KiB max-allocations=2 max-owners=1 max-sessions=0");
	expect_quota(OWNER, "/allocate", "{'size_bytes':4097}", 507, "bytes", "team");
	expect_quota(OWNER, "/allocate", "{'size_bytes':1,'count':3}", 507, "allocations", "team");
	ask(OWNER, "POST", "/allocate", "{'size_bytes':1}", 200);
	expect_quota(OWNER, "/allocate", "{'size_bytes':1,'owner':'team/y'}", 507, "owners",
		     "team");
	expect_quota(OWNER, "/sessions", "{}", 429, "sessions", "team");
}

/* Two lines have an owner name, and the first one pays, whoever allocates. */
TEST(refusal__names_who_pays_only_to_those_who_may_see_all)
{
	static const char body[] = "{'size_bytes':1,'owner':'team/x'}";

	use_words("max-allocations=0");
	expect_quota(OTHER, "/allocate", body, 507, "allocations", NULL);
	expect_quota(READER, "/allocate", body, 507, "allocations", "team"); /* has metrics */
	expect_quota(ADMIN, "/allocate", body, 507, "allocations", "team");
	ask(OTHER, "POST", "/allocate", "{'size_bytes':1}", 200);
}

TEST_MAIN(start_roles, http_teardown)
