/* SPDX-License-Identifier: Apache-2.0 */
/* A backing file system that is full is -ENOSPC, never a SIGBUS. Needs leave to make a tmpfs. */
#include "tests/unit/slab/slab_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FS_SIZE	 "4m"
#define FS_BYTES (4 * MIB)
#define EXTENT	 (256 * KIB)
#define MAX_REFS 4096

static int mount_fd; /* a tmpfs that is mounted nowhere: nobody else sees it */
static char dir_path[32];
static int dir_fd;
static const struct maas_slab_label no_label;

static void resize(uint64_t bytes)
{
	int fd = fspick(mount_fd, "", FSPICK_EMPTY_PATH);
	char size[32];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	assert_int_equal(fsconfig(fd, FSCONFIG_SET_STRING, "size", size, 0), 0);
	assert_int_equal(fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0), 0);
	close(fd);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) > 0;

	close(fd);
	return written;
}

/* Where we are not root: a namespace in which we may make one, as who we are. */
static bool may_make_tmpfs(void)
{
	char users[32];
	char groups[32];

	if (!geteuid())
		return true;
	snprintf(users, sizeof(users), "%u %u 1", geteuid(), geteuid());
	snprintf(groups, sizeof(groups), "%u %u 1", getegid(), getegid());
	return !unshare(CLONE_NEWUSER | CLONE_NEWNS) && write_file("/proc/self/uid_map", users) &&
	       write_file("/proc/self/setgroups", "deny") &&
	       write_file("/proc/self/gid_map", groups);
}

static bool make_tmpfs(void)
{
	int fs_fd;

	if (!may_make_tmpfs())
		return false;
	fs_fd = fsopen("tmpfs", 0);
	if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_SET_STRING, "size", FS_SIZE, 0) ||
	    fsconfig(fs_fd, FSCONFIG_SET_STRING, "mode", "700", 0) ||
	    fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return false;
	mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, 0);
	close(fs_fd);
	dir_fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(dir_path, sizeof(dir_path), "/proc/self/fd/%d", dir_fd);
	return dir_fd >= 0;
}

static struct maas_slab *open_pool(uint64_t max_bytes)
{
	const uint64_t class_bytes[] = {KIB, 16 * KIB, EXTENT};
	const struct maas_slab_options options = {.max_bytes = max_bytes,
						  .class_bytes = class_bytes,
						  .num_classes = 3,
						  .dir_fd = dir_fd};
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;

	if (maas_slab_open(&options, error, &slab))
		fail_msg("maas_slab_open: %s", error);
	return slab;
}

/* Takes up space beside the arena. */
static void hog(uint64_t bytes)
{
	int fd = openat(dir_fd, "hog", O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	if (bytes)
		assert_int_equal(posix_fallocate(fd, 0, (off_t)bytes), 0);
	close(fd);
}

/* Allocates and writes every byte until there is no space; a hole would be a SIGBUS here. */
static uint32_t fill(struct maas_slab *slab, uint64_t size_bytes, struct maas_slab_ref *refs)
{
	uint32_t count = 0;
	int r;

	while (!(r = maas_slab_alloc(slab, size_bytes, &no_label, &refs[count]))) {
		struct maas_slab_info info = pool_get(slab, refs[count]);

		assert_true(bytes_are_zero(info.bytes, info.slab_bytes));
		pattern_write(info.bytes, info.slab_bytes, count);
		assert_true(++count < MAX_REFS);
	}
	assert_int_equal(r, -ENOSPC);
	return count;
}

static void expect_contents(struct maas_slab *slab, const struct maas_slab_ref *refs,
			    uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct maas_slab_info info = pool_get(slab, refs[i]);

		assert_true(pattern_holds(info.bytes, info.slab_bytes, i));
	}
}

