/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/mman.h>

#include "slab/internal.h"

int maas_extents_open(struct maas_slab *slab)
{
	void *map;

	slab->extents_map_bytes = slab->geo.num_extents * sizeof(struct maas_extent);
	map = mmap(NULL, slab->extents_map_bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	slab->extents = map;
	slab->common_head = MAAS_NONE;
	return 0;
}

void maas_extents_close(struct maas_slab *slab)
{
	if (slab->extents)
		munmap(slab->extents, slab->extents_map_bytes);
	slab->extents = NULL;
}

/* ---- buckets: rings of extents, so that both ends are at hand -------------------------------- */

static void bucket_remove(struct maas_slab *slab, struct maas_class *class, uint32_t index)
{
	struct maas_extent *extent = &slab->extents[index];
	uint32_t *head = &class->buckets[extent->bucket];

	slab->steps++;
	if (extent->next == index) {
		*head = MAAS_NONE;
		class->nonempty &= ~(1u << extent->bucket);
	} else {
		slab->extents[extent->next].prev = extent->prev;
		slab->extents[extent->prev].next = extent->next;
		if (*head == index)
			*head = extent->next;
	}
	extent->bucket = MAAS_BUCKET_NONE;
}

static void bucket_add(struct maas_slab *slab, struct maas_class *class, uint32_t index,
		       uint8_t bucket, bool first)
{
	struct maas_extent *extent = &slab->extents[index];
	uint32_t head = class->buckets[bucket];

	slab->steps++;
	extent->bucket = bucket;
	if (head == MAAS_NONE) {
		extent->next = index;
		extent->prev = index;
		class->buckets[bucket] = index;
		class->nonempty |= 1u << bucket;
		return;
	}
	extent->next = head;
	extent->prev = slab->extents[head].prev;
	slab->extents[extent->prev].next = index;
	slab->extents[head].prev = index;
	if (first)
		class->buckets[bucket] = index;
}

/* An extent that fills up stays at hand; one that empties is the last of its bucket to be used. */
static void bucket_update(struct maas_slab *slab, struct maas_class *class, uint32_t index,
			  bool filling)
{
	struct maas_extent *extent = &slab->extents[index];
	uint8_t bucket = (uint8_t)(extent->taken * class->bucket_scale >> 32);

	if (extent->taken == class->capacity)
		bucket = MAAS_BUCKET_NONE;
	if (bucket == extent->bucket)
		return;
	if (extent->bucket != MAAS_BUCKET_NONE)
		bucket_remove(slab, class, index);
	if (bucket != MAAS_BUCKET_NONE)
		bucket_add(slab, class, index, bucket, filling);
}

/* ---- the common pool ------------------------------------------------------------------------- */

void maas_extent_to_common(struct maas_slab *slab, uint32_t index)
{
	slab->steps++;
	slab->extents[index].next = slab->common_head;
	slab->extents[index].bucket = MAAS_BUCKET_NONE;
	slab->common_head = index;
	slab->common_count++;
}

static uint32_t carve(struct maas_slab *slab, struct maas_class *class)
{
	uint32_t index = slab->common_head;
	struct maas_extent *extent = &slab->extents[index];

	assert(index != MAAS_NONE);
	slab->common_head = extent->next;
	slab->common_count--;
	*extent = (struct maas_extent){
		.free_head = MAAS_NONE,
		.class_index = (uint8_t)(class - slab->classes),
		.bucket = MAAS_BUCKET_NONE,
		.carved = true,
		.stale = extent->stale,
	};
	class->extents++;
	class->free += class->capacity;
	bucket_add(slab, class, index, 0, true);
	return index;
}

static void uncarve(struct maas_slab *slab, struct maas_class *class, uint32_t index)
{
	struct maas_extent *extent = &slab->extents[index];
	bool swept = extent->bump == class->capacity &&
		     class->capacity * class->slab_bytes == slab->geo.extent_bytes;

	bucket_remove(slab, class, index);
	extent->stale = extent->dirty || (extent->stale && !swept);
	extent->carved = false;
	extent->bump = 0;
	class->extents--;
	class->free -= class->capacity;
	maas_extent_to_common(slab, index);
}

/* ---- slabs ----------------------------------------------------------------------------------- */

static inline uint32_t take_slab(struct maas_slab *slab, uint32_t index)
{
	struct maas_extent *extent = &slab->extents[index];
	uint32_t slot_index = extent->free_head;
	struct maas_slot *slot;
	bool dirty;

	if (slot_index != MAAS_NONE) {
		slot = &slab->slots[slot_index];
		dirty = maas_slot_state(slot) == MAAS_SLOT_DIRTY;
		extent->free_head = slot->link;
		extent->dirty -= dirty;
		__builtin_prefetch(&slab->slots[slot->link], 1);
	} else {
		slot_index = (index << slab->geo.slot_shift) + extent->bump++;
		slot = &slab->slots[slot_index];
		dirty = extent->stale;
	}
	slot->generation++;
	slot->class_index = extent->class_index;
	maas_slot_set_state(slot, dirty ? MAAS_SLOT_RESERVED_DIRTY : MAAS_SLOT_RESERVED);
	return slot_index;
}

void maas_extent_take(struct maas_slab *slab, struct maas_class *class, uint32_t count,
		      struct maas_slab_ref *ret_refs)
{
	class->used += count;
	slab->steps += count;
	while (count) {
		uint32_t index = class->nonempty
					 ? class->buckets[31 - __builtin_clz(class->nonempty)]
					 : carve(slab, class);
		struct maas_extent *extent = &slab->extents[index];
		uint32_t room = class->capacity - extent->taken;
		uint32_t n = count < room ? count : room;

		for (uint32_t i = 0; i < n; i++, ret_refs++) {
			ret_refs->slot = take_slab(slab, index);
			ret_refs->generation = slab->slots[ret_refs->slot].generation;
		}
		extent->taken += n;
		extent->used += n;
		class->free -= n;
		bucket_update(slab, class, index, true);
		count -= n;
	}
}

void maas_extent_join(struct maas_slab *slab, uint32_t slot_index, enum maas_slot_state state)
{
	uint32_t index = maas_slot_extent(slab, slot_index);
	struct maas_extent *extent = &slab->extents[index];
	struct maas_class *class = &slab->classes[extent->class_index];
	struct maas_slot *slot = &slab->slots[slot_index];

	slab->steps++;
	slot->link = extent->free_head;
	maas_slot_set_state(slot, state);
	extent->free_head = slot_index;
	extent->dirty += state == MAAS_SLOT_DIRTY;
	extent->taken--;
	class->free++;
	bucket_update(slab, class, index, false);
	if (!extent->taken)
		uncarve(slab, class, index);
}
