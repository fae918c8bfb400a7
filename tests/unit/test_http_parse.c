/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/parse.h"

/* ---- routes */

static void route_find__every_pattern(void **state)
{
	static const struct {
		const char *path;
		const char *pattern;
		const char *first;
		const char *second;
	} cases[] = {
		{"/health", "/health", NULL, NULL},
		{"/allocate", "/allocate", NULL, NULL},
		{"/allocate/abc", "/allocate/{id}", "abc", NULL},
		{"/allocate/abc/data", "/allocate/{id}/data", "abc", NULL},
		{"/allocate/abc/renew", "/allocate/{id}/renew", "abc", NULL},
		{"/allocate/abc/grant", "/allocate/{id}/grant", "abc", NULL},
		{"/allocate/abc/grant/d", "/allocate/{id}/grant/{session}", "abc", "d"},
		{"/free", "/free", NULL, NULL},
		{"/allocations", "/allocations", NULL, NULL},
		{"/data/read", "/data/read", NULL, NULL},
		{"/data/write", "/data/write", NULL, NULL},
		{"/sessions", "/sessions", NULL, NULL},
		{"/sessions/x", "/sessions/{id}", "x", NULL},
		{"/sessions/x/renew", "/sessions/{id}/renew", "x", NULL},
		{"/sessions/x/ticket", "/sessions/{id}/ticket", "x", NULL},
		{"/ready", "/ready", NULL, NULL},
		{"/stats", "/stats", NULL, NULL},
		{"/metrics", "/metrics", NULL, NULL},
	};
	char ids[MAAS_HTTP_PATH_IDS][MAAS_ID_TEXT];
	unsigned int routes = 0;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		int found = maas_http_route_find(cases[i].path, ids);

		assert_true(found >= 0);
		assert_string_equal(maas_http_route_at((unsigned int)found)->pattern,
				    cases[i].pattern);
		if (cases[i].first)
			assert_string_equal(ids[0], cases[i].first);
		if (cases[i].second)
			assert_string_equal(ids[1], cases[i].second);
	}
	while (maas_http_route_at(routes))
		routes++;
	assert_int_equal(routes, MAAS_ARRAY_SIZE(cases));
}

static void route_find__nothing_else(void **state)
{
	static const char *const paths[] = {"",
					    "/",
					    "health",
					    "/health/",
					    "/healthx",
					    "/HEALTH",
					    "//health",
					    "/allocate/",
					    "/allocate//data",
					    "/allocate/a/b",
					    "/sessions/",
					    "/data",
					    "/data/",
					    "/data/readx",
					    "/allocate/a/data/",
					    "/allocate/a/grant/",
					    "/allocate/a/grant/b/c",
					    "*",
					    "/{id}"};
	char ids[MAAS_HTTP_PATH_IDS][MAAS_ID_TEXT];

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(paths); i++)
		assert_int_equal(maas_http_route_find(paths[i], ids), -ENOENT);
}

static void route_find__long_id_is_empty(void **state)
{
	char ids[MAAS_HTTP_PATH_IDS][MAAS_ID_TEXT];

	(void)state;
	assert_true(maas_http_route_find("/allocate/0123456789012345678901234567890123456", ids) >=
		    0);
	assert_string_equal(ids[0], "");
	assert_true(maas_http_route_find("/allocate/012345678901234567890123456789012345", ids) >=
		    0);
	assert_int_equal(strlen(ids[0]), 36);
}

static void route__allow_names_what_has_a_call(void **state)
{
	const struct maas_http_route *route;

	(void)state;
	for (unsigned int i = 0; (route = maas_http_route_at(i)); i++) {
		char allow[64] = "";

		for (int m = 0; m < MAAS_HTTP_OTHER; m++)
			if (route->calls[m])
				snprintf(allow + strlen(allow), sizeof(allow) - strlen(allow),
					 "%s%s", *allow ? ", " : "",
					 maas_http_method_name((enum maas_http_method)m));
		assert_string_equal(route->allow, allow);
		assert_int_equal(route->calls[MAAS_HTTP_OTHER], MAAS_CALL_NONE);
	}
}

