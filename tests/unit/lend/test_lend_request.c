/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids: the same request gets the same answer, for as long as is promised. */
#include <pthread.h>

#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES (4u << 20)

static void setup(void)
{
	f = fixture_open(POOL_BYTES, NULL, NULL);
}

static int ask(const struct maas_lend_alloc_request *request, struct maas_slab_ref *ret_refs,
	       struct maas_lend_allocation *ret_first)
{
	return maas_lend_allocate(f.lend, request, ret_refs, ret_first);
}

TEST(replay__gives_the_same_answer)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 100,
		.count = 1,
		.lifetime = MAAS_LEND_LIFETIME_TTL,
		.ttl_s = 30,
		.owner = "o",
		.request_id = "r-1",
	};
	struct maas_lend_allocation first, again;
	struct maas_slab_ref refs[2];

	memset(&first, 0, sizeof(first));
	memset(&again, 0, sizeof(again));
	assert_int_equal(ask(&request, &refs[0], &first), 0);
	pass_ms(5000);
	assert_int_equal(ask(&request, &refs[1], &again), 0);
	assert_memory_equal(&refs[0], &refs[1], sizeof(refs[0]));
	assert_string_equal(first.id, again.id);
	assert_int_equal(again.age_s, 0);
	assert_int_equal(again.lease_s, 30);
	assert_int_equal(again.actual_size_bytes, 1024);
	assert_string_equal(again.owner, "o");
	assert_int_equal(live_slabs(), 1);
	assert_int_equal(lend_stats().request_ids, 1);
}

/* An answer that was lost is given once more even when its slab has gone meanwhile. */
TEST(replay__outlives_the_allocation)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "r");
	struct maas_lend_allocation again;

	assert_int_equal(free_now(&first), 0);
	again = ALLOCATE(.request_id = "r");
	assert_string_equal(first.id, again.id);
	assert_int_equal(live_slabs(), 0);
}

TEST(replay__of_a_session_that_ended)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation first, again;

	assert_int_equal(maas_lend_session_open(f.lend, NULL, "s", 10, false, NULL, &s), 0);
	first = ALLOCATE(.request_id = "r", .session = s.id,
			 .lifetime = MAAS_LEND_LIFETIME_SESSION);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, NULL, NULL), 0);
	again = ALLOCATE(.request_id = "r", .session = s.id,
			 .lifetime = MAAS_LEND_LIFETIME_SESSION);
	assert_string_equal(first.id, again.id);
}

TEST(conflict__every_other_field)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct maas_slab_ref refs[2];
	struct maas_lend_alloc_request base = {
		.size_bytes = 100,
		.count = 1,
		.lifetime = MAAS_LEND_LIFETIME_TTL,
		.ttl_s = 30,
		.owner = "o",
		.request_id = "r",
	};
	struct maas_lend_alloc_request other[7];

	assert_int_equal(maas_lend_session_open(f.lend, NULL, "s", 10, false, NULL, &s), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(other); i++)
		other[i] = base;
	other[0].size_bytes = 101;
	other[1].count = 2;
	other[2].lifetime = MAAS_LEND_LIFETIME_DELETE;
	other[2].ttl_s = 0;
	other[3].ttl_s = 31;
	other[4].owner = "p";
	other[5].owner = NULL;
	other[6].session = s.id;
	assert_int_equal(ask(&base, refs, &a), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(other); i++)
		assert_int_equal(ask(&other[i], refs, &a), -ENOTUNIQ);
	base.request_id = "R";
	assert_int_equal(ask(&base, refs, &a), 0);
	assert_int_equal(live_slabs(), 2);
}

