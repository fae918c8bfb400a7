/* SPDX-License-Identifier: Apache-2.0 */
/* The cost of a transfer on a warm path: work requests, doorbells, memory, locks, system calls. */
#include "tests/fake/costs.h"
#include "tests/unit/client/client_rdma.h"

#define RANGES 100

static char plain[LAN_LARGEST]; /* not registered */

static struct fake_counts before;

static void measure(void)
{
	before = fake_counts();
	costs_begin();
}

/* Returns 0, after one doorbell, one signalled completion, no memory, no lock twice, no system
 * call. */
#define EXPECT(call, requests, inlined) (measure(), check(call, requests, inlined))

static void check(int r, unsigned long requests, unsigned long inlined)
{
	struct costs costs = costs_end();
	struct fake_counts after = fake_counts();

	assert_int_equal(r, 0);
	assert_int_equal(after.doorbells - before.doorbells, 1);
	assert_int_equal(after.requests - before.requests, requests);
	assert_int_equal(after.signalled - before.signalled, 1);
	assert_int_equal(after.inlined - before.inlined, inlined);
	assert_int_equal(costs.memory, 0);
	assert_int_equal(costs.repeated, 0);
	if (COSTS_SEES_LOCKS)
		assert_int_equal(costs.locks, 1);
	assert_int_equal(costs.calls, 0);
}

/* Writes and reads back `len` bytes at `from`, with one request each. */
static void write_and_read(char *from, size_t len)
{
	char value = (char)(len / 100 + 1);

	memset(from, value, len);
	EXPECT(maas_write(maas, memory.id, 0, from, len), 1, 0);
	memset(from, 0, len);
	EXPECT(maas_read(maas, memory.id, 0, from, len), 1, 0);
	assert_int_equal(from[0], value);
	assert_int_equal(from[len - 1], value);
}

TEST(one__of_a_registered_buffer)
{
	begin();
	write_and_read(bytes, 1024);
	write_and_read(bytes, PIECE);
	write_and_read(bytes, 65536);
	write_and_read(bytes, LAN_LARGEST);
}

TEST(one__that_is_inline)
{
	begin();
	memset(plain, 'i', 96);
	EXPECT(maas_write(maas, memory.id, 8, plain, 96), 1, 1);
	assert_int_equal(maas_read(maas, memory.id, 0, bytes, 128), 0);
	assert_memory_equal(bytes + 7, "ai", 2);
	assert_memory_equal(bytes + 103, "ia", 2);
}

TEST(one__that_is_copied)
{
	begin();
	write_and_read(plain, 97);
	write_and_read(plain, PIECE);
	write_and_read(plain, 65536);
}

TEST(batch__of_many_ranges)
{
	struct maas_range ranges[RANGES];

	begin();
	for (unsigned int i = 0; i < RANGES; i++) {
		memset(&bytes[i * 1024ul], (int)i + 1, 1024);
		ranges[i] = (struct maas_range){memory.id, i * 2048ull, &bytes[i * 1024ul], 1024};
	}
	/* Memory for so many ranges is kept from the first time on. */
	assert_int_equal(maas_writev(maas, ranges, RANGES), 0);
	EXPECT(maas_writev(maas, ranges, RANGES), RANGES, 0);
	memset(bytes, 0, RANGES * 1024ul);
	EXPECT(maas_readv(maas, ranges, RANGES), RANGES, 0);
	for (int i = 0; i < RANGES * 1024; i++)
		assert_int_equal(bytes[i], (char)(i / 1024 + 1));
}

TEST(one__larger_than_a_message)
{
	struct fake_rules rules = fake_rules_default();

	rules.max_msg_sz = PIECE;
	begin_with(&rules, "auto", NULL);
	for (size_t i = 0; i < 65536; i++)
		bytes[i] = (char)(i / PIECE + i);
	/* Memory for so many pieces is kept from the first time on. */
	assert_int_equal(maas_write(maas, memory.id, 0, bytes, 65536), 0);
	EXPECT(maas_write(maas, memory.id, 0, bytes, 65536), 65536 / PIECE, 0);
	memcpy(plain, bytes, 65536);
	memset(bytes, 0, 65536);
	EXPECT(maas_read(maas, memory.id, 0, bytes, 65536), 65536 / PIECE, 0);
	assert_memory_equal(bytes, plain, 65536);
	/* Copied, the pieces are as small. */
	assert_int_equal(maas_write(maas, memory.id, 1, plain, 65536), 0);
	assert_int_equal(maas_read(maas, memory.id, 1, bytes, 65536), 0);
	assert_memory_equal(bytes, plain, 65536);
}

TEST(one__larger_than_is_copied)
{
	unsigned int regions;

	begin();
	regions = fake_live().mrs;
	memset(plain, 'p', LAN_LARGEST);
	assert_int_equal(maas_write(maas, memory.id, 0, plain, LAN_LARGEST), 0);
	assert_int_equal(maas_read(maas, memory.id, 0, bytes, LAN_LARGEST), 0);
	assert_memory_equal(bytes, plain, LAN_LARGEST);
	assert_int_equal(fake_live().mrs, regions);
}

TEST(submitted__one_doorbell_each)
{
	const struct maas_range *range = RANGE(memory.id, 0, bytes, PIECE);
	int user;

	begin();
	for (int i = 0; i < 3; i++) {
		EXPECT(maas_submit_write(maas, range, 1, 0, &user), 1, 0);
		assert_ptr_equal(client_done(0).user, &user);
	}
}

TEST_MAIN(NULL, end)
