/* SPDX-License-Identifier: Apache-2.0 */
/* Routes, paths, ranges, hosts and origins: the parsers alone. */
#include "http/calls.h"
#include "http/parse.h"
#include "tests/unit/unit.h"

/* ---- routes */

TEST(route_find__long_id_is_empty)
{
	char ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT];
	const char *path = "/allocate/0123456789012345678901234567890123456";
	char *fits = strndupa(path, strlen(path) - 1);

	assert_true(maas_http_route_find(path, ids) >= 0);
	assert_string_equal(ids[0], "");
	assert_true(maas_http_route_find(fits, ids) >= 0);
	assert_int_equal(strlen(ids[0]), 36);
}

TEST(route__allow_names_what_has_a_call)
{
	for (unsigned int i = 0; i < MAAS_HTTP_NUM_CALLS; i++) {
		char want[MAAS_HTTP_ALLOW_TEXT] = "";
		char allow[MAAS_HTTP_ALLOW_TEXT];

		if (!maas_http_route_pattern(i))
			continue;
		for (enum maas_http_method m = 0; m < MAAS_HTTP_OTHER; m++)
			if (maas_http_route_call(i, m))
				snprintf(want + strlen(want), sizeof(want) - strlen(want), "%s%s",
					 *want ? ", " : "", maas_http_method_name(m));
		maas_http_route_allow(i, allow);
		assert_string_equal(allow, want);
		assert_null(maas_http_route_call(i, MAAS_HTTP_OTHER));
	}
}

/* The same path further down the table would be a route that is never found. */
TEST(route__calls_of_a_path_stand_together)
{
	const char *seen[MAAS_HTTP_NUM_CALLS];
	unsigned int count = 0;

	for (unsigned int i = 0; i < MAAS_HTTP_NUM_CALLS; i++) {
		const char *pattern = maas_http_route_pattern(i);

		for (unsigned int j = 0; pattern && j < count; j++)
			assert_string_not_equal(pattern, seen[j]);
		if (pattern)
			seen[count++] = pattern;
	}
}

TEST(method_parse__case_matters)
{
	assert_int_equal(maas_http_method_parse("GET"), MAAS_HTTP_GET);
	assert_int_equal(maas_http_method_parse("HEAD"), MAAS_HTTP_HEAD);
	assert_int_equal(maas_http_method_parse("DELETE"), MAAS_HTTP_DELETE);
	assert_int_equal(maas_http_method_parse("get"), MAAS_HTTP_OTHER);
	assert_int_equal(maas_http_method_parse("OPTIONS"), MAAS_HTTP_OTHER);
	assert_int_equal(maas_http_method_parse(""), MAAS_HTTP_OTHER);
}

/* ---- ranges */

/* The parser returns `r` for each of the texts, between which '|' stands; of 100 bytes it says
 * these, where `r` is 1. */
static void expect_range(const char *texts, int r, uint64_t first, uint64_t len)
{
	for (char *rest = strdupa(texts), *text; (text = strsep(&rest, "|"));) {
		struct maas_http_range range = {0};

		if (maas_http_range_parse(text, 100, &range) != r || range.first != first ||
		    range.len != len)
			fail_msg("%s", text);
	}
}

TEST(range_parse__one)
{
	expect_range("bytes=0-0", 1, 0, 1);
	expect_range("bytes=10-19", 1, 10, 10);
	expect_range("bytes=50-1000", 1, 50, 50);
	expect_range("bytes=99-|bytes=-1", 1, 99, 1);
	expect_range("bytes=0-99|bytes=0-|bytes=-100|bytes=-1000", 1, 0, 100);
	expect_range("bytes=0-18446744073709551616|bytes=-99999999999999999999999", 1, 0, 100);
	expect_range("BYTES=1-2|bytes= 1-2|bytes=1-2 |bytes=,1-2|bytes=1-2, ,|bytes=001-002", 1, 1,
		     2);
}

