/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/internal.h"

#define KEEP_BYTES  (64u << 10) /* buffers above it do not stay with an idle connection */
#define WASTE_BYTES (1u << 20)	/* so much unwanted body is read before the connection is cut */

const struct maas_http_handlers maas_http_handlers[MAAS_CALLS] = {
	[MAAS_CALL_HEALTH] = {.finish = maas_http_health},
	[MAAS_CALL_READY] = {.finish = maas_http_ready},
	[MAAS_CALL_STATS] = {.finish = maas_http_stats},
	[MAAS_CALL_METRICS] = {.finish = maas_http_metrics},
	[MAAS_CALL_ALLOCATE] = {.body = MAAS_BODY_JSON,
				.finish = maas_http_allocate,
				.resume = maas_http_allocate_end},
	[MAAS_CALL_DESCRIBE] = {.finish = maas_http_describe},
	[MAAS_CALL_DELETE] = {.finish = maas_http_delete, .resume = maas_http_delete_end},
	[MAAS_CALL_RENEW] = {.body = MAAS_BODY_OPTIONAL, .finish = maas_http_renew},
	[MAAS_CALL_FREE] = {.body = MAAS_BODY_JSON,
			    .finish = maas_http_free,
			    .resume = maas_http_free_end},
	[MAAS_CALL_LIST] = {.finish = maas_http_list},
	[MAAS_CALL_DATA_GET] = {.finish = maas_http_data_get},
	[MAAS_CALL_DATA_PUT] = {.body = MAAS_BODY_STREAM,
				.begin = maas_http_data_put_begin,
				.data = maas_http_data_put,
				.finish = maas_http_data_put_end},
	[MAAS_CALL_DATA_READ] = {.body = MAAS_BODY_JSON, .finish = maas_http_data_read},
	[MAAS_CALL_DATA_WRITE] = {.body = MAAS_BODY_STREAM,
				  .begin = maas_http_data_write_begin,
				  .data = maas_http_data_write,
				  .finish = maas_http_data_write_end},
	[MAAS_CALL_GRANT] = {.body = MAAS_BODY_JSON,
			     .finish = maas_http_grant,
			     .resume = maas_http_grant_end},
	[MAAS_CALL_UNGRANT] = {.finish = maas_http_ungrant, .resume = maas_http_ungrant_end},
	[MAAS_CALL_SESSION_OPEN] = {.body = MAAS_BODY_JSON, .finish = maas_http_session_open},
	[MAAS_CALL_SESSION_RENEW] = {.body = MAAS_BODY_OPTIONAL, .finish = maas_http_session_renew},
	[MAAS_CALL_SESSION_TICKET] = {.body = MAAS_BODY_OPTIONAL,
				      .finish = maas_http_session_ticket},
	[MAAS_CALL_SESSION_END] = {.finish = maas_http_session_end,
				   .resume = maas_http_session_gone},
};

const char *maas_http_header(struct maas_http_conn *conn, const char *name)
{
	return MHD_lookup_connection_value(conn->mhd, MHD_HEADER_KIND, name);
}

/* ---- the headers */

static void reset(struct maas_http_conn *conn, const char *url, const char *method)
{
	memset(&conn->req, 0, sizeof(conn->req));
	conn->req.start_ns = maas_clock_ns();
	conn->req.method = maas_http_method_parse(method);
	conn->req.route = MAAS_HTTP_UNKNOWN;
	conn->in.len = 0;
	conn->in.error = 0;
	conn->out.len = 0;
	conn->out.error = 0;
	maas_http_path_text(url, conn->path, sizeof(conn->path));
	pthread_mutex_lock(&conn->wait.lock);
	conn->wait.status = 0;
	pthread_mutex_unlock(&conn->wait.lock);
}

struct framing {
	const char *encoding;
	const char *length;
	unsigned int hosts;
	bool ambiguous; /* said twice, or in both ways */
};

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name,
				   const char *value)
{
	struct framing *framing = cls;

	(void)kind;
	if (!strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
		framing->ambiguous |= framing->encoding || framing->length;
		framing->encoding = value ? value : "";
	} else if (!strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH)) {
		framing->ambiguous |= framing->encoding || framing->length;
		framing->length = value ? value : "";
	} else if (!strcasecmp(name, MHD_HTTP_HEADER_HOST)) {
		framing->hosts++;
	}
	return MHD_YES;
}

/* What comes behind such headers could be body or the next request: it is taken for neither. */
static int fail_framing(struct maas_http_conn *conn, const char *code, const char *what)
{
	conn->req.has_body = true;
	conn->req.extra_name = MHD_HTTP_HEADER_CONNECTION;
	snprintf(conn->req.extra_value, sizeof(conn->req.extra_value), "close");
	return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, code, "%s", what);
}

