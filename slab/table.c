/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table of a --memory-file must say before anything is made of it. It is a file, and so
 * not to be trusted; and what it describes is other people's, and so never begun anew unless it is
 * certain that nothing was lent from it.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slab/internal.h"

#define READ_BYTES 16384

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

static bool is_zero(const void *bytes, size_t len)
{
	const unsigned char *at = bytes;

	return !at[0] && !memcmp(at, at + 1, len - 1);
}

/* Looks for a byte that is not zero in a file's range; holes cost nothing. Returns 1 when there is
 * one, 0 when not. Errors: of lseek(2), pread(2). */
static int find_content(int fd, uint64_t from, uint64_t to)
{
	unsigned char bytes[READ_BYTES];

	while (from < to) {
		off_t data = lseek(fd, (off_t)from, SEEK_DATA);
		size_t want;
		ssize_t len;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0 && errno != EINVAL)
			return -errno;
		if (data > (off_t)from)
			from = (uint64_t)data;
		if (from >= to)
			return 0;
		want = to - from < sizeof(bytes) ? (size_t)(to - from) : sizeof(bytes);
		len = pread(fd, bytes, want, (off_t)from);
		if (len <= 0)
			return len < 0 ? -errno : 0;
		if (!is_zero(bytes, (size_t)len))
			return 1;
		from += (uint64_t)len;
	}
	return 0;
}

static int damaged(const char *path, const char *what, char *error)
{
	return maas_slab_refuse(error, -EUCLEAN,
				"--memory-file: %.100s.slots is damaged (%s); put a good copy "
				"back, or remove both files to begin anew, what they hold is lost",
				path, what);
}

static int check_size(const char *option, uint64_t is, uint64_t asked, const char *path,
		      char *error)
{
	char made[MAAS_SIZE_TEXT];
	char now[MAAS_SIZE_TEXT];

	if (is == asked)
		return 0;
	return maas_slab_refuse(error, -EINVAL,
				"--memory-file: %.80s was made with %s %s, not %s; start as it was "
				"made, or remove it and its .slots to begin anew",
				path, option, maas_size_format(is, made),
				maas_size_format(asked, now));
}

/* What shows that no version has written this header, whatever its options; NULL: nothing does. */
static const char *find_nonsense(const struct maas_slab_slot_header *header)
{
	if (!header->num_classes || header->num_classes > MAAS_SLAB_MAX_CLASSES)
		return "its number of size classes";
	if (!header->extent_bytes || header->max_bytes < header->extent_bytes ||
	    header->max_bytes % header->extent_bytes)
		return "its sizes";
	if (!maas_slab_id_is_text(header->arena_id))
		return "its arena id";
	if (is_zero(&header->id_key, sizeof(header->id_key)))
		return "its key";
	if (header->pid < 0 || header->guard.writers > MAAS_SLAB_WRITERS_DEVICE)
		return "its last process";
	return NULL;
}

static int check_header(const struct maas_slab_slot_header *header,
			const struct maas_slab_geometry *geo, const char *path, char *error)
{
	const char *nonsense;
	int r;

	if (memcmp(header->magic, MAAS_SLAB_SLOT_MAGIC, sizeof(header->magic)) != 0)
		return maas_slab_refuse(error, -EINVAL,
					"--memory-file: %.150s.slots is no table of slabs; "
					"name another file, or move it away",
					path);
	if (header->layout != MAAS_SLAB_SLOT_LAYOUT)
		return maas_slab_refuse(error, -EINVAL,
					"--memory-file: %.120s is of layout %u and this maasd "
					"knows only %d; start the maasd that made it, or remove "
					"it and its .slots to begin anew",
					path, header->layout, MAAS_SLAB_SLOT_LAYOUT);
	nonsense = find_nonsense(header);
	if (nonsense)
		return damaged(path, nonsense, error);
	r = check_size("--extent-size", header->extent_bytes, geo->extent_bytes, path, error);
	if (!r)
		r = check_size("--max-pool-size", header->max_bytes, geo->max_bytes, path, error);
	if (r)
		return r;
	if (header->num_classes != geo->num_classes ||
	    memcmp(header->class_bytes, geo->class_bytes, sizeof(header->class_bytes)) != 0)
		return maas_slab_refuse(error, -EINVAL,
					"--memory-file: %.120s was made with other --slab-sizes; "
					"start as it was made, or remove it and its .slots to "
					"begin anew",
					path);
	return 0;
}

