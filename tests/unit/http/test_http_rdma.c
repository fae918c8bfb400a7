/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says about RDMA: the address, the device, and whether it is ready. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

static const struct maas_http_rdma rdma = {
	.state = "active",
	.device = "rxe0",
	.gid = "::ffff:10.77.0.1",
	.port = 4000,
	.keys = "mr",
	.isolation_json = "{\"bounds\":true}",
	.isolated = true,
};

static void start(void)
{
	HTTP_START_KEYS(.rdma = rdma);
}

static void expect_address(json_t *session, const char *addr)
{
	http_expect_members(session, "{'rdma':{'addr':'%s','port':%d}}", addr, FAKE_KEYS_PORT);
}

static void expect_addresses(const char *addr)
{
	json_t *session = http_json("POST /sessions", "{}", 200);
	const char *id = http_string(session, "id");

	expect_address(session, addr);
	expect_address(http_json(http_text("POST /sessions/%s/ticket", id), NULL, 200), addr);
	expect_address(http_json(http_text("POST /sessions/%s/renew", id), NULL, 200), addr);
}

/* The address that the client came to is told to the keys, which may know a better one. */
TEST(session__address)
{
	expect_addresses("127.0.0.1");
}

TEST(session__address_unknown)
{
	const char *address = http_text("unix:/tmp/maas-rdma-%d.sock", getpid());

	HTTP_START_KEYS(.rdma = rdma, .listen = &address);
	expect_addresses("192.0.2.1");
}

/* Clients are not sent to a device that is gone, nor told to try again. */
TEST(session__device_gone)
{
	json_t *session;

	fake_keys_set(&keys, stats.state, "failed");
	fake_keys_set(&keys, unconnected, true);
	session = http_json("POST /sessions", "{}", 200);
	http_expect_members(session, "{'rdma':null}");
	http_expect_error("POST /allocate",
			  http_text("{'size_bytes':1,'session':'%s'}", http_string(session, "id")),
			  503, "rdma_failed");
}

TEST(health__rdma)
{
	json_t *json = http_json("GET /health", NULL, 200);

	http_expect_members(json,
			    "{'rdma':{'state':'active','device':'%s','gid':'%s',"
			    "'port':%d,'keys':'%s','isolation':{'bounds':true}}}",
			    rdma.device, rdma.gid, rdma.port, rdma.keys);
	fake_keys_set(&keys, stats.state, "failed");
	json = json_object_get(http_json("GET /health", NULL, 200), "rdma");
	http_expect_members(json, "{'state':'failed'}");
}

TEST(metrics__rdma)
{
	http_expect("GET /metrics", NULL, 200, "\nmaas_rdma_isolated 1\n");
}

static void expect_not_ready(const char *status, int registered)
{
	json_t *json = http_json("GET /ready", NULL, 503);

	http_expect_members(json,
			    "{'status':'%s','bytes_registered':%d,"
			    "'bytes_total':1000}",
			    status, registered);
	assert_string_equal(http_string(json_object_get(json, "error"), "code"), status);
}

TEST(ready__once_registered)
{
	http_json("GET /ready", NULL, 200);
	fake_keys_set(&keys, stats.wanted_bytes, 1000);
	expect_not_ready("registering", 0);
	fake_keys_set(&keys, stats.registered_bytes, 999);
	expect_not_ready("registering", 999);
	fake_keys_set(&keys, stats.registered_bytes, 1000);
	http_json("GET /ready", NULL, 200);
	maas_http_drain(server.http);
	expect_not_ready("draining", 1000);
}

TEST(stats__rdma)
{
	fake_keys_set(&keys, stats.connected, 3);
	fake_keys_set(&keys, stats.registered_bytes, 4096);
	http_expect_members(http_json("GET /stats", NULL, 200),
			    "{'rdma':{'connections':3,'grants':0,'registered_bytes':4096}}");
}

TEST_MAIN(start, http_teardown)
