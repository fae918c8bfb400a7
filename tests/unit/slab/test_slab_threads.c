/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads on one pool: nobody's bytes are disturbed, no slab is freed twice. */
#include "tests/unit/slab/slab_fixture.h"

#include "tests/counts.h"
#include "tests/random.h"

#define NUM_THREADS 8
#define MAX_OWN	    48
#define NUM_SHARED  64
#define BATCH	    8

struct crowd {
	struct maas_slab *slab;
	atomic_uint_fast64_t shared[NUM_SHARED]; /* refs that any thread may look at and free */
	atomic_uint_fast64_t now_ms;		 /* runs faster than the clock */
	atomic_uint_fast64_t allocations;
	atomic_uint_fast64_t frees;
	atomic_bool is_done;
};

struct own {
	struct maas_slab_info info;
	uint64_t pattern;
};

struct worker {
	struct crowd *crowd;
	uint64_t random;
	uint64_t ops;
	struct own own[MAX_OWN];
	size_t num_own;
};

static const uint64_t sizes[] = {64, 100, 1024, 4000, 16384};

static const struct maas_slab_label label = {.owner = 1};

static uint64_t ref_pack(struct maas_slab_ref ref)
{
	return (uint64_t)ref.slot << 32 | ref.generation;
}

static struct maas_slab_ref ref_unpack(uint64_t packed)
{
	return (struct maas_slab_ref){(uint32_t)(packed >> 32), (uint32_t)packed};
}

/* True: this thread has freed what lay there. */
static bool free_shared(struct crowd *crowd, uint64_t packed)
{
	bool is_freed = packed != UINT64_MAX && !maas_slab_free(crowd->slab, ref_unpack(packed));

	crowd->frees += is_freed;
	return is_freed;
}

static void adopt(struct worker *w, struct maas_slab_ref ref, uint64_t size)
{
	struct own *own = &w->own[w->num_own++];

	CHECK(maas_slab_get(w->crowd->slab, ref, &own->info) == 0);
	CHECK(own->info.size_bytes == size);
	CHECK(bytes_are_zero(own->info.bytes, own->info.slab_bytes));
	own->pattern = test_random(&w->random);
	pattern_write(own->info.bytes, own->info.slab_bytes, own->pattern);
	atomic_fetch_add(&w->crowd->allocations, 1);
}

static void take(struct worker *w)
{
	uint64_t size = sizes[test_random_below(&w->random, MAAS_ARRAY_SIZE(sizes))];
	struct maas_slab_ref refs[BATCH];
	uint32_t count = test_random_below(&w->random, 8) ? 1 : BATCH;
	int r;

	if (w->num_own + count > MAX_OWN)
		return;
	r = maas_slab_alloc_many(w->crowd->slab, size, count, &label, refs);
	CHECK(r == 0 || r == -ENOSPC);
	for (uint32_t i = 0; !r && i < count; i++)
		adopt(w, refs[i], size);
}

static struct own give_up(struct worker *w)
{
	size_t pick = test_random_below(&w->random, w->num_own);
	struct own own = w->own[pick];

	CHECK(pattern_holds(own.info.bytes, own.info.slab_bytes, own.pattern));
	w->own[pick] = w->own[--w->num_own];
	return own;
}

static void give_back(struct worker *w)
{
	struct maas_slab *slab = w->crowd->slab;
	struct own own;

	if (!w->num_own)
		return;
	own = give_up(w);
	if (test_random_below(&w->random, 4)) {
		CHECK(maas_slab_free(slab, own.info.ref) == 0);
	} else {
		CHECK(maas_slab_revoke(slab, own.info.ref) == 0);
		CHECK(maas_slab_quarantine(slab, own.info.ref) == 0);
		CHECK(pattern_holds(own.info.bytes, own.info.slab_bytes, own.pattern));
		CHECK(maas_slab_release(slab, own.info.ref) == 0);
	}
	CHECK(maas_slab_free(slab, own.info.ref) == -ENOENT);
	atomic_fetch_add(&w->crowd->frees, 1);
}

/* Leaves a slab for the next thread, and frees the one that lay there. */
static void swap_shared(struct worker *w)
{
	size_t place = test_random_below(&w->random, NUM_SHARED);
	uint64_t old;

	if (!w->num_own)
		return;
	old = atomic_exchange(&w->crowd->shared[place], ref_pack(give_up(w).info.ref));
	CHECK(free_shared(w->crowd, old) == (old != UINT64_MAX));
}

/* The slab may die at any moment: the answer is whole or -ENOENT. */
static void look_at_shared(struct worker *w)
{
	uint64_t packed = atomic_load(&w->crowd->shared[test_random_below(&w->random, NUM_SHARED)]);
	struct maas_slab_ref ref = ref_unpack(packed);
	struct maas_slab_info info;
	int r = maas_slab_get(w->crowd->slab, ref, &info);

	CHECK(r == 0 || r == -ENOENT);
	if (r)
		return;
	CHECK(ref_pack(info.ref) == packed);
	CHECK(info.size_bytes > 0 && info.size_bytes <= info.slab_bytes);
	CHECK(info.label.owner == 1);
	r = maas_slab_set_ttl(w->crowd->slab, ref, 9);
	CHECK(r == 0 || r == -ENOENT);
}

