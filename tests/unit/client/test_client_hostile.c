/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that mean harm: redirections elsewhere, answers without end, answers without sense. */
#include <sys/resource.h>

#include "tests/unit/client/client_fixture.h"

#define OTHER_ID "00000001-0000-8000-8476-b1b89894cbea"
#define LENT(id, size)                                                                             \
	"{\"id\":\"" id "\",\"size_bytes\":" size ",\"actual_size_bytes\":1024,\"age_seconds\":0}"

#define MANY 1000

/* One call of each kind, with the smallest arguments; the reads are the last. */
enum what {
	ALLOC,
	ALLOC_MANY,
	DESCRIBE,
	RENEW,
	FREE,
	FREE_MANY,
	LIST,
	GET,
	WRITE,
	SESSION,
	READ,
	READ_MANY,
	NUM_CALLS
};

static struct maas_allocation page[MANY];

static int call(enum what what)
{
	static const char *const ids[] = {OTHER_ID, SOME_ID};
	char cursor[MAAS_ID_BYTES] = "";
	char bytes[2][16];
	struct maas_range ranges[2] = {{SOME_ID, 0, bytes[0], 16}, {SOME_ID, 0, bytes[1], 16}};

	switch (what) {
	case ALLOC:
		return maas_alloc(maas, 64, NULL, page);
	case ALLOC_MANY:
		return maas_alloc_many(maas, 64, 2, NULL, page);
	case DESCRIBE:
		return maas_describe(maas, SOME_ID, page);
	case RENEW:
		return maas_renew(maas, SOME_ID, 0, page);
	case FREE:
		return maas_free(maas, SOME_ID);
	case FREE_MANY:
		return maas_free_many(maas, ids, 2, NULL);
	case LIST:
		return maas_list(maas, NULL, cursor, page, MANY);
	case GET:
		return client_get("/stats");
	case WRITE:
		return maas_write(maas, SOME_ID, 0, "hello", 5);
	case SESSION:
		return maas_reopen(maas);
	case READ:
		return maas_read(maas, SOME_ID, 0, bytes[0], 16);
	default:
		return maas_readv(maas, ranges, 2);
	}
}

static void expect(const char *answer, enum what what, int error, const char *words)
{
	int r;

	stub_open(answer, OPTIONS(.ttl_seconds = 30));
	memset(page, 0, sizeof(*page));
	r = call(what);
	if (r < 0 && (what == ALLOC || what == DESCRIBE || what == RENEW))
		assert_string_equal(page->id, "");
	if (r != error || !strstr(maas_error(), words))
		fail_msg("call %d of %.80s: %d %s", what, answer, r, maas_error());
	client_close(&maas);
	listener_stop(&stub);
}

/* ---- what is sent, which a strict server looks at */

TEST(request__names_its_host_and_the_type_of_its_body)
{
	static const char *const types[NUM_CALLS] = {
		[ALLOC] = "application/json",	      [ALLOC_MANY] = "application/json",
		[RENEW] = "application/json",	      [FREE_MANY] = "application/json",
		[READ_MANY] = "application/json",     [SESSION] = "application/json",
		[WRITE] = "application/octet-stream",
	};
	char line[128];

	stub_open("HTTP/1.1 503 No\r\n\r\n", OPTIONS(.ttl_seconds = 30));
	for (enum what what = 0; what < NUM_CALLS; what++) {
		assert_int_equal(call(what), -ENOBUFS);
		snprintf(line, sizeof(line), "\r\nHost: %s\r\n", stub.url + strlen("http://"));
		assert_non_null(strstr(stub_seen, line));
		snprintf(line, sizeof(line), "\r\nContent-Type: %s\r\n",
			 types[what] ? types[what] : "");
		assert_int_equal(strstr(stub_seen, line) != NULL, types[what] != NULL);
		assert_int_equal(strstr(stub_seen, "Content-Type") != NULL, types[what] != NULL);
	}
}

/* ---- redirections */

