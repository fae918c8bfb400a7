/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may make which call: a token, a peer of a Unix socket, or nothing; a request that proves
 * nothing costs nothing; another table takes the place of the first.
 */
#include <poll.h>
#include <unistd.h>

#include "http/internal.h"
#include "tests/unit/http/http_roles.h"

static char *const owner = tokens[OWNER], *const scraper = tokens[READER];

/* `line` stands beside those of the roles; `socket`: NULL for a port. */
static void start(const char *line, const char *socket)
{
	HTTP_START(.listen = socket ? &socket : NULL);
	use_anew(http_text("metrics\n%s", line));
}

static void set_up(void)
{
	start("", NULL);
}

/* One request without a body; `line`: of its head, or NULL. */
static void expect(const char *call, const char *line, long status, const char *parts)
{
	const char *request = line ? http_text("%s\n%s", call, line) : call;
	const struct http_answer *a = http_expect(request, NULL, status, parts);

	if (status == 401 || status == 429)
		http_expect_parts(a->headers, "\nWWW-Authenticate: Bearer realm=\"maas\"\r");
	if (status == 429)
		http_expect_parts(a->headers, "\r\nRetry-After: ");
}

TEST(anonymous__with_a_line_sees_that_the_server_works_and_no_more)
{
	start("* - health", NULL);
	expect("GET /health", NULL, 200,
	       "{\"status\":\"healthy\",\"service\":\"memory-as-a-service\"}");
	expect("GET /ready", NULL, 200, "ready");
	expect("GET /health", with(owner), 200, "arena_id");
	expect("GET /stats", NULL, 401, "unauthenticated");
}

/* The answer to the scraper, whose line is taken away, or is another, before the body has come. */
static int ask_meanwhile(const char *call, const char *reader)
{
	int status;
	int fd;

	set_up();
	fd = http_connect();
	http_send_text(fd, http_request("%s\n%s\nContent-Length: 1", call, with(scraper)));
	AWAIT(maas_http_active(server.http));
	if (reader)
		use(reader);
	else
		http_use_principals(http_text("other token=%s owner=other/*\n", hash_of(OTHER)));
	http_send(fd, "x", 1);
	status = http_recv_answer(fd);
	close(fd);
	return status;
}

TEST(rights__are_those_when_the_body_is_there)
{
	static const char *const calls[] = {"GET /stats", "GET /metrics", "GET /whoami"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++) {
		bool needs_none = i == 2;

		assert_int_equal(ask_meanwhile(calls[i], "metrics"), 200);
		assert_int_equal(ask_meanwhile(calls[i], "health"), needs_none ? 200 : 403);
		assert_int_equal(ask_meanwhile(calls[i], NULL), 401);
	}
}

TEST(token__makes_the_calls_of_its_line)
{
	expect("GET /health", with(owner), 200, "arena_id");
	expect("GET /metrics", with(owner), 403, "needs the word metrics");
	expect("GET /allocations", with(owner), 200, "allocations");
	expect("GET /metrics", with(scraper), 200, "maas_auth_failures_total");
	expect("GET /stats", with(scraper), 200, "total_allocations");
	expect("GET /health", with(scraper), 200, "arena_id");
	http_expect_parts(ask(READER, "POST /free", "{'ids':[]}", 403), "needs owner= or read=");
	expect("GET /metrics", with(tokens[ADMIN]), 200, "maas_build_info");
	expect("GET /allocations", with(tokens[ADMIN]), 200, "allocations");
}

TEST(header__must_be_one_bearer_token)
{
	expect("GET /health", with("mt_wrong"), 401, "no principal of this server");
	expect("GET /health", "Authorization: Basic bWU6bWU=", 401, "Bearer, a blank");
	expect("GET /health", "Authorization: Bearer", 401, "Bearer, a blank");
	expect("GET /health", "Authorization: Bearer a b", 401, "Bearer, a blank");
	expect("GET /health", http_text("%s\n%s", with(owner), with(owner)), 401,
	       "there must be one Authorization header");
	expect("GET /health", http_text("authorization: bearer  %s", owner), 200, "arena_id");
	/* A wrong proof is no proof, even where none is needed. */
	expect("GET /", with("mt_wrong"), 401, "no principal of this server");
}

TEST(token__counts_for_its_request_alone)
{
	expect("GET /health", with(owner), 200, "arena_id");
	expect("GET /health", NULL, 401, "unauthenticated");
	expect("GET /stats", with(scraper), 200, "");
	expect("GET /stats", with(owner), 403, "team");
}

