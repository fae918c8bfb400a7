/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, and odd clients. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

#define IDLE 300
#define SLOW 60

static struct http_fixture f;
static char buffer[65536];

static int start(void **state)
{
	const struct maas_http_options options = {
		.threads = 2,
		.max_body_bytes = 1000,
		.max_header_bytes = 2000,
		.timeout_s = 1,
	};

	(void)state;
	http_fixture_start(&f, &options);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	http_fixture_stop(&f);
	return 0;
}

static void expect_raw(const char *request, const char *answer)
{
	int fd = http_connect(&f);

	http_send(fd, request, strlen(request));
	http_recv(fd, buffer, sizeof(buffer) - 1, 200);
	if (strncmp(buffer, answer, strlen(answer)) != 0)
		fail_msg("%s: %s", request, buffer);
	close(fd);
}

static void expect_call(const char *method, const char *path, const void *body, size_t len,
			const char *headers, long status, const char *code)
{
	struct http_answer a;

	http_call(&f, &a, method, path, body, len, headers);
	if (a.status != status || !strstr(a.body, code))
		fail_msg("%s %s: %ld %s", method, path, a.status, a.body);
	http_answer_fini(&a);
}

/* ---- sizes and kinds */

static void body__too_large(void **state)
{
	char large[1001];
	char chunks[1200];

	(void)state;
	memset(large, ' ', sizeof(large));
	expect_call("POST", "/allocate", large, 1000, NULL, 400, "bad_json");
	expect_call("POST", "/allocate", large, 1001, NULL, 413, "body_too_large");
	expect_call("POST", "/free", large, 1001, "Transfer-Encoding: chunked", 413,
		    "body_too_large");
	expect_call("DELETE", "/allocate/x", large, 1001, NULL, 413, "body_too_large");
	snprintf(chunks, sizeof(chunks),
		 "DELETE /allocate/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n"
		 "1f4\r\n%0500d\r\n1f5\r\n%0501d\r\n0\r\n\r\n",
		 0, 0);
	expect_raw(chunks, "HTTP/1.1 413 ");
	expect_raw("POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		   "application/json\r\nContent-Length: 1001\r\n\r\n",
		   "HTTP/1.1 413 ");
	expect_raw("POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		   "application/json\r\nContent-Length: 1001\r\n"
		   "Expect: 100-continue\r\n\r\n",
		   "HTTP/1.1 413 ");
}

static void body__unwanted_is_thrown_away(void **state)
{
	(void)state;
	expect_call("GET", "/ready", "abc", 3, NULL, 200, "ready");
	expect_call("DELETE", "/allocate/x", "abc", 3, "Content-Type: text/plain", 404,
		    "not_found");
}

static void body__needed(void **state)
{
	(void)state;
	http_expect_error(&f, "POST", "/allocate", NULL, 411, "length_required");
	http_expect_error(&f, "POST", "/free", NULL, 411, "length_required");
	http_expect_error(&f, "POST", "/sessions", NULL, 411, "length_required");
	http_expect_error(&f, "POST", "/data/read", NULL, 411, "length_required");
	http_expect_error(&f, "POST", "/data/write", NULL, 411, "length_required");
	http_expect_error(&f, "POST", "/allocate", "", 400, "bad_json");
}

static void body__type(void **state)
{
	const char *body = "{\"size_bytes\":1}";
	size_t len = strlen(body);

	(void)state;
	expect_call("POST", "/allocate", body, len, "Content-Type: text/plain", 415,
		    "Content-Type: application/json");
	expect_call("POST", "/allocate", body, len, "Content-Type: application/jsonl", 415,
		    "not_json");
	expect_call("POST", "/allocate", body, len, "Content-Type:", 415, "not_json");
	/* Nothing to say the type of. */
	expect_call("POST", "/allocate/x/renew", "", 0, "Content-Type:", 404, "not_found");
	expect_call("POST", "/allocate", body, len, "Content-Type: Application/JSON;charset=utf-8",
		    200, "id");
}

static void headers__too_large(void **state)
{
	int fd = http_connect(&f);
	char header[3000];
	struct http_answer a;
	size_t len;

	(void)state;
	snprintf(header, sizeof(header), "X-A: %0*d", 400, 7);
	http_call(&f, &a, "GET", "/health", NULL, 0, header);
	assert_int_equal(a.status, 200);
	http_answer_fini(&a);
	for (int i = 0; i < 5; i++)
		snprintf(header + strlen(header), sizeof(header) - strlen(header), "\nX-%d: %0*d",
			 i, 330, 7);
	http_call(&f, &a, "GET", "/health", NULL, 0, header);
	assert_int_equal(a.status, 431);
	assert_non_null(strstr(a.body, "headers_too_large"));
	http_answer_fini(&a);
	/* Up to the memory of a connection it is this server that answers, not its library. */
	len = (size_t)snprintf(buffer, sizeof(buffer),
			       "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
			       "%060000d\r\n\r\n",
			       7);
	http_send(fd, buffer, len);
	http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
	assert_memory_equal(buffer, "HTTP/1.1 431 ", 13);
	assert_non_null(strstr(buffer, "headers_too_large"));
	close(fd);
}

