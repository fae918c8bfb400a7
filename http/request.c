/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request from its head to its end: the checks before its handlers are called, its body, its line
 * in the log. In the connection's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/internal.h"

#define KEEP_BYTES  (8u << 10) /* buffers above it do not stay with an idle connection */
#define WASTE_BYTES (1u << 20) /* so much unwanted body is read before the connection is cut */

/* ---- the head */

static void reset(struct maas_http_conn *conn, const char *url, const char *method)
{
	memset(&conn->req, 0, sizeof(conn->req));
	conn->req.start_ns = maas_clock_ns();
	conn->req.method = maas_http_method_parse(method);
	conn->req.route = MAAS_HTTP_UNKNOWN;
	conn->caller.lend.principal = NULL;
	/* A connection of the reserve serves one request. */
	conn->req.close = conn->place != MAAS_HTTP_PLACE_NORMAL;
	conn->in.len = 0;
	conn->in.error = 0;
	conn->out.len = 0;
	conn->out.error = 0;
	maas_http_path_text(url, conn->path, sizeof(conn->path));
	maas_lock_take(&conn->wait.lock);
	conn->wait.status = 0;
	maas_lock_release(&conn->wait.lock);
}

static int check_arguments(struct maas_http_conn *conn)
{
	if (!conn->many_arguments)
		return 0;
	return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_query",
			       "the query has more than %d arguments", MAAS_HTTP_MAX_ARGUMENTS);
}

/* What asks how the server is. */
static bool is_vital(const char *path)
{
	return !strcmp(path, "/health") || !strcmp(path, "/ready") || !strcmp(path, "/metrics");
}

static void find_call(struct maas_http_conn *conn, const char *url)
{
	struct maas_http_request *req = &conn->req;
	int route = maas_http_route_find(url, conn->ids);

	if (route < 0 || (conn->listener->metrics && !is_vital(url)))
		return;
	req->route = (unsigned int)route;
	req->call = maas_http_route_call(req->route, req->method);
}

static int check_call(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;

	if (req->call)
		return 0;
	if (req->route == MAAS_HTTP_UNKNOWN && conn->listener->metrics)
		return maas_http_error(conn, MHD_HTTP_NOT_FOUND, "no_such_path",
				       "this address has /health, /ready and /metrics only "
				       "(--listen-metrics); all other calls are at the server's "
				       "main address");
	if (req->route == MAAS_HTTP_UNKNOWN)
		return maas_http_error(conn, MHD_HTTP_NOT_FOUND, "no_such_path",
				       "there is no %.100s here; the calls are in "
				       "/openapi.yaml",
				       conn->path);
	req->extra_name = MHD_HTTP_HEADER_ALLOW;
	maas_http_route_allow(req->route, req->extra_value);
	return maas_http_error(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
			       "%s takes %s only", maas_http_route_pattern(req->route),
			       req->extra_value);
}

/* Beyond the limits of connections there is room only for requests that ask how the server is. */
static int check_place(struct maas_http_conn *conn, const char *path)
{
	bool asks = conn->req.method == MAAS_HTTP_GET || conn->req.method == MAAS_HTTP_HEAD;

	if (conn->place == MAAS_HTTP_PLACE_NORMAL ||
	    (asks && !conn->req.has_body && is_vital(path)))
		return 0;
	atomic_fetch_add_explicit(&conn->http->metrics.refused, 1, memory_order_relaxed);
	return maas_http_error(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "too_many_connections",
			       "as many connections are open as this server allows in all "
			       "(--max-connections) or from one address "
			       "(--max-connections-per-address); close some, or try again");
}

static int check_refusing(struct maas_http_conn *conn, const char *path)
{
	if (!atomic_load(&conn->http->refusing) || is_vital(path))
		return 0;
	conn->req.close = true;
	return maas_http_fail(conn, -ECANCELED, NULL);
}

static bool is_json(const char *type)
{
	return type && !strncasecmp(type, "application/json", 16) &&
	       (!type[16] || strchr("; \t", type[16]));
}

static uint64_t max_body(const struct maas_http_conn *conn)
{
	enum maas_http_body body = conn->req.call->body;
	uint64_t max = conn->http->options.max_body_bytes;

	if ((body == MAAS_HTTP_BODY_JSON || body == MAAS_HTTP_BODY_OPTIONAL) &&
	    max > MAAS_HTTP_SMALL_BODY)
		return MAAS_HTTP_SMALL_BODY;
	return max;
}

