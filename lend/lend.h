/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend: the rules of lending: who holds which slab, for how long, and in which order everything
 * that can reach a slab dies before it is used again. It knows no verbs and no HTTP: keys are
 * reached through a table of operations that rdma/ fills.
 *
 * The lease clock counts only time that housekeeping saw pass: maas_lend_tick() moves it on, and a
 * pause of more than a second between two calls counts as one tick. So a process that was stopped
 * extends every lease by the time that it missed.
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

#include "auth/auth.h"
#include "lend/keys.h"
#include "slab/slab.h"

#define MAAS_LEND_GRACE_MS	1000 /* how long a free waits before it forces an end */
#define MAAS_LEND_FROM_BYTES	64   /* where a session was opened from, for people, and its NUL */
#define MAAS_LEND_REQUEST_ID	128  /* a request id and its NUL */
#define MAAS_LEND_REQUEST_S	600  /* an answer is remembered this long, … */
#define MAAS_LEND_REQUESTS	1000000	  /* … or for this many requests, whichever ends first; … */
#define MAAS_LEND_BATCH_REFS	4000000	  /* … all allocations of batches, for this many of them */
#define MAAS_LEND_MAX_TTL_S	31622400u /* 366 days */
#define MAAS_LEND_SESSION_S	60	  /* the lease of a session that does not say, … */
#define MAAS_LEND_SESSION_MAX_S 3600 /* … and the longest, where max_session_ttl_s does not say */
#define MAAS_LEND_MAX_OWNERS	65536
#define MAAS_LEND_TICKET_TEXT	33 /* 128 bits in hex, 96 of them random, and a NUL */

struct maas_lend;

/* ---- keys: those of keys.h; NULL where there is no RDMA */

/*
 * For rdma/: one more key of a session, before it is made, and one less when it is dead. What a
 * session has when it ends counts no more. Not with lend's lock held. Errors: -ENOSR the session's
 * principal has as many as it may.
 */
MAAS_MUST_CHECK int maas_lend_key_charge(struct maas_lend *lend,
					 struct maas_lend_session_ref session);
void maas_lend_key_discharge(struct maas_lend *lend, struct maas_lend_session_ref session);

/* What the keys say of themselves; false where there is no RDMA. */
MAAS_MUST_CHECK bool maas_lend_key_stats(struct maas_lend *lend,
					 struct maas_lend_key_stats *ret_stats);
/* Likewise; false also where there is no address that the client could reach. */
MAAS_MUST_CHECK bool maas_lend_key_address(struct maas_lend *lend, const void *local,
					   struct maas_lend_key_address *ret_address);

/* ---- open, housekeeping */

struct maas_lend_options {
	struct maas_slab *slab;		      /* borrowed until maas_lend_close() */
	const struct maas_lend_key_ops *keys; /* borrowed; NULL: no RDMA */
	void *keys_ctx;
	uint32_t max_sessions;	    /* --max-sessions */
	uint32_t max_session_ttl_s; /* --max-session-ttl; 0: MAAS_LEND_SESSION_MAX_S */
	bool has_principals;	    /* nobody may do anything before maas_lend_set_auth() */
	bool insecure_open;	    /* kept memory that had principals may be everybody's now */
	uint64_t (*clock_ms)(void); /* monotonic; NULL: maas_clock_ms (a test brings its own) */
};

/* Errors: -EINVAL, -ENOMEM, -EUCLEAN the table of kept memory is damaged, -EACCES the memory had
 * principals, and there are to be none. */
MAAS_MUST_CHECK int maas_lend_open(const struct maas_lend_options *options,
				   struct maas_lend **ret_lend);
/* Whether kept memory of that mark was last used with principals. Threading: any. */
bool maas_lend_had_principals(const struct maas_slab_mark *mark);
/*
 * No other call, transfer or key operation may be under way. What still waits is forgotten, its
 * `done` is not called. The slabs stay as they are.
 */
void maas_lend_close(struct maas_lend *lend);
/* As maas_lend_close(), for a start that fails later on: unless something was lent since the
 * opening, kept memory is noted as used with principals, or without, as before. NULL is allowed. */
void maas_lend_discard(struct maas_lend *lend);

