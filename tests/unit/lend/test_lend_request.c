/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids: the same request gets the same answer, for as long as is promised. */
#include <malloc.h>

#include "tests/unit/lend/lend_auth.h"

TEST(replay__gives_the_same_answer)
{
	const struct maas_lend_alloc_request request = {
		.lifetime = MAAS_LEND_LIFETIME_TTL,
		.ttl_s = 30,
		.owner = "o",
		.request_id = "r-1",
	};
	struct maas_lend_allocation first = allocate_as(request), again;
	struct maas_slab_ref ref = given.refs[0];

	pass_ms(5000);
	again = allocate_as(request);
	assert_memory_equal(&ref, &given.refs[0], sizeof(ref));
	assert_string_equal(first.id, again.id);
	expect_described(&again, "100 of 1024 bytes of o, 0 s old, ttl 30 of 30 s");
	expect_state("slabs 1, owners 1, requests 1");
}

/* An answer that was lost is given once more even when its slab has gone meanwhile. */
TEST(replay__outlives_the_allocation)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "r");

	assert_int_equal(free_now(&first), 0);
	assert_string_equal(first.id, ALLOCATE(.request_id = "r").id);
	expect_state("requests 1");
}

TEST(replay__of_a_session_that_ended)
{
	struct maas_lend_session_info s = open_session("s", false);
	const struct maas_lend_alloc_request request = {
		.lifetime = MAAS_LEND_LIFETIME_SESSION, .session = s.id, .request_id = "r"};
	struct maas_lend_allocation first = allocate_as(request);

	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, NULL, NULL), 0);
	assert_string_equal(first.id, allocate_as(request).id);
}

TEST(conflict__every_other_field)
{
	struct maas_lend_session_info s = open_session("s", false);
	const struct maas_lend_alloc_request base = {
		.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 30, .owner = "o", .request_id = "r"};
	struct maas_lend_alloc_request other[] = {base, base, base, base, base, base, base};

	other[0].size_bytes = 101;
	other[1].count = 2;
	other[2].lifetime = MAAS_LEND_LIFETIME_DELETE;
	other[2].ttl_s = 0;
	other[3].ttl_s = 31;
	other[4].owner = "p";
	other[5].owner = NULL;
	other[6].session = s.id;
	allocate_as(base);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(other); i++)
		assert_int_equal(try_as(other[i]), -ENOTUNIQ);
	other[0] = base;
	other[0].request_id = "R";
	allocate_as(other[0]);
	assert_int_equal(live_slabs(), 2);
}

TEST(batch__is_replayed_as_a_whole)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 64, .count = MAAS_SLAB_MAX_BATCH, .request_id = "batch"};
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];

	/* Something in front, so that the batch lies across the queue's pieces. */
	ALLOCATE(.request_id = "before");
	allocate_as(request);
	memcpy(refs, given.refs, sizeof(refs));
	allocate_as(request);
	assert_memory_equal(refs, given.refs, sizeof(refs));
	assert_int_equal(live_slabs(), MAAS_SLAB_MAX_BATCH + 1);
}

TEST(failure__is_not_remembered)
{
	fixture_reopen(65536);
	struct maas_lend_allocation whole = ALLOCATE(.size_bytes = 65536);

	assert_int_equal(TRY_ALLOCATE(.size_bytes = 65536, .request_id = "r"), -ENOSPC);
	expect_state("slabs 1");
	assert_int_equal(free_now(&whole), 0);
	ALLOCATE(.size_bytes = 65536, .request_id = "r");
}

/* All at once, however many they are. */
TEST(forget__after_ten_minutes)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "r");

	for (unsigned int i = 0; i < 1000; i++)
		request_and_free(numbered("r-", i), 1);
	pass_ms(MAAS_LEND_REQUEST_S * 1000ull - 100);
	assert_string_equal(first.id, ALLOCATE(.request_id = "r").id);
	expect_state("slabs 1, requests 1001");
	pass_ms(100);
	expect_state("slabs 1");
	assert_string_not_equal(first.id, ALLOCATE(.request_id = "r").id);
	assert_int_equal(live_slabs(), 2);
}

static size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

TEST(forget__leaves_no_memory)
{
	size_t before = heap_bytes();

	request_and_free("r", 1);
	pass_ms(MAAS_LEND_REQUEST_S * 1000ull);
	assert_in_range(heap_bytes(), 0, before + 65536);
	ALLOCATE(.request_id = "r");
	expect_state("slabs 1, requests 1");
}

TEST(forget__after_a_million_requests)
{
	struct maas_lend_allocation first = ALLOCATE(.request_id = "first");
	struct maas_lend_allocation second = ALLOCATE(.request_id = "second");

	/* 999,998 more, now and then a batch: the first is the oldest of the million… */
	for (unsigned int i = 2; i < MAAS_LEND_REQUESTS; i++)
		request_and_free(numbered("r-", i), i % 1000 ? 1 : 3);
	expect_state("slabs 2, requests 1000000");
	assert_string_equal(first.id, ALLOCATE(.request_id = "first").id);
	/* … and the next one drops it. */
	ALLOCATE(.request_id = "one more");
	expect_state("slabs 3, requests 1000000");
	assert_string_equal(second.id, ALLOCATE(.request_id = "second").id);
	assert_string_not_equal(first.id, ALLOCATE(.request_id = "first").id);
	/* Once more around the queue's pieces. */
	for (unsigned int i = 0; i < 100000; i++)
		request_and_free(numbered("another-", i), 1);
	expect_state("slabs 4, requests 1000000");
}

/* A large batch costs older ones their lists: more than are forgotten in one step. */
TEST(forget__the_lists_of_old_batches)
{
	/* Of max-request-ids=2000, the lists of 10,000 allocations are kept. */
	use("a uid=1 owner=a max-request-ids=2000\n");
	for (unsigned int i = 0; i < 1000; i++)
		ALLOCATE(.size_bytes = 64, .count = 2, .request_id = numbered("small-", i),
			 .caller = BY("a"));
	ALLOCATE(.size_bytes = 64, .count = MAAS_SLAB_MAX_BATCH, .request_id = "large",
		 .caller = BY("a"));
	for (unsigned int i = 0; i < 1000; i += 999)
		assert_int_equal(TRY_ALLOCATE(.size_bytes = 64, .count = 2,
					      .request_id = numbered("small-", i),
					      .caller = BY("a")),
				 -ENODATA);
	table_end();
}

TEST_MAIN(fixture_setup, fixture_teardown)
