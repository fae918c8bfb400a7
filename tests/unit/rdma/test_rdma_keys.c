/* SPDX-License-Identifier: Apache-2.0 */
/* What a key opens, and what it does not; how many there are. */
#include "tests/unit/rdma/rdma_fixture.h"

#define CYCLES 600 /* a window's key would come again after 256 */

static const enum maas_rdma_keys both_modes[] = {MAAS_RDMA_KEYS_WINDOW, MAAS_RDMA_KEYS_MR};
#define FOR_BOTH_MODES(keys)                                                                       \
	/* NOLINTNEXTLINE(bugprone-macro-parentheses): a name */                                   \
	for (const enum maas_rdma_keys *keys = both_modes; (keys) < both_modes + 2; (keys)++)

static void redial(struct world *world, struct peer *peer)
{
	peer_hang_up(peer);
	assert_int_equal(maas_lend_session_ticket(world->lend, peer->session.id, &peer->session),
			 0);
	assert_int_equal(peer_dial(world, peer), 0);
}

static void check_bytes(struct world *world, const char *id, uint8_t expected)
{
	struct maas_lend_transfer transfer = {0};

	assert_int_equal(maas_lend_transfer_begin(world->lend, id, &transfer), 0);
	for (uint64_t i = 0; i < transfer.size_bytes; i++)
		assert_int_equal(transfer.bytes[i], expected);
	maas_lend_transfers_end(world->lend, &transfer, 1);
}

static void key__opens_its_slab(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		memory = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(grant.len_bytes, 1024);
		assert_int_equal(grant.connection, peer.link.connection);
		memset(peer.link.bytes, 'x', 1024);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		check_bytes(&world, memory.id, 'x');
		memset(peer.link.bytes, 0, 1024);
		assert_int_equal(peer_read(&peer, &grant), IBV_WC_SUCCESS);
		assert_int_equal(peer.link.bytes[0] + peer.link.bytes[1023], 2 * 'x');
		assert_int_equal(world_stats(&world).grants, 1);
		peer_close(&peer);
		world_close(&world);
	}
}

/* Each trial is the first operation of a live connection. */
static void refused(struct world *world, struct peer *peer, const char *id, int64_t offset,
		    uint32_t len)
{
	struct maas_lend_key grant;

	redial(world, peer);
	assert_int_equal(get_grant(world, peer, id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
	memset(peer->link.bytes, '!', PEER_BYTES);
	assert_int_equal(
		peer_run(peer, IBV_WR_RDMA_WRITE, grant.addr + (uint64_t)offset, grant.rkey, len),
		IBV_WC_REM_ACCESS_ERR);
}

static void key__opens_nothing_beside_its_slab(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation below;
		struct maas_lend_allocation memory;
		struct maas_lend_allocation above;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		below = world_allocate(&world, 1024);
		memory = world_allocate(&world, 1024);
		above = world_allocate(&world, 1024);
		refused(&world, &peer, memory.id, -1, 1);
		refused(&world, &peer, memory.id, 1024, 1);
		refused(&world, &peer, memory.id, 0, 1025);
		refused(&world, &peer, memory.id, 1, 1024);
		check_bytes(&world, below.id, 0);
		check_bytes(&world, memory.id, 0);
		check_bytes(&world, above.id, 0);
		peer_close(&peer);
		world_close(&world);
	}
}

static void key__of_another_session(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;
		struct peer thief;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		peer_open(&world, &thief, "two");
		memory = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		memset(thief.link.bytes, '!', 1024);
		assert_int_equal(peer_write(&thief, &grant), IBV_WC_REM_ACCESS_ERR);
		redial(&world, &thief);
		assert_int_equal(peer_read(&thief, &grant), IBV_WC_REM_ACCESS_ERR);
		check_bytes(&world, memory.id, 0);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		peer_close(&thief);
		peer_close(&peer);
		world_close(&world);
	}
}

static void key__to_read(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		memory = world_allocate(&world, 1024);
		assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_READ, &grant),
				 0);
		assert_int_equal(peer_read(&peer, &grant), IBV_WC_SUCCESS);
		memset(peer.link.bytes, '!', 1024);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_REM_ACCESS_ERR);
		check_bytes(&world, memory.id, 0);
		peer_close(&peer);
		world_close(&world);
	}
}

static void pool__opens_the_extent(void **state)
{
	struct maas_lend_allocation memory;
	struct maas_lend_allocation other;
	struct maas_lend_key grants[2];
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_POOL);
	peer_open(&world, &peer, "one");
	memory = world_allocate(&world, 1024);
	other = world_allocate(&world, 1024);
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grants[0]),
			 0);
	assert_int_equal(get_grant(&world, &peer, other.id, MAAS_LEND_ACCESS_WRITE, &grants[1]), 0);
	assert_int_equal(grants[0].rkey, grants[1].rkey);
	assert_int_equal(peer_write(&peer, &grants[0]), IBV_WC_SUCCESS);
	assert_int_equal(free_it(&world, memory.id), 0);
	assert_int_equal(world_stats(&world).grants, 1);
	peer_close(&peer);
	world_close(&world);
}

