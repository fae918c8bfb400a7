/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAAS_RDMA_INTERNAL_H
#define MAAS_RDMA_INTERNAL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/wire.h"
#include "rdma/rdma.h"

/* Constant after maas_rdma_device_open(). */
struct maas_rdma_device {
	struct ibv_context *verbs;
	struct ibv_device_attr attr;
	struct ibv_port_attr port_attr;
	uint8_t port; /* from 1 */
	int gid_index;
	union ibv_gid gid;
	char gid_text[MAAS_RDMA_GID_TEXT];
};

/* ---- loop: a connected pair of queue pairs of this process, for the self-test */

struct maas_rdma_loop {
	struct ibv_cq *cq; /* of both ends */
	struct ibv_qp *server;
	struct ibv_qp *client;
};

/*
 * Connects a queue pair in `server_pd` with one in `client_pd`; a remote peer may read and write on
 * the server's. Owns: the pair, until maas_rdma_loop_fini(), which accepts a half-built one;
 * windows are deallocated before it. Errors: -errno of the verbs calls.
 */
MAAS_MUST_CHECK int maas_rdma_loop_init(struct maas_rdma_device *device, struct ibv_pd *server_pd,
					struct ibv_pd *client_pd, struct maas_rdma_loop *loop);
void maas_rdma_loop_fini(struct maas_rdma_loop *loop);

/*
 * Posts one signalled request on `qp` and waits for its completion, a second at most.
 * Returns the completion's status (enum ibv_wc_status, 0 is success) or -errno (-ETIMEDOUT).
 */
MAAS_MUST_CHECK int maas_rdma_loop_run(struct maas_rdma_loop *loop, struct ibv_qp *qp,
				       struct ibv_send_wr *wr);

/* ---- the server ------------------------------------------------------------------------------
 *
 *   server    struct maas_rdma: its life, its thread and the tasks that other threads send it
 *   choice    what the device enforces, and the key mode that follows
 *   ops       the table of operations that lend calls
 *   figures   what /metrics shows
 *   listen    rdma_cm: who may connect
 *   conn      one connection: its queue pair and its end
 *   work      what the server posts on it
 *   grant     which key to which slab is whose
 *   request   lend's operations on grants, one or many
 *   window    keys by memory windows of a connection
 *   region    keys by memory regions: one for each grant (mr), or for each extent (pool)
 *   extent    the arena's regions, registered by a thread of their own
 *
 * One thread owns connections, grants and keys: no lock guards them. Other threads send tasks
 * and read atomics. "Thread": the server's own.
 */

#define MAAS_RDMA_WORK_MS  500 /* a bind or invalidation that takes longer breaks its connection */
#define MAAS_RDMA_SQ_DEPTH 512 /* work requests under way on a connection */
#define MAAS_RDMA_BINDS	   255 /* of one window: its key repeats after 256 */

/*
 * Something that is to be done in the thread when its time has come: at once (maas_rdma_send()),
 * when a work request has completed, when a key is made or dead, when a connection is gone. The
 * storage belongs to whoever set `run`, which may free or reuse it. A task is in one list at most.
 */
struct maas_rdma_task {
	STAILQ_ENTRY(maas_rdma_task) link;
	/* `status`: 0, -errno, or of a work request enum ibv_wc_status. */
	void (*run)(struct maas_rdma_task *task, int status);
};

STAILQ_HEAD(maas_rdma_task_list, maas_rdma_task);

/*
 * Has the thread run the task, with 0, after those that were sent before. Any thread. Errors:
 * -ESHUTDOWN when the thread has ended or never started, then the task is not run.
 */
MAAS_MUST_CHECK int maas_rdma_send(struct maas_rdma *rdma, struct maas_rdma_task *task);

/* Thread. Runs each task, which is off the list by then. */
void maas_rdma_tasks_run(struct maas_rdma_task_list *list, int status);

