/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server over the fake device, on a clock of the test's own, and the clients that dial it. All
 * of it belongs to the thread of the case.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#include <poll.h>

#define MAX_PEERS 256

struct server server;
struct server_options server_options;
const struct maas_lend_caller *server_caller;
enum maas_rdma_keys mode;

static bool is_started; /* the fake device */
static struct peer peers[MAX_PEERS];
static unsigned int num_peers;

/* ---- clock. The linker's names of --wrap. NOLINTBEGIN */

static _Atomic uint64_t ahead_ms;

uint64_t __real_maas_clock_ms(void);
uint64_t __real_maas_clock_ns(void);
uint64_t __wrap_maas_clock_ms(void);
uint64_t __wrap_maas_clock_ns(void);

uint64_t __wrap_maas_clock_ms(void)
{
	return __real_maas_clock_ms() + atomic_load(&ahead_ms);
}

uint64_t __wrap_maas_clock_ns(void)
{
	return __real_maas_clock_ns() + atomic_load(&ahead_ms) * 1000000u;
}
/* NOLINTEND */

void clock_add_ms(uint64_t ms)
{
	atomic_fetch_add(&ahead_ms, ms);
}

/* ---- server */

static int open_slab(void)
{
	static const uint64_t classes[] = {1024, 4096, 65536};
	const struct maas_slab_options options = {
		.max_bytes = server_options.pool_bytes ? server_options.pool_bytes : 1u << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = 65536,
		.dir_fd = -1,
	};

	return maas_slab_open(&options, NULL, &server.slab);
}

static int open_rdma(enum maas_rdma_keys keys)
{
	const struct maas_rdma_options options = {
		.keys = keys,
		.max_sessions = SERVER_SESSIONS,
		.max_grants = server_options.max_grants ? server_options.max_grants : SERVER_GRANTS,
		.require_isolation = server_options.require_isolation,
		.slab = server.slab,
	};
	char error[MAAS_RDMA_ERROR];

	return maas_rdma_open(&options, error, &server.rdma);
}

static int open_lend(void)
{
	const struct maas_lend_options options = {
		.slab = server.slab,
		.keys = &maas_rdma_key_ops,
		.keys_ctx = server.rdma,
		.max_sessions = SERVER_SESSIONS,
	};
	char error[MAAS_RDMA_ERROR];
	int r = maas_lend_open(&options, &server.lend);

	return r ? r : maas_rdma_listen(server.rdma, server.lend, error);
}

int server_try(const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	int r;

	fake_verbs_start(rules);
	is_started = true;
	r = open_slab();
	if (!r)
		r = open_rdma(keys);
	if (!r)
		r = open_lend();
	if (r) {
		server_end();
		is_started = false;
		assert_int_equal(fake_verbs_finish(), 0);
	}
	return r;
}

void server_open(const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	assert_int_equal(server_try(rules, keys), 0);
}

void server_end(void)
{
	maas_rdma_stop(server.rdma);
	if (server.slab)
		maas_slab_check(server.slab);
	maas_lend_close(server.lend);
	maas_rdma_close(server.rdma);
	maas_slab_close(server.slab);
	memset(&server, 0, sizeof(server));
}

void server_close(void)
{
	(void)fake_fail_disarm();
	while (num_peers)
		raw_close(&peers[--num_peers].link);
	server_end();
	memset(&server_options, 0, sizeof(server_options));
	if (is_started)
		assert_int_equal(fake_verbs_finish(), 0);
	is_started = false;
}

struct maas_lend_key_stats server_stats(void)
{
	struct maas_lend_key_stats stats;

	maas_rdma_key_ops.stats(server.rdma, &stats);
	return stats;
}

uint64_t count_of(const struct maas_lend_key_count *counts, const char *name)
{
	for (; counts->name; counts++)
		if (strcmp(counts->name, name) == 0)
			return counts->count;
	return 0;
}

uint64_t live_slabs(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats.live_slabs;
}

/* ---- connecting */

struct peer *peer_new(const char *name)
{
	struct peer *peer = &peers[num_peers];

	assert_true(num_peers < MAX_PEERS);
	memset(peer, 0, sizeof(*peer));
	num_peers++;
	if (name)
		assert_int_equal(maas_lend_session_open(server.lend, server_caller, name, 60, false,
							NULL, &peer->session),
				 0);
	return peer;
}

struct peer *peer_open(const char *name)
{
	struct peer *peer = peer_new(name);

	assert_int_equal(peer_dial(peer), 0);
	return peer;
}

static struct raw_session address_of(const struct peer *peer)
{
	struct raw_session session = {.addr = "127.0.0.1"};
	struct maas_rdma_info info;

	maas_rdma_info(server.rdma, &info);
	session.port = info.port;
	memcpy(session.ticket, peer->session.ticket, sizeof(session.ticket));
	return session;
}