static void method_parse__case_matters(void **state)
{
	(void)state;
	assert_int_equal(maas_http_method_parse("GET"), MAAS_HTTP_GET);
	assert_int_equal(maas_http_method_parse("HEAD"), MAAS_HTTP_HEAD);
	assert_int_equal(maas_http_method_parse("DELETE"), MAAS_HTTP_DELETE);
	assert_int_equal(maas_http_method_parse("get"), MAAS_HTTP_OTHER);
	assert_int_equal(maas_http_method_parse("OPTIONS"), MAAS_HTTP_OTHER);
	assert_int_equal(maas_http_method_parse(""), MAAS_HTTP_OTHER);
}

/* ---- ranges */

static void range_parse__one(void **state)
{
	static const struct {
		const char *text;
		uint64_t first;
		uint64_t len;
	} cases[] = {
		{"bytes=0-0", 0, 1},
		{"bytes=0-99", 0, 100},
		{"bytes=99-", 99, 1},
		{"bytes=10-19", 10, 10},
		{"bytes=0-", 0, 100},
		{"bytes=-1", 99, 1},
		{"bytes=-100", 0, 100},
		{"bytes=-1000", 0, 100},
		{"bytes=50-1000", 50, 50},
		{"BYTES=1-2", 1, 2},
		{"bytes= 1-2", 1, 2},
		{"bytes=1-2 ", 1, 2},
		{"bytes=,1-2", 1, 2},
		{"bytes=1-2, ,", 1, 2},
		{"bytes=001-002", 1, 2},
		{"bytes=0-18446744073709551616", 0, 100},
		{"bytes=-99999999999999999999999", 0, 100},
	};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_range range;

		assert_int_equal(maas_http_range_parse(cases[i].text, 100, &range), 1);
		assert_int_equal(range.first, cases[i].first);
		assert_int_equal(range.len, cases[i].len);
	}
}

static void range_parse__whole(void **state)
{
	static const char *const texts[] = {
		"",
		"bytes",
		"bytes=",
		"bytes=,",
		"bytes=-",
		"bytes=a-b",
		"bytes=1",
		"bytes=2-1",
		"bytes=1-2x",
		"bytes=1--2",
		"bytes=+1-2",
		"bytes=1-2;3",
		"items=0-1",
		"bytes:0-1",
		"bytes 0-1",
		"bytes=0-1,5-6",
		"bytes=0-1,-1",
		"bytes=-1,-1",
		"bytes=1- 2",
		"bytes=0x1-2",
		"bytes =0-1",
		"bytes=--1",
		"bytes=0-1,500-",
		"bytes=-5x",
	};
	struct maas_http_range range;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++)
		if (maas_http_range_parse(texts[i], 100, &range))
			fail_msg("%s", texts[i]);
}

static void range_parse__unsatisfiable(void **state)
{
	static const char *const texts[] = {"bytes=100-", "bytes=100-200", "bytes=-0",
					    "bytes=99999999999999999999-"};
	struct maas_http_range range;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++)
		assert_int_equal(maas_http_range_parse(texts[i], 100, &range), -ERANGE);
}

