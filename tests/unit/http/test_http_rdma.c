/* SPDX-License-Identifier: Apache-2.0 */
/* What a server with RDMA says of it: where to connect to, what it is, whether it is ready. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

static const struct maas_http_rdma rdma = {
	.state = "active",
	.device = "rxe0",
	.gid = "::ffff:10.77.0.1",
	.port = 4000,
	.keys = "mr",
	.isolation_json = "{\"bounds\":true}",
};

static void start_at(const char *address)
{
	const char *const addresses[] = {address};
	const struct maas_http_options options = {
		.threads = 2,
		.rdma = rdma,
		.listen = addresses,
		.num_listen = 1,
	};

	http_start_keys(&options);
}

static void start(void)
{
	start_at("127.0.0.1:0");
}

static void expect_text(const json_t *json, const char *name, const char *text)
{
	assert_string_equal(http_string(json, name), text);
}

static void expect_number(const json_t *json, const char *name, json_int_t number)
{
	assert_int_equal(http_number(json, name), number);
}

static void expect_address(json_t *session, const char *addr)
{
	const json_t *at = json_object_get(session, "rdma");

	assert_int_equal(json_object_size(at), 2);
	expect_text(at, "addr", addr);
	expect_number(at, "port", FAKE_KEYS_PORT);
}

static void expect_addresses(const char *addr)
{
	json_t *session = http_json("POST", "/sessions", "{}", 200);
	const char *id = http_string(session, "id");

	expect_address(session, addr);
	expect_address(http_json("POST", http_text("/sessions/%s/ticket", id), NULL, 200), addr);
	expect_address(http_json("POST", http_text("/sessions/%s/renew", id), NULL, 200), addr);
}

/* The address that the client came to is told to the keys, which may know a better one. */
TEST(session__address)
{
	expect_addresses("127.0.0.1");
}

TEST(session__address_unknown)
{
	char address[64];

	snprintf(address, sizeof(address), "unix:/tmp/maas-rdma-%d.sock", getpid());
	start_at(address);
	expect_addresses("192.0.2.1");
}

/* Clients are not sent to a device that is gone, nor told to try again. */
TEST(session__device_gone)
{
	json_t *session;

	fake_keys_set(&keys, stats.state, "failed");
	fake_keys_set(&keys, unconnected, true);
	session = http_json("POST", "/sessions", "{}", 200);
	assert_true(json_is_null(json_object_get(session, "rdma")));
	http_expect_error(
		"POST", "/allocate",
		http_text("{\"size_bytes\":1,\"session\":\"%s\"}", http_string(session, "id")), 503,
		"rdma_failed");
}

TEST(health__rdma)
{
	json_t *json = http_json("GET", "/health", NULL, 200);
	const json_t *at = json_object_get(json, "rdma");

	assert_int_equal(json_object_size(at), 6);
	expect_text(at, "state", "active");
	expect_text(at, "device", rdma.device);
	expect_text(at, "gid", rdma.gid);
	expect_number(at, "port", rdma.port);
	expect_text(at, "keys", rdma.keys);
	assert_true(json_is_true(json_object_get(json_object_get(at, "isolation"), "bounds")));
	fake_keys_set(&keys, stats.state, "failed");
	json = http_json("GET", "/health", NULL, 200);
	expect_text(json_object_get(json, "rdma"), "state", "failed");
}

static void expect_not_ready(const char *status, json_int_t registered, json_int_t total)
{
	json_t *json = http_json("GET", "/ready", NULL, 503);

	expect_text(json, "status", status);
	expect_text(json_object_get(json, "error"), "code", status);
	expect_number(json, "bytes_registered", registered);
	expect_number(json, "bytes_total", total);
}

TEST(ready__once_registered)
{
	http_json("GET", "/ready", NULL, 200);
	fake_keys_set(&keys, stats.wanted_bytes, 1000);
	expect_not_ready("registering", 0, 1000);
	fake_keys_set(&keys, stats.registered_bytes, 999);
	expect_not_ready("registering", 999, 1000);
	fake_keys_set(&keys, stats.registered_bytes, 1000);
	http_json("GET", "/ready", NULL, 200);
	maas_http_drain(server.http);
	expect_not_ready("draining", 1000, 1000);
}

TEST(stats__rdma)
{
	json_t *json;
	const json_t *at;

	fake_keys_set(&keys, stats.connected, 3);
	fake_keys_set(&keys, stats.registered_bytes, 4096);
	json = http_json("GET", "/stats", NULL, 200);
	at = json_object_get(json, "rdma");
	assert_int_equal(json_object_size(at), 3);
	expect_number(at, "connections", 3);
	expect_number(at, "grants", 0);
	expect_number(at, "registered_bytes", 4096);
}

TEST_MAIN(start, http_teardown)
