/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DELETE /allocate/{id} and POST /free. The answer waits until no key and no transfer can reach the
 * bytes.
 */
#include <errno.h>

#include "http/internal.h"

/* ---- DELETE /allocate/{id} */

static int reply_freed(struct maas_http_conn *conn, int status)
{
	if (status)
		return maas_http_fail(conn, status, NULL);
	return maas_http_reply_empty(conn);
}

int maas_http_delete_resume(struct maas_http_conn *conn)
{
	return reply_freed(conn, maas_http_wait_status(conn));
}

int maas_http_delete(struct maas_http_conn *conn)
{
	int r;

	maas_http_wait_begin(conn);
	r = maas_lend_free(conn->http->options.lend, maas_http_caller(conn), conn->ids[0],
			   maas_http_wait_done, conn);
	if (r == -EINPROGRESS)
		return maas_http_wait(conn);
	maas_http_wait_done(conn, r);
	return reply_freed(conn, r);
}

/* ---- POST /free */

/* Frees one of many. Returns 1 when the allocation was there; an id that is not known is added to
 * `unknown`, as it was written. Any other failure is the status of the whole answer. */
static int free_one(struct maas_http_conn *conn, const char *id,
		    const struct maas_http_element *element, struct maas_buf *unknown)
{
	int r;

	maas_http_wait_begin(conn);
	r = maas_lend_free(conn->http->options.lend, maas_http_caller(conn), id,
			   maas_http_wait_done, conn);
	if (r == -EINPROGRESS)
		return 1;
	if (r == -EACCES)
		r = -ENOENT; /* not the caller's to free */
	maas_http_wait_done(conn, r == -ENOENT && maas_http_stands(conn) ? 0 : r);
	if (r != -ENOENT)
		return 1;
	if (unknown->len)
		maas_buf_str(unknown, ",");
	maas_buf_add(unknown, element->text, element->len);
	return 0;
}

int maas_http_free_resume(struct maas_http_conn *conn)
{
	int status = maas_http_wait_status(conn);

	if (status == -ETIMEDOUT)
		return maas_http_fail(
			conn, status,
			"the allocations are gone, but not every key to them could be "
			"confirmed dead; that memory is kept out of use");
	if (status)
		return maas_http_fail(conn, status, NULL);
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* Before anything is freed, the whole body has to be good. */
static int check_ids(struct maas_http_conn *conn, struct maas_http_fault *fault)
{
	struct maas_http_element element;
	struct maas_http_list list;
	char id[MAAS_SLAB_ID_TEXT];
	int r;

	r = maas_http_ids_open(&list, conn->in.data, conn->in.len, fault);
	if (r)
		return r;
	do
		r = maas_http_ids_next(&list, id, &element, fault);
	while (r == 1);
	return r;
}

int maas_http_free(struct maas_http_conn *conn)
{
	struct maas_buf unknown = {0};
	struct maas_http_element element;
	struct maas_http_fault fault;
	struct maas_http_list list;
	char id[MAAS_SLAB_ID_TEXT];
	uint64_t freed = 0;
	int r;

	r = check_ids(conn, &fault);
	if (!r)
		r = maas_http_ids_open(&list, conn->in.data, conn->in.len, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	while (maas_http_ids_next(&list, id, &element, &fault) == 1)
		freed += (uint64_t)free_one(conn, id, &element, &unknown);
	maas_buf_str(&conn->out, "{\"freed\":");
	maas_buf_u64(&conn->out, freed);
	maas_buf_str(&conn->out, ",\"unknown\":[");
	maas_buf_add(&conn->out, unknown.data, unknown.len);
	maas_buf_str(&conn->out, "]}\n");
	if (unknown.error)
		conn->out.error = unknown.error;
	maas_buf_fini(&unknown);
	return maas_http_wait(conn);
}
