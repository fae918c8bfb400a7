/* SPDX-License-Identifier: Apache-2.0 */
/* What the self-test says of devices that enforce this and not that, and the choice of a device. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rdma/rdma.h"
#include "tests/fake/fail_nth.h"
#include "tests/fake/fake_verbs.h"

static int try_device(const struct fake_rules *rules, const char *addr,
		      struct maas_rdma_selftest *ret_found)
{
	struct maas_rdma_device *device = NULL;
	char error[MAAS_RDMA_ERROR] = "";
	int r;

	fake_verbs_start(rules);
	r = maas_rdma_device_open(NULL, addr, error, &device);
	if (!r)
		r = maas_rdma_selftest(device, ret_found);
	maas_rdma_device_close(device);
	assert_int_equal(fake_verbs_finish(), 0);
	return r;
}

static void selftest__all_is_enforced(void **state)
{
	struct maas_rdma_selftest found = {0};

	(void)state;
	assert_int_equal(try_device(NULL, NULL, &found), 0);

	assert_true(found.window.works && found.window.bounds);
	assert_true(found.window.foreign && found.window.revocation);
	assert_true(found.mr.works && found.mr.bounds && found.mr.foreign && found.mr.revocation);
	assert_true(found.window.access && found.mr.access);
}

static void selftest__window_bounds_are_not(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.window_bounds = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_true(found.window.works && found.window.foreign && found.window.revocation);
	assert_false(found.window.bounds);
	assert_true(found.mr.bounds);
}

static void selftest__windows_open_everywhere(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.window_foreign = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_true(found.window.works && found.window.bounds && found.window.revocation);
	assert_false(found.window.foreign);
	assert_true(found.mr.foreign);
}

static void selftest__windows_outlive_revocation(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.window_revocation = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_true(found.window.works && found.window.bounds && found.window.foreign);
	assert_false(found.window.revocation);
	assert_true(found.mr.revocation);
}

static void selftest__windows_to_read_write(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.window_access = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_true(found.window.works && found.window.bounds);
	assert_true(found.window.foreign && found.window.revocation);
	assert_false(found.window.access);
	assert_true(found.mr.access);
}

static void selftest__regions_to_read_write(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.region_access = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_true(found.mr.works && found.mr.bounds && found.mr.foreign && found.mr.revocation);
	assert_false(found.mr.access);
	assert_true(found.window.access);
}

static void selftest__there_are_no_windows(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.windows = false;
	assert_int_equal(try_device(&rules, NULL, &found), 0);

	assert_false(found.window.works || found.window.bounds);
	assert_true(found.mr.works && found.mr.bounds && found.mr.foreign && found.mr.revocation);
}

static void selftest__nothing_can_be_pinned(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	rules.max_pinned = 4096;

	assert_true(try_device(&rules, NULL, &found) < 0);
}

static void device_open__says_what_is_missing(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_rdma_selftest found = {0};

	(void)state;
	assert_int_equal(try_device(&rules, "127.0.0.1", &found), 0);
	assert_int_equal(try_device(&rules, "::1", &found), 0);
	assert_int_equal(try_device(&rules, "10.1.2.3", &found), -EADDRNOTAVAIL);
	assert_int_equal(try_device(&rules, "nonsense", &found), -EINVAL);
	rules.no_device = true;
	assert_int_equal(try_device(&rules, NULL, &found), -ENODEV);
}

static void device_open__prefers_what_can_be_routed(void **state)
{
	struct maas_rdma_device *device = NULL;
	char error[MAAS_RDMA_ERROR] = "";

	(void)state;
	fake_verbs_start(NULL);
	assert_int_equal(maas_rdma_device_open(NULL, NULL, error, &device), 0);

	assert_string_equal(maas_rdma_device_gid(device), "::ffff:127.0.0.1");
	maas_rdma_device_close(device);
	assert_int_equal(maas_rdma_device_open("mlx5_9", NULL, error, &device), -ENODEV);
	assert_non_null(strstr(error, "mlx5_9"));
	assert_int_equal(fake_verbs_finish(), 0);
}

/* A failure lowers the grade, or fails; it never raises the grade and never leaks. */
static void selftest__any_call_fails(void **state)
{
	bool failed = true;

	(void)state;
	for (long n = 1; failed; n++) {
		struct maas_rdma_selftest found = {0};

		fake_fail_nth(FAKE_MAKES, n);
		(void)!try_device(NULL, NULL, &found);
		failed = fake_fail_disarm();
	}
}

static void selftest__any_memory_fails(void **state)
{
	bool failed = true;
	long blocks;

	(void)state;
	for (long n = 1; failed; n++) {
		struct maas_rdma_selftest found = {0};

		blocks = fail_nth_blocks();
		fail_nth_arm(n);
		(void)!try_device(NULL, NULL, &found);
		failed = fail_nth_disarm();
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_int_equal(fail_nth_mapped_bytes(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selftest__all_is_enforced),
		cmocka_unit_test(selftest__window_bounds_are_not),
		cmocka_unit_test(selftest__windows_open_everywhere),
		cmocka_unit_test(selftest__windows_outlive_revocation),
		cmocka_unit_test(selftest__windows_to_read_write),
		cmocka_unit_test(selftest__regions_to_read_write),
		cmocka_unit_test(selftest__there_are_no_windows),
		cmocka_unit_test(selftest__nothing_can_be_pinned),
		cmocka_unit_test(device_open__says_what_is_missing),
		cmocka_unit_test(device_open__prefers_what_can_be_routed),
		cmocka_unit_test(selftest__any_call_fails),
		cmocka_unit_test(selftest__any_memory_fails),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
