/* SPDX-License-Identifier: Apache-2.0 */
/* What the file system of a --memory-file has for it, before it is made and while it is in use. */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "slab/internal.h"

#define BLOCK_BYTES 512 /* of st_blocks, everywhere */

static uint64_t held_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * BLOCK_BYTES;
}

/* A tmpfs or hugetlbfs without a size of its own counts no blocks. */
static uint64_t fs_bytes(const struct statfs *fs, uint64_t blocks)
{
	return fs->f_blocks ? blocks * (uint64_t)fs->f_bsize : UINT64_MAX;
}

int maas_slab_room(const struct maas_slab_options *options, char *error,
		   struct maas_slab_room *ret_room)
{
	struct maas_slab_room room = {.room_bytes = UINT64_MAX, .total_bytes = UINT64_MAX};
	struct maas_slab_geometry geo;
	struct statfs fs;
	char *table;
	int r;

	r = maas_slab_geometry_init(&geo, options, error);
	if (!r)
		r = maas_slab_arena_fs(options, &fs);
	if (r)
		return r;
	room.max_bytes = geo.max_bytes;
	room.extent_bytes = geo.extent_bytes;
	room.need_bytes = geo.max_bytes + maas_slab_slots_bytes(&geo);
	if (options->file) {
		if (asprintf(&table, "%s.slots", options->file) < 0)
			return maas_slab_refuse(error, -ENOMEM, "out of memory");
		room.held_bytes = held_bytes(options->file) + held_bytes(table);
		free(table);
		room.total_bytes = fs_bytes(&fs, (uint64_t)fs.f_blocks);
		room.room_bytes = fs_bytes(&fs, (uint64_t)fs.f_bavail);
		if (room.room_bytes != UINT64_MAX)
			room.room_bytes += room.held_bytes;
		room.huge = fs.f_type == HUGETLBFS_MAGIC;
		room.disk = !room.huge && fs.f_type != TMPFS_MAGIC;
	}
	if (room.room_bytes < maas_slab_slots_offset(&geo, 0))
		return maas_slab_refuse(error, -ENOSPC,
					"--memory-file: its file system has no room for a table of "
					"slabs (8 MiB and more)");
	*ret_room = room;
	return 0;
}

uint64_t maas_slab_room_left(const struct maas_slab *slab)
{
	struct statfs fs;

	if (slab->slots_fd < 0 || fstatfs(slab->slots_fd, &fs) < 0)
		return UINT64_MAX;
	return fs_bytes(&fs, (uint64_t)fs.f_bavail);
}

bool maas_slab_in_memory(const struct maas_slab *slab)
{
	struct statfs fs;

	return slab->slots_fd < 0 || (!fstatfs(slab->slots_fd, &fs) && fs.f_type == TMPFS_MAGIC);
}
