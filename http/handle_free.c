/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DELETE /allocate/{id} and POST /free. The answer waits until no key and no transfer can reach the
 * bytes. A long list is freed in steps, between which the thread serves others.
 */
#include <errno.h>
#include <stdlib.h>

#include "http/internal.h"

#define STEP_IDS 16 /* that are checked or freed before a look at the clock */

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

struct maas_http_batch {
	struct maas_http_list list;
	bool good; /* the whole body is: before that nothing is freed */
	bool done;
	uint64_t freed;
	struct maas_buf unknown; /* ids, as they were written */
};

/* Frees one of many, and counts it when the allocation was there. A failure but for an id that is
 * not known is the status of the whole answer. */
static void free_one(struct maas_http_conn *conn, const char *id,
		     const struct maas_http_element *element)
{
	struct maas_http_batch *batch = conn->req.batch;
	int r;

	maas_http_wait_begin(conn);
	r = maas_lend_free(conn->http->options.lend, maas_http_caller(conn), id,
			   maas_http_wait_done, conn);
	if (r == -EACCES)
		r = -ENOENT; /* not the caller's to free */
	if (r != -EINPROGRESS)
		maas_http_wait_done(conn, r == -ENOENT && maas_http_stands(conn) ? 0 : r);
	if (r != -ENOENT) {
		batch->freed++;
		return;
	}
	if (batch->unknown.len)
		maas_buf_str(&batch->unknown, ",");
	maas_buf_add(&batch->unknown, element->text, element->len);
}

/* Checks or frees up to `max` ids more. Returns 1 when there are others left; 0; or -errno with
 * `fault` filled. */
static int take_ids(struct maas_http_conn *conn, uint32_t max, struct maas_http_fault *fault)
{
	struct maas_http_batch *batch = conn->req.batch;
	struct maas_http_element element;
	char id[MAAS_SLAB_ID_TEXT];
	int r = 1;

	for (uint32_t i = 0; r == 1 && i < max; i++) {
		r = maas_http_ids_next(&batch->list, id, &element, fault);
		if (r == 1 && batch->good)
			free_one(conn, id, &element);
	}
	return r;
}

/* The walk begins, once to check and once to free. */
static int open_ids(struct maas_http_conn *conn, struct maas_http_fault *fault)
{
	return maas_http_ids_open(&conn->req.batch->list, conn->in.data, conn->in.len, fault);
}

/* What was begun is carried out, though nobody hears of it: at once, for a connection that is gone
 * gets no more turns. */
void maas_http_batch_free(struct maas_http_conn *conn, struct maas_http_batch *batch)
{
	struct maas_http_fault fault;

	if (!batch)
		return;
	if (batch->good && !batch->done)
		(void)!take_ids(conn, UINT32_MAX, &fault);
	maas_buf_fini(&batch->unknown);
	free(batch);
}

static int reply_batch(struct maas_http_conn *conn)
{
	struct maas_http_batch *batch = conn->req.batch;
	int status = maas_http_wait_status(conn);

	if (status == -ETIMEDOUT)
		return maas_http_fail(
			conn, status,
			"the allocations are gone, but not every key to them could be "
			"confirmed dead; that memory is kept out of use");
	if (status)
		return maas_http_fail(conn, status, NULL);
	maas_buf_str(&conn->out, "{\"freed\":");
	maas_buf_u64(&conn->out, batch->freed);
	maas_buf_str(&conn->out, ",\"unknown\":[");
	maas_buf_add(&conn->out, batch->unknown.data, batch->unknown.len);
	maas_buf_str(&conn->out, "]}\n");
	if (batch->unknown.error)
		conn->out.error = batch->unknown.error;
	/* An answer may be as long as they, and take long to be sent. */
	maas_buf_fini(&batch->unknown);
	maas_buf_fini(&conn->in);
	return maas_http_reply(conn, MHD_HTTP_OK);
}

static int take_some(struct maas_http_conn *conn, struct maas_http_fault *fault)
{
	struct maas_http_batch *batch = conn->req.batch;
	int r;

	r = take_ids(conn, STEP_IDS, fault);
	if (r)
		return r < 0 ? r : 0;
	batch->done = batch->good;
	batch->good = true;
	return batch->done ? 0 : open_ids(conn, fault);
}

/* A server that stops gives no more turns, and what was begun is carried out. */
static bool has_turn(const struct maas_http_conn *conn, uint64_t start_ns)
{
	return !maas_http_turn_over(start_ns) ||
	       (conn->req.batch->good && atomic_load(&conn->http->stopping));
}

/* One turn; behind the last one waits for all frees. */
int maas_http_free_resume(struct maas_http_conn *conn)
{
	struct maas_http_batch *batch = conn->req.batch;
	uint64_t start_ns = maas_clock_ns();
	struct maas_http_fault fault;
	int r;

	if (batch->done)
		return reply_batch(conn);
	do
		r = take_some(conn, &fault);
	while (!r && !batch->done && has_turn(conn, start_ns));
	if (r && !batch->good)
		return maas_http_fail_fault(conn, r, &fault);
	if (!r && !batch->done)
		return maas_http_yield(conn);
	if (r) { /* A body that was good: memory is short. */
		maas_http_wait_begin(conn);
		maas_http_wait_done(conn, -ENOMEM);
	}
	batch->done = true;
	return maas_http_wait(conn);
}

int maas_http_free(struct maas_http_conn *conn)
{
	struct maas_http_fault fault;
	int r;

	conn->req.batch = calloc(1, sizeof(*conn->req.batch));
	if (!conn->req.batch)
		return maas_http_fail(conn, -ENOMEM, NULL);
	r = open_ids(conn, &fault);
	return r ? maas_http_fail_fault(conn, r, &fault) : maas_http_free_resume(conn);
}
