/* SPDX-License-Identifier: Apache-2.0 */
#include "lend/internal.h"

int maas_transfer_begin(struct maas_lend *lend, const char *id, struct maas_transfer *transfer)
{
	struct maas_slab_info info;
	struct maas_slab_ref ref;
	int rc;

	rc = maas_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);
	if (rc)
		return rc;
	/* Under the same lock as every free: either this one finds the slab live and the free
	 * finds the transfer, or the slab is gone. */
	pthread_mutex_lock(&lend->lock);
	rc = maas_slab_get(lend->slab, ref, &info);
	if (!rc) {
		transfer->ref = ref;
		transfer->bytes = info.bytes;
		transfer->size_bytes = info.size_bytes;
		LIST_INSERT_HEAD(&maas_lend_bucket(lend, ref)->transfers, transfer, link);
		lend->stats.transfers++;
	}
	pthread_mutex_unlock(&lend->lock);
	return rc;
}

void maas_transfer_end(struct maas_lend *lend, struct maas_transfer *transfer)
{
	struct maas_calls calls = {0};

	pthread_mutex_lock(&lend->lock);
	LIST_REMOVE(transfer, link);
	lend->stats.transfers--;
	maas_free_resume(lend, transfer->ref, &calls);
	pthread_mutex_unlock(&lend->lock);
	maas_calls_run(&calls);
}

bool maas_transfer_alive(struct maas_lend *lend, const struct maas_transfer *transfer)
{
	struct maas_slab_info info;

	return !maas_slab_get(lend->slab, transfer->ref, &info);
}
