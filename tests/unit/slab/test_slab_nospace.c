/* SPDX-License-Identifier: Apache-2.0 */
/* A backing file system that is full is -ENOSPC, never a SIGBUS. Needs leave to make a tmpfs. */
#include "tests/unit/slab/slab_file.h"

#include <sched.h>
#include <sys/mount.h>

#define FS_SIZE	 "4m"
#define FS_BYTES (4 * MIB)
#define EXTENT	 (256 * KIB)
#define MAX_REFS 4096

static int mount_fd; /* a tmpfs that is mounted nowhere: nobody else sees it */
static int dir_fd;

static void resize(uint64_t bytes)
{
	int fd = fspick(mount_fd, "", FSPICK_EMPTY_PATH);
	char size[32];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	assert_int_equal(fsconfig(fd, FSCONFIG_SET_STRING, "size", size, 0), 0);
	assert_int_equal(fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0), 0);
	close(fd);
}

static bool write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) > 0;

	close(fd);
	return written;
}

/* Where we are not root: a namespace in which we may make one, under our own uid. */
static bool may_make_tmpfs(void)
{
	char users[32], groups[32];

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
	snprintf(dir, sizeof(dir), "/proc/self/fd/%d", dir_fd);
	return dir_fd >= 0;
}

static void name_file(struct maas_slab_options *options)
{
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(table, sizeof(table), "%s.slots", path);
	options->file = path;
}

/* With room for FS_BYTES of memory, beside the table. */
static struct maas_slab *open_in_tmpfs(uint64_t max_bytes)
{
	struct maas_slab_options options =
		pool_options(max_bytes, 0, CLASSES(KIB, 16 * KIB, EXTENT));
	struct maas_slab *slab;
	struct stat st;