/* ---- the protocol */

static void connection__is_kept(void **state)
{
	struct http_answer a;

	(void)state;
	for (int i = 0; i < 5; i++) {
		http_call(&f, &a, "GET", i == 3 ? "/nowhere" : "/health", NULL, 0, NULL);
		assert_int_equal(a.new_connections, i == 0);
		http_answer_fini(&a);
	}
}

static void protocol__versions_and_pipelines(void **state)
{
	int fd;

	(void)state;
	expect_raw("GET /ready HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ");
	expect_raw("POST /allocate HTTP/1.0\r\nHost: [::1]\r\n\r\n", "HTTP/1.1 411 ");
	fd = http_connect(&f);
	http_send_text(fd, "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
			   "POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
			   "application/json\r\nContent-Length: 16\r\n\r\n"
			   "{\"size_bytes\":1}"
			   "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
	assert_non_null(strstr(buffer, "{\"status\":\"ready\"}\nHTTP/1.1 200"));
	assert_non_null(strstr(buffer, "{\"id\":\""));
	assert_non_null(strstr(buffer, "Connection: close"));
	close(fd);
}

/* Newer versions of the library refuse such heads themselves, with a page of their own. */
static bool by_library(void)
{
	return strstr(buffer, "<html>");
}

static void protocol__one_host(void **state)
{
	static const char *const bad[] = {
		"GET /health HTTP/1.1\r\n\r\n",
		"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET /health HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nContent-Length: 16\r\n\r\n{\"size_bytes\":1}",
	};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		expect_raw(bad[i], "HTTP/1.1 400 ");
		assert_true(strstr(buffer, "\"bad_host\"") || by_library());
	}
	expect_raw("GET /health HTTP/1.1\r\nHost:\r\n\r\n", "HTTP/1.1 403 ");
	expect_raw("GET /health HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ");
}

/* A path is what it says, to its end, and one word of one line in the log. */
static void protocol__escapes_in_a_path(void **state)
{
	static const char *const bad[] = {"/health%00", "/health%00/x", "/health%0a", "/health%7f"};
	char name[] = "/tmp/maas-log-XXXXXX";
	int fd = mkstemp(name);
	size_t len;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		expect_call("GET", bad[i], NULL, 0, NULL, 404, bad[i]);
	expect_call("GET", "/%68ealth", NULL, 0, NULL, 200, "healthy");
	expect_call("GET", "/allocations?owner=a%00b", NULL, 0, NULL, 400, "bad_field");
	expect_call("GET", "/allocations?owner=a%0ab", NULL, 0, NULL, 400, "bad_field");
	assert_int_equal(maas_log_open(name), 0);
	maas_log_set_level(MAAS_LOG_INFO);
	expect_call("POST", "/a%20status=200%0d%0aforged%01", "", 0, NULL, 404, "no_such_path");
	http_wait_idle(&f);
	maas_log_set_level(MAAS_LOG_WARN);
	assert_int_equal(maas_log_open(NULL), 0);
	len = (size_t)read(fd, buffer, sizeof(buffer) - 1);
	buffer[len] = '\0';
	assert_ptr_equal(strchr(buffer, '\n'), buffer + len - 1);
	assert_non_null(strstr(buffer, " POST /a%20status=200%0d%0aforged%01 status=404 "));
	close(fd);
	unlink(name);
}

static void protocol__nonsense_gets_an_error_or_a_close(void **state)
{
	static const char *const requests[] = {
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET /health\r\n\r\n",
		"GET /health HTTP/9.9\r\n\r\n",
		"GET /%00%ff%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://h/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		"application/json\r\nContent-Length: -1\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		"application/json\r\nContent-Length: 1x\r\n\r\n",
		"POST /free HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		"application/json\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
		"chunked\r\n\r\nzz\r\n",
		"POST /free HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(requests); i++) {
		int fd = http_connect(&f);

		http_send(fd, requests[i], strlen(requests[i]));
		shutdown(fd, SHUT_WR);
		http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
		if (*buffer)
			assert_memory_equal(buffer, "HTTP/1.", 7);
		assert_null(strstr(buffer, " 500 "));
		close(fd);
	}
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
}

