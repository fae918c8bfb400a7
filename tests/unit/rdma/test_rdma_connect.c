/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect to the server, how connections end, and what is left of them then. */
#include "tests/unit/rdma/rdma_fixture.h"

#include <endian.h>
#include <poll.h>

#define MANY 6

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
	begin(MAAS_RDMA_KEYS_AUTO);
	assert_int_equal(peer_dial(peer_again(peer)), MAAS_WIRE_TICKET_UNKNOWN);
	assert_int_equal(peer_run(peer, IBV_WR_RDMA_WRITE, 0, 0, 0), IBV_WC_SUCCESS);
	assert_int_equal(count_of(server_stats().rejects, "ticket"), 1);
}

TEST(connect__with_a_ticket_that_is_stale)
{
	struct maas_lend_session_info newer;

	server_open(MAAS_RDMA_KEYS_AUTO);
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
	static const struct {
		uint32_t magic;
		uint16_t version;
		int answer;
	} hellos[] = {{MAAS_WIRE_MAGIC, MAAS_WIRE_VERSION + 1, MAAS_WIRE_VERSION_UNKNOWN},
		      {MAAS_WIRE_MAGIC, MAAS_WIRE_VERSION, MAAS_WIRE_TICKET_UNKNOWN},
		      {0, MAAS_WIRE_VERSION, MAAS_WIRE_VERSION_UNKNOWN}};

	for (int bare = 0; bare < 2; bare++) {
		rules.bare_data = bare;
		server_open(MAAS_RDMA_KEYS_AUTO);
		peer = peer_new(NULL);
		assert_int_equal(peer_dial_with(peer, NULL, 0), MAAS_WIRE_VERSION_UNKNOWN);
		assert_int_equal(peer_dial_with(peer, "MaaS", 4), MAAS_WIRE_VERSION_UNKNOWN);
		for (size_t i = 0; i < MAAS_ARRAY_SIZE(hellos); i++) {
			const struct maas_wire_connect hello = {
				.magic = htobe32(hellos[i].magic),
				.version = htobe16(hellos[i].version),
			};

			assert_int_equal(peer_dial_with(peer, &hello, sizeof(hello)),
					 hellos[i].answer);
		}
		assert_int_equal(count_of(server_stats().rejects, "version"), 4);
		assert_int_equal(count_of(server_stats().rejects, "ticket"), 1);
		assert_true(is_idle());
		server_close();
	}
}

TEST(connect__short_of_queue_pairs)
{
	struct peer *other, *third;

	rules.max_qp = 5;
	begin(MAAS_RDMA_KEYS_AUTO);
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
	struct maas_lend_key before;
	struct peer *again;

	begin(mode);
	memory = allocate(4096);
	memset(peer->link.bytes, 'x', 4096);
	write_with_key(peer, memory.id);
	before = key;
	peer_renew(peer);
	again = peer_again(peer);
	assert_int_equal(peer_dial(again), 0);
	assert_int_not_equal(again->link.connection, peer->link.connection);
	(void)get_key(again, memory.id);
	assert_int_equal(key.connection, again->link.connection);
	assert_int_equal(peer_read(again, &key), IBV_WC_SUCCESS);
	assert_memory_equal(again->link.bytes, peer->link.bytes, 4096);
	assert_int_not_equal(peer_write(peer, &before), IBV_WC_SUCCESS);
	peer_hang_up(peer);
	assert_int_equal(server_stats().connected, 1);
}

TEST_MODES(session_end__kills_all_keys)
{
	begin(mode);
	for (int n = 0; n < MANY; n++)
		(void)get_key(peer, allocate(1024).id);
	assert_int_equal(end_session(peer), 0);
	assert_int_equal(fake_live().mws, 0);
	assert_int_equal(fake_live().qps, 1); /* the client's */
	assert_true(is_idle() && !server_stats().grants);
	assert_int_not_equal(peer_write(peer, &key), IBV_WC_SUCCESS);
}

/* Whatever lend asks when the peer is gone: the session is not connected, its memory is there. */
TEST(peer_gone__leaves_the_session)
{
	struct maas_lend_session_info info;
	struct maas_lend_session_ref ref;

	begin(MAAS_RDMA_KEYS_AUTO);
	ref = peer_ref(peer);
	assert_true(maas_rdma_key_ops.connected(server.rdma, ref));
	memory = allocate(1024);
	(void)get_key(peer, memory.id);
	peer_hang_up(peer);
	AWAIT(is_idle() && !server_stats().grants);
	assert_false(maas_rdma_key_ops.connected(server.rdma, ref));
	assert_int_equal(maas_lend_session_get(server.lend, NULL, peer->session.id, &info), 0);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE), -ENOTCONN);
	assert_int_equal(free_it(memory.id), 0);
}

/* Whatever the client's end does. */
TEST(connect__does_not_wait_long_for_an_answer)
{
	begin(MAAS_RDMA_KEYS_AUTO);
	assert_int_equal(fake_num_qps(MAAS_WIRE_ACK_TIMEOUT), 1);
	assert_int_equal(fake_num_qps(FAKE_ACK_TIMEOUT), 1);
}

TEST(probe__finds_a_dead_peer)
{
	struct rdma_cm_event *event;

	begin(MAAS_RDMA_KEYS_AUTO);
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
	assert_int_equal(poll(&(struct pollfd){peer->link.events->fd, POLLIN, 0}, 1, 10000), 1);
	assert_int_equal(rdma_get_cm_event(peer->link.events, &event), 0);
	assert_int_equal(event->event, RDMA_CM_EVENT_DISCONNECTED);
	assert_int_equal(rdma_ack_cm_event(event), 0);
}

TEST(device__goes_away)
{
	begin(MAAS_RDMA_KEYS_AUTO);
	memory = allocate(1024);
	(void)get_key(peer, memory.id);
	fake_remove_device();
	AWAIT(is_idle() && !server_stats().grants);
	assert_string_equal(server_stats().state, "failed");
	/* All else goes on. */
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE), -ENOTCONN);
	assert_int_equal(free_it(memory.id), 0);
	(void)allocate(1024);
	assert_int_equal(end_session(peer), 0);
}

TEST_MODES(stop__with_many_clients)
{
	struct told end = {0};
	uint64_t before_ms;

	server_open(mode);
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
