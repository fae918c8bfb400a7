/* SPDX-License-Identifier: Apache-2.0 */
/* The limit of memory, read from trees that stand for /proc/self and /sys/fs/cgroup. */
#include <ftw.h>
#include <sys/stat.h>

#include "base/base.h"
#include "tests/unit/unit.h"

#define V1_NONE "9223372036854771712\n" /* LONG_MAX in whole pages */

static char root[32];

static const char *at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

/* Makes the directories of `name`, too. */
static void put(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s", at(name));
	for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(!mkdir(path, 0700) || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* One line of mountinfo: `group` of the hierarchy is at `point` below the root of the test. */
static void mount_at(const char *group, const char *point, const char *type, const char *options)
{
	char line[512];

	snprintf(line, sizeof(line),
		 "23 22 0:5 / /proc rw - proc proc rw\n"
		 "31 23 0:29 %s %s/%s rw,relatime shared:5 master:1 - %s %s rw,%s\n",
		 group, root, point, type, type, options);
	put("mountinfo", line);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
	(void)st;
	(void)type;
	(void)place;
	return remove(path);
}

static void make_root(void)
{
	strcpy(root, "/tmp/maas-cgroup-XXXXXX");
	assert_non_null(mkdtemp(root));
}

static void remove_root(void)
{
	assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void expect_limit(uint64_t wanted)
{
	uint64_t bytes = 0;

	assert_int_equal(maas_cgroup_memory(root, &bytes), 0);
	assert_int_equal(bytes, wanted);
}

static void expect_none(int wanted)
{
	uint64_t bytes = 42;

	assert_int_equal(maas_cgroup_memory(root, &bytes), wanted);
	assert_int_equal(bytes, 42);
}

TEST(v2__smallest_up_to_the_mount)
{
	put("cgroup", "0::/a/b\n");
	mount_at("/", "fs", "cgroup2", "nsdelegate");
	put("fs/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
	put("fs/a/b/memory.max", "max\n");
	put("fs/a/memory.max", "1048576\n");
	expect_limit(1048576);
	put("fs/a/b/memory.max", "4096\n");
	expect_limit(4096);
	put("fs/memory.max", "1024\n"); /* as in a container, whose root is not the host's */
	expect_limit(1024);
}

TEST(v2__none)
{
	put("cgroup", "0::/a\n");
	mount_at("/", "fs", "cgroup2", "rw");
	put("fs/cgroup.controllers", "cpu memory\n");
	put("fs/a/memory.max", "max\n");
	expect_none(-ENOENT);
	put("cgroup", "0::/\n");
	expect_none(-ENOENT);
}

/* The group is named as the host sees it, and mounted as the container's root. */
TEST(v2__container_without_a_namespace)
{
	put("cgroup", "0::/docker/123\n");
	mount_at("/docker/123", "fs", "cgroup2", "rw");
	put("fs/memory.max", "2097152\n");
	expect_limit(2097152);
	put("cgroup", "0::/docker/123/inner\n");
	put("fs/inner/memory.max", "max\n");
	expect_limit(2097152);
	put("cgroup", "0::/docker/1234\n");
	expect_none(-ENODATA);
}

TEST(v1__smallest_up_to_the_mount)
{
	put("cgroup", "5:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/a/b\n1:name=systemd:/x\n");
	mount_at("/", "memory", "cgroup", "memory");
	put("memory/memory.limit_in_bytes", V1_NONE);
	put("memory/a/memory.limit_in_bytes", "1048576\n");
	put("memory/a/b/memory.limit_in_bytes", V1_NONE);
	expect_limit(1048576);
	put("memory/a/b/memory.limit_in_bytes", "4096\n");
	expect_limit(4096);
}

TEST(v1__the_huge_number_is_none)
{
	put("cgroup", "4:memory:/a\n");
	mount_at("/", "memory", "cgroup", "memory");
	put("memory/memory.limit_in_bytes", V1_NONE);
	put("memory/a/memory.limit_in_bytes", "9223372036854710272\n"); /* with pages of 64 KiB */
	expect_none(-ENOENT);
}

TEST(v1__container)
{
	put("cgroup", "4:memory:/docker/123\n0::/system.slice/docker.service\n");
	mount_at("/docker/123", "memory", "cgroup", "memory");
	put("memory/memory.limit_in_bytes", "536870912\n");
	expect_limit(536870912);
	put("cgroup", "4:memory:/\n"); /* with a namespace of its own */
	mount_at("/", "memory", "cgroup", "memory");
	expect_limit(536870912);
}

/* The limit of a pod, whose containers have none, is of a group that they do not see. */
TEST(v1__limit_above_the_container)
{
	put("cgroup", "4:memory:/pod/123\n");
	mount_at("/pod/123", "memory", "cgroup", "memory");
	put("memory/memory.limit_in_bytes", V1_NONE);
	put("memory/memory.stat", "cache 0\nhierarchical_memory_limit 67108864\ntotal_cache 0\n");
	expect_limit(67108864);
	put("memory/memory.stat", "hierarchical_memory_limit " V1_NONE);
	expect_none(-ENOENT);
}

/* Version 1 controls memory, version 2 is there for systemd only. */
TEST(hybrid__the_one_that_controls_memory)
{
	char line[512];

	put("cgroup", "4:memory:/a\n0::/a\n");
	put("unified/cgroup.controllers", "\n");
	put("unified/a/cgroup.procs", "1\n");
	put("memory/memory.limit_in_bytes", V1_NONE);
	put("memory/a/memory.limit_in_bytes", "8192\n");
	snprintf(line, sizeof(line),
		 "31 23 0:29 / %s/cpu rw - cgroup cgroup rw,cpu\n"
		 "32 23 0:30 / %s/unified rw - cgroup2 cgroup2 rw\n"
		 "33 23 0:31 / %s/memory rw - cgroup cgroup rw,memory\n",
		 root, root, root);
	put("mountinfo", line);
	expect_limit(8192);
	put("memory/a/memory.limit_in_bytes", V1_NONE);
	expect_none(-ENOENT);
}

TEST(limit__cannot_be_told)
{
	expect_none(-ENODATA); /* no such files at all */
	put("cgroup", "4:memory:/a\n0::/a\n");
	expect_none(-ENODATA);
	put("mountinfo", "no line of it\n\n- - -\n1 2 3 - \n");
	expect_none(-ENODATA);
	mount_at("/", "memory", "cgroup", "cpu,memory_of_something");
	put("memory/a/memory.limit_in_bytes", "4096\n");
	expect_none(-ENODATA);
	mount_at("/", "elsewhere", "cgroup", "memory");
	expect_none(-ENODATA);
	mount_at("/", "unified", "cgroup2", "rw");
	put("unified/a/cgroup.procs", "1\n"); /* and the memory controller is not there */
	expect_none(-ENODATA);
}

TEST(mountinfo__escaped_names)
{
	put("cgroup", "4:memory:/a group\n");
	mount_at("/a\\040group", "a\\040place", "cgroup", "cpu,memory");
	put("a place/memory.limit_in_bytes", "4096\n");
	expect_limit(4096);
}

TEST_MAIN(make_root, remove_root)
