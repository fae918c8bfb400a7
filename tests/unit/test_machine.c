/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/internal.h"

/* A directory that stands for /sys/fs/cgroup, and for /proc/self by its file `self`. */
static char root[] = "/tmp/maas-machine-XXXXXX";

static const char *at(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(at(name), "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(root) && !mkdir(at("a"), 0700) && !mkdir(at("a/b"), 0700) ? 0 : -1;
}

static int tear_down(void **state)
{
	static const char *const files[] = {"self", "memory.max", "a/memory.max", "a/b/memory.max"};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(files); i++)
		unlink(at(files[i]));
	rmdir(at("a/b"));
	rmdir(at("a"));
	return rmdir(root);
}

static int limit(uint64_t *ret_bytes)
{
	char self[128];

	snprintf(self, sizeof(self), "%s/self", root);
	return maas_machine_cgroup_limit(self, root, ret_bytes);
}

static void cgroup_limit__smallest_up_to_the_root(void **state)
{
	uint64_t bytes = 0;

	(void)state;
	put("self", "4:cpu:/elsewhere\n0::/a/b\n");
	put("a/b/memory.max", "max\n");
	put("a/memory.max", "1048576\n");
	assert_int_equal(limit(&bytes), 0);
	assert_int_equal(bytes, 1048576);
	put("a/b/memory.max", "4096\n");
	assert_int_equal(limit(&bytes), 0);
	assert_int_equal(bytes, 4096);
	put("memory.max", "1024\n");
	assert_int_equal(limit(&bytes), 0);
	assert_int_equal(bytes, 1024);
}

static void cgroup_limit__none(void **state)
{
	uint64_t bytes = 42;

	(void)state;
	put("a/b/memory.max", "max\n");
	put("a/memory.max", "");
	put("memory.max", "max\n");
	assert_int_equal(limit(&bytes), -ENOENT);
	put("self", "0::/\n");
	assert_int_equal(limit(&bytes), -ENOENT);
	put("self", "1:memory:/a\n");
	assert_int_equal(limit(&bytes), -ENOENT);
	unlink(at("self"));
	assert_int_equal(limit(&bytes), -ENOENT);
	assert_int_equal(bytes, 42);
}

static void warn_memory__only_when_too_large(void **state)
{
	(void)state;
	maas_log_set_level(MAAS_LOG_ERR);
	assert_int_equal(maas_machine_warn_memory(4096), 0);
	assert_true(maas_machine_warn_memory(UINT64_C(1) << 50) > 0);
}

static void raise_files__leaves_what_is_enough(void **state)
{
	struct maas_options options = {.num_listen = 1, .max_connections = 1};
	char error[MAAS_OPTIONS_ERROR];
	struct rlimit before;
	struct rlimit after;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(maas_machine_raise_files(&options, error), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_int_equal(options.max_connections, 1);
	assert_int_equal(before.rlim_cur, after.rlim_cur);
}

static void is_public__addresses(void **state)
{
	(void)state;
	assert_false(maas_serve_is_public("http://127.0.0.1:3000"));
	assert_false(maas_serve_is_public("http://127.8.9.1:3000"));
	assert_false(maas_serve_is_public("http://[::1]:3000"));
	assert_false(maas_serve_is_public("unix:/run/maas.sock"));
	assert_true(maas_serve_is_public("http://0.0.0.0:3000"));
	assert_true(maas_serve_is_public("http://[::]:3000"));
	assert_true(maas_serve_is_public("http://192.0.2.1:3000"));
	assert_true(maas_serve_is_public("http://[::1:2]:3000"));
}

static void find_group__names_and_numbers(void **state)
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

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const struct maas_options options = {.socket_group = cases[i].text};
		char error[MAAS_OPTIONS_ERROR] = "";
		gid_t group = 77;

		assert_int_equal(maas_machine_find_group(&options, error, &group), cases[i].result);
		assert_int_equal(group, cases[i].group);
		assert_int_equal(*error != '\0', cases[i].result != 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(cgroup_limit__smallest_up_to_the_root),
		cmocka_unit_test(cgroup_limit__none),
		cmocka_unit_test(warn_memory__only_when_too_large),
		cmocka_unit_test(raise_files__leaves_what_is_enough),
		cmocka_unit_test(is_public__addresses),
		cmocka_unit_test(find_group__names_and_numbers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
