/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAAS_RDMA_INTERNAL_H
#define MAAS_RDMA_INTERNAL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <sys/queue.h>

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

/* ---- loop: a connected pair of queue pairs of this process, for the self-test -------------------
 */

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
 *   server    struct maas_rdma: its life, its thread and the commands that other threads send it
 *   listen    rdma_cm: who may connect
 *   conn      one connection: its queue pair, the work on it, its end
 *   grant     which key to which slab is whose, and the operations of struct maas_key_ops on them
 *   window    keys by memory windows of a connection
 *   region    keys by memory regions: one for each grant (mr), or for each extent (pool)
 *   extent    the arena's regions, registered by a thread of their own
 *
 * One thread owns connections, grants and keys: no lock guards them. Other threads send commands
 * and read atomics. "Thread": the server's own.
 */

#define MAAS_RDMA_WORK_MS  500 /* a bind or invalidation that takes longer breaks its connection */
#define MAAS_RDMA_SQ_DEPTH 512 /* work requests under way on a connection */
#define MAAS_RDMA_BINDS	   255 /* of one window: its key repeats after 256 */
#define MAAS_RDMA_NO_GRANT UINT32_MAX

/* Something for the thread to do. The storage is the caller's until `run`, which may free it. */
struct maas_command {
	STAILQ_ENTRY(maas_command) link;
	void (*run)(struct maas_rdma *rdma, struct maas_command *command);
};

STAILQ_HEAD(maas_command_list, maas_command);

/*
 * Any thread, in order. Errors: -ESHUTDOWN when the thread has ended or never started, then `run`
 * is not called.
 */
MAAS_MUST_CHECK int maas_rdma_send(struct maas_rdma *rdma, struct maas_command *command);

/* One work request of the server on a connection's queue pair. */
struct maas_work {
	TAILQ_ENTRY(maas_work) link;
	struct ibv_send_wr wr; /* wr_id, next and send_flags are maas_conn_post()'s */
	uint64_t deadline_ms;
	/* Thread. The storage is the caller's again. */
	void (*done)(struct maas_work *work, enum ibv_wc_status status);
};

TAILQ_HEAD(maas_work_list, maas_work);

enum maas_conn_state {
	MAAS_CONN_CONNECTING, /* accepted, not yet established */
	MAAS_CONN_LIVE,
	MAAS_CONN_ENDING, /* its queue pair is in ERR, or about to be: nothing is posted */
};

struct maas_rdma_grant;
struct maas_window;
LIST_HEAD(maas_grant_list, maas_rdma_grant);
SLIST_HEAD(maas_window_list, maas_window);

struct maas_conn {
	struct maas_rdma *rdma;
	LIST_ENTRY(maas_conn) link;
	struct maas_session_ref session;
	uint32_t number; /* in the accept data and in grants; never 0, never used twice */
	enum maas_conn_state state;
	struct rdma_cm_id *id;
	struct ibv_pd *pd; /* mr: its own; else the server's */
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct maas_work_list waiting; /* to be posted, in order, in one chain */
	struct maas_work_list posted;  /* oldest first */
	uint32_t num_posted;

	/* of grant, window and region */
	struct maas_grant_list grants;
	struct maas_window_list windows; /* unbound, ready to be bound */
};

/*
 * Thread. Posts when the thread has done what else it had to do: several works, one chain, one
 * doorbell. Never fails here: what cannot be posted or was flushed is done with
 * IBV_WC_WR_FLUSH_ERR, never from within this call.
 */
void maas_conn_post(struct maas_conn *conn, struct maas_work *work);

/*
 * Thread. Breaks the connection, for `reason` in the log: queue pair to ERR → all work done →
 * maas_grants_end() → queue pair, completion queue and protection domain destroyed → freed. Returns
 * at once; the rest happens when the thread comes round, within MAAS_RDMA_WORK_MS. Where
 * maas_grants_end() fails it is asked again every second.
 */
void maas_conn_end(struct maas_conn *conn, const char *reason);

/* Thread. The session's connection, CONNECTING and ENDING ones too, or NULL. */
struct maas_conn *maas_conn_find(struct maas_rdma *rdma, struct maas_session_ref session);

/* ---- grant */

/*
 * One key. It is in its connection's list and in its slab's chain until it is dead.
 * Indices, so that the slab's chain is one atomic number: 0 there says to any thread that a slab
 * has no key.
 */
enum maas_grant_state {
	MAAS_GRANT_BINDING,
	MAAS_GRANT_LIVE,
	MAAS_GRANT_REVOKING,
};

/* What happens to a grant when its key came to life or died. Thread. 0, or -errno. */
typedef void maas_grant_step(struct maas_rdma_grant *grant, int status);

