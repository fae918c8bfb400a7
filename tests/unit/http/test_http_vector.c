/* SPDX-License-Identifier: Apache-2.0 */
/* Many ranges in one request: /data/read and /data/write. */
#include "http/parse.h"
#include "tests/unit/http/http_fixture.h"

#define SLABS 3
#define SIZE  1000

static const char *ids[SLABS];

static void start(void)
{
	const struct maas_http_options options = {.threads = 2, .max_body_bytes = 1 << 20};

	http_start(&options);
	for (int i = 0; i < SLABS; i++)
		ids[i] = http_allocate(SIZE);
}

static void add_piece(struct maas_buf *json, const char *id, uint64_t offset, uint64_t len)
{
	maas_buf_str(json, json->len ? "," : "{\"ranges\":[");
	maas_buf_printf(json, "{\"id\":\"%s\",\"offset\":%llu,\"length\":%llu}", id,
			(unsigned long long)offset, (unsigned long long)len);
}

/* Length, JSON and `len` bytes of `data`. */
static void frame(struct maas_buf *out, const struct maas_buf *json, const void *data, size_t len)
{
	unsigned char prefix[4] = {(unsigned char)json->len, (unsigned char)(json->len >> 8),
				   (unsigned char)(json->len >> 16)};

	maas_buf_add(out, prefix, 4);
	maas_buf_add(out, json->data, json->len);
	maas_buf_add(out, data, len);
}

static void expect(const char *path, const struct maas_buf *body, const char *headers, long status,
		   const char *text)
{
	const struct http_answer *a =
		http_call("POST", path, body->data ? body->data : "", body->len, headers);

	if (a->status != status || (text && !strstr(a->body, text)))
		fail_msg("%s: %ld, not %ld: %s", path, a->status, status, a->body);
}

static void expect_bytes(int slab, uint64_t offset, const char *text)
{
	struct maas_buf json = {0};
	const struct http_answer *a;

	add_piece(&json, ids[slab], offset, strlen(text));
	maas_buf_str(&json, "]}");
	a = http_call("POST", "/data/read", json.data, json.len, NULL);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->len, strlen(text));
	assert_memory_equal(a->body, text, a->len);
	maas_buf_fini(&json);
}

TEST(write__then_read_in_request_order)
{
	struct maas_buf json = {0};
	struct maas_buf body = {0};
	const struct http_answer *a;

	add_piece(&json, ids[2], 990, 10);
	add_piece(&json, ids[0], 5, 3);
	add_piece(&json, ids[2], 0, 1);
	maas_buf_str(&json, "]}");
	frame(&body, &json, "abcdefghijklmn", 14);
	expect("/data/write", &body, NULL, 200, NULL);
	expect("/data/write", &body, "Transfer-Encoding: chunked", 200, NULL);
	expect_bytes(2, 990, "abcdefghij");
	expect_bytes(0, 5, "klm");
	expect_bytes(2, 0, "n");
	a = http_call("POST", "/data/read", json.data, json.len, NULL);
	assert_int_equal(a->len, 14);
	assert_memory_equal(a->body, "abcdefghijklmn", 14);
	assert_true(http_has_header(a, "Content-Type: application/octet-stream"));
	assert_true(http_has_header(a, "Content-Length: 14"));
	maas_buf_fini(&json);
	maas_buf_fini(&body);
}

TEST(vector__bad_range_changes_nothing)
{
	static const struct {
		const char *id; /* NULL: slab 1 */
		uint64_t offset;
		uint64_t len;
		long status;
	} bad[] = {
		{NULL, 1000, 1, 416},
		{NULL, 999, 2, 416},
		{NULL, 1, 1000, 416},
		{NULL, INT64_MAX, 1, 416},
		{NULL, 1, INT64_MAX - 4, 416},
		{NULL, 0, 0, 400},
		{"00000000-0000-8000-8000-000000000000", 0, 1, 404},
		{"x", 0, 1, 404},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		struct maas_buf json = {0};
		struct maas_buf body = {0};

		add_piece(&json, ids[0], 0, 1);
		add_piece(&json, bad[i].id ? bad[i].id : ids[1], bad[i].offset, bad[i].len);
		maas_buf_str(&json, "]}");
		frame(&body, &json, "ABCDEFG", 7);
		expect("/data/read", &json, NULL, bad[i].status, "ranges[1]");
		expect("/data/write", &body, NULL, bad[i].status, "ranges[1]");
		maas_buf_fini(&json);
		maas_buf_fini(&body);
	}
}