static void expect_followed(bool absolute)
{
	stub_open("", NULL);
	stub_say(stub_redirect("307", "%s/there?a=b", absolute ? stub.url : ""),
		 OK(LENT(SOME_ID, "64")));
	if (maas_alloc(maas, 64, ALLOC_OPTIONS(.request_id = "only-this"), page))
		fail_msg("%s", maas_error());
	assert_string_equal(page[0].id, SOME_ID);
	assert_int_equal(stub.connections, 2);
	assert_ptr_equal(strstr(stub_seen, "POST /there?a=b HTTP/1.1\r\n"), stub_seen);
	assert_non_null(strstr(stub_seen, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(stub_seen, "\"request_id\":\"only-this\"}"));
	client_end();
}

TEST(redirect__of_an_allocation_to_the_same_server)
{
	expect_followed(false);
	expect_followed(true);
}

TEST(redirect__elsewhere_is_refused_and_nothing_sent)
{
	proxy_open(0, NULL);
	client_close(&maas);
	expect(stub_redirect("307", "%s/allocate", proxy.url), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "%s/y", strchr(proxy.url, '/')), ALLOC, -EPROTO,
	       "redirects to");
	expect(stub_redirect("307", "file:///etc/passwd"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "gopher://x"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "https://x/y"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "dict://127.0.0.1/x"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "http://u:p@127.0.0.1/"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "http://[::1]/x"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "http://\r\n"), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "%s", ""), ALLOC, -EPROTO, "redirects to");
	expect(stub_redirect("307", "http://127.0.0.1:1/../../x"), ALLOC, -EPROTO, "redirects to");
	assert_int_equal(proxy.connections, 0);
}

TEST(redirect__no_more_than_one)
{
	stub_open(stub_redirect("307", "/allocate"), NULL);
	expect_error(call(ALLOC), -EPROTO, "redirects twice, now to \"/allocate\"");
	assert_int_equal(stub.connections, 2);
}

TEST(redirect__of_another_call_or_status_is_refused)
{
	static const char *const statuses[] = {"301", "302", "303", "308", "300", "304"};

	for (enum what what = DESCRIBE; what < NUM_CALLS; what++)
		expect(stub_redirect("307", "/there"), what, -EPROTO,
		       "redirects to \"/there\" (status 307)");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(statuses); i++)
		expect(stub_redirect(statuses[i], "/there"), ALLOC, -EPROTO,
		       "redirects to \"/there\"");
}

/* ---- answers without end */

#define BOMB_BYTES ((size_t)60 << 20)

/* `head`, then `unit` over and over. */
static char *make_bomb(const char *head, const char *unit)
{
	char *text = malloc(BOMB_BYTES + 1);
	size_t len = strlen(unit);
	char *body;
	size_t whole, more;

	assert_non_null(text);
	body = stpcpy(text, head);
	whole = BOMB_BYTES - strlen(head);
	whole -= whole % len;
	memcpy(body, unit, len);
	for (; len < whole; len += more) {
		more = len < whole - len ? len : whole - len;
		memcpy(body + len, body, more);
	}
	body[whole] = '\0';
	return text;
}

/* The calls before `end`. */
static void expect_small(enum what end, const char *head, const char *unit, int error,
			 const char *words)
{
	char *bomb = make_bomb(head, unit);
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (enum what what = 0; what < end; what++)
		expect(bomb, what, error, words);
	getrusage(RUSAGE_SELF, &after);
	assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 24 << 10); /* KiB */
	free(bomb);
}

/* Reads take exactly what was asked for. */
TEST(bomb__is_not_taken_in)
{
	expect_small(READ, OK("{\"x\":["), "[],", -EPROTO, "longer than");
	expect_small(READ, OK("{\"allocations\":["), "{},", -EPROTO, "");
	expect_small(READ, OK("{\"unknown\":["), "{},", -EPROTO, "");
	expect_small(READ, OK(""), "[", -EPROTO, "");
	expect_small(READ, OK("{\"allocations\":[\""), "x", -EPROTO, "");
	expect_small(READ, "HTTP/1.1 200 OK\r\n", "X: y\r\n", -EPROTO, "the head");
	expect_small(READ, "HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy", -EPROTO, "the head");
	expect_small(READ, "", "HTTP/1.1 100 Continue\r\n\r\n", -EPROTO, "the head");
}

TEST(bomb__as_the_body_of_an_error_keeps_its_status)
{
	expect_small(NUM_CALLS, "HTTP/1.1 500 No\r\n\r\n{\"error\":[", "[],", -EREMOTEIO,
		     "status 500");
}

