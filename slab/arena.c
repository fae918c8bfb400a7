/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes: a reserved range of addresses over a memfd or a file, to which pages are given extent
 * by extent. No lock: the pool sees to it that one thread at a time adds an extent.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "slab/internal.h"

/* Of a file that is yet to be made: of its directory. */
static int find_fs(const struct maas_slab_options *options, struct statfs *fs)
{
	char *path;
	int r;

	if (!options->file)
		return 0;
	path = strdup(options->file);
	if (!path)
		return -1;
	r = statfs(dirname(path), fs);
	free(path);
	return r;
}

int maas_slab_arena_fs(const struct maas_slab_options *options, struct statfs *ret_fs)
{
	struct statfs fs = {0};

	if (find_fs(options, &fs) < 0)
		return -errno;
	*ret_fs = fs;
	return 0;
}

int maas_slab_arena_open(struct maas_slab_arena *arena, int fd, uint64_t bytes)
{
	void *base;

	arena->fd = fd;
	if (ftruncate(arena->fd, (off_t)bytes) < 0)
		return -errno;
	/* hugetlbfs would otherwise set aside huge pages for the whole range at once */
	base = mmap(NULL, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, arena->fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* Both are hints: a kernel without them serves as well. */
	(void)madvise(base, bytes, MADV_HUGEPAGE);
	(void)madvise(base, bytes, MADV_DONTDUMP);
	arena->base = base;
	arena->bytes = bytes;
	return 0;
}

int maas_slab_arena_back(struct maas_slab_arena *arena, uint64_t offset, uint64_t bytes)
{
	int r;

	do
		r = fallocate(arena->fd, 0, (off_t)offset, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		if (errno != ENOSPC)
			log_warn("cannot allocate an extent offset=%llu bytes=%llu error=\"%s\"",
				 (unsigned long long)offset, (unsigned long long)bytes,
				 strerror(errno));
		return -ENOSPC;
	}
	if (mprotect(arena->base + offset, bytes, PROT_READ | PROT_WRITE) < 0) {
		log_warn("cannot map an extent offset=%llu error=\"%s\"",
			 (unsigned long long)offset, strerror(errno));
		return -ENOSPC;
	}
	/* The pages exist; this only spares later page faults. */
	(void)madvise(arena->base + offset, bytes, MADV_POPULATE_WRITE);
	return 0;
}

void maas_slab_arena_close(struct maas_slab_arena *arena)
{
	if (arena->base)
		munmap(arena->base, arena->bytes);
	if (arena->fd >= 0)
		close(arena->fd);
	arena->base = NULL;
	arena->fd = -1;
}