struct maas_rdma_grant {
	LIST_ENTRY(maas_rdma_grant) link; /* of its connection's */
	struct maas_rdma_grant *next;	  /* of its slab's */
	struct maas_conn *conn;
	struct maas_slab_ref ref;
	enum maas_grant_state state;
	enum maas_access access;
	uint64_t offset; /* in the arena */
	uint64_t len_bytes;
	uint32_t rkey;
	struct maas_window *window; /* or … */
	struct ibv_mr *mr;	    /* … by mode */
	struct maas_work work;
	uint64_t started_ns;
	maas_grant_step *step;
	struct maas_waiter *waiters; /* grant.c's own: who wants to hear of its end */
};

/* Both of server's start and end. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_grants_open(struct maas_rdma *rdma);
void maas_grants_close(struct maas_rdma *rdma);

/*
 * Thread. The connection's queue pair is in ERR and no work is under way: kills its keys (windows
 * deallocated, regions deregistered), drops its grants and tells who waits for them. Errors: -EBUSY
 * a key could not be confirmed dead; it stays, and this is called again later.
 */
MAAS_MUST_CHECK int maas_grants_end(struct maas_conn *conn);

/* Of struct maas_key_ops. */
int maas_grants_grant(void *ctx, struct maas_session_ref session, const struct maas_slab_ref *refs,
		      uint32_t count, enum maas_access access, struct maas_grant *ret_grants,
		      maas_key_done *done, void *arg);
int maas_grants_ungrant(void *ctx, struct maas_session_ref session, struct maas_slab_ref ref,
			maas_key_done *done, void *arg);
int maas_grants_revoke(void *ctx, struct maas_slab_ref ref, maas_key_done *done, void *arg);

/* ---- window, region: keys by mode. Thread. */

/*
 * Makes the grant's key: `grant->step(grant, status)` comes, perhaps before this returns, with
 * grant->rkey set when status is 0. Errors in it: -EMLINK, -ENOMEM, -ENOTCONN.
 */
void maas_window_bind(struct maas_rdma_grant *grant);
void maas_region_make(struct maas_rdma_grant *grant); /* mr and pool */
/* Kills it: `step` comes. Where that fails the connection is ended, and maas_grants_end() tells. */
void maas_window_kill(struct maas_rdma_grant *grant);
void maas_region_kill(struct maas_rdma_grant *grant);
/* At the connection's end. True: dead for certain. */
MAAS_MUST_CHECK bool maas_window_end(struct maas_rdma_grant *grant);
MAAS_MUST_CHECK bool maas_region_end(struct maas_rdma_grant *grant);
/* Deallocates the connection's spare windows. Errors: -EBUSY. */
MAAS_MUST_CHECK int maas_windows_free(struct maas_conn *conn);

/* ---- extent: regions of the arena (window and pool mode) */

struct maas_extents;

/* With `register_all` everything is asked for at once. Errors: -ENOMEM, -EAGAIN. */
MAAS_MUST_CHECK int maas_extents_open(struct maas_rdma *rdma, bool register_all,
				      struct maas_extents **ret_extents);
/* Stops its thread; the regions stay until maas_extents_close(). NULL is allowed, in both. */
void maas_extents_stop(struct maas_extents *extents);
/* No window is bound any more. */
void maas_extents_close(struct maas_extents *extents);
/*
 * Thread. The region of the extent at `offset`; NULL with -EINPROGRESS: it is being registered, and
 * `command` will be sent when that has ended, well or not. NULL with another error: -ENOMEM and
 * what ibv_reg_mr(3) said, once the log has named the limit of locked memory and its remedies.
 */
struct ibv_mr *maas_extent_get(struct maas_extents *extents, uint64_t offset,
			       struct maas_command *command, int *ret_error);
/* Any thread. */
void maas_extents_progress(const struct maas_extents *extents, uint64_t *ret_registered,
			   uint64_t *ret_wanted);

/* ---- figures: relaxed atomics, any thread */

struct maas_rdma_times {
	_Atomic uint64_t buckets[MAAS_KEY_BUCKETS + 1];
	_Atomic uint64_t sum_ns;
};

void maas_rdma_time(struct maas_rdma_times *times, uint64_t ns);

#define MAAS_RDMA_STATUSES 32
#define MAAS_RDMA_REASONS  8

struct maas_rdma_figures {
	_Atomic uint64_t conns[3]; /* by enum maas_conn_state */
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
	struct maas_extents *extents; /* NULL in mr */
	uint16_t port;

	struct maas_rdma_figures figures;
	_Atomic bool failed;	     /* the device is gone */
	_Atomic uint64_t *connected; /* by session index: its generation << 32 | connection; 0 */
	_Atomic(struct maas_rdma_grant *) *keyed; /* by slot: its chain; NULL: it has no key.
						   * Written by the thread, read by any */

	struct maas_server *server; /* server.c's own: thread, commands, epoll */
	/* Thread. */
	LIST_HEAD(, maas_conn) conns;
	struct maas_conn **by_session;	      /* by index */
	struct ibv_comp_channel *completions; /* of all connections */
};

#endif
