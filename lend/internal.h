/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside lend, a .c for each of these, and a .h for some:
 *
 *   lend       open, close, housekeeping
 *   allocate   slabs with a lifetime, an owner, a request id and keys
 *   lookup     describing, listing and renewing allocations
 *   survey     who holds most, and what ends first
 *   free       the order of revocation
 *   transfer   reads and writes by this process, which a free waits for
 *   session    leases, names (session_name), tickets (ticket) and the end of sessions (session_end)
 *   access     what a caller may do, by the table of principals
 *   quota      what principals use, and how much more they may
 *   grant      keys for allocations that are there already
 *   restore    what another process left
 *
 * and four containers that know nothing of the rest: slots (records by slot), owner (names), lease
 * (which allocation ends when), request (the answers that are remembered).
 *
 * "Lock held": struct maas_lend's lock. Lock order: request_locks, lock, the slab's own.
 */
#ifndef MAAS_LEND_INTERNAL_H
#define MAAS_LEND_INTERNAL_H

#include <assert.h>
#include <pthread.h>

#include "lend/access.h"
#include "lend/free.h"
#include "lend/lease.h"
#include "lend/lend.h"
#include "lend/owner.h"
#include "lend/quota.h"
#include "lend/request.h"
#include "lend/session.h"
#include "lend/slots.h"

#define MAAS_LEND_REQUEST_LOCKS 1024
#define MAAS_LEND_KEYED_BUCKETS 4096 /* of keyed allocations under way */
#define MAAS_LEND_STEP		256  /* items of housekeeping under one hold of the lock */
#define MAAS_LEND_TICK_STEPS	512  /* of each kind in one tick, at most */

struct maas_lend_keyed;
LIST_HEAD(maas_lend_keyed_list, maas_lend_keyed);

struct maas_lend {
	/* constant after maas_lend_open() */
	struct maas_slab *slab;
	const struct maas_lend_key_ops *keys;
	void *keys_ctx;
	uint64_t (*clock_ms)(void);
	uint32_t max_session_ttl_s;
	unsigned int num_classes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES];
	uint32_t had_principals; /* what kept memory said of it before */

	/* Held over one request with a request id: a duplicate waits here for the answer. */
	pthread_mutex_t request_locks[MAAS_LEND_REQUEST_LOCKS];

	pthread_mutex_t lock;
	/* guarded by lock */
	uint64_t lease_ms;
	uint64_t ticked_ms;
	struct maas_lend_principals principals;
	struct maas_lend_owners owners;
	struct maas_lend_quotas quotas;
	struct maas_lend_leases leases;
	struct maas_lend_request_queues requests;
	struct maas_lend_sessions sessions;
	struct maas_lend_keyed_list keyed[MAAS_LEND_KEYED_BUCKETS]; /* of requests with an id */
	struct maas_lend_slots uses;				    /* struct maas_lend_use */
	TAILQ_HEAD(, maas_lend_transfer) transfers; /* by the epoch of their last check */
	struct maas_lend_pending_list waiting;	    /* oldest first */
	struct maas_lend_pending_list forced;
	struct maas_lend_pending_list quarantined;
	struct maas_lend_stats stats; /* what is counted here; the rest is asked for */
	uint64_t steps;		      /* see maas_lend_steps() */
};

static inline uint32_t maas_lend_now_s(const struct maas_lend *lend)
{
	return (uint32_t)(lend->clock_ms() / 1000);
}

/* Lock held: the second in which a lease of `ttl_s` that starts now ends; never too early. */
static inline uint32_t maas_lend_deadline_s(const struct maas_lend *lend, uint32_t ttl_s)
{
	return (uint32_t)((lend->lease_ms + 999) / 1000) + ttl_s;
}

/* No lock held. Lets those have lend's lock that wait for it: the mutex is not fair, and without a
 * pause a thread that goes on with the next step has it again before another one is awake. */
void maas_lend_pause(void);

/* Lock held: describes a live slab. */
void maas_lend_describe(struct maas_lend *lend, const struct maas_slab_info *info,
			struct maas_lend_allocation *ret);

/* Lock held: has the allocation end in that second. Errors: as maas_lend_lease_add(). */
MAAS_MUST_CHECK static inline int
maas_lend_lease_start(struct maas_lend *lend, struct maas_slab_ref ref, uint32_t deadline_s)
{
	uint32_t now_s = (uint32_t)(lend->lease_ms / 1000);

	return maas_lend_lease_add(&lend->leases, ref, maas_lend_lease_list(deadline_s, now_s),
				   deadline_s);
}

/* Takes up what another process lent: owners, leases. Errors: -EUCLEAN the table is damaged,
 * -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_restore(struct maas_lend *lend);

#endif
