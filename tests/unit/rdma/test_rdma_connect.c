/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect to the server, how connections end, and what is left of them then. */
#include "tests/unit/rdma/rdma_fixture.h"

#include <endian.h>

#define MANY 6

static const enum maas_rdma_keys both_modes[] = {MAAS_RDMA_KEYS_WINDOW, MAAS_RDMA_KEYS_MR};

static bool is_idle(struct world *world)
{
	struct maas_lend_key_stats stats = world_stats(world);

	return !stats.connecting && !stats.connected && !stats.ending && !stats.grants;
}

static void wire__is_laid_out_for_ever(void **state)
{
	struct maas_wire_connect connect = {
		.magic = htobe32(MAAS_WIRE_MAGIC), .version = htobe16(1), .ticket = {0xab}};
	struct maas_wire_accept accept = {.connection = htobe32(0x01020304)};
	struct maas_wire_reject reject = {.reason = htobe16(MAAS_WIRE_ENDING)};

	(void)state;
	assert_memory_equal(&connect, "MaaS\0\1\0\0\xab", 9);
	assert_memory_equal((uint8_t *)&accept + 8, "\1\2\3\4", 4);
	assert_memory_equal((uint8_t *)&reject + 6, "\0\5", 2);
	assert_int_equal(sizeof(connect), 24);
	assert_int_equal(sizeof(accept), 12);
	assert_int_equal(sizeof(reject), 8);
}

static void connect__with_a_ticket(void **state)
{
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	AWAIT(world_stats(&world).connected == 1);
	peer_close(&peer);
	AWAIT(is_idle(&world));
	world_close(&world);
}

static void connect__with_a_ticket_that_was_used(void **state)
{
	struct world world;
	struct peer peer;
	struct peer thief;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	thief = (struct peer){.session = peer.session};
	assert_int_equal(peer_dial(&world, &thief), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(peer_run(&peer, IBV_WR_RDMA_WRITE, 0, 0, 0), IBV_WC_SUCCESS);
	assert_int_equal(count_of(world_stats(&world).rejects, "ticket"), 1);
	peer_close(&peer);
	world_close(&world);
}

static void connect__with_a_ticket_that_is_stale(void **state)
{
	struct maas_lend_session_info newer;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_session(&world, &peer, "one");
	assert_int_equal(maas_lend_session_ticket(world.lend, peer.session.id, &newer), 0);
	assert_int_equal(peer_dial(&world, &peer), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(end_session(&world, &peer), 0);
	peer.session = newer;
	assert_int_equal(peer_dial(&world, &peer), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(count_of(world_stats(&world).rejects, "ticket"), 2);
	world_close(&world);
}

static void garbage(const struct fake_rules *rules)
{
	struct maas_wire_connect hello = {.magic = htobe32(MAAS_WIRE_MAGIC)};
	struct maas_lend_key_stats stats;
	struct world world;
	struct peer peer = {0};

	world_open(&world, rules, MAAS_RDMA_KEYS_AUTO);
	assert_int_equal(peer_dial_with(&world, &peer, NULL, 0), MAAS_WIRE_VERSION_UNKNOWN);
	assert_int_equal(peer_dial_with(&world, &peer, "MaaS", 4), MAAS_WIRE_VERSION_UNKNOWN);
	hello.version = htobe16(MAAS_WIRE_VERSION + 1);
	assert_int_equal(peer_dial_with(&world, &peer, &hello, sizeof(hello)),
			 MAAS_WIRE_VERSION_UNKNOWN);
	hello.version = htobe16(MAAS_WIRE_VERSION);
	assert_int_equal(peer_dial_with(&world, &peer, &hello, sizeof(hello)),
			 MAAS_WIRE_TICKET_UNKNOWN);
	hello.magic = 0;
	assert_int_equal(peer_dial_with(&world, &peer, &hello, sizeof(hello)),
			 MAAS_WIRE_VERSION_UNKNOWN);
	stats = world_stats(&world);
	assert_int_equal(count_of(stats.rejects, "version"), 4);
	assert_int_equal(count_of(stats.rejects, "ticket"), 1);
	assert_true(is_idle(&world));
	world_close(&world);
}

static void connect__with_garbage(void **state)
{
	struct fake_rules rules = fake_rules_default();

	(void)state;
	garbage(&rules);
	rules.bare_data = true;
	garbage(&rules);
}

static void connect__short_of_queue_pairs(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct world world;
	struct peer peer;
	struct peer other;
	struct peer third;

	(void)state;
	rules.max_qp = 5;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	peer_open(&world, &other, "two");
	peer_session(&world, &third, "three");
	assert_int_equal(peer_dial(&world, &third), MAAS_WIRE_RESOURCES);
	assert_int_equal(count_of(world_stats(&world).rejects, "resources"), 1);
	peer_close(&other);
	AWAIT(world_stats(&world).connected == 1);
	assert_int_equal(maas_lend_session_ticket(world.lend, third.session.id, &third.session), 0);
	assert_int_equal(peer_dial(&world, &third), 0);
	assert_int_equal(peer_run(&peer, IBV_WR_RDMA_WRITE, 0, 0, 0), IBV_WC_SUCCESS);
	peer_close(&third);
	peer_close(&peer);
	world_close(&world);
}

/* The client's end may be broken where the server's is not: it is the newest that counts. */
static void reconnect__with_fresh_grants(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		struct maas_lend_allocation memory;
		struct maas_lend_key before;
		struct maas_lend_key after;
		struct world world;
		struct peer peer;
		struct peer again = {0};

		world_open(&world, NULL, both_modes[i]);
		peer_open(&world, &peer, "one");
		memory = world_allocate(&world, 4096);
		assert_int_equal(
			get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &before), 0);
		memset(peer.link.bytes, 'x', 4096);
		assert_int_equal(peer_write(&peer, &before), IBV_WC_SUCCESS);
		assert_int_equal(
			maas_lend_session_ticket(world.lend, peer.session.id, &again.session), 0);
		assert_int_equal(peer_dial(&world, &again), 0);
		assert_int_not_equal(again.link.connection, peer.link.connection);
		assert_int_equal(
			get_grant(&world, &again, memory.id, MAAS_LEND_ACCESS_WRITE, &after), 0);
		assert_int_equal(after.connection, again.link.connection);
		assert_int_equal(peer_read(&again, &after), IBV_WC_SUCCESS);
		assert_memory_equal(again.link.bytes, peer.link.bytes, 4096);
		assert_int_not_equal(peer_write(&peer, &before), IBV_WC_SUCCESS);
		peer_close(&peer);
		assert_int_equal(world_stats(&world).connected, 1);
		peer_close(&again);
		world_close(&world);
	}
}

static void session_end__kills_all_keys(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		struct maas_lend_key grants[MANY];
		struct fake_live live;
		struct world world;
		struct peer peer;

		world_open(&world, NULL, both_modes[i]);
		peer_open(&world, &peer, "one");
		for (int n = 0; n < MANY; n++) {
			struct maas_lend_allocation memory = world_allocate(&world, 1024);

			assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE,
						   &grants[n]),
					 0);
		}
		assert_int_equal(end_session(&world, &peer), 0);
		fake_live(&live);
		assert_int_equal(live.mws, 0);
		assert_int_equal(live.qps, 1); /* the client's */
		assert_true(is_idle(&world));
		assert_int_not_equal(peer_write(&peer, &grants[0]), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

/* Whatever lend asks when the peer is gone: the session is not connected, its memory is there. */
static void peer_gone__leaves_the_session(void **state)
{
	struct maas_lend_session_info info;
	struct maas_lend_session_ref ref;
	struct maas_lend_allocation memory;
	struct maas_lend_key grant;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	ref = peer_ref(&world, &peer);
	assert_true(maas_rdma_key_ops.connected(world.rdma, ref));
	memory = world_allocate(&world, 1024);
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
	peer_hang_up(&peer);
	AWAIT(is_idle(&world));
	assert_false(maas_rdma_key_ops.connected(world.rdma, ref));
	assert_int_equal(maas_lend_session_get(world.lend, peer.session.id, &info), 0);
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant),
			 -ENOTCONN);
	assert_int_equal(free_it(&world, memory.id), 0);
	peer_close(&peer);
	world_close(&world);
}

