/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeroing freed slabs in the background: they are taken off the delay queues under the lock, zeroed
 * without it, and put into their extents' free lists under it again.
 */
#include "slab/internal.h"

/* A chain of slots through their links, taken off the delay queues. */
struct chain {
	uint32_t head;
	uint32_t count;
	uint64_t bytes;
};

/* Takes one step's due slabs, `done` bytes of `max_bytes` being spent; one slab may exceed both. */
static struct chain take_due(struct maas_slab *slab, uint64_t done, uint64_t max_bytes)
{
	struct chain chain = {.head = MAAS_SLAB_NONE};

	for (unsigned int i = 0; i < slab->geo.num_classes; i++) {
		struct maas_slab_class *class = &slab->classes[i];

		while (class->delay.popped < class->delay.due) {
			uint64_t bytes = chain.bytes + class->slab_bytes;
			uint32_t index;

			if ((chain.count && bytes > MAAS_SLAB_RECLAIM_STEP) ||
			    ((chain.count || done) && done + bytes > max_bytes))
				return chain;
			index = maas_slab_delay_pop(slab, class);
			slab->slots[index].link = chain.head;
			chain.head = index;
			chain.count++;
			chain.bytes = bytes;
			class->zeroing++;
			slab->zeroing++;
		}
	}
	return chain;
}

static void zero(struct maas_slab *slab, struct chain chain)
{
	for (uint32_t i = chain.head; i != MAAS_SLAB_NONE; i = slab->slots[i].link)
		maas_slab_slot_zero(slab, i);
}

static void give_back(struct maas_slab *slab, struct chain chain)
{
	uint32_t next;

	for (uint32_t i = chain.head; i != MAAS_SLAB_NONE; i = next) {
		next = slab->slots[i].link;
		maas_slab_slot_class(slab, &slab->slots[i])->zeroing--;
		maas_slab_extent_join(slab, i, MAAS_SLAB_SLOT_CLEAN);
	}
	slab->zeroing -= chain.count;
	maas_lock_cond_wake(&slab->changed);
}

/* In small steps: an allocation that finds the pool exhausted may be waiting for these slabs. */
uint64_t maas_slab_reclaim(struct maas_slab *slab, uint64_t now_ms, uint64_t max_bytes)
{
	uint64_t done = 0;
	struct chain chain;

	maas_lock_take(&slab->lock);
	maas_slab_delay_rotate(slab, now_ms);
	do {
		chain = take_due(slab, done, max_bytes);
		if (!chain.count)
			break;
		maas_lock_release(&slab->lock);
		zero(slab, chain);
		maas_lock_take(&slab->lock);
		give_back(slab, chain);
		done += chain.bytes;
	} while (done < max_bytes);
	maas_lock_release(&slab->lock);
	return done;
}
