/* SPDX-License-Identifier: Apache-2.0 */
/* A map of the pool: what its extents are carved for, and how full they are. Under the pool's lock,
 * some extents at a time. */
#include <errno.h>

#include "slab/internal.h"

#define STEP_EXTENTS 1024 /* under one hold of the lock */

int maas_slab_map_start(const struct maas_slab *slab, struct maas_slab_map *map)
{
	uint32_t extents = slab->geo.num_extents;

	if (extents > MAAS_SLAB_MAP_EXTENTS)
		return -E2BIG;
	*map = (struct maas_slab_map){.extents = extents, .per_entry = 1};
	while (extents > map->per_entry * MAAS_SLAB_MAP_ENTRIES)
		map->per_entry *= 2;
	return 0;
}

static void add(struct maas_slab_map_entry *entry, const struct maas_slab_class *class,
		const struct maas_slab_extent *extent)
{
	if (!entry->slabs)
		entry->slab_bytes = class->slab_bytes;
	else if (entry->slab_bytes != class->slab_bytes)
		entry->slab_bytes = 0;
	entry->slabs += class->capacity;
	entry->taken += extent->taken;
	entry->taken_bytes += extent->taken * class->slab_bytes;
}

bool maas_slab_map_next(struct maas_slab *slab, struct maas_slab_map *map)
{
	uint32_t end = map->cursor + STEP_EXTENTS;
	bool more;

	maas_lock_take(&slab->lock);
	/* Behind these no extent was ever handed out. */
	more = end < slab->grown;
	if (!more)
		end = slab->grown;
	for (; map->cursor < end; map->cursor++) {
		const struct maas_slab_extent *extent = &slab->extents[map->cursor];
		uint32_t at = map->cursor / map->per_entry;

		if (!extent->carved)
			continue;
		add(&map->entries[at], &slab->classes[extent->class_index], extent);
		map->count = at + 1;
	}
	maas_lock_release(&slab->lock);
	return more;
}
