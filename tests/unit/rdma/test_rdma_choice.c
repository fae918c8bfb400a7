/* SPDX-License-Identifier: Apache-2.0 */
/* Which key mode is chosen, and what the log says of one that does not isolate. */
#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_fixture.h"

/* The next server opens so in the mode `name`, or ends with `error`. */
static void opens(enum maas_rdma_keys keys, int error, const char *name)
{
	struct maas_rdma_info info;

	server_close();
	assert_int_equal(server_try(keys), error);
	if (error)
		return;
	maas_rdma_info(server.rdma, &info);
	assert_string_equal(info.keys, name);
}

TEST(mode__is_the_best_that_isolates)
{
	opens(MAAS_RDMA_KEYS_AUTO, 0, "window");
	rules.window_bounds = false;
	opens(MAAS_RDMA_KEYS_AUTO, 0, "mr");
	rules.windows = false;
	opens(MAAS_RDMA_KEYS_AUTO, 0, "mr");
	rules = fake_rules_default();
	rules.window_access = false;
	opens(MAAS_RDMA_KEYS_AUTO, 0, "mr");
}

TEST(mode__that_the_device_does_not_have)
{
	rules.windows = false;
	opens(MAAS_RDMA_KEYS_WINDOW, -EOPNOTSUPP, NULL);
	rules = fake_rules_default();
	rules.no_device = true;
	opens(MAAS_RDMA_KEYS_AUTO, -ENODEV, NULL);
}

TEST(mode__that_does_not_isolate_where_it_has_to)
{
	rules.window_bounds = false;
	server_options.require_isolation = true;
	opens(MAAS_RDMA_KEYS_WINDOW, -EPERM, NULL);
	opens(MAAS_RDMA_KEYS_POOL, -EPERM, NULL);
	rules.region_access = false;
	opens(MAAS_RDMA_KEYS_AUTO, -EPERM, NULL);
	rules.region_access = true;
	opens(MAAS_RDMA_KEYS_AUTO, 0, "mr");
}

/* The warnings in the log of a server that starts this way. */
static void warned(enum maas_rdma_keys keys, const char *name, const char *words)
{
	struct maas_rdma_info info;
	struct log_file file;

	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_WARN);
	opens(keys, 0, name);
	maas_rdma_info(server.rdma, &info);
	assert_int_equal(info.isolated, !words);
	maas_log_set_level(MAAS_LOG_ERR);
	assert_int_equal(log_file_lines(&file, " warn rdma: ", NULL), words ? 1 : 0);
	if (words)
		assert_int_equal(log_file_lines(&file, words, NULL), 1);
	log_file_end(&file);
}

TEST(mode__that_does_not_isolate_is_warned_of)
{
	warned(MAAS_RDMA_KEYS_AUTO, "window", NULL);
	rules.window_bounds = false;
	warned(MAAS_RDMA_KEYS_AUTO, "mr", NULL);
	warned(MAAS_RDMA_KEYS_WINDOW, "window",
	       "window keys of fake0 do not keep clients apart: not refused: bytes beside the slab "
	       "(bounds); --rdma-keys mr refuses all of it");
	warned(MAAS_RDMA_KEYS_POOL, "pool", "every client can read and write");
	rules.region_access = false;
	warned(MAAS_RDMA_KEYS_AUTO, "mr",
	       "mr keys of fake0 do not keep clients apart: not refused: writing with a key to "
	       "read (access); lend only to clients that trust each other");
	rules.window_access = false;
	rules.window_foreign = false;
	rules.window_revocation = false;
	warned(MAAS_RDMA_KEYS_WINDOW, "window",
	       "(bounds), another session's key (foreign), a key that was revoked (revocation), "
	       "writing with a key to read (access); lend only");
}

RDMA_TEST_MAIN()