/*
 * One work request of the server on a connection's queue pair. Zeroed before it is used the first
 * time, its `wr` is set by field after that.
 */
struct maas_rdma_work {
	struct maas_rdma_task task; /* run at its completion */
	struct ibv_send_wr wr;	    /* wr_id, next and send_flags are maas_rdma_conn_post()'s */
	uint64_t deadline_ms;	    /* set by maas_rdma_conn_post() */
	uint32_t timeout_ms;	    /* 0: MAAS_RDMA_WORK_MS */
};

static inline struct maas_rdma_work *maas_rdma_work_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct maas_rdma_work, task);
}

enum maas_rdma_conn_state {
	MAAS_RDMA_CONN_WAITING,	   /* asked for, while the session's connection before it ends */
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
	struct maas_rdma_conn *successor;  /* WAITING for its end */
	struct maas_rdma_task_list enders; /* run when it is gone */
	struct maas_rdma_work probe;
	bool probing;

	/* of grant, window and region */
	struct maas_rdma_grant_list grants;
	bool quiet; /* ENDING, and no work can be under way: each key can be killed by itself */
	struct maas_rdma_window_list windows; /* unbound, ready to be bound … */
	struct maas_rdma_window_list retired; /* … or not any more */
};

TAILQ_HEAD(maas_rdma_conn_list, maas_rdma_conn);

/* Thread. A connection for the id of a request; accepted when the session's last one is gone.
 * Errors: -ENOMEM, errno of the verbs; the id is then the caller's still. */
MAAS_MUST_CHECK int maas_rdma_conn_open(struct maas_rdma *rdma, struct rdma_cm_id *id,
					struct maas_lend_session_ref session,
					const struct rdma_conn_param *param);

/* Thread. It is established from now on. */
void maas_rdma_conn_established(struct maas_rdma_conn *conn);

/*
 * Thread. Posts when the thread has done what else it had to do: several works, one chain, one
 * doorbell. Never fails here: what cannot be posted or was flushed is done with
 * IBV_WC_WR_FLUSH_ERR, never from within this call.
 */
void maas_rdma_conn_post(struct maas_rdma_conn *conn, struct maas_rdma_work *work);

/*
 * Thread. Breaks the connection, for `reason` in the log: queue pair to ERR → all work done →
 * maas_rdma_grants_end() → queue pair, completion queue and protection domain destroyed → freed.
 * Returns at once; the rest happens when the thread comes round, within MAAS_RDMA_WORK_MS. Where a
 * key cannot be confirmed dead it is tried again every second.
 */
void maas_rdma_conn_end(struct maas_rdma_conn *conn, const char *reason);

/* Thread. There is something to do for it before the thread sleeps. */
void maas_rdma_conn_dirty(struct maas_rdma_conn *conn);
/* Thread. In one chain. */
void maas_rdma_conn_post_waiting(struct maas_rdma_conn *conn);

/* Thread. Sends a zero-length write: without an answer the queue pair breaks. */
void maas_rdma_conn_probe(struct maas_rdma_conn *conn);

/* Thread. The session's connection, one that waits or ends too, or NULL. */
struct maas_rdma_conn *maas_rdma_conn_find(struct maas_rdma *rdma,
					   struct maas_lend_session_ref session);

static inline bool maas_rdma_conn_usable(const struct maas_rdma_conn *conn)
{
	return conn->state == MAAS_RDMA_CONN_CONNECTING || conn->state == MAAS_RDMA_CONN_LIVE;
}

/* Thread. Takes the completions of one queue. */
void maas_rdma_conn_poll(struct maas_rdma_conn *conn);
/* Thread. Posts what waits, and goes on with ends; `now_ms` 0: without looking at the time. */
void maas_rdma_conns_run(struct maas_rdma *rdma, uint64_t now_ms);
/* Where it would not end: tells who waits for that, or for its keys, that nothing is confirmed. */
void maas_rdma_conn_abandon(struct maas_rdma_conn *conn);

