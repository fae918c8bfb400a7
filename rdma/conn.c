/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection, all in the server's thread:
 *
 *   asked for ──▶ CONNECTING ──▶ LIVE ──▶ ENDING ──▶ freed ──▶ its successor is accepted
 *       └──▶ WAITING (the session's connection before it ends) ───────┘
 *
 * The end: queue pair to ERR, which stops its keys; all work done; windows deallocated or regions
 * deregistered; only then the queue pair destroyed. The other way round, rxe 6.1 blocks for a
 * minute and then corrupts memory; nor may a live queue pair ever go to RESET there.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

#define ESTABLISH_MS 10000
#define RETRY_MS     1000
#define FLUSH_MS     200 /* and MAAS_RDMA_WORK_MS before it: keys die within a second */

static struct maas_ratelimit connected = MAAS_RATELIMIT(MAAS_LOG_INFO, "rdma: connected");
static struct maas_ratelimit ends = MAAS_RATELIMIT(MAAS_LOG_INFO, "rdma: connection ends");
static struct maas_ratelimit gone =
	MAAS_RATELIMIT(MAAS_LOG_INFO, "rdma: a client went before it was accepted");
static struct maas_ratelimit unaccepted =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: cannot accept a connection");
static struct maas_ratelimit unbroken =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: queue pair does not go to ERR");
static struct maas_ratelimit unflushed =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: the device does not flush");
static struct maas_ratelimit stuck =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: cannot take a connection down");

static void set_state(struct maas_rdma_conn *conn, enum maas_rdma_conn_state state)
{
	struct maas_rdma_figures *figures = &conn->rdma->figures;

	maas_rdma_uncount(&figures->conns[conn->state]);
	maas_rdma_count(&figures->conns[state]);
	conn->state = state;
}

void maas_rdma_conn_dirty(struct maas_rdma_conn *conn)
{
	if (conn->dirty)
		return;
	conn->dirty = true;
	TAILQ_INSERT_TAIL(&conn->rdma->dirty, conn, dirty_link);
}

/* Any thread may ask whether a session is connected. */
static void publish(struct maas_rdma_conn *conn, uint32_t number)
{
	uint64_t value = number ? (uint64_t)conn->session.generation << 32 | number : 0;

	atomic_store(&conn->rdma->connected[conn->session.index], value);
}

struct maas_rdma_conn *maas_rdma_conn_find(struct maas_rdma *rdma,
					   struct maas_lend_session_ref session)
{
	struct maas_rdma_conn *conn;

	if (session.index >= rdma->options.max_sessions)
		return NULL;
	conn = rdma->by_session[session.index];
	return conn && conn->session.generation == session.generation ? conn : NULL;
}

/* ---- making */

static int make_queues(struct maas_rdma_conn *conn)
{
	const struct maas_rdma *rdma = conn->rdma;
	struct ibv_context *verbs = rdma->device->verbs;
	struct ibv_qp_init_attr init = {
		.qp_context = conn,
		.cap = {.max_send_wr = conn->sq_depth,
			.max_recv_wr = 1, /* nothing is ever received */
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
	};

	conn->pd = rdma->pd ? rdma->pd : ibv_alloc_pd(verbs);
	if (!conn->pd)
		return -errno;
	conn->cq = ibv_create_cq(verbs, (int)conn->sq_depth, conn, rdma->completions, 0);
	if (!conn->cq)
		return -errno;
	init.send_cq = conn->cq;
	init.recv_cq = conn->cq;
	conn->qp = ibv_create_qp(conn->pd, &init);
	if (!conn->qp)
		return -errno;
	return -ibv_req_notify_cq(conn->cq, 0);
}

/* Each is NULL once it is gone. False when one would not go. */
static bool destroy_queues(struct maas_rdma_conn *conn)
{
	int err = 0;

	if (conn->qp)
		err = ibv_destroy_qp(conn->qp);
	if (!err) {
		conn->qp = NULL;
		if (conn->id)
			conn->id->qp = NULL;
		err = conn->cq ? ibv_destroy_cq(conn->cq) : 0;
	}
	if (!err) {
		conn->cq = NULL;
		err = conn->pd && conn->pd != conn->rdma->pd ? ibv_dealloc_pd(conn->pd) : 0;
	}
	if (!err)
		conn->pd = NULL;
	else
		log_limited(&stuck, "rdma: cannot take a connection down connection=%u: %s",
			    conn->number, strerror(err));
	return !err;
}

static void free_conn(struct maas_rdma_conn *conn)
{
	struct maas_rdma *rdma = conn->rdma;

	maas_rdma_uncount(&rdma->figures.conns[conn->state]);
	if (conn->dirty)
		TAILQ_REMOVE(&rdma->dirty, conn, dirty_link);
	TAILQ_REMOVE(&rdma->conns, conn, link);
	if (conn->id && rdma_destroy_id(conn->id))
		log_err("rdma: cannot free a connection's id: %s", strerror(errno));
	free(conn);
}

/* Errors: what the verbs said, the log knows. -ECONNABORTED: the client is gone. */
static int accept_id(struct maas_rdma_conn *conn)
{
	const struct maas_wire_accept data = {
		.magic = htobe32(MAAS_WIRE_MAGIC),
		.version = htobe16(MAAS_WIRE_VERSION),
		.connection = htobe32(conn->number),
	};
	struct rdma_conn_param param = {
		.private_data = &data,
		.private_data_len = sizeof(data),
		.responder_resources = conn->responder_resources,
		.rnr_retry_count = 7,
	};
	uint8_t ack_timeout = MAAS_WIRE_ACK_TIMEOUT;
	int r = make_queues(conn);

	if (r)
		return maas_rdma_explain("make a connection's queues", 0, r);
	/* Else it is the client's choice. Kernels before 5.1 do not know the option. */
	(void)rdma_set_option(conn->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
			      sizeof(ack_timeout));
	/* From here on the library brings the queue pair up, as if it had made it. */
	conn->id->qp = conn->qp;
	if (!rdma_accept(conn->id, &param))
		return 0;
	/* The kernel says so when its request was taken back, as by a client that was killed. */
	if (errno == EINVAL) {
		log_limited(&gone,
			    "rdma: a client went before it was accepted connection=%u session=%u",
			    conn->number, conn->session.index);
		return -ECONNABORTED;
	}
	r = -errno;
	log_limited(&unaccepted, "rdma: cannot accept a connection: %s", strerror(-r));
	return r;
}

/* The session has no other connection now. */
static void begin(struct maas_rdma_conn *conn)
{
	int r;

	conn->rdma->by_session[conn->session.index] = conn;
	/* Before it is accepted: the client may ask for grants before we hear that it knows. */
	publish(conn, conn->number);
	r = accept_id(conn);
	if (r) {
		publish(conn, 0);
		if (r != -ECONNABORTED)
			maas_rdma_refuse(conn->rdma, conn->id, MAAS_WIRE_RESOURCES);
		set_state(conn, MAAS_RDMA_CONN_ENDING);
		maas_rdma_conn_dirty(conn);
		return;
	}
	set_state(conn, MAAS_RDMA_CONN_CONNECTING);
	conn->deadline_ms = maas_clock_ms() + ESTABLISH_MS;
}

static void drop_successor(struct maas_rdma_conn *conn, enum maas_wire_reason reason)
{
	if (!conn->successor)
		return;
	maas_rdma_refuse(conn->rdma, conn->successor->id, reason);
	free_conn(conn->successor);
	conn->successor = NULL;
}

static uint8_t smaller(int a, int b)
{
	int least = a < b ? a : b;

	return (uint8_t)(least < 0 ? 0 : least > UINT8_MAX ? UINT8_MAX : least);
}

static struct maas_rdma_conn *new_conn(struct maas_rdma *rdma, struct rdma_cm_id *id,
				       struct maas_lend_session_ref session)
{
	const struct ibv_device_attr *attr = &rdma->device->attr;
	struct maas_rdma_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->rdma = rdma;
	conn->session = session;
	conn->id = id;
	id->context = conn;
	conn->sq_depth = MAAS_RDMA_SQ_DEPTH;
	if (attr->max_qp_wr > 0 && (uint32_t)attr->max_qp_wr < conn->sq_depth)
		conn->sq_depth = (uint32_t)attr->max_qp_wr;
	conn->number = ++rdma->last_number ? rdma->last_number : ++rdma->last_number;
	conn->deadline_ms = maas_clock_ms() + ESTABLISH_MS;
	STAILQ_INIT(&conn->waiting);
	STAILQ_INIT(&conn->posted);
	STAILQ_INIT(&conn->enders);
	maas_rdma_count(&rdma->figures.conns[MAAS_RDMA_CONN_WAITING]);
	TAILQ_INSERT_TAIL(&rdma->conns, conn, link);
	return conn;
}

int maas_rdma_conn_open(struct maas_rdma *rdma, struct rdma_cm_id *id,
			struct maas_lend_session_ref session, const struct rdma_conn_param *param)
{
	struct maas_rdma_conn *before = rdma->by_session[session.index];
	struct maas_rdma_conn *conn = new_conn(rdma, id, session);

	if (!conn)
		return -ENOMEM;
	conn->responder_resources =
		smaller(param->responder_resources, rdma->device->attr.max_qp_rd_atom);
	if (before) {
		drop_successor(before, MAAS_WIRE_ENDING);
		before->successor = conn;
		maas_rdma_conn_end(before, "the session connects anew");
	} else {
		begin(conn);
	}
	return 0;
}

void maas_rdma_conn_established(struct maas_rdma_conn *conn)
{
	if (conn->state != MAAS_RDMA_CONN_CONNECTING)
		return;
	set_state(conn, MAAS_RDMA_CONN_LIVE);
	log_limited(&connected, "rdma: connected connection=%u session=%u", conn->number,
		    conn->session.index);
}

/* ---- the end */

static void drop_waiting(struct maas_rdma_conn *conn)
{
	struct maas_rdma *rdma = conn->rdma;
	struct maas_rdma_conn *before = rdma->by_session[conn->session.index];

	if (before && before->successor == conn)
		before->successor = NULL;
	maas_rdma_refuse(rdma, conn->id, MAAS_WIRE_ENDING);
	free_conn(conn);
}

void maas_rdma_conn_end(struct maas_rdma_conn *conn, const char *reason)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	int err;

	if (conn->state == MAAS_RDMA_CONN_ENDING)
		return;
	if (conn->state == MAAS_RDMA_CONN_WAITING) {
		drop_waiting(conn);
		return;
	}
	log_limited(&ends, "rdma: connection ends connection=%u session=%u reason=\"%s\"",
		    conn->number, conn->session.index, reason);
	publish(conn, 0);
	set_state(conn, MAAS_RDMA_CONN_ENDING);
	conn->deadline_ms = maas_clock_ms() + FLUSH_MS;
	err = ibv_modify_qp(conn->qp, &attr, IBV_QP_STATE);
	if (err)
		log_limited(&unbroken, "rdma: queue pair does not go to ERR connection=%u: %s",
			    conn->number, strerror(err));
	/* So that the peer hears of it; an error here is a peer that is gone. */
	(void)rdma_disconnect(conn->id);
	maas_rdma_conn_dirty(conn);
}

void maas_rdma_conns_end(struct maas_rdma *rdma, const char *reason)
{
	struct maas_rdma_conn *conn;
	struct maas_rdma_conn *next;

	for (conn = TAILQ_FIRST(&rdma->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		maas_rdma_conn_end(conn, reason);
	}
}

/* True when no work is under way any more. */
static bool settle_work(struct maas_rdma_conn *conn)
{
	maas_rdma_conn_poll(conn);
	maas_rdma_tasks_run(maas_rdma_tasks_take(&conn->waiting), IBV_WC_WR_FLUSH_ERR);
	if (conn->num_posted && maas_clock_ms() < conn->deadline_ms)
		return false;
	if (conn->num_posted)
		log_limited(&unflushed, "rdma: the device does not flush connection=%u work=%u",
			    conn->number, conn->num_posted);
	/* What has not completed by now is not waited for: it goes with the queue pair. */
	conn->rdma->num_posted -= conn->num_posted;
	conn->num_posted = 0;
	maas_rdma_tasks_run(maas_rdma_tasks_take(&conn->posted), IBV_WC_WR_FLUSH_ERR);
	return true;
}

void maas_rdma_conn_abandon(struct maas_rdma_conn *conn)
{
	maas_rdma_grants_abandon(conn);
	maas_rdma_tasks_run(maas_rdma_tasks_take(&conn->enders), -EIO);
}

static void bury(struct maas_rdma_conn *conn)
{
	struct maas_rdma *rdma = conn->rdma;
	struct maas_rdma_task *enders = maas_rdma_tasks_take(&conn->enders);
	struct maas_rdma_conn *successor = conn->successor;

	rdma->by_session[conn->session.index] = NULL;
	free_conn(conn);
	if (successor)
		begin(successor);
	maas_rdma_tasks_run(enders, 0);
}

/* Who waits for the end may ask for it again. */
static void try_later(struct maas_rdma_conn *conn)
{
	conn->deadline_ms = maas_clock_ms() + RETRY_MS;
	maas_rdma_tasks_run(maas_rdma_tasks_take(&conn->enders), -EIO);
}

static void go_on(struct maas_rdma_conn *conn)
{
	int r;

	if (!settle_work(conn))
		return;
	r = maas_rdma_grants_end(conn);
	if (r == -EAGAIN)
		maas_rdma_conn_dirty(conn);
	else if (!r && destroy_queues(conn))
		bury(conn);
	else
		try_later(conn);
}

/* Does what a connection has to do, which is off the list of dirty ones by now. */
static void run(struct maas_rdma_conn *conn)
{
	if (conn->state == MAAS_RDMA_CONN_ENDING)
		go_on(conn);
	else
		maas_rdma_conn_post_waiting(conn);
}

static bool is_overdue(const struct maas_rdma_conn *conn, uint64_t now_ms)
{
	struct maas_rdma_task *oldest = STAILQ_FIRST(&conn->posted);

	/* A probe may take long; what was posted behind it may not. */
	if (oldest == &conn->probe.task && now_ms < conn->probe.deadline_ms + MAAS_RDMA_PROBE_MS)
		oldest = STAILQ_NEXT(oldest, link);
	return oldest && now_ms >= maas_rdma_work_of(oldest)->deadline_ms;
}

static void look_at_time(struct maas_rdma_conn *conn, uint64_t now_ms)
{
	bool overdue = is_overdue(conn, now_ms);

	/* The device may have answered long ago, and this thread may be the one that is late. */
	if (overdue && conn->state != MAAS_RDMA_CONN_ENDING) {
		maas_rdma_conn_poll(conn);
		overdue = is_overdue(conn, now_ms);
	}
	if (conn->state == MAAS_RDMA_CONN_ENDING) {
		if (now_ms >= conn->deadline_ms)
			maas_rdma_conn_dirty(conn);
	} else if (conn->state != MAAS_RDMA_CONN_LIVE && now_ms >= conn->deadline_ms) {
		maas_rdma_conn_end(conn, "never established");
	} else if (overdue) {
		maas_rdma_conn_end(conn, "the device does not answer in time");
	}
}

void maas_rdma_conns_run(struct maas_rdma *rdma, uint64_t now_ms)
{
	struct maas_rdma_conn_list todo = TAILQ_HEAD_INITIALIZER(todo);
	struct maas_rdma_conn *conn;
	struct maas_rdma_conn *next;

	for (conn = now_ms ? TAILQ_FIRST(&rdma->conns) : NULL; conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		look_at_time(conn, now_ms);
	}
	/* Those that are marked meanwhile wait for the next turn, after events and tasks. */
	TAILQ_CONCAT(&todo, &rdma->dirty, dirty_link);
	while ((conn = TAILQ_FIRST(&todo))) {
		TAILQ_REMOVE(&todo, conn, dirty_link);
		conn->dirty = false;
		run(conn);
	}
}
