/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of --memory-file share: a pool in a file of this test's own, and what refuses it.
 */
#ifndef MAAS_TESTS_UNIT_SLAB_FILE_H
#define MAAS_TESTS_UNIT_SLAB_FILE_H

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slab/internal.h"
#include "tests/unit/slab/slab_fixture.h"

#define POOL_BYTES   (32 * MIB)
#define EXTENT_BYTES 65536

static char dir[32];
static char path[64];
static char table[80];

static const uint64_t classes[] = {64, 1024, 65536};

static inline struct maas_slab_options file_options(void)
{
	struct maas_slab_options options = pool_options(POOL_BYTES, EXTENT_BYTES, classes, 3);

	options.file = path;
	return options;
}

static inline struct maas_slab *open_pool(void)
{
	const struct maas_slab_options options = file_options();

	return pool_open_as(&options);
}

static inline void expect_refused(int wanted, const char *words)
{
	const struct maas_slab_options options = file_options();

	expect_refused_as(&options, wanted, words);
}

static inline void expect_no_files(void)
{
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(table, F_OK), -1);
}

static inline void remove_files(void)
{
	unlink(path);
	unlink(table);
}

static inline void write_at(const char *name, off_t offset, const void *bytes, size_t len)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
	close(fd);
}

static inline void read_at(const char *name, off_t offset, void *bytes, size_t len)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, bytes, len, offset), (ssize_t)len);
	close(fd);
}

/* 0: there is no such file. */
static inline uint64_t length_of(const char *name)
{
	struct stat st;

	return stat(name, &st) ? 0 : (uint64_t)st.st_size;
}

static inline void file_setup(void)
{
	strcpy(dir, "/dev/shm/maas-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/memory", dir);
	snprintf(table, sizeof(table), "%s.slots", path);
}

static inline void file_teardown(void)
{
	pools_close();
	remove_files();
	rmdir(dir);
}

/* Skipped where there is no tmpfs in /dev/shm to write to. */
static inline int file_test_run(void)
{
	return access("/dev/shm", W_OK) ? 77 : test_run(file_setup, file_teardown);
}

#endif
