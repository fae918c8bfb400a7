/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks' verdicts stand on: the arithmetic of a row and the reading of replies. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bench/report.h"
#include "tests/bench/wire.h"

static bool near(double a, double b)
{
	return fabs(a - b) < 1e-9;
}

static void median__odd_and_even(void **state)
{
	const double values[] = {9, 1, 5, 100};

	(void)state;
	assert_true(near(bench_median(values, 1), 9));
	assert_true(near(bench_median(values, 3), 5));
	assert_true(near(bench_median(values, 4), 7));
}

static void summary__ratio_and_noise(void **state)
{
	struct bench_row row = {.name = "x", .bar = 2.0, .bar_is = BENCH_BAR_MAX};
	struct bench_summary s;

	(void)state;
	assert_int_equal(bench_row_add(&row, 20, 10, 11), 0);
	assert_int_equal(bench_row_add(&row, 500, 10, 8), 0);
	assert_int_equal(bench_row_add(&row, 19, 10, 10), 0);

	bench_row_summary(&row, &s);

	assert_true(near(s.ours, 20) && near(s.baseline, 10));
	assert_true(near(s.ratio, 2) && near(s.aa, 1) && near(s.noise, 0.1));
	assert_true(s.ok);
}

static void summary__bars_of_both_kinds(void **state)
{
	struct bench_row row = {.name = "x", .bar = 0.9, .bar_is = BENCH_BAR_MIN};
	struct bench_summary s;

	(void)state;
	assert_int_equal(bench_row_add(&row, 8, 10, 10), 0);
	bench_row_summary(&row, &s);
	assert_false(s.ok);
	row.bar_is = BENCH_BAR_MAX;
	bench_row_summary(&row, &s);
	assert_true(s.ok);
	row.bar = 0.7;
	bench_row_summary(&row, &s);
	assert_false(s.ok);
	row.bar = BENCH_NO_BAR;
	bench_row_summary(&row, &s);
	assert_true(s.ok);
}

static void row_add__impossible_figures(void **state)
{
	static const double bad[][3] = {
		{-1, 1, 1}, {1, 0, 1}, {1, 1, 0}, {(double)NAN, 1, 1}, {1, (double)INFINITY, 1},
	};
	struct bench_row row = {.name = "x", .bar = BENCH_NO_BAR};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(bench_row_add(&row, bad[i][0], bad[i][1], bad[i][2]), -ERANGE);
	assert_int_equal(row.pairs, 0);
}

/* The whole reply's length is known as soon as its head is there, and not before. */
static void check_need(enum load_protocol protocol, const char *reply, size_t head_len, size_t want)
{
	const uint8_t *in = (const uint8_t *)reply;

	for (size_t len = 1; len <= strlen(reply); len++) {
		size_t need = 1;

		assert_int_equal(wire_need(protocol, in, len, &need), 0);
		assert_int_equal(need, len < head_len ? 0 : want);
	}
}

static void wire__http_reply_in_pieces(void **state)
{
	static const char text[] =
		"HTTP/1.1 404 Not Found\r\nX: y\r\ncontent-length: 5\r\n\r\nhello";
	struct load_reply reply;

	(void)state;
	check_need(LOAD_HTTP, text, sizeof(text) - 6, sizeof(text) - 1);
	wire_reply(LOAD_HTTP, (const uint8_t *)text, sizeof(text) - 1, &reply);
	assert_int_equal(reply.status, 404);
	assert_int_equal(reply.body_len, 5);
	assert_memory_equal(reply.body, "hello", 5);
}

static void wire__resp_replies(void **state)
{
	static const char bulk[] = "$5\r\nhello\r\n";
	static const char error[] = "-ERR no\r\n";
	struct load_reply reply;

	(void)state;
	check_need(LOAD_RESP, bulk, 4, sizeof(bulk) - 1);
	check_need(LOAD_RESP, "+OK\r\n", 5, 5);
	wire_reply(LOAD_RESP, (const uint8_t *)bulk, sizeof(bulk) - 1, &reply);
	assert_int_equal(reply.status, 200);
	assert_int_equal(reply.body_len, 5);
	assert_memory_equal(reply.body, "hello", 5);
	wire_reply(LOAD_RESP, (const uint8_t *)error, sizeof(error) - 1, &reply);
	assert_int_equal(reply.status, 500);
}

static void wire__unreadable(void **state)
{
	static const struct {
		enum load_protocol protocol;
		const char *text;
	} bad[] = {
		{LOAD_HTTP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{LOAD_HTTP, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"},
		{LOAD_HTTP, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{LOAD_RESP, "$-1\r\n"},
		{LOAD_RESP, ":1\r\n"},
	};
	size_t need;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(wire_need(bad[i].protocol, (const uint8_t *)bad[i].text,
					   strlen(bad[i].text), &need),
				 -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(median__odd_and_even),
		cmocka_unit_test(summary__ratio_and_noise),
		cmocka_unit_test(summary__bars_of_both_kinds),
		cmocka_unit_test(row_add__impossible_figures),
		cmocka_unit_test(wire__http_reply_in_pieces),
		cmocka_unit_test(wire__resp_replies),
		cmocka_unit_test(wire__unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
