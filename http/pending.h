/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pending: a reply that lend fills while its request waits, and may go on filling when that request
 * has been abandoned. So a pending reply has two holders, the request and lend; the last one frees
 * it.
 */
#ifndef MAAS_HTTP_PENDING_H
#define MAAS_HTTP_PENDING_H

#include "http/conn.h"

struct maas_http_pending {
	struct maas_http_conn *conn;
	TAILQ_ENTRY(maas_http_pending) link; /* of the heavy ones; guarded by their lock */
	int (*work)(struct maas_http_pending *pending);
	uint64_t client; /* whose request it is, while it is a heavy one */
	_Atomic unsigned int holders;
	bool keyed; /* each allocation comes with a key */
	struct maas_http_allocate_body body;
	struct maas_lend_alloc_request request; /* its strings are in `body`, its caller is … */
	struct maas_lend_caller caller;		/* … this one, with a reference to its table */
	struct maas_lend_refusal refusal;
	struct maas_lend_allocation first;
	uint32_t count;
	struct maas_slab_ref *refs; /* behind the keys */
	struct maas_lend_key keys[];
};

/* Makes one, with room for `count` allocations: conn->req.pending. NULL: out of memory. */
struct maas_http_pending *maas_http_pending_new(struct maas_http_conn *conn, uint32_t count);
void maas_http_pending_put(struct maas_http_pending *pending);
/* As maas_http_wait_begin(), for a call of lend that ends with maas_http_pending_done(). */
void maas_http_pending_begin(struct maas_http_pending *pending);
void maas_http_pending_done(void *pending, int status);
/* Waits for the end of such a call, which has returned `started`. */
MAAS_MUST_CHECK int maas_http_pending_wait(struct maas_http_pending *pending, int started);

#endif
