/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: one connection, its queue pair, what the server posts on it, and its end (conn.c, work.c).
 * Threading: the server's thread alone.
 */
#ifndef MAAS_RDMA_CONN_H
#define MAAS_RDMA_CONN_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "rdma/rdma.h"
#include "rdma/task.h"

#define MAAS_RDMA_WORK_MS  500 /* a bind or invalidation that takes longer breaks its connection */
#define MAAS_RDMA_PROBE_MS 30000 /* eight MAAS_WIRE_ACK_TIMEOUT, 9 s at most, end sooner */
#define MAAS_RDMA_SQ_DEPTH 512	 /* work requests under way on a connection */

/*
 * One work request of the server. Zeroed before it is used the first time, its `wr` is set by field
 * after that.
 */
struct maas_rdma_work {
	struct maas_rdma_task task; /* run at its completion */
	struct ibv_send_wr wr;	    /* wr_id, next and send_flags are maas_rdma_conn_post()'s */
	uint64_t deadline_ms;	    /* likewise; of a probe later, by MAAS_RDMA_PROBE_MS */
};

static inline struct maas_rdma_work *maas_rdma_work_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct maas_rdma_work, task);
}

enum maas_rdma_conn_state {
	MAAS_RDMA_CONN_WAITING,	   /* for the end of the session's connection before it */
	MAAS_RDMA_CONN_CONNECTING, /* accepted, not yet established */
	MAAS_RDMA_CONN_LIVE,
	MAAS_RDMA_CONN_ENDING, /* its queue pair is in ERR: nothing is posted */
	MAAS_RDMA_CONN_STATES,
};

struct maas_rdma_grant;
struct maas_rdma_window;
LIST_HEAD(maas_rdma_grant_list, maas_rdma_grant);
SLIST_HEAD(maas_rdma_window_list, maas_rdma_window);

struct maas_rdma_conn {
	struct maas_rdma *rdma;
	TAILQ_ENTRY(maas_rdma_conn) link;
	struct maas_lend_session_ref session;
	uint32_t number; /* in the accept data and in grants; never 0 */
	enum maas_rdma_conn_state state;
	uint64_t deadline_ms; /* CONNECTING, WAITING: established by then; ENDING: try again then */
	struct rdma_cm_id *id;
	uint8_t responder_resources; /* reads that the peer may have under way */
	struct ibv_pd *pd;	     /* mr: its own; else the server's */
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	uint32_t sq_depth;
	uint32_t num_posted;
	struct maas_rdma_task_list waiting; /* work to be posted, in order, in one chain */
	struct maas_rdma_task_list posted;  /* work, oldest first */
	TAILQ_ENTRY(maas_rdma_conn) dirty_link;
	bool dirty; /* in rdma->dirty: there is something to do before the thread sleeps */
	struct maas_rdma_conn *successor;  /* WAITING for the end of this one */
	struct maas_rdma_task_list enders; /* run when it is gone, or a try to end it has failed */
	struct maas_rdma_work probe;
	bool probing;

	/* of grant, window and region */
	struct maas_rdma_grant_list grants;
	struct maas_rdma_grant_list stuck; /* of them, ENDING: that would not go in this round */
	bool quiet; /* ENDING, and no work can be under way: each key can be killed by itself */
	struct maas_rdma_window_list windows; /* unbound, ready to be bound … */
	struct maas_rdma_window_list retired; /* … or not any more */
};

TAILQ_HEAD(maas_rdma_conn_list, maas_rdma_conn);

/*
 * Makes the connection that `id`, a request of the connection manager, asks for. The connection is
 * accepted when the session's last one is gone. Errors: -ENOMEM, errno of the verbs; the id is then
 * still the caller's.
 */
MAAS_MUST_CHECK int maas_rdma_conn_open(struct maas_rdma *rdma, struct rdma_cm_id *id,
					struct maas_lend_session_ref session,
					const struct rdma_conn_param *param);
/* The client knows of the connection from now on. */
void maas_rdma_conn_established(struct maas_rdma_conn *conn);

/* The session's connection, also one that waits or ends; or NULL. */
struct maas_rdma_conn *maas_rdma_conn_find(struct maas_rdma *rdma,
					   struct maas_lend_session_ref session);

static inline bool maas_rdma_conn_usable(const struct maas_rdma_conn *conn)
{
	return conn->state == MAAS_RDMA_CONN_CONNECTING || conn->state == MAAS_RDMA_CONN_LIVE;
}

/* The connection has something to do before the thread sleeps. */
void maas_rdma_conn_dirty(struct maas_rdma_conn *conn);

/*
 * Posts the work once the thread has done what else it had to do: several works, one chain, one
 * doorbell. Never fails here: what cannot be posted or was flushed ends with IBV_WC_WR_FLUSH_ERR,
 * never from within this call.
 */
static inline void maas_rdma_conn_post(struct maas_rdma_conn *conn, struct maas_rdma_work *work)
{
	STAILQ_INSERT_TAIL(&conn->waiting, &work->task, link);
	if (!conn->dirty)
		maas_rdma_conn_dirty(conn);
}
/* Posts all work that waits. */
void maas_rdma_conn_post_waiting(struct maas_rdma_conn *conn);
/* Sends a zero-length write: without an answer the queue pair breaks. */
void maas_rdma_conn_probe(struct maas_rdma_conn *conn);
/* Takes the completions of the connection's queue. */
void maas_rdma_conn_poll(struct maas_rdma_conn *conn);

/*
 * Breaks the connection, for `reason` in the log: queue pair to ERR → all work done →
 * maas_rdma_grants_end() → queue pair, completion queue and protection domain destroyed → freed.
 * Returns at once; the rest happens when the thread comes round, within MAAS_RDMA_WORK_MS. Where a
 * key cannot be confirmed dead, those who wait hear of it, and the end is tried again every second.
 */
void maas_rdma_conn_end(struct maas_rdma_conn *conn, const char *reason);
/* Breaks all of the server's. */
void maas_rdma_conns_end(struct maas_rdma *rdma, const char *reason);
/* The connection would not end: tells those who wait for that, or for its keys, that nothing is
 * confirmed. */
void maas_rdma_conn_abandon(struct maas_rdma_conn *conn);

/* Posts what waits, and goes on with ends. `now_ms` 0: without looking at the time. */
void maas_rdma_conns_run(struct maas_rdma *rdma, uint64_t now_ms);

#endif
