/* SPDX-License-Identifier: Apache-2.0 */
/* Operations submitted now and completed later, against a real maasd. */
#include <poll.h>

#include "base/base.h"
#include "tests/unit/client/client_crowd.h"
#include "tests/unit/client/client_fixture.h"

#define OPS   200
#define BYTES 4096

static bool readable(void)
{
	struct pollfd wait = {.fd = maas_event_fd(maas), .events = POLLIN};

	return poll(&wait, 1, 0) == 1;
}

/* Takes `count` completions, all good, each `user` once. */
static void expect_completions(uint32_t count, bool *seen)
{
	struct maas_completion at[16];

	while (count) {
		int n = maas_poll(maas, at, MAAS_ARRAY_SIZE(at), 10000);

		assert_true(n > 0);
		assert_true((uint32_t)n <= count);
		for (int i = 0; i < n; i++) {
			size_t index = (size_t)(uintptr_t)at[i].user;

			if (at[i].status)
				fail_msg("%s", at[i].error);
			assert_string_equal(at[i].error, "");
			assert_true(index < OPS);
			assert_false(seen[index]);
			seen[index] = true;
		}
		count -= (uint32_t)n;
	}
}

TEST(submit__many_in_flight)
{
	static unsigned char out[OPS][BYTES];
	static unsigned char in[OPS][BYTES];
	static struct maas_allocation at[OPS];
	const char *ids[OPS];
	bool seen[2][OPS] = {{false}};
	struct maas_completion none;

	assert_int_equal(maas_alloc_many(maas, BYTES, OPS, NULL, at), 0);
	for (size_t i = 0; i < OPS; i++) {
		struct maas_range range = {at[i].id, 0, out[i], BYTES};

		ids[i] = at[i].id;
		memset(out[i], (int)i + 1, BYTES);
		assert_int_equal(maas_submit_write(maas, &range, 1, 0, (void *)i), 0);
	}
	expect_completions(OPS, seen[0]);
	for (size_t i = 0; i < OPS; i++) {
		struct maas_range range = {at[i].id, 0, in[i], BYTES};

		assert_int_equal(maas_submit_read(maas, &range, 1, 0, (void *)i), 0);
	}
	expect_completions(OPS, seen[1]);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(maas_poll(maas, &none, 1, -1), 0);
	assert_false(readable());
	assert_int_equal(maas_free_many(maas, ids, OPS, NULL), OPS);
}

TEST(submit__several_ranges_at_once)
{
	char out[2][5] = {"abcd", "wxyz"};
	char in[2][5] = {"", ""};
	struct maas_allocation at[2];
	struct maas_range ranges[2];

	assert_int_equal(maas_alloc_many(maas, 100, 2, NULL, at), 0);
	for (int i = 0; i < 2; i++)
		ranges[i] = (struct maas_range){at[i].id, 50, out[i], 4};
	assert_int_equal(maas_submit_write(maas, ranges, 2, 0, NULL), 0);
	client_done(0);
	ranges[0].buf = in[0];
	ranges[1].buf = in[1];
	assert_int_equal(maas_submit_read(maas, ranges, 2, 0, ranges), 0);
	assert_ptr_equal(client_done(0).user, ranges);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(maas_free(maas, at[0].id), 0);
	assert_int_equal(maas_free(maas, at[1].id), 0);
}

TEST(submit__errors_come_as_completions)
{
	char byte[2] = "x";
	struct maas_range range = {SOME_ID, 0, byte, 1};
	struct maas_allocation at = client_alloc(maas, 1);
	struct maas_completion completion;

	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	completion = client_done(-ENOENT);
	assert_non_null(strstr(completion.error, "no allocation"));
	range.id = at.id;
	range.len = 2;
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	client_done(-ERANGE);
	assert_int_equal(maas_free(maas, at.id), 0);

	assert_int_equal(maas_submit_read(maas, &range, 0, 0, NULL), -EINVAL);
	range.id = "a/b";
	assert_int_equal(maas_submit_write(maas, &range, 1, 0, NULL), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 0, 0), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 1, -2), -EINVAL);
}

TEST(event_fd__is_readable_while_there_are_completions)
{
	char byte = 'x';
	struct maas_allocation at = client_alloc(maas, 2);
	struct maas_range range = {at.id, 0, &byte, 1};
	struct maas_completion none;
	struct pollfd wait = {.fd = maas_event_fd(maas), .events = POLLIN};

	assert_false(readable());
	/* Each its own byte: two writers of one are a race in the server. */
	for (; range.offset < 2; range.offset++)
		assert_int_equal(maas_submit_write(maas, &range, 1, 0, NULL), 0);
	assert_int_equal(poll(&wait, 1, 10000), 1);
	client_done(0);
	client_done(0);
	assert_false(readable());
	assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
	assert_int_equal(maas_free(maas, at.id), 0);
}

/* ---- a server that does not answer */

TEST(submit__each_has_its_own_timeout)
{
	struct maas_completion none;
	char byte;
	struct maas_range range = {"a", 0, &byte, 1};
	uint64_t start_ms = maas_clock_ms();

	client_end();
	stub_open("", OPTIONS(.max_connections = 2));
	assert_int_equal(maas_submit_read(maas, &range, 1, 600, (void *)3), 0);
	assert_int_equal(maas_submit_read(maas, &range, 1, 300, (void *)2), 0);
	/* No connection is left for this one. */
	assert_int_equal(maas_submit_read(maas, &range, 1, 100, (void *)1), 0);
	assert_int_equal(maas_poll(maas, &none, 1, 10), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		assert_ptr_equal(client_done(-ETIMEDOUT).user, (void *)i);
	assert_in_range(maas_clock_ms() - start_ms, 590, 5000);
	stub_stop();
}

TEST(submit__a_limit_and_a_close_under_way)
{
	struct maas_buffer *buffer;
	char bytes[10];
	struct maas_range range = {"a", 0, bytes, 1};

	client_end();
	stub_open("", OPTIONS(.max_connections = 2, .max_submitted = 5));
	assert_int_equal(maas_buffer_register(maas, bytes, sizeof(bytes), &buffer), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), -EAGAIN);
	assert_int_equal(maas_buffer_unregister(maas, buffer), -EBUSY);
	AWAIT(stub_requests() > 0);
	stub_stop();
}

/* ---- buffers */

TEST(buffer__bookkeeping)
{
	static char bytes[100];
	struct maas_allocation at = client_alloc(maas, 80);
	struct maas_range range = {at.id, 0, bytes + 10, 80};
	struct maas_buffer *first;
	struct maas_buffer *second;

	assert_int_equal(maas_buffer_register(maas, NULL, 1, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 0, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, SIZE_MAX, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 90, &first), 0);
	assert_int_equal(maas_buffer_register(maas, bytes + 89, 1, &second), -EEXIST);
	assert_int_equal(maas_buffer_register(maas, bytes + 90, 10, &second), 0);
	assert_int_equal(maas_submit_write(maas, &range, 1, 0, NULL), 0);
	client_done(0);
	assert_int_equal(maas_buffer_unregister(maas, first), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), -ENOENT);
	assert_int_equal(maas_free(maas, at.id), 0);
}

/* ---- threads that submit and threads that poll */

TEST(threads__submit_and_poll)
{
	char bytes[16] = "x";
	struct maas_allocation at = client_alloc(maas, sizeof(bytes) * CROWD_PAIRS * CROWD_OPS);
	struct maas_range range = {at.id, 0, bytes, sizeof(bytes)};

	crowd_run(maas, &range);
	assert_int_equal(maas_free(maas, at.id), 0);
}

TEST_MAIN(server_open, client_end_empty)
