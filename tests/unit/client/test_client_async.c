/* SPDX-License-Identifier: Apache-2.0 */
/* Operations submitted now and completed later, against a real maasd. */
#include "tests/unit/client/client_fixture.h"

#define OPS   200
#define BYTES 4096

TEST(submit__many_in_flight)
{
	static unsigned char out[OPS][BYTES];
	static unsigned char in[OPS][BYTES];
	static struct maas_allocation at[OPS];
	unsigned int done[OPS] = {0};
	struct maas_completion none;

	assert_int_equal(maas_alloc_many(maas, BYTES, OPS, NULL, at), 0);
	for (size_t i = 0; i < OPS; i++) {
		memset(out[i], (int)i + 1, BYTES);
		submit_write(RANGE(at[i].id, 0, out[i], BYTES), 0, &done[i]);
	}
	client_take(OPS, 0);
	for (size_t i = 0; i < OPS; i++)
		submit_read(RANGE(at[i].id, 0, in[i], BYTES), 0, &done[i]);
	client_take(OPS, 0);
	for (size_t i = 0; i < OPS; i++)
		assert_int_equal(done[i], 2);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(maas_poll(maas, &none, 1, -1), 0);
	assert_false(client_readable(0));
	client_free(at, OPS);
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
	client_free(at, 2);
}

TEST(submit__errors_come_as_completions)
{
	char byte[2] = "x";
	struct maas_allocation at = client_alloc(maas, 1);
	struct maas_completion completion;

	submit_read(RANGE(SOME_ID, 0, byte, 1), 0, NULL);
	assert_non_null(strstr(client_done(-ENOENT).error, "no allocation"));
	submit_read(RANGE(at.id, 0, byte, 2), 0, NULL);
	client_done(-ERANGE);
	client_free(&at, 1);

	assert_int_equal(maas_submit_read(maas, RANGE(at.id, 0, byte, 2), 0, 0, NULL), -EINVAL);
	assert_int_equal(maas_submit_write(maas, RANGE("a/b", 0, byte, 2), 1, 0, NULL), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 0, 0), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 1, -2), -EINVAL);
}

TEST(event_fd__is_readable_while_there_are_completions)
{
	char byte = 'x';
	struct maas_allocation at = client_alloc(maas, 2);
	struct maas_completion none;

	assert_false(client_readable(0));
	/* Each its own byte: two writers of one are a race in the server. */
	submit_write(RANGE(at.id, 0, &byte, 1), 0, NULL);
	submit_write(RANGE(at.id, 1, &byte, 1), 0, NULL);
	assert_true(client_readable(10000));
	client_done(0);
	client_done(0);
	assert_false(client_readable(0));
	assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
	client_free(&at, 1);
}

/* ---- a server that does not answer */

TEST(submit__each_has_its_own_timeout)
{
	struct maas_completion none;
	char byte;
	const struct maas_range *range = RANGE("a", 0, &byte, 1);
	uint64_t start_ms = maas_clock_ms();

	client_end();
	stub_open("", OPTIONS(.max_connections = 2));
	submit_read(range, 600, (void *)3);
	submit_read(range, 300, (void *)2);
	/* No connection is left for this one. */
	submit_read(range, 100, (void *)1);
	assert_int_equal(maas_poll(maas, &none, 1, 10), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		assert_ptr_equal(client_done(-ETIMEDOUT).user, (void *)i);
	assert_in_range(maas_clock_ms() - start_ms, 590, 5000);
}

TEST(submit__a_limit_and_a_close_under_way)
{
	struct maas_buffer *buffer;
	char bytes[10];
	const struct maas_range *range = RANGE("a", 0, bytes, 1);

	client_end();
	stub_open("", OPTIONS(.max_connections = 2, .max_submitted = 5));
	assert_int_equal(maas_buffer_register(maas, bytes, sizeof(bytes), &buffer), 0);
	for (int i = 0; i < 5; i++)
		submit_read(range, 0, NULL);
	assert_int_equal(maas_submit_read(maas, range, 1, 0, NULL), -EAGAIN);
	assert_int_equal(maas_buffer_unregister(maas, buffer), -EBUSY);
	AWAIT(stub.connections > 0);
	listener_stop(&stub);
}

TEST(buffer__bookkeeping)
{
	static char bytes[100];
	struct maas_allocation at = client_alloc(maas, 80);
	struct maas_buffer *first, *second;

	assert_int_equal(maas_buffer_register(maas, NULL, 1, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 0, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, SIZE_MAX, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 90, &first), 0);
	assert_int_equal(maas_buffer_register(maas, bytes + 89, 1, &second), -EEXIST);
	assert_int_equal(maas_buffer_register(maas, bytes + 90, 10, &second), 0);
	submit_write(RANGE(at.id, 0, bytes + 10, 80), 0, NULL);
	client_done(0);
	assert_int_equal(maas_buffer_unregister(maas, first), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), -ENOENT);
	client_free(&at, 1);
}

TEST(threads__submit_and_poll)
{
	char bytes[16] = "x";
	struct maas_allocation at = client_alloc(maas, sizeof(bytes) * CROWD_OPS);

	crowd_run(RANGE(at.id, 0, bytes, sizeof(bytes)));
	client_free(&at, 1);
}

TEST_MAIN(server_open, client_end_empty)
