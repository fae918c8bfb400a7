/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads replies of HTTP/1.1 and RESP: how long one is, as soon as its head is there, and what
 * stands in it. No state.
 */
#include "tests/bench/reply.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* Bytes up to and with the first `mark`; 0 when it is not there (yet). */
static size_t head_len(const uint8_t *in, size_t in_len, const char *mark)
{
	size_t mark_len = strlen(mark);
	const uint8_t *at = memmem(in, in_len, mark, mark_len);

	return at ? (size_t)(at - in) + mark_len : 0;
}

/* Digits at `text` up to a carriage return. */
static int parse_length(const uint8_t *text, size_t text_len, size_t *ret_value)
{
	size_t value = 0;
	size_t i = 0;

	while (i < text_len && text[i] >= '0' && text[i] <= '9' && value < SIZE_MAX / 20)
		value = value * 10 + (size_t)(text[i++] - '0');
	if (i == 0 || i == text_len || text[i] != '\r')
		return -EPROTO;
	*ret_value = value;
	return 0;
}

static int http_body(const uint8_t *in, size_t head, size_t *ret_body)
{
	static const char name[] = "\r\nContent-Length: ";

	if (head < 13 || memcmp(in, "HTTP/1.1 ", 9) != 0)
		return -EPROTO;
	for (size_t i = 0; i + sizeof(name) < head; i++)
		if (strncasecmp((const char *)in + i, name, sizeof(name) - 1) == 0)
			return parse_length(in + i + sizeof(name) - 1, head - i - sizeof(name) + 1,
					    ret_body);
	return -EPROTO;
}

/* "+OK\r\n", "-ERR …\r\n", "$5\r\nhello\r\n" */
static int resp_body(const uint8_t *in, size_t head, size_t *ret_body)
{
	*ret_body = 0;
	if (in[0] == '+' || in[0] == '-')
		return 0;
	if (in[0] != '$' || parse_length(in + 1, head - 1, ret_body) != 0)
		return -EPROTO;
	*ret_body += 2;
	return 0;
}

int reply_need(enum load_protocol protocol, const uint8_t *in, size_t in_len, size_t *ret_need)
{
	bool http = protocol == LOAD_HTTP;
	size_t head = head_len(in, in_len, http ? "\r\n\r\n" : "\r\n");
	size_t body;

	*ret_need = 0;
	if (head == 0)
		return in_len < REPLY_HEAD_BYTES ? 0 : -EPROTO;
	if (http ? http_body(in, head, &body) : resp_body(in, head, &body))
		return -EPROTO;
	*ret_need = head + body;
	return 0;
}

void reply_read(enum load_protocol protocol, const uint8_t *in, size_t in_len,
		struct load_reply *ret_reply)
{
	struct load_reply reply = {.status = 200, .head = (const char *)in};

	if (protocol == LOAD_HTTP) {
		reply.head_len = head_len(in, in_len, "\r\n\r\n");
		reply.status =
			(unsigned int)((in[9] - '0') * 100 + (in[10] - '0') * 10 + (in[11] - '0'));
		reply.body_len = in_len - reply.head_len;
	} else {
		reply.head_len = head_len(in, in_len, "\r\n");
		if (in[0] == '-')
			reply.status = 500;
		else if (in[0] == '$')
			reply.body_len = in_len - reply.head_len - 2;
	}
	reply.body = in + reply.head_len;
	*ret_reply = reply;
}