static void alloc__full_file_system_is_enospc(void **state)
{
	struct maas_slab *slab = open_pool(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count = fill(slab, EXTENT, refs);
	struct maas_slab_stats stats = pool_stats(slab);

	(void)state;
	assert_in_range(count, FS_BYTES / EXTENT - 1, FS_BYTES / EXTENT);
	assert_int_equal(stats.extents_used, count);
	assert_int_equal(stats.backed_bytes, count * EXTENT);
	assert_int_equal(pool_try_alloc(slab, 1), -ENOSPC);
	assert_int_equal(maas_slab_alloc_many(slab, 1, 100, &no_label, refs + count), -ENOSPC);
	expect_contents(slab, refs, count);
	maas_slab_check(slab);
	maas_slab_close(slab);
}

static void alloc__full_file_system_skips_the_delay(void **state)
{
	struct maas_slab *slab = open_pool(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS];
	struct maas_slab_ref others[MAX_REFS];
	uint32_t count = fill(slab, 16 * KIB, refs);

	(void)state;
	pool_free(slab, refs[count - 1]);
	assert_int_equal(fill(slab, 16 * KIB, &refs[count - 1]), 1);

	/* Every extent that only waits serves the other class. */
	for (uint32_t i = 0; i < count; i++)
		pool_free(slab, refs[i]);
	assert_int_equal(fill(slab, EXTENT, others) * (EXTENT / (16 * KIB)), count);
	maas_slab_check(slab);
	maas_slab_close(slab);
}

static void alloc__recovers_when_space_appears(void **state)
{
	struct maas_slab *slab = open_pool(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count, more;

	(void)state;
	hog(FS_BYTES - 4 * EXTENT);
	count = fill(slab, EXTENT, refs);
	assert_in_range(count, 3, 4);

	hog(FS_BYTES - 8 * EXTENT);
	more = fill(slab, EXTENT, refs + count);
	assert_in_range(count + more, 7, 8);

	/* A file system without space again does not touch what is backed. */
	pool_free(slab, refs[0]);
	pool_settle(slab);
	assert_int_equal(fill(slab, EXTENT, refs), 1);
	expect_contents(slab, refs, count);
	expect_contents(slab, refs + count, more);
	maas_slab_check(slab);
	maas_slab_close(slab);
	hog(0);
}

static void alloc_many__full_file_system_takes_none(void **state)
{
	struct maas_slab *slab = open_pool(4 * FS_BYTES);
	uint32_t per_extent = EXTENT / (16 * KIB);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count;

	(void)state;
	hog(FS_BYTES - 4 * EXTENT);
	assert_int_equal(maas_slab_alloc_many(slab, 16 * KIB, 5 * per_extent, &no_label, refs),
			 -ENOSPC);
	assert_int_equal(pool_stats(slab).allocations, 0);
	assert_int_equal(pool_stats(slab).live_slabs, 0);
	maas_slab_check(slab);

	count = fill(slab, KIB, refs); /* what the batch could not use serves another class */
	assert_in_range(count, 3 * (EXTENT / KIB), 4 * (EXTENT / KIB));
	maas_slab_check(slab);
	maas_slab_close(slab);
	hog(0);
}

static void open__prealloc_without_space_is_enospc(void **state)
{
	const uint64_t class_bytes[] = {KIB};
	struct maas_slab_options options = {.max_bytes = 2 * FS_BYTES,
					    .class_bytes = class_bytes,
					    .num_classes = 1,
					    .extent_bytes = EXTENT,
					    .dir_fd = dir_fd,
					    .prealloc = true};
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;

	(void)state;
	assert_int_equal(maas_slab_open(&options, error, &slab), -ENOSPC);
	assert_non_null(strstr(error, "prealloc"));
	assert_null(slab);

	/* The failed one gave its space back. */
	options.max_bytes = FS_BYTES / 2;
	assert_int_equal(maas_slab_open(&options, error, &slab), 0);
	assert_int_equal(pool_stats(slab).backed_bytes, FS_BYTES / 2);
	maas_slab_close(slab);
}

/* ---- a --memory-file */

static char file_path[64];
static char table_path[80];

static struct maas_slab_options file_options(uint64_t max_bytes)
{
	static const uint64_t class_bytes[] = {4096, EXTENT};

	snprintf(file_path, sizeof(file_path), "%s/file", dir_path);
	snprintf(table_path, sizeof(table_path), "%s.slots", file_path);
	return (struct maas_slab_options){.max_bytes = max_bytes,
					  .class_bytes = class_bytes,
					  .num_classes = 2,
					  .dir_fd = -1,
					  .file = file_path};
}

static void expect_no_files(void)
{
	assert_int_equal(access(file_path, F_OK), -1);
	assert_int_equal(access(table_path, F_OK), -1);
}

static void file__no_room_for_its_table(void **state)
{
	const struct maas_slab_options options = file_options(FS_BYTES);
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;

	(void)state;
	assert_int_equal(maas_slab_open(&options, error, &slab), -ENOSPC);
	assert_non_null(strstr(error, "--memory-file"));
	assert_null(strstr(error, "--max-pool-size"));
	expect_no_files();
}

static void file__prealloc_without_room_leaves_nothing(void **state)
{
	struct maas_slab_options options = file_options(64 * MIB);
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;
	struct maas_slab_room room;

	(void)state;
	resize(16 * MIB);
	options.prealloc = true;
	assert_int_equal(maas_slab_open(&options, error, &slab), -ENOSPC);
	assert_non_null(strstr(error, "--prealloc"));
	expect_no_files();
	assert_int_equal(maas_slab_room(&options, error, &room), 0);
	assert_int_equal(room.room_bytes, 16 * MIB); /* all of it came back */
	resize(FS_BYTES);
}

static void file__tells_its_room(void **state)
{
	const struct maas_slab_options options = file_options(64 * MIB);
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;
	struct maas_slab_room room;

	(void)state;
	resize(16 * MIB);
	assert_int_equal(maas_slab_room(&options, error, &room), 0);
	assert_int_equal(room.total_bytes, 16 * MIB);
	assert_int_equal(room.held_bytes, 0);
	assert_in_range(room.need_bytes, 72 * MIB, 73 * MIB);
	assert_false(room.huge || room.disk);
	expect_no_files();

	assert_int_equal(maas_slab_open(&options, error, &slab), 0);
	assert_true(pool_stats(slab).has_file);
	assert_false(pool_stats(slab).short_of_space);
	while (!pool_try_alloc(slab, EXTENT))
		;
	assert_true(pool_stats(slab).short_of_space);
	assert_in_range(maas_slab_room_left(slab), 0, EXTENT);
	assert_int_equal(maas_slab_room(&options, error, &room), 0);
	assert_in_range(room.held_bytes, 15 * MIB, 16 * MIB);
	assert_int_equal(room.room_bytes, 16 * MIB); /* what it has is its own */

	resize(32 * MIB);
	assert_int_equal(pool_try_alloc(slab, EXTENT), 0);
	assert_false(pool_stats(slab).short_of_space);
	maas_slab_close(slab);
	unlink(file_path);
	unlink(table_path);
	resize(FS_BYTES);
}

static void room__without_a_limit(void **state)
{
	struct maas_slab_options options = file_options(MIB);
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab_room room;

	(void)state;
	options.file = NULL;
	assert_int_equal(maas_slab_room(&options, error, &room), 0);
	assert_int_equal(room.room_bytes, UINT64_MAX);
	options.num_classes = 0;
	assert_int_equal(maas_slab_room(&options, error, &room), -EINVAL);
	assert_non_null(strstr(error, "--slab-sizes"));
}

static void open__leaves_no_name_in_the_directory(void **state)
{
	struct maas_slab *slab = open_pool(FS_BYTES);
	DIR *dir = opendir(dir_path);
	const struct dirent *entry;

	(void)state;
	pool_alloc(slab, 1);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		assert_true(entry->d_name[0] == '.' || !strcmp(entry->d_name, "hog"));
	closedir(dir);
	maas_slab_close(slab);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(alloc__full_file_system_is_enospc),
		cmocka_unit_test(alloc__full_file_system_skips_the_delay),
		cmocka_unit_test(alloc__recovers_when_space_appears),
		cmocka_unit_test(alloc_many__full_file_system_takes_none),
		cmocka_unit_test(open__prealloc_without_space_is_enospc),
		cmocka_unit_test(open__leaves_no_name_in_the_directory),
		cmocka_unit_test(file__no_room_for_its_table),
		cmocka_unit_test(file__prealloc_without_room_leaves_nothing),
		cmocka_unit_test(file__tells_its_room),
		cmocka_unit_test(room__without_a_limit),
	};
	int failed;

	if (!make_tmpfs()) {
		perror("a tmpfs of our own");
		return 77;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	close(dir_fd);
	close(mount_fd);
	return failed;
}
