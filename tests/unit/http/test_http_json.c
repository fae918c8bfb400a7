/* SPDX-License-Identifier: Apache-2.0 */
/* JSON bodies: what is read from them, and the words of the errors. */
#include "http/parse.h"
#include "tests/unit/unit.h"

#define ID "01234567-89ab-8def-8123-456789abcdef"

TEST(json_allocate__all_fields)
{
	static const char text[] =
		" {\"size_bytes\":102400,\"count\":10000,\"session\":\"" ID "\",\"owner\":\"a/b\","
		"\"lifetime\":\"ttl\",\"ttl_seconds\":9,\"request_id\":\"r 1\"} \n";
	struct maas_http_allocate_body body;
	struct maas_http_fault fault;

	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.size_bytes, 102400);
	assert_int_equal(body.count, 10000);
	assert_int_equal(body.ttl_s, 9);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_TTL);
	assert_string_equal(body.session, ID);
	assert_string_equal(body.owner, "a/b");
	assert_string_equal(body.request_id, "r 1");
}

TEST(json_allocate__lifetimes)
{
	struct maas_http_allocate_body body;
	struct maas_http_fault fault;
	const char *text = "{\"size_bytes\":1}";

	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_DELETE);
	assert_int_equal(body.count, 0);
	text = "{\"size_bytes\":1,\"ttl_seconds\":5}";
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_TTL);
	text = "{\"size_bytes\":1,\"lifetime\":\"session\",\"session\":\"" ID "\"}";
	assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_SESSION);
}

struct refusal {
	const char *text;
	const char *code;
	const char *says; /* a part of the message */
};

TEST(json_allocate__refuses)
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
		{"{\"size_bytes\":1,\"sise\":2}", "unknown_field", "\"sise\""},
		{"{\"size_bytes\":0}", "bad_field", "\"size_bytes\" must be a whole number"},
		{"{\"size_bytes\":1.0}", "bad_field", "with a point"},
		{"{\"size_bytes\":1e3}", "bad_field", "with a point"},
		{"{\"size_bytes\":9223372036854775808}", "bad_field", "\"size_bytes\" must be"},
		{"{\"size_bytes\" : -9223372036854775809 }", "bad_field", "\"size_bytes\" must be"},
		{"{\"size_bytes\":1,\"count\":1e999}", "bad_field", "\"count\" must be"},
		{"{\"size_bytes\":\"1\"}", "bad_field", "a string"},
		{"{\"size_bytes\":null}", "bad_field", "null"},
		{"{\"size_bytes\":true}", "bad_field", "true"},
		{"{\"size_bytes\":[1]}", "bad_field", "an array"},
		{"{\"size_bytes\":1,\"count\":10001}", "bad_field", "from 1 to 10000"},
		{"{\"size_bytes\":1,\"session\":\"" ID "0\"}", "bad_field", "\"session\""},
		{"{\"size_bytes\":1,\"session\":\"" ID "\",\"access\":\"w\"}", "bad_field",
		 "\"rw\", \"r\" or \"none\""},
		{"{\"size_bytes\":1,\"session\":\"" ID "\",\"access\":\"nones\"}", "bad_field",
		 "\"access\""},
		{"{\"size_bytes\":1,\"access\":\"rw\"}", "missing_field", "\"session\""},
		{"{\"size_bytes\":1,\"access\":\"none\"}", "missing_field", "\"session\""},
		{"{\"size_bytes\":1,\"lifetime\":\"sessions\"}", "bad_field", "\"lifetime\""},
		{"{\"size_bytes\":1,\"lifetime\":\"ttl\"}", "bad_field", "\"ttl_seconds\""},
		{"{\"size_bytes\":1,\"lifetime\":\"delete\",\"ttl_seconds\":1}", "bad_field",
		 "\"ttl_seconds\""},
		{"{\"size_bytes\":1,\"lifetime\":\"session\"}", "missing_field", "\"session\""},
		{"{\"size_bytes\":1,\"ttl_seconds\":31622401}", "bad_field", "31622400"},
		{"{\"size_bytes\":1,\"owner\":\"a b\"}", "bad_field", "\"owner\""},
		{"{\"size_bytes\":1,\"owner\":\"\"}", "bad_field", "\"owner\""},
		{"{\"size_bytes\":1,\"request_id\":\"\\n\"}", "bad_field", "\"request_id\""},
		{"{\"size_bytes\":1,\"request_id\":\"\xc3\xa9\"}", "bad_field", "\"request_id\""},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_allocate_body body;
		struct maas_http_fault fault = {0};
		int r = maas_http_json_allocate(cases[i].text, strlen(cases[i].text), &body,
						&fault);

		if (r != -EINVAL || strcmp(fault.code, cases[i].code) != 0 ||
		    !strstr(fault.text, cases[i].says))
			fail_msg("%s: %d %s %s", cases[i].text, r, fault.code, fault.text);
	}
}

TEST(json_allocate__access)
{
	static const struct {
		const char *field;
		enum maas_lend_access access;
	} cases[] = {
		{"", MAAS_LEND_ACCESS_WRITE},
		{",\"access\":\"rw\"", MAAS_LEND_ACCESS_WRITE},
		{",\"access\":\"r\"", MAAS_LEND_ACCESS_READ},
		{",\"access\":\"none\"", MAAS_LEND_ACCESS_NONE},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_allocate_body body;
		struct maas_http_fault fault;
		char text[128];

		snprintf(text, sizeof(text), "{\"size_bytes\":1,\"session\":\"" ID "\"%s}",
			 cases[i].field);
		assert_int_equal(maas_http_json_allocate(text, strlen(text), &body, &fault), 0);
		assert_int_equal(body.access, cases[i].access);
	}
}

