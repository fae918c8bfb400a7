/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend: the rules of lending: who holds which slab, for how long, and in which order everything
 * that can reach a slab dies before it is used again. It knows no verbs and no HTTP: keys are
 * reached through a table of operations that rdma/ fills.
 *
 * The lease clock counts only time that housekeeping saw pass: it advances by maas_lend_tick(), and
 * a pause of more than a second between two calls counts as one tick. A process that was stopped so
 * extends every lease by the time it missed.
 *
 * A free, in this order: the slab is revoking (no new reader finds it) → every key is dead → every
 * transfer has ended, after MAAS_LEND_GRACE_MS by force → the slab is dirty → the caller is told.
 *
 * Threading: every function may be called from any thread; callbacks run without lend's lock, in
 * the thread that ended the wait.
 */
#ifndef MAAS_LEND_LEND_H
#define MAAS_LEND_LEND_H

#include <sys/queue.h>

#include "slab/slab.h"

#define MAAS_LEND_GRACE_MS    1000    /* how long a free waits before it forces an end */
#define MAAS_LEND_NAME_BYTES  64      /* an owner's or a session's name and its NUL */
#define MAAS_LEND_REQUEST_ID  128     /* a request id and its NUL */
#define MAAS_LEND_REQUEST_S   600     /* an answer is remembered this long, … */
#define MAAS_LEND_REQUESTS    1000000 /* … or for this many allocations, whichever ends first */
#define MAAS_LEND_MAX_TTL_S   (366u * 86400u)
#define MAAS_LEND_MAX_OWNERS  65536
#define MAAS_LEND_TICKET_TEXT 33 /* 128 random bits in hex and a NUL */

struct maas_lend;

/* ---- keys: what rdma/ fills; NULL where there is no RDMA
 * ------------------------------------------ */

/* Ends an asynchronous key operation: 0, or -errno. Called once, from any thread. */
typedef void maas_key_done(void *arg, int status);

/*
 * Each starts an operation and returns at once: 0 and `done(arg, …)` comes later, -EALREADY when
 * there was nothing to do (`done` is not called), other errors when it could not even start, which
 * counts as not confirmed. They are called without lend's lock, and `done` may start others: call
 * it without a lock that they take. A `session` is what maas_ticket_redeem() gave.
 */
struct maas_key_ops {
	/*
	 * Kills every key to the slab. An error in `done`: not confirmed, the slab is quarantined;
	 * it is asked again every second until it confirms, or finds no key any more.
	 */
	int (*revoke)(void *ctx, struct maas_slab_ref ref, maas_key_done *done, void *arg);
	/* Breaks the session's connection; every key it holds is dead when `done` comes. */
	int (*end_session)(void *ctx, uint32_t session, maas_key_done *done, void *arg);
};

/* ---- open, housekeeping
 * ----------------------------------------------------------------------------- */

struct maas_lend_options {
	struct maas_slab *slab;		 /* borrowed; outlives the lend */
	const struct maas_key_ops *keys; /* borrowed; NULL: no RDMA */
	void *keys_ctx;
	uint32_t max_sessions;	    /* --max-sessions */
	uint64_t (*clock_ms)(void); /* monotonic; NULL: maas_clock_ms (a test brings its own) */
};

/* Errors: -EINVAL, -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_open(const struct maas_lend_options *options,
				   struct maas_lend **ret_lend);
/*
 * No other call, transfer or key operation may be under way. What still waits is forgotten, its
 * `done` is not called. The slabs stay as they are.
 */
void maas_lend_close(struct maas_lend *lend);

/*
 * Housekeeping, about ten times a second, one thread: advances the lease clock, ends what lapsed,
 * forces what waited too long, forgets old request ids.
 */
void maas_lend_tick(struct maas_lend *lend);

/* Milliseconds on the lease clock since the start. */
uint64_t maas_lend_lease_ms(struct maas_lend *lend);

/* ---- allocations
 * ------------------------------------------------------------------------------------ */