TEST(token__that_was_right_vouches_for_no_other)
{
	char wrong[MAAS_AUTH_TOKEN];

	for (int i = 0; i < 2; i++) {
		expect("GET /health", with(owner), 200, "arena_id");
		expect("GET /health", with(owner), 200, "arena_id");
		memcpy(wrong, owner, sizeof(wrong));
		wrong[i ? 3 : MAAS_AUTH_TOKEN - 3] ^= 1;
		expect("GET /health", with(wrong), 401, "no principal of this server");
		wrong[MAAS_AUTH_TOKEN - 2] = '\0';
		expect("GET /health", with(wrong), 401, "no principal of this server");
		expect("GET /health", http_text("%s\n%s", with(owner), with(owner)), 401,
		       "there must be one Authorization header");
	}
}

TEST(failures__are_many_only_for_those_that_fail)
{
	for (int i = 0; i < MAAS_HTTP_MAX_FAILURES; i++)
		expect("GET /stats", i % 2 ? with("mt_wrong") : NULL, 401, "");
	expect("GET /stats", NULL, 429, "too_many");
	expect("GET /stats", with("mt_wrong"), 429, "too_many");
	expect("GET /stats", with(scraper), 200, "");
	expect("GET /stats", with(owner), 403, "forbidden");
}

TEST(failures__count_whatever_the_right_is_for)
{
	expect("GET /stats", with(owner), 403, "needs the word");
	ask(OWNER, "POST /allocate", "{'size_bytes':1,'owner':'other/1'}", 403);
	ask(OWNER, "POST /sessions", "{'name':'other/1','ttl_seconds':1}", 403);
	expect("GET /metrics", with(scraper), 200,
	       "maas_auth_failures_total{reason=\"forbidden\"} 3");
}

/* ---- the log */

static unsigned int count_of(const char *text, const char *part)
{
	unsigned int count = 0;

	for (; (text = strstr(text, part)); text++)
		count++;
	return count;
}

/* Whatever refuses them, and whether anybody asked for a proof by then. */
TEST(log__strangers_do_not_fill_it)
{
	static const char many[] =
		"DELETE /health?a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a"
		"&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a";
	static const char *const requests[] = {
		"POST /nowhere\nContent-Length: 0",
		"DELETE /health",
		"DELETE /allocate/x\nOrigin: http://x",
		"DELETE /allocate/x\nAccept: a\nHost: b",
		many,
		"DELETE /allocate/x",
	};
	uint64_t start_ms = maas_clock_ms();
	unsigned int lines, most;
	const char *log;

	http_log_begin();
	for (int i = 0; i < 100; i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(requests); j++) {
			int fd = http_connect();

			assert_in_range(http_ask(fd, http_request("%s", requests[j])), 400, 429);
			close(fd);
		}
	most = (unsigned int)(maas_clock_ms() - start_ms) / 1000 + 2;
	usleep(1100000);
	maas_ratelimit_flush();
	log = http_log_end();
	lines = count_of(log, " status=");
	assert_in_range(lines, MAAS_RATELIMIT_LINES, most * MAAS_RATELIMIT_LINES);
	assert_in_range(count_of(log, "\n"), lines, most * (2 * MAAS_RATELIMIT_LINES + 2));
	assert_non_null(strstr(log, "kind=\"refused requests of strangers\""));
	assert_non_null(strstr(log, "kind=\"requests without a right\""));
}

TEST(log__names_who_asked)
{
	const char *log;

	http_log_begin();
	expect("DELETE /nowhere", with(owner), 404, "no_such_path");
	expect("DELETE /health", with(owner), 405, "method_not_allowed");
	expect("DELETE /allocate/x", with(owner), 404, "not_found");
	expect("DELETE /allocate/x", with(scraper), 403, "owner= or read=");
	ask(OWNER, "POST /allocate", "{'size_bytes':1,'owner':'other/1'}", 403);
	log = http_log_end();
	assert_int_equal(count_of(log, " status="), 5);
	assert_int_equal(count_of(log, " principal=team\n"), 4 + 1); /* and the warning */
	assert_int_equal(count_of(log, " principal=reader\n"), 1 + 1);
}

TEST(log__has_who_is_refused_for_a_limit)
{
	static const char *const session = "{'ttl_seconds':60}";

	HTTP_START(.threads = 1);
	http_log_begin();
	for (int i = 0; i < 4; i++)
		http_expect("POST /sessions", session, 200, "");
	http_expect("POST /sessions", session, 429, "too_many");
	assert_int_equal(count_of(http_log_end(), " POST /sessions status="), 5);
}

/* ---- uploads of strangers */

#define UPLOADS 1000
#define AT_ONCE 100
#define BYTES	(4 << 20)

static _Atomic unsigned int holds, begins;

/* The linker's names of --wrap. NOLINTBEGIN */
typeof(maas_http_hold) __real_maas_http_hold, __wrap_maas_http_hold;
typeof(maas_lend_transfer_begin) __real_maas_lend_transfer_begin, __wrap_maas_lend_transfer_begin;

