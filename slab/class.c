/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size classes, and what the options come to: sizes of extents, numbers of slots. Constant
 * after the start.
 */
#include <assert.h>
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <unistd.h>

#include "slab/internal.h"

static void sort(uint64_t *values, unsigned int count)
{
	for (unsigned int i = 1; i < count; i++) {
		uint64_t value = values[i];
		unsigned int at = i;

		for (; at && values[at - 1] > value; at--)
			values[at] = values[at - 1];
		values[at] = value;
	}
}

#define refuse(error, ...) maas_slab_refuse(error, -EINVAL, __VA_ARGS__)

static int validate_classes(const struct maas_slab_geometry *geo, char *error)
{
	char text[MAAS_SIZE_TEXT];

	for (unsigned int i = 0; i < geo->num_classes; i++) {
		uint64_t bytes = geo->class_bytes[i];

		maas_size_format(bytes, text);
		if (!bytes || bytes % MAAS_SLAB_MIN_CLASS)
			return refuse(error, "--slab-sizes: %s is not a multiple of %d bytes", text,
				      MAAS_SLAB_MIN_CLASS);
		if (bytes > MAAS_SLAB_MAX_CLASS)
			return refuse(error, "--slab-sizes: %s is larger than 1GiB", text);
		if (i && geo->class_bytes[i - 1] == bytes)
			return refuse(error, "--slab-sizes: %s is listed twice", text);
	}
	return 0;
}

static int validate_extent(const struct maas_slab_geometry *geo, uint64_t page_bytes, char *error)
{
	uint64_t largest = geo->class_bytes[geo->num_classes - 1];
	char text[MAAS_SIZE_TEXT];
	char other[MAAS_SIZE_TEXT];

	maas_size_format(geo->extent_bytes, text);
	if (geo->extent_bytes < largest)
		return refuse(error,
			      "--extent-size: %s is smaller than %s, the largest of --slab-sizes",
			      text, maas_size_format(largest, other));
	if (geo->extent_bytes % page_bytes)
		return refuse(error, "--extent-size: %s is not a multiple of the page size, %s",
			      text, maas_size_format(page_bytes, other));
	if (geo->extent_bytes > MAAS_SLAB_MAX_EXTENT)
		return refuse(error, "--extent-size: %s is larger than 1GiB", text);
	return 0;
}

static int set_extents(struct maas_slab_geometry *geo, uint64_t max_bytes, char *error)
{
	uint64_t count = max_bytes / geo->extent_bytes;
	uint64_t slots;
	char text[MAAS_SIZE_TEXT];
	char other[MAAS_SIZE_TEXT];

	assert(geo->class_bytes[0]);
	slots = geo->extent_bytes / geo->class_bytes[0];
	maas_size_format(max_bytes, text);
	if (!count)
		return refuse(error,
			      "--max-pool-size: %s is smaller than one extent, %s (--extent-size)",
			      text, maas_size_format(geo->extent_bytes, other));
	while (1ull << geo->slot_shift < slots)
		geo->slot_shift++;
	if (count > (MAAS_SLAB_NONE - 1) >> geo->slot_shift)
		return refuse(error,
			      "--max-pool-size: %s is more than 4294967294 slabs of %s, the "
			      "smallest of --slab-sizes",
			      text, maas_size_format(geo->class_bytes[0], other));
	geo->num_extents = (uint32_t)count;
	geo->max_bytes = count * geo->extent_bytes;
	return 0;
}

int maas_slab_geometry_init(struct maas_slab_geometry *geo, const struct maas_slab_options *options,
			    char *error)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	struct statfs fs;
	int r;

	*geo = (struct maas_slab_geometry){.num_classes = options->num_classes};
	r = maas_slab_arena_fs(options, &fs);
	if (r)
		return maas_slab_refuse(error, r,
					"--memory-file: cannot look at its file system: %s",
					strerror(-r));
	if (fs.f_type == HUGETLBFS_MAGIC) {
		geo->huge_bytes = (uint64_t)fs.f_bsize;
		page_bytes = geo->huge_bytes;
	}
	if (!geo->num_classes || geo->num_classes > MAAS_SLAB_MAX_CLASSES)
		return refuse(error, "--slab-sizes: %u sizes given, 1 to %d are possible",
			      geo->num_classes, MAAS_SLAB_MAX_CLASSES);
	memcpy(geo->class_bytes, options->class_bytes,
	       geo->num_classes * sizeof(geo->class_bytes[0]));
	sort(geo->class_bytes, geo->num_classes);
	r = validate_classes(geo, error);
	if (r)
		return r;

	geo->extent_bytes = options->extent_bytes;
	if (!geo->extent_bytes) {
		geo->extent_bytes = geo->class_bytes[geo->num_classes - 1] + page_bytes - 1;
		geo->extent_bytes -= geo->extent_bytes % page_bytes;
	}
	r = validate_extent(geo, page_bytes, error);
	if (r)
		return r;
	return set_extents(geo, options->max_bytes, error);
}

void maas_slab_class_init(struct maas_slab_class *class, uint64_t slab_bytes, uint64_t extent_bytes)
{
	class->slab_bytes = slab_bytes;
	class->capacity = (uint32_t)(extent_bytes / slab_bytes);
	for (unsigned int b = 0; b < MAAS_SLAB_BUCKETS; b++)
		class->heads[b] = MAAS_SLAB_NONE;
}
