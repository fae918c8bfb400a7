/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server over the fake device, on a clock of the test's own, and peers that dial it by librdmacm.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#include <poll.h>
#include <time.h>

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

void nap(void)
{
	const struct timespec pause = {.tv_nsec = 100000};

	nanosleep(&pause, NULL);
}

/* ---- world */

uint64_t world_pool_bytes = 1u << 20;
uint32_t world_max_grants = WORLD_GRANTS;
bool world_isolated;

static int open_slab(struct world *world)
{
	static const uint64_t classes[] = {1024, 4096, 65536};
	const struct maas_slab_options options = {
		.max_bytes = world_pool_bytes,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = 65536,
		.dir_fd = -1,
	};

	return maas_slab_open(&options, NULL, &world->slab);
}

static int open_lend(struct world *world)
{
	const struct maas_lend_options options = {
		.slab = world->slab,
		.keys = &maas_rdma_key_ops,
		.keys_ctx = world->rdma,
		.max_sessions = WORLD_SESSIONS,
	};

	return maas_lend_open(&options, &world->lend);
}

int world_try(struct world *world, const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	struct maas_rdma_options options = {
		.keys = keys,
		.max_sessions = WORLD_SESSIONS,
		.max_grants = world_max_grants,
		.require_isolation = world_isolated,
	};
	char error[MAAS_RDMA_ERROR];
	int r;

	memset(world, 0, sizeof(*world));
	fake_verbs_start(rules);
	r = open_slab(world);
	options.slab = world->slab;
	if (!r)
		r = maas_rdma_open(&options, error, &world->rdma);
	if (!r)
		r = open_lend(world);
	if (!r)
		r = maas_rdma_listen(world->rdma, world->lend, error);
	if (r)
		world_end(world);
	return r;
}

void world_open(struct world *world, const struct fake_rules *rules, enum maas_rdma_keys keys)
{
	assert_int_equal(world_try(world, rules, keys), 0);
}

void world_end(struct world *world)
{
	maas_rdma_stop(world->rdma);
	if (world->slab)
		maas_slab_check(world->slab);
	maas_lend_close(world->lend);
	maas_rdma_close(world->rdma);
	maas_slab_close(world->slab);
	memset(world, 0, sizeof(*world));
}

void world_close(struct world *world)
{
	world_end(world);
	assert_int_equal(fake_verbs_finish(), 0);
}

struct maas_lend_key_stats world_stats(const struct world *world)
{
	struct maas_lend_key_stats stats;

	maas_rdma_key_ops.stats(world->rdma, &stats);
	return stats;
}

uint64_t count_of(const struct maas_lend_key_count *counts, const char *name)
{
	for (; counts->name; counts++)
		if (strcmp(counts->name, name) == 0)
			return counts->count;
	return 0;
}

/* ---- told */

void tell(void *arg, int status)
{
	struct told *told = arg;

	atomic_store(&told->status, status);
	atomic_fetch_add(&told->calls, 1);
}

int told(struct told *told)
{
	AWAIT(atomic_load(&told->calls));
	assert_int_equal(atomic_load(&told->calls), 1);
	return atomic_load(&told->status);
}

/* ---- connecting */

void peer_session(struct world *world, struct peer *peer, const char *name)
{
	memset(peer, 0, sizeof(*peer));
	assert_int_equal(maas_lend_session_open(world->lend, name, 60, false, NULL, &peer->session),
			 0);
}

struct maas_lend_session_ref peer_ref(struct world *world, struct peer *peer)
{
	struct maas_lend_session_ref ref;

	assert_int_equal(maas_lend_session_ticket(world->lend, peer->session.id, &peer->session),
			 0);
	assert_int_equal(maas_lend_ticket_redeem(world->lend, peer->session.ticket, &ref), 0);
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

static struct raw_session address_of(struct world *world, const struct peer *peer)
{
	struct raw_session session = {.addr = "127.0.0.1"};
	struct maas_rdma_info info;

	maas_rdma_info(world->rdma, &info);
	session.port = info.port;
	memcpy(session.ticket, peer->session.ticket, sizeof(session.ticket));
	return session;
}

void peer_ask(struct world *world, struct peer *peer, const void *data, size_t len)
{
	struct raw_session session = address_of(world, peer);

	assert_int_equal(raw_ask(&peer->link, &session, data, (uint8_t)len, PEER_BYTES), 0);
}

int peer_answer(struct peer *peer)
{
	int r = raw_answer(&peer->link);

	if (r == -ECONNREFUSED && peer->link.reason)
		return peer->link.reason;
	assert_true(r || peer->link.connection);
	return r;
}

int peer_dial_with(struct world *world, struct peer *peer, const void *data, size_t len)
{
	peer_ask(world, peer, data, len);
	return peer_answer(peer);
}

void peer_ask_with_ticket(struct world *world, struct peer *peer)
{
	struct raw_session session = address_of(world, peer);
	struct maas_wire_connect hello;

	assert_int_equal(raw_hello(&session, &hello), 0);
	peer_ask(world, peer, &hello, sizeof(hello));
}

int peer_dial(struct world *world, struct peer *peer)
{
	peer_ask_with_ticket(world, peer);
	return peer_answer(peer);
}

void peer_open(struct world *world, struct peer *peer, const char *name)
{
	peer_session(world, peer, name);
	assert_int_equal(peer_dial(world, peer), 0);
}

void peer_hang_up(struct peer *peer)
{
	raw_close(&peer->link);
}

void peer_close(struct peer *peer)
{
	peer_hang_up(peer);
	memset(peer, 0, sizeof(*peer));
}

/* ---- data */

int peer_run(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey,
	     uint32_t len)
{
	return raw_run(&peer->link, opcode, 0, len, addr, rkey);
}

int peer_write(struct peer *peer, const struct maas_lend_key *grant)
{
	return peer_run(peer, IBV_WR_RDMA_WRITE, grant->addr, grant->rkey,
			(uint32_t)grant->len_bytes);
}

int peer_read(struct peer *peer, const struct maas_lend_key *grant)
{
	return peer_run(peer, IBV_WR_RDMA_READ, grant->addr, grant->rkey,
			(uint32_t)grant->len_bytes);
}

/* ---- lending */

struct maas_lend_allocation world_allocate(struct world *world, uint64_t size_bytes)
{
	const struct maas_lend_alloc_request request = {.size_bytes = size_bytes, .count = 1};
	struct maas_lend_allocation allocation = {0};
	struct maas_slab_ref ref;

	assert_int_equal(maas_lend_allocate(world->lend, &request, &ref, &allocation), 0);
	return allocation;
}

int ask_grant(struct world *world, const struct peer *peer, const char *id,
	      enum maas_lend_access access, struct maas_lend_key *ret_grant, struct told *told)
{
	return maas_lend_grant(world->lend, id, peer->session.id, access, ret_grant, tell, told);
}

int get_grant(struct world *world, const struct peer *peer, const char *id,
	      enum maas_lend_access access, struct maas_lend_key *ret_grant)
{
	struct told end = {0};
	int r = ask_grant(world, peer, id, access, ret_grant, &end);

	return r && r != -EINPROGRESS ? r : told(&end);
}

int free_it(struct world *world, const char *id)
{
	struct told end = {0};
	int r = maas_lend_free(world->lend, id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}

int end_session(struct world *world, const struct peer *peer)
{
	struct told end = {0};
	int r = maas_lend_session_end(world->lend, peer->session.id, tell, &end);

	return r == -EINPROGRESS ? told(&end) : r;
}
