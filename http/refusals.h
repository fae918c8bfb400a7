/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusals: the last requests that were refused, for people who wonder why. What comes again is
 * counted in one entry, and no client has more than its share of them: so neither a client that
 * repeats itself nor one that fails in many ways drives out what befell the others.
 */
#ifndef MAAS_HTTP_REFUSALS_H
#define MAAS_HTTP_REFUSALS_H

#include <pthread.h>

#include "http/conn.h"

#define MAAS_HTTP_REFUSALS	 32
#define MAAS_HTTP_REFUSALS_SHARE 8   /* of one client; of all that proved nothing together */
#define MAAS_HTTP_REFUSALS_GAP_S 600 /* after which the count of an entry begins anew */

/* The constant strings live as long as the program. */
struct maas_http_refusal {
	uint64_t order; /* the newest has the highest */
	uint64_t time_s;
	uint64_t count; /* without a gap */
	uint64_t client;
	unsigned int route;
	enum maas_http_method method;
	unsigned int status;
	const char *code;
	const char *quota;		 /* that it is about, or NULL */
	char principal[MAAS_NAME_BYTES]; /* "": nobody's */
	char from[MAAS_HTTP_REMOTE_BYTES];
};

struct maas_http_refusals {
	pthread_mutex_t lock;
	/* guarded by lock */
	uint64_t total;
	uint32_t count;
	struct maas_http_refusal at[MAAS_HTTP_REFUSALS]; /* in no order */
};

void maas_http_refusals_init(struct maas_http_refusals *refusals);
void maas_http_refusals_fini(struct maas_http_refusals *refusals);
/* The connection's request is answered with this error, a constant string. Any thread. */
void maas_http_refused(struct maas_http_conn *conn, unsigned int status, const char *code);
/* The newest first; with a `principal` those of its requests alone. Returns how many. Any thread.
 */
uint32_t maas_http_refusals_list(struct maas_http_refusals *refusals, const char *principal,
				 struct maas_http_refusal ret[MAAS_HTTP_REFUSALS],
				 uint64_t *ret_total);

#endif
