/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two files of --memory-file PATH: PATH holds the lent bytes and nothing else, PATH.slots the
 * table that says what they are. The lock is on PATH.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "slab/internal.h"

#define LOCK_MS 2000  /* for a process that was killed … */
#define WAIT_MS 10000 /* … and for its queue pairs, which the kernel ends with it */
#define NAP_NS	50000000L

MAAS_PRINTF(3, 4) static int refuse(char *error, int r, const char *fmt, ...)
{
	va_list args;

	if (error) {
		va_start(args, fmt);
		vsnprintf(error, MAAS_SLAB_ERROR, fmt, args);
		va_end(args);
	}
	return r;
}

static void nap(void)
{
	const struct timespec pause = {.tv_nsec = NAP_NS};

	nanosleep(&pause, NULL);
}

/* ---- the process before ---------------------------------------------------------------------- */

/* When a process started, in clock ticks since the host did; 0: there is none. */
static uint64_t start_of(int32_t pid)
{
	char path[32];
	char text[512];
	unsigned long long start = 0;
	const char *at;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	at = strrchr(text, ')'); /* its name may hold anything */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		start = strtoull(at, NULL, 10);
	return start;
}

int maas_file_wait(const struct maas_slot_header *header, char *error)
{
	uint64_t end_ms = maas_clock_ms() + WAIT_MS;

	if (header->pid <= 0 || header->pid == getpid())
		return 0;
	while (start_of(header->pid) == header->pid_start && header->pid_start) {
		if (maas_clock_ms() >= end_ms)
			return refuse(error, -EBUSY,
				      "--memory-file: process %d, which lent it before, is still "
				      "ending; try again when it is gone",
				      header->pid);
		nap();
	}
	return 0;
}

void maas_file_sign(struct maas_slot_header *header)
{
	header->pid = getpid();
	header->pid_start = start_of(header->pid);
}

/* ---- the files ------------------------------------------------------------------------------- */

static int open_regular(const char *path, char *error, int *ret_fd)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int r;

	if (fd < 0) {
		r = -errno;
		return refuse(error, r, "--memory-file: cannot open %.150s: %s", path,
			      strerror(-r));
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return refuse(error, -EINVAL, "--memory-file: %.150s is no regular file", path);
	}
	*ret_fd = fd;
	return 0;
}

static int lock(int fd, const char *path, char *error)
{
	uint64_t end_ms = maas_clock_ms() + LOCK_MS;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return refuse(error, -errno, "--memory-file: cannot lock %.150s: %s", path,
				      strerror(errno));
		if (maas_clock_ms() >= end_ms)
			return refuse(error, -EBUSY,
				      "--memory-file: %.150s is in use by another process", path);
		nap();
	}
	return 0;
}

static void warn_slow(int fd, const char *path)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		log_warn("--memory-file %s is on a disk's file system, which writes it back again "
			 "and again; put it on tmpfs (such as /dev/shm) or hugetlbfs",
			 path);
}

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

/* ---- what the table must say ----------------------------------------------------------------- */

static int check_size(const char *option, uint64_t is, uint64_t asked, const char *path,
		      char *error)
{
	char made[MAAS_SIZE_TEXT];
	char now[MAAS_SIZE_TEXT];

	if (is == asked)
		return 0;
	return refuse(error, -EINVAL,
		      "--memory-file: %.80s was made with %s %s, not %s; start as it was made, or "
		      "remove it and its .slots to begin anew",
		      path, option, maas_size_format(is, made), maas_size_format(asked, now));
}