static void content_range_parse__forms(void **state)
{
	static const char *const bad[] = {"",
					  "bytes",
					  "bytes */100",
					  "bytes 0-1",
					  "bytes 0-1/",
					  "bytes=0-1/2",
					  "bytes 2-1/9",
					  "bytes 0-9/9",
					  "bytes 0-9/9x",
					  "bytes -9/10",
					  "bytes 0-/10",
					  "items 0-1/2",
					  "bytes 0-1/-2",
					  "bytes 0-1/**",
					  "bytes 0 -1/2",
					  "bytes 0-99999999999999999999/*",
					  "bytes 0-9223372036854775807/*"};
	struct maas_http_range range;
	uint64_t total;

	(void)state;
	assert_int_equal(maas_http_content_range_parse("bytes 5-9/100", &range, &total), 0);
	assert_int_equal(range.first, 5);
	assert_int_equal(range.len, 5);
	assert_int_equal(total, 100);
	assert_int_equal(maas_http_content_range_parse("Bytes 0-0/*", &range, &total), 0);
	assert_int_equal(range.len, 1);
	assert_true(total == UINT64_MAX);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		if (maas_http_content_range_parse(bad[i], &range, &total) != -EINVAL)
			fail_msg("%s", bad[i]);
}

static void u63_parse__forms(void **state)
{
	uint64_t value = 7;

	(void)state;
	assert_int_equal(maas_http_u63_parse("9223372036854775807", &value), 0);
	assert_true(value == INT64_MAX);
	assert_int_equal(maas_http_u63_parse("9223372036854775808", &value), -ERANGE);
	assert_int_equal(maas_http_u63_parse("99999999999999999999999", &value), -ERANGE);
	assert_int_equal(maas_http_u63_parse("", &value), -EINVAL);
	assert_int_equal(maas_http_u63_parse("-1", &value), -EINVAL);
	assert_int_equal(maas_http_u63_parse("1 ", &value), -EINVAL);
	assert_true(value == INT64_MAX);
}

/* ---- JSON */

#define ID "01234567-89ab-8def-8123-456789abcdef"

static void json_allocate__all_fields(void **state)
{
	static const char text[] =
		" {\"size_bytes\":102400,\"count\":10000,\"session\":\"" ID "\",\"owner\":\"a/b\","
		"\"lifetime\":\"ttl\",\"ttl_seconds\":9,\"request_id\":\"r 1\"} \n";
	struct maas_http_allocate body;
	struct maas_http_fault fault;

	(void)state;
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.size_bytes, 102400);
	assert_int_equal(body.count, 10000);
	assert_int_equal(body.ttl_s, 9);
	assert_int_equal(body.lifetime, MAAS_LIFETIME_TTL);
	assert_string_equal(body.session, ID);
	assert_string_equal(body.owner, "a/b");
	assert_string_equal(body.request_id, "r 1");
}

static void json_allocate__lifetimes(void **state)
{
	struct maas_http_allocate body;
	struct maas_http_fault fault;
	const char *text;

	(void)state;
	text = "{\"size_bytes\":1}";
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LIFETIME_DELETE);
	assert_int_equal(body.count, 0);
	text = "{\"size_bytes\":1,\"ttl_seconds\":5}";
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LIFETIME_TTL);
	text = "{\"size_bytes\":1,\"lifetime\":\"session\",\"session\":\"" ID "\"}";
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LIFETIME_SESSION);
}

struct refusal {
	const char *text;
	const char *code;
	const char *says; /* a part of the message */
};

