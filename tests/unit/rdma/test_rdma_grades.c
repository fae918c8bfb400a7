/* SPDX-License-Identifier: Apache-2.0 */
/* What the self-test says of devices that enforce this and not that, and the choice of a device. */
#include "rdma/rdma.h"
#include "tests/fake/fail_nth.h"
#include "tests/fake/fake_verbs.h"
#include "tests/unit/unit.h"

static struct fake_rules rules; /* of the case; everything is enforced but what it takes out */

static void enforce_all(void)
{
	rules = fake_rules_default();
}

static struct maas_rdma_selftest found;

static int try_device(const char *addr)
{
	struct maas_rdma_device *device = NULL;
	char error[MAAS_RDMA_ERROR] = "";
	int r;

	memset(&found, 0, sizeof(found));
	fake_verbs_start(&rules);
	r = maas_rdma_device_open(NULL, addr, error, &device);
	if (!r)
		r = maas_rdma_selftest(device, &found);
	maas_rdma_device_close(device);
	assert_int_equal(fake_verbs_finish(), 0);
	return r;
}

static void check_grade(const struct maas_rdma_isolation *grade, const char *wanted)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%s%s%s%s", grade->works ? "works " : "",
		 grade->bounds ? "bounds " : "", grade->foreign ? "foreign " : "",
		 grade->revocation ? "revocation " : "", grade->access ? "access " : "");
	assert_string_equal(text, wanted);
}

#define ALL "works bounds foreign revocation access "

TEST(selftest__finds_what_is_not_enforced)
{
	static const struct {
		bool *rule; /* the one that is taken out */
		const char *window, *mr;
	} cases[] = {
		{NULL, ALL, ALL},
		{&rules.window_bounds, "works foreign revocation access ", ALL},
		{&rules.window_foreign, "works bounds revocation access ", ALL},
		{&rules.window_revocation, "works bounds foreign access ", ALL},
		{&rules.window_access, "works bounds foreign revocation ", ALL},
		{&rules.region_access, ALL, "works bounds foreign revocation "},
		{&rules.windows, "", ALL},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		print_message("case %zu\n", i);
		enforce_all();
		if (cases[i].rule)
			*cases[i].rule = false;
		assert_int_equal(try_device(NULL), 0);
		check_grade(&found.window, cases[i].window);
		check_grade(&found.mr, cases[i].mr);
	}
}

TEST(selftest__nothing_can_be_pinned)
{
	rules.max_pinned = 4096;
	assert_true(try_device(NULL) < 0);
}

TEST(device_open__says_what_is_missing)
{
	assert_int_equal(try_device("127.0.0.1"), 0);
	assert_int_equal(try_device("::1"), 0);
	assert_int_equal(try_device("10.1.2.3"), -EADDRNOTAVAIL);
	assert_int_equal(try_device("nonsense"), -EINVAL);
	rules.no_device = true;
	assert_int_equal(try_device(NULL), -ENODEV);
}

TEST(device_open__prefers_what_can_be_routed)
{
	struct maas_rdma_device *device = NULL;
	char error[MAAS_RDMA_ERROR] = "";

	fake_verbs_start(NULL);
	assert_int_equal(maas_rdma_device_open(NULL, NULL, error, &device), 0);

	assert_string_equal(maas_rdma_device_gid(device), "::ffff:127.0.0.1");
	maas_rdma_device_close(device);
	assert_int_equal(maas_rdma_device_open("mlx5_9", NULL, error, &device), -ENODEV);
	assert_non_null(strstr(error, "mlx5_9"));
	assert_int_equal(fake_verbs_finish(), 0);
}

/* A failure lowers the grade, or fails; it never raises the grade and never leaks. */
TEST(selftest__any_call_fails)
{
	bool failed = true;

	for (long n = 1; failed; n++) {
		fake_fail_nth(FAKE_MAKES, n);
		(void)!try_device(NULL);
		failed = fake_fail_disarm();
	}
}

TEST(selftest__any_memory_fails)
{
	bool failed = true;
	long blocks;

	for (long n = 1; failed; n++) {
		blocks = fail_nth_blocks();
		fail_nth_arm(n);
		(void)!try_device(NULL);
		failed = fail_nth_disarm();
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_int_equal(fail_nth_mapped_bytes(), 0);
	}
}

int main(void)
{
	maas_log_set_level(MAAS_LOG_ERR);
	return test_run(enforce_all, NULL);
}