/* RFC 9112, 3.2: a client that speaks HTTP/1.1 says which host it means, once. */
static bool host_is_good(const struct framing *framing, const char *version)
{
	return framing->hosts == 1 ||
	       (!framing->hosts && strcmp(version, MHD_HTTP_VERSION_1_1) != 0);
}

static int read_framing(struct maas_http_conn *conn, const char *version)
{
	struct maas_http_request *req = &conn->req;
	struct framing framing = {0};

	MHD_get_connection_values(conn->mhd, MHD_HEADER_KIND, take_header, &framing);
	if (framing.ambiguous)
		return fail_framing(conn, "bad_length",
				    "there must be one Content-Length, or one Transfer-Encoding "
				    "instead");
	if (!host_is_good(&framing, version))
		return fail_framing(conn, "bad_host", "there must be one Host header");
	if (framing.encoding) {
		req->has_body = true;
		req->chunked = true;
		if (strcasecmp(framing.encoding, "chunked") != 0)
			return fail_framing(conn, "bad_encoding",
					    "the only Transfer-Encoding here is chunked");
		return 0;
	}
	if (!framing.length)
		return 0;
	if (maas_http_u63_parse(framing.length, &req->content_length))
		return fail_framing(conn, "bad_length",
				    "Content-Length must be a whole number below 2^63");
	req->has_body = req->content_length > 0;
	return 0;
}

static int check_headers(struct maas_http_conn *conn)
{
	const union MHD_ConnectionInfo *info;
	size_t max = conn->http->options.max_header_bytes;

	info = MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	if (!info || info->header_size <= max)
		return 0;
	return maas_http_error(conn, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large",
			       "the request's headers take %zu bytes; this server reads at most "
			       "%zu (--max-header-size)",
			       info->header_size, max);
}

static int find_handlers(struct maas_http_conn *conn, const char *url)
{
	struct maas_http_request *req = &conn->req;
	const struct maas_http_route *route;
	unsigned int call;
	int index;

	index = maas_http_route_find(url, conn->ids);
	if (index < 0)
		return maas_http_error(conn, MHD_HTTP_NOT_FOUND, "no_such_path",
				       "there is no %.100s here; the calls are in "
				       "docs/openapi.yaml",
				       conn->path);
	req->route = (unsigned int)index;
	route = maas_http_route_at(req->route);
	call = route->calls[req->method];
	if (call == MAAS_CALL_NONE) {
		req->extra_name = MHD_HTTP_HEADER_ALLOW;
		snprintf(req->extra_value, sizeof(req->extra_value), "%s", route->allow);
		return maas_http_error(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
				       "%s takes %s only", route->pattern, route->allow);
	}
	req->handlers = &maas_http_handlers[call];
	return 0;
}

static bool is_json(const char *type)
{
	return !type || (!strncasecmp(type, "application/json", 16) &&
			 (!type[16] || strchr("; \t", type[16])));
}

static int check_body(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	enum maas_http_body body = req->handlers->body;
	uint64_t max = conn->http->options.max_body_bytes;
	bool needed = body == MAAS_BODY_JSON || body == MAAS_BODY_STREAM;

	if (needed && !req->chunked && !maas_http_header(conn, MHD_HTTP_HEADER_CONTENT_LENGTH))
		return maas_http_error(conn, MHD_HTTP_LENGTH_REQUIRED, "length_required",
				       "a body is needed here: send Content-Length, or "
				       "Transfer-Encoding: chunked");
	if (body == MAAS_BODY_STREAM)
		return 0;
	if (req->content_length > max)
		return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
				       "the body has %llu bytes; this server reads at most %llu "
				       "(--max-body-size)",
				       (unsigned long long)req->content_length,
				       (unsigned long long)max);
	if (body != MAAS_BODY_NONE && req->has_body &&
	    !is_json(maas_http_header(conn, MHD_HTTP_HEADER_CONTENT_TYPE)))
		return maas_http_error(conn, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "not_json",
				       "the body must be JSON: send the header Content-Type: "
				       "application/json");
	return 0;
}

/* A JSON body that stays above what every connection keeps for itself is counted. */
static int hold_body(struct maas_http_conn *conn)
{
	const struct maas_http_request *req = &conn->req;
	uint64_t bytes = req->chunked ? conn->http->options.max_body_bytes : req->content_length;
	int r;

	if (req->handlers->body == MAAS_BODY_NONE || req->handlers->body == MAAS_BODY_STREAM ||
	    bytes <= KEEP_BYTES)
		return 0;
	r = maas_http_hold(conn, bytes);
	return r ? maas_http_fail(conn, r, NULL) : 0;
}

/* An answer was made: nothing further is done for this request. */
static bool answered(const struct maas_http_conn *conn)
{
	return conn->req.status != 0;
}

