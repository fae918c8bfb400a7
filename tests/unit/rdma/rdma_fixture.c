/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server over the fake device, on a clock of the test's own, and peers that dial it by librdmacm.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#include <arpa/inet.h>
#include <endian.h>
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

static struct rdma_cm_event *next_event(struct peer *peer)
{
	struct pollfd fd = {.fd = peer->events->fd, .events = POLLIN};
	struct rdma_cm_event *event;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(rdma_get_cm_event(peer->events, &event), 0);
	return event;
}

enum rdma_cm_event_type peer_event(struct peer *peer)
{
	struct rdma_cm_event *event = next_event(peer);
	enum rdma_cm_event_type type = event->event;

	assert_int_equal(rdma_ack_cm_event(event), 0);
	return type;
}

static void make_queues(struct peer *peer)
{
	struct ibv_qp_init_attr init = {
		.cap = {PEER_DEPTH, 1, 1, 1, 0},
		.qp_type = IBV_QPT_RC,
	};

	peer->pd = ibv_alloc_pd(peer->id->verbs);
	peer->cq = ibv_create_cq(peer->id->verbs, PEER_DEPTH + 1, NULL, NULL, 0);
	peer->bytes = calloc(1, PEER_BYTES);
	peer->mr = ibv_reg_mr(peer->pd, peer->bytes, PEER_BYTES, IBV_ACCESS_LOCAL_WRITE);
	init.send_cq = peer->cq;
	init.recv_cq = peer->cq;
	assert_int_equal(rdma_create_qp(peer->id, peer->pd, &init), 0);
}

static void resolve(struct world *world, struct peer *peer)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct maas_rdma_info info;

	maas_rdma_info(world->rdma, &info);
	to.sin_port = htons(info.port);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	peer->events = rdma_create_event_channel();
	assert_non_null(peer->events);
	assert_int_equal(rdma_create_id(peer->events, &peer->id, NULL, RDMA_PS_TCP), 0);
	assert_int_equal(rdma_resolve_addr(peer->id, NULL, (struct sockaddr *)&to, 1000), 0);
	assert_int_equal(peer_event(peer), RDMA_CM_EVENT_ADDR_RESOLVED);
	assert_int_equal(rdma_resolve_route(peer->id, 1000), 0);
	assert_int_equal(peer_event(peer), RDMA_CM_EVENT_ROUTE_RESOLVED);
}

static int read_answer(const struct rdma_cm_event *event, struct peer *peer)
{
	const struct rdma_conn_param *param = &event->param.conn;
	struct maas_wire_reject reject;
	struct maas_wire_accept accept;

	if (event->event == RDMA_CM_EVENT_REJECTED && param->private_data) {
		memcpy(&reject, param->private_data, sizeof(reject));
		assert_int_equal(be32toh(reject.magic), MAAS_WIRE_MAGIC);
		return be16toh(reject.reason);
	}
	if (event->event != RDMA_CM_EVENT_ESTABLISHED)
		return -ECONNREFUSED;
	memcpy(&accept, param->private_data, sizeof(accept));
	assert_int_equal(be32toh(accept.magic), MAAS_WIRE_MAGIC);
	assert_int_equal(be16toh(accept.version), MAAS_WIRE_VERSION);
	peer->number = be32toh(accept.connection);
	assert_int_not_equal(peer->number, 0);
	return 0;
}

void peer_call(struct world *world, struct peer *peer, const void *data, size_t len)
{
	struct rdma_conn_param param = {
		.private_data = data,
		.private_data_len = (uint8_t)len,
		.initiator_depth = 4,
	};

	resolve(world, peer);
	make_queues(peer);
	assert_int_equal(rdma_connect(peer->id, &param), 0);
}

int peer_answer(struct peer *peer)
{
	struct rdma_cm_event *event = next_event(peer);
	int r = read_answer(event, peer);

	assert_int_equal(rdma_ack_cm_event(event), 0);
	if (r)
		peer_hang_up(peer);
	return r;
}

int peer_dial_with(struct world *world, struct peer *peer, const void *data, size_t len)
{
	peer_call(world, peer, data, len);
	return peer_answer(peer);
}

struct maas_wire_connect peer_hello(const struct peer *peer)
{
	struct maas_wire_connect hello = {
		.magic = htobe32(MAAS_WIRE_MAGIC),
		.version = htobe16(MAAS_WIRE_VERSION),
	};

	for (size_t i = 0; i < MAAS_WIRE_TICKET; i++) {
		const char digits[] = {peer->session.ticket[2 * i], peer->session.ticket[2 * i + 1],
				       '\0'};

		hello.ticket[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return hello;
}

int peer_dial(struct world *world, struct peer *peer)
{
	struct maas_wire_connect hello = peer_hello(peer);

	return peer_dial_with(world, peer, &hello, sizeof(hello));
}

void peer_open(struct world *world, struct peer *peer, const char *name)
{
	peer_session(world, peer, name);
	assert_int_equal(peer_dial(world, peer), 0);
}

void peer_hang_up(struct peer *peer)
{
	if (!peer->id)
		return;
	(void)rdma_disconnect(peer->id); /* the server may have been first */
	if (peer->id->qp)
		rdma_destroy_qp(peer->id);
	if (peer->mr)
		assert_int_equal(ibv_dereg_mr(peer->mr), 0);
	if (peer->cq)
		assert_int_equal(ibv_destroy_cq(peer->cq), 0);
	if (peer->pd)
		assert_int_equal(ibv_dealloc_pd(peer->pd), 0);
	assert_int_equal(rdma_destroy_id(peer->id), 0);
	rdma_destroy_event_channel(peer->events);
	free(peer->bytes);
	peer->id = NULL;
	peer->mr = NULL;
	peer->bytes = NULL;
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
	struct ibv_sge sge = {(uintptr_t)peer->bytes, len, peer->mr->lkey};
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {addr, rkey},
	};
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	assert_int_equal(ibv_post_send(peer->id->qp, &wr, &bad), 0);
	AWAIT(ibv_poll_cq(peer->cq, 1, &wc) == 1);
	return (int)wc.status;
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
