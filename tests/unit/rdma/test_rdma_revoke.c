/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slab is not used again while a key to it may live: whatever the device does, or does not do.
 * The pool has one slab, so that an allocation meanwhile would get that one.
 */
#include "tests/unit/rdma/rdma_thread.h"

#define SLAB_BYTES 65536

static struct told freed;
static struct told granted[2];

static void begin_lent(enum maas_rdma_keys keys)
{
	freed = (struct told){0};
	memset(granted, 0, sizeof(granted));
	server_options.pool_bytes = SLAB_BYTES;
	begin(keys);
	AWAIT(server_stats().connected == 1);
	memory = allocate(SLAB_BYTES);
}

static void begin_granted(enum maas_rdma_keys keys)
{
	begin_lent(keys);
	memset(peer->link.bytes, 'x', SLAB_BYTES);
	write_with_key(peer, memory.id);
}

/* The bind of the key is held back, or nothing is heard of it. */
static void begin_binding(bool muted)
{
	begin_lent(MAAS_RDMA_KEYS_WINDOW);
	if (muted)
		fake_mute(true);
	else
		fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	start_key(peer, memory.id, &key, &granted[0]);
	AWAIT(fake_num_held() == 1);
}

static void start_free(void)
{
	assert_int_equal(maas_lend_free(server.lend, NULL, memory.id, tell, &freed), -EINPROGRESS);
}

static bool can_allocate(void)
{
	struct maas_lend_allocation other;

	if (!try_allocate(SLAB_BYTES, &other))
		return false;
	check_bytes(other.id, 0);
	return true;
}

static bool is_kept_back(void)
{
	return !freed.calls && !can_allocate();
}

static void expect_freed(void)
{
	assert_int_equal(told(&freed), 0);
	assert_true(can_allocate());
}

/* ---- in order */

TEST_MODES(free__kills_the_key_first)
{
	begin_granted(mode);
	start_free();
	expect_freed();
	assert_int_equal(peer_write(peer, &key), IBV_WC_REM_ACCESS_ERR);
}

TEST(free__while_it_is_invalidated)
{
	begin_granted(MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_LOCAL_INV));
	start_free();
	AWAIT(fake_num_held() == 1);
	assert_true(is_kept_back());
	/* It still opens the slab: nobody else may have it. */
	assert_int_equal(peer_write(peer, &key), IBV_WC_SUCCESS);
	fake_release();
	expect_freed();
}

static void free_while_bound(int keys)
{
	start_free();
	nap_ms(20);
	assert_true(is_kept_back());
	fake_release();
	for (int i = 0; i < keys; i++)
		assert_int_equal(told(&granted[i]), -ENOENT);
	expect_freed();
	assert_int_equal(server_stats().grants, 0);
}

TEST(free__while_it_is_bound)
{
	begin_binding(false);
	free_while_bound(1);
}

TEST(free__while_two_keys_are_bound)
{
	begin_binding(false);
	start_key(peer_open("two"), memory.id, &key, &granted[1]);
	AWAIT(fake_num_held() == 2);
	free_while_bound(2);
}

/* ---- what the device does not do */

TEST(free__with_an_invalidation_that_is_flushed)
{
	for (int applies = 0; applies < 2; applies++) {
		rules.flush_applies = applies;
		begin_granted(MAAS_RDMA_KEYS_WINDOW);
		fake_fail_next(IBV_WR_LOCAL_INV, IBV_WC_WR_FLUSH_ERR);
		start_free();
		expect_freed();
		AWAIT(is_idle());
		assert_int_not_equal(peer_write(peer, &key), IBV_WC_SUCCESS);
		server_close();
	}
}

TEST_MODES(free__after_the_clients_end_broke)
{
	begin_granted(mode);
	assert_int_equal(peer_run(peer, IBV_WR_RDMA_WRITE, 0, 77, 1), IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(free_it(memory.id), 0);
	assert_true(can_allocate());
}

/* The clock that the deadlines are on stands still but for these steps. */
TEST(free__with_a_device_that_is_silent)
{
	uint64_t passed_ms = 0;

	begin_granted(MAAS_RDMA_KEYS_WINDOW);
	fake_mute(true);
	start_free();
	AWAIT(fake_num_held() == 1);
	assert_true(is_kept_back());
	/* 500 ms for the work, then 500 for what was flushed, of which nothing is heard. */
	while (!freed.calls && passed_ms < 1000) {
		ahead_ms += 50;
		passed_ms += 50;
		nap_ms(20);
	}
	expect_freed();
	assert_int_equal(fake_live().bound, 0);
	fake_mute(false);
}

/* Server and lend ask again, after a second each, until the key is dead. */
static void await_reuse(void)
{
	AWAIT((tick(), can_allocate()));
	assert_int_equal(fake_live().bound, 0);
}

/* The `nth` call that ends something fails. */
static void free_while_fails(long nth)
{
	fake_fail_nth(FAKE_ENDS, nth);
	start_free();
	AWAIT(fake_fail_fired());
	(void)fake_fail_disarm();
	await_reuse();
	assert_int_equal(freed.calls, 1);
}

TEST(free__with_a_window_that_will_not_go)
{
	begin_granted(MAAS_RDMA_KEYS_WINDOW);
	fake_fail_next(IBV_WR_LOCAL_INV, IBV_WC_WR_FLUSH_ERR);
	/* The queue pair goes to ERR, then the window is to be deallocated. */
	free_while_fails(2);
	AWAIT(is_idle());
}

TEST(region__that_will_not_go)
{
	begin_granted(MAAS_RDMA_KEYS_MR);
	free_while_fails(1);
	AWAIT(is_idle());
}

TEST(region__of_one_of_two_that_will_not_go)
{
	for (long nth = 1; nth <= 2; nth++) {
		begin_granted(MAAS_RDMA_KEYS_MR);
		get_key(peer_open("two"), memory.id);
		free_while_fails(nth);
		assert_int_equal(server_stats().grants, 0);
		server_close();
	}
}

TEST(bind__fails)
{
	begin_lent(MAAS_RDMA_KEYS_WINDOW);
	fake_fail_next(IBV_WR_BIND_MW, IBV_WC_MW_BIND_ERR);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE), -ENOTCONN);
	AWAIT(is_idle());
	assert_int_equal(count_of(server_stats().errors, ibv_wc_status_str(IBV_WC_MW_BIND_ERR)), 1);
	/* The session lives, and so does its memory. */
	peer_redial(peer);
	write_with_key(peer, memory.id);
}

