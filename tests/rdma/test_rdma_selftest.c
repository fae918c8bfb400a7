/* SPDX-License-Identifier: Apache-2.0 */
/* The self-test on a real device: it must find what rxe 6.1 is known to enforce. */
#include "rdma/rdma.h"
#include "tests/unit/unit.h"

static struct maas_rdma_device *device;

static void open_device(void)
{
	char error[MAAS_RDMA_ERROR] = "";

	if (maas_rdma_device_open(NULL, getenv("SOFTROCE_ADDR"), error, &device))
		fail_msg("%s", error);
}

static void close_device(void)
{
	maas_rdma_device_close(device);
	device = NULL;
}

TEST(selftest__finds_what_rxe_enforces)
{
	struct maas_rdma_selftest found = {0};

	maas_log_set_level(MAAS_LOG_DEBUG);
	assert_int_equal(maas_rdma_selftest(device, &found), 0);
	maas_log_flush();

	assert_true(found.mr.works);
	assert_true(found.mr.bounds);
	assert_true(found.mr.foreign);
	assert_true(found.mr.revocation);
	assert_true(found.mr.access);
	if (strncmp(maas_rdma_device_name(device), "rxe", 3) == 0) {
		assert_true(found.window.works);
		assert_false(found.window.bounds);
		assert_true(found.window.foreign);
		assert_true(found.window.revocation);
		assert_true(found.window.access);
	}
}

/* How many lines that `command` prints hold `word`. */
static int count_of(const char *command, const char *word)
{
	FILE *pipe = popen(command, "r"); /* NOLINT(cert-env33-c): a constant of ours */
	char line[512];
	int count = 0;

	assert_non_null(pipe);
	while (fgets(line, sizeof(line), pipe))
		count += strstr(line, word) != NULL;
	assert_int_equal(pclose(pipe), 0);
	return count;
}

TEST(selftest__leaves_nothing)
{
	struct maas_rdma_selftest first = {0};
	struct maas_rdma_selftest found = {0};

	assert_int_equal(maas_rdma_selftest(device, &first), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(maas_rdma_selftest(device, &found), 0);
		assert_memory_equal(&found, &first, sizeof(first));
	}
	assert_int_equal(count_of("rdma resource show qp", "type RC"), 0);
	assert_int_equal(count_of("rdma resource show mr", "mrn"), 0);
}

TEST(device_open__picks_the_gid_of_the_address)
{
	char want[MAAS_RDMA_GID_TEXT];

	snprintf(want, sizeof(want), "::ffff:%s", getenv("SOFTROCE_ADDR"));
	assert_string_equal(maas_rdma_device_gid(device), want);
}

TEST(device_open__refuses_what_is_not_there)
{
	struct maas_rdma_device *none = NULL;
	char error[MAAS_RDMA_ERROR] = "";

	assert_int_equal(maas_rdma_device_open("mlx5_7", NULL, error, &none), -ENODEV);
	assert_non_null(strstr(error, "mlx5_7"));
	assert_int_equal(maas_rdma_device_open(NULL, "192.0.2.1", error, &none), -EADDRNOTAVAIL);
	assert_non_null(strstr(error, "192.0.2.1"));
	assert_int_equal(maas_rdma_device_open(NULL, "here", error, &none), -EINVAL);
	assert_null(none);
}

int main(void)
{
	if (!getenv("SOFTROCE_ADDR")) {
		fprintf(stderr, "no RDMA device: run it through scripts/softroce\n");
		return getenv("MAAS_REQUIRE_RDMA") ? 1 : 77;
	}
	return test_run(open_device, close_device);
}