	name_file(&options);
	resize(4 * FS_BYTES);
	slab = pool_open_as(&options);
	assert_int_equal(stat(table, &st), 0);
	resize(FS_BYTES + (uint64_t)st.st_blocks * 512);
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

TEST(alloc__full_file_system_is_enospc)
{
	struct maas_slab *slab = open_in_tmpfs(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count = fill(slab, EXTENT, refs);
	struct maas_slab_stats stats = pool_stats(slab);

	assert_in_range(count, FS_BYTES / EXTENT - 1, FS_BYTES / EXTENT);
	assert_int_equal(stats.extents_used, count);
	assert_int_equal(stats.backed_bytes, count * EXTENT);
	assert_int_equal(pool_try_alloc(slab, 1), -ENOSPC);
	assert_int_equal(maas_slab_alloc_many(slab, 1, 100, &no_label, refs + count), -ENOSPC);
	expect_contents(slab, refs, count);
}

TEST(alloc__full_file_system_skips_the_delay)
{
	struct maas_slab *slab = open_in_tmpfs(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS], others[MAX_REFS];
	uint32_t count = fill(slab, 16 * KIB, refs);

	pool_free(slab, refs[count - 1]);
	assert_int_equal(fill(slab, 16 * KIB, &refs[count - 1]), 1);

	/* Every extent that only waits serves the other class. */
	for (uint32_t i = 0; i < count; i++)
		pool_free(slab, refs[i]);
	assert_int_equal(fill(slab, EXTENT, others) * (EXTENT / (16 * KIB)), count);
}

TEST(alloc__recovers_when_space_appears)
{
	struct maas_slab *slab = open_in_tmpfs(4 * FS_BYTES);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count, more;

	hog(FS_BYTES - 4 * EXTENT);
	count = fill(slab, EXTENT, refs);
	assert_in_range(count, 3, 4);

	hog(FS_BYTES - 8 * EXTENT);
	more = fill(slab, EXTENT, refs + count);
	assert_in_range(count + more, 7, 8);

	/* A file system that is full again does not touch memory that is backed. */
	pool_free(slab, refs[0]);
	pool_settle(slab);
	assert_int_equal(fill(slab, EXTENT, refs), 1);
	expect_contents(slab, refs, count);
	expect_contents(slab, refs + count, more);
}

TEST(alloc_many__full_file_system_takes_none)
{
	struct maas_slab *slab = open_in_tmpfs(4 * FS_BYTES);
	uint32_t per_extent = EXTENT / (16 * KIB);
	struct maas_slab_ref refs[MAX_REFS];
	uint32_t count;

	hog(FS_BYTES - 4 * EXTENT);
	assert_int_equal(maas_slab_alloc_many(slab, 16 * KIB, 5 * per_extent, &no_label, refs),
			 -ENOSPC);
	assert_int_equal(pool_stats(slab).allocations, 0);
	assert_int_equal(pool_stats(slab).live_slabs, 0);
	maas_slab_check(slab);

	count = fill(slab, KIB, refs); /* what the batch could not use serves another class */
	assert_in_range(count, 3 * (EXTENT / KIB), 4 * (EXTENT / KIB));
}

/* ---- at the opening */

static struct maas_slab_options options_in_tmpfs(uint64_t max_bytes)
{
	static const uint64_t class_bytes[] = {4096, EXTENT};
	struct maas_slab_options options = pool_options(max_bytes, 0, class_bytes, 2);

	name_file(&options);
	return options;
}

static struct maas_slab_room room_of(const struct maas_slab_options *options)
{
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab_room room;

	assert_int_equal(maas_slab_room(options, error, &room), 0);
	return room;
}

TEST(file__no_room_for_its_table)
{
	const struct maas_slab_options options = options_in_tmpfs(FS_BYTES);

	expect_refused_as(&options, -ENOSPC, "--memory-file");
	assert_null(strstr(pool_error, "--max-pool-size"));
	expect_no_files();
}

TEST(file__prealloc_without_room_leaves_nothing)
{
	struct maas_slab_options options = options_in_tmpfs(64 * MIB);

	resize(16 * MIB);
	options.prealloc = true;
	expect_refused_as(&options, -ENOSPC, "--prealloc");
	expect_no_files();
	assert_int_equal(room_of(&options).room_bytes, 16 * MIB); /* all of it came back */
	options.max_bytes = FS_BYTES;
	assert_int_equal(pool_stats(pool_open_as(&options)).backed_bytes, FS_BYTES);
}

TEST(file__tells_its_room)
{
	const struct maas_slab_options options = options_in_tmpfs(64 * MIB);
	struct maas_slab *slab;
	struct maas_slab_room room;

	resize(16 * MIB);
	room = room_of(&options);
	assert_int_equal(room.total_bytes, 16 * MIB);
	assert_int_equal(room.held_bytes, 0);
	assert_in_range(room.need_bytes, 72 * MIB, 73 * MIB);
	assert_false(room.huge || room.disk);
	expect_no_files();

	slab = pool_open_as(&options);
	assert_true(pool_stats(slab).has_file);
	assert_false(pool_stats(slab).short_of_space);
	while (!pool_try_alloc(slab, EXTENT))
		;
	assert_true(pool_stats(slab).short_of_space);
	assert_in_range(maas_slab_room_left(slab), 0, EXTENT);
	assert_true(maas_slab_in_memory(slab));
	room = room_of(&options);
	assert_in_range(room.held_bytes, 15 * MIB, 16 * MIB);
	assert_int_equal(room.room_bytes, 16 * MIB); /* what it has is its own */

	resize(32 * MIB);
	assert_int_equal(pool_try_alloc(slab, EXTENT), 0);
	assert_false(pool_stats(slab).short_of_space);
}

TEST(room__without_a_limit)
{
	struct maas_slab_options options = options_in_tmpfs(MIB);
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab_room room;

	options.file = NULL;
	assert_int_equal(room_of(&options).room_bytes, UINT64_MAX);
	options.num_classes = 0;
	assert_int_equal(maas_slab_room(&options, error, &room), -EINVAL);
	assert_non_null(strstr(error, "--slab-sizes"));
}

/* What a case left in the tmpfs goes with it. */
static void teardown(void)
{
	pools_close();
	hog(0);
	remove_files();
	resize(FS_BYTES);
}

int main(void)
{
	if (!make_tmpfs()) {
		perror("a tmpfs of our own");
		return 77;
	}
	return test_run(NULL, teardown);
}
