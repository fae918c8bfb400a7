/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of a pool, in O(classes), under its lock. */
#include "slab/internal.h"

static void add_class(const struct maas_slab_class *class, struct maas_slab_class_stats *ret_class,
		      struct maas_slab_stats *sum)
{
	uint64_t used = maas_slab_class_used(class);

	*ret_class = (struct maas_slab_class_stats){
		.slab_bytes = class->slab_bytes,
		.pool_bytes = class->extents * sum->extent_bytes,
		.requested_bytes = class->requested_bytes,
		.total_slabs = maas_slab_class_total(class),
		.used_slabs = used,
		.waiting_slabs = maas_slab_delay_count(&class->delay) + class->zeroing,
		.quarantined_slabs = class->quarantined,
		.free_slabs = class->free,
	};
	sum->extents_used += class->extents;
	sum->allocations += class->allocations;
	sum->live_slabs += used;
	sum->live_bytes += used * class->slab_bytes;
	sum->requested_bytes += class->requested_bytes;
	sum->quarantined_bytes += class->quarantined * class->slab_bytes;
}

void maas_slab_stats(struct maas_slab *slab, struct maas_slab_stats *ret_stats)
{
	/* Not all of it: of 32 classes most are not there. */
	memset(ret_stats, 0, offsetof(struct maas_slab_stats, classes));
	ret_stats->max_bytes = slab->geo.max_bytes;
	ret_stats->extent_bytes = slab->geo.extent_bytes;
	ret_stats->extents_total = slab->geo.num_extents;
	ret_stats->has_file = slab->slots_fd >= 0;
	ret_stats->num_classes = slab->geo.num_classes;
	maas_lock_take(&slab->lock);
	ret_stats->backed_bytes = slab->grown * slab->geo.extent_bytes;
	ret_stats->short_of_space = slab->short_of_space;
	for (unsigned int i = 0; i < ret_stats->num_classes; i++)
		add_class(&slab->classes[i], &ret_stats->classes[i], ret_stats);
	maas_lock_release(&slab->lock);
	ret_stats->frees = ret_stats->allocations - ret_stats->live_slabs;
	ret_stats->allocations -= slab->kept;
}

uint64_t maas_slab_steps(const struct maas_slab *slab)
{
	return slab->steps;
}

const struct maas_slab_id_key *maas_slab_id_key(const struct maas_slab *slab)
{
	return &slab->header->id_key;
}

const char *maas_slab_arena_id(const struct maas_slab *slab)
{
	return slab->header->arena_id;
}

uint64_t maas_slab_created_s(const struct maas_slab *slab)
{
	return slab->header->created_s;
}

void *maas_slab_annex(const struct maas_slab *slab)
{
	return (char *)slab->header + MAAS_SLAB_SLOT_HEADER_BYTES;
}

void maas_slab_area(const struct maas_slab *slab, struct maas_slab_area *ret_area)
{
	*ret_area = (struct maas_slab_area){
		.base = slab->arena.base,
		.bytes = slab->geo.max_bytes,
		.extent_bytes = slab->geo.extent_bytes,
		.num_slots = slab->geo.num_extents << slab->geo.slot_shift,
	};
}
