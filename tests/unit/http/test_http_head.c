/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request: nothing in its body is ever run as another request. */
#include <unistd.h>

#include <microhttpd.h>

#include "tests/unit/http/http_fixture.h"

/* More than the server reads (--max-header-size), and less than its library does. */
#define LONG_BYTES 20000

/* Sends `start_line`, `lines`, and a body that is a DELETE; in the lines @ stands for its length, ~
 * for a NUL, and $ for LONG_BYTES letters. */
static void expect_no_smuggling(const char *start_line, const char *lines)
{
	struct maas_buf request = {0};
	int fd = http_connect();
	const char *id = http_allocate(64);
	const char *inner = http_request("DELETE /allocate/%s", id);

	maas_buf_printf(&request, "%s HTTP/1.1\r\nHost: localhost\r\n", start_line);
	maas_buf_str(&request, "Content-Type: application/json\r\n");
	for (const char *at = lines; *at; at++) {
		if (*at == '@')
			maas_buf_u64(&request, strlen(inner));
		else if (*at == '$')
			maas_buf_printf(&request, "%0*d", LONG_BYTES, 7);
		else
			maas_buf_add(&request, *at == '~' ? "" : at, 1);
	}
	maas_buf_printf(&request, "\r\n%s", inner);
	http_send(fd, request.data, request.len);
	http_recv(fd, 300);
	close(fd);
	maas_buf_fini(&request);
	if (http_get(http_text("/allocate/%s", id))->status != 200)
		fail_msg("executed: %s %s: %s", start_line, lines, http_said);
}

TEST(head__a_body_is_no_request)
{
	static const char *const starts[] = {"POST /free", "GET /ready", "DELETE /allocate/x"};
	static const char *const lines[] = {
		"Content-Length : @\r\n",
		"Content-Length\t: @\r\n",
		" Content-Length: @\r\n",
		": x\r\nContent-Length: @\r\n",
		"X: 1\r\n: x\r\nContent-Length: @\r\n",
		"Content-Length: @\r\n: x\r\n",
		"X: 1\r\n:\r\nContent-Length: @\r\n",
		"X: 1\r\n:\nContent-Length: @\r\n",
		"Content-Length:\r\n @\r\n",
		"Content-Length:\n @\r\n",
		"Content-Length:\r\n\t@\r\n",
		"Content-Length: @\r\n 0\r\n",
		"X: a\r\n Content-Length: @\r\n",
		"X: a\r\n b\r\nContent-Length: @\r\n",
		"Transfer-Encoding : chunked\r\n",
		"Transfer-Encoding:\r\n chunked\r\n",
		"Transfer-Encoding: xchunked\r\n",
		"Transfer-Encoding: \vchunked\r\n",
		"Content-Length: \v@\r\n",
		"Content-Length: +@\r\n",
		"Content-Length: @, @\r\n",
		"Content-Length: 0\r\nContent-Length: @\r\n",
		"X: a\rContent-Length: @\r\n",
		"X: a\n\rContent-Length: @\r\n",
		"Content-Length~: @\r\n",
		"Content-Length: ~@\r\n",
		"Content\xc2\xadLength: @\r\n",
		"\"Content-Length\": @\r\n",
		"Foo\r\nContent-Length: @\r\n",
		"Content-Length: @\n",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lines); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(starts); j++)
			expect_no_smuggling(starts[j], lines[i]);
}

/* A head is too long and ambiguous at once: no longer is the length asked for, then. */
TEST(head__a_body_is_no_request_behind_a_long_one)
{
	static const char *const lines[] = {
		"Content-Length: 0\r\nContent-Length: @\r\nX: $\r\n",
		"Content-Length: @\r\nContent-Length: 0\r\nX: $\r\n",
		"Transfer-Encoding: xchunked\r\nX: $\r\n",
		"Transfer-Encoding: gzip, chunked\r\nX: $\r\n",
		"Host: b\r\nX: $\r\n",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lines); i++)
		expect_no_smuggling("POST /free", lines[i]);
}

static void expect_one(const char *request, int status, const char *parts)
{
	http_expect_raw(request, status, parts);
	if (strstr(http_said + 1, "HTTP/1.1 "))
		fail_msg("%s: several: %s", request, http_said);
}

