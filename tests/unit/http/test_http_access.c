/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose memory is it: what one principal has is to another as if it were not there, unless its line
 * lets it read; rights that a new table takes away end what began by them; and quotas.
 */
#include <unistd.h>

#include "tests/unit/http/http_roles.h"

static const char *id;
static const char *session;

static void set_up(void)
{
	start_roles();
	id = make(OWNER, "/allocate",
		  "{'size_bytes':100,'owner':'team/x','lifetime':'ttl','ttl_seconds':60}");
	session = make(OWNER, "/sessions", "{'name':'team/s','exclusive':true}");
}

TEST(free__of_many_leaves_what_is_not_the_callers)
{
	const char *body = http_text("{'ids':['%s']}", id);

	http_expect_parts(ask(OTHER, "POST /free", body, 200), "\"freed\":0");
	http_expect_parts(ask(READER, "POST /free", body, 200), "\"freed\":0");
	ask(OWNER, http_text("GET /allocate/%s", id), NULL, 200);
	http_expect_parts(ask(OWNER, "POST /free", body, 200), "\"freed\":1");
}

TEST(list__shows_what_the_caller_may_read)
{
	const char *own = make(OTHER, "/allocate", "{'size_bytes':1}");

	assert_null(strstr(ask(OTHER, "GET /allocations", NULL, 200), id));
	http_expect_parts(ask(OTHER, "GET /allocations", NULL, 200), own);
	assert_null(strstr(ask(OTHER, "GET /allocations?owner=team/x", NULL, 200), id));
	http_expect_parts(ask(READER, "GET /allocations?owner=team/x", NULL, 200), id);
	assert_null(strstr(ask(READER, "GET /allocations", NULL, 200), own));
	http_expect_parts(ask(ADMIN, "GET /allocations", NULL, 200), own);
}

TEST(allocate__request_id_of_an_old_batch)
{
	const char *body = "{'size_bytes':10,'count':2,'request_id':'batch'}";

	use("owner=r max-request-ids=2500"); /* and the lists of 10,000 allocations */
	ask(READER, "POST /allocate", body, 200);
	ask(READER, "POST /allocate", body, 200);
	ask(READER, "POST /allocate", "{'size_bytes':10,'count':10000,'request_id':'newer'}", 200);
	http_expect_parts(ask(READER, "POST /allocate", body, 409),
			  "\"answer_forgotten\"*/allocations?owner=");
}

TEST(allocate__under_the_callers_own_names)
{
	const char *own = make(OWNER, "/allocate", "{'size_bytes':1}");

	http_expect_parts(ask(OWNER, http_text("GET /allocate/%s", own), NULL, 200),
			  "\"owner\":\"team\"");
	/* The answer says so, too: of many once, and not what the request has said. */
	http_expect_parts(ask(OWNER, "POST /allocate", "{'size_bytes':1,'request_id':'o'}", 200),
			  "\"owner\":\"team\"}");
	http_expect_parts(ask(OWNER, "POST /allocate", "{'size_bytes':1,'request_id':'o'}", 200),
			  "\"owner\":\"team\"}");
	http_expect_parts(ask(OWNER, "POST /allocate", "{'size_bytes':1,'count':2}", 200),
			  "\"age_seconds\":0}],\"owner\":\"team\"}");
	assert_null(strstr(ask(OWNER, "POST /allocate", "{'size_bytes':1,'owner':'team'}", 200),
			   "owner"));
	ask(OTHER, "POST /allocate", "{'size_bytes':1,'owner':'team/x'}", 403);
	ask(READER, "POST /allocate", "{'size_bytes':1,'owner':'team/x'}", 403);
	ask(READER, "POST /allocate", "{'size_bytes':1}", 403);
	/* An admin's line needs no owner= for that. */
	own = make(ADMIN, "/allocate", "{'size_bytes':1}");
	ask(OWNER, http_text("GET /allocate/%s", own), NULL, 404);
	http_expect_parts(ask(ADMIN, http_text("GET /allocate/%s", own), NULL, 200),
			  "\"owner\":\"ops\"");
}

TEST(request_id__is_the_principals)
{
	const char *body = "{'size_bytes':1,'request_id':'r'}";
	const char *first = make(OWNER, "/allocate", body);

	assert_string_equal(make(OWNER, "/allocate", body), first);
	assert_string_not_equal(make(OTHER, "/allocate", body), first);
}