static int begin(struct maas_http_conn *conn, const char *url, const char *method,
		 const char *version)
{
	struct maas_http_request *req = &conn->req;
	int r;

	reset(conn, url, method);
	atomic_fetch_add_explicit(&conn->http->metrics.active, 1, memory_order_relaxed);
	r = read_framing(conn, version);
	if (!r && !answered(conn))
		r = check_headers(conn);
	if (!r && !answered(conn))
		r = find_handlers(conn, url);
	if (!r && !answered(conn))
		r = check_body(conn);
	if (!r && !answered(conn))
		r = hold_body(conn);
	if (r || answered(conn))
		return r;
	maas_http_deadline(conn, req->start_ns,
			   req->chunked ? conn->http->options.max_body_bytes : req->content_length);
	if (req->handlers->begin)
		r = req->handlers->begin(conn);
	return r;
}

/* ---- the body */

static int collect(struct maas_http_conn *conn, const char *data, size_t len)
{
	size_t max = conn->http->options.max_body_bytes;

	if (conn->req.received > max)
		return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
				       "the body is longer than the %zu bytes that this server "
				       "reads (--max-body-size)",
				       max);
	if (conn->req.handlers->body != MAAS_BODY_NONE)
		maas_buf_add(&conn->in, data, len);
	return conn->in.error;
}

static int take(struct maas_http_conn *conn, const char *data, size_t len)
{
	struct maas_http_request *req = &conn->req;

	req->phase = MAAS_PHASE_BODY;
	req->received += len;
	if (answered(conn)) {
		/* What is announced has a bound; what comes in chunks has none. */
		req->wasted += len;
		return req->chunked && req->wasted > WASTE_BYTES ? -EFBIG : 0;
	}
	if (req->handlers->data)
		return req->handlers->data(conn, (const uint8_t *)data, len);
	return collect(conn, data, len);
}

/* ---- the whole */

static int finish(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;

	if (req->phase == MAAS_PHASE_COMPLETE)
		return req->handlers->resume(conn);
	req->phase = MAAS_PHASE_COMPLETE;
	if (req->kept)
		return maas_http_reply_kept(conn);
	return req->handlers->finish(conn);
}

enum MHD_Result maas_http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
				     const char *method, const char *version, const char *data,
				     size_t *data_len, void **context)
{
	struct maas_http_conn *conn = *context;
	int r;

	(void)cls;
	if (!conn) {
		conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			       ->socket_context;
		if (!conn)
			return MHD_NO;
		*context = conn;
		r = begin(conn, url, method, version);
	} else if (*data_len) {
		r = take(conn, data, *data_len);
		*data_len = 0;
	} else {
		r = finish(conn);
	}
	return r ? MHD_NO : MHD_YES;
}

static void add_number(struct maas_buf *line, const char *name, uint64_t value)
{
	maas_buf_str(line, name);
	maas_buf_u64(line, value);
}

/* The line is made in the body's buffer, which nobody needs any more: printf takes twice as long.
 */
static void log_access(struct maas_http_conn *conn, uint64_t ns)
{
	const struct maas_http_request *req = &conn->req;
	bool changes = req->method == MAAS_HTTP_POST || req->method == MAAS_HTTP_DELETE;
	enum maas_log_level level = changes ? MAAS_LOG_INFO : MAAS_LOG_DEBUG;
	struct maas_buf *line = &conn->in;

	if (!maas_log_enabled(level))
		return;
	line->len = 0;
	maas_buf_str(line, conn->remote);
	maas_buf_str(line, " ");
	maas_buf_str(line, maas_http_method_name(req->method));
	maas_buf_str(line, " ");
	maas_buf_str(line, conn->path);
	add_number(line, " status=", req->status);
	add_number(line, " in=", req->received);
	add_number(line, " out=", req->sent_bytes);
	add_number(line, " us=", ns / 1000u);
	if (!line->error)
		maas_log(level, "%.*s", (int)line->len, line->data);
}

static void trim(struct maas_buf *buf)
{
	if (buf->cap > KEEP_BYTES)
		maas_buf_fini(buf);
}

void maas_http_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			    enum MHD_RequestTerminationCode code)
{
	struct maas_http_conn *conn = *context;
	struct maas_http_request *req;
	uint64_t now_ns;

	(void)cls;
	(void)mhd;
	(void)code;
	if (!conn)
		return;
	*context = NULL;
	req = &conn->req;
	maas_http_response_put(conn, req->kept);
	if (req->transferring)
		maas_transfer_end(conn->http->options.lend, &req->transfer);
	maas_http_vector_free(conn, req->vector);
	maas_http_loan_put(req->loan);
	atomic_fetch_sub_explicit(&conn->http->held_bytes, req->held_bytes, memory_order_relaxed);
	now_ns = maas_clock_ns();
	log_access(conn, now_ns - req->start_ns);
	trim(&conn->in);
	trim(&conn->out);
	maas_http_metrics_request(&conn->http->metrics, req->route, req->method, req->status,
				  now_ns - req->start_ns);
	maas_http_deadline_idle(conn, now_ns);
	atomic_fetch_sub_explicit(&conn->http->metrics.active, 1, memory_order_relaxed);
}
