/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect to the server, how connections end, and what is left of them then. */
#include "tests/unit/rdma/rdma_fixture.h"

#include <endian.h>

#define MANY 6

static struct peer *peer;

static void begin(const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	server_open(rules, keys);
	peer = peer_open("one");
}

static bool is_idle(void)
{
	struct maas_lend_key_stats stats = server_stats();

	return !stats.connecting && !stats.connected && !stats.ending && !stats.grants;
}

TEST(wire__is_laid_out_for_ever)
{
	struct maas_wire_connect connect = {
		.magic = htobe32(MAAS_WIRE_MAGIC), .version = htobe16(1), .ticket = {0xab}};
	struct maas_wire_accept accept = {.connection = htobe32(0x01020304)};
	struct maas_wire_reject reject = {.reason = htobe16(MAAS_WIRE_ENDING)};

	assert_memory_equal(&connect, "MaaS\0\1\0\0\xab", 9);
	assert_memory_equal((uint8_t *)&accept + 8, "\1\2\3\4", 4);
	assert_memory_equal((uint8_t *)&reject + 6, "\0\5", 2);
	assert_int_equal(sizeof(connect), 24);
	assert_int_equal(sizeof(accept), 12);
	assert_int_equal(sizeof(reject), 8);
}

TEST(connect__with_a_ticket_that_was_used)
{
	struct peer *thief;

	begin(NULL, MAAS_RDMA_KEYS_AUTO);
	thief = peer_new(NULL);
	thief->session = peer->session;
	assert_int_equal(peer_dial(thief), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(peer_run(peer, IBV_WR_RDMA_WRITE, 0, 0, 0), IBV_WC_SUCCESS);
	assert_int_equal(count_of(server_stats().rejects, "ticket"), 1);
}

TEST(connect__with_a_ticket_that_is_stale)
{
	struct maas_lend_session_info newer;

	server_open(NULL, MAAS_RDMA_KEYS_AUTO);
	peer = peer_new("one");
	assert_int_equal(maas_lend_session_ticket(server.lend, NULL, peer->session.id, &newer), 0);
	assert_int_equal(peer_dial(peer), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(end_session(peer), 0);
	peer->session = newer;
	assert_int_equal(peer_dial(peer), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(count_of(server_stats().rejects, "ticket"), 2);
}

/* With zeros behind what was sent, and without. */
TEST(connect__with_garbage)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_lend_key_stats stats;

	for (int bare = 0; bare < 2; bare++) {
		struct maas_wire_connect hello = {.magic = htobe32(MAAS_WIRE_MAGIC)};

		rules.bare_data = bare;
		server_open(&rules, MAAS_RDMA_KEYS_AUTO);
		peer = peer_new(NULL);
		assert_int_equal(peer_dial_with(peer, NULL, 0), MAAS_WIRE_VERSION_UNKNOWN);
		assert_int_equal(peer_dial_with(peer, "MaaS", 4), MAAS_WIRE_VERSION_UNKNOWN);
		hello.version = htobe16(MAAS_WIRE_VERSION + 1);
		assert_int_equal(peer_dial_with(peer, &hello, sizeof(hello)),
				 MAAS_WIRE_VERSION_UNKNOWN);
		hello.version = htobe16(MAAS_WIRE_VERSION);
		assert_int_equal(peer_dial_with(peer, &hello, sizeof(hello)),
				 MAAS_WIRE_TICKET_UNKNOWN);
		hello.magic = 0;
		assert_int_equal(peer_dial_with(peer, &hello, sizeof(hello)),
				 MAAS_WIRE_VERSION_UNKNOWN);
		stats = server_stats();
		assert_int_equal(count_of(stats.rejects, "version"), 4);
		assert_int_equal(count_of(stats.rejects, "ticket"), 1);
		assert_true(is_idle());
		server_close();
	}
}

TEST(connect__short_of_queue_pairs)
{
	struct fake_rules rules = fake_rules_default();
	struct peer *other, *third;

	rules.max_qp = 5;
	begin(&rules, MAAS_RDMA_KEYS_AUTO);
	other = peer_open("two");
	third = peer_new("three");
	assert_int_equal(peer_dial(third), MAAS_WIRE_RESOURCES);
	assert_int_equal(count_of(server_stats().rejects, "resources"), 1);
	peer_hang_up(other);
	AWAIT(server_stats().connected == 1);
	peer_renew(third);
	assert_int_equal(peer_dial(third), 0);
	assert_int_equal(peer_run(peer, IBV_WR_RDMA_WRITE, 0, 0, 0), IBV_WC_SUCCESS);
}

/* The client's end may be broken where the server's is not: it is the newest that counts. */
TEST_MODES(reconnect__with_fresh_grants)
{
	struct maas_lend_allocation memory;
	struct maas_lend_key before, after;
	struct peer *again;

	begin(NULL, mode);
	memory = allocate(4096);
	before = get_key(peer, memory.id);
	memset(peer->link.bytes, 'x', 4096);
	assert_int_equal(peer_write(peer, &before), IBV_WC_SUCCESS);
	peer_renew(peer);
	again = peer_new(NULL);
	again->session = peer->session;
	assert_int_equal(peer_dial(again), 0);
	assert_int_not_equal(again->link.connection, peer->link.connection);
	after = get_key(again, memory.id);
	assert_int_equal(after.connection, again->link.connection);
	assert_int_equal(peer_read(again, &after), IBV_WC_SUCCESS);
	assert_memory_equal(again->link.bytes, peer->link.bytes, 4096);
	assert_int_not_equal(peer_write(peer, &before), IBV_WC_SUCCESS);
	peer_hang_up(peer);
	assert_int_equal(server_stats().connected, 1);
}

TEST_MODES(session_end__kills_all_keys)
{
	struct maas_lend_key keys[MANY];

	begin(NULL, mode);
	for (int n = 0; n < MANY; n++)
		keys[n] = get_key(peer, allocate(1024).id);
	assert_int_equal(end_session(peer), 0);
	assert_int_equal(fake_live().mws, 0);
	assert_int_equal(fake_live().qps, 1); /* the client's */
	assert_true(is_idle());
	assert_int_not_equal(peer_write(peer, &keys[0]), IBV_WC_SUCCESS);
}

/* Whatever lend asks when the peer is gone: the session is not connected, its memory is there. */
TEST(peer_gone__leaves_the_session)
{
	struct maas_lend_session_info info;
	struct maas_lend_session_ref ref;
	struct maas_lend_allocation memory;
	struct maas_lend_key key;

	begin(NULL, MAAS_RDMA_KEYS_AUTO);
	ref = peer_ref(peer);
	assert_true(maas_rdma_key_ops.connected(server.rdma, ref));
	memory = allocate(1024);
	(void)get_key(peer, memory.id);
	peer_hang_up(peer);
	AWAIT(is_idle());
	assert_false(maas_rdma_key_ops.connected(server.rdma, ref));
	assert_int_equal(maas_lend_session_get(server.lend, NULL, peer->session.id, &info), 0);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE, &key), -ENOTCONN);
	assert_int_equal(free_it(memory.id), 0);
}