static int fail_body(struct maas_http_conn *conn)
{
	uint64_t max = max_body(conn);
	bool option = max == conn->http->options.max_body_bytes;

	return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
			       "the body is longer than the %llu bytes that %s",
			       (unsigned long long)max,
			       option ? "this server reads (--max-body-size)" : "this call takes");
}

static int check_body(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	enum maas_http_body body = req->call->body;
	bool needed = body != MAAS_HTTP_BODY_NONE && body != MAAS_HTTP_BODY_OPTIONAL;

	if (needed && !req->chunked && !req->fields[MAAS_HTTP_FIELD_CONTENT_LENGTH])
		return maas_http_error(conn, MHD_HTTP_LENGTH_REQUIRED, "length_required",
				       "a body is needed here: send Content-Length, or "
				       "Transfer-Encoding: chunked");
	if (body == MAAS_HTTP_BODY_STREAM)
		return 0;
	if (req->content_length > max_body(conn))
		return fail_body(conn);
	/* A web page may send a body without this header to any server, with it to its own. */
	if (body != MAAS_HTTP_BODY_NONE && req->has_body &&
	    !is_json(req->fields[MAAS_HTTP_FIELD_CONTENT_TYPE]))
		return maas_http_error(conn, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "not_json",
				       "the body must be JSON: send the header Content-Type: "
				       "application/json");
	return 0;
}

static int begin(struct maas_http_conn *conn, const char *url, const char *method,
		 const char *version)
{
	struct maas_http_request *req = &conn->req;
	int r;

	reset(conn, url, method);
	/* Before check_refusing(): who refuses, and then sees none active, misses none. */
	atomic_fetch_add(&conn->http->metrics.active, 1);
	r = maas_http_head_read(conn, method, url, version);
	if (!req->chunked)
		maas_http_head_closed(conn);
	if (!r)
		r = maas_http_guard(conn, &url);
	if (!r)
		r = check_arguments(conn);
	if (!r)
		r = check_place(conn, url);
	if (!r)
		r = check_refusing(conn, url);
	if (!r) {
		find_call(conn, url);
		r = maas_http_identify(conn);
	}
	if (!r)
		r = check_call(conn);
	if (!r)
		r = maas_http_authorize(conn);
	if (!r)
		r = check_body(conn);
	if (r)
		return r;
	maas_http_deadline_body(conn, req->chunked ? max_body(conn) : req->content_length);
	if (req->call->begin)
		r = req->call->begin(conn);
	return r;
}

/* ---- the body */

static int collect(struct maas_http_conn *conn, const char *data, size_t len)
{
	int r;

	if (conn->req.received > max_body(conn))
		return fail_body(conn);
	if (conn->req.call->body == MAAS_HTTP_BODY_NONE)
		return 0;
	/* Only what has arrived is counted, not what was announced. */
	r = maas_http_hold(conn, len);
	if (r)
		return maas_http_fail(conn, r, NULL);
	maas_buf_add(&conn->in, data, len);
	return conn->in.error;
}

/*
 * The library takes an answer at the end of the body only. What little is left of one is read and
 * thrown away; where it is much, the answer is sent at once, and the connection ends.
 */
static int discard(struct maas_http_conn *conn, size_t len)
{
	struct maas_http_request *req = &conn->req;
	uint64_t left = req->chunked ? 0 : req->content_length - req->received;

	req->wasted += len;
	if (left <= WASTE_BYTES && req->wasted <= WASTE_BYTES)
		return 0;
	maas_http_reply_by_hand(conn, req->status);
	return -ECONNABORTED;
}

/* Returns in `data_len` how much of it was not taken. */
static int take(struct maas_http_conn *conn, const char *data, size_t *data_len)
{
	struct maas_http_request *req = &conn->req;
	bool counts = maas_http_counts(conn);
	size_t len = *data_len;
	int r;

	*data_len = 0;
	req->phase = MAAS_HTTP_PHASE_BODY;
	req->received += len;
	if (req->status) { /* answered before */
		r = discard(conn, len);
	} else if (req->call->bytes) {
		r = req->call->bytes(conn, (const uint8_t *)data, len, data_len);
		req->received -= *data_len;
	} else {
		r = collect(conn, data, len);
	}
	/* Afterwards, because what was taken may count. */
	if (req->received >= req->step_end || (!counts && maas_http_counts(conn)))
		maas_http_deadline_step(conn);
	return r == MAAS_HTTP_ANSWERED ? discard(conn, 0) : r;
}

