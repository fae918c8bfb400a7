/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that mean harm: redirections elsewhere, answers without end, answers without sense. */
#include <sys/resource.h>

#include "tests/unit/client/client_fixture.h"

#define OTHER_ID "00000001-0000-8000-8476-b1b89894cbea"
#define LENT(id, size)                                                                             \
	"{\"id\":\"" id "\",\"size_bytes\":" size ",\"actual_size_bytes\":1024,\"age_seconds\":0}"
#define OK(body) "HTTP/1.1 200 OK\r\n\r\n" body

#define MANY	 1000

/* One call of each kind, with the smallest arguments. */
enum what {
	ALLOC,
	ALLOC_MANY,
	DESCRIBE,
	RENEW,
	FREE,
	FREE_MANY,
	LIST,
	GET,
	READ,
	READ_MANY,
	WRITE,
	SESSION,
	NUM_CALLS
};

static struct maas_allocation page[MANY];

static int call(enum what what)
{
	const char *ids[MANY];
	char cursor[MAAS_ID_BYTES] = "";
	char bytes[2][16];
	struct maas_range ranges[2] = {{SOME_ID, 0, bytes[0], 16}, {SOME_ID, 0, bytes[1], 16}};
	char *text;

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
		for (int i = 0; i < MANY; i++)
			ids[i] = i % 2 ? SOME_ID : OTHER_ID;
		return maas_free_many(maas, ids, 2, NULL);
	case LIST:
		return maas_list(maas, NULL, cursor, page, MANY);
	case GET:
		return maas_get(maas, "/stats", &text, NULL);
	case READ:
		return maas_read(maas, SOME_ID, 0, bytes[0], 16);
	case READ_MANY:
		return maas_readv(maas, ranges, 2);
	case WRITE:
		return maas_write(maas, SOME_ID, 0, "hello", 5);
	default:
		return maas_reopen(maas);
	}
}

static const struct maas_options with_session = {.size = sizeof(with_session), .ttl_seconds = 30};

static void expect(const char *answer, enum what what, int error, const char *words)
{
	int r;

	stub_open(answer, &with_session);
	r = call(what);
	if (r != error || (words && !strstr(maas_error(), words)))
		fail_msg("call %d of %.80s: %d %s", what, answer, r, maas_error());
	client_close(&maas);
	stub_stop();
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

	stub_open("HTTP/1.1 503 No\r\n\r\n", &with_session);
	for (int what = 0; what < NUM_CALLS; what++) {
		assert_int_equal(call((enum what)what), -ENOBUFS);
		snprintf(line, sizeof(line), "\r\nHost: %s\r\n", stub_url() + strlen("http://"));
		assert_non_null(strstr(stub_seen(), line));
		snprintf(line, sizeof(line), "\r\nContent-Type: %s\r\n",
			 types[what] ? types[what] : "");
		assert_int_equal(strstr(stub_seen(), line) != NULL, types[what] != NULL);
		assert_int_equal(strstr(stub_seen(), "Content-Type") != NULL, types[what] != NULL);
	}
}

/* ---- redirections */

static void expect_followed(const char *location)
{
	char answer[256];
	const char *answers[] = {answer, OK(LENT(SOME_ID, "64"))};

	stub_open("", NULL);
	snprintf(answer, sizeof(answer), "HTTP/1.1 307 There\r\nLocation: %s%s\r\n\r\n",
		 *location == '/' ? "" : stub_url(), location + (*location != '/'));
	stub_say(answers, 2);
	if (maas_alloc(maas, 64, ALLOC_OPTIONS(.request_id = "only-this"), page))
		fail_msg("%s: %s", answer, maas_error());
	assert_string_equal(page[0].id, SOME_ID);
	assert_int_equal(stub_requests(), 2);
	assert_ptr_equal(strstr(stub_seen(), "POST /there?a=b HTTP/1.1\r\n"), stub_seen());
	assert_non_null(strstr(stub_seen(), "Content-Type: application/json\r\n"));
	assert_non_null(strstr(stub_seen(), "\"request_id\":\"only-this\"}"));
	client_end();
}

TEST(redirect__of_an_allocation_to_the_same_server)
{
	expect_followed("/there?a=b");
	expect_followed("=/there?a=b");
}

TEST(redirect__elsewhere_is_refused_and_nothing_sent)
{
	static const char *const locations[] = {
		"%s/allocate",
		"file:///etc/passwd",
		"//127.0.0.1:%s/y",
		"gopher://x",
		"https://x/y",
		"dict://127.0.0.1/x",
		"http://u:p@127.0.0.1/",
		"http://[::1]/x",
		"http://\r\n",
		"",
		"http://127.0.0.1:1/../../x",
	};
	char location[128];
	char answer[256];
	char url[64];

	server_start();
	proxy_open(0, NULL);
	snprintf(url, sizeof(url), "%s", maas_url(maas));
	client_close(&maas);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(locations); i++) {
		const char *at = strstr(locations[i], "%s");

		snprintf(location, sizeof(location), "%.*s%s%s",
			 at ? (int)(at - locations[i]) : 100, locations[i],
			 !at			? ""
			 : *locations[i] == '/' ? strrchr(url, ':') + 1
						: url,
			 at ? at + 2 : "");
		snprintf(answer, sizeof(answer), "HTTP/1.1 307 There\r\nLocation: %s\r\n\r\n",
			 location);
		expect(answer, ALLOC, -EPROTO, "redirects to");
	}
	assert_int_equal(proxy_connections(), 0);
}