static bool session_shows(enum role role)
{
	return strstr(ask(role, "GET /sessions?name=team/s", NULL, 200), "age_seconds");
}

TEST(session__is_its_principals)
{
	const char *body =
		http_text("{'size_bytes':1,'lifetime':'session','session':'%s'}", session);
	const char *renew = http_text("POST /sessions/%s/renew", session);
	const char *ticket = http_text("POST /sessions/%s/ticket", session);
	const char *end = http_text("DELETE /sessions/%s", session);

	ask(OTHER, "POST /sessions", "{'name':'team/s'}", 403); /* taken or not */
	ask(OTHER, "POST /sessions", "{'name':'team/t','exclusive':true}", 403);
	ask(READER, "POST /sessions", "{'name':'team/t'}", 403);
	ask(OWNER, "POST /sessions", "{'name':'team/s','exclusive':true}", 409);
	for (enum role role = OTHER; role <= READER; role++) {
		ask(role, renew, "{}", 404);
		ask(role, ticket, "{}", 404);
		ask(role, end, NULL, 404);
	}
	ask(OTHER, "POST /allocate", body, 404);
	ask(ADMIN, "POST /allocate", body, 404);
	ask(OWNER, "POST /allocate", body, 200);
	assert_false(session_shows(OTHER));
	assert_true(session_shows(READER));
	ask(OWNER, ticket, "{}", 200);
	ask(ADMIN, ticket, "{}", 404);
	ask(ADMIN, renew, "{}", 200);
	ask(ADMIN, end, NULL, 200);
}

/* ---- another table */

TEST(reload__ends_the_sessions_of_those_that_lose)
{
	const char *readers = make(READER, "/sessions", "{}");

	use("read=team/*,more"); /* more is no loss */
	ask(READER, http_text("POST /sessions/%s/renew", readers), "{}", 200);
	use("read=team/x");
	ask(READER, http_text("POST /sessions/%s/renew", readers), "{}", 404);
	assert_true(session_shows(ADMIN));
	ask(READER, http_text("GET /allocate/%s", id), NULL, 200);
	use("read=nothing");
	ask(READER, http_text("GET /allocate/%s", id), NULL, 404);
	assert_true(session_shows(ADMIN));
}

/* The tokens of two roles on the line of one principal, and then one of them alone. */
static void use_team(enum role first, enum role second)
{
	const char *also = first == second ? "" : http_text("token=%s", hash_of(second));

	http_use_principals(http_text("team token=%s %s owner=team/*\n", hash_of(first), also));
}

TEST(reload__ends_the_sessions_of_a_token_that_is_taken_away)
{
	const char *stolen;

	use_team(OWNER, OTHER);
	stolen = make(OTHER, "/sessions", "{}");
	use_team(OWNER, OWNER);
	ask(OWNER, http_text("POST /sessions/%s/renew", stolen), "{}", 404);
	ask(OWNER, http_text("POST /sessions/%s/renew", session), "{}", 200);
	ask(OTHER, http_text("POST /sessions/%s/renew", stolen), "{}", 401);
}

/* Both tokens, the new one in use, the new one alone: the session goes on. */
TEST(rotation__keeps_the_session)
{
	use_team(OWNER, OTHER);
	ask(OTHER, http_text("POST /sessions/%s/renew", session), "{}", 200);
	use_team(OTHER, OTHER);
	ask(OTHER, http_text("POST /sessions/%s/renew", session), "{}", 200);
	ask(OTHER, http_text("GET /allocate/%s", id), NULL, 200);
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
	/* The head is read, by the rights of now; the body is to come. */
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++) {
		fds[i] = http_connect();
		assert_int_equal(
			http_ask(fds[i],
				 http_request("%s\n%s\nExpect: 100-continue\nContent-Length: %zu",
					      calls[i].line, with(tokens[OTHER]),
					      strlen(calls[i].body))),
			100);
	}
	use_team(OWNER, OWNER);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++) {
		http_send_text(fds[i], http_quoted(calls[i].body));
		http_expect_answer(fds[i], 401, "was it replaced?");
	}
	ask(OWNER, http_text("GET /allocate/%s", id), NULL, 200);
	ask(OWNER, http_text("POST /sessions/%s/renew", session), "{}", 200);
}

