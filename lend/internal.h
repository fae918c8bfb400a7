/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a lend, one .c each: allocate, free (the order of revocation), transfer, session,
 * and four containers that know nothing of the rest: slots (records by slot), owner (names), lease
 * (which allocation ends when), request (the answers that are remembered).
 *
 * "Lock held": struct maas_lend's lock. Lock order: request_locks, lock, the slab's own.
 */
#ifndef MAAS_LEND_INTERNAL_H
#define MAAS_LEND_INTERNAL_H

#include <assert.h>
#include <pthread.h>

#include "lend/lend.h"

#define MAAS_LEND_REQUEST_LOCKS 1024
#define MAAS_LEND_KEYED_BUCKETS 4096 /* buckets of requests under way */
#define MAAS_LEND_STEP		256  /* items of housekeeping between two breaths of the lock */

/* ---- slots: a record for each slot that ever needed one */

#define MAAS_LEND_SLOTS_CHUNK 64

/* In chunks that appear when a slot of theirs first needs one and stay where they are: what nobody
 * asked for costs nothing, and a record is found in one step. */
struct maas_lend_slots {
	size_t record_bytes;
	uint32_t num_chunks;
	void **chunks;
};

/* `num_slots`: every slot is below it. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_slots_init(struct maas_lend_slots *slots, uint32_t num_slots,
					 size_t record_bytes);
void maas_lend_slots_fini(struct maas_lend_slots *slots);
/* The record of `slot`, all zeroes if it is new. NULL: out of memory. */
void *maas_lend_slots_make(struct maas_lend_slots *slots, uint32_t slot);

/* NULL while no slot of its chunk ever needed one. */
static inline void *maas_lend_slots_find(const struct maas_lend_slots *slots, uint32_t slot)
{
	char *chunk = slots->chunks[slot / MAAS_LEND_SLOTS_CHUNK];

	return chunk ? chunk + slot % MAAS_LEND_SLOTS_CHUNK * slots->record_bytes : NULL;
}

/* ---- owner: names, as 32-bit indices in the slabs' labels */

#define MAAS_LEND_OWNER_BUCKETS 16384

/* Fixed size and no pointers, so that the table can lie beside the slots in a file. */
struct maas_lend_owner {
	char name[MAAS_LEND_NAME_BYTES];
	uint32_t next; /* in its bucket, or in the free list; 0: none */
	uint32_t live; /* allocations that name it */
};

/* In the slab's annex. */
struct maas_lend_owner_table {
	uint32_t used; /* records ever used, [0] included; 0: the table is new */
	uint32_t reserved;
	struct maas_lend_owner records[MAAS_LEND_MAX_OWNERS + 1]; /* [0] is no owner */
};
static_assert(sizeof(struct maas_lend_owner) == 72, "an owner is part of a file's layout");
static_assert(sizeof(struct maas_lend_owner_table) <= MAAS_SLAB_ANNEX_BYTES,
	      "it lies in the annex");

struct maas_lend_owners {
	unsigned char key[16];
	struct maas_lend_owner_table *table;
	uint32_t free;
	uint32_t count;
	uint32_t buckets[MAAS_LEND_OWNER_BUCKETS];
};

/* The table may be that of another process: then names only count, until
 * maas_lend_owners_restored(). Errors: -EUCLEAN it cannot be one. */
MAAS_MUST_CHECK int maas_lend_owners_init(struct maas_lend_owners *owners,
					  struct maas_lend_owner_table *table);
/* Counts one kept allocation of the name at `index`. Errors: -EUCLEAN there is none. */
MAAS_MUST_CHECK int maas_lend_owner_keep(struct maas_lend_owners *owners, uint32_t index);
/* Every kept allocation was counted: sorts the names into those in use and the free ones. Errors:
 * -EUCLEAN a name is there twice. */
MAAS_MUST_CHECK int maas_lend_owners_restored(struct maas_lend_owners *owners);
/* The index of `name`, 0 when no allocation has it. */
uint32_t maas_lend_owner_find(const struct maas_lend_owners *owners, const char *name);
/* Notes `count` more allocations of `name`. Errors: -EUSERS, -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_owner_get(struct maas_lend_owners *owners, const char *name,
					uint32_t count, uint32_t *ret_index);
void maas_lend_owner_put(struct maas_lend_owners *owners, uint32_t index, uint32_t count);
const char *maas_lend_owner_name(const struct maas_lend_owners *owners, uint32_t index);

/* ---- lease: lists of allocations that end by themselves */

