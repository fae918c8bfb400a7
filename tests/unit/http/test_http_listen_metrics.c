/* SPDX-License-Identifier: Apache-2.0 */
/* An address for /health, /ready and /metrics alone: what it shows to whom, and that neither it nor
 * the main address can fill the other. */
#include <unistd.h>

#include "http/internal.h"
#include "tests/unit/http/http_fixture.h"

#define MAIN_CONNECTIONS 16

static char buffer[1 << 20];

static void start(void)
{
	static const char *const address[] = {"127.0.0.1:0"};
	const struct maas_http_options options = {
		.threads = 2,
		.max_connections = MAIN_CONNECTIONS,
		.max_connections_per_address = MAIN_CONNECTIONS / 2,
		.listen_metrics = address,
		.num_listen_metrics = 1,
	};

	http_start(&options);
}

static const char *const anybody =
	"a token=sha256:"
	"0000000000000000000000000000000000000000000000000000000000000000"
	" owner=a\n";

static void start_auth(void)
{
	start();
	http_use_principals(anybody);
}

/* One request; returns the status of its answer, 0 when the connection was closed instead. */
static int ask(int fd, const char *method, const char *path, const char *headers)
{
	http_send_text(fd, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, path, headers);
	return http_recv_answer(fd, buffer, sizeof(buffer) - 1);
}

static int connect_metrics(void)
{
	return http_connect_to(maas_http_metrics_url(server.http, 0));
}

/* The same on a connection of its own to the address for metrics. */
static int ask_once(const char *method, const char *path, const char *headers)
{
	int fd = connect_metrics();
	int status = ask(fd, method, path, headers);

	close(fd);
	return status;
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

	assert_int_equal(ask_once("GET", "/health", ""), 200);
	assert_non_null(strstr(buffer, "arena_id"));
	assert_int_equal(ask_once("GET", "/ready", ""), 200);
	assert_int_equal(ask_once("GET", "/metrics?x=y", ""), 200);
	assert_non_null(strstr(buffer, "maas_build_info"));
	assert_int_equal(ask_once("POST", "/metrics", "Content-Length: 0\r\n"), 405);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i++) {
		assert_int_equal(ask_once("GET", others[i], ""), 404);
		assert_non_null(strstr(buffer, "no_such_path"));
		assert_non_null(strstr(buffer, "--listen-metrics"));
	}
	assert_int_equal(ask_once("POST", "/allocate",
				  "Content-Type: application/json\r\nContent-Length: 0\r\n"),
			 404);
	/* The main address has them all, these three included. */
	http_json("GET", "/whoami", NULL, 200);
	assert_int_equal(http_get("/metrics")->status, 200);
}

TEST(calls__ready_says_that_the_server_ends)
{
	maas_http_drain(server.http);
	assert_int_equal(ask_once("GET", "/ready", ""), 503);
	assert_non_null(strstr(buffer, "draining"));
}

/* Whoever reaches the address has the right `metrics` there, and nowhere else. */
TEST(proof__none_is_asked_for)
{
	start_auth();
	assert_int_equal(ask_once("GET", "/health", ""), 200);
	assert_non_null(strstr(buffer, "arena_id"));
	assert_int_equal(ask_once("GET", "/ready", ""), 200);
	assert_int_equal(ask_once("GET", "/metrics", ""), 200);
	assert_non_null(strstr(buffer, "maas_principal_bytes{principal=\"a\"}"));
	assert_int_equal(ask_once("GET", "/allocations", ""), 404);
	assert_int_equal(http_get("/metrics")->status, 401);
}

/* It is no place to try tokens at. */
TEST(proof__none_is_looked_at)
{
	start_auth();
	for (int i = 0; i < 2 * MAAS_HTTP_MAX_FAILURES; i++)
		assert_int_equal(ask_once("GET", "/ready", "Authorization: Bearer mt_x\r\n"), 200);
	assert_int_equal(ask_once("GET", "/metrics", ""), 200);
	assert_non_null(strstr(buffer, "maas_auth_failures_total{reason=\"unknown\"} 0"));
	assert_int_equal(http_get("/stats")->status, 401); /* not yet 429 */
}

TEST(connections__a_full_main_address)
{
	int fds[MAIN_CONNECTIONS + MAAS_HTTP_RESERVE];
	unsigned int i;

	/* The reserve as well, as far as one client gets it. */
	for (i = 0; i < MAAS_ARRAY_SIZE(fds); i++)
		fds[i] = http_connect();
	usleep(100000);
	assert_int_equal(ask(fds[0], "GET", "/stats", ""), 200);
	for (i = 0; i < 8; i++)
		assert_int_equal(ask_once("GET", "/metrics", ""), 200);
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
}

TEST(connections__a_full_address_for_metrics)
{
	int fds[MAAS_HTTP_METRICS_CONNECTIONS_PER_ADDRESS];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fds); i++) {
		fds[i] = connect_metrics();
		assert_int_equal(ask(fds[i], "GET", "/ready", ""), 200);
		assert_null(strstr(buffer, "Connection: close"));
	}
	/* One client has no more of them, except the reserve, … */
	assert_int_equal(ask_once("GET", "/ready", ""), 200);
	assert_non_null(strstr(buffer, "Connection: close"));
	/* … and its part of the main address is its own. */
	http_json("GET", "/stats", NULL, 200);
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
}

TEST_MAIN(start, http_teardown)
