/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

#define LIST_LIMIT     1000
#define LIST_MAX_LIMIT 10000

static const char *const lifetime_names[] = {
	[MAAS_LIFETIME_DELETE] = "delete",
	[MAAS_LIFETIME_TTL] = "ttl",
	[MAAS_LIFETIME_SESSION] = "session",
};

/* ---- POST /allocate */

static int fail_too_large(struct maas_http_conn *conn, uint64_t size_bytes)
{
	struct maas_slab_stats stats;
	uint64_t largest;

	maas_slab_stats(conn->http->options.slab, &stats);
	largest = stats.classes[stats.num_classes - 1].slab_bytes;
	return maas_http_fail(conn, -EFBIG,
			      "%llu bytes do not fit the largest slab class, %llu bytes; ask for "
			      "less, or start maasd with a larger class in --slab-sizes",
			      (unsigned long long)size_bytes, (unsigned long long)largest);
}

static int fail_exhausted(struct maas_http_conn *conn, const struct maas_http_allocate *body)
{
	struct maas_slab_stats stats;
	unsigned long long count = body->count ? body->count : 1;

	maas_slab_stats(conn->http->options.slab, &stats);
	return maas_http_fail(
		conn, -ENOSPC,
		"no room for %llu x %llu bytes: %llu of the pool's %llu bytes are not "
		"lent, in pieces of other sizes or too few; free some, or start maasd "
		"with a larger --max-pool-size",
		count, (unsigned long long)body->size_bytes,
		(unsigned long long)(stats.max_bytes - stats.live_bytes),
		(unsigned long long)stats.max_bytes);
}

static void count_failure(struct maas_http_conn *conn, int error)
{
	enum maas_http_failure reason = MAAS_FAIL_OTHER;

	if (error == -EFBIG)
		reason = MAAS_FAIL_TOO_LARGE;
	else if (error == -ENOSPC)
		reason = MAAS_FAIL_POOL_EXHAUSTED;
	else if (error == -ESRCH)
		reason = MAAS_FAIL_UNKNOWN_SESSION;
	atomic_fetch_add_explicit(&conn->http->metrics.failures[reason], 1, memory_order_relaxed);
}

static int fail_allocate(struct maas_http_conn *conn, int error,
			 const struct maas_http_allocate *body)
{
	count_failure(conn, error);
	if (error == -EFBIG)
		return fail_too_large(conn, body->size_bytes);
	if (error == -ENOSPC)
		return fail_exhausted(conn, body);
	if (error == -EUSERS)
		return maas_http_fail(conn, error,
				      "%d different owners hold memory; use fewer names",
				      MAAS_LEND_MAX_OWNERS);
	return maas_http_fail(conn, error, NULL);
}

/* What follows the id: the same for every allocation of a batch. */
static void write_tail(struct maas_buf *out, const struct maas_allocation *allocation)
{
	maas_buf_str(out, "\",\"size_bytes\":");
	maas_buf_u64(out, allocation->size_bytes);
	maas_buf_str(out, ",\"actual_size_bytes\":");
	maas_buf_u64(out, allocation->actual_size_bytes);
	maas_buf_str(out, ",\"size_mb\":");
	maas_http_write_mib(out, allocation->size_bytes);
	maas_buf_str(out, ",\"age_seconds\":");
	maas_buf_u64(out, allocation->age_s);
}

static void write_one(struct maas_buf *out, const struct maas_allocation *allocation)
{
	maas_buf_str(out, "{\"id\":\"");
	maas_buf_str(out, allocation->id);
	write_tail(out, allocation);
}

static void write_batch(struct maas_http_conn *conn, const struct maas_slab_ref *refs,
			uint32_t count, const struct maas_allocation *first, const char *end)
{
	struct maas_buf tail = {0};

	write_tail(&tail, first);
	maas_buf_str(&tail, end);
	maas_buf_str(&conn->out, "{\"allocations\":[");
	maas_buf_reserve(&conn->out, count * (tail.len + MAAS_ID_TEXT + 16));
	for (uint32_t i = 0; i < count; i++) {
		char id[MAAS_ID_TEXT];

		maas_lend_id(conn->http->options.lend, refs[i], id);
		maas_buf_str(&conn->out, i ? ",{\"id\":\"" : "{\"id\":\"");
		maas_buf_add(&conn->out, id, MAAS_ID_TEXT - 1);
		maas_buf_add(&conn->out, tail.data, tail.len);
	}
	maas_buf_str(&conn->out, "]}\n");
	if (tail.error)
		conn->out.error = tail.error;
	maas_buf_fini(&tail);
}