/*
 * Housekeeping, about ten times a second, one thread: advances the lease clock, ends what lapsed,
 * forces what waited too long, forgets old request ids. What is too much waits for the next tick.
 */
void maas_lend_tick(struct maas_lend *lend);

/* ---- callers */

/*
 * On whose behalf a call is made; NULL: nobody's. Where there is a table of principals, every call
 * is held against the table of that moment, and nobody may do anything: a caller that was forgotten
 * opens nothing. What a caller may not even read is to it as if it were not there (-ENOENT,
 * -ESRCH); what it may read and not change is -EACCES. Without a table everybody may everything.
 */
struct maas_lend_caller {
	struct maas_auth *auth; /* the table of `epoch`, which has to live as long as the call */
	uint64_t epoch;
	const struct maas_auth_principal *principal; /* of it */
	uint64_t proof; /* that it is this principal; 0: none that could be taken away */
};

/*
 * Puts another table in the place of the one there is, and ends the sessions, with their keys, of
 * principals that may less than before, or are gone, and their transfers; likewise what was begun
 * by a proof that their lines have no more. It takes a reference. NULL: no table. Errors: -ENOMEM;
 * then the table stays.
 */
MAAS_MUST_CHECK int maas_lend_set_auth(struct maas_lend *lend, struct maas_auth *auth);
/* A reference to the table, and its epoch, which is another for each table. */
struct maas_auth *maas_lend_auth(struct maas_lend *lend, uint64_t *ret_epoch);
/* The epoch alone. Threading: any thread, no lock. */
uint64_t maas_lend_auth_epoch(const struct maas_lend *lend);
/* Whether there is a table: else everybody may everything. Threading: any thread, no lock. */
bool maas_lend_has_auth(const struct maas_lend *lend);
/* Whether the caller's principal and proof are in the table of this moment, too: else the caller is
 * nobody now, and was told that nothing is there. */
bool maas_lend_stands(struct maas_lend *lend, const struct maas_lend_caller *caller);

/* What a principal uses, by enum maas_auth_quota: bytes of slabs, those that are being freed
 * included. */
struct maas_lend_usage {
	uint64_t used[MAAS_AUTH_NUM_QUOTAS];
};
/* What nobody but admins reaches, of what was there when the first table came: allocations, bytes,
 * and owner names. Before there are requests: it compares all names with all lines. */
void maas_lend_unreached(struct maas_lend *lend, struct maas_lend_usage *ret);
/* False: there is no such principal. */
bool maas_lend_usage(struct maas_lend *lend, const char *principal, struct maas_lend_usage *ret);

/*
 * A connection, as it counts for its principal's quota. The storage is the caller's, all zero at
 * first, and lend's between the first enter and leave.
 */
struct maas_lend_connection {
	LIST_ENTRY(maas_lend_connection) link;
	char principal[MAAS_NAME_BYTES]; /* "": it does not count */
};
/* From now on the connection is the caller's, and nobody else's. Errors: -ENOSR the caller has as
 * many as it may, and this one does not count. */
MAAS_MUST_CHECK int maas_lend_connection_enter(struct maas_lend *lend,
					       const struct maas_lend_caller *caller,
					       struct maas_lend_connection *connection);
void maas_lend_connection_leave(struct maas_lend *lend, struct maas_lend_connection *connection);

/* ---- allocations */

enum maas_lend_lifetime {
	MAAS_LEND_LIFETIME_DELETE,  /* until it is freed */
	MAAS_LEND_LIFETIME_TTL,	    /* until its lease lapses */
	MAAS_LEND_LIFETIME_SESSION, /* until its session ends */
};

/* Which quota was in the way of an allocation, and whose. */
struct maas_lend_refusal {
	enum maas_auth_quota quota;
	char principal[MAAS_NAME_BYTES]; /* whose line pays; "": the caller may not know */
	uint64_t used;			 /* of it, as max: 0 where the caller may not know */
	uint64_t max;
	uint64_t more; /* that the allocation takes */
};

