/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th request for memory fails, for every n: an error, nothing lost, and it works again. */
#include "tests/fake/fail_nth.h"
#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES (1u << 20)
#define BATCH	   5000 /* more than one piece of each table */

static void open__fails_clean(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	const struct maas_lend_options options = {.slab = f.slab, .max_sessions = 1000};
	bool fired = true;
	long nth;

	(void)state;
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
	fixture_close(&f);
}

/* A request with everything that takes memory, on a fresh lend each time. */
static void allocate__fails_clean(void **state)
{
	static const struct maas_lend_alloc_request requests[] = {
		{.owner = "o"},
		{.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 5},
		{.request_id = "r"},
		{.owner = "o", .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 5, .request_id = "r"},
	};
	static struct maas_slab_ref refs[BATCH];

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(requests); i++) {
		struct maas_lend_alloc_request request = requests[i];
		bool fired = true;
		long nth;

		request.size_bytes = 64;
		request.count = BATCH;
		for (nth = 1; fired; nth++) {
			struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
			struct maas_lend_allocation a;
			int r;

			fail_nth_arm(nth);
			r = maas_lend_allocate(f.lend, &request, refs, &a);
			fired = fail_nth_disarm();
			assert_int_equal(r, fired ? -ENOMEM : 0);
			if (fired) {
				assert_int_equal(live_slabs(&f), 0);
				assert_int_equal(lend_stats(&f).owners, 0);
				assert_int_equal(lend_stats(&f).request_ids, 0);
				r = maas_lend_allocate(f.lend, &request, refs, &a);
				assert_int_equal(r, 0);
			}
			assert_int_equal(live_slabs(&f), BATCH);
			fixture_close(&f);
		}
		/* A name needs no memory of its own. */
		assert_true(nth > 2 || !i);
	}
}

static void transfer__needs_memory_first(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_allocation a = allocate_plain(&f);
	struct maas_lend_transfer transfer = {0};

	(void)state;
	fail_nth_arm(1);
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), -ENOMEM);
	assert_true(fail_nth_disarm());
	assert_int_equal(lend_stats(&f).transfers, 0);
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), 0);
	assert_int_equal(free_now(&f, &a), -EINPROGRESS);
	maas_lend_transfers_end(f.lend, &transfer, 1);
	assert_int_equal(live_slabs(&f), 0);
	fixture_close(&f);
}

static void free__that_must_wait_needs_memory_first(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_allocation a = ALLOCATE(&f, .owner = "o");
	struct maas_lend_transfer transfer = {0};

	(void)state;
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), 0);
	fail_nth_arm(1);
	assert_int_equal(free_now(&f, &a), -ENOMEM);
	assert_true(fail_nth_disarm());
	assert_true(exists(&f, &a));
	assert_true(maas_lend_transfer_alive(f.lend, &transfer));
	assert_int_equal(free_now(&f, &a), -EINPROGRESS);
	maas_lend_transfers_end(f.lend, &transfer, 1);
	assert_int_equal(live_slabs(&f), 0);
	fixture_close(&f);
}

static void lapse__is_tried_again(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_allocation a = allocate_ttl(&f, 2);
	struct maas_lend_transfer transfer = {0};

	(void)state;
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), 0);
	pass_ms(&f, 1900);
	fail_nth_arm(1);
	pass_ms(&f, 100);
	assert_true(fail_nth_disarm());
	assert_true(exists(&f, &a));
	assert_int_equal(lend_stats(&f).lapsed_allocations, 0);
	pass_ms(&f, 1000);
	assert_false(exists(&f, &a));
	assert_int_equal(lend_stats(&f).lapsed_allocations, 1);
	maas_lend_transfers_end(f.lend, &transfer, 1);
	fixture_close(&f);
}

static void session_end__is_gone_on_with(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct maas_lend_transfer transfer = {0};
	struct told told = {0};

	(void)state;
	assert_int_equal(maas_lend_session_open(f.lend, "s", 60, true, NULL, &s), 0);
	a = ALLOCATE(&f, .session = s.id, .lifetime = MAAS_LEND_LIFETIME_SESSION);
	ALLOCATE(&f, .session = s.id, .lifetime = MAAS_LEND_LIFETIME_SESSION);
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), 0);
	fail_nth_arm(1);
	assert_int_equal(maas_lend_session_end(f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_true(fail_nth_disarm());
	assert_true(exists(&f, &a));
	pass_ms(&f, 1000);
	assert_false(exists(&f, &a));
	assert_int_equal(told.calls, 0);
	maas_lend_transfers_end(f.lend, &transfer, 1);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(live_slabs(&f), 0);
	assert_int_equal(lend_stats(&f).sessions, 0);
	fixture_close(&f);
}

static void ignore(void *arg)
{
	(void)arg;
}

static void close__frees_everything(void **state)
{
	long blocks = fail_nth_blocks();
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct maas_lend_transfer forced = {.abort = ignore};
	struct maas_lend_transfer transfer = {0};

	(void)state;
	assert_int_equal(maas_lend_session_open(f.lend, "s", 60, true, NULL, &s), 0);
	a = ALLOCATE(&f, .session = s.id, .lifetime = MAAS_LEND_LIFETIME_SESSION, .owner = "o",
		     .request_id = "r");
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &forced), 0);
	assert_int_equal(free_now(&f, &a), -EINPROGRESS);
	pass_ms(&f, 2000);
	assert_int_equal(lend_stats(&f).forced_transfers, 1);
	a = allocate_plain(&f);
	assert_int_equal(maas_lend_transfer_begin(f.lend, a.id, &transfer), 0);
	assert_int_equal(free_now(&f, &a), -EINPROGRESS);
	fixture_close(&f);
	assert_int_equal(fail_nth_blocks(), blocks);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(open__fails_clean),
		cmocka_unit_test(allocate__fails_clean),
		cmocka_unit_test(transfer__needs_memory_first),
		cmocka_unit_test(free__that_must_wait_needs_memory_first),
		cmocka_unit_test(lapse__is_tried_again),
		cmocka_unit_test(session_end__is_gone_on_with),
		cmocka_unit_test(close__frees_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
