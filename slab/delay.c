/* SPDX-License-Identifier: Apache-2.0 */
#include "slab/internal.h"

void maas_delay_push(struct maas_slab *slab, struct maas_class *class, uint32_t slot)
{
	struct maas_delay *delay = &class->delay;

	slab->steps++;
	if (delay->count++)
		slab->slots[delay->tail].link = slot;
	else
		delay->head = slot;
	delay->tail = slot;
}

uint32_t maas_delay_pop(struct maas_slab *slab, struct maas_class *class)
{
	struct maas_delay *delay = &class->delay;
	uint32_t slot = delay->head;

	assert(delay->count);
	slab->steps++;
	/* The last one's link was never set: `count` says where the queue ends. */
	delay->head = slab->slots[slot].link;
	delay->count--;
	if (delay->due)
		delay->due--;
	else if (delay->aging)
		delay->aging--;
	return slot;
}

bool maas_delay_cut(struct maas_slab *slab, struct maas_class *class)
{
	for (unsigned int i = 0; !class->delay.count && i < slab->geo.num_classes; i++)
		class = &slab->classes[i];
	if (!class->delay.count)
		return false;
	maas_extent_join(slab, maas_delay_pop(slab, class), MAAS_SLOT_DIRTY);
	return true;
}

void maas_delay_rotate(struct maas_slab *slab, uint64_t now_ms)
{
	if (now_ms < slab->rotated_ms + MAAS_DELAY_MS)
		return;
	slab->rotated_ms = now_ms;
	for (unsigned int i = 0; i < slab->geo.num_classes; i++) {
		struct maas_delay *delay = &slab->classes[i].delay;

		slab->steps++;
		delay->due += delay->aging;
		delay->aging = delay->count - delay->due;
	}
}
