/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the maas command that need no server: latencies, ids, JSON for a terminal, progress.
 */
#include "cmd/cmd.h"
#include "cmd/latency.h"
#include "tests/unit/unit.h"

static struct latency latency; /* of a case */

/* From `last` down to 1. */
static void add_all(uint64_t last)
{
	for (uint64_t i = last; i; i--)
		assert_int_equal(latency_add(&latency, i), 0);
	latency_sort(&latency);
}

static void end_latency(void)
{
	latency_fini(&latency);
}

TEST(quantile__is_the_smallest_value_that_covers_the_share)
{
	add_all(1000);
	assert_int_equal(latency_quantile(&latency, 0), 1);
	assert_int_equal(latency_quantile(&latency, 0.5), 500);
	assert_int_equal(latency_quantile(&latency, 0.99), 990);
	assert_int_equal(latency_quantile(&latency, 0.999), 999);
	assert_int_equal(latency_quantile(&latency, 1), 1000);
}

TEST(quantile__between_two_values_is_the_upper)
{
	add_all(3);
	assert_int_equal(latency_quantile(&latency, 0.5), 2);
	assert_int_equal(latency_quantile(&latency, 0.7), 3);
}

TEST(quantile__of_nothing_and_of_one)
{
	latency_sort(&latency);
	assert_int_equal(latency_quantile(&latency, 0.5), 0);
	assert_int_equal(latency_add(&latency, 7), 0);
	assert_int_equal(latency_quantile(&latency, 0.999), 7);
}

TEST(merge__keeps_all)
{
	struct latency part = {.failed = 2};

	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(latency_add(&part, i), 0);
	assert_int_equal(latency_merge(&latency, &part), 0);
	assert_int_equal(latency_merge(&latency, &part), 0);
	assert_int_equal(latency.count, 6000);
	assert_int_equal(latency.failed, 4);
	assert_int_equal(latency.ns[3000], 0);
	assert_int_equal(latency.ns[5999], 2999);
	latency_fini(&part);
}

TEST(is_id__has_the_form_of_one)
{
	assert_true(cmd_is_id("00000000-0000-8000-8741-8d35090dc78e"));
	assert_true(cmd_is_id("ABCDEF00-0000-8000-8741-8D35090DC78E"));
	assert_false(cmd_is_id(""));
	assert_false(cmd_is_id("00000000-0000-8000-8741-8d35090dc78"));
	assert_false(cmd_is_id("00000000-0000-8000-8741-8d35090dc78e0"));
	assert_false(cmd_is_id("./00000000-0000-8000-8741-8d35090dc7"));
	assert_false(cmd_is_id("000000000000-8000-0000-8741-8d35090dc7"));
	assert_false(cmd_is_id("------------------------------------"));
}

static void expect_clean(const char *text, bool clean)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	assert_int_equal(cmd_json_clean(value), clean);
	json_decref(value);
}

TEST(json_clean__strings_and_numbers)
{
	json_t *value = json_loads("{\"a\":[{\"b\":\"x\\u001b[2J\"}],\"n\":1}", 0, NULL);

	assert_true(cmd_json_clean(value));
	assert_string_equal(cmd_json_string(json_array_get(json_object_get(value, "a"), 0), "b"),
			    "x\\x1b[2J");
	json_decref(value);
	expect_clean("{\"n\":9223372036854775807,\"m\":0.5,\"o\":null}", false);
	expect_clean("{\"n\":4611686018427387904,\"m\":0.5,\"o\":null}", true);
	expect_clean("{\"n\":[0,{\"m\":-1}]}", false);
	expect_clean("{\"n\":1e300}", false);
}

TEST(progress__with_a_total)
{
	struct cmd_progress progress = {.what = "put", .total = 1000 << 10};
	char text[160];

	cmd_progress_text(&progress, 500 << 10, 1000, text, sizeof(text));
	assert_string_equal(text, "put  50% [===============               ] 500 KiB of 1000 KiB  "
				  "500 KiB/s");
	cmd_progress_text(&progress, 2000 << 10, 1000, text, sizeof(text));
	assert_non_null(strstr(text, "100% [==============================]"));
}

TEST(progress__without_a_total)
{
	struct cmd_progress progress = {.what = "put"};
	char text[160];

	cmd_progress_text(&progress, 2048, 0, text, sizeof(text));
	assert_string_equal(text, "put 2 KiB  0 B/s");
}

TEST_MAIN(NULL, end_latency)
