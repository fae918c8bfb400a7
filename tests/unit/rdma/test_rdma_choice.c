/* SPDX-License-Identifier: Apache-2.0 */
/* Which device, address and key mode are chosen, and what the log says of them. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_fixture.h"
#include "tests/unit/rdma/rdma_thread.h"

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

/* What helps is not the option that is set so already. */
TEST(mode__that_no_choice_is_left_for)
{
	rules.region_local = true;
	opens(MAAS_RDMA_KEYS_AUTO, 0, "window");
	opens(MAAS_RDMA_KEYS_MR, -EOPNOTSUPP, NULL);
	assert_non_null(
		strstr(server_error, "fake0 cannot make mr keys; leave --rdma-keys at auto"));
	rules.window_bounds = false;
	opens(MAAS_RDMA_KEYS_AUTO, -EOPNOTSUPP, NULL);
	assert_non_null(strstr(server_error, "fake0 cannot make mr keys, and its windows do not "
					     "refuse: bytes beside the slab (bounds); take "
					     "another --rdma-device, or, if all clients trust "
					     "each other, --rdma-keys window"));
	server_options.require_isolation = true;
	opens(MAAS_RDMA_KEYS_AUTO, -EOPNOTSUPP, NULL);
	assert_null(strstr(server_error, "--rdma-keys window"));
	server_options.require_isolation = false;
	opens(MAAS_RDMA_KEYS_WINDOW, 0, "window");
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

/* ---- the device and its address */

static void uses(const char *name)
{
	struct maas_rdma_info info;

	opens(MAAS_RDMA_KEYS_AUTO, 0, "window");
	maas_rdma_info(server.rdma, &info);
	assert_string_equal(info.device, name);
}

TEST(device__is_the_first_that_routes)
{
	static const char *const local[] = {"fe80::2", "::ffff:169.254.0.2"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(local); i++) {
		rules.bare = local[i];
		rules.link_local = false;
		uses("fake0");
		rules.link_local = true;
		uses("bare0");
	}
	rules = fake_rules_default();
	rules.bare = "fec0::2"; /* InfiniBand's, or a MAC of iWARP */
	rules.bare_no_roce = true;
	uses("fake0");
}

/* What a client that came to `local` by HTTP (NULL: not by IP) is told; NULL: no address. */
static void tells(const char *local, const char *expected)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct maas_lend_key_address at;
	const void *came_to = NULL;

	if (local && inet_pton(AF_INET, local, &v4.sin_addr) == 1)
		came_to = &v4;
	else if (local && inet_pton(AF_INET6, local, &v6.sin6_addr) == 1)
		came_to = &v6;
	assert_int_equal(maas_rdma_key_ops.address(server.rdma, came_to, &at), expected != NULL);
	if (expected)
		assert_string_equal(at.addr, expected);
}

TEST(address__is_the_one_that_the_client_came_to)
{
	rules.two_ports = true;
	uses("fake0");
	tells("127.0.0.1", "127.0.0.1");
	tells("::1", "::1");
	tells("fe80::1", "fe80::1");
	tells("10.0.0.2", "10.0.0.2"); /* the other port's */
	tells("192.0.2.7", "127.0.0.1");
	tells(NULL, "127.0.0.1");
	fake_unplug(1);
	tells("192.0.2.7", "10.0.0.2");
	tells("127.0.0.1", "127.0.0.1"); /* it came that way */
}

TEST(address__has_changed)
{
	struct log_file file;

	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_INFO);
	uses("fake0");
	fake_readdress("::ffff:127.0.0.1", "::ffff:10.0.0.9");
	tells(NULL, "10.0.0.9");
	tells("127.0.0.1", "10.0.0.9");
	AWAIT(log_file_lines(&file, "rdma: an address of fake0 has changed", NULL) == 1);
	maas_log_set_level(MAAS_LOG_ERR);
	log_file_end(&file);
	/* Where none is left, it may come back. */
	fake_readdress("::ffff:10.0.0.9", NULL);
	tells(NULL, "::1");
	fake_readdress("::1", NULL);
	tells(NULL, "127.0.0.1");
}

TEST(address__is_none_of_a_device_whose_gid_is_none)
{
	rules.link_local = true;
	rules.bare = "fec0::2";
	rules.bare_no_roce = true;
	uses("bare0");
	tells(NULL, NULL);
}

/* Whether the server would learn that the device is gone. */
static bool is_watched(void)
{
	struct halt halt;
	bool watched;

	thread_halt(&halt);
	watched = server.rdma->watch != NULL;
	thread_go_on(&halt);
	thread_catch_up();
	return watched;
}

/* Whoever came another way may not get there. */
TEST(address__is_link_local)
{
	struct log_file file;

	rules.link_local = true;
	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_WARN);
	uses("fake0");
	maas_log_set_level(MAAS_LOG_ERR);
	assert_int_equal(log_file_lines(&file, "fake0 has link-local addresses only", NULL), 1);
	log_file_end(&file);
	tells("fe80::1", "fe80::1");
	tells("127.0.0.1", NULL);
	tells(NULL, NULL);
	assert_false(is_watched());
	fake_readdress("fe80::1", "::ffff:169.254.1.2");
	tells(NULL, NULL);
	fake_readdress("::ffff:169.254.1.2", "::ffff:10.0.0.9");
	tells(NULL, "10.0.0.9");
	AWAIT(is_watched());
}

RDMA_TEST_MAIN()
