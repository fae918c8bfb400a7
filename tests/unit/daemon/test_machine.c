/* SPDX-License-Identifier: Apache-2.0 */
/* What --check says of the machine, and whether a pool fits it. */
#include <sys/resource.h>

#include "daemon/internal.h"
#include "tests/unit/unit.h"

static char error[MAASD_OPTIONS_ERROR];

#define SMALL	 (UINT64_C(1) << 20) /* fits everywhere … */
#define LARGE	 (UINT64_C(1) << 43) /* … and nowhere */
#define NEW_FILE "/dev/shm/maas-test-of-no-file"

/* A check that only looks at what is asked for. */
static struct maasd_options asked_for(uint64_t pool_bytes, bool prealloc, const char *file)
{
	return (struct maasd_options){
		.max_pool_bytes = pool_bytes,
		.class_bytes = {4096},
		.num_classes = 1,
		.prealloc = prealloc,
		.memory_file = file,
	};
}

static int check(uint64_t pool_bytes, bool prealloc, const char *file)
{
	const struct maasd_options options = asked_for(pool_bytes, prealloc, file);

	return maasd_memory_check(&options, error);
}

TEST(memory_check__warns_of_what_does_not_fit)
{
	maas_log_set_level(MAAS_LOG_ERR);
	assert_int_equal(check(SMALL, false, NULL), 0);
	assert_true(check(LARGE, false, NULL) > 0);
}

TEST(memory_check__prealloc_refuses_it)
{
	assert_int_equal(check(SMALL, true, NULL), 0);
	assert_int_equal(check(LARGE, true, NULL), -ENOMEM);
	assert_non_null(strstr(error, "--prealloc: --max-pool-size 8TiB"));
	assert_non_null(strstr(error, "machine's memory"));
}

TEST(memory_check__the_file_system_of_the_file)
{
	assert_int_equal(check(SMALL, false, NEW_FILE), 0);
	assert_int_equal(check(SMALL, false, "/proc/no/such/directory/file"), -ENOENT);
	assert_non_null(strstr(error, "cannot look at its file system"));
}

TEST(memory_print__names_each_limit)
{
	const struct maasd_options options = asked_for(SMALL, false, NEW_FILE);
	struct maas_buf text = {0};

	maasd_memory_print(&options, &text);
	maas_buf_add(&text, "", 1);
	assert_non_null(strstr(text.data, "machine memory = "));
	assert_non_null(strstr(text.data, "cgroup memory limit = "));
	assert_non_null(strstr(text.data, "memory file's room = "));
	maas_buf_fini(&text);
}

TEST(raise_files__leaves_what_is_enough)
{
	struct maasd_options options = {.listen.num = 1, .max_connections = 1};
	struct rlimit before, after;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(maasd_machine_raise_files(&options, error), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_int_equal(options.max_connections, 1);
	assert_int_equal(before.rlim_cur, after.rlim_cur);
}

TEST(is_public__addresses)
{
	assert_false(maasd_announce_is_public("http://127.0.0.1:3000"));
	assert_false(maasd_announce_is_public("https://[::1]:3000"));
	assert_true(maasd_announce_is_public("https://0.0.0.0:3000"));
	assert_false(maasd_announce_is_public("http://127.8.9.1:3000"));
	assert_false(maasd_announce_is_public("http://[::1]:3000"));
	assert_false(maasd_announce_is_public("unix:/run/maas.sock"));
	assert_true(maasd_announce_is_public("http://0.0.0.0:3000"));
	assert_true(maasd_announce_is_public("http://[::]:3000"));
	assert_true(maasd_announce_is_public("http://192.0.2.1:3000"));
	assert_true(maasd_announce_is_public("http://[::1:2]:3000"));
}

TEST(find_group__names_and_numbers)
{
	static const struct {
		const char *text;
		int result;
		gid_t group;
	} cases[] = {{NULL, 0, 77},
		     {"root", 0, 0},
		     {"0", 0, 0},
		     {"54321", 0, 54321},
		     {"no-such-group", -ENOENT, 77},
		     {"12x", -ENOENT, 77},
		     {"-1", -ENOENT, 77},
		     {"4294967295", -ENOENT, 77},
		     {" 5", -ENOENT, 77}};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const struct maasd_options options = {.socket_group = cases[i].text};
		gid_t group = 77;

		*error = '\0';
		assert_int_equal(maasd_machine_find_group(&options, error, &group),
				 cases[i].result);
		assert_int_equal(group, cases[i].group);
		assert_int_equal(*error != '\0', cases[i].result != 0);
	}
}

TEST_MAIN(NULL, NULL)
