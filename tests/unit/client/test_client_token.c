/* SPDX-License-Identifier: Apache-2.0 */
/* The token of a handle: its file, where the token is sent, and another token in the file. */
#include <unistd.h>

#include "tests/unit/client/client_fixture.h"

static const char path[] = "client-token";

static void set_up(void)
{
	unsetenv("MAAS_TOKEN_FILE");
}

static void tear_down(void)
{
	client_end();
	unlink(path);
}

static void put_token(const char *text)
{
	put_file(path, text, 0600);
}

/* A stub, and a handle that read `token` from the file. */
static void open_with(const char *token)
{
	put_token(token);
	stub_open(OK("{}"), OPTIONS(.token_file = path));
}

/* ---- the file */

TEST(file__its_first_line_without_blanks_is_the_token)
{
	static const char *const texts[] = {"mt_one", "mt_one\n", " \tmt_one \r\nmt_two\n"};

	stub_open(OK("{}"), NULL);
	stub_token = "mt_one";
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++) {
		put_file(path, texts[i], i ? 0600 : 0640);
		client_close(&maas);
		maas = client_open(stub.url, OPTIONS(.token_file = path));
		assert_int_equal(client_get("/health"), 0);
	}
}

TEST(file__without_a_token_is_refused)
{
	static char long_line[1000];
	const char *const texts[] = {"",	  "\nmt_one\n",	   "  \n",   "mt one\n",
				     "mt_\x01\n", "mt_\xc3\xa4\n", long_line};

	memset(long_line, 'a', sizeof(long_line) - 1);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++) {
		put_token(texts[i]);
		expect_error(maas_open(OPTIONS(.token_file = path), &maas), -EINVAL, path);
		assert_null(strstr(maas_error(), "mt"));
	}
}

TEST(file__that_others_may_use_or_that_is_none_is_refused)
{
	put_file(path, "mt_one\n", 0644);
	expect_error(maas_open(OPTIONS(.token_file = path), &maas), -EPERM, "chmod 0640");
	assert_null(strstr(maas_error(), "mt_one"));
	unlink(path);
	expect_error(maas_open(OPTIONS(.token_file = path), &maas), -ENOENT, path);
	assert_int_equal(maas_open(OPTIONS(.token_file = "/"), &maas), -EINVAL);
}

TEST(file__of_the_environment)
{
	put_token("mt_env\n");
	setenv("MAAS_TOKEN_FILE", path, 1);
	stub_open(OK("{}"), NULL);
	assert_int_equal(client_get("/health"), 0);
	assert_non_null(strstr(stub_seen, "\r\nAuthorization: Bearer mt_env\r\n"));
	client_close(&maas);
	maas = client_open(stub.url, OPTIONS(.token_file = ""));
	assert_int_equal(client_get("/health"), 0);
	assert_null(strstr(stub_seen, "Authorization"));
	client_close(&maas);
	setenv("MAAS_TOKEN_FILE", "", 1);
	maas = client_open(stub.url, NULL);
	assert_int_equal(client_get("/health"), 0);
	assert_null(strstr(stub_seen, "Authorization"));
}

/* ---- refusals */

TEST(refused__the_same_token_is_not_sent_again)
{
	open_with("mt_wrong\n");
	stub_token = "mt_right";
	assert_int_equal(client_get("/health"), -EACCES);
	assert_string_equal(maas_error(), "was it replaced?");
	assert_int_equal(stub.connections, 1);
	unlink(path);
	expect_error(client_get("/health"), -EACCES, "No such file");
	assert_null(strstr(maas_error(), "mt_wrong"));
}

TEST(refused__another_token_is_sent_once)
{
	open_with("mt_old\n");
	stub_token = "mt_right";
	put_token("mt_wrong\n");
	assert_int_equal(client_get("/health"), -EACCES);
	assert_int_equal(stub.connections, 2);
	put_token("mt_right\n");
	assert_int_equal(client_get("/health"), 0);
	assert_int_equal(stub.connections, 4);
}

/* Many clients behind one address: a wrong token is answered with 429 then. */
TEST(refused__by_429_too)
{
	const char *refusal = NO("429", "{\"code\":\"too_many\",\"message\":\"no\"}");

	open_with("mt_old\n");
	stub_say(refusal, OK("{}"));
	put_token("mt_new\n");
	assert_int_equal(client_get("/health"), 0);
	assert_non_null(strstr(stub_seen, "Bearer mt_new\r\n"));
}

