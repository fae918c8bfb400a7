/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of rdma/ share: one server over the fake device, on a clock of the test's own, and
 * clients that speak to it by verbs alone, so that they can do what libmaas never would. All of it
 * belongs to the thread of the case.
 */
#ifndef MAAS_TESTS_UNIT_RDMA_FIXTURE_H
#define MAAS_TESTS_UNIT_RDMA_FIXTURE_H

#include "rdma/rdma.h"
#include "tests/fake/fake_verbs.h"
#include "tests/rdma/raw_link.h"
#include "tests/unit/unit.h"

#define SERVER_SESSIONS 8
#define SERVER_GRANTS	64
#define PEER_BYTES	65536
#define MAX_PEERS	512

/* A client. */
struct peer {
	struct maas_lend_session_info session;
	struct raw_link link;
};

static struct {
	struct maas_slab *slab;
	struct maas_rdma *rdma;
	struct maas_lend *lend;
	bool has_device; /* the fake one */
} server;

/* What the next server is opened with; a case begins with these defaults. */
static struct server_options {
	uint64_t pool_bytes;
	uint64_t largest_bytes; /* of a slab, and an extent */
	uint32_t max_grants;
	uint32_t max_sessions;
	bool require_isolation;
} server_options;
static struct fake_rules rules;
static char server_error[MAAS_RDMA_ERROR]; /* why the last one did not open */

static struct peer peers[MAX_PEERS];
static unsigned int num_peers;
static struct peer *peer;					   /* the one that begin() opened */
static __attribute__((unused)) struct maas_lend_allocation memory; /* that the case is about */
static struct maas_lend_key key;

/* On whose behalf all calls are made; NULL where the server has no principals. */
static const struct maas_lend_caller *server_caller;

/* The mode of a TEST_MODES case, and of the server. */
static enum maas_rdma_keys mode;

