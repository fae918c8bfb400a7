/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: a client that keeps a number of connections busy, one request under way on each, and has
 * every answer checked. One thread, epoll, keep-alive; it speaks HTTP/1.1 or Redis' RESP, so that
 * both servers see the same client.
 *
 * Threading: one thread.
 */
#ifndef MAAS_BENCH_LOAD_H
#define MAAS_BENCH_LOAD_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "base/base.h"

#define LOAD_PARTS 3

enum load_protocol {
	LOAD_HTTP,
	LOAD_RESP,
};

struct load_reply {
	unsigned int status; /* RESP: 200, or 500 for an error */
	const char *head;    /* HTTP: status line and headers, not NUL-terminated */
	size_t head_len;
	const uint8_t *body;
	size_t body_len;
};

struct load_job {
	enum load_protocol protocol;
	unsigned int connections;
	unsigned int group; /* requests on a connection that make one operation */
	size_t max_reply_bytes;
	void *arg;

	/* Fills in the next request of a connection; the parts stay valid until its reply. */
	void (*request)(void *arg, unsigned int connection, struct iovec parts[LOAD_PARTS]);
	/* 0, or -errno when the reply is not the right one, which ends the run. */
	int (*reply)(void *arg, unsigned int connection, const struct load_reply *reply);
};

struct load;

/* Connects to `port` on loopback. Errors: errno of socket(2), connect(2); -ENOMEM. */
MAAS_MUST_CHECK int load_open(uint16_t port, const struct load_job *job, struct load **ret_load);

/*
 * Does so many operations, on all connections together. Errors: -EPROTO unreadable reply,
 * -ECONNRESET closed by the server, -EMSGSIZE, -ETIMEDOUT nothing for 30 s, or what `reply`
 * returned; logged.
 */
MAAS_MUST_CHECK int load_run(struct load *load, uint64_t operations, uint64_t *ret_wall_ns);

void load_close(struct load *load);

#endif