TEST(range_parse__whole)
{
	expect_range("|bytes|bytes=|bytes=,|bytes=-|bytes=a-b|bytes=1|bytes=2-1|bytes=1-2x|"
		     "bytes=1--2|bytes=+1-2|bytes=1-2;3|items=0-1|bytes:0-1|bytes 0-1|"
		     "bytes=0-1,5-6|bytes=0-1,-1|bytes=-1,-1|bytes=1- 2|bytes=0x1-2|"
		     "bytes =0-1|bytes=--1|bytes=0-1,500-|bytes=-5x",
		     0, 0, 0);
}

TEST(range_parse__unsatisfiable)
{
	expect_range("bytes=100-|bytes=100-200|bytes=-0|bytes=99999999999999999999-", -ERANGE, 0,
		     0);
}

TEST(content_range_parse__forms)
{
	char bad[] = "|bytes|bytes */100|bytes 0-1|bytes 0-1/|bytes=0-1/2|bytes 2-1/9|"
		     "bytes 0-9/9|bytes 0-9/9x|bytes -9/10|bytes 0-/10|items 0-1/2|bytes 0-1/-2|"
		     "bytes 0-1/**|bytes 0 -1/2|bytes 0-99999999999999999999/*|"
		     "bytes 0-9223372036854775807/*";
	struct maas_http_range range;
	uint64_t total;

	assert_int_equal(maas_http_content_range_parse("bytes 5-9/100", &range, &total), 0);
	assert_int_equal(range.first, 5);
	assert_int_equal(range.len, 5);
	assert_int_equal(total, 100);
	assert_int_equal(maas_http_content_range_parse("Bytes 0-0/*", &range, &total), 0);
	assert_int_equal(range.len, 1);
	assert_true(total == UINT64_MAX);
	for (char *rest = bad, *text; (text = strsep(&rest, "|"));)
		if (maas_http_content_range_parse(text, &range, &total) != -EINVAL)
			fail_msg("%s", text);
}

TEST(u63_parse__forms)
{
	uint64_t value = 7;

	assert_int_equal(maas_http_u63_parse("9223372036854775807", &value), 0);
	assert_true(value == INT64_MAX);
	assert_int_equal(maas_http_u63_parse("9223372036854775808", &value), -ERANGE);
	assert_int_equal(maas_http_u63_parse("99999999999999999999999", &value), -ERANGE);
	assert_int_equal(maas_http_u63_parse("", &value), -EINVAL);
	assert_int_equal(maas_http_u63_parse("-1", &value), -EINVAL);
	assert_int_equal(maas_http_u63_parse("1 ", &value), -EINVAL);
	assert_true(value == INT64_MAX);
}

TEST(unescape__leaves_control_characters)
{
	static const char *const cases[][2] = {
		{"/%68ealth", "/health"},
		{"/health%00x", "/health%00x"},
		{"/a%0d%0A%1f%7f", "/a%0d%0A%1f%7f"},
		{"%20%c3%A9%2f", " \xc3\xa9/"},
		{"%", "%"},
		{"%4", "%4"},
		{"%zz%4g%%41", "%zz%4g%A"},
		{"%2541", "%41"},
		{"", ""},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		char text[32];

		snprintf(text, sizeof(text), "%s", cases[i][0]);
		assert_int_equal(maas_http_unescape(text), strlen(cases[i][1]));
		assert_string_equal(text, cases[i][1]);
	}
}

/* Cut off to `size` bytes. */
static void expect_word(const char *path, size_t size, const char *word)
{
	char text[80];

	maas_http_path_text(path, text, size);
	assert_string_equal(text, word);
}

TEST(path_text__is_one_word)
{
	expect_word("/a b\n\x7f\xc3\xa9", 16, "/a%20b%0A%7F%C3");
	expect_word("/0123456789abcdefghi", 16, "/0123456789ab");
	expect_word("", 16, "");
}

/* Of an id, just enough to tell it from others. */
TEST(path_text__hides_ids)
{
	expect_word("/allocate/0123abcd-0000-8000-8000-0123456789AB/data", 80,
		    "/allocate/0123abcd.../data");
	expect_word("/a/0123abcd-0000-8000-8000-0123456789ab", 80, "/a/0123abcd...");
	expect_word("/a/0123abcd-0000-8000-8000-0123456789abc", 80,
		    "/a/0123abcd-0000-8000-8000-0123456789abc");
}

TEST_MAIN(NULL, NULL)