TEST(bind__does_not_end)
{
	begin_binding(true);
	for (int i = 0; i < 100 && !granted[0].calls; i++) {
		ahead_ms += 100;
		nap_ms(5);
	}
	assert_int_equal(told(&granted[0]), -ENOTCONN);
	AWAIT(is_idle());
	fake_mute(false);
	assert_int_equal(free_it(memory.id), 0);
}

/* The device has answered in time, but the server's thread had other things to do than to look. */
TEST(bind__has_ended_while_the_server_was_late)
{
	struct halt halt;

	begin_binding(false);
	thread_halt(&halt);
	fake_release();
	ahead_ms += 1000;
	thread_go_on(&halt);
	assert_int_equal(told(&granted[0]), 0);
	assert_int_equal(server_stats().connected, 1);
	assert_int_equal(free_it(memory.id), 0);
}

/* ---- the ends of sessions and of the server */

TEST(session_end__with_work_under_way)
{
	begin_binding(false);
	assert_int_equal(end_session(peer), 0);
	assert_int_equal(told(&granted[0]), -ENOTCONN);
	fake_release();
	assert_int_equal(free_it(memory.id), 0);
}

static bool can_open_again(void)
{
	struct maas_lend_session_info again;

	return !maas_lend_session_open(server.lend, NULL, peer->session.name, 60, true, NULL,
				       &again);
}

/* The session's first allocation has a key, and so has one that outlives the session. */
TEST_MODES(session_end__with_keys_that_will_not_go)
{
	struct maas_lend_alloc_request owned = {
		.size_bytes = 4096, .count = 2, .lifetime = MAAS_LEND_LIFETIME_SESSION};
	struct maas_slab_ref refs[2];
	struct maas_lend_allocation first;
	struct maas_slab_stats stats;

	begin(mode);
	AWAIT(server_stats().connected == 1);
	memory = allocate(1024);
	(void)get_key(peer, memory.id);
	owned.session = peer->session.id;
	assert_int_equal(maas_lend_allocate(server.lend, &owned, refs, &first), 0);
	(void)get_key(peer, first.id);
	fake_refuse_ends(true);

	assert_int_equal(end_session(peer), -ETIMEDOUT);
	maas_slab_stats(server.slab, &stats);
	assert_int_equal(stats.live_slabs, 1);
	assert_int_equal(stats.quarantined_bytes, 4096);
	assert_int_equal(server_stats().grants, 2);
	for (int i = 0; i < 30; i++)
		tick();
	assert_false(can_open_again());
	assert_int_equal(free_it(memory.id), -ETIMEDOUT);
	fake_refuse_ends(false);
	AWAIT((tick(), can_open_again()));
	assert_true(is_idle());
	assert_int_equal(server_stats().grants, 0);
	AWAIT((tick(), maas_slab_stats(server.slab, &stats), !stats.quarantined_bytes));
}

/* Any call that ends something, once. */
TEST_MODES(session_end__is_told_and_completed)
{
	bool fired = true;

	for (long nth = 1; fired; nth++) {
		int r;

		begin_granted(mode);
		fake_fail_nth(FAKE_ENDS, nth);
		r = end_session(peer);
		fired = fake_fail_disarm();
		assert_true(r == 0 || r == -ETIMEDOUT);
		assert_true(r == 0 || fired);
		AWAIT((tick(), can_open_again()));
		assert_true(is_idle());
		assert_int_equal(free_it(memory.id), 0);
		server_close();
	}
}

TEST(stop__with_work_under_way)
{
	begin_binding(false);
	start_free();
	maas_rdma_stop(server.rdma);
	assert_int_equal(granted[0].calls, 1);
	assert_int_not_equal(granted[0].status, 0);
	expect_freed();
	fake_release();
}

/* Keys that were granted meanwhile must be dead as well in the end. */
TEST_MODES(free__as_two_sessions_ask)
{
	for (int n = 0; n < 100; n++) {
		struct maas_lend_key keys[2];
		struct peer *other;

		begin_lent(mode);
		other = peer_open("two");
		start_key(peer, memory.id, &keys[0], &granted[0]);
		for (int wait = 0; wait < n % 10; wait++)
			nap();
		start_key(other, memory.id, &keys[1], &granted[1]);
		assert_int_equal(free_it(memory.id), 0);
		assert_true(can_allocate());
		(void)told(&granted[0]);
		(void)told(&granted[1]);
		AWAIT(!server_stats().grants);
		server_close();
	}
}

RDMA_TEST_MAIN()
