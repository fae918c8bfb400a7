/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations on a pool. Public functions take the lock; the static ones below them are called
 * with it.
 */
#include <errno.h>

#include "slab/internal.h"

/* ---- alloc */

static int find_class(struct maas_slab *slab, uint64_t size_bytes,
		      struct maas_slab_class **ret_class)
{
	struct maas_slab_class *class = slab->classes;

	if (!size_bytes)
		return -EINVAL;
	while (class->slab_bytes < size_bytes) {
		class += 1;
		if (class == &slab->classes[slab->geo.num_classes])
			return -EFBIG;
	}
	*ret_class = class;
	return 0;
}

/* Allocates the next extent's pages; the lock is not held meanwhile. */
static int grow(struct maas_slab *slab)
{
	uint64_t extent_bytes = slab->geo.extent_bytes;
	uint32_t index = slab->grown;
	int r;

	slab->growing = true;
	maas_lock_release(&slab->lock);
	r = maas_slab_slots_back(slab, index);
	if (!r)
		r = maas_slab_arena_back(&slab->arena, index * extent_bytes, extent_bytes);
	maas_lock_take(&slab->lock);
	slab->growing = false;
	slab->short_of_space = r;
	if (!r) {
		maas_slab_set_grown(slab, index + 1);
		maas_slab_extent_to_common(slab, index);
	}
	maas_lock_cond_wake(&slab->changed);
	return r;
}

/* Extents that `count` slabs need beside the free slabs of the class. */
static uint64_t count_extents(const struct maas_slab_class *class, uint32_t count)
{
	return class->free < count ? (count - class->free + class->capacity - 1) / class->capacity
				   : 0;
}

bool maas_slab_must_grow(struct maas_slab *slab, uint64_t size_bytes, uint32_t count)
{
	struct maas_slab_class *class;
	uint64_t need;
	bool must;

	if (find_class(slab, size_bytes, &class))
		return false;
	maas_lock_take(&slab->lock);
	need = count_extents(class, count);
	must = need > slab->common_count &&
	       need <= (uint64_t)slab->common_count + slab->geo.num_extents - slab->grown;
	maas_lock_release(&slab->lock);
	return must;
}

/*
 * Sees to it that `count` slabs can be taken: the class's own and the common pool, then new
 * extents, then slabs that wait for reuse, then those that another thread is about to free.
 */
static int make_room(struct maas_slab *slab, struct maas_slab_class *class, uint32_t count)
{
	int grow_error = 0;

	while (class->free < count) {
		uint64_t need = count_extents(class, count);
		uint32_t unbacked = grow_error ? 0 : slab->geo.num_extents - slab->grown;

		if (need <= slab->common_count)
			return 0;
		if (slab->stopping)
			return -ECANCELED;
		if (need <= (uint64_t)slab->common_count + unbacked && !slab->growing)
			grow_error = grow(slab);
		else if (!slab->growing && maas_slab_delay_cut(slab, class))
			continue;
		else if (slab->growing || slab->zeroing)
			maas_lock_cond_wait(&slab->changed, &slab->lock);
		else
			return -ENOSPC;
	}
	return 0;
}

static inline struct maas_slab_slot *reserve(struct maas_slab *slab, struct maas_slab_class *class,
					     uint64_t size_bytes, struct maas_slab_ref *ret_ref)
{
	struct maas_slab_slot *slot = maas_slab_extent_take(slab, class, ret_ref);

	slot->size_bytes = (uint32_t)size_bytes;
	class->allocations++;
	class->requested_bytes += size_bytes;
	return slot;
}

/* Hands the reserved slab out. Lock not held: nobody else touches a reserved slot. */
static inline void publish(struct maas_slab *slab, struct maas_slab_slot *slot,
			   const struct maas_slab_label *label)
{
	if (maas_slab_slot_state(slot) == MAAS_SLAB_SLOT_DIRTY)
		maas_slab_slot_zero(slab, (uint32_t)(slot - slab->slots));
	slot->owner = label->owner;
	slot->created_s = label->created_s;
	slot->ttl_s = label->ttl_s;
	slot->lifetime = label->lifetime;
	maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_LIVE);
}

int maas_slab_alloc_many(struct maas_slab *slab, uint64_t size_bytes, uint32_t count,
			 const struct maas_slab_label *label, struct maas_slab_ref *ret_refs)
{
	struct maas_slab_class *class;
	int r;

	if (!count || count > MAAS_SLAB_MAX_BATCH)
		return -EINVAL;
	r = find_class(slab, size_bytes, &class);
	if (r)
		return r;

	maas_lock_take(&slab->lock);
	if (class->free < count)
		r = make_room(slab, class, count);
	for (uint32_t i = 0; !r && i < count; i++)
		reserve(slab, class, size_bytes, &ret_refs[i]);
	maas_lock_release(&slab->lock);
	if (r)
		return r;
	for (uint32_t i = 0; i < count; i++)
		publish(slab, &slab->slots[ret_refs[i].slot], label);
	return 0;
}

int maas_slab_alloc(struct maas_slab *slab, uint64_t size_bytes,
		    const struct maas_slab_label *label, struct maas_slab_ref *ret_ref)
{
	struct maas_slab_class *class;
	struct maas_slab_slot *slot;
	int r;

	r = find_class(slab, size_bytes, &class);
	if (r)
		return r;

	maas_lock_take(&slab->lock);
	if (!class->nonempty)
		r = make_room(slab, class, 1);
	if (!r)
		slot = reserve(slab, class, size_bytes, ret_ref);
	maas_lock_release(&slab->lock);
	if (r)
		return r;
	publish(slab, slot, label);
	return 0;
}