TEST(probe__finds_a_dead_peer)
{
	begin(NULL, MAAS_RDMA_KEYS_AUTO);
	AWAIT(server_stats().connected == 1);
	/* Each status is there before its first error. */
	assert_string_equal(server_stats().errors[0].name, ibv_wc_status_str(IBV_WC_LOC_LEN_ERR));
	assert_int_equal(server_stats().errors[0].count, 0);
	fake_hold(FAKE_DATA);
	maas_rdma_key_ops.probe(server.rdma, peer_ref(peer));
	AWAIT(fake_num_held() == 1);
	fake_time_out();
	AWAIT(is_idle());
	assert_int_equal(count_of(server_stats().errors, ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR)),
			 1);
	assert_int_equal(peer_event(peer), RDMA_CM_EVENT_DISCONNECTED);
}

TEST(device__goes_away)
{
	struct maas_lend_allocation memory;
	struct maas_lend_key key;

	begin(NULL, MAAS_RDMA_KEYS_AUTO);
	memory = allocate(1024);
	(void)get_key(peer, memory.id);
	fake_remove_device();
	AWAIT(is_idle());
	assert_string_equal(server_stats().state, "failed");
	/* All else goes on. */
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE, &key), -ENOTCONN);
	assert_int_equal(free_it(memory.id), 0);
	(void)allocate(1024);
	assert_int_equal(end_session(peer), 0);
}

TEST_MODES(stop__with_many_clients)
{
	struct told end = {0};
	uint64_t before_ms;

	server_open(NULL, mode);
	for (int n = 0; n < MANY; n++)
		(void)get_key(peer_open("many"), allocate(1024).id);
	before_ms = maas_clock_ms();
	maas_rdma_stop(server.rdma);
	assert_in_range(maas_clock_ms() - before_ms, 0, 2000);
	assert_int_equal(maas_rdma_key_ops.end_session(
				 server.rdma, (struct maas_lend_session_ref){0, 1}, tell, &end),
			 -ESHUTDOWN);
}

RDMA_TEST_MAIN()