TEST(bomb__in_one_entry_of_a_page)
{
	size_t limit = (size_t)300 << 10; /* below what a page of MANY may have */
	char *bomb = make_bomb(OK("{\"allocations\":[["), "{},");

	limit -= (limit - strlen(OK("{\"allocations\":[["))) % 3;
	memcpy(bomb + limit, "{}]]}", 6);
	expect(bomb, LIST, -EPROTO, "too long an entry");
	memset(bomb, ' ', limit);
	bomb[limit] = '\0';
	memcpy(bomb, OK("{\"x\":["), strlen(OK("{\"x\":[")));
	memcpy(bomb + limit - 24, "],\"allocations\":[]}     ", 24);
	expect(bomb, LIST, -EPROTO, "beside its list");
	free(bomb);
}

/* ---- answers without sense */

TEST(answer__that_is_none)
{
	expect(NULL, DESCRIBE, -ECONNRESET, "broke");
	expect("nonsense\r\n\r\n", DESCRIBE, -EPROTO, "no sense");
	expect(OK("nope!"), DESCRIBE, -EPROTO, "JSON");
	expect(OK("{}"), DESCRIBE, -EPROTO, "\"id\"");
	expect("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", DESCRIBE, -ECONNRESET, "broke");
	expect(stub_redirect("302", "http://127.0.0.1:1/"), DESCRIBE, -EPROTO, "status 302");
	expect("HTTP/1.1 500 No\r\n\r\n", DESCRIBE, -EREMOTEIO, "status 500");
}

#define SENSELESS(body, what, words) expect(OK(body), what, -EPROTO, words)

TEST(answer__that_is_not_what_was_asked_for)
{
	SENSELESS("[]", ALLOC, "no object");
	SENSELESS("[]", FREE_MANY, "no sensible list \"unknown\"");
	SENSELESS(LENT(SOME_ID, "63"), ALLOC, "bytes asked for: 64");
	SENSELESS(LENT(SOME_ID, "-64"), ALLOC, "size_bytes");
	SENSELESS(LENT(SOME_ID, "9223372036854775807"), DESCRIBE, "in a slab of 1024");
	SENSELESS(LENT(SOME_ID, "9223372036854775808"), DESCRIBE, "no JSON");
	SENSELESS(LENT("../../x", "64"), ALLOC, "no id");
	SENSELESS(LENT("..-..-..-..-..-..-..-..-..-..-..-..-", "64"), ALLOC, "no id");
	SENSELESS(LENT(OTHER_ID, "64"), DESCRIBE, "another allocation");
	SENSELESS(LENT(OTHER_ID, "64"), RENEW, "another allocation");
	SENSELESS("{\"allocations\":[" LENT(SOME_ID, "64") "]}", ALLOC_MANY,
		  "asked for: 2; the answer has 1");
	SENSELESS("{\"allocations\":[" LENT(SOME_ID, "64") "," LENT(SOME_ID, "64") "," LENT(
			  SOME_ID, "64") "]}",
		  ALLOC_MANY, "the answer has more");
	SENSELESS("{\"freed\":3,\"unknown\":[]}", FREE_MANY, "freed 3");
	SENSELESS("{\"freed\":-1,\"unknown\":[]}", FREE_MANY, "freed");
	SENSELESS("{\"freed\":2147483648,\"unknown\":[]}", FREE_MANY, "freed 2147483648");
	SENSELESS("{\"freed\":0,\"unknown\":[]}", FREE_MANY, "freed 0");
	SENSELESS("{\"freed\":2,\"unknown\":[\"" OTHER_ID "\"]}", FREE_MANY, "freed 2");
	SENSELESS("{\"freed\":1,\"unknown\":[\"x\"]}", FREE_MANY, "not asked");
	SENSELESS("{\"freed\":0,\"unknown\":[\"" OTHER_ID "\",\"" SOME_ID "\",\"x\"]}", FREE_MANY,
		  "not asked");
	SENSELESS("{\"allocations\":[],\"next\":\"" SOME_ID "\"}", LIST, "do not end");
	SENSELESS("{\"allocations\":[" LENT(SOME_ID, "1") "],\"next\":\"../x\"}", LIST, "no id");
	SENSELESS("{\"allocations\":[" LENT(SOME_ID, "1") "]}", LIST, "no id \"next\"");
	SENSELESS("{\"id\":\"" SOME_ID "\"}", SESSION, "ttl_seconds");
	SENSELESS("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":0}", SESSION, "lease of 0");
	SENSELESS("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":31622401}", SESSION, "lease of");
	SENSELESS("{\"id\":\"../x\",\"ttl_seconds\":9}", SESSION, "no id");
	expect("HTTP/1.1 206 Partial\r\n\r\n{}", DESCRIBE, -EPROTO, "status 206 where 200");
	for (enum what what = 0; what < NUM_CALLS; what++)
		expect("HTTP/1.1 204 Empty\r\n\r\n", what, -EPROTO, "status 204");
}