static void grant__twice_is_one_key(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key first;
		struct maas_lend_key second;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		memory = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &first), 0);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &second), 0);
		assert_memory_equal(&first, &second, sizeof(first));
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_READ, &second),
			-EEXIST);
		assert_int_equal(world_stats(&world).grants, 1);
		peer_close(&peer);
		world_close(&world);
	}
}

static void grant__to_who_is_not_there(void **state)
{
	struct maas_lend_allocation memory;
	struct maas_lend_key grant;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	memory = world_allocate(&world, 1024);
	peer_session(&world, &peer, "one");
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant),
			 -ENOTCONN);
	assert_int_equal(peer_dial(&world, &peer), 0);
	assert_int_equal(free_it(&world, memory.id), 0);
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant),
			 -ENOENT);
	peer_close(&peer);
	world_close(&world);
}

static void ungrant__leaves_the_others(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key grants[2];
		struct told end = {0};
		struct world world;
		struct peer peer;
		struct peer other;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		peer_open(&world, &other, "two");
		memory = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grants[0]), 0);
		assert_int_equal(
			get_grant(&world, &other, memory.id, MAAS_LEND_ACCESS_WRITE, &grants[1]),
			0);
		assert_int_equal(
			maas_lend_ungrant(world.lend, memory.id, peer.session.id, tell, &end),
			-EINPROGRESS);
		assert_int_equal(told(&end), 0);
		assert_int_equal(peer_write(&peer, &grants[0]), IBV_WC_REM_ACCESS_ERR);
		assert_int_equal(peer_write(&other, &grants[1]), IBV_WC_SUCCESS);
		peer_close(&peer);
		peer_close(&other);
		world_close(&world);
	}
}

/* Their ends come in any order: the first, the last and one between them, then the rest. */
static void ungrant__in_any_order(void **state)
{
	enum { SESSIONS = 6 };
	static const int order[] = {SESSIONS - 1, 0, 2, 4};

	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory;
		struct maas_lend_key grants[SESSIONS];
		struct world world;
		struct peer peers[SESSIONS];

		world_open(&world, NULL, *keys);
		memory = world_allocate(&world, 1024);
		for (int i = 0; i < SESSIONS; i++) {
			peer_open(&world, &peers[i], "many");
			assert_int_equal(get_grant(&world, &peers[i], memory.id,
						   MAAS_LEND_ACCESS_WRITE, &grants[i]),
					 0);
		}
		for (size_t i = 0; i < MAAS_ARRAY_SIZE(order); i++) {
			struct told end = {0};

			assert_int_equal(maas_lend_ungrant(world.lend, memory.id,
							   peers[order[i]].session.id, tell, &end),
					 -EINPROGRESS);
			assert_int_equal(told(&end), 0);
			assert_int_equal(world_stats(&world).grants, SESSIONS - 1 - i);
		}
		assert_int_equal(peer_write(&peers[1], &grants[1]), IBV_WC_SUCCESS);
		assert_int_equal(peer_write(&peers[3], &grants[3]), IBV_WC_SUCCESS);
		assert_int_equal(free_it(&world, memory.id), 0);
		assert_int_equal(world_stats(&world).grants, 0);
		for (int i = 0; i < SESSIONS; i++) {
			assert_int_equal(peer_write(&peers[i], &grants[i]), IBV_WC_REM_ACCESS_ERR);
			peer_close(&peers[i]);
		}
		world_close(&world);
	}
}

/* ---- limits */

