/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas as clients see them: which one, of whom, and when to try again. */
#include <unistd.h>

#include "tests/unit/http/http_roles.h"

static void set_up(void)
{
	/* One: to ThreadSanitizer, requests in turn are not in turn. */
	const struct maas_http_options options = {.threads = 1};

	http_start(&options);
	make_tokens();
	use("read=team/*");
}

/* The lines of the file, with the words for the team's. */
static void use_words(const char *words)
{
	char hashes[ROLES][MAAS_AUTH_HASH];

	for (int i = 0; i < ROLES; i++)
		maas_auth_token_hash(tokens[i], strlen(tokens[i]), hashes[i]);
	use_text(http_text("team token=%s owner=team/* %s\nother token=%s owner=other,team/x\n"
			   "scraper token=%s owner=team/x metrics\nops token=%s admin\n",
			   hashes[OWNER], words, hashes[OTHER], hashes[READER], hashes[ADMIN]));
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
	http_send_text(fd,
		       "GET /allocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
		       "%s\r\n\r\n",
		       tokens[role]);
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

TEST_MAIN(set_up, http_teardown)