/* Who reads the length another way would take the rest for a request, or the request for a rest. */
static void protocol__ambiguous_length_is_refused(void **state)
{
	static const char *const headers[] = {
		"Content-Length: 0\r\nContent-Length: 40",
		"Content-Length: 40\r\nContent-Length: 0",
		"Content-Length: 0\r\nContent-Length: 0",
		"Content-Length: 5\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nContent-Length: 5",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: gzip, chunked",
	};
	static const char *const starts[] = {"GET /ready", "POST /allocate", "DELETE /allocate/x"};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(headers) * MAAS_ARRAY_SIZE(starts); i++) {
		int fd = http_connect(&f);

		http_send_text(fd,
			       "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n0\r\n\r\n"
			       "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
			       starts[i % MAAS_ARRAY_SIZE(starts)],
			       headers[i / MAAS_ARRAY_SIZE(starts)]);
		http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
		assert_memory_equal(buffer, "HTTP/1.1 400 ", 13);
		assert_true(strstr(buffer, "\"code\":\"bad_") || by_library());
		assert_null(strstr(buffer, "healthy"));
		close(fd);
	}
}

static void protocol__half_closed_client_is_answered(void **state)
{
	int fd = http_connect(&f);

	(void)state;
	http_send_text(fd, "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	shutdown(fd, SHUT_WR);
	http_recv(fd, buffer, sizeof(buffer) - 1, 1000);
	assert_memory_equal(buffer, "HTTP/1.1 200 ", 13);
	close(fd);
}

/* ---- slow clients; the timeout is 1 s */

static bool is_closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0 ||
	       (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void wait_closed(int fd)
{
	for (int i = 0; i < 1500 && !is_closed(fd); i++)
		usleep(10000);
	assert_true(is_closed(fd));
}

enum { HEADERS, BODY, SILENT, READER, KINDS };

/* One of each kind of slow client, side by side; each must be gone in its time. */
static void slow__clients_are_cut(void **state)
{
	static const struct {
		uint64_t min_ms;
		uint64_t max_ms;
	} times[KINDS] = {{1500, 15000}, {800, 15000}, {800, 15000}, {0, 15000}};
	uint64_t start_ms = maas_clock_ms();
	int fds[KINDS];
	uint64_t ms[KINDS] = {0};
	int small = 64 << 10;
	char id[MAAS_SLAB_ID_TEXT];

	(void)state;
	http_allocate(&f, 4 << 20, id);
	for (int i = 0; i < KINDS; i++)
		fds[i] = http_connect(&f);
	setsockopt(fds[READER], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	http_send_text(fds[HEADERS], "GET /health HTTP/1.1\r\nX: ");
	http_send_text(fds[BODY], "POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
				  "application/json\r\nContent-Length: 900\r\n\r\n");
	http_send_text(fds[READER], "GET /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n\r\n",
		       id);
	while (!ms[HEADERS] || !ms[BODY] || !ms[SILENT]) {
		usleep(100000);
		http_send(fds[HEADERS], "x", 1);
		http_send(fds[BODY], " ", 1);
		for (int i = 0; i < READER; i++)
			if (!ms[i] && is_closed(fds[i]))
				ms[i] = maas_clock_ms() - start_ms;
		assert_in_range(maas_clock_ms() - start_ms, 0, 20000);
	}
	for (int i = 0; i < KINDS; i++) {
		assert_in_range(ms[i], times[i].min_ms, times[i].max_ms);
		close(fds[i]);
	}
	http_wait_idle(&f);
}

static void slow__crowd_does_not_keep_others_out(void **state)
{
	int fds[IDLE + SLOW];

	(void)state;
	for (int i = 0; i < IDLE + SLOW; i++) {
		fds[i] = http_connect(&f);
		if (i >= IDLE)
			http_send_text(fds[i], "POST /allocate HTTP/1.1\r\nHost: "
					       "localhost\r\nContent-Type: application/json\r\n"
					       "Content-Length: 900\r\n\r\n{");
	}
	for (int i = 0; i < 50; i++)
		json_decref(http_json(&f, "GET", "/health", NULL, 200));
	for (int i = 0; i < IDLE + SLOW; i++) {
		wait_closed(fds[i]);
		close(fds[i]);
	}
	http_wait_idle(&f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(body__too_large),
		TEST(body__unwanted_is_thrown_away),
		TEST(body__needed),
		TEST(body__type),
		TEST(headers__too_large),
		TEST(connection__is_kept),
		TEST(protocol__versions_and_pipelines),
		TEST(protocol__one_host),
		TEST(protocol__escapes_in_a_path),
		TEST(protocol__nonsense_gets_an_error_or_a_close),
		TEST(protocol__ambiguous_length_is_refused),
		TEST(protocol__half_closed_client_is_answered),
		TEST(slow__clients_are_cut),
		TEST(slow__crowd_does_not_keep_others_out),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
