/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, and odd clients. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

/* ---- sizes and kinds */

TEST(body__too_large)
{
	const char *large = http_text("%1001s", "");

	http_expect("POST /allocate", large + 1, 400, "bad_json");
	http_expect("POST /allocate", large, 413, "body_too_large");
	http_expect("POST /free\nTransfer-Encoding: chunked", large, 413, "body_too_large");
	http_expect("DELETE /allocate/x", large, 413, "body_too_large");
	http_expect_raw(http_request("DELETE /allocate/x\nTransfer-Encoding: chunked\n\n"
				     "1f4\r\n%0500d\r\n1f5\r\n%0501d\r\n0\r\n\r\n",
				     0, 0),
			413, "");
	http_expect_raw(http_request("POST /allocate\nContent-Length: 1001"), 413, "");
	http_expect_raw(http_request("POST /allocate\nContent-Length: 1001\nExpect: 100-continue"),
			413, "");
}

TEST(body__unwanted_is_thrown_away)
{
	http_expect("GET /ready", "abc", 200, "ready");
	http_expect("DELETE /allocate/x\nContent-Type: text/plain", "abc", 404, "not_found");
}

TEST(headers__too_large)
{
	const char *request = http_text("GET /health\nX-A: %0400d", 7);

	http_expect(request, NULL, 200, "");
	for (int i = 0; i < 5; i++)
		request = http_text("%s\nX-%d: %0330d", request, i, 7);
	http_expect(request, NULL, 431, "headers_too_large");
	/* Up to the memory of a connection it is this server that answers, not its library. */
	http_expect_raw(http_request("GET /health\nConnection: close\nX: %060000d", 7), 431,
			"headers_too_large");
}

/* ---- the protocol */

TEST(connection__is_kept)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(http_get(i == 3 ? "/nowhere" : "/health")->new_connections,
				 i == 0);
}

TEST(protocol__versions_and_pipelines)
{
	http_expect_raw("GET /ready HTTP/1.0\r\n\r\n", 200, "");
	http_expect_raw("POST /allocate HTTP/1.0\r\nHost: [::1]\r\n\r\n", 411, "");
	http_expect_raw(
		http_text("%s%s%s", http_request("GET /ready"),
			  http_request("POST /allocate\nContent-Length: 16\n\n{\"size_bytes\":1}"),
			  http_request("GET /ready\nConnection: close")),
		200, "{\"status\":\"ready\"}\nHTTP/1.1 200*{\"id\":\"*Connection: close");
}

/* Newer versions of the library refuse such heads themselves, with a page of their own. */
static void expect_bad(const char *request, const char *code)
{
	http_expect_raw(request, 400, "");
	assert_true(strstr(http_said, code) || strstr(http_said, "<html>"));
}

TEST(protocol__one_host)
{
	static const char *const bad[] = {
		"GET /health HTTP/1.1\r\n\r\n",
		"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET /health HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nContent-Length: 16\r\n\r\n{\"size_bytes\":1}",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		expect_bad(bad[i], "\"bad_host\"");
	http_expect_raw("GET /health HTTP/1.1\r\nHost:\r\n\r\n", 403, "");
}

/* A path counts to its end, escapes included, and is one word of one line in the log. */
TEST(protocol__escapes_in_a_path)
{
	static const char *const bad[] = {"/health%00", "/health%00/x", "/health%0a", "/health%7f"};
	const char *log;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		http_expect(http_text("GET %s", bad[i]), NULL, 404, bad[i]);
	http_expect("GET /%68ealth", NULL, 200, "healthy");
	http_expect("GET /allocations?owner=a%00b", NULL, 400, "bad_field");
	http_expect("GET /allocations?owner=a%0ab", NULL, 400, "bad_field");
	http_log_begin();
	http_expect("POST /a%20status=200%0d%0aforged%01", "", 404, "no_such_path");
	log = http_log_end();
	assert_string_equal(strchr(log, '\n'), "\n");
	http_expect_parts(log, " POST /a%20status=200%0d%0aforged%01 status=404 ");
}

/* A proxy that reads the length differently would take the rest for a request, or the reverse. */
TEST(protocol__ambiguous_length_is_refused)
{
	static const char *const headers[] = {
		"Content-Length: 0\nContent-Length: 40",
		"Content-Length: 40\nContent-Length: 0",
		"Content-Length: 0\nContent-Length: 0",
		"Content-Length: 5\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\nContent-Length: 5",
		"Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
		"Transfer-Encoding: gzip, chunked",
	};
	static const char *const starts[] = {"GET /ready", "POST /allocate", "DELETE /allocate/x"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(headers); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(starts); j++) {
			expect_bad(http_request("%s\n%s\n\n0\r\n\r\n%s", starts[j], headers[i],
						http_request("GET /health")),
				   "\"code\":\"bad_");
			assert_null(strstr(http_said, "healthy"));
		}
}

/* ---- slow clients */

enum { HEADERS, BODY, SILENT, READER, KINDS };

/* One of each kind of slow client, side by side; each must be gone in its time. */
TEST(slow__clients_are_cut)
{
	static const uint64_t min_ms[KINDS] = {1500, 800, 800, 0};
	uint64_t start_ms, ms[KINDS] = {0};
	int fds[KINDS];
	int small = 64 << 10;
	const char *id, *count;

	HTTP_START(.timeout_s = 1);
	id = http_allocate(4 << 20);
	start_ms = maas_clock_ms();
	for (int i = 0; i < KINDS; i++)
		fds[i] = http_connect();
	setsockopt(fds[READER], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	http_send_text(fds[HEADERS], "GET /health HTTP/1.1\r\nX: ");
	http_send_text(fds[BODY], http_request("POST /allocate\nContent-Length: 900"));
	http_send_text(fds[READER], http_request("GET /allocate/%s/data", id));
	while (!ms[HEADERS] || !ms[BODY] || !ms[SILENT]) {
		usleep(100000);
		http_send(fds[HEADERS], "x", 1);
		http_send(fds[BODY], " ", 1);
		for (int i = 0; i < READER; i++)
			if (!ms[i] &&
			    poll(&(struct pollfd){.fd = fds[i], .events = POLLRDHUP}, 1, 0))
				ms[i] = maas_clock_ms() - start_ms;
		assert_in_range(maas_clock_ms() - start_ms, 0, 20000);
	}
	for (int i = 0; i < KINDS; i++) {
		assert_in_range(ms[i], min_ms[i], 15000);
		close(fds[i]);
	}
	http_wait_idle();
	count = strstr(http_get("/metrics")->body, "\nmaas_http_slow_connections_total ");
	assert_non_null(count);
	assert_in_range(strtoull(strchr(count, ' '), NULL, 10), 1, KINDS);
}

HTTP_TEST_MAIN(.max_body_bytes = 1000, .max_header_bytes = 2000)