static int allocate(struct maas_http_conn *conn, const struct maas_http_allocate *body,
		    uint32_t count, struct maas_slab_ref *refs)
{
	const struct maas_alloc_request request = {
		.size_bytes = body->size_bytes,
		.count = count,
		.lifetime = body->lifetime,
		.ttl_s = (uint32_t)body->ttl_s,
		.session = *body->session ? body->session : NULL,
		.owner = *body->owner ? body->owner : NULL,
		.request_id = *body->request_id ? body->request_id : NULL,
	};
	const char *end = *body->session ? ",\"rdma\":null}" : "}";
	struct maas_allocation first;
	int r;

	r = maas_lend_allocate(conn->http->options.lend, &request, refs, &first);
	if (r)
		return fail_allocate(conn, r, body);
	if (body->count) {
		write_batch(conn, refs, count, &first, end);
		return maas_http_reply(conn, MHD_HTTP_OK);
	}
	write_one(&conn->out, &first);
	maas_buf_str(&conn->out, end);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_allocate(struct maas_http_conn *conn)
{
	struct maas_slab_ref one;
	struct maas_slab_ref *refs = &one;
	struct maas_http_allocate body;
	struct maas_http_fault fault;
	int r;

	r = maas_http_json_allocate(conn->in.data, conn->in.len, &body, &fault);
	if (r) {
		count_failure(conn, r);
		return maas_http_fail_fault(conn, r, &fault);
	}
	if (body.count > 1) {
		refs = malloc(body.count * sizeof(*refs));
		if (!refs)
			return maas_http_fail(conn, -ENOMEM, NULL);
	}
	r = allocate(conn, &body, body.count ? (uint32_t)body.count : 1, refs);
	if (refs != &one)
		free(refs);
	return r;
}

/* ---- GET /allocate/{id}, POST …/renew, GET /allocations */

static void write_full(struct maas_buf *out, const struct maas_allocation *allocation)
{
	bool leased = allocation->lifetime == MAAS_LIFETIME_TTL;

	write_one(out, allocation);
	maas_buf_str(out, ",\"owner\":");
	if (*allocation->owner)
		maas_buf_json(out, allocation->owner);
	else
		maas_buf_str(out, "null");
	maas_buf_str(out, ",\"lifetime\":\"");
	maas_buf_str(out, lifetime_names[allocation->lifetime]);
	if (leased) {
		maas_buf_str(out, "\",\"ttl_seconds\":");
		maas_buf_u64(out, allocation->ttl_s);
		maas_buf_str(out, ",\"lease_seconds\":");
		maas_buf_u64(out, allocation->lease_s);
		maas_buf_str(out, "}");
	} else {
		maas_buf_str(out, "\",\"ttl_seconds\":null,\"lease_seconds\":null}");
	}
}

static int reply_full(struct maas_http_conn *conn, int r, const struct maas_allocation *allocation)
{
	if (r)
		return maas_http_fail(conn, r, NULL);
	write_full(&conn->out, allocation);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_describe(struct maas_http_conn *conn)
{
	struct maas_allocation allocation;
	int r = maas_lend_get(conn->http->options.lend, conn->ids[0], &allocation);

	return reply_full(conn, r, &allocation);
}

int maas_http_renew(struct maas_http_conn *conn)
{
	struct maas_allocation allocation;
	struct maas_http_fault fault;
	uint64_t ttl_s;
	int r;

	r = maas_http_json_renew(conn->in.data, conn->in.len, &ttl_s, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	r = maas_lend_renew(conn->http->options.lend, conn->ids[0], (uint32_t)ttl_s, &allocation);
	return reply_full(conn, r, &allocation);
}

struct list_query {
	const char *owner;
	const char *after;
	uint64_t limit;
	const char *unknown;
};

static enum MHD_Result take_argument(void *cls, enum MHD_ValueKind kind, const char *name,
				     const char *value)
{
	struct list_query *query = cls;

	(void)kind;
	if (!value)
		value = "";
	if (!strcmp(name, "owner"))
		query->owner = value;
	else if (!strcmp(name, "after"))
		query->after = value;
	else if (strcmp(name, "limit") != 0)
		query->unknown = name;
	else if (maas_http_u63_parse(value, &query->limit))
		query->limit = 0;
	return MHD_YES;
}

static int reply_list(struct maas_http_conn *conn, const struct maas_allocation *allocations,
		      int count, bool more)
{
	maas_buf_str(&conn->out, "{\"allocations\":[");
	for (int i = 0; i < count; i++) {
		if (i)
			maas_buf_str(&conn->out, ",");
		write_full(&conn->out, &allocations[i]);
	}
	maas_buf_str(&conn->out, "],\"next\":");
	if (more && count)
		maas_buf_json(&conn->out, allocations[count - 1].id);
	else
		maas_buf_str(&conn->out, "null");
	maas_buf_str(&conn->out, "}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_list(struct maas_http_conn *conn)
{
	struct list_query query = {.limit = LIST_LIMIT};
	struct maas_allocation *allocations;
	bool more = false;
	int r;

	MHD_get_connection_values(conn->mhd, MHD_GET_ARGUMENT_KIND, take_argument, &query);
	if (query.unknown)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "unknown_field",
				       "unknown argument \"%.64s\"; there are owner, after, limit",
				       query.unknown);
	if (!query.limit || query.limit > LIST_MAX_LIMIT)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"limit\" must be a whole number from 1 to %d",
				       LIST_MAX_LIMIT);
	if (query.owner && !maas_lend_name_valid(query.owner))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"owner\" must be a name: 1 to 63 characters of A-Z a-z "
				       "0-9 . _ : / @ -");
	allocations = malloc(query.limit * sizeof(*allocations));
	if (!allocations)
		return maas_http_fail(conn, -ENOMEM, NULL);
	r = maas_lend_list(conn->http->options.lend, query.owner, query.after,
			   (uint32_t)query.limit, allocations, &more);
	if (r == -ENOENT)
		r = maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				    "\"after\" must be an id of this arena, such as \"next\" of "
				    "the page before");
	else if (r < 0)
		r = maas_http_fail(conn, r, NULL);
	else
		r = reply_list(conn, allocations, r, more);
	free(allocations);
	return r;
}
