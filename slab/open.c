/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a pool. Nobody else knows it yet, or any more: no lock. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "slab/internal.h"

/* What could not be done, for the operator; returns `r`. */
static int explain(char *error, const char *what, int r)
{
	return maas_slab_refuse(error, r, "%s: %s", what, strerror(-r));
}

static int open_files(const struct maas_slab *slab, const struct maas_slab_options *options,
		      char *error, struct maas_slab_file *ret_file)
{
	if (options->file)
		return maas_slab_file_open(&slab->geo, options->file, error, ret_file);
	*ret_file = (struct maas_slab_file){
		.bytes_fd = memfd_create("maas-arena", MFD_CLOEXEC),
		.slots_fd = -1,
	};
	if (ret_file->bytes_fd < 0)
		return explain(error, "--max-pool-size: cannot make the pool's memory", -errno);
	return 0;
}

static int open_memory(struct maas_slab *slab, const struct maas_slab_options *options, char *error)
{
	struct maas_slab_file file;
	int r;

	r = open_files(slab, options, error, &file);
	if (r)
		return r;
	slab->slots_fd = file.slots_fd;
	slab->made = file.made;
	r = maas_slab_arena_open(&slab->arena, file.bytes_fd, slab->geo.max_bytes);
	if (r)
		return explain(error, "--max-pool-size: cannot reserve the pool's memory", r);
	r = maas_slab_slots_open(slab, file.slots_fd, file.kept);
	if (r == -ENOSPC)
		return explain(error, "--memory-file: no table of slabs (8 MiB and more)", r);
	if (!r)
		r = maas_slab_extents_open(slab);
	if (r)
		return explain(error, "--max-pool-size: cannot reserve the table of slabs", r);
	if (file.kept)
		r = maas_slab_guard_wait(slab->header, options, error);
	if (!r && file.kept)
		r = maas_slab_restore(slab, options, error);
	if (!r)
		maas_slab_guard_sign(slab->header);
	return r;
}

/* Nobody else knows the pool yet: no lock. */
static int prealloc(struct maas_slab *slab, const struct maas_slab_options *options, char *error)
{
	uint64_t extent_bytes = slab->geo.extent_bytes;
	uint64_t total_bytes = (slab->geo.num_extents - slab->grown) * extent_bytes;
	int r;

	/* The last first, so that the pool is filled from its start. */
	for (uint32_t i = slab->geo.num_extents; i-- > slab->grown;) {
		r = maas_slab_tick(options, (slab->geo.num_extents - 1 - i) * extent_bytes,
				   total_bytes);
		if (r)
			return r;
		r = maas_slab_slots_back(slab, i);
		if (!r)
			r = maas_slab_arena_back(&slab->arena, i * extent_bytes, extent_bytes);
		if (r)
			return explain(error, "--prealloc: cannot allocate all of --max-pool-size",
				       r);
		maas_slab_extent_to_common(slab, i);
	}
	maas_slab_set_grown(slab, slab->geo.num_extents);
	return 0;
}

int maas_slab_open(const struct maas_slab_options *options, char *error,
		   struct maas_slab **ret_slab)
{
	struct maas_slab *slab;
	int r;

	if (sodium_init() < 0)
		return explain(error, "libsodium does not start", -EIO);
	slab = calloc(1, sizeof(*slab));
	if (!slab)
		return explain(error, "cannot make the pool", -ENOMEM);
	slab->slots_fd = -1;
	slab->arena.fd = -1;
	r = maas_slab_geometry_init(&slab->geo, options, error);
	if (r)
		goto err_close;
	for (unsigned int i = 0; i < slab->geo.num_classes; i++)
		maas_slab_class_init(&slab->classes[i], slab->geo.class_bytes[i],
				     slab->geo.extent_bytes);
	r = open_memory(slab, options, error);
	if (!r && options->prealloc)
		r = prealloc(slab, options, error);
	if (r)
		goto err_close;
	*ret_slab = slab;
	return 0;

err_close:
	maas_slab_discard(slab);
	return r;
}

static bool has_lent(const struct maas_slab *slab)
{
	uint64_t allocations = 0;

	for (unsigned int i = 0; i < slab->geo.num_classes; i++)
		allocations += slab->classes[i].allocations;
	return allocations;
}

void maas_slab_discard(struct maas_slab *slab)
{
	if (slab && slab->made.path && !has_lent(slab)) {
		const struct maas_slab_file file = {
			.bytes_fd = slab->arena.fd, .slots_fd = slab->slots_fd, .made = slab->made};

		maas_slab_file_undo(&file);
	}
	maas_slab_close(slab);
}

void maas_slab_close(struct maas_slab *slab)
{
	if (!slab)
		return;
	maas_slab_extents_close(slab);
	maas_slab_slots_close(slab);
	maas_slab_arena_close(&slab->arena);
	free(slab->made.path);
	free(slab);
}