TEST(json_allocate__length_limits)
{
	struct maas_http_allocate_body body;
	struct maas_http_fault fault;
	char text[256];

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

/* All ids of a body, or the error of the first that is none. */
static int walk_ids(const char *text, size_t len, uint32_t *ret_count,
		    char ret_id[MAAS_SLAB_ID_TEXT], struct maas_http_fault *fault)
{
	struct maas_http_element element;
	struct maas_http_list list;
	int r = maas_http_ids_open(&list, text, len, fault);

	if (!r)
		do
			r = maas_http_ids_next(&list, ret_id, &element, fault);
		while (r == 1);
	*ret_count = list.count;
	return r;
}

TEST(json_ids__forms)
{
	static const struct refusal bad[] = {
		{"", "bad_json", "empty"},
		{"[]", "bad_json", "object"},
		{"{}", "missing_field", "\"ids\""},
		{"{\"ids\":[]}", "bad_field", "1 to 10000"},
		{"{\"ids\":\"a\"}", "bad_field", "1 to 10000"},
		{"{\"ids\":[\"a\",7]}", "bad_field", "ids[1]"},
		{"{\"ids\":[\"a\"],\"b\":1}", "unknown_field", "\"b\""},
		{"{\"b\":1,\"ids\":[\"a\"]}", "unknown_field", "\"b\""},
		{"{\"ids\":[\"a\"],\"ids\":[\"a\"]}", "bad_json", "twice"},
		{"{\"ids\":[\"a\"]", "bad_json", "'}'"},
		{"{\"ids\":[\"a\"]}x", "bad_json", "the end"},
		{"{\"ids\":[\"a\"}", "bad_json", "']'"},
		{"{\"ids\":[\"a\" \"b\"]}", "bad_json", "','"},
		{"{\"ids\":[\"a\",]}", "bad_field", "ids[1]"},
		{"{\"ids\":[\"a]}", "bad_json", "no end"},
		{"{\"ids\":[\"\\x\"]}", "bad_json", "no string"},
		{"{\"ids\":[\"\xff\"]}", "bad_json", "no string"},
		{"{\"ids\":[[]]}", "bad_field", "ids[0]"},
	};
	const char *text = " { \"ids\" : [ \"a\" ,\n\"\\u0062\" ] } ";
	struct maas_http_fault fault;
	char id[MAAS_SLAB_ID_TEXT];
	uint32_t count;

	assert_int_equal(walk_ids(text, strlen(text), &count, id, &fault), 0);
	assert_int_equal(count, 2);
	assert_string_equal(id, "b");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		int r = walk_ids(bad[i].text, strlen(bad[i].text), &count, id, &fault);

		if (r != -EINVAL || strcmp(fault.code, bad[i].code) != 0 ||
		    !strstr(fault.text, bad[i].says))
			fail_msg("%s: %d %s %s", bad[i].text, r, fault.code, fault.text);
	}
}

TEST(json_ids__too_many)
{
	struct maas_http_fault fault;
	struct maas_buf text = {0};
	char id[MAAS_SLAB_ID_TEXT];
	uint32_t count;

	maas_buf_str(&text, "{\"ids\":[\"a\"");
	for (int i = 0; i < 10000; i++)
		maas_buf_str(&text, ",\"a\"");
	maas_buf_str(&text, "]}");
	assert_int_equal(walk_ids(text.data, text.len, &count, id, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "10000"));
	maas_buf_fini(&text);
}

/* A string of any length is no id, and costs nothing; a long one that has to be decoded is refused.
 */
TEST(json_ids__long_strings)
{
	struct maas_http_fault fault;
	char text[MAAS_HTTP_ELEMENT_BYTES + 64];
	char id[MAAS_SLAB_ID_TEXT] = "x";
	uint32_t count;
	int len = snprintf(text, sizeof(text), "{\"ids\":[\"%037d\"]}", 7);

	assert_int_equal(walk_ids(text, (size_t)len, &count, id, &fault), 0);
	assert_string_equal(id, "");
	len = snprintf(text, sizeof(text), "{\"ids\":[\"%0*d\"]}", MAAS_HTTP_ELEMENT_BYTES, 7);
	assert_int_equal(walk_ids(text, (size_t)len, &count, id, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "longer than"));
}

#define PIECE(id, offset, length) "{\"id\":\"" id "\",\"offset\":" offset ",\"length\":" length "}"

TEST(json_pieces__forms)
{
	static const struct refusal bad[] = {
		{"{}", "missing_field", "\"ranges\""},
		{"{\"ranges\":[]}", "bad_field", "\"ranges\""},
		{"{\"ranges\":[7]}", "bad_field", "ranges[0]"},
		{"{\"ranges\":[" PIECE("a", "0", "1") "}", "bad_json", "']'"},
		{"{\"ranges\":[{\"id\":\"a\",\"id\":\"b\"}]}", "bad_json", "duplicate"},
		{"{\"ranges\":[{]]}", "bad_json", "ranges[0]"},
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

TEST_MAIN(NULL, NULL)
