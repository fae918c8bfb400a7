/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "http/internal.h"

struct maas_http_loan *maas_http_loan_new(struct maas_http_conn *conn, uint32_t count)
{
	struct maas_http_loan *loan;

	loan = calloc(1, sizeof(*loan) + count * (sizeof(*loan->grants) + sizeof(*loan->refs)));
	if (!loan)
		return NULL;
	loan->conn = conn;
	loan->count = count;
	loan->refs = (struct maas_slab_ref *)(loan->grants + count);
	atomic_init(&loan->holders, 1);
	conn->req.loan = loan;
	return loan;
}

void maas_http_loan_put(struct maas_http_loan *loan)
{
	if (loan && atomic_fetch_sub(&loan->holders, 1) == 1)
		free(loan);
}

void maas_http_loan_begin(struct maas_http_loan *loan)
{
	atomic_fetch_add(&loan->holders, 1);
	maas_http_wait_begin(loan->conn);
}

/* The wait ends last: with it the connection may be gone. */
void maas_http_loan_done(void *arg, int status)
{
	struct maas_http_loan *loan = arg;
	struct maas_http_conn *conn = loan->conn;

	maas_http_loan_put(loan);
	maas_http_wait_done(conn, status);
}

int maas_http_loan_wait(struct maas_http_loan *loan, int started)
{
	struct maas_http_conn *conn = loan->conn;

	if (started && started != -EINPROGRESS)
		maas_http_loan_done(loan, started);
	return maas_http_wait(conn);
}

void maas_http_write_grant(struct maas_buf *out, const struct maas_lend_key *grant)
{
	maas_buf_str(out, "{\"addr\":");
	maas_buf_u64(out, grant->addr);
	maas_buf_str(out, ",\"rkey\":");
	maas_buf_u64(out, grant->rkey);
	maas_buf_str(out, ",\"length\":");
	maas_buf_u64(out, grant->len_bytes);
	maas_buf_str(out, ",\"connection\":");
	maas_buf_u64(out, grant->connection);
	maas_buf_str(out, "}");
}

/*
 * -EEXIST speaks of names elsewhere. A key that the device fails to make, or that is under way when
 * the client leaves, is an input or output error; either way the connection is gone with it.
 */
int maas_http_fail_key(struct maas_http_conn *conn, int error)
{
	if (error == -EIO)
		error = -ENOTCONN;
	if (error == -ENOTCONN && !maas_http_keys_work(conn->http))
		error = -ESHUTDOWN; /* to connect again is of no use */
	if (error != -EEXIST)
		return maas_http_fail(conn, error, NULL);
	return maas_http_error(conn, MHD_HTTP_CONFLICT, "already_granted",
			       "the session has a key with other access to this allocation; end "
			       "that first: DELETE /allocate/{id}/grant/{session}");
}