struct maas_lend_alloc_request {
	uint64_t size_bytes;
	uint32_t count; /* 1 to MAAS_SLAB_MAX_BATCH */
	enum maas_lend_lifetime lifetime;
	uint32_t ttl_s;		/* 1 to MAAS_LEND_MAX_TTL_S with MAAS_LEND_LIFETIME_TTL, else 0 */
	bool nowait;		/* -EAGAIN rather than wait for a request with that id */
	const char *session;	/* a session's id, or NULL */
	const char *owner;	/* a name, or NULL */
	const char *request_id; /* or NULL */
	const struct maas_lend_caller *caller;
	struct maas_lend_refusal *refusal; /* set with -ENOSR; NULL: not asked for */
};

struct maas_lend_allocation {
	char id[MAAS_SLAB_ID_TEXT];
	uint64_t size_bytes;	    /* asked for: the length of its data */
	uint64_t actual_size_bytes; /* the slab's */
	uint64_t age_s;
	enum maas_lend_lifetime lifetime;
	uint32_t ttl_s;		     /* of MAAS_LEND_LIFETIME_TTL: the whole lease … */
	uint32_t lease_s;	     /* … and what is left of it, rounded up */
	char owner[MAAS_NAME_BYTES]; /* "" where there is none */
};

/*
 * Allocates `count` slabs, all or none, and describes the first; the others differ in their ids
 * only (maas_lend_id()). With a request id that was used before: the answer given then. Errors:
 * -EINVAL, -EFBIG, -ENOSPC as maas_slab_alloc(); -ESRCH unknown session; -ENOTUNIQ the request id
 * came with another request, -ENODATA it came with this one, long ago, and only that is known, not
 * which several allocations it made; -EUSERS too many different owners; -EACCES the caller may not
 * have that owner, or any; -ENOSR whoever pays for the owner has no quota for it; -ENOMEM. Of a
 * request that came twice at once, the second waits for the first, or with `nowait` is -EAGAIN.
 * What fails is not remembered.
 */
MAAS_MUST_CHECK int maas_lend_allocate(struct maas_lend *lend,
				       const struct maas_lend_alloc_request *request,
				       struct maas_slab_ref *ret_refs,
				       struct maas_lend_allocation *ret_first);

/*
 * As maas_lend_allocate(), with a key of the request's session to each; all or none of both.
 * -EINPROGRESS: `done(arg, status)` comes, perhaps before this returns, and only when its status
 * is 0 are the out-parameters set; they and `request` are borrowed until then. A request id that
 * was used before gives the same allocations with the keys of now. Errors, here or in `done`: as
 * there; -EOPNOTSUPP no RDMA, -ENOTCONN the session has no connection, and those of
 * struct maas_lend_key_ops.grant; then nothing is allocated or remembered.
 */
MAAS_MUST_CHECK int
maas_lend_allocate_granted(struct maas_lend *lend, const struct maas_lend_alloc_request *request,
			   enum maas_lend_access access, struct maas_slab_ref *ret_refs,
			   struct maas_lend_allocation *ret_first, struct maas_lend_key *ret_keys,
			   maas_lend_key_done *done, void *arg);

/*
 * A key to one allocation for a session. Return and `done`: as maas_lend_allocate_granted().
 * Errors: -ENOENT no such allocation, -ESRCH no such session, or its principal may not have this
 * key, -EINVAL without access, -EOPNOTSUPP no RDMA, -ENOTCONN, and those of
 * struct maas_lend_key_ops.grant.
 */
MAAS_MUST_CHECK int maas_lend_grant(struct maas_lend *lend, const struct maas_lend_caller *caller,
				    const char *id, const char *session,
				    enum maas_lend_access access, struct maas_lend_key *ret_key,
				    maas_lend_key_done *done, void *arg);

/*
 * Kills the session's key to the allocation. 0: the key is dead, `done` is not called.
 * -EINPROGRESS: `done` comes. Errors: -ENOENT no such allocation or no key of the session to it,
 * -ESRCH no such session, -EOPNOTSUPP no RDMA, -ENOMEM the key lives on.
 */
MAAS_MUST_CHECK int maas_lend_ungrant(struct maas_lend *lend, const struct maas_lend_caller *caller,
				      const char *id, const char *session, maas_lend_key_done *done,
				      void *arg);

/* Writes the allocation's id. */
void maas_lend_id(struct maas_lend *lend, struct maas_slab_ref ref, char text[MAAS_SLAB_ID_TEXT]);

