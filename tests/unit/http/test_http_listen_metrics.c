/* SPDX-License-Identifier: Apache-2.0 */
/* An address for /health, /ready and /metrics alone: what it shows to whom, and that neither it nor
 * the main address can fill the other. */
#include <unistd.h>

#include "http/internal.h"
#include "tests/unit/http/http_fixture.h"

#define MAIN_CONNECTIONS 16

static void start(void)
{
	static const char *const address[] = {"127.0.0.1:0"};

	HTTP_START(.max_connections = MAIN_CONNECTIONS,
		   .max_connections_per_address = MAIN_CONNECTIONS / 2, .listen_metrics = address,
		   .num_listen_metrics = 1);
}

static void start_auth(void)
{
	start();
	http_use_principals(http_text("a token=sha256:%064d owner=a\n", 0));
}

/* One request on a connection of its own to that address. */
static void expect(const char *request, int status, const char *parts)
{
	int fd = http_connect_to(1, maas_http_metrics_url(server.http, 0));

	http_send_text(fd, http_request("%s", request));
	http_expect_answer(fd, status, parts);
}

TEST(url__of_each_kind)
{
	assert_non_null(maas_http_url(server.http, 0));
	assert_null(maas_http_url(server.http, 1));
	assert_non_null(maas_http_metrics_url(server.http, 0));
	assert_null(maas_http_metrics_url(server.http, 1));
	assert_string_not_equal(maas_http_url(server.http, 0),
				maas_http_metrics_url(server.http, 0));
}

TEST(calls__three_and_no_other)
{
	static const char *const others[] = {"/",	  "/openapi.yaml", "/stats",
					     "/whoami",	  "/nowhere",	   "/allocations",
					     "/metrics/", "/allocate/x",   "/overview"};

	expect("GET /health", 200, "arena_id");
	expect("GET /ready", 200, "");
	expect("GET /metrics?x=y", 200, "maas_build_info");
	expect("POST /metrics\nContent-Length: 0", 405, "");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i++)
		expect(http_text("GET %s", others[i]), 404, "no_such_path*--listen-metrics");
	expect("POST /allocate\nContent-Length: 0", 404, "");
	/* The main address has them all, these three included. */
	http_json("GET /whoami", NULL, 200);
	assert_int_equal(http_get("/metrics")->status, 200);
}

TEST(calls__ready_says_that_the_server_ends)
{
	maas_http_drain(server.http);
	expect("GET /ready", 503, "draining");
}

/* Whoever reaches the address has the right `metrics` there, and nowhere else. */
TEST(proof__none_is_asked_for)
{
	start_auth();
	expect("GET /health", 200, "arena_id");
	expect("GET /ready", 200, "");
	expect("GET /metrics", 200, "maas_principal_bytes{principal=\"a\"}");
	expect("GET /allocations", 404, "");
	assert_int_equal(http_get("/metrics")->status, 401);
}

/* It is no place to try tokens at. */
TEST(proof__none_is_looked_at)
{
	start_auth();
	for (int i = 0; i < 2 * MAAS_HTTP_MAX_FAILURES; i++)
		expect("GET /ready\nAuthorization: Bearer mt_x", 200, "");
	expect("GET /metrics", 200, "maas_auth_failures_total{reason=\"unknown\"} 0");
	assert_int_equal(http_get("/stats")->status, 401); /* not yet 429 */
}

TEST(connections__a_full_main_address)
{
	int fds[MAIN_CONNECTIONS + MAAS_HTTP_RESERVE];

	/* The reserve as well, as far as one client gets it. */
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fds); i++)
		fds[i] = http_connect();
	usleep(100000);
	assert_int_equal(http_ask(fds[0], http_request("GET /stats")), 200);
	for (int i = 0; i < 8; i++)
		expect("GET /metrics", 200, "");
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
}

TEST(connections__a_full_address_for_metrics)
{
	int fds[MAAS_HTTP_METRICS_CONNECTIONS_PER_ADDRESS];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fds); i++) {
		fds[i] = http_connect_to(1, maas_http_metrics_url(server.http, 0));
		assert_int_equal(http_ask(fds[i], http_request("GET /ready")), 200);
		assert_null(strstr(http_said, "Connection: close"));
	}
	/* One client has no more of them, except the reserve, … */
	expect("GET /ready", 200, "Connection: close");
	/* … and its part of the main address is its own. */
	http_json("GET /stats", NULL, 200);
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
}

TEST_MAIN(start, http_teardown)
