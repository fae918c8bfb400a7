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

/* ---- buckets: rings of extents, so that both ends are at hand */

static void bucket_remove(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index)
{
	const struct maas_slab_extent *extent = &slab->extents[index];
	uint32_t *head = &class->buckets[extent->bucket];

	slab->steps++;
	slab->extents[extent->next].prev = extent->prev;
	slab->extents[extent->prev].next = extent->next;
	if (extent->next == index) {
		*head = MAAS_SLAB_NONE;
		class->nonempty &= ~(1u << extent->bucket);
	} else if (*head == index) {
		*head = extent->next;
	}
}

/* At the head, which is used first, or at the tail. */
static void bucket_add(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index,
		       uint8_t bucket, bool at_head)
{
	struct maas_slab_extent *extent = &slab->extents[index];
	uint32_t head = class->buckets[bucket];

	slab->steps++;
	extent->bucket = bucket;
	if (head == MAAS_SLAB_NONE) {
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
	if (at_head)
		class->buckets[bucket] = index;
}

static inline uint8_t bucket_of(const struct maas_slab_class *class,
				const struct maas_slab_extent *extent)
{
	return (uint8_t)(extent->taken * class->bucket_scale >> MAAS_SLAB_BUCKET_SHIFT);
}

/* The fullest extent with a free slab, or MAAS_SLAB_NONE. */
static inline uint32_t fullest(const struct maas_slab_class *class)
{
	uint32_t with_room = class->nonempty & ((1u << MAAS_SLAB_BUCKET_FULL) - 1);

	return with_room ? class->buckets[31 - __builtin_clz(with_room)] : MAAS_SLAB_NONE;
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
	bucket_add(slab, class, index, bucket_of(class, extent), true);
}

static uint32_t carve(struct maas_slab *slab, struct maas_slab_class *class)
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
	bucket_add(slab, class, index, 0, true);
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

/* The extent's next slot that was never used in this carving. */
static inline uint32_t pick_new(struct maas_slab *slab, uint32_t index,
				struct maas_slab_extent *extent)
{
	uint32_t slot_index = (index << slab->geo.slot_shift) + extent->bump++;
	struct maas_slab_slot *slot = &slab->slots[slot_index];

	slot->class_index = extent->class_index;
	slot->generation++;
	/* After the generation: a slot that has none is clean, or the table is damaged. */
	maas_slab_slot_set_state(slot, extent->stale ? MAAS_SLAB_SLOT_DIRTY : MAAS_SLAB_SLOT_CLEAN);
	return slot_index;
}

/* Takes a slot out of its extent's free list, or one that was never used. */
static inline uint32_t pick(struct maas_slab *slab, uint32_t index, struct maas_slab_extent *extent)
{
	uint32_t slot_index = extent->free_head;
	struct maas_slab_slot *slot = &slab->slots[slot_index];

	if (slot_index == MAAS_SLAB_NONE)
		return pick_new(slab, index, extent);
	if (maas_slab_slot_state(slot) == MAAS_SLAB_SLOT_DIRTY)
		extent->dirty--;
	extent->free_head = slot->link;
	slot->generation++;
	return slot_index;
}

uint32_t maas_slab_extent_take(struct maas_slab *slab, struct maas_slab_class *class)
{
	uint32_t index = fullest(class);
	struct maas_slab_extent *extent;
	uint32_t slot_index;
	uint8_t bucket;

	if (index == MAAS_SLAB_NONE)
		index = carve(slab, class);
	extent = &slab->extents[index];
	slot_index = pick(slab, index, extent);

	slab->steps++;
	class->free--;
	extent->taken++;
	bucket = bucket_of(class, extent);
	if (bucket != extent->bucket) {
		bucket_remove(slab, class, index);
		bucket_add(slab, class, index, bucket, true);
	}
	return slot_index;
}

void maas_slab_extent_join(struct maas_slab *slab, uint32_t slot_index,
			   enum maas_slab_slot_state state)
{
	uint32_t index = maas_slab_slot_extent(slab, slot_index);
	struct maas_slab_extent *extent = &slab->extents[index];
	struct maas_slab_class *class = &slab->classes[extent->class_index];
	struct maas_slab_slot *slot = &slab->slots[slot_index];
	uint8_t bucket;

	slot->link = extent->free_head;
	maas_slab_slot_set_state(slot, state);
	extent->free_head = slot_index;
	extent->dirty += state == MAAS_SLAB_SLOT_DIRTY;

	slab->steps++;
	class->free++;
	if (!--extent->taken) {
		uncarve(slab, class, index);
		return;
	}
	bucket = bucket_of(class, extent);
	if (bucket != extent->bucket) {
		bucket_remove(slab, class, index);
		bucket_add(slab, class, index, bucket, false);
	}
}