/* Describes an allocation. Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_lend_get(struct maas_lend *lend, const struct maas_lend_caller *caller,
				  const char *id, struct maas_lend_allocation *ret_allocation);

/* Ends the wait for a free: 0, or -ETIMEDOUT when a key could not be killed (the slab is kept). */
typedef void maas_lend_free_done(void *arg, int status);

/*
 * Frees an allocation. 0: it is free, `done` is not called. -EINPROGRESS: `done(arg, status)`
 * comes, within MAAS_LEND_GRACE_MS and one tick, perhaps before this returns. `done` may be NULL.
 * Errors: -ENOENT no such allocation; -ENOMEM, the allocation lives on.
 */
MAAS_MUST_CHECK int maas_lend_free(struct maas_lend *lend, const struct maas_lend_caller *caller,
				   const char *id, maas_lend_free_done *done, void *arg);

/*
 * Starts the allocation's lease anew, with `ttl_s` (0: as before). Errors: -ENOENT, -EINVAL out of
 * range, -EMEDIUMTYPE when its lifetime is not MAAS_LEND_LIFETIME_TTL.
 */
MAAS_MUST_CHECK int maas_lend_renew(struct maas_lend *lend, const struct maas_lend_caller *caller,
				    const char *id, uint32_t ttl_s,
				    struct maas_lend_allocation *ret_allocation);

/*
 * A page of allocations, in a stable order, a bounded piece at a time: a walk over all slots may be
 * long. What lives throughout several pages is in exactly one of them.
 */
struct maas_lend_page {
	const struct maas_lend_caller *caller; /* borrowed until the page's end */
	const char *owner; /* of this one only; NULL: of all, "": of none. Borrowed. */
	uint64_t cursor;
	uint32_t left; /* allocations that the page has room for */
	bool more;     /* at the page's end: there are others behind it */
};

/*
 * Begins a page with what follows the allocation `after` (NULL: from the start), which may have
 * been freed since. Errors: -ENOENT when `after` is no id of this arena, -EINVAL when `limit` is 0.
 */
MAAS_MUST_CHECK int maas_lend_page_start(struct maas_lend *lend,
					 const struct maas_lend_caller *caller,
					 struct maas_lend_page *page, const char *owner,
					 const char *after, uint32_t limit);
/* Describes up to `max` (at least 1) more allocations, perhaps none. False at the page's end. */
MAAS_MUST_CHECK bool maas_lend_page_next(struct maas_lend *lend, struct maas_lend_page *page,
					 struct maas_lend_allocation *ret_allocations, uint32_t max,
					 uint32_t *ret_count);

/* ---- transfers: reads and writes of the bytes by this process */

/*
 * One reader or writer of a slab's bytes. The storage is the caller's, who sets `abort` and `arg`;
 * the rest is lend's. While a transfer lasts, the slab is not given to anybody else. A free waits
 * for it, and after MAAS_LEND_GRACE_MS calls `abort(arg)` once, which must make the transfer end
 * soon. lend's lock is held then: `abort` only notes that the transfer is to end, and calls nothing
 * of lend.
 */
struct maas_lend_transfer {
	void (*abort)(void *arg);
	void *arg;
	uint8_t *bytes;	     /* set by maas_lend_transfer_begin() */
	uint64_t size_bytes; /* likewise: what was asked for */
	struct maas_slab_ref ref;
	LIST_ENTRY(maas_lend_transfer) link;
	TAILQ_ENTRY(maas_lend_transfer) all;
	const struct maas_lend_caller *caller; /* borrowed until the transfer's end */
	uint64_t epoch;			       /* of the table that it was last held against */
	bool told;			       /* abort() was called */
};

/* Begins a transfer; MAAS_AUTH_OWN: one that writes. Errors: -ENOENT, -EACCES, -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_transfer_begin(struct maas_lend *lend,
					     const struct maas_lend_caller *caller, const char *id,
					     enum maas_auth_access access,
					     struct maas_lend_transfer *transfer);
/* Ends `count` transfers, the last one first. */
void maas_lend_transfers_end(struct maas_lend *lend, struct maas_lend_transfer *transfers,
			     uint32_t count);
