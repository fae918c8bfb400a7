/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose memory is it: what one principal has is to another as if it were not there, unless its line
 * lets it read; and rights that a new table takes away end what began by them.
 */
#include <unistd.h>

#include "tests/unit/http/http_roles.h"

static char id[MAAS_SLAB_ID_TEXT];
static char session[MAAS_SLAB_ID_TEXT];

static void set_up(void)
{
	/* One: to ThreadSanitizer, requests in turn are not in turn. */
	const struct maas_http_options options = {.threads = 1};

	http_start(&options);
	make_tokens();
	use("read=team/*");
	copy_field(ask(OWNER, "POST", "/allocate",
		       "{\"size_bytes\":100,\"owner\":\"team/x\",\"lifetime\":\"ttl\","
		       "\"ttl_seconds\":60}",
		       200),
		   "id", id);
	copy_field(ask(OWNER, "POST", "/sessions", "{\"name\":\"team/s\",\"exclusive\":true}", 200),
		   "id", session);
}

TEST(free__of_many_leaves_what_is_not_the_callers)
{
	char body[160];

	snprintf(body, sizeof(body), "{\"ids\":[\"%s\"]}", id);
	assert_non_null(strstr(ask(OTHER, "POST", "/free", body, 200), "\"freed\":0"));
	assert_non_null(strstr(ask(READER, "POST", "/free", body, 200), "\"freed\":0"));
	ask(OWNER, "GET", http_text("/allocate/%s", id), NULL, 200);
	assert_non_null(strstr(ask(OWNER, "POST", "/free", body, 200), "\"freed\":1"));
}

TEST(list__shows_what_the_caller_may_read)
{
	char own[MAAS_SLAB_ID_TEXT];

	copy_field(ask(OTHER, "POST", "/allocate", "{\"size_bytes\":1}", 200), "id", own);
	assert_null(strstr(ask(OTHER, "GET", "/allocations", NULL, 200), id));
	assert_non_null(strstr(ask(OTHER, "GET", "/allocations", NULL, 200), own));
	assert_null(strstr(ask(OTHER, "GET", "/allocations?owner=team/x", NULL, 200), id));
	assert_non_null(strstr(ask(READER, "GET", "/allocations?owner=team/x", NULL, 200), id));
	assert_null(strstr(ask(READER, "GET", "/allocations", NULL, 200), own));
	assert_non_null(strstr(ask(ADMIN, "GET", "/allocations", NULL, 200), own));
}

TEST(allocate__under_the_callers_own_names)
{
	char own[MAAS_SLAB_ID_TEXT];

	copy_field(ask(OWNER, "POST", "/allocate", "{\"size_bytes\":1}", 200), "id", own);
	assert_non_null(strstr(ask(OWNER, "GET", http_text("/allocate/%s", own), NULL, 200),
			       "\"owner\":\"team\""));
	ask(OTHER, "POST", "/allocate", "{\"size_bytes\":1,\"owner\":\"team/x\"}", 403);
	ask(READER, "POST", "/allocate", "{\"size_bytes\":1,\"owner\":\"team/x\"}", 403);
	ask(READER, "POST", "/allocate", "{\"size_bytes\":1}", 403);
	/* Nobody's memory is the admins'. */
	copy_field(ask(ADMIN, "POST", "/allocate", "{\"size_bytes\":1}", 200), "id", own);
	ask(OWNER, "GET", http_text("/allocate/%s", own), NULL, 404);
	ask(ADMIN, "GET", http_text("/allocate/%s", own), NULL, 200);
}

TEST(request_id__is_the_principals)
{
	static const char body[] = "{\"size_bytes\":1,\"request_id\":\"r\"}";
	char first[MAAS_SLAB_ID_TEXT], again[MAAS_SLAB_ID_TEXT], others[MAAS_SLAB_ID_TEXT];

	copy_field(ask(OWNER, "POST", "/allocate", body, 200), "id", first);
	copy_field(ask(OWNER, "POST", "/allocate", body, 200), "id", again);
	copy_field(ask(OTHER, "POST", "/allocate", body, 200), "id", others);
	assert_string_equal(first, again);
	assert_string_not_equal(first, others);
}

