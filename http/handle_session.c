/* SPDX-License-Identifier: Apache-2.0 */
/* The calls on sessions. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

static int fail(struct maas_http_conn *conn, int error)
{
	/* For lend an unknown session is simply not there; the usual words speak of allocations. */
	if (error == -ENOENT)
		error = -ESRCH;
	if (error == -EACCES)
		return maas_http_fail(conn, error,
				      "this principal may not open a session of that name: its "
				      "line in --auth-file would need owner=");
	if (error == -ENOSR)
		return maas_http_too_many(conn, MAAS_AUTH_SESSIONS, "end one first");
	if (error == -EUSERS)
		return maas_http_fail(conn, error,
				      "as many sessions as this server allows are open "
				      "(--max-sessions); end one first");
	if (error == -ERANGE)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"ttl_seconds\" of a session may be at most %u on this "
				       "server (--max-session-ttl); renew the session before that",
				       maas_lend_session_max_ttl_s(conn->http->options.lend));
	return maas_http_fail(conn, error, NULL);
}

/* Where to connect to for RDMA: as near as can be to where the client came to by HTTP. */
static void write_address(struct maas_http_conn *conn)
{
	struct sockaddr_storage local = {0};
	socklen_t len = sizeof(local);
	struct maas_lend_key_address at;
	bool known;

	known = !getsockname(conn->fd, (struct sockaddr *)&local, &len) &&
		local.ss_family != AF_UNIX;
	if (!maas_http_keys_work(conn->http) ||
	    !maas_lend_key_address(conn->http->options.lend, known ? &local : NULL, &at)) {
		maas_buf_str(&conn->out, "null");
		return;
	}
	maas_buf_str(&conn->out, "{\"addr\":");
	maas_buf_json(&conn->out, at.addr);
	maas_buf_str(&conn->out, ",\"port\":");
	maas_buf_u64(&conn->out, at.port);
	maas_buf_str(&conn->out, "}");
}

static int reply(struct maas_http_conn *conn, const struct maas_lend_session_info *session)
{
	struct maas_buf *out = &conn->out;

	maas_buf_str(out, "{\"id\":\"");
	maas_buf_str(out, session->id);
	if (*session->ticket) {
		maas_buf_str(out, "\",\"ticket\":\"");
		maas_buf_str(out, session->ticket);
	}
	maas_buf_str(out, "\",\"ttl_seconds\":");
	maas_buf_u64(out, session->ttl_s);
	maas_buf_str(out, ",\"rdma\":");
	write_address(conn);
	maas_buf_str(out, "}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* What does not fit is longer than any lease. */
static uint32_t ttl_of(uint64_t ttl_s)
{
	return ttl_s < UINT32_MAX ? (uint32_t)ttl_s : UINT32_MAX;
}

int maas_http_session_open(struct maas_http_conn *conn)
{
	struct maas_http_session_body body;
	struct maas_http_fault fault;
	struct maas_lend_session_info session;
	int r;

	r = maas_http_json_session(conn->in.data, conn->in.len, &body, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	r = maas_lend_session_open(conn->http->options.lend, maas_http_caller(conn), body.name,
				   ttl_of(body.ttl_s), body.exclusive, conn->remote, &session);
	return r ? fail(conn, r) : reply(conn, &session);
}

/* ---- GET /sessions */

#define NAMED_LIMIT 100

struct named_query {
	const char *name;
	const char *unknown;
};

static enum MHD_Result take_argument(void *cls, enum MHD_ValueKind kind, const char *name,
				     const char *value)
{
	struct named_query *query = cls;

	(void)kind;
	if (!strcmp(name, "name"))
		query->name = value ? value : "";
	else
		query->unknown = name;
	return MHD_YES;
}

/* Not its id: who has that can end the session. */
static void write_named(struct maas_buf *out, const struct maas_lend_session_info *session)
{
	maas_buf_str(out, "{\"from\":");
	maas_buf_json(out, session->from);
	maas_buf_str(out, session->exclusive ? ",\"exclusive\":true" : ",\"exclusive\":false");
	maas_buf_str(out, ",\"age_seconds\":");
	maas_buf_u64(out, session->age_s);
	maas_buf_str(out, ",\"ttl_seconds\":");
	maas_buf_u64(out, session->ttl_s);
	maas_buf_str(out, ",\"lease_seconds\":");
	maas_buf_u64(out, session->lease_s);
	maas_buf_str(out, ",\"allocations\":");
	maas_buf_u64(out, session->allocations);
	maas_buf_str(out, "}");
}

int maas_http_sessions(struct maas_http_conn *conn)
{
	struct maas_lend_session_info sessions[NAMED_LIMIT];
	struct maas_buf *out = &conn->out;
	struct named_query query = {0};
	uint32_t count;
	bool more;

	MHD_get_connection_values(conn->mhd, MHD_GET_ARGUMENT_KIND, take_argument, &query);
	if (query.unknown)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "unknown_field",
				       "unknown argument \"%.64s\"; there is name", query.unknown);
	if (!query.name)
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "missing_field",
				       "\"name\" says of whom: GET /sessions?name=NAME");
	if (!maas_name_valid(query.name))
		return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_field",
				       "\"name\" must be a name: 1 to 63 characters of A-Z a-z "
				       "0-9 . _ : / @ -");
	count = maas_lend_session_named(conn->http->options.lend, maas_http_caller(conn),
					query.name, sessions, NAMED_LIMIT, &more);
	if (!count && !maas_http_stands(conn))
		return maas_http_fail_gone(conn);
	maas_buf_str(out, "{\"sessions\":[");
	for (uint32_t i = 0; i < count; i++) {
		maas_buf_str(out, i ? "," : "");
		write_named(out, &sessions[i]);
	}
	maas_buf_str(out, more ? "],\"more\":true}\n" : "],\"more\":false}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* ---- one session */

int maas_http_session_renew(struct maas_http_conn *conn)
{
	struct maas_http_fault fault;
	struct maas_lend_session_info session;
	uint64_t ttl_s;
	int r;

	r = maas_http_json_renew(conn->in.data, conn->in.len, INT64_MAX, &ttl_s, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	r = maas_lend_session_renew(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
				    ttl_of(ttl_s), &session);
	if (r)
		return fail(conn, r);
	session.ticket[0] = '\0';
	return reply(conn, &session);
}

int maas_http_session_ticket(struct maas_http_conn *conn)
{
	struct maas_http_fault fault;
	struct maas_lend_session_info session;
	int r;

	r = maas_http_json_none(conn->in.data, conn->in.len, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	r = maas_lend_session_ticket(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
				     &session);
	return r ? fail(conn, r) : reply(conn, &session);
}

int maas_http_session_end_resume(struct maas_http_conn *conn)
{
	int status = maas_http_wait_status(conn);

	if (status == -ETIMEDOUT)
		return maas_http_fail(conn, status,
				      "the session is gone, but not every key of it could be "
				      "confirmed dead; that memory is kept out of use");
	return status ? fail(conn, status) : maas_http_reply_empty(conn);
}

int maas_http_session_end(struct maas_http_conn *conn)
{
	int r;

	maas_http_wait_begin(conn);
	r = maas_lend_session_end(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
				  maas_http_wait_done, conn);
	if (r != -EINPROGRESS)
		maas_http_wait_done(conn, r);
	return maas_http_wait(conn);
}
