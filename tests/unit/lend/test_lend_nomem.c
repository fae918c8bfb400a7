/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th request for memory fails, for every n: an error, nothing lost, and it works again. */
#include "tests/fake/fail_nth.h"
#include "tests/unit/lend/lend_fixture.h"

#define BATCH 5000 /* more than one piece of each table */

TEST(open__fails_clean)
{
	const struct maas_lend_options options = {.slab = f.slab, .max_sessions = 1000};
	bool fired = true;
	long nth;

	for (nth = 1; fired; nth++) {
		long blocks = fail_nth_blocks();
		struct maas_lend *lend = NULL;
		int r;

		fail_nth_arm(nth);
		r = maas_lend_open(&options, &lend);
		fired = fail_nth_disarm();
		assert_int_equal(r, fired ? -ENOMEM : 0);
		assert_int_equal(lend != NULL, !fired);
		maas_lend_close(lend);
		assert_int_equal(fail_nth_blocks(), blocks);
	}
	assert_true(nth > 4);
}

/* A request with everything that takes memory, on a fresh lend each time. */
TEST(allocate__fails_clean)
{
	static const struct maas_lend_alloc_request requests[] = {
		{.owner = "o"},
		{.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 5},
		{.request_id = "r"},
		{.owner = "o", .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 5, .request_id = "r"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(requests); i++) {
		struct maas_lend_alloc_request request = requests[i];
		bool fired = true;
		long nth;

		request.size_bytes = 64;
		request.count = BATCH;
		for (nth = 1; fired; nth++) {
			int r;

			fixture_reopen(1u << 20);
			fail_nth_arm(nth);
			r = try_as(request);
			fired = fail_nth_disarm();
			assert_int_equal(r, fired ? -ENOMEM : 0);
			if (fired) {
				expect_state("");
				allocate_as(request);
			}
			assert_int_equal(live_slabs(), BATCH);
		}
		/* A name needs no memory of its own. */
		assert_true(nth > 2 || !i);
	}
}

TEST(transfer__needs_memory_first)
{
	struct maas_lend_allocation a = allocate_plain();

	fail_nth_arm(1);
	assert_int_equal(try_transfer(0, &a), -ENOMEM);
	assert_true(fail_nth_disarm());
	expect_state("slabs 1");
	start_transfer(0, &a);
	start_free(&a);
	end_transfer(0);
	expect_state("told 1");
}

TEST(free__that_must_wait_needs_memory_first)
{
	struct maas_lend_allocation a = ALLOCATE(.owner = "o");

	start_transfer(0, &a);
	fail_nth_arm(1);
	assert_int_equal(free_now(&a), -ENOMEM);
	assert_true(fail_nth_disarm());
	assert_true(exists(&a));
	assert_true(maas_lend_transfer_alive(f.lend, &transfers[0]));
	start_free(&a);
	end_transfer(0);
	expect_state("told 1");
}

TEST(lapse__is_tried_again)
{
	struct maas_lend_allocation a = allocate_ttl(2);

	start_transfer(0, &a);
	pass_ms(1900);
	fail_nth_arm(1);
	pass_ms(100);
	assert_true(fail_nth_disarm());
	expect_state("slabs 1, transfers 1");
	expect_lapse(&a, 1000);
	end_transfer(0);
	expect_state("lapsed 1");
}

/* Its allocation is in a transfer, so that it cannot be freed at once. */
static void end_without_memory(const struct maas_lend_session_info *s,
			       const struct maas_lend_allocation *a)
{
	start_transfer(0, a);
	fail_nth_arm(1);
	start_end(s);
	assert_true(fail_nth_disarm());
}

TEST(session_end__is_gone_on_with)
{
	struct maas_lend_session_info s = open_session("s", true);
	struct maas_lend_allocation a = allocate_of(&s);

	allocate_of(&s);
	end_without_memory(&s, &a);
	assert_true(exists(&a));
	pass_ms(1000);
	assert_false(exists(&a));
	assert_int_equal(end.calls, 0);
	end_transfer(0);
	expect_state("told 1");
}

/* What the end had no memory to free is freed by somebody else. */
TEST(session_end__is_gone_on_with_when_nothing_is_left)
{
	struct maas_lend_session_info s = open_session("s", true);
	struct maas_lend_allocation a = allocate_of(&s);

	end_without_memory(&s, &a);
	end_transfer(0);
	assert_int_equal(free_now(&a), 0);
	pass_ms(1000);
	expect_state("told 1");
	open_session("s", true);
}

/* The same, by a free that has to wait: its end is the session's, which nobody may go on with. */
TEST(session_end__is_complete_with_the_last_free)
{
	struct maas_lend_session_info s = open_session("s", true);
	struct maas_lend_allocation a = allocate_of(&s);

	end_without_memory(&s, &a);
	assert_int_equal(free_now(&a), -EINPROGRESS);
	end_transfer(0);
	expect_state("told 1");
	s = open_session("s", true);
	pass_ms(1000);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, s.id, &s), 0);
}

TEST(close__frees_everything)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	long blocks;

	fixture_close();
	blocks = fail_nth_blocks();
	fixture_setup();
	s = open_session("s", true);
	a = ALLOCATE(.session = s.id, .lifetime = MAAS_LEND_LIFETIME_SESSION, .owner = "o",
		     .request_id = "r");
	start_transfer(0, &a);
	start_free(&a);
	pass_ms(2000);
	assert_int_equal(lend_stats().forced_transfers, 1);
	a = allocate_plain();
	start_transfer(1, &a);
	start_free(&a);
	fixture_close();
	assert_int_equal(fail_nth_blocks(), blocks);
}

TEST_MAIN(fixture_setup, fixture_teardown)
