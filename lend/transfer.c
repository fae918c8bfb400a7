/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers: reads and writes of a slab by this process, which its free waits for. */
#include <errno.h>

#include "lend/internal.h"

/* Lock held. */
static int begin(struct maas_lend *lend, const struct maas_lend_caller *caller,
		 struct maas_slab_ref ref, enum maas_auth_access access,
		 struct maas_lend_transfer *transfer)
{
	struct maas_slab_info info;
	struct maas_lend_use *use;
	int r;

	lend->steps++;
	r = maas_lend_find_slab(lend, caller, ref, access, &info);
	if (r)
		return r;
	use = maas_lend_slots_make(&lend->uses, ref.slot);
	if (!use)
		return -ENOMEM;
	transfer->ref = ref;
	transfer->bytes = info.bytes;
	transfer->size_bytes = info.size_bytes;
	transfer->caller = caller;
	transfer->told = false;
	transfer->epoch = lend->principals.epoch;
	LIST_INSERT_HEAD(&use->transfers, transfer, link);
	TAILQ_INSERT_TAIL(&lend->transfers, transfer, all);
	lend->stats.transfers++;
	return 0;
}

int maas_lend_transfer_begin(struct maas_lend *lend, const struct maas_lend_caller *caller,
			     const char *id, enum maas_auth_access access,
			     struct maas_lend_transfer *transfer)
{
	struct maas_slab_ref ref;
	int r;

	r = maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);
	if (r)
		return r;
	/* Under the same lock as every free: either this one finds the slab live and the free
	 * finds the transfer, or the slab is gone. */
	pthread_mutex_lock(&lend->lock);
	r = begin(lend, caller, ref, access, transfer);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

/* Lock held. */
static void end(struct maas_lend *lend, struct maas_lend_transfer *transfer,
		struct maas_lend_calls *calls)
{
	lend->steps++;
	LIST_REMOVE(transfer, link);
	TAILQ_REMOVE(&lend->transfers, transfer, all);
	lend->stats.transfers--;
	maas_lend_free_resume(maas_lend_slots_find(&lend->uses, transfer->ref.slot), calls);
}

void maas_lend_transfers_end(struct maas_lend *lend, struct maas_lend_transfer *transfers,
			     uint32_t count)
{
	while (count) {
		struct maas_lend_calls calls = {0};

		pthread_mutex_lock(&lend->lock);
		for (int i = 0; i < MAAS_LEND_STEP && count && !calls.count; i++)
			end(lend, &transfers[--count], &calls);
		pthread_mutex_unlock(&lend->lock);
		maas_lend_calls_run(&calls);
	}
}

bool maas_lend_transfer_alive(struct maas_lend *lend, const struct maas_lend_transfer *transfer)
{
	struct maas_slab_info info;

	return !maas_slab_get(lend->slab, transfer->ref, &info);
}

void maas_lend_transfer_abort(struct maas_lend *lend, struct maas_lend_use *use,
			      struct maas_lend_transfer *transfer)
{
	if (transfer->told)
		return;
	transfer->told = true;
	LIST_REMOVE(transfer, link);
	LIST_INSERT_HEAD(&use->told, transfer, link);
	transfer->abort(transfer->arg);
	lend->stats.forced_transfers++;
}

/* Lock held. */
static void check_again(struct maas_lend *lend, const struct maas_lend_change *change,
			struct maas_lend_transfer *transfer)
{
	const struct maas_lend_caller *caller = transfer->caller;

	TAILQ_REMOVE(&lend->transfers, transfer, all);
	transfer->epoch = lend->principals.epoch;
	TAILQ_INSERT_TAIL(&lend->transfers, transfer, all);
	if (caller && !maas_lend_lost(change, caller->principal->name, caller->proof))
		return;
	maas_lend_transfer_abort(lend, maas_lend_slots_find(&lend->uses, transfer->ref.slot),
				 transfer);
}

/* Lock held. False when all were held against the table of now. */
static bool check_some(struct maas_lend *lend, const struct maas_lend_change *change)
{
	for (int i = 0; i < MAAS_LEND_STEP; i++) {
		struct maas_lend_transfer *transfer = TAILQ_FIRST(&lend->transfers);

		if (!transfer || transfer->epoch == lend->principals.epoch ||
		    !lend->principals.table)
			return false;
		check_again(lend, change, transfer);
	}
	return true;
}

void maas_lend_transfers_check(struct maas_lend *lend, const struct maas_lend_change *change)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&lend->lock);
		more = check_some(lend, change);
		pthread_mutex_unlock(&lend->lock);
		if (more)
			maas_lend_pause();
	}
}
