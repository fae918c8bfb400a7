/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two files of --memory-file PATH: PATH holds the lent bytes and nothing else, PATH.slots the
 * table that says what they are. The lock is on PATH. What they hold is other people's: both are
 * this user's alone, or refused.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "slab/internal.h"

#define LOCK_MS 2000 /* for a process that was killed */
#define NAP_NS	50000000L
#define SUFFIX	".slots"

/* ---- one file */

/* Opens `path`, or makes it. */
static int open_or_make(const char *path, bool *ret_made)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd;

	do {
		*ret_made = false;
		fd = open(path, flags);
		if (fd >= 0 || errno != ENOENT)
			break;
		fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		*ret_made = fd >= 0;
	} while (fd < 0 && errno == EEXIST);
	if (*ret_made && fchmod(fd, 0600) < 0) { /* whatever the umask took */
		int error = errno;

		unlink(path);
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static int refuse_owner(const char *path, const struct stat *st, char *error)
{
	return maas_slab_refuse(error, -EPERM,
				"--memory-file: %.120s belongs to uid %u, and maasd runs as uid "
				"%u: run maasd as its owner, or chown it (to remove it and its "
				".slots begins anew: what was lent is lost)",
				path, st->st_uid, geteuid());
}

/* What others could read, change or keep is no place for what is lent. `beside` is what lies beside
 * a file of ours that is not empty; NULL: nothing. */
static int check_file(int fd, const char *path, const char *beside, char *error)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return maas_slab_refuse(error, -EINVAL, "--memory-file: %.150s is no regular file",
					path);
	if (st.st_nlink > 1)
		return maas_slab_refuse(error, -EPERM,
					"--memory-file: %.120s is a hard link, one of %lu names "
					"of that file: remove the others, or copy it",
					path, (unsigned long)st.st_nlink);
	if (beside && st.st_size && access(beside, F_OK))
		return maas_slab_refuse(error, -EEXIST,
					"--memory-file: %.120s holds something else: it is not "
					"empty and has no " SUFFIX " beside it; name another file, "
					"or move it away",
					path);
	if (st.st_uid != geteuid())
		return refuse_owner(path, &st, error);
	if (st.st_mode & 077)
		return maas_slab_refuse(error, -EPERM,
					"--memory-file: %.120s is open to others (mode %04o): "
					"chmod 600 it if what it holds is to be trusted, or remove "
					"it and its .slots to begin anew",
					path, st.st_mode & 07777);
	return 0;
}

static int refuse_open(const char *path, int r, char *error)
{
	return maas_slab_refuse(error, r, "--memory-file: cannot open %.150s: %s", path,
				r == -ELOOP ? "it is a symbolic link" : strerror(-r));
}