TEST(session__is_its_principals)
{
	char body[160];

	ask(OTHER, "POST", "/sessions", "{\"name\":\"team/s\"}", 403); /* taken or not */
	ask(OTHER, "POST", "/sessions", "{\"name\":\"team/t\",\"exclusive\":true}", 403);
	ask(READER, "POST", "/sessions", "{\"name\":\"team/t\"}", 403);
	ask(OWNER, "POST", "/sessions", "{\"name\":\"team/s\",\"exclusive\":true}", 409);
	for (int role = OTHER; role <= READER; role++) {
		ask((enum role)role, "POST", http_text("/sessions/%s/renew", session), "{}", 404);
		ask((enum role)role, "POST", http_text("/sessions/%s/ticket", session), "{}", 404);
		ask((enum role)role, "DELETE", http_text("/sessions/%s", session), NULL, 404);
	}
	snprintf(body, sizeof(body),
		 "{\"size_bytes\":1,\"lifetime\":\"session\",\"session\":\"%s\"}", session);
	ask(OTHER, "POST", "/allocate", body, 404);
	ask(ADMIN, "POST", "/allocate", body, 404);
	ask(OWNER, "POST", "/allocate", body, 200);
	assert_null(strstr(ask(OTHER, "GET", "/sessions?name=team/s", NULL, 200), "age_seconds"));
	assert_non_null(strstr(ask(READER, "GET", "/sessions?name=team/s", NULL, 200), "age_se"));
	ask(OWNER, "POST", http_text("/sessions/%s/ticket", session), "{}", 200);
	ask(ADMIN, "POST", http_text("/sessions/%s/ticket", session), "{}", 404);
	ask(ADMIN, "POST", http_text("/sessions/%s/renew", session), "{}", 200);
	ask(ADMIN, "DELETE", http_text("/sessions/%s", session), NULL, 200);
}

/* ---- another table */

static bool session_lives(void)
{
	return strstr(ask(ADMIN, "GET", "/sessions?name=team/s", NULL, 200), "age_seconds");
}

TEST(reload__ends_the_sessions_of_those_that_lose)
{
	char readers[MAAS_SLAB_ID_TEXT];

	copy_field(ask(READER, "POST", "/sessions", "{}", 200), "id", readers);
	use("read=team/*,more"); /* more is no loss */
	ask(READER, "POST", http_text("/sessions/%s/renew", readers), "{}", 200);
	use("read=team/x");
	ask(READER, "POST", http_text("/sessions/%s/renew", readers), "{}", 404);
	assert_true(session_lives());
	ask(READER, "GET", http_text("/allocate/%s", id), NULL, 200);
	use("read=nothing");
	ask(READER, "GET", http_text("/allocate/%s", id), NULL, 404);
	assert_true(session_lives());
}

/* The tokens of two roles on the line of one principal, and then one of them alone. */
static void use_team(enum role first, enum role second)
{
	char hashes[2][MAAS_AUTH_HASH];

	maas_auth_token_hash(tokens[first], strlen(tokens[first]), hashes[0]);
	maas_auth_token_hash(tokens[second], strlen(tokens[second]), hashes[1]);
	http_use_principals(
		http_text("team token=%s %s%s owner=team/*\n", hashes[0],
			  first == second ? "" : "token=", first == second ? "" : hashes[1]));
}

TEST(reload__ends_the_sessions_of_a_token_that_is_taken_away)
{
	char stolen[MAAS_SLAB_ID_TEXT];

	use_team(OWNER, OTHER);
	copy_field(ask(OTHER, "POST", "/sessions", "{}", 200), "id", stolen);
	use_team(OWNER, OWNER);
	ask(OWNER, "POST", http_text("/sessions/%s/renew", stolen), "{}", 404);
	ask(OWNER, "POST", http_text("/sessions/%s/renew", session), "{}", 200);
	ask(OTHER, "POST", http_text("/sessions/%s/renew", stolen), "{}", 401);
}

