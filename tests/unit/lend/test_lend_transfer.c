/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers: a free waits for the readers and writers, and in the end makes them stop. */
#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES 65536 /* one slab of the largest class */

static void setup(void)
{
	fixture_open(POOL_BYTES, NULL, NULL);
}

static struct maas_lend_allocation allocate_whole(void)
{
	return ALLOCATE(.size_bytes = POOL_BYTES);
}

static int try_whole(void)
{
	return TRY_ALLOCATE(.size_bytes = POOL_BYTES);
}

TEST(transfer__gives_the_bytes)
{
	struct maas_lend_allocation a = ALLOCATE(.size_bytes = 100);

	assert_int_equal(try_transfer(0, &(struct maas_lend_allocation){.id = "nonsense"}),
			 -ENOENT);
	start_transfer(0, &a);
	assert_int_equal(transfers[0].size_bytes, 100);
	memset(transfers[0].bytes, 'x', 100);
	assert_true(maas_lend_transfer_alive(f.lend, &transfers[0]));
	expect_state("slabs 1, transfers 1");
	end_transfer(0);
	expect_state("slabs 1");
	assert_int_equal(free_now(&a), 0);
	assert_int_equal(try_transfer(0, &a), -ENOENT);
}

TEST(free__waits_for_the_last_transfer)
{
	struct maas_lend_allocation a = allocate_whole();
	struct maas_lend_transfer late = {0};

	start_transfer(0, &a);
	start_transfer(1, &a);
	start_free(&a);
	assert_false(maas_lend_transfer_alive(f.lend, &transfers[0]));
	assert_int_equal(transfer_begin(&a, &late), -ENOENT);
	assert_int_equal(try_free(&a), -ENOENT);
	assert_int_equal(try_whole(), -ENOSPC);
	end_transfer(1);
	expect_state("slabs 1, transfers 1, frees 1");
	assert_int_equal(try_whole(), -ENOSPC);
	end_transfer(0);
	expect_state("told 1");
	assert_int_equal(try_whole(), 0);
	pass_ms(3000);
	expect_state("slabs 1, told 1");
}

TEST(free__aborts_after_the_grace)
{
	struct maas_lend_allocation a = allocate_whole();

	start_transfer(0, &a);
	start_transfer(1, &a);
	start_free(&a);
	pass_ms(900);
	expect_state("slabs 1, transfers 2, frees 1");
	pass_ms(100);
	expect_state("slabs 1, transfers 2, frees 1, forced 2, aborts 2");
	assert_int_equal(aborts[0], 1);
	pass_ms(5000);
	expect_state("slabs 1, transfers 2, frees 1, forced 2, aborts 2");
	end_transfer(0);
	end_transfer(1);
	expect_state("forced 2, aborts 2, told 1");
}

/* While the free waits, a reader sees the old bytes, never those of the next owner. */
TEST(free__keeps_the_bytes_while_it_waits)
{
	struct maas_lend_allocation a = allocate_whole();

	start_transfer(0, &a);
	memset(transfers[0].bytes, 0x5a, POOL_BYTES);
	start_free(&a);
	while (maas_slab_reclaim(f.slab, maas_clock_ms() + 60000, UINT64_MAX))
		;
	assert_int_equal(try_whole(), -ENOSPC);
	for (size_t i = 0; i < POOL_BYTES; i++)
		assert_int_equal(transfers[0].bytes[i], 0x5a);
	end_transfer(0);
	expect_state("told 1");
}

TEST(lapse__waits_like_a_free)
{
	struct maas_lend_allocation a = allocate_ttl(2);

	start_transfer(0, &a);
	pass_ms(2000);
	assert_false(maas_lend_transfer_alive(f.lend, &transfers[0]));
	assert_int_equal(free_now(&a), -ENOENT);
	expect_state("slabs 1, transfers 1, frees 1, lapsed 1");
	pass_ms(1000);
	assert_int_equal(aborts[0], 1);
	end_transfer(0);
	expect_state("lapsed 1, forced 1, aborts 1");
}

/* The begin and the end of a transfer, and a free, look at one slab, however many others are in
 * use, and however many others read this one. */
TEST(transfers__cost_the_same_among_many)
{
	fixture_reopen(1u << 20);
	static struct maas_lend_allocation all[8192];
	static struct maas_lend_transfer crowd[MAAS_ARRAY_SIZE(all)];
	static struct maas_lend_transfer others[10000];
	uint64_t steps;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		all[i] = ALLOCATE(.size_bytes = 64);
		assert_int_equal(transfer_begin(&all[i], &crowd[i]), 0);
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i++)
		assert_int_equal(transfer_begin(&all[4000], &others[i]), 0);
	steps = maas_lend_steps(f.lend);
	maas_lend_transfers_end(f.lend, &crowd[5000], 1);
	assert_int_equal(transfer_begin(&all[5000], &crowd[5000]), 0);
	start_free(&all[4000]);
	maas_lend_transfers_end(f.lend, &crowd[4000], 1);
	assert_int_equal(maas_lend_steps(f.lend) - steps, 4);
	maas_lend_transfers_end(f.lend, others, MAAS_ARRAY_SIZE(others));
	assert_int_equal(maas_lend_steps(f.lend) - steps, 4 + MAAS_ARRAY_SIZE(others));
	assert_int_equal(end.calls, 1);
	assert_int_equal(lend_stats().transfers, MAAS_ARRAY_SIZE(all) - 1);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(all); i++) {
		if (i == 4000)
			continue;
		assert_int_equal(free_now(&all[i]), -EINPROGRESS);
		maas_lend_transfers_end(f.lend, &crowd[i], 1);
	}
	assert_int_equal(live_slabs(), 0);
}

/* Each is told once, however many ticks and other frees come by. */
TEST(free__tells_each_of_many_once)
{
	fixture_reopen(UINT64_C(2) * POOL_BYTES);
	struct maas_lend_allocation a[2] = {allocate_whole(), allocate_whole()};
	static struct maas_lend_transfer many[2][5000];
	static int told_of[2 * 5000];
	uint64_t steps;

	for (int i = 0; i < 2 * 5000; i++) {
		many[i % 2][i / 2].abort = count_abort;
		many[i % 2][i / 2].arg = &told_of[i];
		assert_int_equal(transfer_begin(&a[i % 2], &many[i % 2][i / 2]), 0);
	}
	start_free(&a[0]);
	pass_ms(300);
	start_free(&a[1]);
	steps = maas_lend_steps(f.lend);
	pass_ms(10000);
	assert_int_equal(maas_lend_steps(f.lend) - steps, 2 * 5000 + 2);
	for (int i = 0; i < 2 * 5000; i++)
		assert_int_equal(told_of[i], 1);
	maas_lend_transfers_end(f.lend, many[1], 5000);
	expect_state("slabs 1, transfers 5000, frees 1, forced 10000, told 1");
	maas_lend_transfers_end(f.lend, many[0], 5000);
	expect_state("forced 10000, told 2");
}

/* Ends that complete several frees at once make every call. */
TEST(transfers__end_with_all_their_frees)
{
	fixture_reopen(1u << 20);
	struct maas_lend_transfer many[600];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(many); i++) {
		struct maas_lend_allocation a = allocate_plain();

		assert_int_equal(transfer_begin(&a, &many[i]), 0);
		start_free(&a);
	}
	expect_state("slabs 600, transfers 600, frees 600");
	maas_lend_transfers_end(f.lend, many, MAAS_ARRAY_SIZE(many));
	expect_state("told 600");
}

TEST_MAIN(setup, fixture_teardown)
