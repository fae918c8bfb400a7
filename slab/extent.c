/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which slabs of an extent are free, and which extent of a class to take the next one from: the
 * fullest, so that others become empty and go back to the common pool. Lock held.
 */
#include <errno.h>
#include <sys/mman.h>

#include "slab/internal.h"

int maas_slab_extents_open(struct maas_slab *slab)
{
	void *map;

	slab->extents_map_bytes = slab->geo.num_extents * sizeof(struct maas_slab_extent);
	map = mmap(NULL, slab->extents_map_bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	slab->extents = map;
	slab->common_head = MAAS_SLAB_NONE;
	return 0;
}

void maas_slab_extents_close(struct maas_slab *slab)
{
	if (slab->extents)
		munmap(slab->extents, slab->extents_map_bytes);
	slab->extents = NULL;
}

/* ---- buckets: lists of which both ends are at hand */

static void bucket_remove(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index)
{
	const struct maas_slab_extent *extent = &slab->extents[index];
	uint8_t bucket = extent->bucket;

	if (bucket == MAAS_SLAB_BUCKET_FULL)
		return;
	slab->steps++;
	if (class->heads[bucket] == index)
		class->heads[bucket] = extent->next;
	else
		slab->extents[extent->prev].next = extent->next;
	if (class->tails[bucket] == index)
		class->tails[bucket] = extent->prev;
	else
		slab->extents[extent->next].prev = extent->prev;
	if (class->heads[bucket] == MAAS_SLAB_NONE)
		class->nonempty &= ~(1u << bucket);
}

/* To the bucket that it belongs to now: at the head, which is used first, or at the tail. */
static void bucket_add(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index,
		       bool at_head)
{
	struct maas_slab_extent *extent = &slab->extents[index];
	uint8_t bucket = (uint8_t)(extent->taken * MAAS_SLAB_BUCKETS / class->capacity);

	extent->bucket = bucket;
	if (bucket == MAAS_SLAB_BUCKET_FULL)
		return;
	slab->steps++;
	extent->left = maas_slab_bucket_start(class, bucket + 1u) - extent->taken;
	extent->next = MAAS_SLAB_NONE;
	if (class->heads[bucket] == MAAS_SLAB_NONE) {
		class->heads[bucket] = index;
		class->tails[bucket] = index;
		class->nonempty |= 1u << bucket;
	} else if (at_head) {
		extent->next = class->heads[bucket];
		slab->extents[extent->next].prev = index;
		class->heads[bucket] = index;
	} else {
		extent->prev = class->tails[bucket];
		slab->extents[extent->prev].next = index;
		class->tails[bucket] = index;
	}
}

void maas_slab_extent_rise(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index)
{
	bucket_add(slab, class, index, true);
}

/* ---- the common pool */

void maas_slab_extent_to_common(struct maas_slab *slab, uint32_t index)
{
	slab->steps++;
	slab->extents[index].next = slab->common_head;
	slab->common_head = index;
	slab->common_count++;
}

void maas_slab_extent_restore(struct maas_slab *slab, uint32_t index,
			      const struct maas_slab_extent *extent)
{
	struct maas_slab_class *class = &slab->classes[extent->class_index];

	slab->extents[index] = *extent;
	class->extents++;
	class->free += class->capacity - extent->taken;
	bucket_add(slab, class, index, true);
}

uint32_t maas_slab_extent_carve(struct maas_slab *slab, struct maas_slab_class *class)
{
	uint32_t index = slab->common_head;
	struct maas_slab_extent *extent = &slab->extents[index];

	assert(index != MAAS_SLAB_NONE);
	slab->common_head = extent->next;
	slab->common_count--;
	*extent = (struct maas_slab_extent){
		.free_head = MAAS_SLAB_NONE,
		.class_index = (uint8_t)(class - slab->classes),
		.carved = true,
		.stale = extent->stale,
	};
	class->extents++;
	class->free += class->capacity;
	bucket_add(slab, class, index, true);
	return index;
}

static void uncarve(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index)
{
	struct maas_slab_extent *extent = &slab->extents[index];
	bool swept = extent->bump == class->capacity &&
		     class->capacity * class->slab_bytes == slab->geo.extent_bytes;

	bucket_remove(slab, class, index);
	extent->stale = extent->dirty || (extent->stale && !swept);
	extent->carved = false;
	extent->bump = 0;
	class->extents--;
	class->free -= class->capacity;
	maas_slab_extent_to_common(slab, index);
}

/* ---- slabs */

uint32_t maas_slab_extent_pick_new(struct maas_slab *slab, uint32_t index)
{
	struct maas_slab_extent *extent = &slab->extents[index];
	uint32_t slot_index = (index << slab->geo.slot_shift) + extent->bump++;
	struct maas_slab_slot *slot = &slab->slots[slot_index];

	slot->class_index = extent->class_index;
	slot->generation++;
	/* After the generation: a slot that has none is clean, or the table is damaged. */
	maas_slab_slot_set_state(slot, extent->stale ? MAAS_SLAB_SLOT_DIRTY : MAAS_SLAB_SLOT_CLEAN);
	return slot_index;
}

void maas_slab_extent_join(struct maas_slab *slab, uint32_t slot_index,
			   enum maas_slab_slot_state state)
{
	uint32_t index = maas_slab_slot_extent(slab, slot_index);
	struct maas_slab_extent *extent = &slab->extents[index];
	struct maas_slab_class *class = &slab->classes[extent->class_index];
	struct maas_slab_slot *slot = &slab->slots[slot_index];

	slot->link = extent->free_head;
	maas_slab_slot_set_state(slot, state);
	extent->free_head = slot_index;
	extent->dirty += state == MAAS_SLAB_SLOT_DIRTY;

	slab->steps++;
	class->free++;
	extent->taken--;
	extent->left++;
	if (!extent->taken) {
		uncarve(slab, class, index);
	} else if (extent->taken < maas_slab_bucket_start(class, extent->bucket)) {
		bucket_remove(slab, class, index);
		bucket_add(slab, class, index, false);
	}
}
