/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slab is not used again while a key to it may live: whatever the device does, or does not do.
 * The pool has one slab, so that whoever allocates meanwhile would get that one.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#define SLAB_BYTES 65536

static const enum maas_rdma_keys both_modes[] = {MAAS_RDMA_KEYS_WINDOW, MAAS_RDMA_KEYS_MR};

struct scene {
	struct world world;
	struct peer peer;
	struct maas_lend_allocation memory;
	struct maas_lend_key grant;
	struct told freed;
};

static void begin(struct scene *scene, const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	memset(scene, 0, sizeof(*scene));
	world_pool_bytes = SLAB_BYTES;
	world_open(&scene->world, rules, keys);
	peer_open(&scene->world, &scene->peer, "one");
	AWAIT(world_stats(&scene->world).connected == 1);
	scene->memory = world_allocate(&scene->world, SLAB_BYTES);
}

static void begin_granted(struct scene *scene, const struct fake_rules *rules,
			  enum maas_rdma_keys keys)
{
	begin(scene, rules, keys);
	assert_int_equal(get_grant(&scene->world, &scene->peer, scene->memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene->grant),
			 0);
	memset(scene->peer.link.bytes, 'x', SLAB_BYTES);
	assert_int_equal(peer_write(&scene->peer, &scene->grant), IBV_WC_SUCCESS);
}

static void end(struct scene *scene)
{
	peer_close(&scene->peer);
	world_close(&scene->world);
}

static void start_free(struct scene *scene)
{
	assert_int_equal(maas_lend_free(scene->world.lend, scene->memory.id, tell, &scene->freed),
			 -EINPROGRESS);
}

static bool can_allocate(struct scene *scene)
{
	const struct maas_lend_alloc_request request = {.size_bytes = SLAB_BYTES, .count = 1};
	struct maas_lend_allocation other;
	struct maas_slab_ref ref;
	struct maas_lend_transfer transfer = {0};
	uint64_t sum = 0;

	if (maas_lend_allocate(scene->world.lend, &request, &ref, &other))
		return false;
	assert_int_equal(maas_lend_transfer_begin(scene->world.lend, other.id, &transfer), 0);
	for (unsigned int i = 0; i < SLAB_BYTES; i++)
		sum += transfer.bytes[i];
	maas_lend_transfers_end(scene->world.lend, &transfer, 1);
	assert_int_equal(sum, 0);
	return true;
}

static bool is_kept_back(struct scene *scene)
{
	return !atomic_load(&scene->freed.calls) && !can_allocate(scene);
}

static void connection_ends(struct scene *scene)
{
	AWAIT(!world_stats(&scene->world).connected && !world_stats(&scene->world).ending);
}

/* ---- in order */

static void free__kills_the_key_first(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		struct scene scene;

		begin_granted(&scene, NULL, both_modes[i]);
		start_free(&scene);
		assert_int_equal(told(&scene.freed), 0);
		assert_true(can_allocate(&scene));
		assert_int_equal(peer_write(&scene.peer, &scene.grant), IBV_WC_REM_ACCESS_ERR);
		end(&scene);
	}
}

static void free__while_it_is_invalidated(void **state)
{
	struct scene scene;

	(void)state;
	begin_granted(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_LOCAL_INV));
	start_free(&scene);
	AWAIT(fake_num_held() == 1);
	assert_true(is_kept_back(&scene));
	/* It still opens the slab: nobody else may have it. */
	assert_int_equal(peer_write(&scene.peer, &scene.grant), IBV_WC_SUCCESS);
	fake_release();
	assert_int_equal(told(&scene.freed), 0);
	assert_true(can_allocate(&scene));
	end(&scene);
}

static void free__while_it_is_bound(void **state)
{
	struct told granted = {0};
	struct scene scene;

	(void)state;
	begin(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	assert_int_equal(ask_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant, &granted),
			 -EINPROGRESS);
	AWAIT(fake_num_held() == 1);
	start_free(&scene);
	for (int i = 0; i < 100; i++)
		nap();
	assert_true(is_kept_back(&scene));
	fake_release();
	assert_int_equal(told(&granted), -ENOENT);
	assert_int_equal(told(&scene.freed), 0);
	assert_true(can_allocate(&scene));
	assert_int_equal(world_stats(&scene.world).grants, 0);
	end(&scene);
}