void maas_slab_stop(struct maas_slab *slab)
{
	maas_lock_take(&slab->lock);
	slab->stopping = true;
	maas_lock_release(&slab->lock);
}

/* ---- look-up */

static void describe(struct maas_slab *slab, uint32_t index, struct maas_slab_info *ret_info)
{
	const struct maas_slab_slot *slot = &slab->slots[index];
	uint64_t slab_bytes = maas_slab_slot_class(slab, slot)->slab_bytes;
	uint64_t offset = maas_slab_slot_offset(slab, index, slab_bytes);

	*ret_info = (struct maas_slab_info){
		.ref = {.slot = index, .generation = slot->generation},
		.size_bytes = slot->size_bytes,
		.slab_bytes = slab_bytes,
		.offset = offset,
		.bytes = slab->arena.base + offset,
		.label = {.owner = slot->owner,
			  .created_s = slot->created_s,
			  .ttl_s = slot->ttl_s,
			  .lifetime = slot->lifetime},
	};
}

int maas_slab_get(struct maas_slab *slab, struct maas_slab_ref ref, struct maas_slab_info *ret_info)
{
	int r = -ENOENT;

	maas_lock_take(&slab->lock);
	if (maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_LIVE)) {
		describe(slab, ref.slot, ret_info);
		r = 0;
	}
	maas_lock_release(&slab->lock);
	return r;
}

int maas_slab_set_ttl(struct maas_slab *slab, struct maas_slab_ref ref, uint32_t ttl_s)
{
	struct maas_slab_slot *slot;

	maas_lock_take(&slab->lock);
	slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_LIVE);
	if (slot)
		slot->ttl_s = ttl_s;
	maas_lock_release(&slab->lock);
	return slot ? 0 : -ENOENT;
}

/* The next live slot at or after `*cursor`; otherwise as maas_slab_next(). */
static int find_live(struct maas_slab *slab, uint64_t *cursor, uint32_t max_slots,
		     uint32_t *ret_slot)
{
	/* An extent that is skipped counts as one slot: it costs as much. */
	for (uint32_t seen = 0; !seen || seen < max_slots; seen++) {
		const struct maas_slab_extent *extent;
		uint64_t index = *cursor >> slab->geo.slot_shift;
		uint32_t slot = (uint32_t)*cursor;

		if (index >= slab->grown)
			return -ENOENT;
		slab->steps++;
		extent = &slab->extents[index];
		if (maas_slab_slot_place(slab, slot) >= extent->bump) {
			*cursor = (index + 1) << slab->geo.slot_shift;
			continue;
		}
		++*cursor;
		if (maas_slab_slot_state(&slab->slots[slot]) == MAAS_SLAB_SLOT_LIVE) {
			*ret_slot = slot;
			return 1;
		}
	}
	return 0;
}

int maas_slab_next(struct maas_slab *slab, uint64_t *cursor, uint32_t max_slots,
		   struct maas_slab_info *ret_info)
{
	uint32_t slot;
	int r;

	maas_lock_take(&slab->lock);
	r = find_live(slab, cursor, max_slots, &slot);
	if (r == 1)
		describe(slab, slot, ret_info);
	maas_lock_release(&slab->lock);
	return r;
}

/* ---- free */

/* Nobody can reach the bytes any more. */
static inline void let_wait(struct maas_slab *slab, struct maas_slab_class *class,
			    struct maas_slab_slot *slot, uint32_t index)
{
	if (slot->generation == UINT32_MAX) {
		maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_RETIRED);
		class->quarantined++;
		return;
	}
	maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_DIRTY);
	if (maas_slab_delay_count(&class->delay) == MAAS_SLAB_DELAY_FREES)
		maas_slab_extent_join(slab, maas_slab_delay_pop(slab, class), MAAS_SLAB_SLOT_DIRTY);
	maas_slab_delay_push(&class->delay, index);
}

/* A slab that was in use. */
static inline void give_up(struct maas_slab *slab, struct maas_slab_slot *slot, uint32_t index)
{
	struct maas_slab_class *class = maas_slab_slot_class(slab, slot);

	class->requested_bytes -= slot->size_bytes;
	let_wait(slab, class, slot, index);
}

int maas_slab_revoke(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_slot *slot;

	maas_lock_take(&slab->lock);
	slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_LIVE);
	if (slot)
		maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_REVOKING);
	maas_lock_release(&slab->lock);
	return slot ? 0 : -ENOENT;
}

int maas_slab_release(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_slot *slot;

	maas_lock_take(&slab->lock);
	slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_REVOKING);
	if (slot) {
		give_up(slab, slot, ref.slot);
	} else {
		slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_QUARANTINED);
		if (slot) {
			struct maas_slab_class *class = maas_slab_slot_class(slab, slot);

			class->quarantined--;
			let_wait(slab, class, slot, ref.slot);
		}
	}
	maas_lock_release(&slab->lock);
	return slot ? 0 : -ENOENT;
}

int maas_slab_free(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_slot *slot;

	maas_lock_take(&slab->lock);
	slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_LIVE);
	if (slot)
		give_up(slab, slot, ref.slot);
	maas_lock_release(&slab->lock);
	return slot ? 0 : -ENOENT;
}

int maas_slab_quarantine(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_slot *slot;

	maas_lock_take(&slab->lock);
	slot = maas_slab_slot_find(slab, ref, MAAS_SLAB_SLOT_REVOKING);
	if (slot) {
		struct maas_slab_class *class = maas_slab_slot_class(slab, slot);

		class->requested_bytes -= slot->size_bytes;
		maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_QUARANTINED);
		class->quarantined++;
	}
	maas_lock_release(&slab->lock);
	return slot ? 0 : -ENOENT;
}