/* Nothing is used beyond the extents that the header counts. */
static int check_grown(const struct maas_slab_slot_header *header,
		       const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
		       char *error)
{
	const char *path = file->made.path;
	int r;

	if (header->grown > geo->num_extents)
		return damaged(path, "its number of extents", error);
	r = find_content(file->slots_fd, maas_slab_slots_offset(geo, header->grown),
			 maas_slab_slots_bytes(geo));
	/* A hugetlbfs does not tell its holes; to read all of them would take long. */
	if (!r && !geo->huge_bytes)
		r = find_content(file->bytes_fd, header->grown * geo->extent_bytes, geo->max_bytes);
	if (r < 0)
		return maas_slab_refuse(error, r, "--memory-file: cannot read %.150s: %s", path,
					strerror(-r));
	return r ? damaged(path, "it counts fewer extents than were used", error) : 0;
}

static int check_kept(const struct maas_slab_slot_header *header,
		      const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
		      char *error)
{
	int r = check_header(header, geo, file->made.path, error);

	if (r)
		return r;
	if (size_of(file->slots_fd) != maas_slab_slots_bytes(geo) ||
	    size_of(file->bytes_fd) != geo->max_bytes)
		return maas_slab_refuse(
			error, -EUCLEAN,
			"--memory-file: %.120s or its .slots was cut off, or is "
			"longer than it was; put a good copy of both back, or remove both "
			"to begin anew, what they hold is lost",
			file->made.path);
	return check_grown(header, geo, file, error);
}

/* A table without its first bytes: as its making leaves it when it is cut off, or damaged? */
static int check_unmade(const struct maas_slab_slot_header *header,
			const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
			char *error)
{
	const char *path = file->made.path;
	uint64_t slots_len = size_of(file->slots_fd);
	uint64_t bytes_len = size_of(file->bytes_fd);
	int r;

	if (!slots_len && bytes_len)
		return maas_slab_refuse(error, -EEXIST,
					"--memory-file: %.120s holds something else: it is not "
					"empty and its .slots is; name another file, or move it "
					"away",
					path);
	if ((slots_len && slots_len != maas_slab_slots_bytes(geo)) ||
	    (bytes_len && bytes_len != geo->max_bytes))
		return maas_slab_refuse(error, -EEXIST,
					"--memory-file: %.150s.slots is no table of slabs; "
					"name another file, or move it away",
					path);
	r = find_content(file->slots_fd, MAAS_SLAB_SLOT_HEADER_BYTES, slots_len);
	if (!r)
		r = find_content(file->bytes_fd, 0, bytes_len);
	if (r < 0)
		return maas_slab_refuse(error, r, "--memory-file: cannot read %.150s: %s", path,
					strerror(-r));
	if (r || header->grown)
		return damaged(path, "its first bytes are gone", error);
	return 0;
}

int maas_slab_table_check(const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
			  char *error, bool *ret_kept)
{
	struct maas_slab_slot_header header = {0};
	bool kept;
	int r;

	kept = pread(file->slots_fd, &header, sizeof(header), 0) == sizeof(header) &&
	       !is_zero(header.magic, sizeof(header.magic));
	r = kept ? check_kept(&header, geo, file, error) : check_unmade(&header, geo, file, error);
	if (!r)
		*ret_kept = kept;
	return r;
}