TEST(head__what_is_allowed)
{
	expect_one("GET /ready HTTP/1.1\r\nHost:localhost\r\n\r\n", 200, "ready");
	expect_one("GET /ready HTTP/1.1\r\nHost: \t localhost\r\nX:\r\nY: \r\n\r\n", 200, "ready");
	expect_one("GET /ready HTTP/1.1\r\nX-!#$%&'*+.^_`|~: \xc3\xa4\tb\r\nHost: "
		   "localhost\r\nCookie: a=b; c=d\r\n\r\n",
		   200, "ready");
}

/* The words of the line are read to their ends; ~ stands for a NUL. */
TEST(head__its_line_is_three_words)
{
	static const char *const lines[] = {
		"GET /ready~x HTTP/1.1",    "GET~x /ready HTTP/1.1",  "GET /ready?~ HTTP/1.1",
		"GET /ready\r HTTP/1.1",    "GET /ready?\r HTTP/1.1", "GET /ready\x01 HTTP/1.1",
		"GET /ready?\x7f HTTP/1.1", "GET\t /ready HTTP/1.1",  "G\"ET /ready HTTP/1.1",
		"GET  /ready HTTP/1.1",	    "GET /rea\tdy HTTP/1.1",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lines); i++) {
		char request[100];
		int len = snprintf(request, sizeof(request), "%s\r\nHost: localhost\r\n\r\n",
				   lines[i]);
		int fd = http_connect();

		for (char *at = request; (at = strchr(at, '~'));)
			*at = '\0';
		http_send(fd, request, (size_t)len);
		http_recv(fd, 2000);
		close(fd);
		/* Newer versions of the library close without a word. */
		if (MHD_VERSION < 0x00097701)
			http_expect_parts(http_said, "400 Bad*\"bad_header\"*Connection: close");
		else if (*http_said)
			http_expect_parts(http_said, "HTTP/1.1 400 ");
	}
}

/* Whatever follows a head that can be read in two ways is not read at all. */
TEST(head__a_bad_one_closes)
{
	expect_one(http_text("GET /ready HTTP/1.1\r\nHost : localhost\r\n\r\n%s",
			     http_request("GET /ready")),
		   400, "Connection: close");
}

/* One that is too long is answered before its body comes, and without asking for that. */
TEST(head__a_long_one_closes)
{
	const char *line = http_text("X: %0*d", LONG_BYTES, 7);
	const char *parts = "Connection: close*headers_too_large";

	expect_one(
		http_text("%s%s", http_request("GET /ready\n%s", line), http_request("GET /ready")),
		431, parts);
	expect_one(http_request("POST /free\n%s\nContent-Length: 10\nExpect: 100-continue", line),
		   431, parts);
	/* Newer versions of the library refuse two lengths themselves, with a page of their own. */
	expect_one(http_request("POST /free\n%s\nContent-Length: 95\n"
				"Transfer-Encoding: chunked\n\n0\r\n\r\n%s",
				line, http_request("GET /ready")),
		   MHD_VERSION < 0x00097701 ? 431 : 400, "Connection: close");
}

TEST(head__a_malformed_length_gets_one_answer)
{
	static const char *const lengths[] = {"abc", "-1", "", "1x", "0x10", "9223372036854775808"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lengths); i++)
		expect_one(http_request("POST /free\nContent-Length: %s", lengths[i]), 400,
			   "Content-Length");
	expect_one(http_request("POST /free\nContent-Length: 99999999999999999999999"), 413,
		   "Content-Length");
}

/* All that comes for a request that the library may refuse by itself is one answer. */
static void expect_too_many(const char *request)
{
	int fd = http_connect();

	http_send_text(fd, request);
	http_recv(fd, 2000);
	close(fd);
	if (strncmp(http_said, "HTTP/1.1 ", 9) != 0 || strstr(http_said + 1, "HTTP/1.1 "))
		fail_msg("%s: not one answer: %s", request, http_said);
	/* Newer versions take them, or refuse them with a page of their own. */
	if (!strstr(http_said, "headers_too_large") && MHD_VERSION < 0x00097701)
		fail_msg("%s: %s", request, http_said);
}