/* False once the slab is being freed: a writer then stops. */
bool maas_lend_transfer_alive(struct maas_lend *lend, const struct maas_lend_transfer *transfer);

/* ---- sessions */

struct maas_lend_session_info {
	char id[MAAS_SLAB_ID_TEXT];
	char name[MAAS_NAME_BYTES];
	char from[MAAS_LEND_FROM_BYTES];    /* where it was opened from */
	char ticket[MAAS_LEND_TICKET_TEXT]; /* set by open and ticket only */
	bool exclusive;
	uint32_t ttl_s;
	uint32_t lease_s; /* left, rounded up */
	uint64_t age_s;
	uint64_t allocations; /* of lifetime MAAS_LEND_LIFETIME_SESSION */
};

/*
 * Opens a session. `name` "": without a name, and then it cannot be exclusive. `ttl_s` 0:
 * MAAS_LEND_SESSION_S, or the longest lease if that is shorter. `from` says for people where the
 * session comes from, cut to what fits; NULL: nothing. A session that is ending keeps its name
 * until its last key is dead. Errors: -EINVAL, -ERANGE the lease is longer than the longest,
 * -EEXIST an exclusive session of that name lives (or `exclusive` and any of that name lives),
 * -EUSERS max_sessions live, -EACCES the name is not the caller's, -ENOSR its quota of sessions.
 */
MAAS_MUST_CHECK int maas_lend_session_open(struct maas_lend *lend,
					   const struct maas_lend_caller *caller, const char *name,
					   uint32_t ttl_s, bool exclusive, const char *from,
					   struct maas_lend_session_info *ret_info);
/*
 * The open sessions of a name, in no order, up to `max`, and without their ids: whoever has a
 * session's id is its owner. Sessions that are ending are not among them. Returns how many there
 * are in `ret_infos`; `ret_more`: there may be others.
 */
uint32_t maas_lend_session_named(struct maas_lend *lend, const struct maas_lend_caller *caller,
				 const char *name, struct maas_lend_session_info *ret_infos,
				 uint32_t max, bool *ret_more);
/* Describes an open session. Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_lend_session_get(struct maas_lend *lend,
					  const struct maas_lend_caller *caller, const char *id,
					  struct maas_lend_session_info *ret_info);
/* Starts the session's lease anew, with `ttl_s` (0: as before). Where the caller is the session's
 * principal, the session is by the caller's proof from now on, as after any call on it. Errors:
 * -ENOENT; -ERANGE as for maas_lend_session_open(). */
MAAS_MUST_CHECK int maas_lend_session_renew(struct maas_lend *lend,
					    const struct maas_lend_caller *caller, const char *id,
					    uint32_t ttl_s,
					    struct maas_lend_session_info *ret_info);
/* The longest lease of a session. Threading: any thread, constant. */
uint32_t maas_lend_session_max_ttl_s(const struct maas_lend *lend);
/* A new ticket, good once and for 30 s; the one before is void. Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_lend_session_ticket(struct maas_lend *lend,
					     const struct maas_lend_caller *caller, const char *id,
					     struct maas_lend_session_info *ret_info);
/*
 * The session that `ticket` (its text) was issued to, once. A session whose end has begun has no
 * ticket any more. Errors: -ENOENT.
 */
MAAS_MUST_CHECK int maas_lend_ticket_redeem(struct maas_lend *lend, const char *ticket,
					    struct maas_lend_session_ref *ret_session);
/*
 * Ends a session: its connection first, then the allocations that live as long as the session, each
 * as by maas_lend_free(). Returns and calls `done` as that does, without -ENOMEM; -ETIMEDOUT when a
 * slab had to be kept back or a key of the session may live: then the session goes on ending until
 * it is dead. Of very many allocations housekeeping frees the rest, and calls `done`.
 */
MAAS_MUST_CHECK int maas_lend_session_end(struct maas_lend *lend,
					  const struct maas_lend_caller *caller, const char *id,
					  maas_lend_free_done *done, void *arg);

/* ---- figures */

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

/* For tests: transfers, frees and sessions looked at under the lock so far. */
uint64_t maas_lend_steps(struct maas_lend *lend);

#endif
