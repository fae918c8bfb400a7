/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers: reads and writes of a slab by this process, which its free waits for. */
#include <errno.h>

#include "lend/internal.h"

/* Lock held. */
static int begin(struct maas_lend *lend, struct maas_slab_ref ref,
		 struct maas_lend_transfer *transfer)
{
	struct maas_slab_info info;
	struct maas_lend_use *use;
	int r;

	lend->steps++;
	r = maas_slab_get(lend->slab, ref, &info);
	if (r)
		return r;
	use = maas_lend_slots_make(&lend->uses, ref.slot);
	if (!use)
		return -ENOMEM;
	transfer->ref = ref;
	transfer->bytes = info.bytes;
	transfer->size_bytes = info.size_bytes;
	LIST_INSERT_HEAD(&use->transfers, transfer, link);
	lend->stats.transfers++;
	return 0;
}

int maas_lend_transfer_begin(struct maas_lend *lend, const char *id,
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
	r = begin(lend, ref, transfer);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

/* Lock held. */
static void end(struct maas_lend *lend, struct maas_lend_transfer *transfer,
		struct maas_lend_calls *calls)
{
	lend->steps++;
	LIST_REMOVE(transfer, link);
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