static const char *repeat(const char *text, unsigned int count)
{
	char *all = malloc(strlen(text) * count + 1);
	const char *copy;

	assert_non_null(all);
	*all = '\0';
	for (unsigned int i = 0; i < count; i++)
		memcpy(all + i * strlen(text), text, strlen(text) + 1);
	copy = http_text("%s", all);
	free(all);
	return copy;
}

TEST(head__more_than_the_library_has_room_for_gets_one_answer)
{
	expect_too_many(http_request("GET /ready\nCookie: a=\""));
	expect_too_many(http_request("GET /ready\nCookie: %s", repeat("a;", 1200)));
	expect_too_many(http_request("GET /ready\nCookie: %040000d", 7));
	expect_too_many(http_request("GET /ready\n%s", repeat("x: y\n", 1500)));
}

/* One that fails behind the body of another connection is not this one's. */
TEST(head__trailers_of_another)
{
	const char *other =
		http_request("POST /free\nTransfer-Encoding: chunked\n\n2\r\n{}\r\n0\r\n%s",
			     repeat("x: y\r\n", 2000));
	int fd = http_connect();

	http_send_text(fd, "GET /ready HTTP/1.1\r\nHost: localhost\r\n");
	usleep(50000);
	for (int i = 0; i < 4; i++) {
		int another = http_connect();

		http_send_text(another, other);
		http_recv(another, 300);
		close(another);
	}
	http_send_text(fd, "\r\n");
	http_expect_answer(fd, 200, "ready");
}

TEST(head__range_lines)
{
	const char *id = http_allocate(10);

	expect_one(http_request("GET /allocate/%s/data\nRange: bytes=0-1\nRange: bytes=5-6", id),
		   400, "bad_range");
	expect_one(http_request(
			   "PUT /allocate/%s/data\nContent-Length: 1\nContent-Range: bytes 0-0/*\n"
			   "Content-Range: bytes 0-0/*\n\na",
			   id),
		   400, "bad_range");
}

TEST(head__absolute_form)
{
	expect_one(http_request("GET http://localhost/ready"), 200, "ready");
	expect_one(http_request("GET HTTP://127.0.0.1:3000/ready?x"), 200, "ready");
	expect_one(http_request("GET http://localhost"), 200, "<h1>maasd</h1>");
	expect_one(http_request("GET http://a@localhost/ready"), 400, "bad_host");
}

/* `count` arguments, in pieces of so many bytes. */
static void expect_query(int count, size_t piece, int status)
{
	struct maas_buf request = {0};
	int fd = http_connect();

	maas_buf_str(&request, "GET /ready?a");
	for (int i = 1; i < count; i++)
		maas_buf_str(&request, "&a=1");
	maas_buf_str(&request, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
	for (size_t i = 0; i < request.len; i += piece) {
		http_send(fd, request.data + i, piece < request.len - i ? piece : request.len - i);
		usleep(2000);
	}
	http_expect_answer(fd, status, "");
	maas_buf_fini(&request);
}

TEST(head__many_arguments_get_an_answer)
{
	expect_query(64, 10000, 200);
	expect_query(65, 10000, 400);
	expect_query(1500, 10000, 400);
	expect_query(1500, 1000, 400);
}

/* The next request on the connection is not affected, whatever the first one was refused for. */
TEST(head__many_arguments_are_of_one_request)
{
	static const char *const hosts[] = {"localhost", "evil.example"};
	char query[] = "&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a"
		       "&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a&a";

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(hosts); i++) {
		int fd = http_connect();

		assert_int_equal(
			http_ask(fd, http_text("GET /health?%s HTTP/1.1\r\nHost: %s\r\n\r\n", query,
					       hosts[i])),
			i ? 403 : 400);
		assert_int_equal(http_ask(fd, http_request("GET /health?a")), 200);
		close(fd);
	}
}

/* Behind a body in chunks trailers may come, which nobody checks: the connection ends there. */
TEST(head__a_chunked_body_ends_the_connection)
{
	expect_one(
		http_request("POST /free\nTransfer-Encoding: chunked\n\n2\r\n{}\r\n0\r\n: x\r\n%s",
			     http_request("GET /ready")),
		400, "");
}

HTTP_TEST_MAIN(.timeout_s = 5)
