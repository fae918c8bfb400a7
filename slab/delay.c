/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delay queue of a class: freed slabs wait in it, first in first out, before their bytes are
 * used again. Lock held.
 */
#include "slab/internal.h"

uint32_t maas_slab_delay_pop(struct maas_slab *slab, struct maas_slab_class *class)
{
	struct maas_slab_delay *delay = &class->delay;
	uint32_t slot = delay->ring[delay->popped++ % MAAS_SLAB_DELAY_FREES];

	assert(delay->popped <= delay->pushed);
	slab->steps++;
	/* The next pop comes with the next free, long after the slot was last in the cache. */
	__builtin_prefetch(&slab->slots[delay->ring[delay->popped % MAAS_SLAB_DELAY_FREES]], 1);
	return slot;
}

bool maas_slab_delay_cut(struct maas_slab *slab, struct maas_slab_class *class)
{
	for (unsigned int i = 0; !maas_slab_delay_count(&class->delay); i++) {
		if (i == slab->geo.num_classes)
			return false;
		class = &slab->classes[i];
	}
	maas_slab_extent_join(slab, maas_slab_delay_pop(slab, class), MAAS_SLAB_SLOT_DIRTY);
	return true;
}

void maas_slab_delay_rotate(struct maas_slab *slab, uint64_t now_ms)
{
	if (now_ms < slab->rotated_ms + MAAS_SLAB_DELAY_MS)
		return;
	slab->rotated_ms = now_ms;
	for (unsigned int i = 0; i < slab->geo.num_classes; i++) {
		struct maas_slab_delay *delay = &slab->classes[i].delay;

		slab->steps++;
		delay->due = delay->aging;
		delay->aging = delay->pushed;
	}
}
