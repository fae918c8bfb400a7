/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: which status and code an error has, and how an answer is handed to the library, at once
 * or at the end of the request's body. In the connection's thread.
 */
#include <errno.h>
#include <string.h>

#include "http/internal.h"

#define RETRY_S 5

static const struct error_row {
	int error;
	unsigned int status;
	const char *code;
	const char *text;
} error_table[] = {
	{ENOENT, MHD_HTTP_NOT_FOUND, "not_found",
	 "no allocation with this id: it was freed, its lease ended, or it never was"},
	{ESRCH, MHD_HTTP_NOT_FOUND, "unknown_session",
	 "no session with this id: it ended, its lease lapsed, or it never was; open one with POST "
	 "/sessions"},
	{EEXIST, MHD_HTTP_CONFLICT, "name_taken", "an exclusive session of this name is open"},
	{ENOTUNIQ, MHD_HTTP_CONFLICT, "request_id_reused",
	 "this request_id came before with another request; use a new one for each request"},
	{ENODATA, MHD_HTTP_CONFLICT, "answer_forgotten",
	 "this request was carried out before, and its list of allocations is kept no longer; it "
	 "is not carried out again: find them with GET /allocations?owner=, or free them and use "
	 "a new request_id"},
	{EMEDIUMTYPE, MHD_HTTP_CONFLICT, "not_renewable",
	 "this allocation has no lease: only those with \"lifetime\":\"ttl\" are renewed"},
	{ENOTCONN, MHD_HTTP_CONFLICT, "not_connected",
	 "the session has no RDMA connection now: connect with a ticket of POST "
	 "/sessions/{id}/ticket and send this again; memory without a key comes with "
	 "\"access\":\"none\""},
	{EFBIG, MHD_HTTP_CONTENT_TOO_LARGE, "too_large", "larger than the largest slab"},
	{EUSERS, MHD_HTTP_TOO_MANY_REQUESTS, "too_many", "the server's limit is reached"},
	{EOPNOTSUPP, MHD_HTTP_SERVICE_UNAVAILABLE, "rdma_off",
	 "this server has no RDMA device, so there are no keys to grant; read and write with "
	 "/allocate/{id}/data"},
	{ESHUTDOWN, MHD_HTTP_SERVICE_UNAVAILABLE, "rdma_failed",
	 "the server grants no keys any more: its RDMA device is gone, or it is stopping; read and "
	 "write with /allocate/{id}/data"},
	{EBUSY, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
	 "the large requests under way hold as much memory as they may; try again, or ask for less "
	 "at once"},
	{EACCES, MHD_HTTP_FORBIDDEN, "forbidden",
	 "this principal may read the allocation and not change it: its line in --auth-file would "
	 "need owner="},
	{ECANCELED, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping", "the server is stopping"},
	{ETIMEDOUT, MHD_HTTP_SERVICE_UNAVAILABLE, "revoke_unconfirmed",
	 "the allocation is gone, but a key to it could not be confirmed dead; its memory is kept "
	 "out of use"},
	{ENOSPC, MHD_HTTP_INSUFFICIENT_STORAGE, "pool_exhausted", "the pool is full"},
	{EDQUOT, MHD_HTTP_INSUFFICIENT_STORAGE, "grants_exhausted",
	 "as many keys are granted as this server allows (--max-grants); free allocations or end "
	 "grants, or start maasd with a larger --max-grants"},
	{EMLINK, MHD_HTTP_INSUFFICIENT_STORAGE, "device_limit",
	 "the RDMA device has no more memory windows or regions to make keys of; free allocations "
	 "or end grants, or ask for fewer and larger allocations"},
	{ENOSR, MHD_HTTP_INSUFFICIENT_STORAGE, "quota_exhausted",
	 "whoever pays has as much as its line in --auth-file allows; free some of it"},
	{ENOMEM, MHD_HTTP_SERVICE_UNAVAILABLE, "out_of_memory",
	 "the server has no memory for this request; try again"},
};
static const struct error_row internal_error = {0, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal",
						"the server failed; its log says more"};

void maas_http_response_put(struct maas_http_conn *conn, struct MHD_Response *response)
{
	if (response && response != conn->made.response &&
	    !maas_http_is_fixed(conn->http, response))
		MHD_destroy_response(response);
}

static int queue(struct maas_http_conn *conn, struct MHD_Response *response)
{
	enum MHD_Result queued;

	maas_http_deadline(conn, conn->req.received ? maas_clock_ns() : conn->req.start_ns,
			   conn->req.sent_bytes);
	conn->linger = conn->req.phase == MAAS_HTTP_PHASE_HEADERS;
	atomic_store_explicit(&conn->incomplete, false, memory_order_relaxed);
	if (conn->req.sent_bytes && conn->req.method != MAAS_HTTP_HEAD)
		maas_tls_stream_more(&conn->tls.stream);
	queued = MHD_queue_response(conn->mhd, conn->req.status, response);
	maas_http_response_put(conn, response);
	return queued == MHD_YES ? MAAS_HTTP_ANSWERED : -EIO;
}

int maas_http_reply_made(struct maas_http_conn *conn, unsigned int status, uint64_t bytes,
			 struct MHD_Response *response)
{
	struct maas_http_request *req = &conn->req;

	req->status = status;
	req->sent_bytes = bytes;
	if (req->phase == MAAS_HTTP_PHASE_COMPLETE ||
	    (req->phase == MAAS_HTTP_PHASE_HEADERS && req->has_body))
		return queue(conn, response);
	req->kept = response;
	return MAAS_HTTP_ANSWERED;
}

int maas_http_reply_kept(struct maas_http_conn *conn)
{
	struct MHD_Response *response = conn->req.kept;

	conn->req.kept = NULL;
	return queue(conn, response);
}

/* When to try again after a 429. Most often somebody has to give something back, nobody knows when.
 */
static unsigned int retry_s(const struct maas_http_conn *conn)
{
	return conn->req.retry_s ? conn->req.retry_s : RETRY_S;
}

static bool add_header(struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_retry(const struct maas_http_conn *conn, struct MHD_Response *response)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", retry_s(conn));
	return add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
}

/* Destroys the response, and returns false, when a header could not be added. */
static bool add_usual(struct MHD_Response *response, const char *type)
{
	if ((!type || add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type)) &&
	    add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"))
		return true;
	MHD_destroy_response(response);
	return false;
}

int maas_http_reply_response(struct maas_http_conn *conn, unsigned int status,
			     struct MHD_Response *response, const char *type, uint64_t bytes)
{
	struct maas_http_request *req = &conn->req;

	if (!response || !add_usual(response, type))
		return -ENOMEM;
	if ((req->close && !add_header(response, MHD_HTTP_HEADER_CONNECTION, "close")) ||
	    (status == MHD_HTTP_TOO_MANY_REQUESTS && !add_retry(conn, response)) ||
	    (req->extra_name && !add_header(response, req->extra_name, req->extra_value))) {
		MHD_destroy_response(response);
		return -ENOMEM;
	}
	return maas_http_reply_made(conn, status, bytes, response);
}

static ssize_t copy_out(void *cls, uint64_t pos, char *to, size_t max)
{
	struct maas_http_conn *conn = cls;
	size_t left = conn->out.len - pos;

	/* The block before has been sent. */
	maas_http_deadline_block(conn, max);
	if (max > left)
		max = left;
	memcpy(to, conn->out.data + pos, max);
	return max ? (ssize_t)max : MHD_CONTENT_READER_END_OF_STREAM;
}

/* Of an answer that is sent from one buffer nobody learns how far it is. Whoever holds what others
 * could use has to go on, so that is sent in blocks. */
static struct MHD_Response *new_response(struct maas_http_conn *conn)
{
	if (maas_http_counts(conn) && conn->out.len > MAAS_HTTP_STEP_BYTES)
		return MHD_create_response_from_callback(conn->out.len, MAAS_HTTP_STEP_BYTES,
							 copy_out, conn, NULL);
	return MHD_create_response_from_buffer(conn->out.len, conn->out.data,
					       MHD_RESPMEM_PERSISTENT);
}

/*
 * The library reads the bytes as it sends them, so the response of an answer that was sent serves
 * for the next one of that length, in the same place: a client often asks the same again. To make
 * one with its headers takes seven pieces of memory. NULL: out of memory.
 */
static struct MHD_Response *usual_response(struct maas_http_conn *conn, const char *type)
{
	struct maas_http_made *made = &conn->made;

	if (made->response && made->len == conn->out.len && made->data == conn->out.data &&
	    made->type == type)
		return made->response;
	if (made->response)
		MHD_destroy_response(made->response);
	*made = (struct maas_http_made){new_response(conn), conn->out.data, conn->out.len, type};
	if (made->response && !add_usual(made->response, type))
		made->response = NULL;
	return made->response;
}

int maas_http_reply_type(struct maas_http_conn *conn, unsigned int status, const char *type)
{
	struct maas_http_request *req = &conn->req;
	struct MHD_Response *response;

	if (conn->out.error)
		return conn->out.error;
	if (req->close || req->extra_name || status == MHD_HTTP_TOO_MANY_REQUESTS ||
	    maas_http_counts(conn))
		return maas_http_reply_response(conn, status, new_response(conn), type,
						conn->out.len);
	response = usual_response(conn, type);
	return response ? maas_http_reply_made(conn, status, conn->out.len, response) : -ENOMEM;
}

int maas_http_reply(struct maas_http_conn *conn, unsigned int status)
{
	return maas_http_reply_type(conn, status, "application/json");
}

/* The headers that only some answers have. */
static void write_extra(const struct maas_http_conn *conn, unsigned int status, char text[160])
{
	int len = 0;

	*text = '\0';
	if (conn->req.extra_name)
		len = snprintf(text, 160, "%s: %s\r\n", conn->req.extra_name,
			       conn->req.extra_value);
	if (status == MHD_HTTP_TOO_MANY_REQUESTS)
		snprintf(text + len, 160 - (size_t)len, "Retry-After: %u\r\n", retry_s(conn));
}

void maas_http_reply_by_hand(struct maas_http_conn *conn, unsigned int status)
{
	char head[512], extra[160];
	const struct iovec parts[] = {{head, 0}, {conn->out.data, conn->out.len}};
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = 2};
	int len;

	write_extra(conn, status, extra);
	len = snprintf(head, sizeof(head),
		       "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nCache-Control: "
		       "no-store\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
		       status, MHD_get_reason_phrase_for(status), extra, conn->out.len);
	message.msg_iov[0].iov_len = (size_t)len;
	if (conn->tls.stream.session) {
		maas_tls_stream_send(&conn->tls.stream, head, (size_t)len);
		maas_tls_stream_send(&conn->tls.stream, conn->out.data, conn->out.len);
	} else {
		(void)!sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	conn->linger = true;
}

void maas_http_blame(struct maas_http_conn *conn, enum maas_auth_quota quota, const char *payer)
{
	conn->req.quota = maas_auth_quota_name(quota);
	conn->req.payer = payer;
}

int maas_http_too_many(struct maas_http_conn *conn, enum maas_auth_quota quota, const char *remedy)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;

	maas_http_blame(conn, quota, principal->name);
	return maas_http_error(conn, MHD_HTTP_TOO_MANY_REQUESTS, "too_many",
			       "the principal %s has as many %s as its line in --auth-file allows "
			       "(%s=%llu); %s",
			       principal->name, maas_auth_quota_name(quota),
			       maas_auth_quota_word(quota),
			       (unsigned long long)principal->quota[quota], remedy);
}