static void json_allocate__refuses(void **state)
{
	static const struct refusal cases[] = {
		{"", "bad_json", "{\"size_bytes\": 102400}"},
		{" ", "bad_json", "not valid JSON"},
		{"[]", "bad_json", "must be a JSON object"},
		{"7", "bad_json", "not valid JSON"},
		{"{", "bad_json", "not valid JSON"},
		{"{\"size_bytes\":1}x", "bad_json", "not valid JSON"},
		{"{\"size_bytes\":1,\"size_bytes\":1}", "bad_json", "duplicate"},
		{"{\"size_bytes\":1,}", "bad_json", "not valid JSON"},
		{"{\"size_bytes\":01}", "bad_json", "not valid JSON"},
		{"{\"size_bytes\":1,\"owner\":\"\xff\"}", "bad_json", "not valid JSON"},
		{"{\"size_bytes\":1,\"owner\":\"a\\u0000b\"}", "bad_json", "not valid JSON"},
		{"{}", "missing_field", "\"size_bytes\" is missing"},
		{"{\"count\":1}", "missing_field", "\"size_bytes\" is missing"},
		{"{\"size_bytes\":1,\"sise\":2}", "unknown_field", "\"sise\""},
		{"{\"size_bytes\":0}", "bad_field", "\"size_bytes\" must be a whole number"},
		{"{\"size_bytes\":-1}", "bad_field", "\"size_bytes\""},
		{"{\"size_bytes\":1.0}", "bad_field", "with a point"},
		{"{\"size_bytes\":1e3}", "bad_field", "with a point"},
		{"{\"size_bytes\":9223372036854775808}", "bad_field", "\"size_bytes\" must be"},
		{"{\"size_bytes\" : -9223372036854775809 }", "bad_field", "\"size_bytes\" must be"},
		{"{\"size_bytes\":1,\"count\":1e999}", "bad_field", "\"count\" must be"},
		{"{\"size_bytes\":\"1\"}", "bad_field", "a string"},
		{"{\"size_bytes\":null}", "bad_field", "null"},
		{"{\"size_bytes\":true}", "bad_field", "true"},
		{"{\"size_bytes\":[1]}", "bad_field", "an array"},
		{"{\"size_bytes\":1,\"count\":0}", "bad_field", "\"count\""},
		{"{\"size_bytes\":1,\"count\":10001}", "bad_field", "from 1 to 10000"},
		{"{\"size_bytes\":1,\"session\":\"" ID "0\"}", "bad_field", "\"session\""},
		{"{\"size_bytes\":1,\"session\":\"\"}", "bad_field", "\"session\""},
		{"{\"size_bytes\":1,\"session\":7}", "bad_field", "\"session\""},
		{"{\"size_bytes\":1,\"lifetime\":\"ever\"}", "bad_field", "\"lifetime\""},
		{"{\"size_bytes\":1,\"lifetime\":\"sessions\"}", "bad_field", "\"lifetime\""},
		{"{\"size_bytes\":1,\"lifetime\":\"ttl\"}", "bad_field", "\"ttl_seconds\""},
		{"{\"size_bytes\":1,\"lifetime\":\"delete\",\"ttl_seconds\":1}", "bad_field",
		 "\"ttl_seconds\""},
		{"{\"size_bytes\":1,\"lifetime\":\"session\"}", "missing_field", "\"session\""},
		{"{\"size_bytes\":1,\"ttl_seconds\":0}", "bad_field", "\"ttl_seconds\""},
		{"{\"size_bytes\":1,\"ttl_seconds\":31622401}", "bad_field", "31622400"},
		{"{\"size_bytes\":1,\"owner\":\"a b\"}", "bad_field", "\"owner\""},
		{"{\"size_bytes\":1,\"owner\":\"\"}", "bad_field", "\"owner\""},
		{"{\"size_bytes\":1,\"request_id\":\"\\n\"}", "bad_field", "\"request_id\""},
		{"{\"size_bytes\":1,\"request_id\":\"\xc3\xa9\"}", "bad_field", "\"request_id\""},
	};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_allocate body;
		struct maas_http_fault fault = {0};
		int r = maas_http_json_allocate(cases[i].text, strlen(cases[i].text), &body,
						&fault);

		if (r != -EINVAL || strcmp(fault.code, cases[i].code) != 0 ||
		    !strstr(fault.text, cases[i].says))
			fail_msg("%s: %d %s %s", cases[i].text, r, fault.code, fault.text);
	}
}

static void json_allocate__length_limits(void **state)
{
	struct maas_http_allocate body;
	struct maas_http_fault fault;
	char text[256];

	(void)state;
	for (int len = 126; len <= 128; len++) {
		snprintf(text, sizeof(text), "{\"size_bytes\":1,\"request_id\":\"%0*d\"}", len, 7);
		assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault),
				 len <= 127 ? 0 : -EINVAL);
	}
	for (int len = 62; len <= 64; len++) {
		snprintf(text, sizeof(text), "{\"size_bytes\":1,\"owner\":\"%0*d\"}", len, 7);
		assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault),
				 len <= 63 ? 0 : -EINVAL);
	}
}

