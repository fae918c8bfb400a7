/* SPDX-License-Identifier: Apache-2.0 */
/* Which key mode is taken, and what is said of one that does not isolate. */
#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_fixture.h"

static const char *mode_of(const struct world *world)
{
	struct maas_rdma_info info;

	maas_rdma_info(world->rdma, &info);
	return info.keys;
}

static void mode__is_the_best_that_isolates(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct world world;

	(void)state;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	assert_string_equal(mode_of(&world), "window");
	world_close(&world);
	rules.window_bounds = false;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	assert_string_equal(mode_of(&world), "mr");
	world_close(&world);
	rules.windows = false;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	assert_string_equal(mode_of(&world), "mr");
	world_close(&world);
	rules = fake_rules_default();
	rules.window_access = false;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	assert_string_equal(mode_of(&world), "mr");
	world_close(&world);
}

static void mode__that_the_device_does_not_have(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct world world;

	(void)state;
	rules.windows = false;
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_WINDOW), -EOPNOTSUPP);
	assert_int_equal(fake_verbs_finish(), 0);
	rules = fake_rules_default();
	rules.window_bounds = false;
	world_isolated = true;
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_WINDOW), -EPERM);
	assert_int_equal(fake_verbs_finish(), 0);
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_POOL), -EPERM);
	assert_int_equal(fake_verbs_finish(), 0);
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_AUTO), 0);
	world_close(&world);
	rules.region_access = false;
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_AUTO), -EPERM);
	assert_int_equal(fake_verbs_finish(), 0);
	world_isolated = false;
	rules.no_device = true;
	assert_int_equal(world_try(&world, &rules, MAAS_RDMA_KEYS_AUTO), -ENODEV);
	assert_int_equal(fake_verbs_finish(), 0);
}

/* What the log warns of when the server starts so. */
static void warned(const struct fake_rules *rules, enum maas_rdma_keys keys, const char *mode,
		   const char *words)
{
	struct log_file file;
	struct world world;

	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_WARN);
	world_open(&world, rules, keys);
	maas_log_set_level(MAAS_LOG_ERR);
	assert_string_equal(mode_of(&world), mode);
	assert_int_equal(log_file_lines(&file, " warn rdma: ", NULL), words ? 1 : 0);
	if (words)
		assert_int_equal(log_file_lines(&file, words, NULL), 1);
	log_file_end(&file);
	world_close(&world);
}

static void mode__that_does_not_isolate_is_warned_of(void **state)
{
	struct fake_rules rules = fake_rules_default();

	(void)state;
	warned(&rules, MAAS_RDMA_KEYS_AUTO, "window", NULL);
	rules.window_bounds = false;
	warned(&rules, MAAS_RDMA_KEYS_AUTO, "mr", NULL);
	warned(&rules, MAAS_RDMA_KEYS_WINDOW, "window",
	       "window keys of fake0 do not keep clients apart: not refused: bytes beside the slab "
	       "(bounds); --rdma-keys mr refuses all of it");
	warned(&rules, MAAS_RDMA_KEYS_POOL, "pool", "every client can read and write");
	rules.region_access = false;
	warned(&rules, MAAS_RDMA_KEYS_AUTO, "mr",
	       "mr keys of fake0 do not keep clients apart: not refused: writing with a key to "
	       "read (access); lend only to clients that trust each other");
	rules.window_access = false;
	rules.window_foreign = false;
	rules.window_revocation = false;
	warned(&rules, MAAS_RDMA_KEYS_WINDOW, "window",
	       "(bounds), another session's key (foreign), a key that was revoked (revocation), "
	       "writing with a key to read (access); lend only");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode__is_the_best_that_isolates),
		cmocka_unit_test(mode__that_the_device_does_not_have),
		cmocka_unit_test(mode__that_does_not_isolate_is_warned_of),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
