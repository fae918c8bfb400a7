/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids: the same request gets the same answer, for as long as is promised. */
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
	struct maas_lend_session_info s = open_session("s", false);
	struct maas_lend_allocation again, first = ALLOCATE(.request_id = "r", .session = s.id,
							    .lifetime = MAAS_LEND_LIFETIME_SESSION);

	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, NULL, NULL), 0);
	again = ALLOCATE(.request_id = "r", .session = s.id,
			 .lifetime = MAAS_LEND_LIFETIME_SESSION);
	assert_string_equal(first.id, again.id);
}

TEST(conflict__every_other_field)
{
	struct maas_lend_session_info s = open_session("s", false);
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

/* Freed past lend: these have no owner and no lease, so that lend does not miss them. */
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
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(maas_slab_free(f.slab, refs[i]), 0);
}

/* All at once, however many they are. */
TEST(forget__after_ten_minutes)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "r");
	struct maas_lend_allocation again;
	char name[32];

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "r-%u", i);
		allocate_and_free(name, 1);
	}
	pass_ms(MAAS_LEND_REQUEST_S * 1000ull - 100);
	again = ALLOCATE(.request_id = "r");
	assert_string_equal(first.id, again.id);
	assert_int_equal(lend_stats().request_ids, 1001);
	pass_ms(100);
	assert_int_equal(lend_stats().request_ids, 0);
	again = ALLOCATE(.request_id = "r");
	assert_string_not_equal(first.id, again.id);
	assert_int_equal(live_slabs(), 2);
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

/* Large batches of a stranger cost older batches their lists: more than are forgotten in one step.
 */
TEST(forget__the_lists_of_old_batches)
{
	struct maas_lend_alloc_request batch = {.size_bytes = 64, .count = 2};
	struct maas_slab_ref refs[2];
	struct maas_lend_allocation a;
	char name[32];

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "small-%u", i);
		allocate_and_free(name, 2);
	}
	for (unsigned int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		snprintf(name, sizeof(name), "large-%u", i);
		allocate_and_free(name, MAAS_SLAB_MAX_BATCH);
	}
	batch.request_id = "small-999";
	assert_int_equal(ask(&batch, refs, &a), -ENODATA);
	batch.request_id = "small-0";
	assert_int_equal(ask(&batch, refs, &a), -ENODATA);
}

TEST_MAIN(setup, fixture_teardown)