static void json_renew__forms(void **state)
{
	struct maas_http_fault fault;
	uint64_t ttl_s = 1;

	(void)state;
	assert_int_equal(maas_http_json_renew(NULL, 0, &ttl_s, &fault), 0);
	assert_int_equal(ttl_s, 0);
	assert_int_equal(maas_http_json_renew("{}", 2, &ttl_s, &fault), 0);
	assert_int_equal(ttl_s, 0);
	assert_int_equal(maas_http_json_renew("{\"ttl_seconds\":60}", 18, &ttl_s, &fault), 0);
	assert_int_equal(ttl_s, 60);
	assert_int_equal(maas_http_json_renew("{\"ttl\":60}", 10, &ttl_s, &fault), -EINVAL);
	assert_int_equal(maas_http_json_none(NULL, 0, &fault), 0);
	assert_int_equal(maas_http_json_none("{}", 2, &fault), 0);
	assert_int_equal(maas_http_json_none("{\"a\":1}", 7, &fault), -EINVAL);
}

static int parse_session(const char *text, struct maas_http_session *body)
{
	struct maas_http_fault fault;

	return maas_http_json_session(text, strlen(text), body, &fault);
}

static void json_session__forms(void **state)
{
	struct maas_http_session body;

	(void)state;
	assert_int_equal(parse_session("{}", &body), 0);
	assert_string_equal(body.name, "");
	assert_int_equal(body.ttl_s, 60);
	assert_false(body.exclusive);
	assert_int_equal(
		parse_session("{\"name\":\"w\",\"ttl_seconds\":2,\"exclusive\":true}", &body), 0);
	assert_string_equal(body.name, "w");
	assert_int_equal(body.ttl_s, 2);
	assert_true(body.exclusive);
	assert_int_equal(parse_session("", &body), -EINVAL);
	assert_int_equal(parse_session("{\"exclusive\":true}", &body), -EINVAL);
	assert_int_equal(parse_session("{\"exclusive\":1}", &body), -EINVAL);
	assert_int_equal(parse_session("{\"name\":\"a b\"}", &body), -EINVAL);
	assert_int_equal(parse_session("{\"nome\":\"a\"}", &body), -EINVAL);
}

static void json_grant__forms(void **state)
{
	static const char *const bad[] = {"{\"session\":\"s\"}", "{\"access\":\"r\"}",
					  "{\"session\":\"s\",\"access\":\"w\"}",
					  "{\"session\":\"s\",\"access\":\"rwx\"}"};
	struct maas_http_grant body;
	struct maas_http_fault fault;
	const char *text = "{\"session\":\"s\",\"access\":\"rw\"}";

	(void)state;
	assert_int_equal(maas_http_json_grant(text, strlen(text), &body, &fault), 0);
	assert_string_equal(body.session, "s");
	assert_string_equal(body.access, "rw");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(maas_http_json_grant(bad[i], strlen(bad[i]), &body, &fault),
				 -EINVAL);
}

static void json_free__forms(void **state)
{
	static const char *const bad[] = {"{}", "{\"ids\":[]}", "{\"ids\":\"a\"}",
					  "{\"ids\":[\"a\",7]}", "{\"ids\":[\"a\"],\"b\":1}"};
	struct maas_http_fault fault;
	const char *text = "{\"ids\":[\"a\",\"b\"]}";
	json_t *ids;

	(void)state;
	assert_int_equal(maas_http_json_free(text, strlen(text), &ids, &fault), 0);
	assert_int_equal(json_array_size(ids), 2);
	json_decref(ids);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(maas_http_json_free(bad[i], strlen(bad[i]), &ids, &fault),
				 -EINVAL);
}

