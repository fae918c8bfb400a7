/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots: a record for each slot that ever needed one, in chunks that appear when one of their slots
 * first needs a record and then stay where they are: a slot that needs none costs nothing, and a
 * record is found in one step.
 */
#ifndef MAAS_LEND_SLOTS_H
#define MAAS_LEND_SLOTS_H

#include "base/base.h"

#define MAAS_LEND_SLOTS_CHUNK 64

struct maas_lend_slots {
	size_t record_bytes;
	uint32_t num_chunks;
	void **chunks;
};

/* Every slot is below `num_slots`. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_slots_init(struct maas_lend_slots *slots, uint32_t num_slots,
					 size_t record_bytes);
void maas_lend_slots_fini(struct maas_lend_slots *slots);
/* The record of `slot`; a new one is all zeroes. NULL: out of memory. */
void *maas_lend_slots_make(struct maas_lend_slots *slots, uint32_t slot);

/* The record of `slot`; NULL while no slot of its chunk ever needed one. */
static inline void *maas_lend_slots_find(const struct maas_lend_slots *slots, uint32_t slot)
{
	char *chunk = slots->chunks[slot / MAAS_LEND_SLOTS_CHUNK];

	return chunk ? chunk + slot % MAAS_LEND_SLOTS_CHUNK * slots->record_bytes : NULL;
}

#endif
