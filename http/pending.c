/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reply that waits for keys: it has two holders, the request and lend, and the last one frees it.
 * lend fills it from any thread; the request reads it when the wait is over.
 */
#include <errno.h>
#include <stdlib.h>

#include "http/internal.h"

struct maas_http_pending *maas_http_pending_new(struct maas_http_conn *conn, uint32_t count)
{
	struct maas_http_pending *pending;

	pending = calloc(1, sizeof(*pending) +
				    count * (sizeof(*pending->keys) + sizeof(*pending->refs)));
	if (!pending)
		return NULL;
	pending->conn = conn;
	pending->count = count;
	pending->refs = (struct maas_slab_ref *)(pending->keys + count);
	atomic_init(&pending->holders, 1);
	conn->req.pending = pending;
	return pending;
}

void maas_http_pending_put(struct maas_http_pending *pending)
{
	if (!pending || atomic_fetch_sub(&pending->holders, 1) != 1)
		return;
	maas_auth_unref(pending->caller.auth);
	free(pending);
}

void maas_http_pending_begin(struct maas_http_pending *pending)
{
	atomic_fetch_add(&pending->holders, 1);
	maas_http_wait_begin(pending->conn);
}

/* The wait ends last: with it the connection may be gone. */
void maas_http_pending_done(void *arg, int status)
{
	struct maas_http_pending *pending = arg;
	struct maas_http_conn *conn = pending->conn;

	maas_http_pending_put(pending);
	maas_http_wait_done(conn, status);
}

int maas_http_pending_wait(struct maas_http_pending *pending, int started)
{
	struct maas_http_conn *conn = pending->conn;

	if (started && started != -EINPROGRESS)
		maas_http_pending_done(pending, started);
	return maas_http_wait(conn);
}

void maas_http_write_key(struct maas_buf *out, const struct maas_lend_key *key)
{
	maas_http_write_number(out, "{\"addr\":", key->addr);
	maas_http_write_number(out, ",\"rkey\":", key->rkey);
	maas_http_write_number(out, ",\"length\":", key->len_bytes);
	maas_http_write_number(out, ",\"connection\":", key->connection);
	maas_buf_str(out, "}");
}

/* Whose session it is may be another's business. */
static int fail_keys(struct maas_http_conn *conn)
{
	maas_http_blame(conn, MAAS_AUTH_GRANTS, NULL);
	return maas_http_fail(conn, -ENOSR,
			      "the principal of this session has as many keys as its line in "
			      "--auth-file allows (max-grants); end grants or free allocations, or "
			      "give it more");
}

/*
 * For other calls -EEXIST is about names. A key that the device fails to make, or that is under way
 * when the client leaves, is an input or output error; either way the connection is gone with it.
 */
int maas_http_fail_key(struct maas_http_conn *conn, int error)
{
	if (error == -EIO)
		error = -ENOTCONN;
	if (error == -ENOTCONN && !maas_http_keys_work(conn->http))
		error = -ESHUTDOWN; /* to connect again is of no use */
	if (error == -ENOSR)
		return fail_keys(conn);
	if (error != -EEXIST)
		return maas_http_fail(conn, error, NULL);
	return maas_http_error(conn, MHD_HTTP_CONFLICT, "already_granted",
			       "the session has a key with other access to this allocation; end "
			       "that first: DELETE /allocate/{id}/grant/{session}");
}
