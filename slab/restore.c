/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another process left the table; nobody else knows the pool yet, so there is no lock. Live slabs
 * stay as they are, and all others are free: also one that was revoking or in quarantine, because
 * the keys to it ended with that process.
 *
 * The table is a file, and so not to be trusted: what contradicts itself is refused.
 */
#include <errno.h>

#include "slab/internal.h"

static int damaged(char *error, uint32_t slot)
{
	maas_slab_refuse(error, -EUCLEAN,
			 "--memory-file: its table is damaged at slot %u; put a good copy back, or "
			 "remove the file and its .slots to begin anew, what they hold is lost",
			 slot);
	return -EUCLEAN;
}

/*
 * What holds for every slot at every moment, in the middle of an allocation too: a generation comes
 * before a state.
 */
static bool is_sound(const struct maas_slab *slab, const struct maas_slab_slot *slot,
		     uint32_t place)
{
	uint8_t state = maas_slab_slot_state(slot);

	if (state > MAAS_SLAB_SLOT_LAST_STATE || slot->class_index >= slab->geo.num_classes)
		return false;
	if (!slot->generation)
		return state == MAAS_SLAB_SLOT_CLEAN;
	if (place >= slab->classes[slot->class_index].capacity)
		return false;
	return state != MAAS_SLAB_SLOT_RETIRED || slot->generation == UINT32_MAX;
}

/* A slot whose generations are used up is kept back for ever. */
static bool is_retired(const struct maas_slab_slot *slot)
{
	return slot->generation == UINT32_MAX && maas_slab_slot_state(slot) != MAAS_SLAB_SLOT_LIVE;
}

static bool is_taken(const struct maas_slab_slot *slot)
{
	return maas_slab_slot_state(slot) == MAAS_SLAB_SLOT_LIVE || is_retired(slot);
}

/* Looks at the taken slots of one extent: how many, up to which place, of which class. The others
 * are free from now on, those above that place too: no ref finds them. */
static int survey(struct maas_slab *slab, uint32_t index, struct maas_slab_extent *ret_extent,
		  char *error)
{
	uint32_t first = index << slab->geo.slot_shift;
	struct maas_slab_extent extent = {.free_head = MAAS_SLAB_NONE, .stale = true};

	for (uint32_t place = 0; place < 1u << slab->geo.slot_shift; place++) {
		struct maas_slab_slot *slot = &slab->slots[first + place];

		if (!is_sound(slab, slot, place))
			return damaged(error, first + place);
		if (!is_taken(slot)) {
			if (slot->generation)
				maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_DIRTY);
			continue;
		}
		if (!extent.taken)
			extent.class_index = slot->class_index;
		if (slot->class_index != extent.class_index || !slot->size_bytes ||
		    slot->size_bytes > slab->classes[slot->class_index].slab_bytes)
			return damaged(error, first + place);
		extent.taken++;
		extent.bump = place + 1;
		extent.carved = true;
	}
	*ret_extent = extent;
	return 0;
}

/* Chains what is free below the bump, the first place first. */
static void chain_free(struct maas_slab *slab, uint32_t index, struct maas_slab_extent *extent)
{
	struct maas_slab_class *class = &slab->classes[extent->class_index];
	uint32_t first = index << slab->geo.slot_shift;

	for (uint32_t place = extent->bump; place--;) {
		struct maas_slab_slot *slot = &slab->slots[first + place];

		if (is_retired(slot)) {
			maas_slab_slot_set_state(slot, MAAS_SLAB_SLOT_RETIRED);
			class->quarantined++;
		} else if (is_taken(slot)) {
			class->allocations++;
			class->requested_bytes += slot->size_bytes;
		} else {
			slot->class_index = extent->class_index;
			slot->link = extent->free_head;
			extent->free_head = first + place;
			extent->dirty++;
		}
	}
}

static int restore_extent(struct maas_slab *slab, uint32_t index, char *error)
{
	uint64_t bytes = slab->geo.extent_bytes;
	struct maas_slab_extent extent;
	int r;

	r = maas_slab_slots_back(slab, index);
	if (!r)
		r = maas_slab_arena_back(&slab->arena, index * bytes, bytes);
	if (r)
		return maas_slab_refuse(
			error, r, "--memory-file: its file system has no space for what it held");
	r = survey(slab, index, &extent, error);
	if (r)
		return r;
	if (extent.carved) {
		chain_free(slab, index, &extent);
		maas_slab_extent_restore(slab, index, &extent);
	} else {
		slab->extents[index] = extent;
		maas_slab_extent_to_common(slab, index);
	}
	return 0;
}

int maas_slab_restore(struct maas_slab *slab, const struct maas_slab_options *options, char *error)
{
	uint32_t grown = slab->header->grown;
	uint64_t bytes = slab->geo.extent_bytes;
	int r;

	/* The last first, so that the pool is filled from its start. */
	for (uint32_t i = grown; i--;) {
		r = maas_slab_tick(options, (grown - 1 - i) * bytes, grown * bytes);
		if (!r)
			r = restore_extent(slab, i, error);
		if (r)
			return r;
	}
	maas_slab_set_grown(slab, grown);
	for (unsigned int i = 0; i < slab->geo.num_classes; i++)
		slab->kept += slab->classes[i].allocations;
	log_info("memory kept allocations=%llu extents=%u arena=%.36s",
		 (unsigned long long)slab->kept, grown, slab->header->arena_id);
	return 0;
}