static int check_header(const struct maas_slot_header *header, const struct maas_geometry *geo,
			const char *path, char *error)
{
	int r;

	if (memcmp(header->magic, MAAS_SLOT_MAGIC, sizeof(header->magic)) != 0)
		return refuse(error, -EINVAL, "--memory-file: %.150s.slots is no table of slabs",
			      path);
	if (header->layout != MAAS_SLOT_LAYOUT)
		return refuse(error, -EINVAL,
			      "--memory-file: %.150s is of layout %u and this maasd knows only %d",
			      path, header->layout, MAAS_SLOT_LAYOUT);
	r = check_size("--extent-size", header->extent_bytes, geo->extent_bytes, path, error);
	if (!r)
		r = check_size("--max-pool-size", header->max_bytes, geo->max_bytes, path, error);
	if (r)
		return r;
	if (header->num_classes != geo->num_classes ||
	    memcmp(header->class_bytes, geo->class_bytes, sizeof(header->class_bytes)) != 0)
		return refuse(error, -EINVAL,
			      "--memory-file: %.150s was made with other --slab-sizes", path);
	if (header->arena_id[MAAS_ID_TEXT - 1])
		return refuse(error, -EUCLEAN, "--memory-file: %.150s.slots is damaged", path);
	return 0;
}

/* Sets `ret_kept`, and both files to their sizes. */
static int prepare(const struct maas_geometry *geo, const struct maas_file *file, const char *path,
		   char *error, bool *ret_kept)
{
	static const char unmade[sizeof(((struct maas_slot_header *)0)->magic)];
	struct maas_slot_header header = {0};
	uint64_t table_bytes = maas_slots_bytes(geo);
	uint64_t slots_len = size_of(file->slots_fd);
	uint64_t bytes_len = size_of(file->bytes_fd);
	int r = 0;

	*ret_kept = false;
	if (!slots_len && bytes_len)
		return refuse(error, -EEXIST,
			      "--memory-file: %.150s holds something else: it is not empty and "
			      "has no .slots beside it",
			      path);
	if (pread(file->slots_fd, &header, sizeof(header), 0) == sizeof(header) &&
	    memcmp(header.magic, unmade, sizeof(unmade)) != 0) {
		*ret_kept = true;
		r = check_header(&header, geo, path, error);
		if (!r && (slots_len != table_bytes || bytes_len != geo->max_bytes))
			r = refuse(error, -EUCLEAN,
				   "--memory-file: %.150s or its .slots was cut off", path);
		return r;
	}
	if ((slots_len && slots_len != table_bytes) || (bytes_len && bytes_len != geo->max_bytes))
		return refuse(error, -EEXIST, "--memory-file: %.150s.slots is no table of slabs",
			      path);
	/* New, or its making was cut off: nothing was lent from it. */
	if (ftruncate(file->slots_fd, 0) < 0 || ftruncate(file->bytes_fd, 0) < 0 ||
	    ftruncate(file->slots_fd, (off_t)table_bytes) < 0 ||
	    ftruncate(file->bytes_fd, (off_t)geo->max_bytes) < 0)
		return refuse(error, -errno, "--memory-file: cannot size %.150s: %s", path,
			      strerror(errno));
	return 0;
}

static int open_table(const char *path, char *error, int *ret_fd)
{
	char *table = NULL;
	int r;

	if (asprintf(&table, "%s.slots", path) < 0)
		return refuse(error, -ENOMEM, "out of memory");
	r = open_regular(table, error, ret_fd);
	free(table);
	return r;
}

int maas_file_open(const struct maas_geometry *geo, const char *path, char *error,
		   struct maas_file *ret_file)
{
	struct maas_file file = {.bytes_fd = -1, .slots_fd = -1};
	int r;

	r = open_regular(path, error, &file.bytes_fd);
	if (r)
		return r;
	r = lock(file.bytes_fd, path, error);
	if (r)
		goto err_bytes;
	r = open_table(path, error, &file.slots_fd);
	if (r)
		goto err_bytes;
	r = prepare(geo, &file, path, error, &file.kept);
	if (r)
		goto err_slots;
	warn_slow(file.bytes_fd, path);
	*ret_file = file;
	return 0;

err_slots:
	close(file.slots_fd);
err_bytes:
	close(file.bytes_fd);
	return r;
}
