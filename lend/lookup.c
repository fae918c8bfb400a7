/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at allocations, one by its id or many in pages, and renewing them. Under lend's lock, a
 * page in steps.
 */
#include <errno.h>
#include <string.h>

#include "lend/internal.h"

#define LIST_SLOTS 256 /* used slots that one search for the next examines */
#define LIST_STEPS 64  /* searches under one hold of the lock */

void maas_lend_id(struct maas_lend *lend, struct maas_slab_ref ref, char text[MAAS_SLAB_ID_TEXT])
{
	maas_slab_id_encode(maas_slab_id_key(lend->slab), ref.slot, ref.generation, text);
}

/* A kept allocation may be older than the host's clock. */
static uint64_t age_of(const struct maas_lend *lend, uint32_t created_s)
{
	uint32_t now_s = maas_lend_now_s(lend);

	return now_s > created_s ? now_s - created_s : 0;
}

/* Lock held. What is left of a lease, rounded up, but never more than it was given. */
static uint32_t lease_left_s(const struct maas_lend *lend, const struct maas_slab_info *info)
{
	uint64_t left_ms = 0;
	uint32_t deadline_s;

	/* Not in the wheel: its allocate is about to return. */
	if (!maas_lend_lease_find(&lend->leases, info->ref, &deadline_s))
		return info->label.ttl_s;
	if ((uint64_t)deadline_s * 1000 > lend->lease_ms)
		left_ms = (uint64_t)deadline_s * 1000 - lend->lease_ms;
	left_ms = (left_ms + 999) / 1000;
	return left_ms < info->label.ttl_s ? (uint32_t)left_ms : info->label.ttl_s;
}

/* The owner that a live slab names is alive too. */
void maas_lend_describe(struct maas_lend *lend, const struct maas_slab_info *info,
			struct maas_lend_allocation *ret)
{
	const char *owner = maas_lend_owner_name(&lend->owners, info->label.owner);

	maas_lend_id(lend, info->ref, ret->id);
	ret->size_bytes = info->size_bytes;
	ret->actual_size_bytes = info->slab_bytes;
	ret->age_s = age_of(lend, info->label.created_s);
	ret->lifetime = (enum maas_lend_lifetime)info->label.lifetime;
	ret->ttl_s = info->label.ttl_s;
	ret->lease_s = 0;
	if (ret->lifetime == MAAS_LEND_LIFETIME_TTL)
		ret->lease_s = lease_left_s(lend, info);
	memcpy(ret->owner, owner, strlen(owner) + 1);
}

int maas_lend_get(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		  struct maas_lend_allocation *ret_allocation)
{
	struct maas_slab_info info;
	struct maas_slab_ref ref;
	int r;

	r = maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);
	if (r)
		return r;
	pthread_mutex_lock(&lend->lock);
	r = maas_lend_find_slab(lend, caller, ref, MAAS_AUTH_READ, &info);
	if (!r)
		maas_lend_describe(lend, &info, ret_allocation);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

static int do_renew(struct maas_lend *lend, const struct maas_lend_caller *caller,
		    struct maas_slab_ref ref, uint32_t ttl_s,
		    struct maas_lend_allocation *ret_allocation)
{
	struct maas_slab_info info;
	uint32_t deadline_s;
	int r = maas_lend_find_slab(lend, caller, ref, MAAS_AUTH_OWN, &info);

	if (r)
		return r;
	if (info.label.lifetime != MAAS_LEND_LIFETIME_TTL)
		return -EMEDIUMTYPE;
	if (!ttl_s)
		ttl_s = info.label.ttl_s;
	deadline_s = maas_lend_deadline_s(lend, ttl_s);
	r = maas_lend_lease_start(lend, ref, deadline_s);
	if (r)
		return r;
	r = maas_slab_set_ttl(lend->slab, ref, ttl_s);
	if (r)
		return r;
	info.label.ttl_s = ttl_s;
	maas_lend_describe(lend, &info, ret_allocation);
	return 0;
}

int maas_lend_renew(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		    uint32_t ttl_s, struct maas_lend_allocation *ret_allocation)
{
	struct maas_slab_ref ref;
	int r;

	if (ttl_s > MAAS_LEND_MAX_TTL_S)
		return -EINVAL;
	r = maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);
	if (r)
		return r;
	pthread_mutex_lock(&lend->lock);
	r = do_renew(lend, caller, ref, ttl_s, ret_allocation);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

int maas_lend_page_start(struct maas_lend *lend, const struct maas_lend_caller *caller,
			 struct maas_lend_page *page, const char *owner, const char *after,
			 uint32_t limit)
{
	struct maas_slab_ref ref;
	int r;

	if (!limit)
		return -EINVAL;
	*page = (struct maas_lend_page){.caller = caller, .owner = owner, .left = limit};
	if (!after)
		return 0;
	r = maas_slab_id_decode(maas_slab_id_key(lend->slab), after, &ref.slot, &ref.generation);
	if (!r)
		page->cursor = (uint64_t)ref.slot + 1;
	return r;
}

/* Lock held. */
static bool next_of_page(struct maas_lend *lend, struct maas_lend_page *page,
			 struct maas_lend_allocation *ret_allocations, uint32_t max,
			 uint32_t *ret_count)
{
	bool named = page->owner && *page->owner;
	uint32_t owner = named ? maas_lend_owner_find(&lend->owners, page->owner) : 0;
	struct maas_slab_info info;

	/* An owner without allocations, or one that the caller may not know of: as quickly. */
	if ((named && !owner) ||
	    (page->owner && maas_lend_may(lend, page->caller, page->owner, MAAS_AUTH_READ)))
		return false;
	for (int i = 0; i < LIST_STEPS && *ret_count < max; i++) {
		int found = maas_slab_next(lend->slab, &page->cursor, LIST_SLOTS, &info);

		if (found < 0)
			return false;
		if (!found || (page->owner && info.label.owner != owner))
			continue;
		if (maas_lend_may_slab(lend, page->caller, &info, MAAS_AUTH_READ))
			continue;
		if (!page->left) {
			page->more = true;
			return false;
		}
		maas_lend_describe(lend, &info, &ret_allocations[(*ret_count)++]);
		page->left--;
	}
	return true;
}

bool maas_lend_page_next(struct maas_lend *lend, struct maas_lend_page *page,
			 struct maas_lend_allocation *ret_allocations, uint32_t max,
			 uint32_t *ret_count)
{
	bool going;

	*ret_count = 0;
	pthread_mutex_lock(&lend->lock);
	going = next_of_page(lend, page, ret_allocations, max, ret_count);
	pthread_mutex_unlock(&lend->lock);
	return going;
}