static void housekeep(struct worker *w)
{
	struct maas_slab *slab = w->crowd->slab;
	struct maas_slab_stats stats;
	struct maas_slab_info info;
	uint64_t cursor = test_random_below(&w->random, 10000);
	int r;
	uint64_t now_ms = atomic_fetch_add(&w->crowd->now_ms, test_random_below(&w->random, 400));

	maas_slab_reclaim(slab, now_ms, 65536);
	maas_slab_stats(slab, &stats);
	CHECK(stats.extents_used <= stats.extents_total);
	CHECK(stats.live_bytes + stats.quarantined_bytes <= stats.max_bytes);
	CHECK(stats.requested_bytes <= stats.live_bytes);
	r = maas_slab_next(slab, &cursor, 50, &info);
	CHECK(r == 1 || r == 0 || r == -ENOENT);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < w->ops; i++) {
		uint64_t roll = test_random_below(&w->random, 100);

		if (roll < 40)
			take(w);
		else if (roll < 75)
			give_back(w);
		else if (roll < 85)
			swap_shared(w);
		else if (roll < 97)
			look_at_shared(w);
		else
			housekeep(w);
	}
	while (w->num_own)
		give_back(w);
	return NULL;
}

static void run_crowd(struct crowd *crowd, void *(*body)(void *), uint64_t ops)
{
	uint64_t seed = maas_test_seed_told();
	struct worker *workers = calloc(NUM_THREADS, sizeof(*workers));

	assert_non_null(workers);
	for (uint64_t i = 0; i < NUM_THREADS; i++) {
		workers[i].crowd = crowd;
		workers[i].ops = ops;
		workers[i].random = seed + i * 1000;
	}
	threads_run(NUM_THREADS, body, workers, sizeof(*workers));
	free(workers);
}

static void crowd_init(struct crowd *crowd, uint64_t max_bytes)
{
	*crowd = (struct crowd){.slab = POOL(max_bytes, 16384, 64, 192, 1024, 4096, 16384)};
	crowd->now_ms = maas_clock_ms();
	for (int i = 0; i < NUM_SHARED; i++)
		atomic_store(&crowd->shared[i], UINT64_MAX);
}

static void crowd_fini(struct crowd *crowd)
{
	struct maas_slab_stats stats;

	for (int i = 0; i < NUM_SHARED; i++)
		assert_int_equal(free_shared(crowd, crowd->shared[i]),
				 crowd->shared[i] != UINT64_MAX);
	maas_slab_check(crowd->slab);
	stats = pool_stats(crowd->slab);
	assert_int_equal(stats.allocations, crowd->allocations);
	assert_int_equal(stats.frees, crowd->frees);
	assert_int_equal(stats.live_slabs + stats.quarantined_bytes + stats.requested_bytes, 0);
	pool_settle_at(crowd->slab, crowd->now_ms + 1000);
	assert_int_equal(pool_stats(crowd->slab).extents_used, 0);
	maas_slab_check(crowd->slab);
	pool_close(crowd->slab);
}

static void work_in(uint64_t max_bytes, uint64_t least)
{
	struct crowd crowd;

	crowd_init(&crowd, max_bytes);
	run_crowd(&crowd, work, count_slab_thread_ops());
	assert_true(crowd.allocations > least);
	crowd_fini(&crowd);
}

TEST(threads__with_room_and_in_a_full_pool)
{
	work_in(16 * MIB, count_slab_thread_ops());
	work_in(256 * KIB, 0);
}

/* Everyone frees whatever lies on one of a few places: one wins each time. */
static void *race(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < w->ops; i++) {
		atomic_uint_fast64_t *place = &w->crowd->shared[i % 4];
		struct maas_slab_ref ref;

		free_shared(w->crowd, atomic_load(place));
		if (maas_slab_alloc(w->crowd->slab, 64, &label, &ref))
			continue;
		atomic_fetch_add(&w->crowd->allocations, 1);
		free_shared(w->crowd, atomic_exchange(place, ref_pack(ref)));
	}
	return NULL;
}

TEST(threads__a_slab_is_freed_once)
{
	struct crowd crowd;

	crowd_init(&crowd, 16384);
	run_crowd(&crowd, race, count_slab_thread_races());
	for (int i = 0; i < NUM_SHARED; i++) {
		uint64_t packed = crowd.shared[i];

		if (packed != UINT64_MAX && pool_try_get(crowd.slab, ref_unpack(packed)))
			crowd.shared[i] = UINT64_MAX; /* freed by a late racer */
	}
	crowd_fini(&crowd);
}

/* Lets a second pass with each call, for as long as somebody wants slabs. */
static void *hurry(void *arg)
{
	struct crowd *crowd = arg;

	while (!atomic_load(&crowd->is_done))
		maas_slab_reclaim(crowd->slab, atomic_fetch_add(&crowd->now_ms, 1000), MIB);
	return NULL;
}

/* The only slab of the pool is being zeroed: that is worth waiting for, not a full pool. */
TEST(threads__no_refusal_while_a_slab_is_zeroed)
{
	struct crowd crowd = {.slab = POOL(MIB, MIB, MIB), .now_ms = maas_clock_ms()};
	uint64_t random = maas_test_seed_told();
	pthread_t housekeeper;

	assert_int_equal(pthread_create(&housekeeper, NULL, hurry, &crowd), 0);
	for (uint64_t i = 0; i < count_slab_thread_races(); i++) {
		uint64_t until_ns;

		pool_free(crowd.slab, pool_alloc(crowd.slab, MIB));
		until_ns = maas_clock_ns() + test_random_below(&random, 20000);
		while (maas_clock_ns() < until_ns)
			;
	}
	atomic_store(&crowd.is_done, true);
	pthread_join(housekeeper, NULL);
}

TEST_MAIN(NULL, pools_close)
