/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/cmd/cmd.h"
#include "client/cmd/latency.h"

static void quantile__is_the_smallest_value_that_covers_the_share(void **state)
{
	struct latency latency = {0};

	(void)state;
	for (uint64_t i = 1000; i >= 1; i--)
		assert_int_equal(latency_add(&latency, i), 0);
	latency_sort(&latency);

	assert_int_equal(latency_quantile(&latency, 0), 1);
	assert_int_equal(latency_quantile(&latency, 0.5), 500);
	assert_int_equal(latency_quantile(&latency, 0.99), 990);
	assert_int_equal(latency_quantile(&latency, 0.999), 999);
	assert_int_equal(latency_quantile(&latency, 1), 1000);
	latency_fini(&latency);
}

static void quantile__of_nothing_and_of_one(void **state)
{
	struct latency latency = {0};

	(void)state;
	latency_sort(&latency);
	assert_int_equal(latency_quantile(&latency, 0.5), 0);
	assert_int_equal(latency_add(&latency, 7), 0);
	assert_int_equal(latency_quantile(&latency, 0.999), 7);
	latency_fini(&latency);
}

static void merge__keeps_all(void **state)
{
	struct latency sum = {0};
	struct latency part = {.failed = 2};

	(void)state;
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(latency_add(&part, i), 0);
	assert_int_equal(latency_merge(&sum, &part), 0);
	assert_int_equal(latency_merge(&sum, &part), 0);

	assert_int_equal(sum.count, 6000);
	assert_int_equal(sum.failed, 4);
	assert_int_equal(sum.ns[3000], 0);
	assert_int_equal(sum.ns[5999], 2999);
	latency_fini(&sum);
	latency_fini(&part);
}

static void human__rounds(void **state)
{
	char text[CMD_TEXT];

	(void)state;
	assert_string_equal(cmd_human(0, text), "0 B");
	assert_string_equal(cmd_human(1023, text), "1023 B");
	assert_string_equal(cmd_human(1024, text), "1 KiB");
	assert_string_equal(cmd_human(1536, text), "1.5 KiB");
	assert_string_equal(cmd_human(5e15, text), "4.4 PiB");
}

static void progress__with_a_total(void **state)
{
	struct cmd_progress progress = {.what = "put", .total = 1000 << 10};
	char text[160];

	(void)state;
	cmd_progress_text(&progress, 500 << 10, 1000, text, sizeof(text));
	assert_string_equal(text, "put  50% [===============               ] 500 KiB of 1000 KiB  "
				  "500 KiB/s");
	cmd_progress_text(&progress, 2000 << 10, 1000, text, sizeof(text));
	assert_non_null(strstr(text, "100% [==============================]"));
}

static void progress__without_a_total(void **state)
{
	struct cmd_progress progress = {.what = "put"};
	char text[160];

	(void)state;
	cmd_progress_text(&progress, 2048, 0, text, sizeof(text));
	assert_string_equal(text, "put 2 KiB  0 B/s");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantile__is_the_smallest_value_that_covers_the_share),
		cmocka_unit_test(quantile__of_nothing_and_of_one),
		cmocka_unit_test(merge__keeps_all),
		cmocka_unit_test(human__rounds),
		cmocka_unit_test(progress__with_a_total),
		cmocka_unit_test(progress__without_a_total),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