TEST(redirect__no_more_than_one)
{
	static const char again[] = "HTTP/1.1 307 There\r\nLocation: /allocate\r\n\r\n";

	stub_open(again, NULL);
	assert_int_equal(maas_alloc(maas, 64, NULL, page), -EPROTO);
	assert_non_null(strstr(maas_error(), "redirects twice, now to \"/allocate\""));
	assert_int_equal(stub_requests(), 2);
}

TEST(redirect__of_another_call_or_status_is_refused)
{
	static const char there[] = "HTTP/1.1 307 There\r\nLocation: /there\r\n\r\n";
	static const char *const statuses[] = {"301", "302", "303", "308", "300", "304"};
	char answer[128];

	for (int what = DESCRIBE; what < NUM_CALLS; what++)
		expect(there, (enum what)what, -EPROTO, "redirects to \"/there\" (status 307)");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(statuses); i++) {
		snprintf(answer, sizeof(answer), "HTTP/1.1 %s X\r\nLocation: /there\r\n\r\n",
			 statuses[i]);
		expect(answer, ALLOC, -EPROTO, "redirects to \"/there\"");
	}
}

/* ---- answers without end */

#define BOMB_BYTES ((size_t)60 << 20)

/* `head`, then `unit` over and over. */
static char *make_bomb(const char *head, const char *unit)
{
	char *text = malloc(BOMB_BYTES + 1);
	size_t at = strlen(head);
	size_t len = strlen(unit);

	assert_non_null(text);
	memcpy(text, head, at);
	for (; at + len <= BOMB_BYTES; at += len)
		memcpy(text + at, unit, len);
	text[at] = '\0';
	return text;
}

static long peak_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* All calls but reads, which take exactly what was asked for. */
static void expect_small(const char *head, const char *unit, const char *words)
{
	char *bomb = make_bomb(head, unit);
	long before_kib = peak_kib();

	for (int what = 0; what < NUM_CALLS; what++)
		if (what != READ && what != READ_MANY)
			expect(bomb, (enum what)what, -EPROTO, words);
	assert_in_range(peak_kib() - before_kib, 0, 24 << 10);
	free(bomb);
}

TEST(bomb__is_not_taken_in)
{
	expect_small(OK("{\"x\":["), "[],", "longer than");
	expect_small(OK("{\"allocations\":["), "{},", NULL);
	expect_small(OK("{\"unknown\":["), "{},", NULL);
	expect_small(OK(""), "[", NULL);
	expect_small(OK("{\"allocations\":[\""), "x", NULL);
	expect_small("HTTP/1.1 200 OK\r\n", "X: y\r\n", "the head");
	expect_small("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy", "the head");
	expect_small("", "HTTP/1.1 100 Continue\r\n\r\n", "the head");
}