int __wrap_maas_http_hold(struct maas_http_conn *conn, uint64_t bytes)
{
	atomic_fetch_add(&holds, 1);
	return __real_maas_http_hold(conn, bytes);
}

int __wrap_maas_lend_transfer_begin(struct maas_lend *lend, const struct maas_lend_caller *caller,
				    const char *id, enum maas_auth_access access,
				    struct maas_lend_transfer *transfer)
{
	atomic_fetch_add(&begins, 1);
	return __real_maas_lend_transfer_begin(lend, caller, id, access, transfer);
}
/* NOLINTEND */

static int announce(unsigned int number, const char *id)
{
	const char *const calls[] = {"POST /free", "POST /allocate", "POST /data/write",
				     "POST /data/read", http_text("PUT /allocate/%s/data", id)};
	static const char *const proofs[] = {"X: y", "Authorization: Bearer mt_wrong",
					     "Authorization: Basic bWU6bWU="};
	const char *length = number % 11 ? http_text("Content-Length: %d\n", BYTES)
					 : http_text("Transfer-Encoding: chunked\n\n%x\r\n", BYTES);
	int fd = http_connect();

	http_send_text(fd, http_request("%s\n%s\n%s%s", calls[number % MAAS_ARRAY_SIZE(calls)],
					proofs[number % MAAS_ARRAY_SIZE(proofs)],
					number % 7 ? "" : "Expect: 100-continue\n", length));
	return fd;
}

/* Until an answer comes, as curl does; each tenth goes on to the end, if it can. */
static void upload(int fd, bool stubborn)
{
	static const char data[64 << 10];
	struct pollfd answer = {.fd = fd, .events = POLLIN};

	for (size_t sent = 0; sent < BYTES; sent += sizeof(data))
		if ((!stubborn && poll(&answer, 1, 0)) || !http_send(fd, data, sizeof(data)))
			return;
}

static void upload_some(unsigned int from, const char *id)
{
	int fds[AT_ONCE];

	for (unsigned int i = 0; i < AT_ONCE; i++)
		fds[i] = announce(from + i, id);
	for (unsigned int i = 0; i < AT_ONCE; i++) {
		bool stubborn = i % 10 == 0;
		int status;

		upload(fds[i], stubborn);
		status = http_recv_answer(fds[i]);
		/* Whoever does not stop may find the connection reset, its answer lost. */
		if (status != 401 && status != 429 && (status || !stubborn))
			fail_msg("upload %u: %d", from + i, status);
	}
	http_close_all(fds, AT_ONCE);
}

TEST(uploads__of_strangers_are_neither_held_nor_begun)
{
	const char *id = make(OWNER, "/allocate", "{'size_bytes':4194304}");

	atomic_store(&holds, 0);
	atomic_store(&begins, 0);
	for (unsigned int i = 0; i < UPLOADS; i += AT_ONCE) {
		upload_some(i, id);
		assert_int_equal(atomic_load(&server.http->held_bytes), 0);
	}
	assert_int_equal(atomic_load(&holds), 0);
	assert_int_equal(atomic_load(&begins), 0);
	/* They are, of whoever has the right. */
	ask(OWNER, http_text("PUT /allocate/%s/data", id), "x", 200);
	assert_int_equal(atomic_load(&begins), 1);
	ask(OWNER, "POST /free", http_text("{'ids':['%s']}", id), 200);
	assert_int_equal(atomic_load(&holds), 1);
}

TEST(local__a_peer_needs_no_token)
{
	char path[] = "/tmp/maas-auth-XXXXXX";

	assert_non_null(mkdtemp(path));
	start(http_text("local uid=%u metrics", (unsigned int)geteuid()),
	      http_text("unix:%s/s", path));
	expect("GET /metrics", NULL, 200, "maas_build_info");
	expect("GET /allocations", NULL, 403, "the principal local");
	expect("GET /allocations", with(owner), 200, "allocations");
	expect("GET /metrics", with("mt_wrong"), 401, ""); /* no way around a bad token */
	http_stop();
	assert_int_equal(rmdir(path), 0);
}

TEST(reload__counts_from_the_next_request_on)
{
	char before[MAAS_AUTH_TOKEN];

	memcpy(before, owner, sizeof(before));
	expect("GET /health", with(before), 200, "");
	assert_int_equal(maas_auth_token_make(owner), 0);
	use("metrics\n* - health");
	expect("GET /health", with(before), 401, "was it replaced?");
	expect("GET /health", with(owner), 200, "arena_id");
	expect("GET /health", NULL, 200, "healthy");
	assert_int_equal(maas_lend_set_auth(server.lend, NULL), 0);
	expect("GET /stats", NULL, 200, "");
}

TEST_MAIN(set_up, http_teardown)
