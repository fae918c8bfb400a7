/* SPDX-License-Identifier: Apache-2.0 */
/* The slabs' bytes over HTTP, one range at a time. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

#define SIZE 3000000u /* not a whole number of anything */

static const char *path; /* of the data of an allocation: 100 bytes, 0 to 99 */
static unsigned char pattern[SIZE];

static void start(void)
{
	const struct http_answer *a;

	http_setup();
	path = http_text("/allocate/%s/data", http_allocate(100));
	for (unsigned int i = 0; i < SIZE; i++)
		pattern[i] = (unsigned char)(i < 100 ? i : i * 2654435761u >> 24);
	a = http_call(http_text("PUT %s", path), pattern, 100);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->len, 0);
}

/* One GET, and what its answer says of the bytes. */
static void expect_get(const char *range, long status, unsigned int first, size_t len)
{
	const char *lines = range ? http_text("\nRange: %s", range) : "";
	const struct http_answer *a = http_call(http_text("GET %s%s", path, lines), NULL, 0);
	const char *says = "Content-Range: bytes */100";

	if (a->status != status)
		fail_msg("Range %s: %ld, not %ld", range, a->status, status);
	if (status < 300) {
		says = status == 200 ? http_text("Content-Length: %zu", len)
				     : http_text("Content-Range: bytes %u-%zu/100", first,
						 first + len - 1);
		assert_int_equal(a->len, len);
		assert_memory_equal(a->body, pattern + first, len);
		http_expect_parts(a->headers, "\nAccept-Ranges: bytes\r");
		http_expect_parts(a->headers, "\nContent-Type: application/octet-stream\r");
	}
	says = http_text("\n%s\r", says); /* it may have a '*', which no part can */
	if (!strstr(a->headers, says))
		fail_msg("no %s in %s", says, a->headers);
}

/* `lines` are of the head, each with a '\n' before it. */
static void expect_put(const char *lines, const void *body, size_t len, long status)
{
	const struct http_answer *a = http_call(http_text("PUT %s%s", path, lines), body, len);

	if (a->status != status)
		fail_msg("PUT %s: %ld, not %ld: %s", lines, a->status, status, a->body);
}

TEST(get__ranges)
{
	expect_get(NULL, 200, 0, 100);
	expect_get("bytes=0-0", 206, 0, 1);
	expect_get("bytes=10-19", 206, 10, 10);
	expect_get("bytes=90-", 206, 90, 10);
	expect_get("bytes=-3", 206, 97, 3);
	expect_get("bytes=50-5000", 206, 50, 50);
	expect_get("bytes=0-1,5-6", 200, 0, 100);
	expect_get("lines=0-1", 200, 0, 100);
	expect_get("bytes=100-", 416, 0, 0);
	expect_get("bytes=-0", 416, 0, 0);
	expect_get("bytes=0-1\nIf-Range: \"x\"", 200, 0, 100);
}

TEST(head__ignores_range)
{
	const struct http_answer *a = http_expect(http_text("HEAD %s\nRange: bytes=0-0", path),
						  NULL, 200, "\nContent-Length: 100\r");

	assert_int_equal(a->len, 0);
}

TEST(put__every_size)
{
	static const unsigned int sizes[] = {1, 1023, 1024, 1025, 8192, 65536, 1000000, SIZE};

	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(sizes); i++) {
		unsigned int size = sizes[i / 2];

		path = http_text("/allocate/%s/data", http_allocate(size));
		expect_put(i % 2 ? "\nTransfer-Encoding: chunked\nExpect:" : "", pattern, size,
			   200);
		expect_get(NULL, 200, 0, size);
	}
}

TEST(put__shorter_leaves_the_rest)
{
	expect_put("", "\x00\x01", 2, 200);
	expect_put("", "", 0, 200);
	expect_get(NULL, 200, 0, 100);
	expect_put("", "ab", 2, 200);
	expect_get("bytes=2-", 206, 2, 98);
}

TEST(put__content_range)
{
	expect_put("\nContent-Range: bytes 10-11/100", "xy", 2, 200);
	expect_get("bytes=0-9", 206, 0, 10);
	expect_get("bytes=12-", 206, 12, 88);
	expect_put("\nContent-Range: bytes 10-11/*", pattern + 10, 2, 200);
	expect_put("\nContent-Range: bytes 10-11/100\nTransfer-Encoding: chunked", pattern + 10, 2,
		   200);
	expect_put("\nContent-Range: bytes 98-99/*", pattern + 98, 2, 200);
	expect_get(NULL, 200, 0, 100);
}

TEST(put__refuses_ranges)
{
	expect_put("\nContent-Range: bytes 10-11/100", "xyz", 3, 400);
	expect_put("\nContent-Range: bytes 10-11/100", "x", 1, 400);
	expect_put("\nContent-Range: bytes 10/100", "x", 1, 400);
	expect_put("\nContent-Range: bytes */100", "x", 1, 400);
	expect_put("\nContent-Range: bytes 99-100/*", "xy", 2, 416);
	http_expect(http_text("PUT %s\nContent-Range: bytes 0-1/101", path), "xy", 416,
		    "Content-Range: bytes */100*a total of 101 bytes, and the allocation has 100");
	http_expect(http_text("PUT %s\nContent-Range: bytes 99-100/101", path), "xy", 416,
		    "Content-Range: bytes */100*outside of the allocation's 100 bytes");
	expect_put("\nContent-Range: bytes 9223372036854775805-9223372036854775806/*", "xy", 2,
		   416);
	expect_get(NULL, 200, 0, 100);
	expect_put("\nContent-Range: bytes 0-1/100\nTransfer-Encoding: chunked", "\0\1\2", 3, 400);
	expect_put("\nContent-Range: bytes 0-2/100\nTransfer-Encoding: chunked", "\0\1", 2, 400);
	expect_get(NULL, 200, 0, 100);
}

TEST(put__too_long)
{
	expect_put("", pattern, 101, 413);
	expect_put("\nTransfer-Encoding: chunked", pattern, 101, 413);
	expect_put("\nTransfer-Encoding: chunked\nExpect:", pattern, 200000, 413);
	expect_get(NULL, 200, 0, 100);
}

/* ---- by hand: what comes before the body */

TEST(put__refused_before_the_body)
{
	static const struct {
		const char *headers;
		int status;
	} cases[] = {
		{"Content-Length: 101", 413},
		{"Content-Length: 101\nExpect: 100-continue", 413},
		{"Content-Length: 9223372036854775807", 413},
		{"Content-Length: 10\nContent-Range: bytes 95-104/*\nExpect: 100-continue", 416},
		{"Content-Length: 10\nExpect: 100-continue", 100},
		{"X: y", 411},
		{"Transfer-Encoding: gzip", 400},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		http_expect_raw(http_request("PUT %s\n%s", path, cases[i].headers), cases[i].status,
				"");
}

/* An upload without Expect that is far too long: the client sends all of it, then reads. */
TEST(put__refusal_is_read_by_a_client_that_sends_on)
{
	for (int i = 0; i < 20; i++) {
		int fd = http_connect();

		http_send_text(fd, http_request("PUT %s\nContent-Length: %u", path, SIZE));
		assert_true(http_send(fd, pattern, SIZE));
		http_expect_answer(fd, 413, "");
	}
}

TEST(put__broken_off)
{
	int fd = http_connect();

	http_send_text(fd, http_request("PUT %s\nContent-Length: 100\n\nabc", path));
	usleep(50000);
	close(fd);
	http_wait_idle();
	expect_get("bytes=3-", 206, 3, 97);
}

TEST_MAIN(start, http_teardown)
