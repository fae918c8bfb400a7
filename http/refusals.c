/* SPDX-License-Identifier: Apache-2.0 */
/* The last refusals, in an array that is as small as what a person looks at. */
#include <string.h>

#include "http/internal.h"

void maas_http_refusals_init(struct maas_http_refusals *refusals)
{
	pthread_mutex_init(&refusals->lock, NULL);
}

void maas_http_refusals_fini(struct maas_http_refusals *refusals)
{
	pthread_mutex_destroy(&refusals->lock);
}

static bool is_same(const struct maas_http_refusal *a, const struct maas_http_refusal *b)
{
	return a->client == b->client && a->route == b->route && a->method == b->method &&
	       a->status == b->status && a->quota == b->quota && !strcmp(a->code, b->code);
}

/* Lock held. Where the refusal goes: to its like, or in the place of the oldest one, of its client
 * where that has its share, else of all. */
static struct maas_http_refusal *place_of(struct maas_http_refusals *refusals,
					  const struct maas_http_refusal *refusal)
{
	struct maas_http_refusal *oldest = NULL, *own = NULL;
	unsigned int share = 0;

	for (uint32_t i = 0; i < refusals->count; i++) {
		struct maas_http_refusal *at = &refusals->at[i];

		if (is_same(at, refusal))
			return at;
		if (!oldest || at->order < oldest->order)
			oldest = at;
		if (at->client != refusal->client)
			continue;
		share++;
		if (!own || at->order < own->order)
			own = at;
	}
	if (share < MAAS_HTTP_REFUSALS_SHARE && refusals->count < MAAS_HTTP_REFUSALS)
		own = &refusals->at[refusals->count++];
	else if (share < MAAS_HTTP_REFUSALS_SHARE)
		own = oldest;
	own->count = 0;
	return own;
}

/* Whose request it is; NULL: nobody's, where others are somebody's. */
static const struct maas_auth_principal *principal_of(const struct maas_http_conn *conn)
{
	const struct maas_lend_caller *caller = &conn->caller.lend;

	if (!caller->principal || caller->principal == maas_auth_anonymous(caller->auth))
		return NULL;
	return caller->principal;
}

void maas_http_refused(struct maas_http_conn *conn, unsigned int status, const char *code)
{
	struct maas_http_refusals *refusals = &conn->http->refusals;
	const struct maas_auth_principal *principal = principal_of(conn);
	struct maas_http_refusal *at;
	struct maas_http_refusal refusal = {
		.time_s = maas_clock_wall_s(),
		.route = conn->req.route,
		.method = conn->req.method,
		.status = status,
		.code = code,
		.quota = conn->req.quota,
	};

	/* What is not there was not refused; clients look for it often. */
	if (status == MHD_HTTP_NOT_FOUND)
		return;
	if (principal)
		memcpy(refusal.principal, principal->name, strlen(principal->name) + 1);
	if (principal || !maas_lend_has_auth(conn->http->options.lend))
		refusal.client = maas_http_client(conn);
	memcpy(refusal.from, conn->remote, sizeof(refusal.from));
	pthread_mutex_lock(&refusals->lock);
	refusal.order = ++refusals->total;
	at = place_of(refusals, &refusal);
	refusal.count = refusal.time_s - at->time_s > MAAS_HTTP_REFUSALS_GAP_S ? 1 : at->count + 1;
	*at = refusal;
	pthread_mutex_unlock(&refusals->lock);
}

uint32_t maas_http_refusals_list(struct maas_http_refusals *refusals, const char *principal,
				 struct maas_http_refusal ret[MAAS_HTTP_REFUSALS],
				 uint64_t *ret_total)
{
	uint32_t count = 0;

	pthread_mutex_lock(&refusals->lock);
	*ret_total = refusals->total;
	for (uint32_t i = 0; i < refusals->count; i++) {
		const struct maas_http_refusal *refusal = &refusals->at[i];
		uint32_t at = count;

		if (principal && strcmp(refusal->principal, principal) != 0)
			continue;
		for (; at && ret[at - 1].order < refusal->order; at--)
			ret[at] = ret[at - 1];
		ret[at] = *refusal;
		count++;
	}
	pthread_mutex_unlock(&refusals->lock);
	return count;
}