static void grants__as_many_as_allowed(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct maas_lend_allocation memory[WORLD_GRANTS + 1];
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, *keys);
		peer_open(&world, &peer, "one");
		for (int i = 0; i < WORLD_GRANTS; i++) {
			memory[i] = world_allocate(&world, 1024);
			assert_int_equal(get_grant(&world, &peer, memory[i].id,
						   MAAS_LEND_ACCESS_WRITE, &grant),
					 0);
		}
		memory[WORLD_GRANTS] = world_allocate(&world, 1024);
		assert_int_equal(get_grant(&world, &peer, memory[WORLD_GRANTS].id,
					   MAAS_LEND_ACCESS_WRITE, &grant),
				 -EDQUOT);
		/* All else goes on. */
		assert_int_equal(
			get_grant(&world, &peer, memory[0].id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		assert_int_equal(free_it(&world, memory[0].id), 0);
		assert_int_equal(get_grant(&world, &peer, memory[WORLD_GRANTS].id,
					   MAAS_LEND_ACCESS_WRITE, &grant),
				 0);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

static void grants__as_many_as_the_device_has(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct fake_rules rules = fake_rules_default();
		struct maas_lend_allocation memory[4];
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;

		rules.max_mw = 3;
		rules.max_mr = *keys == MAAS_RDMA_KEYS_MR ? 4 : 8; /* one is the client's */
		world_open(&world, &rules, *keys);
		peer_open(&world, &peer, "one");
		for (int i = 0; i < 4; i++)
			memory[i] = world_allocate(&world, 1024);
		for (int i = 0; i < 3; i++)
			assert_int_equal(get_grant(&world, &peer, memory[i].id,
						   MAAS_LEND_ACCESS_WRITE, &grant),
					 0);
		assert_int_equal(
			get_grant(&world, &peer, memory[3].id, MAAS_LEND_ACCESS_WRITE, &grant),
			-EMLINK);
		assert_int_equal(world_stats(&world).grants, 3);
		assert_int_equal(world_stats(&world).connected, 1);
		assert_int_equal(free_it(&world, memory[1].id), 0);
		assert_int_equal(
			get_grant(&world, &peer, memory[3].id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

/* The device has room for no more: said so, and tried again when there is. */
static void grants__when_nothing_can_be_pinned(void **state)
{
	(void)state;
	FOR_BOTH_MODES(keys)
	{
		struct fake_rules rules = fake_rules_default();
		struct maas_lend_allocation memory;
		struct maas_lend_allocation other;
		struct maas_lend_key grant;
		struct world world;
		struct peer peer;

		/* The client's, and one extent of the server's. */
		rules.max_pinned = PEER_BYTES + 65536 + 1024;
		world_open(&world, &rules, *keys);
		peer_open(&world, &peer, "one");
		memory = world_allocate(&world, 65536);
		other = world_allocate(&world, 65536);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(get_grant(&world, &peer, other.id, MAAS_LEND_ACCESS_WRITE, &grant),
				 -EMLINK);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(peer_write(&peer, &grant), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

/* Else who had many keys once would keep others from theirs, with nothing to be seen of it. */
static void windows__are_not_hoarded(void **state)
{
	enum { MANY = WORLD_GRANTS };
	struct fake_rules rules = fake_rules_default();
	struct maas_lend_allocation memory[MANY];
	struct maas_lend_key grant;
	struct fake_live live;
	struct world world;
	struct peer peer;
	struct peer other;

	(void)state;
	rules.max_mw = MANY;
	world_open(&world, &rules, MAAS_RDMA_KEYS_WINDOW);
	peer_open(&world, &peer, "one");
	peer_open(&world, &other, "two");
	for (int i = 0; i < MANY; i++) {
		memory[i] = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &peer, memory[i].id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(free_it(&world, memory[i].id), 0);

	fake_live(&live);
	assert_in_range(live.mws, 1, MANY / 8);
	for (int i = 0; i < MANY / 2; i++) {
		memory[i] = world_allocate(&world, 1024);
		assert_int_equal(
			get_grant(&world, &other, memory[i].id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(peer_write(&other, &grant), IBV_WC_SUCCESS);
	}
	peer_close(&other);
	peer_close(&peer);
	world_close(&world);
}

static void window__is_retired_before_its_key_comes_again(void **state)
{
	struct maas_lend_key grant;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_WINDOW);
	peer_open(&world, &peer, "one");
	for (int i = 0; i < CYCLES; i++) {
		struct maas_lend_allocation memory = world_allocate(&world, 1024);

		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
		assert_int_equal(free_it(&world, memory.id), 0);
	}
	assert_int_equal(fake_faults(), 0);
	assert_int_equal(peer_write(&peer, &grant), IBV_WC_REM_ACCESS_ERR);
	peer_close(&peer);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key__opens_its_slab),
		cmocka_unit_test(key__opens_nothing_beside_its_slab),
		cmocka_unit_test(key__of_another_session),
		cmocka_unit_test(key__to_read),
		cmocka_unit_test(pool__opens_the_extent),
		cmocka_unit_test(grant__twice_is_one_key),
		cmocka_unit_test(grant__to_who_is_not_there),
		cmocka_unit_test(ungrant__leaves_the_others),
		cmocka_unit_test(ungrant__in_any_order),
		cmocka_unit_test(grants__as_many_as_allowed),
		cmocka_unit_test(grants__as_many_as_the_device_has),
		cmocka_unit_test(grants__when_nothing_can_be_pinned),
		cmocka_unit_test(windows__are_not_hoarded),
		cmocka_unit_test(window__is_retired_before_its_key_comes_again),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
