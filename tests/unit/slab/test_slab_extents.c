/* SPDX-License-Identifier: Apache-2.0 */
/* Extents return to the common pool when load falls, and serve other classes then. */
#include "tests/unit/slab/slab_fixture.h"

#include "tests/counts.h"
#include "tests/random.h"

#define KEEP_PERCENT   20
#define RETURN_PERCENT 70
#define TURNOVERS      12  /* how often, on average, a slab is replaced while load is low */
#define MAX_SPREAD     125 /* percent of its slabs' bytes that a pool may hold */
#define FREES_PER_SEC  5   /* for each MiB of the pool: at low load all is new every 11 s */

struct load {
	struct maas_slab *slab;
	struct maas_slab_ref *refs;
	uint64_t count;
	uint64_t random;
	uint64_t frees;
	uint64_t frees_per_step; /* of 250 ms */
	uint64_t now_ms;
	const uint64_t *sizes;
	size_t num_sizes;
};

static int load_add(struct load *load)
{
	uint64_t size = load->sizes[test_random_below(&load->random, load->num_sizes)];
	int r = maas_slab_alloc(load->slab, size, &no_label, &load->refs[load->count]);

	if (!r)
		load->count++;
	else
		assert_int_equal(r, -ENOSPC);
	return r;
}

/* Frees one at random; time passes as it would at FREES_PER_SEC, and housekeeping runs. */
static void load_drop(struct load *load)
{
	uint64_t pick = test_random_below(&load->random, load->count);

	pool_free(load->slab, load->refs[pick]);
	load->refs[pick] = load->refs[--load->count];
	if (++load->frees % load->frees_per_step == 0)
		maas_slab_reclaim(load->slab, load->now_ms += 250, 64 * MIB);
}

/*
 * Free slabs are not spread over many extents. Each class is filling one
 * besides, which in a small pool is no small part of it.
 */
static void expect_packed(struct maas_slab *slab)
{
	struct maas_slab_stats stats = pool_stats(slab);
	uint64_t held = 0, taken = 0;
	uint64_t filling = stats.num_classes * stats.extent_bytes;

	for (unsigned int i = 0; i < stats.num_classes; i++) {
		const struct maas_slab_class_stats *c = &stats.classes[i];

		held += c->pool_bytes;
		taken += (c->used_slabs + c->waiting_slabs) * c->slab_bytes;
	}
	print_message("held %llu MiB for %llu MiB of slabs\n", (unsigned long long)(held / MIB),
		      (unsigned long long)(taken / MIB));
	assert_in_range(held, 0, taken * MAX_SPREAD / 100 + filling);
}

static void expect_extents_back(uint64_t extent_bytes, const uint64_t *sizes, size_t num_sizes)
{
	uint64_t max_bytes = count_slab_fill_mib() * MIB;
	struct load load = {
		.slab = pool_open(max_bytes, extent_bytes, sizes, num_sizes),
		.refs = calloc(max_bytes / sizes[0], sizeof(struct maas_slab_ref)),
		.random = maas_test_seed_told(),
		.now_ms = maas_clock_ms(),
		.frees_per_step = count_slab_fill_mib() * FREES_PER_SEC / 4,
		.sizes = sizes,
		.num_sizes = num_sizes,
	};
	uint64_t full, low_bytes, extents_full, extents_low;

	assert_non_null(load.refs);
	while (!load_add(&load))
		;
	full = load.count;
	extents_full = pool_stats(load.slab).extents_used;
	low_bytes = pool_stats(load.slab).live_bytes * KEEP_PERCENT / 100;
	assert_true(extents_full * 100 > pool_stats(load.slab).extents_total * 95);

	while (pool_stats(load.slab).live_bytes > low_bytes) {
		load_drop(&load);
		if (load.frees % 3 == 0)
			(void)load_add(&load); /* a full pool may refuse it at first */
	}
	for (uint64_t i = 0; i < full * KEEP_PERCENT / 100 * TURNOVERS; i++) {
		while (pool_stats(load.slab).live_bytes > low_bytes)
			load_drop(&load);
		assert_int_equal(load_add(&load), 0);
	}
	expect_packed(load.slab);
	pool_settle_at(load.slab, load.now_ms + 1000);

	extents_low = pool_stats(load.slab).extents_used;
	print_message("extents %llu full, %llu at %d %%\n", (unsigned long long)extents_full,
		      (unsigned long long)extents_low, KEEP_PERCENT);
	assert_in_range(extents_low, 1, extents_full * (100 - RETURN_PERCENT) / 100 + num_sizes);
	pool_close(load.slab);
	free(load.refs);
}

TEST(extents__come_back)
{
	expect_extents_back(64 * KIB, CLASSES(KIB, 2 * KIB, 4 * KIB, 8 * KIB));
	expect_extents_back(512 * KIB, CLASSES(KIB, 2 * KIB, 4 * KIB, 8 * KIB));
	expect_extents_back(MIB, CLASSES(2 * KIB, 8 * KIB, 64 * KIB, MIB));
}

/* Lends every byte that `size_bytes` slabs can have, and takes all of it back. */
static void fill_and_free(struct maas_slab *slab, uint64_t size_bytes, struct maas_slab_ref *refs)
{
	struct maas_slab_stats stats = pool_stats(slab);
	uint64_t room = stats.extents_total * (stats.extent_bytes / size_bytes);

	for (uint64_t i = 0; i < room; i++) {
		struct maas_slab_info info = pool_take(slab, size_bytes);

		refs[i] = info.ref;
		memset(info.bytes, 0x5a, info.slab_bytes);
	}
	assert_int_equal(pool_try_alloc(slab, size_bytes), -ENOSPC);
	maas_slab_check(slab);
	for (uint64_t i = 0; i < room; i++)
		pool_free(slab, refs[i * 7919 % room]);
}

/* 7919 is a prime and no factor of any room here, so every slab is freed once. */
TEST(extents__yesterdays_sizes_do_not_starve_todays)
{
	struct maas_slab *slab = POOL(4 * MIB, 64 * KIB, KIB, 4 * KIB, 24 * KIB, 64 * KIB);
	struct maas_slab_ref *refs = calloc(4 * KIB, sizeof(*refs));
	uint64_t now_ms = maas_clock_ms();
	static const uint64_t sizes[] = {KIB, 64 * KIB, 4 * KIB, 24 * KIB, KIB, 24 * KIB, 4 * KIB};

	assert_non_null(refs);
	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(sizes); i++) {
		fill_and_free(slab, sizes[i % MAAS_ARRAY_SIZE(sizes)], refs);
		if (i % 2)
			now_ms = pool_settle_at(slab, now_ms);
	}
	pool_settle_at(slab, now_ms);
	assert_int_equal(pool_stats(slab).extents_used, 0);
	maas_slab_check(slab);
	free(refs);
}

TEST(extents__one_lent_slab_holds_one_extent)
{
	struct maas_slab *slab = POOL(64 * KIB, 4096, 64, 4096);
	struct maas_slab_ref refs[1024];

	for (int i = 0; i < 1024; i++)
		refs[i] = pool_alloc(slab, 64);
	for (int i = 0; i < 1024; i++) {
		if (pool_get(slab, refs[i]).offset % 8192 != 4096)
			pool_free(slab, refs[i]);
	}
	pool_settle(slab);

	assert_int_equal(pool_stats(slab).extents_used, 8);
	for (int i = 0; i < 8; i++)
		pool_alloc(slab, 4096);
	assert_int_equal(pool_try_alloc(slab, 4096), -ENOSPC);
}

TEST_MAIN(NULL, pools_close)
