/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation takes a constant number of steps, however many slabs are live. */
#include "tests/unit/slab/slab_fixture.h"

#include "tests/random.h"

#define MANY	    1000000
#define FEW	    10
#define ROUNDS	    20000
#define MAX_STEPS   16 /* of one operation on one slab */
#define WALK_BUDGET 8

enum op {
	OP_ALLOC,
	OP_GET,
	OP_SET_TTL,
	OP_NEXT,
	OP_FREE,
	OP_REVOKE,
	OP_QUARANTINE,
	OP_RELEASE,
	OP_RECLAIM,
	OP_STALE,
	NUM_OPS,
};

struct steps {
	struct maas_slab *slab;
	uint64_t before; /* at the last note */
	uint64_t most[NUM_OPS];
};

/* The steps since the last note are those of `op`: nothing else may have been done. */
static void note(struct steps *steps, enum op op)
{
	uint64_t now = maas_slab_steps(steps->slab);

	if (now - steps->before > steps->most[op])
		steps->most[op] = now - steps->before;
	steps->before = now;
}

/* A call that was to return `wanted`, and did nothing but `op`. */
static void expect(struct steps *steps, enum op op, int r, int wanted)
{
	assert_int_equal(r, wanted);
	note(steps, op);
}

static void replace(struct steps *steps, struct maas_slab_ref *ref, bool by_revoke)
{
	struct maas_slab *slab = steps->slab;
	struct maas_slab_info info;

	expect(steps, OP_GET, maas_slab_get(slab, *ref, &info), 0);
	expect(steps, OP_SET_TTL, maas_slab_set_ttl(slab, *ref, 5), 0);
	if (!by_revoke) {
		expect(steps, OP_FREE, maas_slab_free(slab, *ref), 0);
	} else {
		expect(steps, OP_REVOKE, maas_slab_revoke(slab, *ref), 0);
		expect(steps, OP_QUARANTINE, maas_slab_quarantine(slab, *ref), 0);
		expect(steps, OP_RELEASE, maas_slab_release(slab, *ref), 0);
	}
	expect(steps, OP_STALE, maas_slab_free(slab, *ref), -ENOENT);
	expect(steps, OP_ALLOC, maas_slab_alloc(slab, info.size_bytes, &no_label, ref), 0);
}

/* Runs every operation ROUNDS times beside `live` slabs; keeps the most steps of each. */
static void measure(struct steps *steps, uint64_t max_bytes, uint64_t live)
{
	struct maas_slab_ref *refs = calloc(live, sizeof(*refs));
	struct maas_slab_info info;
	uint64_t random = 1, cursor = 0, now_ms = maas_clock_ms();

	assert_non_null(refs);
	*steps = (struct steps){.slab = POOL(max_bytes, 4096, 64, 128, 4096)};
	for (uint64_t i = 0; i < live; i++) {
		refs[i] = pool_alloc(steps->slab, 64);
		note(steps, OP_ALLOC);
	}
	for (uint64_t i = 0; i < ROUNDS; i++) {
		replace(steps, &refs[test_random_below(&random, live)], i % 2);
		if (maas_slab_next(steps->slab, &cursor, WALK_BUDGET, &info) == -ENOENT)
			cursor = test_random_below(&random, live);
		note(steps, OP_NEXT);
		maas_slab_reclaim(steps->slab, now_ms++, 64);
		note(steps, OP_RECLAIM);
	}
	/* All of them away: extents come back, one slab of housekeeping at a time. */
	for (uint64_t i = 0; i < live; i++) {
		pool_free(steps->slab, refs[i]);
		note(steps, OP_FREE);
	}
	while (pool_waiting(steps->slab)) {
		maas_slab_reclaim(steps->slab, now_ms++, 64);
		note(steps, OP_RECLAIM);
	}
	assert_int_equal(pool_stats(steps->slab).extents_used, 0);
	maas_slab_check(steps->slab);
	pool_close(steps->slab);
	free(refs);
}

TEST(steps__constant_from_ten_to_a_million_live)
{
	static const char *const names[NUM_OPS] = {"alloc",   "get",	"set_ttl",    "next",
						   "free",    "revoke", "quarantine", "release",
						   "reclaim", "stale"};
	struct steps few, many;

	measure(&few, 128 * MIB, FEW);
	measure(&many, 128 * MIB, MANY);
	for (int op = 0; op < NUM_OPS; op++) {
		print_message("%-10s %3llu steps at %d live, %3llu at %d\n", names[op],
			      (unsigned long long)few.most[op], FEW,
			      (unsigned long long)many.most[op], MANY);
		assert_in_range(few.most[op], 0, MAX_STEPS);
		assert_in_range(many.most[op], 0, MAX_STEPS);
	}
	/* A counter that stands still proves nothing. */
	assert_true(few.most[OP_ALLOC] && few.most[OP_FREE] && few.most[OP_RECLAIM]);
}

/* The pool is full: an allocation has to take what still waits, of its class or of another. */
TEST(steps__constant_in_a_full_pool)
{
	uint64_t live = 4 * MIB / 64, random = 1;
	struct steps steps = {.slab = POOL(4 * MIB, 4096, 64, 128, 4096)};
	struct maas_slab_ref *refs = calloc(live, sizeof(*refs));

	assert_non_null(refs);
	for (uint64_t i = 0; i < live; i++) {
		refs[i] = pool_alloc(steps.slab, 64);
		note(&steps, OP_ALLOC);
	}
	for (uint64_t i = 0; i < ROUNDS; i++) {
		replace(&steps, &refs[test_random_below(&random, live)], i % 2);
		expect(&steps, OP_ALLOC, pool_try_alloc(steps.slab, 64), -ENOSPC);
		expect(&steps, OP_ALLOC, pool_try_alloc(steps.slab, 128), -ENOSPC);
	}
	for (int op = 0; op < NUM_OPS; op++)
		assert_in_range(steps.most[op], 0, MAX_STEPS);
	pool_close(steps.slab);
	free(refs);
}

/* What one class left waiting, another's allocation may find: each wait ends once. */
TEST(steps__a_drain_is_paid_by_its_frees)
{
	struct maas_slab *slab = POOL(4 * MIB, 4096, 64, 4096);
	struct maas_slab_ref ref;
	uint64_t cursor = 0, ops = 0;
	struct maas_slab_info info;

	for (int round = 0; round < 4; round++) {
		uint64_t size = round % 2 ? 4096 : 64;

		for (; !maas_slab_alloc(slab, size, &no_label, &ref); ops++) {
			uint64_t waiting = pool_waiting(slab);
			uint64_t before = maas_slab_steps(slab);

			if (pool_try_alloc(slab, size))
				break;
			assert_in_range(maas_slab_steps(slab) - before, 1, 4 * waiting + MAX_STEPS);
			ops++;
		}
		for (cursor = 0; maas_slab_next(slab, &cursor, 10000, &info) == 1; ops += 2)
			pool_free(slab, info.ref);
	}
	assert_in_range(maas_slab_steps(slab), ops, ops * MAX_STEPS);
}

TEST_MAIN(NULL, pools_close)
