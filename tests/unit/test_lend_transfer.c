/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers: a free waits for those who still read or write, and at last makes them stop. */
#include "tests/unit/lend_fixture.h"

#define POOL_BYTES 65536 /* one slab of the largest class */

static void count_abort(void *arg)
{
	++*(int *)arg;
}

static struct maas_allocation allocate_whole(struct fixture *f)
{
	return ALLOCATE(f, .size_bytes = 65536);
}

static int try_whole(struct fixture *f)
{
	const struct maas_alloc_request request = {.size_bytes = 65536, .count = 1};
	struct maas_allocation a;
	struct maas_slab_ref ref;

	return maas_lend_allocate(f->lend, &request, &ref, &a);
}

static void transfer__gives_the_bytes(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_allocation a = ALLOCATE(&f, .size_bytes = 100);
	struct maas_transfer transfer = {.abort = count_abort};

	(void)state;
	assert_int_equal(maas_transfer_begin(f.lend, "nonsense", &transfer), -ENOENT);
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &transfer), 0);
	assert_int_equal(transfer.size_bytes, 100);
	memset(transfer.bytes, 'x', transfer.size_bytes);
	assert_true(maas_transfer_alive(f.lend, &transfer));
	assert_int_equal(lend_stats(&f).transfers, 1);
	maas_transfer_end(f.lend, &transfer);
	assert_int_equal(lend_stats(&f).transfers, 0);
	assert_int_equal(free_now(&f, &a), 0);
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &transfer), -ENOENT);
	fixture_close(&f);
}

static void free__waits_for_the_last_transfer(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_allocation a = allocate_whole(&f);
	int aborts = 0;
	struct maas_transfer one = {.abort = count_abort, .arg = &aborts};
	struct maas_transfer two = {.abort = count_abort, .arg = &aborts};
	struct maas_transfer late = {.abort = count_abort, .arg = &aborts};
	struct told told = {0};

	(void)state;
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &one), 0);
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &two), 0);
	assert_int_equal(maas_lend_free(f.lend, a.id, tell, &told), -EINPROGRESS);
	assert_false(maas_transfer_alive(f.lend, &one));
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &late), -ENOENT);
	assert_int_equal(maas_lend_free(f.lend, a.id, tell, &told), -ENOENT);
	assert_int_equal(try_whole(&f), -ENOSPC);
	maas_transfer_end(f.lend, &two);
	assert_int_equal(told.calls, 0);
	assert_int_equal(try_whole(&f), -ENOSPC);
	maas_transfer_end(f.lend, &one);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(try_whole(&f), 0);
	pass_ms(&f, 3000);
	assert_int_equal(aborts, 0);
	assert_int_equal(told.calls, 1);
	fixture_close(&f);
}

static void free__aborts_after_the_grace(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_allocation a = allocate_whole(&f);
	int aborts[2] = {0};
	struct maas_transfer one = {.abort = count_abort, .arg = &aborts[0]};
	struct maas_transfer two = {.abort = count_abort, .arg = &aborts[1]};
	struct told told = {0};

	(void)state;
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &one), 0);
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &two), 0);
	assert_int_equal(maas_lend_free(f.lend, a.id, tell, &told), -EINPROGRESS);
	pass_ms(&f, 900);
	assert_int_equal(aborts[0] + aborts[1], 0);
	pass_ms(&f, 100);
	assert_int_equal(aborts[0], 1);
	assert_int_equal(aborts[1], 1);
	pass_ms(&f, 5000);
	assert_int_equal(aborts[0] + aborts[1], 2);
	assert_int_equal(lend_stats(&f).forced_transfers, 2);
	assert_int_equal(lend_stats(&f).pending_frees, 1);
	assert_int_equal(told.calls, 0);
	maas_transfer_end(f.lend, &one);
	maas_transfer_end(f.lend, &two);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(lend_stats(&f).pending_frees, 0);
	assert_int_equal(live_slabs(&f), 0);
	fixture_close(&f);
}

/* What a reader sees while the free waits is what was there, never a successor's. */
static void free__keeps_the_bytes_while_it_waits(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_allocation a = allocate_whole(&f);
	struct maas_transfer transfer = {.abort = count_abort};
	struct told told = {0};

	(void)state;
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &transfer), 0);
	memset(transfer.bytes, 0x5a, 65536);
	assert_int_equal(maas_lend_free(f.lend, a.id, tell, &told), -EINPROGRESS);
	while (maas_slab_reclaim(f.slab, maas_clock_ms() + 60000, UINT64_MAX))
		;
	assert_int_equal(try_whole(&f), -ENOSPC);
	for (size_t i = 0; i < 65536; i++)
		assert_int_equal(transfer.bytes[i], 0x5a);
	maas_transfer_end(f.lend, &transfer);
	assert_int_equal(told.calls, 1);
	fixture_close(&f);
}

static void lapse__waits_like_a_free(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	int aborts = 0;
	struct maas_transfer transfer = {.abort = count_abort, .arg = &aborts};
	struct maas_allocation a;

	(void)state;
	a = ALLOCATE(&f, .size_bytes = 65536, .lifetime = MAAS_LIFETIME_TTL, .ttl_s = 2);
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &transfer), 0);
	pass_ms(&f, 2000);
	assert_false(maas_transfer_alive(f.lend, &transfer));
	assert_int_equal(free_now(&f, &a), -ENOENT);
	assert_int_equal(live_slabs(&f), 1);
	pass_ms(&f, 1000);
	assert_int_equal(aborts, 1);
	maas_transfer_end(f.lend, &transfer);
	assert_int_equal(live_slabs(&f), 0);
	assert_int_equal(lend_stats(&f).lapsed_allocations, 1);
	fixture_close(&f);
}

/* Two slots of one bucket: neither sees the other's transfers. */
static void transfers__of_other_slabs_do_not_hold_up(void **state)
{
	struct fixture f = fixture_open(1u << 20, NULL, NULL);
	static struct maas_allocation all[8192];
	struct maas_transfer transfer = {.abort = count_abort};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++)
		all[i] = ALLOCATE(&f, .size_bytes = 64);
	assert_int_equal(maas_transfer_begin(f.lend, all[4000].id, &transfer), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++)
		assert_int_equal(free_now(&f, &all[i]), i == 4000 ? -EINPROGRESS : 0);
	assert_int_equal(live_slabs(&f), 1);
	maas_transfer_end(f.lend, &transfer);
	assert_int_equal(live_slabs(&f), 0);
	fixture_close(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer__gives_the_bytes),
		cmocka_unit_test(free__waits_for_the_last_transfer),
		cmocka_unit_test(free__aborts_after_the_grace),
		cmocka_unit_test(free__keeps_the_bytes_while_it_waits),
		cmocka_unit_test(lapse__waits_like_a_free),
		cmocka_unit_test(transfers__of_other_slabs_do_not_hold_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
