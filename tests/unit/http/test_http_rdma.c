/* SPDX-License-Identifier: Apache-2.0 */
/* What a server with RDMA says of it: where to connect to, what it is, whether it is ready. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

static struct http_fixture f;
static struct http_keys keys;

static const struct maas_http_rdma rdma = {
	.state = "active",
	.device = "rxe0",
	.gid = "::ffff:10.77.0.1",
	.port = 4000,
	.keys = "mr",
	.isolation_json = "{\"bounds\":true}",
};

static int start_at(const char *address)
{
	const char *const addresses[] = {address};
	const struct maas_http_options options = {
		.threads = 2,
		.rdma = rdma,
		.listen = addresses,
		.num_listen = 1,
	};

	http_keys_init(&keys);
	http_fixture_start_keys(&f, &options, &keys);
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_at("127.0.0.1:0");
}

static int start_unix(void **state)
{
	char address[64];

	(void)state;
	snprintf(address, sizeof(address), "unix:/tmp/maas-rdma-%d.sock", getpid());
	return start_at(address);
}

static int stop(void **state)
{
	(void)state;
	http_fixture_stop(&f);
	http_keys_fini(&keys);
	return 0;
}

static void expect_text(const json_t *json, const char *name, const char *text)
{
	assert_string_equal(json_string_value(json_object_get(json, name)), text);
}

static void expect_number(const json_t *json, const char *name, json_int_t number)
{
	assert_true(json_is_integer(json_object_get(json, name)));
	assert_int_equal(json_integer_value(json_object_get(json, name)), number);
}

/* Takes `session`. */
static void expect_address(json_t *session, const char *addr)
{
	const json_t *at = json_object_get(session, "rdma");

	assert_int_equal(json_object_size(at), 2);
	expect_text(at, "addr", addr);
	expect_number(at, "port", HTTP_KEYS_PORT);
	json_decref(session);
}

static void expect_addresses(const char *addr)
{
	json_t *session = http_json(&f, "POST", "/sessions", "{}", 200);
	char path[80];
	int len;

	len = snprintf(path, sizeof(path), "/sessions/%s",
		       json_string_value(json_object_get(session, "id")));
	expect_address(session, addr);
	snprintf(path + len, sizeof(path) - (size_t)len, "/ticket");
	expect_address(http_json(&f, "POST", path, NULL, 200), addr);
	snprintf(path + len, sizeof(path) - (size_t)len, "/renew");
	expect_address(http_json(&f, "POST", path, NULL, 200), addr);
}

/* The address that the client came to is told to the keys, which may know a better one. */
static void session__address(void **state)
{
	(void)state;
	expect_addresses("127.0.0.1");
}

static void session__address_unknown(void **state)
{
	(void)state;
	expect_addresses("192.0.2.1");
}

/* Clients are not sent to a device that is gone, nor told to try again. */
static void session__device_gone(void **state)
{
	json_t *session;
	char body[128];

	(void)state;
	http_keys_set(&keys, stats.state, "failed");
	http_keys_set(&keys, unconnected, true);
	session = http_json(&f, "POST", "/sessions", "{}", 200);
	assert_true(json_is_null(json_object_get(session, "rdma")));
	snprintf(body, sizeof(body), "{\"size_bytes\":1,\"session\":\"%s\"}",
		 json_string_value(json_object_get(session, "id")));
	http_expect_error(&f, "POST", "/allocate", body, 503, "rdma_failed");
	json_decref(session);
}

static void health__rdma(void **state)
{
	json_t *json = http_json(&f, "GET", "/health", NULL, 200);
	const json_t *at = json_object_get(json, "rdma");

	(void)state;
	assert_int_equal(json_object_size(at), 6);
	expect_text(at, "state", "active");
	expect_text(at, "device", rdma.device);
	expect_text(at, "gid", rdma.gid);
	expect_number(at, "port", rdma.port);
	expect_text(at, "keys", rdma.keys);
	assert_true(json_is_true(json_object_get(json_object_get(at, "isolation"), "bounds")));
	json_decref(json);
	http_keys_set(&keys, stats.state, "failed");
	json = http_json(&f, "GET", "/health", NULL, 200);
	expect_text(json_object_get(json, "rdma"), "state", "failed");
	json_decref(json);
}

static void expect_not_ready(const char *status, json_int_t registered, json_int_t total)
{
	json_t *json = http_json(&f, "GET", "/ready", NULL, 503);

	expect_text(json, "status", status);
	expect_text(json_object_get(json, "error"), "code", status);
	expect_number(json, "bytes_registered", registered);
	expect_number(json, "bytes_total", total);
	json_decref(json);
}

static void ready__once_registered(void **state)
{
	(void)state;
	json_decref(http_json(&f, "GET", "/ready", NULL, 200));
	http_keys_set(&keys, stats.wanted_bytes, 1000);
	expect_not_ready("registering", 0, 1000);
	http_keys_set(&keys, stats.registered_bytes, 999);
	expect_not_ready("registering", 999, 1000);
	http_keys_set(&keys, stats.registered_bytes, 1000);
	json_decref(http_json(&f, "GET", "/ready", NULL, 200));
	maas_http_drain(f.http);
	expect_not_ready("draining", 1000, 1000);
}

static void stats__rdma(void **state)
{
	json_t *json;
	const json_t *at;

	(void)state;
	http_keys_set(&keys, stats.connected, 3);
	http_keys_set(&keys, stats.registered_bytes, 4096);
	json = http_json(&f, "GET", "/stats", NULL, 200);
	at = json_object_get(json, "rdma");
	assert_int_equal(json_object_size(at), 3);
	expect_number(at, "connections", 3);
	expect_number(at, "grants", 0);
	expect_number(at, "registered_bytes", 4096);
	json_decref(json);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(session__address),
		cmocka_unit_test_setup_teardown(session__address_unknown, start_unix, stop),
		TEST(session__device_gone),
		TEST(health__rdma),
		TEST(ready__once_registered),
		TEST(stats__rdma),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
