/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET and PUT /allocate/{id}/data: the bytes of one allocation. The slab is held by a transfer,
 * which a free waits for, from the head of the request to its end.
 */
#include <errno.h>
#include <string.h>

#include "http/internal.h"

/* A free waits no longer: maas_http_tick() cuts the connection, and the library drops it, and with
 * it the transfer. */
static void abort_transfer(void *arg)
{
	struct maas_http_conn *conn = arg;

	atomic_store_explicit(&conn->aborted, true, memory_order_relaxed);
}

int maas_http_transfer_begin(struct maas_http_conn *conn, const char *id,
			     struct maas_lend_transfer *transfer)
{
	enum maas_auth_access access =
		conn->req.call->body == MAAS_HTTP_BODY_STREAM ? MAAS_AUTH_OWN : MAAS_AUTH_READ;

	transfer->abort = abort_transfer;
	transfer->arg = conn;
	return maas_lend_transfer_begin(conn->http->options.lend, maas_http_caller(conn), id,
					access, transfer);
}

/* The transfer ends when the request is completed, or earlier by end_transfer(). */
static int begin_transfer(struct maas_http_conn *conn)
{
	int r = maas_http_transfer_begin(conn, conn->ids[0], &conn->req.transfer);

	conn->req.transferring = !r;
	return r;
}

void maas_http_transfers_end(struct maas_http_conn *conn, struct maas_lend_transfer *transfers,
			     uint32_t count)
{
	maas_lend_transfers_end(conn->http->options.lend, transfers, count);
	/* A request has one transfer or one array of them: nothing is left to be aborted. */
	atomic_store_explicit(&conn->aborted, false, memory_order_relaxed);
}

static void end_transfer(struct maas_http_conn *conn)
{
	maas_http_transfers_end(conn, &conn->req.transfer, 1);
	conn->req.transferring = false;
}

/* With an answer of 416. */
static void tell_size(struct maas_http_conn *conn, uint64_t size)
{
	conn->req.extra_name = MHD_HTTP_HEADER_CONTENT_RANGE;
	snprintf(conn->req.extra_value, sizeof(conn->req.extra_value), "bytes */%llu",
		 (unsigned long long)size);
}

static int fail_range(struct maas_http_conn *conn, uint64_t size)
{
	tell_size(conn, size);
	return maas_http_error(conn, MHD_HTTP_RANGE_NOT_SATISFIABLE, "bad_range",
			       "the range lies outside of the allocation's %llu bytes",
			       (unsigned long long)size);
}

/* ---- GET */

/* 1 for a part, 0 for the whole, -ERANGE. Range is for GET alone; there is no validator that
 * If-Range could match. */
static int wanted_range(struct maas_http_conn *conn, uint64_t size,
			struct maas_http_range *ret_range)
{
	const char *text = conn->req.fields[MAAS_HTTP_FIELD_RANGE];

	*ret_range = (struct maas_http_range){0, size};
	if (!text || conn->req.method != MAAS_HTTP_GET ||
	    conn->req.fields[MAAS_HTTP_FIELD_IF_RANGE])
		return 0;
	return maas_http_range_parse(text, size, ret_range);
}

int maas_http_data_get(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	struct MHD_Response *response;
	struct maas_http_range range;
	uint64_t size;
	int part;
	int r;

	r = begin_transfer(conn);
	if (r)
		return maas_http_fail(conn, r, NULL);
	size = req->transfer.size_bytes;
	part = wanted_range(conn, size, &range);
	if (part < 0) {
		end_transfer(conn);
		return fail_range(conn, size);
	}
	if (part) {
		req->extra_name = MHD_HTTP_HEADER_CONTENT_RANGE;
		snprintf(req->extra_value, sizeof(req->extra_value), "bytes %llu-%llu/%llu",
			 (unsigned long long)range.first,
			 (unsigned long long)(range.first + range.len - 1),
			 (unsigned long long)size);
	}
	response = MHD_create_response_from_buffer(range.len, req->transfer.bytes + range.first,
						   MHD_RESPMEM_PERSISTENT);
	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	return maas_http_reply_response(conn, part ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK,
					response, "application/octet-stream", range.len);
}

/* ---- PUT */

static int put_part(struct maas_http_conn *conn, const char *content_range)
{
	struct maas_http_request *req = &conn->req;
	uint64_t size = req->transfer.size_bytes;
	struct maas_http_range range;
	uint64_t total;

	if (maas_http_content_range_parse(content_range, &range, &total))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_range",
				       "Content-Range must be such as bytes 0-99/* or bytes "
				       "0-99/%llu",
				       (unsigned long long)size);
	if (range.first + range.len > size)
		return fail_range(conn, size);
	if (total != UINT64_MAX && total != size) {
		tell_size(conn, size);
		return maas_http_error(conn, MHD_HTTP_RANGE_NOT_SATISFIABLE, "bad_range",
				       "Content-Range has a total of %llu bytes, and the "
				       "allocation has %llu",
				       (unsigned long long)total, (unsigned long long)size);
	}
	if (!req->chunked && range.len != req->content_length)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_range",
				       "Content-Range speaks of %llu bytes, Content-Length of %llu",
				       (unsigned long long)range.len,
				       (unsigned long long)req->content_length);
	req->write_at = range.first;
	req->write_end = range.first + range.len;
	req->exact = true;
	return 0;
}

static int fail_too_long(struct maas_http_conn *conn)
{
	return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
			       "the body is longer than the allocation's %llu bytes",
			       (unsigned long long)conn->req.transfer.size_bytes);
}

int maas_http_data_put_begin(struct maas_http_conn *conn)
{
	const char *content_range = conn->req.fields[MAAS_HTTP_FIELD_CONTENT_RANGE];
	struct maas_http_request *req = &conn->req;
	int r;

	r = begin_transfer(conn);
	if (r)
		return maas_http_fail(conn, r, NULL);
	req->write_end = req->transfer.size_bytes;
	if (req->chunked)
		maas_http_deadline_body(conn, req->write_end);
	if (content_range)
		return put_part(conn, content_range);
	if (req->content_length > req->write_end)
		return fail_too_long(conn);
	return 0;
}

int maas_http_data_put_bytes(struct maas_http_conn *conn, const uint8_t *data, size_t len,
			     size_t *ret_left)
{
	struct maas_http_request *req = &conn->req;

	(void)ret_left;
	if (len > req->write_end - req->write_at)
		return req->exact ? maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_range",
						    "the body is longer than its Content-Range")
				  : fail_too_long(conn);
	if (!maas_lend_transfer_alive(conn->http->options.lend, &req->transfer)) {
		end_transfer(conn);
		return maas_http_fail(conn, -ENOENT,
				      "the allocation was freed while it was written");
	}
	memcpy(req->transfer.bytes + req->write_at, data, len);
	req->write_at += len;
	return 0;
}

int maas_http_data_put_finish(struct maas_http_conn *conn)
{
	if (conn->req.exact && conn->req.write_at != conn->req.write_end)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_range",
				       "the body is shorter than its Content-Range; what came was "
				       "written");
	return maas_http_reply_empty(conn);
}