enum maas_lifetime {
	MAAS_LIFETIME_DELETE,  /* until it is freed */
	MAAS_LIFETIME_TTL,     /* until its lease lapses */
	MAAS_LIFETIME_SESSION, /* until its session ends */
};

struct maas_alloc_request {
	uint64_t size_bytes;
	uint32_t count; /* 1 to MAAS_SLAB_MAX_BATCH */
	enum maas_lifetime lifetime;
	uint32_t ttl_s;		/* 1 to MAAS_LEND_MAX_TTL_S with MAAS_LIFETIME_TTL, else 0 */
	const char *session;	/* a session's id, or NULL */
	const char *owner;	/* a name, or NULL */
	const char *request_id; /* or NULL */
};

struct maas_allocation {
	char id[MAAS_ID_TEXT];
	uint64_t size_bytes;	    /* asked for: the length of its data */
	uint64_t actual_size_bytes; /* the slab's */
	uint64_t age_s;
	enum maas_lifetime lifetime;
	uint32_t ttl_s;			  /* of MAAS_LIFETIME_TTL: the whole lease … */
	uint32_t lease_s;		  /* … and what is left of it, rounded up */
	char owner[MAAS_LEND_NAME_BYTES]; /* "" where there is none */
};

/*
 * Allocates `count` slabs, all or none, and describes the first; the others differ in their ids
 * only (maas_lend_id()). With a request id that was used before: the answer given then. Errors:
 * -EINVAL, -EFBIG, -ENOSPC as maas_slab_alloc(); -ESRCH unknown session; -ENOTUNIQ the request id
 * came with another request; -EUSERS too many different owners; -ENOMEM. Of a request that came
 * twice at once, the second waits for the first. What fails is not remembered.
 */
MAAS_MUST_CHECK int maas_lend_allocate(struct maas_lend *lend,
				       const struct maas_alloc_request *request,
				       struct maas_slab_ref *ret_refs,
				       struct maas_allocation *ret_first);

void maas_lend_id(struct maas_lend *lend, struct maas_slab_ref ref, char text[MAAS_ID_TEXT]);

/* Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_lend_get(struct maas_lend *lend, const char *id,
				  struct maas_allocation *ret_allocation);

/* Ends the wait of a free: 0, or -ETIMEDOUT when a key could not be killed (the slab is kept back).
 */
typedef void maas_free_done(void *arg, int status);

/*
 * Frees an allocation. 0: done, `done` is not called. -EINPROGRESS: `done(arg, status)` comes
 * later, within MAAS_LEND_GRACE_MS and one tick; it may come before this call returns. `done` may
 * be NULL. Errors: -ENOENT not there; -ENOMEM, then it lives on.
 */
MAAS_MUST_CHECK int maas_lend_free(struct maas_lend *lend, const char *id, maas_free_done *done,
				   void *arg);

/*
 * Starts the lease anew, with `ttl_s` (0: as before).
 * Errors: -ENOENT, -EINVAL out of range, -EMEDIUMTYPE when its lifetime is not MAAS_LIFETIME_TTL.
 */
MAAS_MUST_CHECK int maas_lend_renew(struct maas_lend *lend, const char *id, uint32_t ttl_s,
				    struct maas_allocation *ret_allocation);

/*
 * Up to `limit` allocations in a stable order, those after the id `after` (NULL: from the start; it
 * may have been freed since), of `owner` only when that is not NULL. `ret_more`: there are others.
 * What lives throughout several pages is in exactly one of them. Returns how many were written.
 * Errors: -ENOENT when `after` is no id of this arena, -EINVAL when `limit` is 0 or 2^31 and above.
 */
MAAS_MUST_CHECK int maas_lend_list(struct maas_lend *lend, const char *owner, const char *after,
				   uint32_t limit, struct maas_allocation *ret_allocations,
				   bool *ret_more);

/* ---- transfers: reads and writes of the bytes by this process
 * ------------------------------------ */

