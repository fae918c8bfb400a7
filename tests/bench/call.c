/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/jobs.h"

#define REPLY_BYTES ((size_t)8 << 20)

struct call {
	const char *what;
	const char *body;
	char head[512];
	char *answer;
};

static void make_request(void *arg, unsigned int connection, struct iovec parts[LOAD_PARTS])
{
	struct call *call = arg;
	size_t body_len = call->body ? strlen(call->body) : 0;
	union {
		const char *in;
		char *out;
	} body = {call->body};
	int len;

	(void)connection;
	len = snprintf(call->head, sizeof(call->head),
		       "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		       "Content-Length: %zu\r\n\r\n",
		       call->what, body_len);
	parts[0] = (struct iovec){call->head, (size_t)len};
	parts[1] = (struct iovec){body.out, body_len};
}

static int take_reply(void *arg, unsigned int connection, const struct load_reply *reply)
{
	struct call *call = arg;

	(void)connection;
	if (reply->status != 200) {
		log_err("call failed what=\"%s\" status=%u answer=\"%.*s\"", call->what,
			reply->status, (int)(reply->body_len < 512 ? reply->body_len : 512),
			(const char *)reply->body);
		return -EBADMSG;
	}
	call->answer = strndup((const char *)reply->body, reply->body_len);
	return call->answer ? 0 : -ENOMEM;
}

int job_call(uint16_t port, const char *what, const char *body, char **ret_body)
{
	struct call call = {.what = what, .body = body};
	const struct load_job job = {
		.protocol = LOAD_HTTP,
		.connections = 1,
		.group = 1,
		.max_reply_bytes = REPLY_BYTES,
		.arg = &call,
		.request = make_request,
		.reply = take_reply,
	};
	struct load *load;
	uint64_t wall_ns;
	int ret = load_open(port, &job, &load);

	if (ret) {
		log_err("cannot connect port=%u error=\"%s\"", port, strerror(-ret));
		return ret;
	}
	ret = load_run(load, 1, &wall_ns);
	load_close(load);
	if (ret)
		free(call.answer);
	else
		*ret_body = call.answer;
	return ret;
}