static void json_free__too_many(void **state)
{
	struct maas_http_fault fault;
	struct maas_buf text = {0};
	json_t *ids;

	(void)state;
	maas_buf_str(&text, "{\"ids\":[\"a\"");
	for (int i = 0; i < 10000; i++)
		maas_buf_str(&text, ",\"a\"");
	maas_buf_str(&text, "]}");
	assert_int_equal(maas_http_json_free(text.data, text.len, &ids, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "10000"));
	maas_buf_fini(&text);
}

#define PIECE(id, offset, length) "{\"id\":\"" id "\",\"offset\":" offset ",\"length\":" length "}"

static void json_pieces__forms(void **state)
{
	static const struct refusal bad[] = {
		{"{}", "missing_field", "\"ranges\""},
		{"{\"ranges\":[]}", "bad_field", "\"ranges\""},
		{"{\"ranges\":[7]}", "bad_field", "ranges[0]"},
		{"{\"ranges\":[" PIECE("a", "0", "0") "]}", "bad_field", "ranges[0]: \"length\""},
		{"{\"ranges\":[" PIECE("a", "-1", "1") "]}", "bad_field", "ranges[0]: \"offset\""},
		{"{\"ranges\":[" PIECE("a", "0", "1.5") "]}", "bad_field", "\"length\""},
		{"{\"ranges\":[" PIECE("a", "0", "1") ",{\"id\":\"a\"}]}", "missing_field",
		 "ranges[1]: \"offset\""},
		{"{\"ranges\":[{\"id\":\"a\",\"offset\":0,\"size\":1}]}", "unknown_field",
		 "\"size\""},
		{"{\"ranges\":[" PIECE("a", "0", "9223372036854775807") "," PIECE("a", "0",
										  "1") "]}",
		 "bad_field", "2^63"},
		{"{\"ranges\":[" PIECE("a", "9223372036854775808", "1") "]}", "bad_field",
		 "\"offset\""},
	};
	const char *text = "{\"ranges\":[" PIECE("a", "0", "1") "," PIECE("b", "5", "7") "]}";
	struct maas_http_pieces pieces;
	struct maas_http_fault fault;

	(void)state;
	assert_int_equal(maas_http_json_pieces(text, strlen(text), &pieces, &fault), 0);
	assert_int_equal(pieces.count, 2);
	assert_int_equal(pieces.total, 8);
	assert_string_equal(pieces.at[1].id, "b");
	assert_int_equal(pieces.at[1].offset, 5);
	assert_int_equal(pieces.at[1].len, 7);
	free(pieces.at);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		int r = maas_http_json_pieces(bad[i].text, strlen(bad[i].text), &pieces, &fault);

		if (r != -EINVAL || strcmp(fault.code, bad[i].code) != 0 ||
		    !strstr(fault.text, bad[i].says))
			fail_msg("%s: %d %s %s", bad[i].text, r, fault.code, fault.text);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(route_find__every_pattern),
		cmocka_unit_test(route_find__nothing_else),
		cmocka_unit_test(route_find__long_id_is_empty),
		cmocka_unit_test(route__allow_names_what_has_a_call),
		cmocka_unit_test(method_parse__case_matters),
		cmocka_unit_test(range_parse__one),
		cmocka_unit_test(range_parse__whole),
		cmocka_unit_test(range_parse__unsatisfiable),
		cmocka_unit_test(content_range_parse__forms),
		cmocka_unit_test(u63_parse__forms),
		cmocka_unit_test(json_allocate__all_fields),
		cmocka_unit_test(json_allocate__lifetimes),
		cmocka_unit_test(json_allocate__refuses),
		cmocka_unit_test(json_allocate__length_limits),
		cmocka_unit_test(json_renew__forms),
		cmocka_unit_test(json_session__forms),
		cmocka_unit_test(json_grant__forms),
		cmocka_unit_test(json_free__forms),
		cmocka_unit_test(json_free__too_many),
		cmocka_unit_test(json_pieces__forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
