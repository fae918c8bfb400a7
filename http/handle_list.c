/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /allocate/{id}, POST .../renew and GET /allocations. A long list is written in steps, between
 * which the thread serves others.
 */
#include <string.h>

#include "http/internal.h"

#define LIST_LIMIT     1000
#define LIST_MAX_LIMIT 10000
#define ENTRY_BYTES    360 /* of an allocation in a list, about */
#define STEP_ENTRIES   128 /* that are written before others have their turn */

static const char *const lifetime_names[] = {
	[MAAS_LEND_LIFETIME_DELETE] = "delete",
	[MAAS_LEND_LIFETIME_TTL] = "ttl",
	[MAAS_LEND_LIFETIME_SESSION] = "session",
};

/* ---- GET /allocate/{id}, POST …/renew */

static void write_full(struct maas_buf *out, const struct maas_lend_allocation *allocation)
{
	bool leased = allocation->lifetime == MAAS_LEND_LIFETIME_TTL;

	maas_http_write_allocation(out, allocation);
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

static int reply_full(struct maas_http_conn *conn, int r,
		      const struct maas_lend_allocation *allocation)
{
	if (r)
		return maas_http_fail(conn, r, NULL);
	write_full(&conn->out, allocation);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_describe(struct maas_http_conn *conn)
{
	struct maas_lend_allocation allocation;
	int r = maas_lend_get(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
			      &allocation);

	return reply_full(conn, r, &allocation);
}

int maas_http_renew(struct maas_http_conn *conn)
{
	struct maas_lend_allocation allocation;
	struct maas_http_fault fault;
	uint64_t ttl_s;
	int r;

	r = maas_http_json_renew(conn->in.data, conn->in.len, MAAS_LEND_MAX_TTL_S, &ttl_s, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	r = maas_lend_renew(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
			    (uint32_t)ttl_s, &allocation);
	return reply_full(conn, r, &allocation);
}

/* ---- GET /allocations */

struct list_query {
	const char *owner;
	const char *no_owner;
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
	else if (!strcmp(name, "no_owner"))
		query->no_owner = value;
	else if (!strcmp(name, "after"))
		query->after = value;
	else if (strcmp(name, "limit") != 0)
		query->unknown = name;
	else if (maas_http_u63_parse(value, &query->limit))
		query->limit = 0;
	return MHD_YES;
}

static int end_page(struct maas_http_conn *conn)
{
	const struct maas_http_page *page = &conn->req.page;

	/* To whoever is nobody now the list ended too early. */
	if (!maas_http_stands(conn))
		return maas_http_fail_gone(conn);
	maas_buf_str(&conn->out, "],\"next\":");
	if (page->from.more)
		maas_buf_json(&conn->out, page->last);
	else
		maas_buf_str(&conn->out, "null");
	maas_buf_str(&conn->out, "}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* Some allocations more, and then whoever else has a request in this thread. */
int maas_http_list_resume(struct maas_http_conn *conn)
{
	struct maas_lend_allocation allocations[STEP_ENTRIES];
	struct maas_http_page *page = &conn->req.page;
	uint32_t count;
	bool going;
	int r;

	going = maas_lend_page_next(conn->http->options.lend, &page->from, allocations,
				    STEP_ENTRIES, &count);
	r = maas_http_hold(conn, (uint64_t)count * ENTRY_BYTES);
	if (r)
		return maas_http_fail(conn, r, NULL);
	for (uint32_t i = 0; i < count; i++) {
		maas_buf_str(&conn->out, *page->last ? "," : "");
		write_full(&conn->out, &allocations[i]);
		memcpy(page->last, allocations[i].id, sizeof(page->last));
	}
	return going ? maas_http_yield(conn) : end_page(conn);
}

int maas_http_list(struct maas_http_conn *conn)
{
	struct list_query query = {.limit = LIST_LIMIT};

	MHD_get_connection_values(conn->mhd, MHD_GET_ARGUMENT_KIND, take_argument, &query);
	if (query.unknown)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "unknown_field",
				       "unknown argument \"%.64s\"; there are owner, no_owner, "
				       "after, limit",
				       query.unknown);
	if (!query.limit || query.limit > LIST_MAX_LIMIT)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"limit\" must be a whole number from 1 to %d",
				       LIST_MAX_LIMIT);
	if (query.owner && !maas_name_valid(query.owner))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"owner\" must be a name: 1 to 63 characters of A-Z a-z "
				       "0-9 . _ : / @ -");
	if (query.no_owner && (query.owner || strcmp(query.no_owner, "true") != 0))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"no_owner\" can only be true, and stands instead of "
				       "\"owner\"");
	if (query.no_owner)
		query.owner = "";
	if (maas_lend_page_start(conn->http->options.lend, maas_http_caller(conn),
				 &conn->req.page.from, query.owner, query.after,
				 (uint32_t)query.limit))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"after\" must be an id of this arena, such as \"next\" of "
				       "the page before");
	maas_buf_str(&conn->out, "{\"allocations\":[");
	return maas_http_list_resume(conn);
}
