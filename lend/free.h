/* SPDX-License-Identifier: Apache-2.0 */
/*
 * free: the order of revocation. A free that has to wait for keys or transfers is a pending one,
 * and a slab with a key that cannot be confirmed dead stays one, in quarantine.
 */
#ifndef MAAS_LEND_FREE_H
#define MAAS_LEND_FREE_H

#include <sys/queue.h>

#include "lend/lend.h"

struct maas_lend_session;

/* Callbacks that came due under the lock and are made without it: a free's and a session's. */
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
/* Makes the callbacks. No lock held. */
void maas_lend_calls_run(const struct maas_lend_calls *calls);

/* A free that waits for keys or transfers; later, a quarantined slab. */
struct maas_lend_pending {
	struct maas_lend *lend;
	struct maas_slab_ref ref;
	struct maas_lend_use *use; /* of its slot */
	uint32_t owner;		   /* who is charged until the slab can be used again */
	uint64_t slab_bytes;
	uint64_t since_ms;
	struct maas_lend_session *session; /* whose end waits for this free, or NULL */
	maas_lend_free_done *done;
	void *arg;
	int status;
	bool keys_dead;
	uint64_t revocation[MAAS_LEND_REVOCATION]; /* of its keys */
	bool forced;				   /* its transfers were told to end */
	TAILQ_ENTRY(maas_lend_pending) link;	   /* in `waiting`, `forced` or `quarantined` */
};

/*
 * What keeps a slot's slab from being given to somebody else. No generation is noted: the next one
 * begins when nothing of this is left.
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

/*
 * Frees a slab, or begins to. Lock held. 0: freed. -EINPROGRESS: `ret_pending` is set (else NULL),
 * and maas_lend_pending_start() must follow without the lock. Errors: -ENOENT no such allocation;
 * -ENOMEM, the allocation lives on.
 */
MAAS_MUST_CHECK int maas_lend_free_locked(struct maas_lend *lend, struct maas_slab_ref ref,
					  maas_lend_free_done *done, void *arg,
					  struct maas_lend_pending **ret_pending);
/* Has the keys killed. No lock held. 0: the slab is free after all, and `done` is not called.
 * -EINPROGRESS: `done` comes. */
int maas_lend_pending_start(struct maas_lend *lend, struct maas_lend_pending *pending);
/* Ends the slot's pending free, if there is one and nothing holds it up any more. Lock held. */
void maas_lend_free_resume(const struct maas_lend_use *use, struct maas_lend_calls *calls);
/* Tells a transfer to end, once. Lock held. */
void maas_lend_transfer_abort(struct maas_lend *lend, struct maas_lend_use *use,
			      struct maas_lend_transfer *transfer);
/* Holds the transfers under way against a new table of principals. No lock held. */
struct maas_lend_change;
void maas_lend_transfers_check(struct maas_lend *lend, const struct maas_lend_change *change);
/* Housekeeping: tells the transfers to end whose free has waited too long. No lock held. */
void maas_lend_free_force(struct maas_lend *lend);
/* Housekeeping: asks once more for the keys to quarantined slabs. No lock held. */
void maas_lend_quarantine_retry(struct maas_lend *lend);

#endif