/* ---- listen */

/* The connection manager: where there is none, nothing of RDMA can be served. Errors: -ENODEV,
 * -EACCES. */
MAAS_MUST_CHECK int maas_rdma_listen_prepare(struct maas_rdma *rdma, char *error);
MAAS_MUST_CHECK int maas_rdma_listen_open(struct maas_rdma *rdma, char *error);
/* Nobody can connect any more; the connections that there are stay. */
void maas_rdma_listen_end(struct maas_rdma *rdma);
void maas_rdma_listen_close(struct maas_rdma *rdma);
/* Thread. The device is gone: every connection ends. */
void maas_rdma_listen_failed(struct maas_rdma *rdma);
/* Thread. Takes one event of the channel; false: there is none. */
bool maas_rdma_listen_run(struct maas_rdma *rdma);

/* ---- grant */

enum maas_rdma_grant_state {
	MAAS_RDMA_GRANT_BINDING,
	MAAS_RDMA_GRANT_LIVE,
	MAAS_RDMA_GRANT_REVOKING,
	MAAS_RDMA_GRANT_BROKEN, /* its connection is ending, which kills it */
};

/*
 * One key. It is in its connection's list and in its slab's chain from before it is made until it
 * is dead for certain.
 */
struct maas_rdma_grant {
	LIST_ENTRY(maas_rdma_grant) link; /* of its connection's */
	struct maas_rdma_grant *next;	  /* of its slab's; while it is spare, of those */
	struct maas_rdma_grant *prev;	  /* of its slab's; NULL: the first */
	struct maas_rdma_conn *conn;	  /* NULL: gone while the extent was being registered */
	struct maas_rdma *rdma;
	struct maas_slab_ref ref;
	enum maas_rdma_grant_state state;
	enum maas_lend_access access;
	uint64_t offset; /* in the arena */
	uint64_t len_bytes;
	uint32_t rkey;
	struct maas_rdma_window *window; /* or … */
	struct ibv_mr *mr;		 /* … by mode; neither: there is no key */
	struct maas_rdma_work work;
	bool registering; /* its extent is; `work.task` comes when that has ended */
	uint64_t started_ns;
	struct maas_rdma_task_list made; /* run when it is made … */
	struct maas_rdma_task_list
		dead; /* … or dead; any of these: it dies as soon as it is made */
};

/*
 * Thread. Of window and region: the key is made, or dead. Errors: -EMLINK and such, without a key;
 * -EIO: there may be one, and the connection is ending.
 */
void maas_rdma_grant_made(struct maas_rdma_grant *grant, int status);
void maas_rdma_grant_killed(struct maas_rdma_grant *grant, int status);
/*
 * Thread. Of those two as well: the region of the grant's extent. NULL: it is being registered, and
 * then the grant is made, or the grant has failed.
 */
struct ibv_mr *maas_rdma_grant_extent(struct maas_rdma_grant *grant);

/* The slab's first grant, of any session, and that of a connection; NULL. */
struct maas_rdma_grant *maas_rdma_grant_first(struct maas_rdma *rdma, struct maas_slab_ref ref);
struct maas_rdma_grant *maas_rdma_grant_find(const struct maas_rdma_conn *conn,
					     struct maas_slab_ref ref);

/*
 * Asks for a key: `task` hears of it, perhaps before this returns, and `ret_grant` is set before
 * that. -EALREADY: it is there, in `ret_grant`, and `task` hears nothing. Other errors, then
 * `task` hears nothing either: -ENOENT, -EEXIST, -EDQUOT, -ENOMEM.
 */
MAAS_MUST_CHECK int maas_rdma_grant_ask(struct maas_rdma_conn *conn, struct maas_slab_ref ref,
					enum maas_lend_access access, struct maas_rdma_task *task,
					struct maas_rdma_grant **ret_grant);
/* Kills it; `task` (NULL: nobody) hears 0 when it is dead for certain, perhaps before this
 * returns, or an error when it could not be confirmed. */