TEST(write__bytes_do_not_add_up)
{
	static const size_t lens[] = {0, 1, 3, 5, 500};
	char data[500];

	memset(data, 'Z', sizeof(data));
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lens); i++) {
		struct maas_buf json = {0};
		struct maas_buf body = {0};

		add_piece(&json, ids[0], 0, 4);
		maas_buf_str(&json, "]}");
		frame(&body, &json, data, lens[i]);
		expect("/data/write", &body, NULL, 400, "bad_frame");
		maas_buf_fini(&json);
		maas_buf_fini(&body);
	}
	/* Announced lengths are checked before the first byte is written. */
	{
		struct maas_buf json = {0};
		const struct http_answer *a;

		add_piece(&json, ids[0], 0, 4);
		maas_buf_str(&json, "]}");
		a = http_call("POST", "/data/read", json.data, json.len, NULL);
		assert_memory_equal(a->body, "\0\0\0\0", 4);
		maas_buf_fini(&json);
	}
}

TEST(write__chunked_length_is_seen_at_the_end)
{
	static const size_t lens[] = {3, 5};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lens); i++) {
		struct maas_buf json = {0};
		struct maas_buf body = {0};

		add_piece(&json, ids[0], 0, 4);
		maas_buf_str(&json, "]}");
		frame(&body, &json, "ABCDE", lens[i]);
		expect("/data/write", &body, "Transfer-Encoding: chunked", 400, "bad_frame");
		maas_buf_fini(&json);
		maas_buf_fini(&body);
	}
}

TEST(write__bad_frames)
{
	static const struct {
		const char *bytes;
		size_t len;
		long status;
	} bad[] = {
		{"", 0, 400},
		{"\x01", 1, 400},
		{"\x00\x00\x00\x00", 4, 400},
		{"\x05\x00\x00\x00{\"r\"", 8, 400},
		{"\x02\x00\x00\x00{}", 6, 400},
		{"\x02\x00\x00\x00[]", 6, 400},
		{"\xff\xff\xff\xff{}", 6, 413},
		{"\x01\x00\x10\x00{}", 6, 413},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		struct maas_buf body = {0};

		maas_buf_add(&body, bad[i].bytes, bad[i].len);
		expect("/data/write", &body, NULL, bad[i].status, "{\"error\":");
		maas_buf_fini(&body);
	}
}

TEST(write__large_in_many_pieces)
{
	const size_t len = 3u << 20;
	char *data = malloc(len);
	struct maas_buf json = {0};
	struct maas_buf body = {0};
	const struct http_answer *a;
	const char *id;

	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 2654435761u >> 24);
	id = http_allocate(4 << 20);
	for (uint64_t i = 0; i < 48; i++)
		add_piece(&json, id, i * 65536 + 7, 65536);
	maas_buf_str(&json, "]}");
	frame(&body, &json, data, len);
	expect("/data/write", &body, NULL, 200, NULL);
	a = http_call("POST", "/data/read", json.data, json.len, NULL);
	assert_int_equal(a->len, len);
	assert_memory_equal(a->body, data, len);
	maas_buf_fini(&json);
	maas_buf_fini(&body);
	free(data);
}

/* More than the kernel or the library sends from one array of addresses (IOV_MAX, 1024). */
TEST(vector__as_many_ranges_as_allowed)
{
	struct maas_buf json = {0};
	struct maas_buf body = {0};
	const struct http_answer *a;
	char data[MAAS_HTTP_MAX_RANGES];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 24);
	for (size_t i = 0; i < sizeof(data); i++)
		add_piece(&json, ids[0], i % SIZE, 1);
	maas_buf_str(&json, "]}");
	frame(&body, &json, data, sizeof(data));
	expect("/data/write", &body, NULL, 200, NULL);
	a = http_call("POST", "/data/read", json.data, json.len, NULL);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->len, sizeof(data));
	for (size_t i = 0; i < sizeof(data); i++)
		assert_int_equal(a->body[i], data[sizeof(data) - SIZE + i % SIZE]);
	json.len -= 2;
	add_piece(&json, ids[0], 0, 1);
	maas_buf_str(&json, "]}");
	expect("/data/read", &json, NULL, 400, "1 to 10000 ranges");
	maas_buf_fini(&json);
	maas_buf_fini(&body);
}

TEST_MAIN(start, http_teardown)