void peer_ask(struct peer *peer, const void *data, size_t len)
{
	struct raw_session session = address_of(peer);

	assert_int_equal(raw_ask(&peer->link, &session, data, (uint8_t)len, PEER_BYTES), 0);
}

void peer_ask_with_ticket(struct peer *peer)
{
	struct raw_session session = address_of(peer);
	struct maas_wire_connect hello;

	assert_int_equal(raw_hello(&session, &hello), 0);
	peer_ask(peer, &hello, sizeof(hello));
}

int peer_answer(struct peer *peer)
{
	int r = raw_answer(&peer->link);

	if (r == -ECONNREFUSED && peer->link.reason)
		return peer->link.reason;
	assert_true(r || peer->link.connection);
	return r;
}

int peer_dial_with(struct peer *peer, const void *data, size_t len)
{
	peer_ask(peer, data, len);
	return peer_answer(peer);
}

int peer_dial(struct peer *peer)
{
	peer_ask_with_ticket(peer);
	return peer_answer(peer);
}

void peer_renew(struct peer *peer)
{
	assert_int_equal(maas_lend_session_ticket(server.lend, server_caller, peer->session.id,
						  &peer->session),
			 0);
}

void peer_redial(struct peer *peer)
{
	peer_hang_up(peer);
	peer_renew(peer);
	assert_int_equal(peer_dial(peer), 0);
}

void peer_hang_up(struct peer *peer)
{
	raw_close(&peer->link);
}

struct maas_lend_session_ref peer_ref(struct peer *peer)
{
	struct maas_lend_session_ref ref;

	peer_renew(peer);
	assert_int_equal(maas_lend_ticket_redeem(server.lend, peer->session.ticket, &ref), 0);
	return ref;
}

enum rdma_cm_event_type peer_event(struct peer *peer)
{
	struct pollfd fd = {.fd = peer->link.events->fd, .events = POLLIN};
	enum rdma_cm_event_type type;
	struct rdma_cm_event *event;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(rdma_get_cm_event(peer->link.events, &event), 0);
	type = event->event;
	assert_int_equal(rdma_ack_cm_event(event), 0);
	return type;
}

/* ---- data */

int peer_run(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey,
	     uint32_t len)
{
	return raw_run(&peer->link, opcode, 0, len, addr, rkey);
}

int peer_write(struct peer *peer, const struct maas_lend_key *key)
{
	return peer_run(peer, IBV_WR_RDMA_WRITE, key->addr, key->rkey, (uint32_t)key->len_bytes);
}

int peer_read(struct peer *peer, const struct maas_lend_key *key)
{
	return peer_run(peer, IBV_WR_RDMA_READ, key->addr, key->rkey, (uint32_t)key->len_bytes);
}

/* ---- lending */

struct maas_lend_allocation allocate(uint64_t size_bytes)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = size_bytes, .count = 1, .caller = server_caller};
	struct maas_lend_allocation allocation = {0};
	struct maas_slab_ref ref;

	assert_int_equal(maas_lend_allocate(server.lend, &request, &ref, &allocation), 0);
	return allocation;
}

void check_bytes(const char *id, uint8_t expected)
{
	struct maas_lend_transfer transfer = {0};

	assert_int_equal(
		maas_lend_transfer_begin(server.lend, server_caller, id, MAAS_AUTH_OWN, &transfer),
		0);
	for (uint64_t i = 0; i < transfer.size_bytes; i++)
		assert_int_equal(transfer.bytes[i], expected);
	maas_lend_transfers_end(server.lend, &transfer, 1);
}

int ask_key(const struct peer *peer, const char *id, enum maas_lend_access access,
	    struct maas_lend_key *ret_key, struct told *told)
{
	return maas_lend_grant(server.lend, server_caller, id, peer->session.id, access, ret_key,
			       tell, told);
}

int try_key(const struct peer *peer, const char *id, enum maas_lend_access access,
	    struct maas_lend_key *ret_key)
{
	struct told end = {0};
	int r = ask_key(peer, id, access, ret_key, &end);

	return r && r != -EINPROGRESS ? r : told(&end);
}

struct maas_lend_key get_key(const struct peer *peer, const char *id)
{
	struct maas_lend_key key = {0};

	assert_int_equal(try_key(peer, id, MAAS_LEND_ACCESS_WRITE, &key), 0);
	return key;
}

int ungrant(const struct peer *peer, const char *id)
{
	struct told end = {0};

	assert_int_equal(
		maas_lend_ungrant(server.lend, server_caller, id, peer->session.id, tell, &end),
		-EINPROGRESS);
	return told(&end);
}

int free_it(const char *id)
{
	struct told end = {0};
	int r = maas_lend_free(server.lend, server_caller, id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}

int end_session(const struct peer *peer)
{
	struct told end = {0};
	int r = maas_lend_session_end(server.lend, server_caller, peer->session.id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}