TEST(batch__is_replayed_as_a_whole)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 64,
		.count = MAAS_SLAB_MAX_BATCH,
		.request_id = "batch",
	};
	static struct maas_slab_ref refs[2][MAAS_SLAB_MAX_BATCH];
	struct maas_lend_allocation a;

	/* Something in front, so that the batch lies across the queue's pieces. */
	ALLOCATE(.request_id = "before");
	assert_int_equal(ask(&request, refs[0], &a), 0);
	assert_int_equal(ask(&request, refs[1], &a), 0);
	assert_memory_equal(refs[0], refs[1], sizeof(refs[0]));
	assert_int_equal(live_slabs(), MAAS_SLAB_MAX_BATCH + 1);
}

TEST(failure__is_not_remembered)
{
	fixture_reopen(65536);
	struct maas_lend_allocation whole = ALLOCATE(.size_bytes = 65536);
	const struct maas_lend_alloc_request request = {
		.size_bytes = 65536,
		.count = 1,
		.request_id = "r",
	};
	struct maas_lend_allocation a;
	struct maas_slab_ref ref;

	assert_int_equal(ask(&request, &ref, &a), -ENOSPC);
	assert_int_equal(lend_stats().request_ids, 0);
	assert_int_equal(free_now(&whole), 0);
	assert_int_equal(ask(&request, &ref, &a), 0);
}

TEST(forget__after_ten_minutes)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "r");
	struct maas_lend_allocation again;

	pass_ms((MAAS_LEND_REQUEST_S - 1) * 1000ull);
	again = ALLOCATE(.request_id = "r");
	assert_string_equal(first.id, again.id);
	pass_ms(1000);
	assert_int_equal(lend_stats().request_ids, 0);
	again = ALLOCATE(.request_id = "r");
	assert_string_not_equal(first.id, again.id);
	assert_int_equal(live_slabs(), 2);
}

/* Past lend: these have no owner and no lease, so that lend does not miss them. */
static void free_all(const struct maas_slab_ref *refs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(maas_slab_free(f.slab, refs[i]), 0);
}

/* So many that a good part of them share a bucket. */
TEST(replay__of_many)
{
	static struct maas_lend_allocation all[20000];
	char name[32];

	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		snprintf(name, sizeof(name), "r-%u", i);
		all[i] = ALLOCATE(.size_bytes = 64, .request_id = name);
	}
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		struct maas_lend_allocation again;

		snprintf(name, sizeof(name), "r-%u", i);
		again = ALLOCATE(.size_bytes = 64, .request_id = name);
		assert_string_equal(all[i].id, again.id);
	}
	assert_int_equal(live_slabs(), MAAS_ARRAY_SIZE(all));
}

#define DUPLICATES 4
#define ROUNDS	   300

struct duplicate {
	pthread_barrier_t *barrier;
	struct maas_slab_ref refs[ROUNDS];
	int failures;
};

static void *ask_in_rounds(void *arg)
{
	struct duplicate *duplicate = arg;
	char name[32];
	const struct maas_lend_alloc_request request = {
		.size_bytes = 1024,
		.count = 1,
		.request_id = name,
	};
	struct maas_lend_allocation a;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		snprintf(name, sizeof(name), "round-%u", i);
		pthread_barrier_wait(duplicate->barrier);
		if (ask(&request, &duplicate->refs[i], &a))
			duplicate->failures++;
	}
	return NULL;
}

TEST(duplicates__get_one_answer)
{
	static struct duplicate duplicates[DUPLICATES];
	pthread_barrier_t barrier;
	pthread_t threads[DUPLICATES];

	pthread_barrier_init(&barrier, NULL, DUPLICATES);
	for (int i = 0; i < DUPLICATES; i++) {
		duplicates[i].barrier = &barrier;
		assert_int_equal(pthread_create(&threads[i], NULL, ask_in_rounds, &duplicates[i]),
				 0);
	}
	for (int i = 0; i < DUPLICATES; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < DUPLICATES; i++) {
		assert_int_equal(duplicates[i].failures, 0);
		assert_memory_equal(duplicates[i].refs, duplicates[0].refs,
				    sizeof(duplicates[0].refs));
	}
	assert_int_equal(live_slabs(), ROUNDS);
	pthread_barrier_destroy(&barrier);
}