/* A case for each of the two modes that isolate. */
#define TEST_MODES(name)                                                                           \
	static void name(void);                                                                    \
	static void name##__window(void)                                                           \
	{                                                                                          \
		mode = MAAS_RDMA_KEYS_WINDOW;                                                      \
		name();                                                                            \
	}                                                                                          \
	static void name##__mr(void)                                                               \
	{                                                                                          \
		mode = MAAS_RDMA_KEYS_MR;                                                          \
		name();                                                                            \
	}                                                                                          \
	static void __attribute__((constructor)) name##__add(void)                                 \
	{                                                                                          \
		test_add(#name "__window", name##__window);                                        \
		test_add(#name "__mr", name##__mr);                                                \
	}                                                                                          \
	static void name(void)

/* ---- clock: the program is linked with --wrap. The linker's names. NOLINTBEGIN */

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

/* A tenth of a second of a daemon's life. */
static inline void tick(void)
{
	ahead_ms += 100;
	maas_lend_tick(server.lend);
	nap_ms(2);
}

/* ---- server */

/* The fake finds nothing wrong with what is left. */
static inline void server_end(void)
{
	bool had_device = server.has_device;

	maas_rdma_stop(server.rdma);
	if (server.slab)
		maas_slab_check(server.slab);
	maas_lend_close(server.lend);
	maas_rdma_close(server.rdma);
	maas_slab_close(server.slab);
	memset(&server, 0, sizeof(server));
	if (had_device)
		assert_int_equal(fake_verbs_finish(), 0);
}

/* With its clients. */
static inline void server_close(void)
{
	(void)fake_fail_disarm();
	while (num_peers)
		raw_close(&peers[--num_peers].link);
	server_end();
}

/* 0, or an error of any of the steps; then all is closed. */
static inline int server_try(enum maas_rdma_keys keys)
{
	const uint64_t classes[] = {1024, 4096, server_options.largest_bytes};
	const struct maas_slab_options slab = {
		.max_bytes = server_options.pool_bytes,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = server_options.largest_bytes,
	};
	struct maas_rdma_options rdma = {
		.keys = keys,
		.max_sessions = server_options.max_sessions,
		.max_grants = server_options.max_grants,
		.require_isolation = server_options.require_isolation,
	};
	struct maas_lend_options lend = {
		.keys = &maas_rdma_key_ops,
		.max_sessions = server_options.max_sessions,
	};
	int r;

	mode = keys;
	maas_rdma_prepare();
	fake_verbs_start(&rules);
	server.has_device = true;
	r = maas_slab_open(&slab, NULL, &server.slab);
	rdma.slab = lend.slab = server.slab;
	if (!r)
		r = maas_rdma_open(&rdma, server_error, &server.rdma);
	lend.keys_ctx = server.rdma;
	if (!r)
		r = maas_lend_open(&lend, &server.lend);
	if (!r)
		r = maas_rdma_listen(server.rdma, server.lend, server_error);
	if (r)
		server_end();
	return r;
}

static inline void server_open(enum maas_rdma_keys keys)
{
	assert_int_equal(server_try(keys), 0);
}

static inline void server_defaults(void)
{
	server_options =
		(struct server_options){1u << 20, 65536, SERVER_GRANTS, SERVER_SESSIONS, false};
	rules = fake_rules_default();
}

/* main() of a program whose server logs errors alone. */
#define RDMA_TEST_MAIN()                                                                           \
	int main(void)                                                                             \
	{                                                                                          \
		maas_log_set_level(MAAS_LOG_ERR);                                                  \
		return test_run(server_defaults, server_close);                                    \
	}

static inline struct maas_lend_key_stats server_stats(void)
{
	struct maas_lend_key_stats stats;

	maas_rdma_key_ops.stats(server.rdma, &stats);
	return stats;
}

/* 0 where nothing of that name was counted. */
static inline uint64_t count_of(const struct maas_lend_key_count *counts, const char *name)
{
	for (; counts->name; counts++)
		if (strcmp(counts->name, name) == 0)
			return counts->count;
	return 0;
}

static inline uint64_t live_slabs(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats.live_slabs;
}

/* No connection is left. */
static inline bool is_idle(void)
{
	struct maas_lend_key_stats stats = server_stats();

	return !stats.connecting && !stats.connected && !stats.ending;
}

/* ---- clients */

/* One of the server's, without a connection; with a session of that name, unless it is NULL. */
static inline struct peer *peer_new(const char *name)
{
	struct peer *one = &peers[num_peers];

	assert_true(num_peers < MAX_PEERS);
	memset(one, 0, sizeof(*one));
	num_peers++;
	if (name)
		assert_int_equal(maas_lend_session_open(server.lend, server_caller, name, 60, false,
							NULL, &one->session),
				 0);
	return one;
}

static inline struct raw_session address_of(const struct peer *one)
{
	struct raw_session session = {.addr = "127.0.0.1"};
	struct maas_rdma_info info;

	maas_rdma_info(server.rdma, &info);
	session.port = info.port;
	memcpy(session.ticket, one->session.ticket, sizeof(session.ticket));
	return session;
}

/* Asks to connect, with `len` bytes of private data … */
static inline void peer_ask(struct peer *one, const void *data, size_t len)
{
	struct raw_session session = address_of(one);

	assert_int_equal(raw_ask(&one->link, &session, data, (uint8_t)len, PEER_BYTES), 0);
}

/* … or with the session's ticket … */
static inline void peer_ask_with_ticket(struct peer *one)
{
	struct raw_session session = address_of(one);
	struct maas_wire_connect hello;

	assert_int_equal(raw_hello(&session, &hello), 0);
	peer_ask(one, &hello, sizeof(hello));
}

/* … and waits for the answer. 0, or the reason (enum maas_wire_reason) of the refusal; -errno. */
static inline int peer_answer(struct peer *one)
{
	int r = raw_answer(&one->link);

	if (r == -ECONNREFUSED && one->link.reason)
		return one->link.reason;
	assert_true(r || one->link.connection);
	return r;
}

/* Both of them. */
static inline int peer_dial_with(struct peer *one, const void *data, size_t len)
{
	peer_ask(one, data, len);
	return peer_answer(one);
}

static inline int peer_dial(struct peer *one)
{
	peer_ask_with_ticket(one);
	return peer_answer(one);
}

/* Connected. */
static inline struct peer *peer_open(const char *name)
{
	struct peer *one = peer_new(name);

	assert_int_equal(peer_dial(one), 0);
	return one;
}

/* A server, and `peer` as its client. */
static inline void begin(enum maas_rdma_keys keys)
{
	server_open(keys);
	peer = peer_open("one");
}

/* A new ticket. */
static inline void peer_renew(struct peer *one)
{
	assert_int_equal(maas_lend_session_ticket(server.lend, server_caller, one->session.id,
						  &one->session),
			 0);
}

/* Another client of that one's session. */
static inline struct peer *peer_again(struct peer *one)
{
	struct peer *again = peer_new(NULL);

	again->session = one->session;
	return again;
}

static inline void peer_hang_up(struct peer *one)
{
	raw_close(&one->link);
}

/* Hangs up and dials with a new ticket. */
static inline void peer_redial(struct peer *one)
{
	peer_hang_up(one);
	peer_renew(one);
	assert_int_equal(peer_dial(one), 0);
}

/* The session, as the server knows it. Spends the ticket. */
static inline struct maas_lend_session_ref peer_ref(struct peer *one)
{
	struct maas_lend_session_ref ref;

	peer_renew(one);
	assert_int_equal(maas_lend_ticket_redeem(server.lend, one->session.ticket, &ref), 0);
	return ref;
}

/* The status of one operation. */
static inline int peer_run(struct peer *one, enum ibv_wr_opcode opcode, uint64_t addr,
			   uint32_t rkey, uint32_t len)
{
	return raw_run(&one->link, opcode, 0, len, addr, rkey);
}

static inline int peer_write(struct peer *one, const struct maas_lend_key *with)
{
	return peer_run(one, IBV_WR_RDMA_WRITE, with->addr, with->rkey, (uint32_t)with->len_bytes);
}

static inline int peer_read(struct peer *one, const struct maas_lend_key *with)
{
	return peer_run(one, IBV_WR_RDMA_READ, with->addr, with->rkey, (uint32_t)with->len_bytes);
}

/* ---- what a client is lent */

/* False: there is no room. */
static inline bool try_allocate(uint64_t size_bytes, struct maas_lend_allocation *ret)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = size_bytes, .count = 1, .caller = server_caller};
	struct maas_slab_ref ref;

	return maas_lend_allocate(server.lend, &request, &ref, ret) == 0;
}