void maas_rdma_grant_kill(struct maas_rdma_grant *grant, struct maas_rdma_task *task);

/* Both of server's start and end. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_rdma_grants_open(struct maas_rdma *rdma);
void maas_rdma_grants_close(struct maas_rdma *rdma);

/*
 * Thread. The connection's queue pair is in ERR and no work is under way: kills its keys (windows
 * deallocated, regions deregistered), drops its grants and tells who waits for them. Errors:
 * -EAGAIN there are more of them than one turn of the thread should take; -EBUSY a key could not be
 * confirmed dead: it stays, and this is called again later.
 */
MAAS_MUST_CHECK int maas_rdma_grants_end(struct maas_rdma_conn *conn);
/* The connection would not end: tells who waits for its grants that nothing is confirmed. */
void maas_rdma_grants_abandon(struct maas_rdma_conn *conn);

/* Of struct maas_lend_key_ops. */
int maas_rdma_request_grant(void *ctx, struct maas_lend_session_ref session,
			    const struct maas_slab_ref *refs, uint32_t count,
			    enum maas_lend_access access, struct maas_lend_key *ret_keys,
			    maas_lend_key_done *done, void *arg);
int maas_rdma_request_ungrant(void *ctx, struct maas_lend_session_ref session,
			      struct maas_slab_ref ref, maas_lend_key_done *done, void *arg);
int maas_rdma_request_revoke(void *ctx, struct maas_slab_ref ref, maas_lend_key_done *done,
			     void *arg);

/* ---- window, region: keys by mode. Thread. */

/* Makes the grant's key: maas_rdma_grant_made() comes, perhaps before this returns, with the rkey
 * set.
 */
void maas_rdma_window_bind(struct maas_rdma_grant *grant);
void maas_rdma_region_make(struct maas_rdma_grant *grant); /* mr and pool */
/* Kills it: maas_rdma_grant_killed() comes. */
void maas_rdma_window_kill(struct maas_rdma_grant *grant);
void maas_rdma_region_kill(struct maas_rdma_grant *grant);
/* At the connection's end. True: dead for certain. */
MAAS_MUST_CHECK bool maas_rdma_window_destroy(struct maas_rdma_grant *grant);
MAAS_MUST_CHECK bool maas_rdma_region_destroy(struct maas_rdma_grant *grant);
/* Deallocates the connection's spare windows. Errors: -EAGAIN, -EBUSY, as maas_rdma_grants_end().
 */
MAAS_MUST_CHECK int maas_rdma_windows_free(struct maas_rdma_conn *conn);

/* ---- extent: regions of the arena (window and pool mode) */

struct maas_rdma_extents;

/* With `register_all` everything is asked for at once. Errors: -ENOMEM, -EAGAIN. */
MAAS_MUST_CHECK int maas_rdma_extents_open(struct maas_rdma *rdma, bool register_all,
					   struct maas_rdma_extents **ret_extents);
/* Stops its thread; the regions stay until maas_rdma_extents_close(). NULL is allowed, in both. */
void maas_rdma_extents_stop(struct maas_rdma_extents *extents);
/* No window is bound any more. */
void maas_rdma_extents_close(struct maas_rdma_extents *extents);
/*
 * Thread. The region of the extent at `offset`; NULL with -EINPROGRESS: it is being registered, and
 * `task` will be sent when that has ended, well or not. NULL with another error: -ENOMEM and
 * what ibv_reg_mr(3) said, once the log has named the limit of locked memory and its remedies.
 */
struct ibv_mr *maas_rdma_extent_get(struct maas_rdma_extents *extents, uint64_t offset,
				    struct maas_rdma_task *task, int *ret_error);
/* Any thread. */
void maas_rdma_extents_progress(const struct maas_rdma_extents *extents, uint64_t *ret_registered,
				uint64_t *ret_wanted);

/* ---- figures: written by the thread, read by any */

