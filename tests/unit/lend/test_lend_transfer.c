/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers: a free waits for the readers and writers, and in the end makes them stop. */
#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES 65536 /* one slab of the largest class */

static void setup(void)
{
	f = fixture_open(POOL_BYTES, NULL, NULL);
}

static void count_abort(void *arg)
{
	++*(int *)arg;
}

static struct maas_lend_allocation allocate_whole(void)
{
	return ALLOCATE(.size_bytes = 65536);
}

static int try_whole(void)
{
	const struct maas_lend_alloc_request request = {.size_bytes = 65536, .count = 1};
	struct maas_lend_allocation a;
	struct maas_slab_ref ref;

	return maas_lend_allocate(f.lend, &request, &ref, &a);
}

TEST(transfer__gives_the_bytes)
{
	struct maas_lend_allocation a = ALLOCATE(.size_bytes = 100);
	struct maas_lend_transfer transfer = {.abort = count_abort};

	assert_int_equal(
		maas_lend_transfer_begin(f.lend, NULL, "nonsense", MAAS_AUTH_OWN, &transfer),
		-ENOENT);
	assert_int_equal(transfer_begin(&a, &transfer), 0);
	assert_int_equal(transfer.size_bytes, 100);
	memset(transfer.bytes, 'x', transfer.size_bytes);
	assert_true(maas_lend_transfer_alive(f.lend, &transfer));
	assert_int_equal(lend_stats().transfers, 1);
	transfer_end(&transfer);
	assert_int_equal(lend_stats().transfers, 0);
	assert_int_equal(free_now(&a), 0);
	assert_int_equal(transfer_begin(&a, &transfer), -ENOENT);
}

TEST(free__waits_for_the_last_transfer)
{
	struct maas_lend_allocation a = allocate_whole();
	int aborts = 0;
	struct maas_lend_transfer one = {.abort = count_abort, .arg = &aborts};
	struct maas_lend_transfer two = {.abort = count_abort, .arg = &aborts};
	struct maas_lend_transfer late = {.abort = count_abort, .arg = &aborts};
	struct told told = {0};

	assert_int_equal(transfer_begin(&a, &one), 0);
	assert_int_equal(transfer_begin(&a, &two), 0);
	assert_int_equal(free_told(&a, &told), -EINPROGRESS);
	assert_false(maas_lend_transfer_alive(f.lend, &one));
	assert_int_equal(transfer_begin(&a, &late), -ENOENT);
	assert_int_equal(free_told(&a, &told), -ENOENT);
	assert_int_equal(try_whole(), -ENOSPC);
	transfer_end(&two);
	assert_int_equal(told.calls, 0);
	assert_int_equal(try_whole(), -ENOSPC);
	transfer_end(&one);
	expect_told(&told, 0);
	assert_int_equal(try_whole(), 0);
	pass_ms(3000);
	assert_int_equal(aborts, 0);
	assert_int_equal(told.calls, 1);
}

TEST(free__aborts_after_the_grace)
{
	struct maas_lend_allocation a = allocate_whole();
	int aborts[2] = {0};
	struct maas_lend_transfer one = {.abort = count_abort, .arg = &aborts[0]};
	struct maas_lend_transfer two = {.abort = count_abort, .arg = &aborts[1]};
	struct told told = {0};

	assert_int_equal(transfer_begin(&a, &one), 0);
	assert_int_equal(transfer_begin(&a, &two), 0);
	assert_int_equal(free_told(&a, &told), -EINPROGRESS);
	pass_ms(900);
	assert_int_equal(aborts[0] + aborts[1], 0);
	pass_ms(100);
	assert_int_equal(aborts[0], 1);
	assert_int_equal(aborts[1], 1);
	pass_ms(5000);
	assert_int_equal(aborts[0] + aborts[1], 2);
	assert_int_equal(lend_stats().forced_transfers, 2);
	assert_int_equal(lend_stats().pending_frees, 1);
	assert_int_equal(told.calls, 0);
	transfer_end(&one);
	transfer_end(&two);
	expect_told(&told, 0);
	assert_int_equal(lend_stats().pending_frees, 0);
	assert_int_equal(live_slabs(), 0);
}

/* While the free waits, a reader sees the old bytes, never those of the next owner. */
TEST(free__keeps_the_bytes_while_it_waits)
{
	struct maas_lend_allocation a = allocate_whole();
	struct maas_lend_transfer transfer = {.abort = count_abort};
	struct told told = {0};

	assert_int_equal(transfer_begin(&a, &transfer), 0);
	memset(transfer.bytes, 0x5a, 65536);
	assert_int_equal(free_told(&a, &told), -EINPROGRESS);
	while (maas_slab_reclaim(f.slab, maas_clock_ms() + 60000, UINT64_MAX))
		;
	assert_int_equal(try_whole(), -ENOSPC);
	for (size_t i = 0; i < 65536; i++)
		assert_int_equal(transfer.bytes[i], 0x5a);
	transfer_end(&transfer);
	assert_int_equal(told.calls, 1);
}