static inline struct maas_lend_allocation allocate(uint64_t size_bytes)
{
	struct maas_lend_allocation allocation = {0};

	assert_true(try_allocate(size_bytes, &allocation));
	return allocation;
}

/* All its bytes are `expected`. */
static inline void check_bytes(const char *id, uint8_t expected)
{
	struct maas_lend_transfer transfer = {0};

	assert_int_equal(
		maas_lend_transfer_begin(server.lend, server_caller, id, MAAS_AUTH_OWN, &transfer),
		0);
	for (uint64_t i = 0; i < transfer.size_bytes; i++)
		assert_int_equal(transfer.bytes[i], expected);
	maas_lend_transfers_end(server.lend, &transfer, 1);
}

/* Asks for a key … */
static inline int ask_key(const struct peer *one, const char *id, enum maas_lend_access access,
			  struct maas_lend_key *ret_key, struct told *end)
{
	return maas_lend_grant(server.lend, server_caller, id, one->session.id, access, ret_key,
			       tell, end);
}

/* … to write, which is not there yet; … */
static inline void start_key(const struct peer *one, const char *id, struct maas_lend_key *ret_key,
			     struct told *end)
{
	assert_int_equal(ask_key(one, id, MAAS_LEND_ACCESS_WRITE, ret_key, end), -EINPROGRESS);
}

/* … or waits for the answer, and returns it. */
static inline int try_key(const struct peer *one, const char *id, enum maas_lend_access access)
{
	struct told end = {0};
	int r;

	key = (struct maas_lend_key){0};
	r = ask_key(one, id, access, &key, &end);
	return r && r != -EINPROGRESS ? r : told(&end);
}

/* A key to write, which has to come. */
static inline struct maas_lend_key get_key(const struct peer *one, const char *id)
{
	assert_int_equal(try_key(one, id, MAAS_LEND_ACCESS_WRITE), 0);
	return key;
}

/* The same, and that it does open the bytes. */
static inline void write_with_key(struct peer *one, const char *id)
{
	(void)get_key(one, id);
	assert_int_equal(peer_write(one, &key), IBV_WC_SUCCESS);
}

/* These wait for the end. */
static inline int ungrant(const struct peer *one, const char *id)
{
	struct told end = {0};

	assert_int_equal(
		maas_lend_ungrant(server.lend, server_caller, id, one->session.id, tell, &end),
		-EINPROGRESS);
	return told(&end);
}

static inline int free_it(const char *id)
{
	struct told end = {0};
	int r = maas_lend_free(server.lend, server_caller, id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}

static inline int end_session(const struct peer *one)
{
	struct told end = {0};
	int r = maas_lend_session_end(server.lend, server_caller, one->session.id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}

#endif
