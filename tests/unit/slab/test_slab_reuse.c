/* SPDX-License-Identifier: Apache-2.0 */
/* When a freed slab comes back, and how; what the model does not see (slab_model.h). */
#include "tests/unit/slab/slab_fixture.h"

#define DELAY_FREES 4096
#define DELAY_MS    1000

TEST(alloc_many__largest_batch)
{
	struct maas_slab *slab = POOL(MAAS_SLAB_MAX_BATCH * 64 / 4096 * 4096 + 4096, 4096, 64);
	struct maas_slab_ref *refs = calloc(MAAS_SLAB_MAX_BATCH, sizeof(*refs));

	assert_non_null(refs);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(
			maas_slab_alloc_many(slab, 64, MAAS_SLAB_MAX_BATCH, &no_label, refs), 0);
		for (uint32_t i = 0; i < MAAS_SLAB_MAX_BATCH; i++) {
			struct maas_slab_info info = pool_get(slab, refs[i]);

			assert_true(bytes_are_zero(info.bytes, info.slab_bytes));
			memset(info.bytes, 0xff, info.slab_bytes);
		}
		maas_slab_check(slab);
		for (uint32_t i = 0; i < MAAS_SLAB_MAX_BATCH; i++)
			pool_free(slab, refs[i]);
		maas_slab_check(slab);
	}
	free(refs);
}

/* Churns one slab at a time until the bytes at `offset` are lent again; counts the frees. */
static uint32_t frees_until_reuse(struct maas_slab *slab, uint64_t offset, uint32_t max_frees)
{
	for (uint32_t frees = 0; frees <= max_frees; frees++) {
		struct maas_slab_ref ref = pool_alloc(slab, 64);

		if (pool_get(slab, ref).offset == offset)
			return frees;
		pool_free(slab, ref);
	}
	return UINT32_MAX;
}

TEST(free__reuse_is_late_by_count)
{
	uint64_t took_ms;
	uint32_t frees;

	/* A machine that stalls a second makes early reuse right: then the run says nothing. */
	do {
		struct maas_slab *slab = POOL(4 * MIB, 4096, 64);
		struct maas_slab_ref ref = pool_alloc(slab, 64);
		uint64_t offset = pool_get(slab, ref).offset;
		uint64_t start_ms = maas_clock_ms();

		pool_alloc(slab, 64); /* the extent stays */
		pool_free(slab, ref);
		frees = frees_until_reuse(slab, offset, 8 * DELAY_FREES);
		took_ms = maas_clock_ms() - start_ms;
		pool_close(slab);
	} while (took_ms >= DELAY_MS);

	assert_in_range(frees, DELAY_FREES - 1, 8 * DELAY_FREES);
}

TEST(free__churn_without_housekeeping_stays_small)
{
	struct maas_slab *slab = POOL(64 * MIB, 4096, 64);

	for (int i = 0; i < 200000; i++)
		pool_free(slab, pool_alloc(slab, 64));
	assert_in_range(pool_stats(slab).extents_used, 0, 2 * DELAY_FREES / 64 + 2);
}

/* `after_ms`: when a slab is freed, counted from a call of housekeeping. */
static void expect_wait(uint64_t after_ms)
{
	struct maas_slab *slab = POOL(MIB, 4096, 64, 1024);
	struct maas_slab_ref ref = pool_alloc(slab, 1024);
	uint64_t start_ms = maas_clock_ms();
	uint64_t freed_ms = start_ms + after_ms, back_ms = 0;
	struct maas_slab_stats stats;

	pool_alloc(slab, 1024);
	for (uint64_t now_ms = start_ms; !back_ms; now_ms += 50) {
		uint64_t zeroed;

		if (now_ms == freed_ms)
			pool_free(slab, ref);
		zeroed = maas_slab_reclaim(slab, now_ms, MIB);
		if (zeroed)
			back_ms = now_ms;
		else if (now_ms >= freed_ms)
			assert_int_equal(pool_stats(slab).classes[1].waiting_slabs, 1);
		assert_int_equal(zeroed, back_ms ? 1024 : 0);
	}
	assert_in_range(back_ms - freed_ms, DELAY_MS, 2 * DELAY_MS);
	stats = pool_stats(slab);
	assert_int_equal(stats.classes[1].waiting_slabs, 0);
	assert_int_equal(stats.classes[1].free_slabs, 3);
	pool_close(slab);
}

TEST(reclaim__waits_one_to_two_seconds)
{
	for (uint64_t after_ms = 0; after_ms <= 2000; after_ms += 50)
		expect_wait(after_ms);
}

TEST(reclaim__keeps_its_byte_budget)
{
	struct maas_slab *slab = POOL(MIB, 4096, 64, 1024);
	uint64_t now_ms = maas_clock_ms();
	struct maas_slab_ref refs[20];

	for (int i = 0; i < 20; i++)
		refs[i] = pool_alloc(slab, 1024);
	for (int i = 0; i < 20; i++)
		pool_free(slab, refs[i]);
	assert_int_equal(maas_slab_reclaim(slab, now_ms, MIB), 0);
	now_ms += DELAY_MS;
	assert_int_equal(maas_slab_reclaim(slab, now_ms, 0), 1024);
	assert_int_equal(maas_slab_reclaim(slab, now_ms, 1), 1024);
	assert_in_range(maas_slab_reclaim(slab, now_ms, 4500), 1024, 4500);
	assert_int_equal(maas_slab_reclaim(slab, now_ms, 4096), 4096);
	while (maas_slab_reclaim(slab, now_ms, 4500))
		;
	assert_int_equal(pool_stats(slab).classes[1].waiting_slabs, 0);
	assert_int_equal(pool_stats(slab).extents_used, 0);
}

TEST(reclaim__zeroes_what_was_written_after_the_free)
{
	struct maas_slab *slab = POOL(8192, 4096, 4096);
	struct maas_slab_info info = pool_get(slab, pool_alloc(slab, 4096));

	pool_free(slab, info.ref);
	memset(info.bytes, 0xee, 4096); /* a late packet */
	pool_settle(slab);
	for (int i = 0; i < 2; i++)
		pool_take(slab, 4096);
}

TEST_MAIN(NULL, pools_close)