TEST(lapse__waits_like_a_free)
{
	int aborts = 0;
	struct maas_lend_transfer transfer = {.abort = count_abort, .arg = &aborts};
	struct maas_lend_allocation a =
		ALLOCATE(.size_bytes = 65536, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 2);

	assert_int_equal(transfer_begin(&a, &transfer), 0);
	pass_ms(2000);
	assert_false(maas_lend_transfer_alive(f.lend, &transfer));
	assert_int_equal(free_now(&a), -ENOENT);
	assert_int_equal(live_slabs(), 1);
	pass_ms(1000);
	assert_int_equal(aborts, 1);
	transfer_end(&transfer);
	assert_int_equal(live_slabs(), 0);
	assert_int_equal(lend_stats().lapsed_allocations, 1);
}

/* The begin and the end of a transfer, and a free, look at one slab, however many others are in
 * use, and however many others read this one. */
TEST(transfers__cost_the_same_among_many)
{
	fixture_reopen(1u << 20);
	static struct maas_lend_allocation all[8192];
	static struct maas_lend_transfer crowd[MAAS_ARRAY_SIZE(all)];
	static struct maas_lend_transfer others[10000];
	struct told told = {0};
	uint64_t steps;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		all[i] = ALLOCATE(.size_bytes = 64);
		assert_int_equal(transfer_begin(&all[i], &crowd[i]), 0);
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i++)
		assert_int_equal(transfer_begin(&all[4000], &others[i]), 0);
	steps = maas_lend_steps(f.lend);
	transfer_end(&crowd[5000]);
	assert_int_equal(transfer_begin(&all[5000], &crowd[5000]), 0);
	assert_int_equal(free_told(&all[4000], &told), -EINPROGRESS);
	transfer_end(&crowd[4000]);
	assert_int_equal(maas_lend_steps(f.lend) - steps, 4);
	maas_lend_transfers_end(f.lend, others, MAAS_ARRAY_SIZE(others));
	assert_int_equal(maas_lend_steps(f.lend) - steps, 4 + MAAS_ARRAY_SIZE(others));
	assert_int_equal(told.calls, 1);
	assert_int_equal(lend_stats().transfers, MAAS_ARRAY_SIZE(all) - 1);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		if (i == 4000)
			continue;
		assert_int_equal(free_now(&all[i]), -EINPROGRESS);
		transfer_end(&crowd[i]);
	}
	assert_int_equal(live_slabs(), 0);
}

/* Each is told once, however many ticks and other frees come by. */
TEST(free__tells_each_of_many_once)
{
	fixture_reopen(UINT64_C(2) * POOL_BYTES);
	struct maas_lend_allocation a[2] = {allocate_whole(), allocate_whole()};
	static struct maas_lend_transfer transfers[2][5000];
	static int aborts[2][5000];
	struct told told = {0};
	uint64_t steps;

	for (int i = 0; i < 5000; i++)
		for (int k = 0; k < 2; k++) {
			transfers[k][i].abort = count_abort;
			transfers[k][i].arg = &aborts[k][i];
			assert_int_equal(transfer_begin(&a[k], &transfers[k][i]), 0);
		}
	assert_int_equal(free_told(&a[0], &told), -EINPROGRESS);
	pass_ms(300);
	assert_int_equal(free_told(&a[1], &told), -EINPROGRESS);
	steps = maas_lend_steps(f.lend);
	pass_ms(10000);
	assert_int_equal(maas_lend_steps(f.lend) - steps, 2 * 5000 + 2);
	for (int i = 0; i < 2 * 5000; i++)
		assert_int_equal(aborts[i / 5000][i % 5000], 1);
	assert_int_equal(lend_stats().forced_transfers, 2 * 5000);
	maas_lend_transfers_end(f.lend, transfers[1], 5000);
	assert_int_equal(told.calls, 1);
	maas_lend_transfers_end(f.lend, transfers[0], 5000);
	assert_int_equal(told.calls, 2);
	assert_int_equal(live_slabs(), 0);
}

/* Ends that complete several frees at once make every call. */
TEST(transfers__end_with_all_their_frees)
{
	fixture_reopen(1u << 20);
	struct maas_lend_transfer transfers[600];
	struct told told = {0};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(transfers); i++) {
		struct maas_lend_allocation a = allocate_plain();

		assert_int_equal(transfer_begin(&a, &transfers[i]), 0);
		assert_int_equal(free_told(&a, &told), -EINPROGRESS);
	}
	assert_int_equal(lend_stats().pending_frees, MAAS_ARRAY_SIZE(transfers));
	maas_lend_transfers_end(f.lend, transfers, MAAS_ARRAY_SIZE(transfers));
	assert_int_equal(told.calls, MAAS_ARRAY_SIZE(transfers));
	assert_int_equal(lend_stats().transfers, 0);
	assert_int_equal(live_slabs(), 0);
}

TEST_MAIN(setup, fixture_teardown)
