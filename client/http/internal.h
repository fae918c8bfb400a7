/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP transport of a handle: each transfer is a request of its own. Submitted operations:
 *
 *   maas_submit_read() ──▶ waiting ──▶ running ──▶ done ──▶ maas_poll()
 *                            │  a curl handle each  ▲
 *                            └──── out of time ─────┘
 *
 * Only the thread touches curl and the running operations.
 */
#ifndef MAAS_CLIENT_HTTP_INTERNAL_H
#define MAAS_CLIENT_HTTP_INTERNAL_H

#include "client/transport.h"

struct maas_http_client_op {
	struct maas_op base;
	TAILQ_ENTRY(maas_http_client_op) link;
	struct maas_request request;
	struct maas_client_transfer transfer;
	uint64_t deadline_ms;
	bool read;
	struct maas_buffer **buffers; /* one for each range; stored behind the ranges */
	uint32_t count;
	struct maas_range ranges[];
};

TAILQ_HEAD(maas_http_client_ops, maas_http_client_op);

struct maas_http_client {
	struct maas *maas;
	CURLM *multi; /* NULL: the thread was not needed so far */
	pthread_t thread;
	CURL **idle;
	uint32_t num_idle;
	uint32_t num_running;
	struct maas_http_client_ops running; /* of the thread alone */

	pthread_mutex_t lock;
	pthread_cond_t completed;
	struct maas_http_client_ops waiting;
	uint64_t late_ms; /* none of them is out of time before */
	bool stop;
};

/* The thread. */
void *maas_http_client_thread(void *arg);

/* Lets go of its buffers and frees it. */
void maas_http_client_free(struct maas *maas, struct maas_http_client_op *op);

/* See struct maas_transport. */
void maas_http_client_wake(struct maas *maas);

/* The request for ranges. Owns: the caller, maas_request_fini(), if it returns 0. Errors: -EINVAL,
 * -ERANGE, -ENOMEM. */
MAAS_MUST_CHECK int maas_http_client_request(struct maas_request *request,
					     const struct maas_range *ranges, uint32_t count,
					     bool read);

/* Checks that a read's answer has all bytes that were asked for. Errors: -ERANGE, -EPROTO. */
MAAS_MUST_CHECK int maas_http_client_check(const struct maas_request *request);

#endif