/*
 * One record for each slot that was ever in a list. Lists are rings of 32-bit ids, closed by their
 * head, so that an allocation leaves its list without knowing which it is.
 *
 *   wheel[deadline_s mod 4096]   the allocations whose lease ends in that second, or rounds later
 *   due                          those of a second that has come, until housekeeping looked at them
 *   session[index]               those that end with the session
 */
#define MAAS_LEND_LEASE_WHEEL 4096
#define MAAS_LEND_LEASE_HEADS 0xffe00000u /* ids from here on are heads; below: slot + 1 */
#define MAAS_LEND_LEASE_DUE   (MAAS_LEND_LEASE_HEADS + MAAS_LEND_LEASE_WHEEL)

struct maas_lend_lease {
	uint32_t next; /* ids; 0: in no list */
	uint32_t prev;
	uint32_t generation;
	uint32_t value; /* deadline_s, or the session's index */
};

struct maas_lend_leases {
	struct maas_lend_lease *heads;
	struct maas_lend_slots slots;
};

static inline uint32_t maas_lend_lease_wheel(uint32_t deadline_s)
{
	return MAAS_LEND_LEASE_HEADS + deadline_s % MAAS_LEND_LEASE_WHEEL;
}

static inline uint32_t maas_lend_lease_session(uint32_t index)
{
	return MAAS_LEND_LEASE_DUE + 1 + index;
}

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_leases_init(struct maas_lend_leases *leases, uint32_t num_slots,
					  uint32_t max_sessions);
void maas_lend_leases_fini(struct maas_lend_leases *leases);
/* Puts it in `list`, out of the one that it is in. Errors: -ENOMEM, -ENOSPC; never the second time.
 */
MAAS_MUST_CHECK int maas_lend_lease_add(struct maas_lend_leases *leases, struct maas_slab_ref ref,
					uint32_t list, uint32_t value);
/* Both return false when it is in no list. */
bool maas_lend_lease_find(const struct maas_lend_leases *leases, struct maas_slab_ref ref,
			  uint32_t *ret_value);
bool maas_lend_lease_remove(struct maas_lend_leases *leases, struct maas_slab_ref ref,
			    uint32_t *ret_value);
/* The first of `list`, false when that is empty. */
bool maas_lend_lease_first(const struct maas_lend_leases *leases, uint32_t list,
			   struct maas_slab_ref *ret_ref, uint32_t *ret_value);
/* Appends all of `from` to `to`, in constant time. */
void maas_lend_lease_splice(struct maas_lend_leases *leases, uint32_t from, uint32_t to);

/* ---- request: the answers that are remembered */

#define MAAS_LEND_REQUEST_CHUNK	  4096
#define MAAS_LEND_REQUEST_CHUNKS  256 /* one more than MAAS_LEND_REQUESTS needs, at each end */
#define MAAS_LEND_REQUEST_BUCKETS (1u << 20)

/* What is kept of a request: keyed hashes, so that its size does not matter. */
struct maas_lend_request_key {
	unsigned char id[16];
	uint64_t fields; /* of everything else in it */
};

struct maas_lend_request_entry;
struct maas_lend_request_batch;
TAILQ_HEAD(maas_lend_request_batches, maas_lend_request_batch);

/*
 * A queue of entries, numbered, one for each request. The oldest go first, so a link to a number
 * that left the queue ends its chain: nothing is unlinked. What a request for several allocations
 * made lies beside it, as far as there is room: the oldest batches lose theirs, and only theirs.
 */
