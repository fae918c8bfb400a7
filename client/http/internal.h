/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP transport of a handle: each transfer is a request of its own. Submitted operations:
 *
 *   maas_submit_read() ──▶ waiting ──▶ running ──▶ done ──▶ maas_poll()
 *                            │  a curl handle each  ▲
 *                            └──── out of time ─────┘
 *
 * The thread alone touches curl and the running ones.
 */
#ifndef MAAS_CLIENT_HTTP_INTERNAL_H
#define MAAS_CLIENT_HTTP_INTERNAL_H

#include "client/transport.h"

struct maas_op {
	TAILQ_ENTRY(maas_op) link;
	struct maas_request request;
	struct maas_client_transfer transfer;
	uint64_t deadline_ms;
	void *user;
	bool read;
	int status;
	char error[MAAS_ERROR_BYTES];
	struct maas_buffer **buffers; /* of each range, behind them */
	uint32_t count;
	struct maas_range ranges[];
};

TAILQ_HEAD(maas_ops, maas_op);

struct maas_http_client {
	struct maas *maas;
	CURLM *multi;
	pthread_t thread;
	CURL **idle;
	uint32_t num_idle;
	uint32_t num_running;
	struct maas_ops running; /* of the thread alone */

	pthread_mutex_t lock;
	pthread_cond_t completed;
	struct maas_ops waiting;
	struct maas_ops done;
	uint32_t under_way; /* not yet done */
	uint32_t held;	    /* not yet taken by maas_poll() */
	bool stop;
};

/* The thread. */
void *maas_http_client_thread(void *arg);

/* ---- requests for ranges */

/* Of maas_readv() and maas_writev(). */
MAAS_MUST_CHECK int maas_http_client_run(struct maas *maas, const struct maas_range *ranges,
					 uint32_t count, bool read);

MAAS_MUST_CHECK int maas_http_client_read_request(struct maas_request *request,
						  const struct maas_range *ranges, uint32_t count);
MAAS_MUST_CHECK int maas_http_client_write_request(struct maas_request *request,
						   const struct maas_range *ranges, uint32_t count);

/* What a read's answer must be. Errors: -ERANGE, -EPROTO. */
MAAS_MUST_CHECK int maas_http_client_check(const struct maas_request *request);

/* ---- submitted operations */

/* Frees an operation and lets go of its buffers. */
void maas_http_client_op_free(struct maas *maas, struct maas_op *op);

#endif
