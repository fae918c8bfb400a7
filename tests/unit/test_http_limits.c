/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, odd clients, and the addresses that are served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

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
		 "DELETE /allocate/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "1f4\r\n%0500d\r\n1f5\r\n%0501d\r\n0\r\n\r\n",
		 0, 0);
	expect_raw(chunks, "HTTP/1.1 413 ");
	expect_raw("POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
		   "HTTP/1.1 413 ");
	expect_raw("POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n"
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
	expect_call("POST", "/allocate", body, len, "Content-Type:", 200, "id");
	expect_call("POST", "/allocate", body, len, "Content-Type: Application/JSON;charset=utf-8",
		    200, "id");
}

static void headers__too_large(void **state)
{
	char header[3000];
	struct http_answer a;

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
	expect_raw("POST /allocate HTTP/1.0\r\n\r\n", "HTTP/1.1 411 ");
	fd = http_connect(&f);
	http_send_text(fd, "GET /ready HTTP/1.1\r\nHost: h\r\n\r\n"
			   "POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: 16\r\n\r\n"
			   "{\"size_bytes\":1}"
			   "GET /ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
	assert_non_null(strstr(buffer, "{\"status\":\"ready\"}\nHTTP/1.1 200"));
	assert_non_null(strstr(buffer, "{\"id\":\""));
	assert_non_null(strstr(buffer, "Connection: close"));
	close(fd);
}

static void protocol__nonsense_gets_an_error_or_a_close(void **state)
{
	static const char *const requests[] = {
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET /health\r\n\r\n",
		"GET /health HTTP/9.9\r\n\r\n",
		"GET /%00%ff%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://h/health HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\n",
		"POST /free HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /allocate HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
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
			       "%s HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n0\r\n\r\n"
			       "GET /health HTTP/1.1\r\nHost: h\r\n\r\n",
			       starts[i % MAAS_ARRAY_SIZE(starts)],
			       headers[i / MAAS_ARRAY_SIZE(starts)]);
		http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
		assert_memory_equal(buffer, "HTTP/1.1 400 ", 13);
		assert_non_null(strstr(buffer, "\"code\":\"bad_"));
		assert_null(strstr(buffer, "healthy"));
		close(fd);
	}
}

static void protocol__half_closed_client_is_answered(void **state)
{
	int fd = http_connect(&f);

	(void)state;
	http_send_text(fd, "GET /ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
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
	char id[MAAS_ID_TEXT];

	(void)state;
	http_allocate(&f, 4 << 20, id);
	for (int i = 0; i < KINDS; i++)
		fds[i] = http_connect(&f);
	setsockopt(fds[READER], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	http_send_text(fds[HEADERS], "GET /health HTTP/1.1\r\nX: ");
	http_send_text(fds[BODY],
		       "POST /allocate HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
	http_send_text(fds[READER], "GET /allocate/%s/data HTTP/1.1\r\nHost: h\r\n\r\n", id);
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
			http_send_text(fds[i], "POST /allocate HTTP/1.1\r\nHost: h\r\n"
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

/* ---- addresses */

static char dir[] = "/tmp/maas-http-XXXXXX";

static void serve_on(const char *address)
{
	const struct maas_http_options options = {.listen = &address, .num_listen = 1};

	http_fixture_start(&f, &options);
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
}

static int fail_on(const char *address, char error[MAAS_HTTP_ERROR])
{
	const struct maas_http_options options = {
		.slab = f.slab, .lend = f.lend, .listen = &address, .num_listen = 1};
	struct maas_http *http;

	return maas_http_start(&options, error, &http);
}

static void listen__unix_socket(void **state)
{
	char error[MAAS_HTTP_ERROR];
	char address[80];
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(address, sizeof(address), "unix:%s/sock", dir);
	serve_on(address);
	assert_string_equal(maas_http_url(f.http, 0), address);
	assert_int_equal(stat(address + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(fail_on(address, error), -EADDRINUSE);
	assert_non_null(strstr(error, address));
	assert_int_equal(stat(address + 5, &st), 0);
	http_fixture_stop(&f);
	assert_int_equal(stat(address + 5, &st), -1);
}

static void listen__stale_unix_socket(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char error[MAAS_HTTP_ERROR];
	char address[sizeof(addr.sun_path) + 8];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *file;

	(void)state;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/stale", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	snprintf(address, sizeof(address), "unix:%s", addr.sun_path);
	serve_on(address);
	snprintf(address, sizeof(address), "unix:%s/file", dir);
	file = fopen(address + 5, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(fail_on(address, error), -EEXIST);
	assert_int_equal(unlink(address + 5), 0);
	http_fixture_stop(&f);
	assert_int_equal(rmdir(dir), 0);
}

static void listen__ipv6(void **state)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	(void)state;
	if (fd < 0)
		return; /* this host has no IPv6 at all */
	close(fd);
	serve_on("[::1]:0");
	assert_memory_equal(maas_http_url(f.http, 0), "http://[::1]:", 13);
	http_fixture_stop(&f);
}

static void listen__several_or_none(void **state)
{
	const char *addresses[] = {"127.0.0.1:0", "localhost:0", NULL};
	struct maas_http_options options = {.listen = addresses, .num_listen = 2};
	char error[MAAS_HTTP_ERROR];
	struct maas_http *http;

	(void)state;
	http_fixture_start(&f, &options);
	assert_non_null(maas_http_url(f.http, 1));
	assert_null(maas_http_url(f.http, 2));
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
	options.slab = f.slab;
	options.lend = f.lend;
	addresses[2] = maas_http_url(f.http, 0) + 7;
	options.num_listen = 3;
	assert_int_equal(maas_http_start(&options, error, &http), -EADDRINUSE);
	http_fixture_stop(&f);
}

static void listen__bad_addresses(void **state)
{
	static const char *const bad[] = {"",	    "3000",	   ":3000",	      "127.0.0.1",
					  "::1:80", "127.0.0.1:x", "127.0.0.1:65536", "[::1]",
					  "[]:80",  "unix:",	   "127.0.0.1:-1"};
	char error[MAAS_HTTP_ERROR];

	(void)state;
	serve_on("127.0.0.1:0");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		assert_int_equal(fail_on(bad[i], error), -EINVAL);
		assert_non_null(strstr(error, "[IPV6]:PORT"));
	}
	http_fixture_stop(&f);
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
		TEST(protocol__nonsense_gets_an_error_or_a_close),
		TEST(protocol__ambiguous_length_is_refused),
		TEST(protocol__half_closed_client_is_answered),
		TEST(slow__clients_are_cut),
		TEST(slow__crowd_does_not_keep_others_out),
		cmocka_unit_test(listen__unix_socket),
		cmocka_unit_test(listen__stale_unix_socket),
		cmocka_unit_test(listen__ipv6),
		cmocka_unit_test(listen__several_or_none),
		cmocka_unit_test(listen__bad_addresses),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
