/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of slots: its memory and its header. It lies in memory or in a file, and is never
 * reachable by clients. Lock held, but for maas_slab_slot_zero().
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "slab/internal.h"

#define SLOTS_AT ((size_t)MAAS_SLAB_SLOT_HEADER_BYTES + MAAS_SLAB_ANNEX_BYTES)

size_t maas_slab_slots_bytes(const struct maas_slab_geometry *geo)
{
	size_t bytes = maas_slab_slots_offset(geo, geo->num_extents);

	if (geo->huge_bytes)
		bytes = (bytes + geo->huge_bytes - 1) / geo->huge_bytes * geo->huge_bytes;
	return bytes;
}

size_t maas_slab_slots_offset(const struct maas_slab_geometry *geo, uint32_t extent)
{
	return SLOTS_AT + ((size_t)extent << geo->slot_shift) * sizeof(struct maas_slab_slot);
}

/* Allocates a piece of the table's file, so that no full file system is met as a SIGBUS. */
static int back(struct maas_slab *slab, size_t offset, size_t bytes)
{
	int r;

	if (slab->slots_fd < 0)
		return 0;
	do
		r = fallocate(slab->slots_fd, 0, (off_t)offset, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -ENOSPC : 0;
}

int maas_slab_slots_back(struct maas_slab *slab, uint32_t extent)
{
	return back(slab, maas_slab_slots_offset(&slab->geo, extent),
		    sizeof(struct maas_slab_slot) << slab->geo.slot_shift);
}

static void init_header(struct maas_slab_slot_header *header, const struct maas_slab_geometry *geo)
{
	header->layout = MAAS_SLAB_SLOT_LAYOUT;
	header->num_classes = geo->num_classes;
	header->extent_bytes = geo->extent_bytes;
	header->max_bytes = geo->max_bytes;
	memcpy(header->class_bytes, geo->class_bytes, sizeof(header->class_bytes));
	maas_slab_id_key_random(&header->id_key);
	maas_slab_id_random(header->arena_id);
	header->created_s = maas_clock_wall_s();
	/* Last: a table without it is one whose making was cut off. */
	atomic_thread_fence(memory_order_release);
	memcpy(header->magic, MAAS_SLAB_SLOT_MAGIC, sizeof(header->magic));
}

int maas_slab_slots_open(struct maas_slab *slab, int fd, bool kept)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *map;
	int r;

	slab->slots_fd = fd;
	r = back(slab, 0, SLOTS_AT);
	if (r)
		return r;
	slab->slots_map_bytes = maas_slab_slots_bytes(&slab->geo);
	map = mmap(NULL, slab->slots_map_bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd,
		   0);
	if (map == MAP_FAILED)
		return -errno;
	/* An extent of large slabs uses a few slots of its many: huge pages would fill the gaps. */
	(void)madvise(map, slab->slots_map_bytes, MADV_NOHUGEPAGE);
	slab->header = map;
	slab->slots = (struct maas_slab_slot *)((char *)map + SLOTS_AT);
	if (!kept)
		init_header(slab->header, &slab->geo);
	return 0;
}

void maas_slab_slot_zero(struct maas_slab *slab, uint32_t slot)
{
	uint64_t slab_bytes = maas_slab_slot_class(slab, &slab->slots[slot])->slab_bytes;

	memset(slab->arena.base + maas_slab_slot_offset(slab, slot, slab_bytes), 0, slab_bytes);
}

void maas_slab_slots_close(struct maas_slab *slab)
{
	if (slab->header)
		munmap(slab->header, slab->slots_map_bytes);
	if (slab->slots_fd >= 0)
		close(slab->slots_fd);
	slab->header = NULL;
	slab->slots_fd = -1;
}