/* Uploads that stand still, one of the principal that loses its right and one of another. */
TEST(reload__ends_the_transfers_of_those_that_lose)
{
	int fds[2];

	use("owner=team/*");
	for (int i = 0; i < 2; i++) {
		fds[i] = http_connect();
		http_send_text(fds[i],
			       http_request("PUT /allocate/%s/data\n%s\nContent-Length: 100\n\nabc",
					    id, with(tokens[i ? OWNER : READER])));
	}
	AWAIT(http_lend_stats().transfers == 2);
	use("read=team/*");
	AWAIT(http_lend_stats().transfers == 1);
	for (int i = 0; i < 97; i++)
		assert_true(http_send(fds[1], "x", 1));
	http_expect_answer(fds[1], 200, "");
	close(fds[0]);
}

/* ---- quotas: which one, of whom, and when to try again */

/* A server in which nothing is lent, whose lines have these words for the team. */
static void start_with(const char *words)
{
	start_roles();
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

/* Asks on that connection; returns the status. */
static int ask_on(int fd, enum role role)
{
	return http_ask(fd, http_request("GET /allocations\n%s", with(tokens[role])));
}

TEST(connections__one_too_many)
{
	int fds[3];

	start_with("max-connections=2");
	for (int i = 0; i < 3; i++) {
		fds[i] = http_connect();
		assert_int_equal(ask_on(fds[i], OWNER), i < 2 ? 200 : 429);
	}
	http_expect_parts(http_said, "\r\nRetry-After: 5\r\n");
	http_expect_parts(http_said, "\r\nConnection: close\r\n*max-connections=2");
	/* The others go on, and whoever else comes. */
	assert_int_equal(ask_on(fds[0], OWNER), 200);
	ask(OTHER, "GET /allocations", NULL, 200);
	assert_int_equal(connections(), 2);
	/* A connection is that of who made its last request. */
	assert_int_equal(ask_on(fds[0], OTHER), 200);
	assert_int_equal(connections(), 1);
	close(fds[2]);
	fds[2] = http_connect();
	assert_int_equal(ask_on(fds[2], OWNER), 200);
	http_close_all(fds, 3);
	AWAIT(!connections());
}

/* `named`: that the team pays, in a member and in the words. */
static void expect_quota(enum role role, const char *body, const char *quota, bool named)
{
	bool opens = !strcmp(quota, "sessions");
	const char *answer =
		ask(role, opens ? "POST /sessions" : "POST /allocate", body, opens ? 429 : 507);
	const json_t *error = json_object_get(http_parse(answer), "error");

	http_expect_members(error, "{'code':'%s','quota':'%s'%s}",
			    opens ? "too_many" : "quota_exhausted", quota,
			    named ? ",'principal':'team'" : "");
	assert_int_equal(!!json_object_get(error, "principal"), named);
	assert_int_equal(!!strstr(http_string(error, "message"), "team "), named);
}

TEST(refusal__names_the_quota_to_whoever_pays)
{
	start_with("max-bytes=4KiB max-allocations=2 max-owners=1 max-sessions=0");
	expect_quota(OWNER, "{'size_bytes':4097}", "bytes", true);
	expect_quota(OWNER, "{'size_bytes':1,'count':3}", "allocations", true);
	ask(OWNER, "POST /allocate", "{'size_bytes':1}", 200);
	expect_quota(OWNER, "{'size_bytes':1,'owner':'team/y'}", "owners", true);
	expect_quota(OWNER, "{}", "sessions", true);
}

/* Two lines have an owner name, and the first one pays, whoever allocates. */
TEST(refusal__names_who_pays_only_to_those_who_may_see_all)
{
	static const char body[] = "{'size_bytes':1,'owner':'team/x'}";

	start_with("max-allocations=0");
	expect_quota(OTHER, body, "allocations", false);
	expect_quota(READER, body, "allocations", true); /* has metrics */
	expect_quota(ADMIN, body, "allocations", true);
	ask(OTHER, "POST /allocate", "{'size_bytes':1}", 200);
}

TEST_MAIN(set_up, http_teardown)