TEST(bomb__as_the_body_of_an_error_keeps_its_status)
{
	char *bomb = make_bomb("HTTP/1.1 500 No\r\n\r\n{\"error\":[", "[],");
	long before_kib = peak_kib();

	for (int what = 0; what < NUM_CALLS; what++)
		expect(bomb, (enum what)what, -EREMOTEIO, "status 500");
	assert_in_range(peak_kib() - before_kib, 0, 24 << 10);
	free(bomb);
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

TEST(answer__that_is_not_what_was_asked_for)
{
	static const struct {
		const char *answer;
		enum what what;
		const char *words;
	} rows[] = {
		{OK("[]"), ALLOC, "no object"},
		{OK("[]"), FREE_MANY, "no sensible list \"unknown\""},
		{OK(LENT(SOME_ID, "63")), ALLOC, "bytes asked for: 64"},
		{OK(LENT(SOME_ID, "-64")), ALLOC, "size_bytes"},
		{OK(LENT(SOME_ID, "9223372036854775807")), DESCRIBE, "in a slab of 1024"},
		{OK(LENT(SOME_ID, "9223372036854775808")), DESCRIBE, "no JSON"},
		{OK(LENT("../../x", "64")), ALLOC, "no id"},
		{OK(LENT("..-..-..-..-..-..-..-..-..-..-..-..-", "64")), ALLOC, "no id"},
		{OK(LENT(OTHER_ID, "64")), DESCRIBE, "another allocation"},
		{OK(LENT(OTHER_ID, "64")), RENEW, "another allocation"},
		{OK("{\"allocations\":[" LENT(SOME_ID, "64") "]}"), ALLOC_MANY,
		 "asked for: 2; the answer has 1"},
		{OK("{\"allocations\":[" LENT(SOME_ID, "64") "," LENT(SOME_ID, "64") "," LENT(
			 SOME_ID, "64") "]}"),
		 ALLOC_MANY, "the answer has more"},
		{OK("{\"freed\":3,\"unknown\":[]}"), FREE_MANY, "freed 3"},
		{OK("{\"freed\":-1,\"unknown\":[]}"), FREE_MANY, "freed"},
		{OK("{\"freed\":2147483648,\"unknown\":[]}"), FREE_MANY, "freed 2147483648"},
		{OK("{\"freed\":0,\"unknown\":[]}"), FREE_MANY, "freed 0"},
		{OK("{\"freed\":2,\"unknown\":[\"" OTHER_ID "\"]}"), FREE_MANY, "freed 2"},
		{OK("{\"freed\":1,\"unknown\":[\"x\"]}"), FREE_MANY, "not asked"},
		{OK("{\"freed\":0,\"unknown\":[\"" OTHER_ID "\",\"" SOME_ID "\",\"x\"]}"),
		 FREE_MANY, "not asked"},
		{OK("{\"allocations\":[],\"next\":\"" SOME_ID "\"}"), LIST, "do not end"},
		{OK("{\"allocations\":[" LENT(SOME_ID, "1") "],\"next\":\"../x\"}"), LIST, "no id"},
		{OK("{\"allocations\":[" LENT(SOME_ID, "1") "]}"), LIST, "no id \"next\""},
		{OK("{\"id\":\"" SOME_ID "\"}"), SESSION, "ttl_seconds"},
		{OK("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":0}"), SESSION, "lease of 0"},
		{OK("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":31622401}"), SESSION, "lease of"},
		{OK("{\"id\":\"../x\",\"ttl_seconds\":9}"), SESSION, "no id"},
		{"HTTP/1.1 206 Partial\r\n\r\n{}", DESCRIBE, "status 206 where 200"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(rows); i++)
		expect(rows[i].answer, rows[i].what, -EPROTO, rows[i].words);
	for (int what = 0; what < NUM_CALLS; what++)
		expect("HTTP/1.1 204 Empty\r\n\r\n", (enum what)what, -EPROTO, "status 204");
}

TEST(read__of_other_bytes_than_asked_for)
{
	static const struct {
		const char *answer;
		int error;
		const char *words;
	} rows[] = {
#define PART(range, bytes) "HTTP/1.1 206 Part\r\nContent-Range: " range "\r\n\r\n" bytes
		{PART("bytes 0-15/16", "0123456789abcdef"), 0, ""},
		{PART("bytes 0-15/99", "0123456789abcdef"), 0, ""},
		{PART("bytes 0-15/99", "0123456789abcde"), -EPROTO, "15 of 16"},
		{PART("bytes 0-15/99", "0123456789abcdefg"), -EPROTO, "more bytes"},
		{PART("bytes 0-9/10", "0123456789"), -ERANGE, "allocation's 10 bytes"},
		{PART("bytes 0-9/16", "0123456789"), -EPROTO, "\"bytes 0-9/16\""},
		{PART("bytes 1-16/99", "0123456789abcdef"), -EPROTO, "where 0-15 was asked"},
		{PART("bytes 0-16/99", "0123456789abcdef"), -EPROTO, "where 0-15 was asked"},
		{PART("bytes */99", "0123456789abcdef"), -EPROTO, "where 0-15 was asked"},
		{PART("bytes 0-15/99x", "0123456789abcdef"), -EPROTO, "where 0-15 was asked"},
		{"HTTP/1.1 206 Part\r\n\r\n0123456789abcdef", -EPROTO, "\"\" where"},
		{OK("0123456789abcdef"), -EPROTO, "all bytes"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(rows); i++)
		expect(rows[i].answer, READ, rows[i].error, rows[i].words);
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
	const char *answers[] = {SESSION_OF("2"), SESSION_OF("2"), SESSION_OF("1800")};
	struct maas_session session;

	stub_open("", OPTIONS(.ttl_seconds = 3600));
	stub_say(answers, 3);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(maas_session_get(maas, &session), 0);
	assert_in_range(session.lease_ms, 0, 2000);
	/* A lease of 3600 s would not be renewed in this test's life. */
	AWAIT(stub_requests() >= 3);
	AWAIT(!maas_session_get(maas, &session) && session.lease_ms > 1700000);
	assert_non_null(strstr(stub_seen(), "/renew HTTP/1.1\r\n"));
	assert_non_null(strstr(stub_seen(), "Content-Type: application/json\r\n"));
}

TEST(session__too_long_a_lease_says_what_the_server_says)
{
	expect("HTTP/1.1 400 Bad\r\n\r\n{\"error\":{\"code\":\"bad_field\",\"message\":"
	       "\"ttl_seconds is at most 3600 (--max-session-ttl)\"}}",
	       SESSION, -EINVAL, "--max-session-ttl");
}

TEST_MAIN(NULL, client_end)