struct maas_rdma_times {
	_Atomic uint64_t buckets[MAAS_LEND_KEY_BUCKETS + 1];
	_Atomic uint64_t sum_ns;
};

void maas_rdma_time(struct maas_rdma_times *times, uint64_t ns);
/* Any thread. */
void maas_rdma_stats(struct maas_rdma *rdma, struct maas_lend_key_stats *ret_stats);

/* Thread: with one writer it takes no locked instruction. */
static inline void maas_rdma_add(_Atomic uint64_t *figure, uint64_t more)
{
	atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + more,
			      memory_order_relaxed);
}

static inline void maas_rdma_count(_Atomic uint64_t *figure)
{
	maas_rdma_add(figure, 1);
}

static inline void maas_rdma_uncount(_Atomic uint64_t *figure)
{
	maas_rdma_add(figure, UINT64_MAX);
}

#define MAAS_RDMA_STATUSES 32
#define MAAS_RDMA_REASONS  8

struct maas_rdma_figures {
	_Atomic uint64_t conns[MAAS_RDMA_CONN_STATES];
	_Atomic uint64_t grants;
	struct maas_rdma_times bind;
	struct maas_rdma_times revoke;
	_Atomic uint64_t errors[MAAS_RDMA_STATUSES]; /* by enum ibv_wc_status */
	_Atomic uint64_t rejects[MAAS_RDMA_REASONS]; /* by enum maas_wire_reason */
};

/* ---- server */

struct maas_rdma {
	/* constant after maas_rdma_open() */
	struct maas_rdma_options options; /* strings are not kept */
	struct maas_rdma_device *device;
	struct maas_rdma_selftest selftest;
	enum maas_rdma_keys keys;
	struct maas_slab_area area;
	struct ibv_pd *pd; /* window, pool; NULL in mr */
	/* constant after maas_rdma_listen() */
	struct maas_lend *lend;
	struct maas_rdma_extents *extents; /* NULL in mr */
	uint16_t port;

	struct maas_rdma_figures figures;
	_Atomic bool failed;	     /* the device is gone */
	_Atomic uint64_t *connected; /* by session index: its generation << 32 | connection; 0 */
	/* By slot: its chain; NULL: it has no key. Written by the thread, read by any. */
	_Atomic(struct maas_rdma_grant *) *keyed;

	struct maas_rdma_server *server; /* server.c's own: thread, tasks, epoll */
	/* Thread. */
	struct rdma_event_channel *cm;
	struct rdma_cm_id *listener;
	struct ibv_comp_channel *completions; /* of all connections */
	struct maas_rdma_conn_list conns;     /* that wait, or live, or end */
	struct maas_rdma_conn_list dirty;     /* that have work to post or an end to go on with */
	struct maas_rdma_conn **by_session;   /* by index */
	uint32_t last_number;
	uint32_t num_grants;
	uint32_t num_posted;	       /* of all connections */
	struct maas_rdma_grant *spare; /* of grant.c, by `next` */
	uint32_t num_spare;
	uint32_t num_windows;	       /* of all connections, that are not bound */
	uint64_t turn_ns;	       /* the time of this turn; 0: nobody has asked yet */
	char addr[MAAS_RDMA_GID_TEXT]; /* --rdma-addr, or "" */
};

/* ---- choice */

/* Tries the device, and sets `selftest` and `keys`. Errors: of maas_rdma_open(). */
MAAS_MUST_CHECK int maas_rdma_choose(struct maas_rdma *rdma, char *error);

/*
 * Says in the log why the device made no key, region or queue, with the limit of locked memory and
 * its remedies; `bytes` 0: not known. Returns -EMLINK when the device or a limit is full, else
 * `error`.
 */
int maas_rdma_explain(const char *what, uint64_t bytes, int error);

/* How many keys an operation of the thread makes or kills in one go. */
#define MAAS_RDMA_STEP 256

#endif