/* ---- the whole */

static int finish(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	int r;

	/* A library that is being stopped says that it took the answer, but comes again. */
	if (req->status && !req->kept)
		return -ECONNABORTED;
	if (req->phase == MAAS_HTTP_PHASE_COMPLETE)
		return req->call->resume(conn);
	req->phase = MAAS_HTTP_PHASE_COMPLETE;
	atomic_store_explicit(&conn->incomplete, false, memory_order_relaxed);
	if (req->kept)
		return maas_http_reply_kept(conn);
	r = maas_http_reauthorize(conn);
	return r ? r : req->call->finish(conn);
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
		r = take(conn, data, data_len);
	} else {
		r = finish(conn);
	}
	return r < 0 ? MHD_NO : MHD_YES;
}

static enum maas_log_level level_of(const struct maas_http_request *req)
{
	bool changes = req->method == MAAS_HTTP_POST || req->method == MAAS_HTTP_DELETE;

	/* Of what proved nothing a warning tells, and counts it. */
	if (req->status == MHD_HTTP_UNAUTHORIZED ||
	    (req->status == MHD_HTTP_TOO_MANY_REQUESTS && req->extra_name))
		return MAAS_LOG_DEBUG;
	if (req->call)
		return req->call->log;
	return changes ? MAAS_LOG_INFO : MAAS_LOG_DEBUG;
}

/* Strangers do not fill the log: of what they were refused a few lines are logged, and how many
 * there were. */
static bool is_logged(const struct maas_http_conn *conn, enum maas_log_level level)
{
	static struct maas_ratelimit refused =
		MAAS_RATELIMIT(MAAS_LOG_INFO, "refused requests of strangers");
	unsigned int status = conn->req.status;

	if (!maas_log_enabled(level))
		return false;
	if (level == MAAS_LOG_DEBUG || maas_log_enabled(MAAS_LOG_DEBUG) ||
	    (status >= 200 && status < 300) || !maas_http_is_stranger(conn))
		return true;
	return maas_ratelimit_pass(&refused);
}

/* Made in the body's buffer, which nobody needs any more: printf takes twice as long. */
static void log_access(struct maas_http_conn *conn, uint64_t ns, bool cut)
{
	const struct maas_http_request *req = &conn->req;
	enum maas_log_level level = level_of(req);
	struct maas_buf *line = &conn->in;

	if (!is_logged(conn, level))
		return;
	line->len = 0;
	maas_buf_str(line, conn->remote);
	maas_buf_str(line, " ");
	maas_buf_str(line, maas_http_method_name(req->method));
	maas_buf_str(line, " ");
	maas_buf_str(line, conn->path);
	maas_http_write_number(line, " status=", req->status);
	maas_http_write_number(line, " in=", req->received);
	maas_http_write_number(line, " out=", req->sent_bytes);
	maas_http_write_number(line, " us=", ns / 1000u);
	maas_buf_str(line, cut ? " cut" : "");
	if (conn->caller.lend.principal) {
		maas_buf_str(line, " principal=");
		maas_buf_str(line, conn->caller.lend.principal->name);
	}
	if (!line->error)
		maas_log_text(level, line->data, line->len);
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
	if (!conn)
		return;
	*context = NULL;
	maas_http_head_closed(conn);
	req = &conn->req;
	maas_http_response_put(conn, req->kept);
	if (req->transferring)
		maas_http_transfers_end(conn, &req->transfer, 1);
	maas_http_vector_free(conn, req->vector);
	maas_http_batch_free(conn, req->batch);
	free(req->overview);
	maas_http_pending_put(req->pending);
	maas_http_unhold(conn);
	now_ns = maas_clock_ns();
	log_access(conn, now_ns - req->start_ns, code != MHD_REQUEST_TERMINATED_COMPLETED_OK);
	trim(&conn->in);
	trim(&conn->out);
	maas_http_metrics_request(&conn->http->metrics, req->route, req->method, req->status,
				  now_ns - req->start_ns);
	atomic_store_explicit(&conn->incomplete, true, memory_order_relaxed);
	maas_http_deadline_idle(conn, now_ns);
	atomic_fetch_sub_explicit(&conn->http->metrics.active, 1, memory_order_relaxed);
}
