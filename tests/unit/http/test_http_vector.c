/* SPDX-License-Identifier: Apache-2.0 */
/* Many ranges in one request: /data/read and /data/write. */
#include "http/parse.h"
#include "tests/unit/http/http_fixture.h"

#define SLABS 3
#define SIZE  1000

static const char *ids[SLABS];
static struct maas_buf json; /* {"ranges":[…]} */
static struct maas_buf body;

static void start(void)
{
	http_setup();
	for (int i = 0; i < SLABS; i++)
		ids[i] = http_allocate(SIZE);
}

static void teardown(void)
{
	maas_buf_fini(&json);
	maas_buf_fini(&body);
	http_teardown();
}

/* The first one. */
static void set_piece(const char *id, uint64_t offset, uint64_t len)
{
	json.len = 0;
	http_add_range(&json, id, offset, len);
}

/* Ends the JSON, and makes the body of a write: its length, the JSON and `len` bytes of `data`. */
static void frame(const void *data, size_t len)
{
	maas_buf_str(&json, "]}");
	body.len = 0;
	http_add_frame(&body, &json);
	maas_buf_add(&body, data, len);
}

static const struct http_answer *expect(const char *request, const struct maas_buf *sent,
					long status, const char *text)
{
	const struct http_answer *a = http_call(request, sent->data, sent->len);

	if (a->status != status || !strstr(a->body, text))
		fail_msg("%s: %ld, not %ld: %s", request, a->status, status, a->body);
	return a;
}

/* What the ranges have, of JSON that is complete. */
static void expect_bytes(const void *bytes, size_t len)
{
	const struct http_answer *a = expect("POST /data/read", &json, 200, "");

	http_expect_parts(a->headers, "\nContent-Type: application/octet-stream\r");
	http_expect_parts(a->headers, http_text("\nContent-Length: %zu\r", len));
	assert_int_equal(a->len, len);
	assert_memory_equal(a->body, bytes, len);
}

static void expect_piece(int slab, uint64_t offset, const char *text)
{
	set_piece(ids[slab], offset, strlen(text));
	maas_buf_str(&json, "]}");
	expect_bytes(text, strlen(text));
}

TEST(write__then_read_in_request_order)
{
	set_piece(ids[2], 990, 10);
	http_add_range(&json, ids[0], 5, 3);
	http_add_range(&json, ids[2], 0, 1);
	frame("abcdefghijklmn", 14);
	expect("POST /data/write", &body, 200, "");
	expect("POST /data/write\nTransfer-Encoding: chunked", &body, 200, "");
	expect_bytes("abcdefghijklmn", 14);
	expect_piece(2, 990, "abcdefghij");
	expect_piece(0, 5, "klm");
	expect_piece(2, 0, "n");
}

TEST(vector__bad_range_changes_nothing)
{
	static const struct {
		const char *id; /* NULL: slab 1 */
		uint64_t offset, len;
		long status;
	} bad[] = {
		{NULL, 1000, 1, 416},
		{NULL, 999, 2, 416},
		{NULL, 1, 1000, 416},
		{NULL, INT64_MAX, 1, 416},
		{NULL, 1, INT64_MAX - 4, 416},
		{NULL, 0, 0, 400},
		{NO_ID, 0, 1, 404},
		{"x", 0, 1, 404},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		set_piece(ids[0], 0, 1);
		http_add_range(&json, bad[i].id ? bad[i].id : ids[1], bad[i].offset, bad[i].len);
		frame("ABCDEFG", 7);
		expect("POST /data/read", &json, bad[i].status, "ranges[1]");
		expect("POST /data/write", &body, bad[i].status, "ranges[1]");
	}
	set_piece(ids[0], 0, 1);
	frame("", 0);
	expect_bytes("", 1);
}

/* An announced length is checked before the first byte is written. */
TEST(write__bytes_do_not_add_up)
{
	static const size_t lens[] = {0, 1, 3, 5, 500};
	char data[500];

	memset(data, 'Z', sizeof(data));
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lens); i++) {
		set_piece(ids[0], 0, 4);
		frame(data, lens[i]);
		expect("POST /data/write", &body, 400, "bad_frame");
	}
	expect_bytes("\0\0\0\0", 4);
}

TEST(write__chunked_length_is_seen_at_the_end)
{
	for (size_t len = 3; len <= 5; len += 2) {
		set_piece(ids[0], 0, 4);
		frame("ABCDE", len);
		expect("POST /data/write\nTransfer-Encoding: chunked", &body, 400, "bad_frame");
	}
}

TEST(write__large_in_many_pieces)
{
	static char data[3 << 20];
	const char *id = http_allocate(4 << 20);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 24);
	for (uint64_t i = 0; i < 48; i++)
		http_add_range(&json, id, i * 65536 + 7, 65536);
	frame(data, sizeof(data));
	expect("POST /data/write", &body, 200, "");
	expect_bytes(data, sizeof(data));
}

/* More than the kernel or the library sends from one array of addresses (IOV_MAX, 1024). */
TEST(vector__as_many_ranges_as_allowed)
{
	char data[MAAS_HTTP_MAX_RANGES];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 24);
	for (size_t i = 0; i < sizeof(data); i++)
		http_add_range(&json, ids[0], i % SIZE, 1);
	frame(data, sizeof(data));
	expect("POST /data/write", &body, 200, "");
	for (size_t i = 0; i < sizeof(data); i++) /* the last one written is there */
		data[i] = data[sizeof(data) - SIZE + i % SIZE];
	expect_bytes(data, sizeof(data));
	json.len -= 2;
	http_add_range(&json, ids[0], 0, 1);
	maas_buf_str(&json, "]}");
	expect("POST /data/read", &json, 400, "1 to 10000 ranges");
}

/* The ranges are read in steps, with all that the connection takes waiting behind their JSON. */
TEST(write__many_ranges_and_the_bytes_behind_them)
{
	static char data[5000 * 300];
	const char *id = http_allocate(sizeof(data));

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 24);
	for (uint64_t i = 0; i < 5000; i++)
		http_add_range(&json, id, i * 300, 300);
	frame(data, sizeof(data));
	expect("POST /data/write", &body, 200, "");
	expect_bytes(data, sizeof(data));
	memset(body.data + body.len - sizeof(data), 'c', sizeof(data));
	memset(data, 'c', sizeof(data));
	expect("POST /data/write\nTransfer-Encoding: chunked", &body, 200, "");
	expect_bytes(data, sizeof(data));
	json.len -= 2;
	http_add_range(&json, id, sizeof(data) - 1, 2);
	memset(data, 'x', sizeof(data));
	frame(data, sizeof(data));
	expect("POST /data/write", &body, 416, "ranges[5000]");
	expect("POST /data/read", &json, 416, "ranges[5000]");
	json.len = 0;
	http_add_range(&json, id, 0, 1);
	maas_buf_str(&json, "]}");
	expect_bytes("c", 1);
}

TEST_MAIN(start, teardown)