TEST(read__of_other_bytes_than_asked_for)
{
#define PART(range, bytes) "HTTP/1.1 206 Part\r\nContent-Range: " range "\r\n\r\n" bytes
	expect(PART("bytes 0-15/16", "0123456789abcdef"), READ, 0, "");
	expect(PART("bytes 0-15/99", "0123456789abcdef"), READ, 0, "");
	expect(PART("bytes 0-15/99", "0123456789abcde"), READ, -EPROTO, "15 of 16");
	expect(PART("bytes 0-15/99", "0123456789abcdefg"), READ, -EPROTO, "more bytes");
	expect(PART("bytes 0-9/10", "0123456789"), READ, -ERANGE, "allocation's 10 bytes");
	expect(PART("bytes 0-9/16", "0123456789"), READ, -EPROTO, "\"bytes 0-9/16\"");
	expect(PART("bytes 1-16/99", "0123456789abcdef"), READ, -EPROTO, "where 0-15 was asked");
	expect(PART("bytes 0-16/99", "0123456789abcdef"), READ, -EPROTO, "where 0-15 was asked");
	expect(PART("bytes */99", "0123456789abcdef"), READ, -EPROTO, "where 0-15 was asked");
	expect(PART("bytes 0-15/99x", "0123456789abcdef"), READ, -EPROTO, "where 0-15 was asked");
	expect("HTTP/1.1 206 Part\r\n\r\n0123456789abcdef", READ, -EPROTO, "\"\" where");
	expect(OK("0123456789abcdef"), READ, -EPROTO, "all bytes");
	expect(OK("0123456789abcdef0123456789abcde"), READ_MANY, -EPROTO, "31 of 32");
	expect(OK("0123456789abcdef0123456789abcdefg"), READ_MANY, -EPROTO, "more bytes");
}

TEST(read__without_end_stops_behind_the_buffer)
{
	char *endless = make_bomb("HTTP/1.1 206 Part\r\nContent-Range: bytes 0-3/99\r\n\r\n", "x");
	char bytes[] = "-----";

	stub_open(endless, NULL);
	assert_int_equal(maas_read(maas, SOME_ID, 0, bytes, 4), -EPROTO);
	assert_string_equal(bytes + 4, "-");
	client_end(); /* the stub says it still */
	free(endless);
}

/* ---- the lease that the server grants */

#define SESSION_OF(seconds) OK("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":" seconds ",\"rdma\":null}")

TEST(session__has_the_lease_of_the_answer)
{
	stub_open(SESSION_OF("2"), OPTIONS(.ttl_seconds = 3600));
	assert_int_equal(maas_reopen(maas), 0);
	assert_in_range(client_session().lease_ms, 0, 2000);
	stub_say(SESSION_OF("2"), SESSION_OF("1800"));
	/* A lease of 3600 s would not be renewed in this test's life. */
	AWAIT(stub.connections >= 3);
	AWAIT(client_session().lease_ms > 1700000);
	assert_non_null(strstr(stub_seen, "/renew HTTP/1.1\r\n"));
	assert_non_null(strstr(stub_seen, "Content-Type: application/json\r\n"));
}

TEST(session__too_long_a_lease_says_what_the_server_says)
{
	expect(NO("400", "{\"code\":\"bad_field\",\"message\":\"at most (--max-session-ttl)\"}"),
	       SESSION, -EINVAL, "--max-session-ttl");
}

TEST_MAIN(NULL, client_end)
