/* SPDX-License-Identifier: Apache-2.0 */
/* Variables that look like options of maasd and are none. */
#include "daemon/options.h"
#include "tests/unit/unit.h"

static void expect_stray(const char *entry, const char *words)
{
	char advice[MAASD_OPTIONS_ERROR] = "";
	bool stray = maasd_options_stray(entry, advice);

	if (stray != !!words)
		fail_msg("%s: \"%s\"", entry, advice);
	if (words && !strstr(advice, words))
		fail_msg("\"%s\" does not say \"%s\"", advice, words);
}

TEST(stray__mistyped)
{
	expect_stray("MAAS_LISTN=127.0.0.1:1", "MAAS_LISTN in the environment is no option");
	expect_stray("MAAS_LISTN=127.0.0.1:1", "is MAAS_LISTEN meant?");
	expect_stray("MAAS_MAX_POOLSIZE=1GiB", "is MAAS_MAX_POOL_SIZE meant?");
	expect_stray("MAAS_MAXPOOL_SIZE=1GiB", "is MAAS_MAX_POOL_SIZE meant?");
	expect_stray("MAAS_POOL_SIZE=1GiB", "is MAAS_MAX_POOL_SIZE meant?");
	expect_stray("MAAS_LOGLEVEL=debug", "is MAAS_LOG_LEVEL meant?");
	expect_stray("MAAS_NUMA=1", "is MAAS_NUMA_NODE meant?");
	expect_stray("MAAS_FROBNICATE=1", "maasd --help");
	expect_stray("MAAS_SIZE=1", "maasd --help"); /* of which there are many */
	expect_stray("MAAS_=1", "maasd --help");
	expect_stray("MAAS_LISTEN-=1", "is MAAS_LISTEN meant?");
	/* A value may be a secret. */
	for (int i = 0; i < 2; i++) {
		static const char *const entries[] = {"MAAS_TOKN=hunter2", "MAAS_LISTN=hunter2"};
		char advice[MAASD_OPTIONS_ERROR];

		assert_true(maasd_options_stray(entries[i], advice));
		assert_null(strstr(advice, "hunter2"));
	}
}

TEST(stray__long_names)
{
	char advice[MAASD_OPTIONS_ERROR];
	char entry[1000];

	for (size_t len = 1; len < 900; len += 7) {
		char name[900];

		memset(name, 'X', len);
		name[len] = '\0';
		snprintf(entry, sizeof(entry), "MAAS_%s=1", name);
		assert_true(maasd_options_stray(entry, advice));
	}
}

TEST(stray__what_others_mean)
{
	static const char *const fine[] = {
		"MAAS_URL=http://x",
		"MAAS_SEED=1",
		"MAAS_LONG=1",
		"MAAS_SHORT=1",
		"MAAS_REQUIRE_RDMA=1",
		"MAAS_BIN=/x",
		"MAAS_TEST_TRANSPORT=rdma",
		"MAAS_PORT=tcp://10.0.0.1:3000",
		"MAAS_PORT_3000_TCP=tcp://10.0.0.1:3000",
		"MAAS_PORT_3000_TCP_ADDR=10.0.0.1",
		"MAAS_PORT_3000_TCP_PORT=3000",
		"MAAS_PORT_3000_TCP_PROTO=tcp",
		"MAAS_SERVICE_HOST=10.0.0.1",
		"MAAS_SERVICE_PORT=3000",
		"MAAS_SERVICE_PORT_HTTP=3000",
		"MAAS_METRICS_SERVICE_HOST=10.0.0.1",
		"MAAS_METRICS_SERVICE_PORT=3000",
		"MAAS_METRICS_PORT=tcp://10.0.0.1:3000",
		"MAAS_METRICS_PORT_3000_TCP_ADDR=10.0.0.1",
		"MAAS_LISTN=",
		"MAAS_LISTN",
		"MAASD=/x",
		"PATH=/bin",
		"OTHER_MAAS_LISTN=1",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fine); i++)
		expect_stray(fine[i], NULL);
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		char entry[MAASD_OPTIONS_ENV + 2];
		char name[MAASD_OPTIONS_ENV];

		maasd_options_env_name((enum maasd_option)i, name);
		snprintf(entry, sizeof(entry), "%s=1", name);
		expect_stray(entry, NULL);
	}
}

TEST_MAIN(NULL, NULL)