/* ---- what the device does not do */

static void free__with_an_invalidation_that_is_flushed(void **state)
{
	struct fake_rules rules = fake_rules_default();

	(void)state;
	for (int applies = 0; applies < 2; applies++) {
		struct scene scene;

		rules.flush_applies = applies;
		begin_granted(&scene, &rules, MAAS_RDMA_KEYS_WINDOW);
		fake_fail_next(IBV_WR_LOCAL_INV, IBV_WC_WR_FLUSH_ERR);
		start_free(&scene);
		assert_int_equal(told(&scene.freed), 0);
		assert_true(can_allocate(&scene));
		connection_ends(&scene);
		assert_int_not_equal(peer_write(&scene.peer, &scene.grant), IBV_WC_SUCCESS);
		end(&scene);
	}
}

static void free__after_the_clients_end_broke(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		struct scene scene;

		begin_granted(&scene, NULL, both_modes[i]);
		assert_int_equal(peer_run(&scene.peer, IBV_WR_RDMA_WRITE, 0, 77, 1),
				 IBV_WC_REM_ACCESS_ERR);
		assert_int_equal(free_it(&scene.world, scene.memory.id), 0);
		assert_true(can_allocate(&scene));
		end(&scene);
	}
}

/* The clock that the deadlines are on stands still but for these steps. */
static void free__with_a_device_that_is_silent(void **state)
{
	struct fake_live live;
	struct scene scene;
	uint64_t passed_ms = 0;

	(void)state;
	begin_granted(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_mute(true);
	start_free(&scene);
	AWAIT(fake_num_held() == 1);
	assert_true(is_kept_back(&scene));
	/* 500 ms for the work, then 500 for what was flushed, of which nothing is heard. */
	while (!atomic_load(&scene.freed.calls) && passed_ms < 1000) {
		clock_add_ms(50);
		passed_ms += 50;
		for (int i = 0; i < 200; i++)
			nap();
	}
	assert_int_equal(told(&scene.freed), 0);
	fake_live(&live);
	assert_int_equal(live.bound, 0);
	assert_true(can_allocate(&scene));
	fake_mute(false);
	end(&scene);
}

/* Server and lend ask again, after a second each, until the key is dead. */
static void until_reused(struct scene *scene)
{
	struct fake_live live;
	bool reused = false;

	for (int i = 0; i < 100 && !reused; i++) {
		clock_add_ms(100);
		maas_lend_tick(scene->world.lend);
		for (int n = 0; n < 20; n++)
			nap();
		reused = can_allocate(scene);
	}
	assert_true(reused);
	fake_live(&live);
	assert_int_equal(live.bound, 0);
}

static void free__with_a_window_that_will_not_go(void **state)
{
	struct scene scene;

	(void)state;
	begin_granted(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_fail_next(IBV_WR_LOCAL_INV, IBV_WC_WR_FLUSH_ERR);
	/* The queue pair goes to ERR, then the window is to be deallocated. */
	fake_fail_nth(FAKE_ENDS, 2);
	start_free(&scene);
	AWAIT(fake_fail_fired());
	(void)fake_fail_disarm();
	until_reused(&scene);
	assert_int_equal(atomic_load(&scene.freed.calls), 1);
	connection_ends(&scene);
	end(&scene);
}

static void region__that_will_not_go(void **state)
{
	struct scene scene;

	(void)state;
	begin_granted(&scene, NULL, MAAS_RDMA_KEYS_MR);
	fake_fail_nth(FAKE_ENDS, 1);
	start_free(&scene);
	AWAIT(fake_fail_fired());
	(void)fake_fail_disarm();
	until_reused(&scene);
	assert_int_equal(atomic_load(&scene.freed.calls), 1);
	connection_ends(&scene);
	end(&scene);
}

static void bind__fails(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_fail_next(IBV_WR_BIND_MW, IBV_WC_MW_BIND_ERR);
	assert_int_equal(get_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant),
			 -ENOTCONN);
	connection_ends(&scene);
	assert_int_equal(
		count_of(world_stats(&scene.world).errors, ibv_wc_status_str(IBV_WC_MW_BIND_ERR)),
		1);
	/* The session lives, and so does its memory. */
	peer_hang_up(&scene.peer);
	assert_int_equal(maas_lend_session_ticket(scene.world.lend, scene.peer.session.id,
						  &scene.peer.session),
			 0);
	assert_int_equal(peer_dial(&scene.world, &scene.peer), 0);
	assert_int_equal(get_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant),
			 0);
	assert_int_equal(peer_write(&scene.peer, &scene.grant), IBV_WC_SUCCESS);
	end(&scene);
}