/* The refused call, which must not be done twice, was not done. */
TEST(refused__a_session_too)
{
	put_token("mt_old\n");
	stub_open(SESSION("30"), OPTIONS(.token_file = path, .ttl_seconds = 30));
	stub_token = "mt_new";
	put_token("mt_new\n");
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(stub.connections, 2);
}

/* What the server refused for its token was not done. */
TEST(refused__a_free_freed_nothing)
{
	const char *unknown = NO("404", "{\"code\":\"unknown_allocation\",\"message\":\"no\"}");
	const char *ids[] = {SOME_ID};
	bool missing = false;

	open_with("mt_old\n");
	stub_say(NULL, unknown);
	stub_token = "mt_new";
	put_token("mt_new\n");
	assert_int_equal(maas_free(maas, SOME_ID), -ENOENT);
	stub_say(NULL, OK("{\"freed\":0,\"unknown\":[\"" SOME_ID "\"]}"));
	stub_token = "mt_old";
	put_token("mt_old\n");
	assert_int_equal(maas_free_many(maas, ids, 1, &missing), 0);
	assert_true(missing);
	assert_int_equal(stub.connections, 2 + 2);
}

/* ---- renewals of a session */

static void open_session(void)
{
	put_token("mt_old\n");
	stub_open(SESSION("1"), OPTIONS(.token_file = path, .ttl_seconds = 1));
	stub_token = "mt_old";
	assert_int_equal(maas_reopen(maas), 0);
}

/* The server ends a session with the token that it was last used with. */
TEST(renewal__takes_another_token_before_the_server_refuses_the_old_one)
{
	unsigned int before;

	open_session();
	stub_token = NULL;
	put_token("mt_new\n");
	before = stub.connections;
	AWAIT(stub.connections >= before + 2);
	unlink(path);
	stub_token = "mt_new";
	assert_int_equal(client_get("/health"), 0);
}

TEST(renewal__by_the_old_token_where_the_server_does_not_know_the_new_one)
{
	unsigned int before;

	open_session();
	put_token("mt_new\n");
	before = stub.connections;
	AWAIT(stub.connections >= before + 8); /* four renewals, each refused at first */
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
	stub_token = "mt_new";
	assert_int_equal(client_get("/health"), 0);
}

TEST(refused__submitted_write_is_sent_again_as_a_whole)
{
	char bytes[] = "all of it";

	open_with("mt_old\n");
	stub_token = "mt_new";
	put_token("mt_new\n");
	submit_write(RANGE(SOME_ID, 0, bytes, sizeof(bytes) - 1), 0, NULL);
	client_done(0);
	assert_non_null(strstr(stub_seen, "\r\n\r\nall of it"));
}

TEST(redirect__the_token_goes_to_the_same_server_only)
{
	struct maas_allocation at;

	open_with("mt_one\n");
	stub_say(stub_redirect("307", "%s/there", stub.url), OK("{}"));
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), -EPROTO); /* "{}" is no allocation */
	assert_non_null(strstr(stub_seen, "POST /there "));
	assert_non_null(strstr(stub_seen, "Bearer mt_one\r\n"));
	stub_say(stub_redirect("307", "http://localhost%s/there", strrchr(stub.url, ':')),
		 OK("{}"));
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), -EPROTO);
	assert_int_equal(stub.connections, 2 + 1);
}

#define THREADS 4
#define EACH	250

static atomic_uint asked[THREADS];

static void *ask_often(void *arg)
{
	atomic_uint *mine = arg;

	while (*mine < EACH) {
		CHECK(client_get("/health") == 0);
		++*mine;
	}
	return NULL;
}

TEST(rotation__under_load_fails_no_request)
{
	static const char *const tokens[] = {"mt_a", "mt_b", "mt_c", "mt_d"};
	pthread_t threads[THREADS];
	unsigned int until[THREADS];

	open_with(tokens[0]);
	stub_token = tokens[0];
	threads_start(threads, THREADS, ask_often, asked, sizeof(*asked));
	for (unsigned int i = 1; i < MAAS_ARRAY_SIZE(tokens); i++) {
		put_token(tokens[i]);
		stub_token = tokens[i];
		/* All threads saw this token before the next comes. */
		for (int t = 0; t < THREADS; t++)
			until[t] = asked[t] + 40 < EACH ? asked[t] + 40 : EACH;
		for (int t = 0; t < THREADS; t++)
			AWAIT(asked[t] >= until[t]);
	}
	threads_join(threads, THREADS);
	assert_in_range(stub.connections, THREADS * EACH + 1, THREADS * EACH + 3 * THREADS);
}

TEST_MAIN(set_up, tear_down)
