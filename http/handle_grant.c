/* SPDX-License-Identifier: Apache-2.0 */
/* Keys to allocations, for sessions other than the one that allocated. */
#include <errno.h>

#include "http/internal.h"

/* ---- POST /allocate/{id}/grant */

/* What an operator can mend; a client that is wrong is not counted. */
static bool is_shortage(int status)
{
	return status == -EDQUOT || status == -EMLINK || status == -ENOSR || status == -ENOTCONN;
}

int maas_http_grant_resume(struct maas_http_conn *conn)
{
	int status = maas_http_wait_status(conn);

	if (is_shortage(status))
		maas_http_count_failure(conn, status);
	/* The same words whether there is no such session, or one that may not. */
	if (status == -ESRCH && maas_http_caller(conn))
		return maas_http_fail(conn, status,
				      "no session with this id may have this key: it ended, its "
				      "lease lapsed, it never was, or its principal would need "
				      "owner= or read= in --auth-file");
	if (status)
		return maas_http_fail_key(conn, status);
	maas_http_write_key(&conn->out, conn->req.pending->keys);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_grant(struct maas_http_conn *conn)
{
	struct maas_http_grant_body body;
	struct maas_http_fault fault;
	struct maas_http_pending *pending;
	int r;

	r = maas_http_json_grant(conn->in.data, conn->in.len, &body, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	if (!conn->http->has_keys)
		return maas_http_fail(conn, -EOPNOTSUPP, NULL);
	pending = maas_http_pending_new(conn, 1);
	if (!pending)
		return maas_http_fail(conn, -ENOMEM, NULL);
	maas_http_pending_begin(pending);
	r = maas_lend_grant(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
			    body.session, body.access, pending->keys, maas_http_pending_done,
			    pending);
	return maas_http_pending_wait(pending, r);
}

/* ---- DELETE /allocate/{id}/grant/{session} */

int maas_http_ungrant_resume(struct maas_http_conn *conn)
{
	int status = maas_http_wait_status(conn);

	struct maas_lend_session_info session;

	/* That another's session has no key is as that there is no such session. */
	if (status == -ENOENT &&
	    maas_lend_session_get(conn->http->options.lend, maas_http_caller(conn), conn->ids[1],
				  &session))
		status = -ESRCH;
	if (status == -ENOENT)
		return maas_http_fail(conn, status,
				      "no allocation with this id, or this session has no key to "
				      "it");
	if (status == -ETIMEDOUT || status == -EIO)
		return maas_http_fail(conn, -ETIMEDOUT,
				      "the key could not be confirmed dead; free the allocation or "
				      "end the session to be rid of it");
	if (status)
		return maas_http_fail_key(conn, status);
	return maas_http_reply_empty(conn);
}

int maas_http_ungrant(struct maas_http_conn *conn)
{
	int r;

	if (!conn->http->has_keys)
		return maas_http_fail(conn, -EOPNOTSUPP, NULL);
	maas_http_wait_begin(conn);
	r = maas_lend_ungrant(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
			      conn->ids[1], maas_http_wait_done, conn);
	if (r != -EINPROGRESS)
		maas_http_wait_done(conn, r);
	return maas_http_wait(conn);
}
