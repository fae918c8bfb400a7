/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grant: which session has a key to which slab, and how that key is made and killed.
 *
 *     BINDING ──▶ LIVE ──▶ REVOKING ──▶ dead: told, and freed
 *        ├──▶ DOOMED ──┬────────┘
 *        └─────────────┴──▶ BROKEN ──▶ dead with its connection; from LIVE and REVOKING, too
 *
 * A grant is in its connection's list and in its slab's chain from before its key is made until the
 * key is dead for certain. Threading: the server's thread alone.
 */
#ifndef MAAS_RDMA_GRANT_H
#define MAAS_RDMA_GRANT_H

#include "rdma/conn.h"

#define MAAS_RDMA_STEP	     256	 /* keys that the thread makes or kills in one go, … */
#define MAAS_RDMA_STEP_BYTES (64u << 20) /* … and what a turn, about, pins or unpins for keys */
#define MAAS_RDMA_BINDS	     255	 /* of one window: its key repeats after 256 */

enum maas_rdma_grant_state {
	MAAS_RDMA_GRANT_BINDING,
	MAAS_RDMA_GRANT_DOOMED, /* revoked before its key was made: the key dies once it is */
	MAAS_RDMA_GRANT_LIVE,
	MAAS_RDMA_GRANT_REVOKING,
	MAAS_RDMA_GRANT_BROKEN, /* its connection is ending, which kills the key */
};

struct maas_rdma_grant;

/* Who asks for keys to one slab after the other. */
struct maas_rdma_asker {
	uint64_t number; /* no other's */
	const struct maas_slab_ref *refs;
	enum maas_lend_access access;
	uint32_t asked;	  /* refs so far */
	uint32_t pending; /* one more for each, which made() takes off */
	int status;	  /* not 0: no more are asked for */
	/* The key to refs[index] is made; or cannot be: then `grant` is NULL. */
	void (*made)(struct maas_rdma_asker *asker, uint32_t index,
		     const struct maas_rdma_grant *grant, int status);
};

struct maas_rdma_grant {
	LIST_ENTRY(maas_rdma_grant) link; /* of its connection's */
	struct maas_rdma_grant *next;	  /* of its slab's; while it is spare, of the spare ones */
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
	struct maas_rdma_asker *asker; /* NULL: it has heard of the key */
	uint64_t asker_number;
	uint32_t index;			 /* of the key, for the asker */
	struct maas_rdma_task_list made; /* of others, run when the key is made or cannot be */
	struct maas_rdma_task_list dead; /* run when it is dead */
};

MAAS_MUST_CHECK int maas_rdma_grants_open(struct maas_rdma *rdma); /* -ENOMEM */
void maas_rdma_grants_close(struct maas_rdma *rdma);

/* The slab's first grant, of any session, and that of a connection; NULL: there is none. */
struct maas_rdma_grant *maas_rdma_grant_first(struct maas_rdma *rdma, struct maas_slab_ref ref);
struct maas_rdma_grant *maas_rdma_grant_find(const struct maas_rdma_conn *conn,
					     struct maas_slab_ref ref);

/*
 * Asks for keys until so many are asked for, or the turn's MAAS_RDMA_STEP_BYTES are used up. The
 * asker hears of each, perhaps before this returns. Errors, of the next one, which is not asked
 * for: -EINPROGRESS it is being made already, and a task in its grant's list `made` may ask again;
 * -ENOENT, -EEXIST, -EDQUOT, -ENOSR, -ENOMEM, -ENOTCONN.
 */
MAAS_MUST_CHECK int maas_rdma_grants_ask(struct maas_rdma_conn *conn, struct maas_rdma_asker *asker,
					 uint32_t until);
/*
 * Kills the key. `task` (NULL: nobody waits) runs with 0 when the key is dead for certain, perhaps
 * before this returns, or with an error when that could not be confirmed.
 */
void maas_rdma_grant_kill(struct maas_rdma_grant *grant, struct maas_rdma_task *task);

/*
 * The connection's queue pair is in ERR and no work is under way: kills its keys (windows
 * deallocated, regions deregistered), those first that somebody waits for, drops its grants and
 * runs the tasks that wait for them. Errors: -EAGAIN there are more keys than one turn of the
 * thread should take; -EBUSY a key could not be confirmed dead: it stays, and this is called again
 * later.
 */
MAAS_MUST_CHECK int maas_rdma_grants_end(struct maas_rdma_conn *conn);
/* The connection would not end: tells those who wait for its keys that nothing is confirmed. */
void maas_rdma_grants_abandon(struct maas_rdma_conn *conn);

/* ---- request: lend's operations on grants, for struct maas_lend_key_ops; any thread */

int maas_rdma_request_grant(void *ctx, struct maas_lend_session_ref session,
			    const struct maas_slab_ref *refs, uint32_t count,
			    enum maas_lend_access access, struct maas_lend_key *ret_keys,
			    maas_lend_key_done *done, void *arg);
int maas_rdma_request_ungrant(void *ctx, struct maas_lend_session_ref session,
			      struct maas_slab_ref ref, maas_lend_key_done *done, void *arg);
int maas_rdma_request_revoke(void *ctx, struct maas_slab_ref ref, uint64_t *storage,
			     maas_lend_key_done *done, void *arg);

/* ---- window, region: how a grant's key is made, by mode */

/* Make the key, and call maas_rdma_grant_made(), perhaps before they return, with the rkey set. */
void maas_rdma_window_bind(struct maas_rdma_grant *grant);
void maas_rdma_region_make(struct maas_rdma_grant *grant); /* mr and pool */
/* Kill the key, and call maas_rdma_grant_killed(). */
void maas_rdma_window_kill(struct maas_rdma_grant *grant);
void maas_rdma_region_kill(struct maas_rdma_grant *grant);
/* Kill the key at the connection's end. True: it is dead for certain. */
MAAS_MUST_CHECK bool maas_rdma_window_destroy(struct maas_rdma_grant *grant);
MAAS_MUST_CHECK bool maas_rdma_region_destroy(struct maas_rdma_grant *grant);
/* Deallocates the connection's spare windows. Errors: -EAGAIN, -EBUSY, as for grants_end. */
MAAS_MUST_CHECK int maas_rdma_windows_free(struct maas_rdma_conn *conn);

/* What they call. `status` of made: -EMLINK and such, there is no key; -EIO: there may be one, and
 * the connection is ending. */
void maas_rdma_grant_made(struct maas_rdma_grant *grant, int status);
void maas_rdma_grant_killed(struct maas_rdma_grant *grant, int status);
/* Has the region of the grant's extent made, and then the key. */
void maas_rdma_grant_await_extent(struct maas_rdma_grant *grant);

#endif