static void bind__does_not_end(void **state)
{
	struct told granted = {0};
	struct scene scene;

	(void)state;
	begin(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_mute(true);
	assert_int_equal(ask_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant, &granted),
			 -EINPROGRESS);
	AWAIT(fake_num_held() == 1);
	for (int i = 0; i < 100 && !atomic_load(&granted.calls); i++) {
		clock_add_ms(100);
		for (int n = 0; n < 50; n++)
			nap();
	}
	assert_int_equal(told(&granted), -ENOTCONN);
	connection_ends(&scene);
	fake_mute(false);
	assert_int_equal(free_it(&scene.world, scene.memory.id), 0);
	end(&scene);
}

/* ---- the ends of sessions and of the server */

static void session_end__with_work_under_way(void **state)
{
	struct told granted = {0};
	struct scene scene;

	(void)state;
	begin(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	assert_int_equal(ask_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant, &granted),
			 -EINPROGRESS);
	AWAIT(fake_num_held() == 1);
	assert_int_equal(end_session(&scene.world, &scene.peer), 0);
	assert_int_equal(told(&granted), -ENOTCONN);
	fake_release();
	assert_int_equal(free_it(&scene.world, scene.memory.id), 0);
	end(&scene);
}

static void stop__with_work_under_way(void **state)
{
	struct told granted = {0};
	struct scene scene;

	(void)state;
	begin(&scene, NULL, MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	assert_int_equal(ask_grant(&scene.world, &scene.peer, scene.memory.id,
				   MAAS_LEND_ACCESS_WRITE, &scene.grant, &granted),
			 -EINPROGRESS);
	AWAIT(fake_num_held() == 1);
	start_free(&scene);
	maas_rdma_stop(scene.world.rdma);
	assert_int_equal(atomic_load(&granted.calls), 1);
	assert_int_not_equal(atomic_load(&granted.status), 0);
	assert_int_equal(told(&scene.freed), 0);
	assert_true(can_allocate(&scene));
	fake_release();
	end(&scene);
}

/* What was granted meanwhile must be dead as well, once all have come to an end. */
static void free__as_two_sessions_ask(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		for (int n = 0; n < 100; n++) {
			struct told granted[2] = {0};
			struct maas_lend_key grants[2];
			struct scene scene;
			struct peer other;

			begin(&scene, NULL, both_modes[i]);
			peer_open(&scene.world, &other, "two");
			assert_int_equal(ask_grant(&scene.world, &scene.peer, scene.memory.id,
						   MAAS_LEND_ACCESS_WRITE, &grants[0], &granted[0]),
					 -EINPROGRESS);
			for (int wait = 0; wait < n % 10; wait++)
				nap();
			assert_int_equal(ask_grant(&scene.world, &other, scene.memory.id,
						   MAAS_LEND_ACCESS_WRITE, &grants[1], &granted[1]),
					 -EINPROGRESS);
			assert_int_equal(free_it(&scene.world, scene.memory.id), 0);
			assert_true(can_allocate(&scene));
			(void)told(&granted[0]);
			(void)told(&granted[1]);
			AWAIT(!world_stats(&scene.world).grants);
			peer_close(&other);
			end(&scene);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free__kills_the_key_first),
		cmocka_unit_test(free__while_it_is_invalidated),
		cmocka_unit_test(free__while_it_is_bound),
		cmocka_unit_test(free__with_an_invalidation_that_is_flushed),
		cmocka_unit_test(free__after_the_clients_end_broke),
		cmocka_unit_test(free__with_a_device_that_is_silent),
		cmocka_unit_test(free__with_a_window_that_will_not_go),
		cmocka_unit_test(region__that_will_not_go),
		cmocka_unit_test(bind__fails),
		cmocka_unit_test(bind__does_not_end),
		cmocka_unit_test(session_end__with_work_under_way),
		cmocka_unit_test(stop__with_work_under_way),
		cmocka_unit_test(free__as_two_sessions_ask),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
