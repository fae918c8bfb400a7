/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a restart with kept memory: allocations live on under their ids, owners keep theirs, every
 * lease runs anew for its full time. Sessions ended with the process, and so does what they owned.
 */
#include <errno.h>

#include "lend/internal.h"

static int take_up(struct maas_lend *lend, const struct maas_slab_info *info)
{
	uint32_t deadline_s;
	int r;

	switch (info->label.lifetime) {
	case MAAS_LEND_LIFETIME_SESSION:
		return maas_slab_free(lend->slab, info->ref);
	case MAAS_LEND_LIFETIME_TTL:
		if (!info->label.ttl_s || info->label.ttl_s > MAAS_LEND_MAX_TTL_S)
			return -EUCLEAN;
		deadline_s = maas_lend_deadline_s(lend, info->label.ttl_s);
		if (maas_lend_lease_start(lend, info->ref, deadline_s))
			return -ENOMEM;
		break;
	case MAAS_LEND_LIFETIME_DELETE:
		break;
	default:
		return -EUCLEAN;
	}
	r = maas_lend_owner_keep(&lend->owners, info->label.owner);
	if (!r)
		maas_lend_quota_keep(lend, info->label.owner, info->slab_bytes);
	return r;
}

/* Before maas_lend_open() returns, and so without the lock. */
int maas_lend_restore(struct maas_lend *lend)
{
	struct maas_slab_info info;
	uint64_t cursor = 0;
	int found;

	while ((found = maas_slab_next(lend->slab, &cursor, UINT32_MAX, &info)) != -ENOENT) {
		int r = found ? take_up(lend, &info) : 0;

		if (r)
			return r;
	}
	return maas_lend_owners_restored(&lend->owners);
}