/*
 * One reader or writer of a slab's bytes. The storage is the caller's; `abort` and `arg` are set by
 * the caller, the rest is lend's. While it lasts the slab is not given to anybody else; a free
 * waits for it, and after MAAS_LEND_GRACE_MS calls `abort(arg)` once, which must make it end soon.
 */
struct maas_transfer {
	void (*abort)(void *arg); /* called with lend's lock held: may not call lend */
	void *arg;
	uint8_t *bytes;	     /* set by maas_transfer_begin() */
	uint64_t size_bytes; /* set by maas_transfer_begin(): what was asked for at allocation */
	struct maas_slab_ref ref;
	LIST_ENTRY(maas_transfer) link;
};

/* Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_transfer_begin(struct maas_lend *lend, const char *id,
					struct maas_transfer *transfer);
void maas_transfer_end(struct maas_lend *lend, struct maas_transfer *transfer);

/* False once the slab is being freed: a writer then stops at its next piece. */
bool maas_transfer_alive(struct maas_lend *lend, const struct maas_transfer *transfer);

/* ---- sessions
 * ------------------------------------------------------------------------------------------ */

struct maas_session_info {
	char id[MAAS_ID_TEXT];
	char name[MAAS_LEND_NAME_BYTES];
	char ticket[MAAS_LEND_TICKET_TEXT]; /* set by open and ticket only */
	uint32_t ttl_s;
	uint32_t lease_s; /* left, rounded up */
	uint64_t age_s;
	uint64_t allocations; /* of lifetime MAAS_LIFETIME_SESSION */
};

/*
 * `name` "" is a session without a name, which cannot be exclusive. Errors: -EINVAL, -EEXIST an
 * exclusive session of that name lives (or `exclusive` and any of that name lives), -EUSERS
 * max_sessions live. A session that is ending keeps its name until its last key is dead.
 */
MAAS_MUST_CHECK int maas_session_open(struct maas_lend *lend, const char *name, uint32_t ttl_s,
				      bool exclusive, struct maas_session_info *ret_info);
MAAS_MUST_CHECK int maas_session_get(struct maas_lend *lend, const char *id,
				     struct maas_session_info *ret_info); /* -ENOENT */
MAAS_MUST_CHECK int maas_session_renew(struct maas_lend *lend, const char *id, uint32_t ttl_s,
				       struct maas_session_info *ret_info); /* 0: as before */
/* A new single-use ticket; the one before it is void. */
MAAS_MUST_CHECK int maas_session_ticket(struct maas_lend *lend, const char *id,
					struct maas_session_info *ret_info);
/*
 * The session that `ticket` was issued to, once: its number, for struct maas_key_ops. It names this
 * session until `end_session` is done. Errors: -ENOENT.
 */
MAAS_MUST_CHECK int maas_ticket_redeem(struct maas_lend *lend, const char *ticket,
				       uint32_t *ret_session);
/*
 * Ends it: its connection, then what lives as long as it does, each as by maas_lend_free(). Return
 * and `done`: as there, -ENOMEM excepted; -ETIMEDOUT when a slab had to be kept back.
 */
MAAS_MUST_CHECK int maas_session_end(struct maas_lend *lend, const char *id, maas_free_done *done,
				     void *arg);

/* ---- figures
 * ------------------------------------------------------------------------------------------- */

struct maas_lend_stats {
	uint64_t sessions;
	uint64_t owners;
	uint64_t transfers;
	uint64_t pending_frees;
	uint64_t request_ids;
	uint64_t lapsed_allocations; /* freed by their lease, since the start */
	uint64_t lapsed_sessions;
	uint64_t forced_transfers; /* ended by force, since the start */
};

void maas_lend_stats(struct maas_lend *lend, struct maas_lend_stats *ret_stats);

/* True when `name` may name an owner or a session: 1 to 63 bytes of [A-Za-z0-9._:/@-]. */
bool maas_lend_name_valid(const char *name);

#endif