/* Both tokens, the new one in use, the new one alone: the session goes on. */
TEST(rotation__keeps_the_session)
{
	use_team(OWNER, OTHER);
	ask(OTHER, "POST", http_text("/sessions/%s/renew", session), "{}", 200);
	use_team(OTHER, OTHER);
	ask(OTHER, "POST", http_text("/sessions/%s/renew", session), "{}", 200);
	ask(OTHER, "GET", http_text("/allocate/%s", id), NULL, 200);
}

/* Its head is read, by the rights of now; the body is to come. */
static int begin_request(enum role role, const char *line, size_t len)
{
	char buffer[64];
	int fd = http_connect();

	http_send_text(fd,
		       "%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nExpect: "
		       "100-continue\r\n" HTTP_JSON "Content-Length: %zu\r\n\r\n",
		       line, tokens[role], len);
	http_recv(fd, buffer, strlen("HTTP/1.1 100 Continue\r\n\r\n"), 5000);
	assert_true(http_is_answer(buffer, 100));
	return fd;
}

/* Who would be told of nothing, of what is there, may take it for lost. */
TEST(reload__that_takes_a_proof_away_says_so_to_requests_under_way)
{
	const char *ids = http_text("{'ids':['%s']}", id);
	const struct {
		const char *line, *body;
	} calls[] = {
		{"GET /allocations", "{}"},
		{"GET /allocations?owner=team/x", "{}"},
		{http_text("GET /allocate/%s", id), "{}"},
		{http_text("POST /allocate/%s/renew", id), "{}"},
		{http_text("DELETE /allocate/%s", id), "{}"},
		{"POST /free", ids},
		{"POST /data/read",
		 http_text("{'ranges':[{'id':'%s','offset':0,'length':1}]}", id)},
		{"POST /allocate", "{'size_bytes':1}"},
		{"POST /allocate", "{'size_bytes':9000000}"},
		{"GET /sessions?name=team/s", "{}"},
		{"POST /sessions", "{'name':'team/s'}"},
		{http_text("POST /sessions/%s/renew", session), "{}"},
		{http_text("POST /sessions/%s/ticket", session), "{}"},
		{http_text("DELETE /sessions/%s", session), "{}"},
	};
	int fds[MAAS_ARRAY_SIZE(calls)];

	use_team(OWNER, OTHER);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++)
		fds[i] = begin_request(OTHER, calls[i].line, strlen(calls[i].body));
	use_team(OWNER, OWNER);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++) {
		http_send_text(fds[i], "%s", http_quoted(calls[i].body));
		http_expect_answer(fds[i], 401, "was it replaced?");
	}
	ask(OWNER, "GET", http_text("/allocate/%s", id), NULL, 200);
	ask(OWNER, "POST", http_text("/sessions/%s/renew", session), "{}", 200);
}

static uint64_t transfers(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(server.lend, &stats);
	return stats.transfers;
}

/* Uploads that stand still, one of the principal that loses its right and one of another. */
TEST(reload__ends_the_transfers_of_those_that_lose)
{
	char buffer[4096], others[MAAS_SLAB_ID_TEXT];
	int fds[2];

	copy_field(ask(OWNER, "POST", "/allocate", "{\"size_bytes\":100}", 200), "id", others);
	use("owner=team/*");
	for (int i = 0; i < 2; i++) {
		fds[i] = http_connect();
		http_send_text(
			fds[i],
			"PUT /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
			"Bearer %s\r\nContent-Length: 100\r\n\r\nabc",
			id, tokens[i ? OWNER : READER]);
	}
	for (int i = 0; transfers() < 2 && i < 500; i++)
		usleep(10000);
	assert_int_equal(transfers(), 2);
	use("read=team/*");
	for (int i = 0; transfers() > 1 && i < 500; i++)
		usleep(10000);
	assert_int_equal(transfers(), 1);
	for (int i = 0; i < 97; i++)
		assert_true(http_send(fds[1], "x", 1));
	assert_int_equal(http_recv_answer(fds[1], buffer, sizeof(buffer)), 200);
	close(fds[0]);
	close(fds[1]);
}

TEST_MAIN(set_up, http_teardown)
