/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table of a --memory-file must say before anything is made of it. It is a file, and so
 * not to be trusted; and what it describes is other people's, and so never begun anew unless it is
 * certain that nothing is lent from it. Then it may be, even while a device still writes for the
 * process before: what begins anew has other pages, and another key for its ids.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slab/internal.h"

#define READ_BYTES 16384
#define IN_USE                                                                                     \
	", and slabs are lent from it; start as it was made, or remove it and its .slots to "      \
	"begin anew, what they hold is lost"

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

/* A slot that is lent, or that nobody wrote so. */
static bool is_lent(const unsigned char *slot)
{
	uint8_t state = slot[offsetof(struct maas_slab_slot, state)];

	return state == MAAS_SLAB_SLOT_LIVE || state > MAAS_SLAB_SLOT_LAST_STATE;
}

static bool has_content(const unsigned char *bytes, size_t len)
{
	return !is_zero(bytes, len);
}

static bool has_lent(const unsigned char *slots, size_t len)
{
	for (size_t at = 0; at < len; at += sizeof(struct maas_slab_slot))
		if (is_lent(slots + at))
			return true;
	return false;
}

/* Looks for what `has` finds in a file's range, which begins and ends with a slot if it is of
 * slots; holes cost nothing. Returns 1 when it is there, 0 when not. Errors: of lseek(2),
 * pread(2). */
static int find(int fd, uint64_t from, uint64_t to,
		bool (*has)(const unsigned char *bytes, size_t len))
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
		if (has(bytes, (size_t)len))
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

static int refuse_read(const char *path, int r, char *error)
{
	return maas_slab_refuse(error, r, "--memory-file: cannot read %.150s: %s", path,
				strerror(-r));
}

/* What shows that no version has written this header, whatever its options; NULL: nothing does, and
 * `ret_made` is what it was made with. */
static const char *find_nonsense(const struct maas_slab_slot_header *header, const char *path,
				 struct maas_slab_geometry *ret_made)
{
	const struct maas_slab_options options = {
		.max_bytes = header->max_bytes,
		.class_bytes = header->class_bytes,
		.num_classes = header->num_classes,
		.extent_bytes = header->extent_bytes,
		.file = path,
	};

	if (!header->num_classes || header->num_classes > MAAS_SLAB_MAX_CLASSES)
		return "its number of size classes";
	if (maas_slab_geometry_init(ret_made, &options, NULL) ||
	    ret_made->extent_bytes != header->extent_bytes ||
	    ret_made->max_bytes != header->max_bytes ||
	    memcmp(ret_made->class_bytes, header->class_bytes, sizeof(header->class_bytes)) != 0)
		return "its sizes";
	if (!maas_slab_id_is_text(header->arena_id))
		return "its arena id";
	if (is_zero(&header->id_key, sizeof(header->id_key)))
		return "its key";
	if (header->pid < 0 || header->guard.writers > MAAS_SLAB_WRITERS_DEVICE)
		return "its last process";
	return NULL;
}

static int check_header(const struct maas_slab_slot_header *header, const char *path, char *error,
			struct maas_slab_geometry *ret_made)
{
	const char *nonsense;

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
	nonsense = find_nonsense(header, path, ret_made);
	return nonsense ? damaged(path, nonsense, error) : 0;
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
	r = find(file->slots_fd, maas_slab_slots_offset(geo, header->grown),
		 maas_slab_slots_bytes(geo), has_content);
	/* A hugetlbfs does not tell its holes; to read all of them would take long. */
	if (!r && !geo->huge_bytes)
		r = find(file->bytes_fd, header->grown * geo->extent_bytes, geo->max_bytes,
			 has_content);
	if (r < 0)
		return refuse_read(path, r, error);
	return r ? damaged(path, "it counts fewer extents than were used", error) : 0;
}

/* Names the first option in which `made` is not `geo`; NULL: they are the same. */
static const char *find_difference(const struct maas_slab_geometry *made,
				   const struct maas_slab_geometry *geo, uint64_t *ret_made,
				   uint64_t *ret_now)
{
	*ret_made = made->extent_bytes;
	*ret_now = geo->extent_bytes;
	if (*ret_made != *ret_now)
		return "--extent-size";
	*ret_made = made->max_bytes;
	*ret_now = geo->max_bytes;
	if (*ret_made != *ret_now)
		return "--max-pool-size";
	*ret_made = *ret_now = 0;
	return memcmp(made->class_bytes, geo->class_bytes, sizeof(geo->class_bytes))
		       ? "--slab-sizes"
		       : NULL;
}

/* A sound table: does it fit the options, or, where it does not, is nothing lent from it? */
static int check_fit(const struct maas_slab_geometry *made, const struct maas_slab_geometry *geo,
		     const struct maas_slab_file *file, char *error, bool *ret_kept)
{
	uint64_t made_bytes, now_bytes;
	const char *option = find_difference(made, geo, &made_bytes, &now_bytes);
	char was[MAAS_SIZE_TEXT];
	char now[MAAS_SIZE_TEXT];
	int r;

	*ret_kept = !option;
	if (!option)
		return 0;
	r = find(file->slots_fd, maas_slab_slots_offset(made, 0), maas_slab_slots_bytes(made),
		 has_lent);
	if (r <= 0)
		return r ? refuse_read(file->made.path, r, error) : 0;
	if (!made_bytes)
		return maas_slab_refuse(error, -EINVAL,
					"--memory-file: %.80s was made with other %s" IN_USE,
					file->made.path, option);
	return maas_slab_refuse(error, -EINVAL,
				"--memory-file: %.80s was made with %s %s, not %s" IN_USE,
				file->made.path, option, maas_size_format(made_bytes, was),
				maas_size_format(now_bytes, now));
}

static int check_kept(const struct maas_slab_slot_header *header,
		      const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
		      char *error, bool *ret_kept)
{
	struct maas_slab_geometry made = {0};
	int r = check_header(header, file->made.path, error, &made);

	if (r)
		return r;
	if (size_of(file->slots_fd) != maas_slab_slots_bytes(&made) ||
	    size_of(file->bytes_fd) != made.max_bytes)
		return maas_slab_refuse(
			error, -EUCLEAN,
			"--memory-file: %.120s or its .slots was cut off, or is "
			"longer than it was; put a good copy of both back, or remove both "
			"to begin anew, what they hold is lost",
			file->made.path);
	r = check_grown(header, &made, file, error);
	return r ? r : check_fit(&made, geo, file, error, ret_kept);
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
	r = find(file->slots_fd, MAAS_SLAB_SLOT_HEADER_BYTES, slots_len, has_content);
	if (!r)
		r = find(file->bytes_fd, 0, bytes_len, has_content);
	if (r < 0)
		return refuse_read(path, r, error);
	if (r || header->grown)
		return damaged(path, "its first bytes are gone", error);
	return 0;
}

int maas_slab_table_check(const struct maas_slab_geometry *geo, const struct maas_slab_file *file,
			  char *error, bool *ret_kept)
{
	struct maas_slab_slot_header header = {0};
	int r;

	if (pread(file->slots_fd, &header, sizeof(header), 0) == sizeof(header) &&
	    !is_zero(header.magic, sizeof(header.magic)))
		return check_kept(&header, geo, file, error, ret_kept);
	r = check_unmade(&header, geo, file, error);
	if (!r)
		*ret_kept = false;
	return r;
}
