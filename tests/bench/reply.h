/* SPDX-License-Identifier: Apache-2.0 */
/* reply: the replies of HTTP/1.1 and RESP, as far as a load generator has to understand them. */
#ifndef MAAS_BENCH_REPLY_H
#define MAAS_BENCH_REPLY_H

#include "base/base.h"

#define REPLY_HEAD_BYTES 8192

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

/*
 * How many bytes the reply that begins at `in` has in all; 0 while its head is not complete.
 * Errors: -EPROTO, also for HTTP without Content-Length.
 */
MAAS_MUST_CHECK int reply_need(enum load_protocol protocol, const uint8_t *in, size_t in_len,
			       size_t *ret_need);

/* Takes a complete reply apart. */
void reply_read(enum load_protocol protocol, const uint8_t *in, size_t in_len,
		struct load_reply *ret_reply);

#endif
