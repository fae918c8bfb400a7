/* SPDX-License-Identifier: Apache-2.0 */
/* Variables that look like options of maasd and are none. */
#include "daemon/options.h"
#include "tests/unit/unit.h"

/* With advice that holds `words`, and never the value; NULL: it is no stray one. */
static void expect_stray(const char *entry, const char *words)
{
	char advice[MAASD_OPTIONS_ERROR] = "";

	if (maasd_options_stray(entry, advice) != !!words || (words && !strstr(advice, words)))
		fail_msg("%s: \"%s\" does not say \"%s\"", entry, advice, words ? words : "");
	assert_null(strstr(advice, "hunter2"));
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
	expect_stray("MAAS_PORT=8080", "no option of maasd"); /* not Kubernetes' */
	/* A value may be a secret. */
	expect_stray("MAAS_TOKN=hunter2", "");
	expect_stray("MAAS_LISTN=hunter2", "");
}

TEST(stray__long_names)
{
	static const char many_x[900] = {[0 ... 898] = 'X'};
	char entry[1000];

	for (int len = 1; len < 900; len += 7) {
		snprintf(entry, sizeof(entry), "MAAS_%.*s=1", len, many_x);
		expect_stray(entry, "");
	}
}

TEST(stray__what_others_mean)
{
	static const char *const fine[] = {
		"MAAS_URL=http://x", "MAAS_SEED=1", "MAAS_LONG=1", "MAAS_SHORT=1",
		"MAAS_REQUIRE_RDMA=1", "MAAS_BIN=/x", "MAAS_TEST_TRANSPORT=rdma",
		"MAAS_TOKEN_FILE=x", "MAAS_CA_FILE=x", "MAAS_CERT_FILE=x", "MAAS_KEY_FILE=x",
		"MAAS_SERVER_NAME=x",
		/* Kubernetes' and Docker's, of a service named maas */
		"MAAS_PORT=tcp://10.0.0.1:3000", "MAAS_PORT_3000_TCP=tcp://10.0.0.1:3000",
		"MAAS_PORT_3000_TCP_ADDR=10.0.0.1", "MAAS_PORT_3000_TCP_PORT=3000",
		"MAAS_PORT_3000_TCP_PROTO=tcp", "MAAS_SERVICE_HOST=10.0.0.1",
		"MAAS_SERVICE_PORT=3000", "MAAS_SERVICE_PORT_HTTP=3000",
		"MAAS_METRICS_SERVICE_HOST=10.0.0.1", "MAAS_METRICS_SERVICE_PORT=3000",
		"MAAS_METRICS_PORT=tcp://10.0.0.1:3000", "MAAS_METRICS_PORT_3000_TCP_ADDR=10.0.0.1",
		"MAAS_LISTN=", "MAAS_LISTN", "MAASD=/x", "PATH=/bin", "OTHER_MAAS_LISTN=1"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fine); i++)
		expect_stray(fine[i], NULL);
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		char entry[MAASD_OPTIONS_ENV + 2];

		maasd_options_env_name((enum maasd_option)i, entry);
		memcpy(entry + strlen(entry), "=1", sizeof("=1"));
		expect_stray(entry, NULL);
	}
}

TEST_MAIN(NULL, NULL)
