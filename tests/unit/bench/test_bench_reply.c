/* SPDX-License-Identifier: Apache-2.0 */
/* How the load generator of the benches reads replies. */
#include "tests/bench/reply.h"
#include "tests/unit/unit.h"

/* The whole reply's length is known as soon as its head is there, and not before. */
static void check_need(enum load_protocol protocol, const char *reply, size_t head_len, size_t want)
{
	const uint8_t *in = (const uint8_t *)reply;

	for (size_t len = 1; len <= strlen(reply); len++) {
		size_t need = 1;

		assert_int_equal(reply_need(protocol, in, len, &need), 0);
		assert_int_equal(need, len < head_len ? 0 : want);
	}
}

TEST(reply__http_reply_in_pieces)
{
	static const char text[] =
		"HTTP/1.1 404 Not Found\r\nX: y\r\ncontent-length: 5\r\n\r\nhello";
	struct load_reply reply;

	check_need(LOAD_HTTP, text, sizeof(text) - 6, sizeof(text) - 1);
	reply_read(LOAD_HTTP, (const uint8_t *)text, sizeof(text) - 1, &reply);
	assert_int_equal(reply.status, 404);
	assert_int_equal(reply.body_len, 5);
	assert_memory_equal(reply.body, "hello", 5);
}

TEST(reply__resp_replies)
{
	static const char bulk[] = "$5\r\nhello\r\n";
	static const char error[] = "-ERR no\r\n";
	struct load_reply reply;

	check_need(LOAD_RESP, bulk, 4, sizeof(bulk) - 1);
	check_need(LOAD_RESP, "+OK\r\n", 5, 5);
	reply_read(LOAD_RESP, (const uint8_t *)bulk, sizeof(bulk) - 1, &reply);
	assert_int_equal(reply.status, 200);
	assert_int_equal(reply.body_len, 5);
	assert_memory_equal(reply.body, "hello", 5);
	reply_read(LOAD_RESP, (const uint8_t *)error, sizeof(error) - 1, &reply);
	assert_int_equal(reply.status, 500);
}

TEST(reply__unreadable)
{
	static const struct {
		enum load_protocol protocol;
		const char *text;
	} bad[] = {
		{LOAD_HTTP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{LOAD_HTTP, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"},
		{LOAD_HTTP, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{LOAD_RESP, "$-1\r\n"},
		{LOAD_RESP, ":1\r\n"},
	};
	size_t need;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(reply_need(bad[i].protocol, (const uint8_t *)bad[i].text,
					    strlen(bad[i].text), &need),
				 -EPROTO);
}

TEST_MAIN(NULL, NULL)
