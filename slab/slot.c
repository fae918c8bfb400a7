/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "slab/internal.h"

int maas_slots_open(struct maas_slab *slab)
{
	const struct maas_geometry *geo = &slab->geo;
	uint64_t num_slots = (uint64_t)geo->num_extents << geo->slot_shift;
	struct maas_slot_header *header;

	slab->slots_map_bytes = MAAS_SLOT_HEADER_BYTES + num_slots * sizeof(struct maas_slot);
	header = mmap(NULL, slab->slots_map_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (header == MAP_FAILED)
		return -errno;
	/* An extent of large slabs uses a few slots of its many: huge pages would fill the gaps. */
	(void)madvise(header, slab->slots_map_bytes, MADV_NOHUGEPAGE);

	memcpy(header->magic, "maasslot", sizeof(header->magic));
	header->layout = MAAS_SLOT_LAYOUT;
	header->num_classes = geo->num_classes;
	header->extent_bytes = geo->extent_bytes;
	header->max_bytes = geo->max_bytes;
	memcpy(header->class_bytes, geo->class_bytes, sizeof(header->class_bytes));
	maas_id_key_random(&header->id_key);
	maas_id_random(header->arena_id);
	slab->header = header;
	slab->slots = (struct maas_slot *)((char *)header + MAAS_SLOT_HEADER_BYTES);
	return 0;
}

void maas_slots_close(struct maas_slab *slab)
{
	if (slab->header)
		munmap(slab->header, slab->slots_map_bytes);
	slab->header = NULL;
}

struct maas_slot *maas_slot_find(struct maas_slab *slab, struct maas_slab_ref ref,
				 enum maas_slot_state state)
{
	uint32_t index = maas_slot_extent(slab, ref.slot);
	struct maas_slot *slot;

	if (index >= slab->geo.num_extents ||
	    maas_slot_place(slab, ref.slot) >= slab->extents[index].bump)
		return NULL;
	slot = &slab->slots[ref.slot];
	if (slot->generation != ref.generation || maas_slot_state(slot) != state)
		return NULL;
	return slot;
}