static int reply_error(struct maas_http_conn *conn, unsigned int status, const char *code,
		       const char *fmt, va_list args) MAAS_PRINTF(4, 0);

static int reply_error(struct maas_http_conn *conn, unsigned int status, const char *code,
		       const char *fmt, va_list args)
{
	char text[512];

	maas_http_refused(conn, status, code);
	vsnprintf(text, sizeof(text), fmt, args);
	conn->out.len = 0;
	maas_buf_str(&conn->out, "{\"error\":{\"code\":\"");
	maas_buf_str(&conn->out, code);
	maas_buf_str(&conn->out, "\",\"message\":");
	maas_buf_json(&conn->out, text);
	if (conn->req.quota) {
		maas_buf_str(&conn->out, ",\"quota\":");
		maas_buf_json(&conn->out, conn->req.quota);
	}
	if (conn->req.payer) {
		maas_buf_str(&conn->out, ",\"principal\":");
		maas_buf_json(&conn->out, conn->req.payer);
	}
	maas_buf_str(&conn->out, "}}\n");
	return maas_http_reply(conn, status);
}

int maas_http_error(struct maas_http_conn *conn, unsigned int status, const char *code,
		    const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = reply_error(conn, status, code, fmt, args);
	va_end(args);
	return r;
}

int maas_http_fail(struct maas_http_conn *conn, int error, const char *fmt, ...)
{
	const struct error_row *row = &internal_error;
	va_list args;
	int r;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(error_table); i++)
		if (error_table[i].error == -error)
			row = &error_table[i];
	if ((row->status == MHD_HTTP_NOT_FOUND || row->status == MHD_HTTP_FORBIDDEN) &&
	    !maas_http_stands(conn))
		return maas_http_fail_gone(conn);
	if (row->status == MHD_HTTP_FORBIDDEN)
		maas_http_note_forbidden(conn);
	if (row == &internal_error)
		log_err("request failed path=%s error=%s", conn->path, strerror(-error));
	if (!fmt)
		return maas_http_error(conn, row->status, row->code, "%s", row->text);
	va_start(args, fmt);
	r = reply_error(conn, row->status, row->code, fmt, args);
	va_end(args);
	return r;
}

int maas_http_fail_fault(struct maas_http_conn *conn, int error,
			 const struct maas_http_fault *fault)
{
	if (error != -EINVAL)
		return maas_http_fail(conn, error, NULL);
	return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, fault->code, "%s", fault->text);
}

void maas_http_write_number(struct maas_buf *out, const char *before, uint64_t value)
{
	maas_buf_str(out, before);
	maas_buf_u64(out, value);
}

void maas_http_write_text(struct maas_buf *out, const char *before, const char *text)
{
	maas_buf_str(out, before);
	if (text)
		maas_buf_json(out, text);
	else
		maas_buf_str(out, "null");
}

void maas_http_write_mib(struct maas_buf *out, uint64_t bytes)
{
	uint64_t rest = bytes & 0xfffff;
	char point[24] = ".";
	size_t len = 1;

	maas_buf_u64(out, bytes >> 20);
	/* Of 20 binary places there are 20 decimal ones at most. */
	do {
		rest *= 10;
		point[len++] = (char)('0' + (rest >> 20));
		rest &= 0xfffff;
	} while (rest);
	maas_buf_add(out, point, len);
}
