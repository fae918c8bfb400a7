/* SPDX-License-Identifier: Apache-2.0 */
/* The map of a pool says what each extent is carved for, and how full it is. */
#include "tests/unit/slab/slab_fixture.h"

static struct maas_slab_map map;

/* The map, of so many entries that say something. */
static void draw(struct maas_slab *slab, uint32_t count)
{
	assert_int_equal(maas_slab_map_start(slab, &map), 0);
	while (maas_slab_map_next(slab, &map))
		;
	assert_int_equal(map.count, count);
}

static void expect_entry(uint32_t at, uint64_t slab_bytes, uint64_t slabs, uint64_t taken,
			 uint64_t taken_bytes)
{
	assert_int_equal(map.entries[at].slab_bytes, slab_bytes);
	assert_int_equal(map.entries[at].slabs, slabs);
	assert_int_equal(map.entries[at].taken, taken);
	assert_int_equal(map.entries[at].taken_bytes, taken_bytes);
}

TEST(map__of_an_empty_pool)
{
	draw(POOL(MIB, 64 * KIB, 1024, 65536), 0);
	assert_int_equal(map.extents, 16);
	assert_int_equal(map.per_entry, 1);
	expect_entry(0, 0, 0, 0, 0);
}

TEST(map__follows_what_is_lent_and_freed)
{
	struct maas_slab *slab = POOL(MIB, 64 * KIB, 1024, 65536);
	struct maas_slab_ref small = pool_alloc(slab, 1000), large = pool_alloc(slab, 65536);

	pool_alloc(slab, 10);
	draw(slab, 2);
	expect_entry(0, 1024, 64, 2, 2048);
	expect_entry(1, 65536, 1, 1, 65536);
	/* What waits for its reuse is taken still. */
	pool_free(slab, small);
	pool_free(slab, large);
	draw(slab, 2);
	expect_entry(0, 1024, 64, 2, 2048);
	expect_entry(1, 65536, 1, 1, 65536);
	pool_settle(slab);
	draw(slab, 1);
	expect_entry(0, 1024, 64, 1, 1024);
	expect_entry(1, 0, 0, 0, 0);
}

/* 4,096 extents: an entry stands for four of them. */
TEST(map__joins_neighbours_in_a_large_pool)
{
	struct maas_slab *slab = POOL(16 * MIB, 4096, 1024, 4096);
	uint64_t taken_bytes = 0;

	for (int i = 0; i < 3; i++)
		pool_alloc(slab, 4096);
	pool_alloc(slab, 1);
	for (int i = 0; i < 4; i++)
		pool_alloc(slab, 4096);
	draw(slab, 2);
	assert_int_equal(map.extents, 4096);
	assert_int_equal(map.per_entry, 4);
	expect_entry(0, 0, 3 + 4, 3 + 1, 3 * 4096 + 1024);
	expect_entry(1, 4096, 4, 4, 4 * (uint64_t)4096);
	while (pool_stats(slab).extents_used < 4096)
		pool_alloc(slab, 4096);
	draw(slab, MAAS_SLAB_MAP_ENTRIES);
	for (uint32_t i = 0; i < map.count; i++)
		taken_bytes += map.entries[i].taken_bytes;
	assert_int_equal(taken_bytes, pool_stats(slab).live_bytes);
}

/* Nothing of a pool of 2^21 extents is touched for it. */
TEST(map__of_too_many_extents_is_refused)
{
	struct maas_slab *slab = POOL(8192 * MIB, 4096, 1024, 4096);

	assert_int_equal(maas_slab_map_start(slab, &map), -E2BIG);
}

TEST_MAIN(NULL, pools_close)