static int open_file(const char *path, const char *beside, char *error, int *ret_fd, bool *ret_made)
{
	int fd = open_or_make(path, ret_made);
	int r;

	if (fd < 0)
		return refuse_open(path, -errno, error);
	r = check_file(fd, path, beside, error);
	if (r)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int lock(int fd, const char *path, char *error)
{
	const struct timespec pause = {.tv_nsec = NAP_NS};
	uint64_t end_ms = maas_clock_ms() + LOCK_MS;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return maas_slab_refuse(error, -errno,
						"--memory-file: cannot lock %.150s: %s", path,
						strerror(errno));
		if (maas_clock_ms() >= end_ms)
			return maas_slab_refuse(error, -EBUSY,
						"--memory-file: %.150s is in use by another "
						"process",
						path);
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* True while `path` is the name of this file. */
static bool is_named(int fd, const char *path)
{
	struct stat st;
	struct stat named;

	return !fstat(fd, &st) && !lstat(path, &named) && st.st_dev == named.st_dev &&
	       st.st_ino == named.st_ino;
}

/* Opens and locks PATH. A start that failed may have removed it in between. */
static int open_locked(const char *path, const char *table, char *error,
		       struct maas_slab_file *file)
{
	int r;

	for (;;) {
		r = open_file(path, table, error, &file->bytes_fd, &file->made.bytes);
		if (r)
			return r;
		assert(file->bytes_fd >= 0);
		r = lock(file->bytes_fd, path, error);
		if (!r && is_named(file->bytes_fd, path))
			return 0;
		close(file->bytes_fd);
		file->bytes_fd = -1;
		if (r)
			return r;
	}
}

/* ---- both */

static void warn_slow(int fd, const char *path)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		log_warn("--memory-file %s is on a disk's file system, which writes it back again "
			 "and again; put it on tmpfs (such as /dev/shm) or hugetlbfs",
			 path);
}

static char *table_path(const char *path)
{
	char *table;

	return asprintf(&table, "%s" SUFFIX, path) < 0 ? NULL : table;
}

/* Both files empty, then of their sizes: nothing but holes. */
static int begin(const struct maas_slab_geometry *geo, struct maas_slab_file *file, char *error)
{
	if (!file->made.slots)
		log_info("memory file: nothing is lent from it, it begins anew path=%s",
			 file->made.path);
	file->made.anew = true;
	if (ftruncate(file->slots_fd, 0) < 0 || ftruncate(file->bytes_fd, 0) < 0 ||
	    ftruncate(file->slots_fd, (off_t)maas_slab_slots_bytes(geo)) < 0 ||
	    ftruncate(file->bytes_fd, (off_t)geo->max_bytes) < 0)
		return maas_slab_refuse(error, -errno, "--memory-file: cannot size %.150s: %s",
					file->made.path, strerror(errno));
	return 0;
}

static void undo_one(int fd, const char *path, bool made, bool anew)
{
	if (fd < 0)
		return;
	if (made && is_named(fd, path))
		unlink(path);
	else if (anew && ftruncate(fd, 0) < 0)
		log_warn("--memory-file: cannot empty %s again error=\"%s\"", path,
			 strerror(errno));
}

void maas_slab_file_undo(const struct maas_slab_file *file)
{
	char *table = table_path(file->made.path);

	/* The one with the lock last: nobody sees one without the other. */
	if (table)
		undo_one(file->slots_fd, table, file->made.slots, file->made.anew);
	undo_one(file->bytes_fd, file->made.path, file->made.bytes, file->made.anew);
	free(table);
}

int maas_slab_file_open(const struct maas_slab_geometry *geo, const char *path, char *error,
			struct maas_slab_file *ret_file)
{
	struct maas_slab_file file = {.bytes_fd = -1, .slots_fd = -1};
	char *table = table_path(path);
	int r = -ENOMEM;

	file.made.path = strdup(path);
	if (!table || !file.made.path) {
		maas_slab_refuse(error, r, "out of memory");
		goto err_path;
	}
	r = open_locked(path, table, error, &file);
	if (r)
		goto err_path;
	r = open_file(table, NULL, error, &file.slots_fd, &file.made.slots);
	if (!r)
		r = maas_slab_table_check(geo, &file, error, &file.kept);
	if (!r && !file.kept)
		r = begin(geo, &file, error);
	if (r)
		goto err_files;
	warn_slow(file.bytes_fd, path);
	free(table);
	*ret_file = file;
	return 0;

err_files:
	maas_slab_file_undo(&file);
	if (file.slots_fd >= 0)
		close(file.slots_fd);
	close(file.bytes_fd);
err_path:
	free(table);
	free(file.made.path);
	return r;
}

/* As open_file(), and makes nothing: where there is none, `ret_fd` stays -1, and it has to be one
 * that could be made. */
static int look_at(const char *path, const char *beside, char *error, int *ret_fd)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r = fd < 0 ? -errno : 0;

	if (r == -ENOENT)
		r = maas_dir_check(path);
	if (r)
		return refuse_open(path, r, error);
	*ret_fd = fd;
	return fd < 0 ? 0 : check_file(fd, path, beside, error);
}

/* The table may be shorter: its rest is zeros then. */
static int read_mark(int fd, const char *path, struct maas_slab_mark *ret_mark, char *error)
{
	if (pread(fd, ret_mark, sizeof(*ret_mark), MAAS_SLAB_SLOT_HEADER_BYTES) < 0)
		return maas_slab_refuse(error, -errno, "--memory-file: cannot read %.150s: %s",
					path, strerror(errno));
	return 0;
}

int maas_slab_look(const struct maas_slab_options *options, struct maas_slab_mark *ret_mark,
		   char *error)
{
	struct maas_slab_file file = {
		.bytes_fd = -1, .slots_fd = -1, .made.path = strdup(options->file)};
	char *table = table_path(options->file);
	struct maas_slab_geometry geo;
	bool kept = false;
	int r = -ENOMEM;

	memset(ret_mark, 0, sizeof(*ret_mark));
	if (!table || !file.made.path) {
		maas_slab_refuse(error, r, "out of memory");
		goto out;
	}
	r = maas_slab_geometry_init(&geo, options, error);
	if (!r)
		r = look_at(options->file, table, error, &file.bytes_fd);
	if (!r && file.bytes_fd >= 0 && flock(file.bytes_fd, LOCK_SH | LOCK_NB) < 0)
		r = maas_slab_refuse(error, -EBUSY,
				     "--memory-file: %.150s is in use by another process",
				     options->file);
	if (!r)
		r = look_at(table, NULL, error, &file.slots_fd);
	/* A table whose memory is gone counts as damaged. */
	if (!r && file.slots_fd >= 0)
		r = maas_slab_table_check(&geo, &file, error, &kept);
	if (!r && kept)
		r = read_mark(file.slots_fd, table, ret_mark, error);
	if (file.slots_fd >= 0)
		close(file.slots_fd);
	if (file.bytes_fd >= 0)
		close(file.bytes_fd);
out:
	free(file.made.path);
	free(table);
	return r;
}