static void probe__finds_a_dead_peer(void **state)
{
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	AWAIT(world_stats(&world).connected == 1);
	fake_hold(FAKE_DATA);
	maas_rdma_key_ops.probe(world.rdma, peer_ref(&world, &peer));
	AWAIT(fake_num_held() == 1);
	fake_time_out();
	AWAIT(is_idle(&world));
	assert_int_equal(
		count_of(world_stats(&world).errors, ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR)), 1);
	assert_int_equal(peer_event(&peer), RDMA_CM_EVENT_DISCONNECTED);
	peer_close(&peer);
	world_close(&world);
}

static void device__goes_away(void **state)
{
	struct maas_lend_allocation memory;
	struct maas_lend_key grant;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_open(&world, &peer, "one");
	memory = world_allocate(&world, 1024);
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant), 0);
	fake_remove_device();
	AWAIT(is_idle(&world));
	assert_string_equal(world_stats(&world).state, "failed");
	/* All else goes on. */
	assert_int_equal(get_grant(&world, &peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant),
			 -ENOTCONN);
	assert_int_equal(free_it(&world, memory.id), 0);
	(void)world_allocate(&world, 1024);
	assert_int_equal(end_session(&world, &peer), 0);
	peer_close(&peer);
	world_close(&world);
}

static void stop__with_many_clients(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(both_modes); i++) {
		struct peer peers[MANY];
		struct maas_lend_key grant;
		struct told end = {0};
		struct world world;
		uint64_t before_ms;

		world_open(&world, NULL, both_modes[i]);
		for (int n = 0; n < MANY; n++) {
			struct maas_lend_allocation memory = world_allocate(&world, 1024);

			peer_open(&world, &peers[n], "many");
			assert_int_equal(get_grant(&world, &peers[n], memory.id,
						   MAAS_LEND_ACCESS_WRITE, &grant),
					 0);
		}
		before_ms = maas_clock_ms();
		maas_rdma_stop(world.rdma);
		assert_in_range(maas_clock_ms() - before_ms, 0, 2000);
		assert_int_equal(maas_rdma_key_ops.end_session(world.rdma,
							       (struct maas_lend_session_ref){0, 1},
							       tell, &end),
				 -ESHUTDOWN);
		for (int n = 0; n < MANY; n++)
			peer_close(&peers[n]);
		world_close(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire__is_laid_out_for_ever),
		cmocka_unit_test(connect__with_a_ticket),
		cmocka_unit_test(connect__with_a_ticket_that_was_used),
		cmocka_unit_test(connect__with_a_ticket_that_is_stale),
		cmocka_unit_test(connect__with_garbage),
		cmocka_unit_test(connect__short_of_queue_pairs),
		cmocka_unit_test(reconnect__with_fresh_grants),
		cmocka_unit_test(session_end__kills_all_keys),
		cmocka_unit_test(peer_gone__leaves_the_session),
		cmocka_unit_test(probe__finds_a_dead_peer),
		cmocka_unit_test(device__goes_away),
		cmocka_unit_test(stop__with_many_clients),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