static void allocate_and_free(const char *name, uint32_t count)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	const struct maas_lend_alloc_request request = {
		.size_bytes = 64,
		.count = count,
		.request_id = name,
	};
	struct maas_lend_allocation a;

	assert_int_equal(ask(&request, refs, &a), 0);
	free_all(refs, count);
}

TEST(forget__after_a_million_requests)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "first");
	struct maas_lend_allocation second = ALLOCATE(.request_id = "second");
	struct maas_lend_allocation again;
	char name[32];

	/* 999,998 more, now and then a batch: the first is the oldest of the million… */
	for (unsigned int i = 2; i < MAAS_LEND_REQUESTS; i++) {
		snprintf(name, sizeof(name), "r-%u", i);
		allocate_and_free(name, i % 1000 ? 1 : 3);
	}
	assert_int_equal(lend_stats().request_ids, MAAS_LEND_REQUESTS);
	again = ALLOCATE(.request_id = "first");
	assert_string_equal(first.id, again.id);
	/* … and the next one drops it. */
	ALLOCATE(.request_id = "one more");
	assert_int_equal(lend_stats().request_ids, MAAS_LEND_REQUESTS);
	again = ALLOCATE(.request_id = "second");
	assert_string_equal(second.id, again.id);
	again = ALLOCATE(.request_id = "first");
	assert_string_not_equal(first.id, again.id);
	/* Once more around the queue's pieces. */
	for (unsigned int i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "another-%u", i);
		allocate_and_free(name, 1);
	}
	assert_int_equal(lend_stats().request_ids, MAAS_LEND_REQUESTS);
}

/* Large batches of a stranger: they cost older batches their lists, nobody his second memory. */
TEST(forget__the_lists_of_old_batches_only)
{
	struct maas_lend_allocation single = ALLOCATE(.request_id = "single");
	struct maas_lend_alloc_request batch = {.size_bytes = 64, .count = 2};
	struct maas_slab_ref refs[2][2];
	struct maas_lend_allocation a;
	char name[32];

	/* Small ones, more than are forgotten in one step … */
	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "small-%u", i);
		allocate_and_free(name, 2);
	}
	batch.request_id = "last";
	assert_int_equal(ask(&batch, refs[0], &a), 0);
	for (unsigned int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		snprintf(name, sizeof(name), "large-%u", i);
		/* … and all of them, but for one, when the last large one comes. */
		if (i + 1 == MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH) {
			allocate_and_free(name, MAAS_SLAB_MAX_BATCH - 2);
			break;
		}
		allocate_and_free(name, MAAS_SLAB_MAX_BATCH);
	}
	assert_int_equal(ask(&batch, refs[1], &a), 0);
	assert_memory_equal(refs[0], refs[1], sizeof(refs[0]));
	batch.request_id = "small-999";
	assert_int_equal(ask(&batch, refs[1], &a), -ENODATA);
	batch.request_id = "small-0";
	assert_int_equal(ask(&batch, refs[1], &a), -ENODATA);
	batch.count = 1;
	assert_int_equal(ask(&batch, refs[1], &a), -ENOTUNIQ);
	assert_int_equal(live_slabs(), 3);

	allocate_and_free("one more", 2);
	batch = (struct maas_lend_alloc_request){
		.size_bytes = 64, .count = 2, .request_id = "last"};
	assert_int_equal(ask(&batch, refs[1], &a), -ENODATA);
	a = ALLOCATE(.request_id = "single");
	assert_string_equal(single.id, a.id);
	assert_int_equal(live_slabs(), 3);
	assert_int_equal(lend_stats().request_ids,
			 1003 + MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH);
	/* As any other, they are new after ten minutes. */
	pass_ms(MAAS_LEND_REQUEST_S * 1000ull);
	assert_int_equal(lend_stats().request_ids, 0);
	assert_int_equal(ask(&batch, refs[1], &a), 0);
}

TEST_MAIN(setup, fixture_teardown)
