/* SPDX-License-Identifier: Apache-2.0 */
/* What the client makes of JSON: allocations, and lists that are parsed piece by piece. */
#include "client/internal.h"
#include "tests/unit/client/client_fixture.h"

/* ---- allocations */

#define WITH_SIZES(size, actual)                                                                   \
	"{\"id\":\"" SOME_ID "\",\"size_bytes\":" size ",\"actual_size_bytes\":" actual            \
	",\"age_seconds\":0}"

static int read_allocation(const char *text, struct maas_allocation *ret_allocation)
{
	json_t *object = json_loads(text, 0, NULL);
	int r;

	assert_non_null(object);
	r = maas_json_allocation(object, ret_allocation);
	json_decref(object);
	return r;
}

TEST(json_allocation__complete)
{
	struct maas_allocation at;

	assert_int_equal(read_allocation("{\"id\":\"" SOME_ID "\",\"size_bytes\":5,"
					 "\"actual_size_bytes\":1024,\"age_seconds\":3,"
					 "\"owner\":\"me\",\"lifetime\":\"ttl\",\"ttl_seconds\":9,"
					 "\"lease_seconds\":7,\"new\":true}",
					 &at),
			 0);
	assert_string_equal(at.id, SOME_ID);
	assert_string_equal(at.owner, "me");
	assert_int_equal(at.size_bytes, 5);
	assert_int_equal(at.actual_size_bytes, 1024);
	assert_int_equal(at.age_seconds, 3);
	assert_int_equal(at.lifetime, MAAS_LIFETIME_TTL);
	assert_int_equal(at.ttl_seconds, 9);
	assert_int_equal(at.lease_seconds, 7);
}

TEST(json_allocation__without_sense)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"{\"id\":\"a/b\",\"size_bytes\":5,\"actual_size_bytes\":8,\"age_seconds\":0}",
		"{\"id\":\"a\",\"size_bytes\":5,\"actual_size_bytes\":8,\"age_seconds\":0}",
		"{\"id\":\"../../../../../../../../../../../../\",\"size_bytes\":5,"
		"\"actual_size_bytes\":8,\"age_seconds\":0}",
		WITH_SIZES("-5", "8"),
		WITH_SIZES("0", "8"),
		WITH_SIZES("\"5\"", "8"),
		WITH_SIZES("9", "8"),
		WITH_SIZES("5.0", "8"),
		WITH_SIZES("5", "null"),
		"{\"id\":\"" SOME_ID "\",\"size_bytes\":5,\"actual_size_bytes\":8}",
	};
	struct maas_allocation at;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++)
		if (read_allocation(texts[i], &at) != -EPROTO)
			fail_msg("taken: %s", texts[i]);
	assert_int_equal(read_allocation(WITH_SIZES("5", "8"), &at), 0);
}

/* ---- lists */

#define MAX_SEEN 4

struct seen {
	size_t count;
	json_int_t numbers[MAX_SEEN];
};

static int note(void *arg, size_t index, const json_t *element)
{
	struct seen *seen = arg;

	assert_int_equal(index, seen->count);
	if (seen->count == MAX_SEEN)
		return -E2BIG;
	seen->numbers[seen->count++] = json_integer_value(element);
	return 0;
}

static int read_list(const char *text, struct seen *ret_seen, json_t **ret_rest)
{
	struct maas_buf buf = {0};
	int r;

	*ret_seen = (struct seen){0};
	maas_buf_str(&buf, text);
	r = maas_json_list(&buf, "list", note, ret_seen, ret_rest);
	maas_buf_fini(&buf);
	return r;
}

TEST(json_list__one_after_another)
{
	static const char *const texts[] = {
		"{\"list\":[1,2,3],\"next\":7}",
		" { \"next\" : 7 , \"list\" : [ 1 , 2\n,\t3 ] } \n",
		"{\"a\":{\"list\":[9]},\"b\":\"\\\"list\\\":[9]\",\"list\":[1,2,3],\"next\":7}",
		"{\"a\":[[\"]\",{}],1],\"list\":[1,2,3],\"next\":7,\"c\":\"]}\"}",
	};
	struct seen seen;
	json_t *rest;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++) {
		if (read_list(texts[i], &seen, &rest) != 3)
			fail_msg("%s: %s", texts[i], maas_error());
		assert_int_equal(seen.numbers[2], 3);
		assert_int_equal(json_integer_value(json_object_get(rest, "next")), 7);
		json_decref(rest);
	}
	assert_int_equal(read_list("{\"list\":[]}", &seen, &rest), 0);
	json_decref(rest);
	assert_int_equal(read_list("{\"list\":[1,2,3,4,5]}", &seen, &rest), -E2BIG);
}

TEST(json_list__that_is_none)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{}",
		"{\"list\"",
		"{\"list\":",
		"{\"list\":7}",
		"{\"list\":{}}",
		"{\"list\":[",
		"{\"list\":[1",
		"{\"list\":[1,",
		"{\"list\":[1,]}",
		"{\"list\":[,1]}",
		"{\"list\":[1 2]}",
		"{\"list\":[1,,2]}",
		"{\"list\":[1}}",
		"{\"list\":[[1}]}",
		"{\"list\":[1]",
		"{\"list\":[1]}}",
		"{\"list\":[1],\"next\"}",
		"{\"list\":[\"1]}",
		"{\"list\":[\"\\",
		"{\"list\":[nope]}",
		"{\"lis\":[1]}",
		"{\"a\":\"",
		"{list:[1]}",
	};
	struct seen seen;
	json_t *rest;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++)
		if (read_list(texts[i], &seen, &rest) != -EPROTO)
			fail_msg("taken: %s", texts[i]);
}

TEST_MAIN(NULL, NULL)