struct maas_lend_requests {
	unsigned char key[16];
	struct maas_lend_request_entry *chunks[MAAS_LEND_REQUEST_CHUNKS];
	uint32_t *buckets; /* the newest entry of each */
	uint32_t first;	   /* numbers wrap around */
	uint32_t end;
	uint64_t count;				  /* those that are not void */
	struct maas_lend_request_batches batches; /* oldest first */
	uint64_t batch_refs;			  /* in them */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_requests_init(struct maas_lend_requests *requests);
void maas_lend_requests_fini(struct maas_lend_requests *requests);
/* Threading: any thread, no lock: the hash's key is constant. */
void maas_lend_request_key(const struct maas_lend_requests *requests, const char *request_id,
			   const void *fields, size_t len, struct maas_lend_request_key *ret_key);
/* Errors: -ENOENT not known, -ENOTUNIQ known with other fields, -ENODATA known, but what it made
 * is not. */
MAAS_MUST_CHECK int maas_lend_request_find(const struct maas_lend_requests *requests,
					   const struct maas_lend_request_key *key, uint32_t count,
					   struct maas_slab_ref *ret_refs);
/* To be added, else free()'d. Threading: no lock. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_request_batch_new(const struct maas_slab_ref *refs, uint32_t count,
						struct maas_lend_request_batch **ret_batch);
/*
 * Adds a request that made `ref`, or the several of `batch`, which is owned from then on; NULL:
 * one. -EAGAIN: there is no room for the batch after one step of making some; call it again, after
 * a breath of the lock. Errors: -ENOMEM.
 */
MAAS_MUST_CHECK int maas_lend_request_add(struct maas_lend_requests *requests,
					  const struct maas_lend_request_key *key,
					  struct maas_slab_ref ref,
					  struct maas_lend_request_batch *batch, uint32_t now_s,
					  uint32_t *ret_number);
/* What the request of that number made is gone: from now on its id is that of no request. */
void maas_lend_request_void(struct maas_lend_requests *requests,
			    const struct maas_lend_request_key *key, uint32_t number);
/* Forgets up to `max` requests that are too old at `now_s`; false when no other is. */
bool maas_lend_requests_forget(struct maas_lend_requests *requests, uint32_t now_s, uint32_t max);

/* ---- free */

/* Callbacks that came due under the lock, to be made without it: a free's and a session's. */
struct maas_lend_calls {
	struct {
		maas_lend_free_done *done;
		void *arg;
		int status;
	} call[2];
	unsigned int count;
};

void maas_lend_calls_add(struct maas_lend_calls *calls, maas_lend_free_done *done, void *arg,
			 int status);
/* No lock held. */
void maas_lend_calls_run(const struct maas_lend_calls *calls);

/* A free that waits for keys or transfers; later, a quarantined slab. */
struct maas_lend_pending {
	struct maas_lend *lend;
	struct maas_slab_ref ref;
	struct maas_lend_use *use; /* of its slot */
	uint64_t since_ms;
	struct maas_lend_session *session; /* whose end waits for it, or NULL */
	maas_lend_free_done *done;
	void *arg;
	int status;
	bool keys_dead;
	bool forced;			     /* its transfers were told to end */
	TAILQ_ENTRY(maas_lend_pending) link; /* in `waiting`, `forced` or `quarantined` */
};

/*
 * By slot: what keeps a slab from being given to somebody else. It never has to say which
 * generation of the slot it speaks of: the next one begins when nothing of this is left.
 */
struct maas_lend_use {
	LIST_HEAD(, maas_lend_transfer) transfers;
	LIST_HEAD(, maas_lend_transfer) told; /* those that a free has told to end */
	struct maas_lend_pending *pending;    /* the free under way */
};

static inline bool maas_lend_use_in_transfer(const struct maas_lend_use *use)
{
	return !LIST_EMPTY(&use->transfers) || !LIST_EMPTY(&use->told);
}

TAILQ_HEAD(maas_lend_pending_list, maas_lend_pending);

struct maas_lend_keyed;
LIST_HEAD(maas_lend_keyed_list, maas_lend_keyed);

/*
 * Lock held. 0: freed. -EINPROGRESS: `ret_pending` is set (else NULL), and
 * maas_lend_pending_start() must follow without the lock. Errors: -ENOENT; -ENOMEM, then it is as
 * it was.
 */
MAAS_MUST_CHECK int maas_lend_free_locked(struct maas_lend *lend, struct maas_slab_ref ref,
					  maas_lend_free_done *done, void *arg,
					  struct maas_lend_pending **ret_pending);
/* No lock held. 0: freed after all, `done` is not called. -EINPROGRESS. */
int maas_lend_pending_start(struct maas_lend *lend, struct maas_lend_pending *pending);
/* Lock held: ends the free of that slab if there is one and nothing else holds it up. */
void maas_lend_free_resume(const struct maas_lend_use *use, struct maas_lend_calls *calls);
/* Housekeeping; no lock held. */
void maas_lend_free_force(struct maas_lend *lend);
void maas_lend_quarantine_retry(struct maas_lend *lend);

/* ---- session */

enum maas_lend_session_state {
	MAAS_LEND_SESSION_FREE,
	MAAS_LEND_SESSION_LIVE,
	MAAS_LEND_SESSION_ENDING, /* keeps its name until its keys are dead */
};

#define MAAS_LEND_TICKET_BYTES (MAAS_LEND_TICKET_TEXT / 2)

struct maas_lend_session {
	struct maas_lend *lend;
	LIST_ENTRY(maas_lend_session)
	link;				/* of its name's bucket, if `listed`, or of the free ones */
	struct maas_lend_session *next; /* the ring of those of its name */
	struct maas_lend_session *prev;
	char name[MAAS_LEND_NAME_BYTES];
	char from[MAAS_LEND_FROM_BYTES];
	unsigned char ticket[MAAS_LEND_TICKET_BYTES];
	uint32_t generation;
	uint32_t ttl_s;
	uint32_t created_s;
	uint64_t deadline_ms; /* on the lease clock */
	uint64_t allocations;
	uint64_t pending; /* frees under way of what was its own */
	maas_lend_free_done *done;
	void *arg;
	int status;
	enum maas_lend_session_state state;
	bool listed;
	bool exclusive;
	bool ticket_valid;
	bool keys_dead;
};

#define MAAS_LEND_MAX_SESSIONS (1u << 20)

LIST_HEAD(maas_lend_session_list, maas_lend_session);

struct maas_lend_session_names {
	unsigned char key[16];
	struct maas_lend_session_list *buckets;
	uint32_t num_buckets; /* a power of two */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_session_names_init(struct maas_lend_session_names *names,
						 uint32_t max_sessions);
void maas_lend_session_names_fini(struct maas_lend_session_names *names);
/* The first session of that name, or NULL. Counts its steps. */
struct maas_lend_session *maas_lend_session_name_find(struct maas_lend_session_names *names,
						      const char *name, uint64_t *steps);
/* `first`: what was found of its name. */
void maas_lend_session_name_add(struct maas_lend_session_names *names,
				struct maas_lend_session *session, struct maas_lend_session *first);
void maas_lend_session_name_remove(struct maas_lend_session *session);

struct maas_lend_sessions {
	struct maas_slab_id_key id_key;
	unsigned char ticket_key[16];
	struct maas_lend_session *records;
	uint32_t max;
	uint32_t used; /* records ever used */
	uint32_t live;
	struct maas_lend_session_list free;
	struct maas_lend_session_names names;
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_sessions_init(struct maas_lend_sessions *sessions, uint32_t max);
void maas_lend_sessions_fini(struct maas_lend_sessions *sessions);
/* Lock held: the live session of that index and generation, or NULL. */
struct maas_lend_session *maas_lend_session_find(struct maas_lend *lend, uint32_t index,
						 uint32_t generation);
/* Lock held: adds to `calls` if its end is complete; true when it was. */
bool maas_lend_session_settle(struct maas_lend_session *session, struct maas_lend_calls *calls);
/* Housekeeping; no lock held: ends what lapsed. */
void maas_lend_sessions_lapse(struct maas_lend *lend);

/* ---- restore */

/* Takes up what another process lent: owners, leases. Errors: -EUCLEAN the table is damaged,
 * -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_restore(struct maas_lend *lend);

/* ---- lend */

struct maas_lend {
	/* constant after maas_lend_open() */
	struct maas_slab *slab;
	const struct maas_lend_key_ops *keys;
	void *keys_ctx;
	uint64_t (*clock_ms)(void);
	uint32_t max_session_ttl_s;
	unsigned int num_classes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES];

