/* SPDX-License-Identifier: Apache-2.0 */
/* A record for each slot that ever needed one, in chunks that appear when they are first needed. */
#include <errno.h>
#include <stdlib.h>

#include "lend/internal.h"

int maas_lend_slots_init(struct maas_lend_slots *slots, uint32_t num_slots, size_t record_bytes)
{
	slots->record_bytes = record_bytes;
	slots->num_chunks = num_slots / MAAS_LEND_SLOTS_CHUNK + 1;
	/* Resident only where it is used, as the chunks are: it never has to be moved. */
	slots->chunks = calloc(slots->num_chunks, sizeof(*slots->chunks));
	return slots->chunks ? 0 : -ENOMEM;
}

void maas_lend_slots_fini(struct maas_lend_slots *slots)
{
	if (!slots->chunks)
		return;
	for (uint32_t i = 0; i < slots->num_chunks; i++)
		free(slots->chunks[i]);
	free(slots->chunks);
}

void *maas_lend_slots_make(struct maas_lend_slots *slots, uint32_t slot)
{
	uint32_t chunk = slot / MAAS_LEND_SLOTS_CHUNK;

	assert(chunk < slots->num_chunks);
	if (!slots->chunks[chunk])
		slots->chunks[chunk] = calloc(MAAS_LEND_SLOTS_CHUNK, slots->record_bytes);
	return maas_lend_slots_find(slots, slot);
}