	/* Held over one request with a request id: a duplicate waits here for the answer. */
	pthread_mutex_t request_locks[MAAS_LEND_REQUEST_LOCKS];

	pthread_mutex_t lock;
	/* guarded by lock */
	uint64_t lease_ms;
	uint64_t ticked_ms;
	struct maas_lend_owners owners;
	struct maas_lend_leases leases;
	struct maas_lend_requests requests;
	struct maas_lend_sessions sessions;
	struct maas_lend_keyed_list keyed[MAAS_LEND_KEYED_BUCKETS]; /* of requests with an id */
	struct maas_lend_slots uses;				    /* struct maas_lend_use */
	struct maas_lend_pending_list waiting;			    /* oldest first */
	struct maas_lend_pending_list forced;
	struct maas_lend_pending_list quarantined;
	struct maas_lend_stats stats; /* what is counted here; the rest is asked for */
	uint64_t steps;		      /* see maas_lend_steps() */
};

static inline bool maas_lend_ref_equal(struct maas_slab_ref a, struct maas_slab_ref b)
{
	return a.slot == b.slot && a.generation == b.generation;
}

static inline uint32_t maas_lend_now_s(const struct maas_lend *lend)
{
	return (uint32_t)(lend->clock_ms() / 1000);
}

/* Lock held: the second in which a lease of `ttl_s` that starts now ends; never too early. */
static inline uint32_t maas_lend_deadline_s(const struct maas_lend *lend, uint32_t ttl_s)
{
	return (uint32_t)((lend->lease_ms + 999) / 1000) + ttl_s;
}

#endif
