/* SPDX-License-Identifier: Apache-2.0 */
/* What the server itself posts on a connection's queue pair: binds, invalidations, probes. */
#include <errno.h>
#include <string.h>

#include "rdma/internal.h"

#define POLL_BATCH 16

static struct maas_ratelimit failures = MAAS_RATELIMIT(MAAS_LOG_WARN, "rdma: work failed");

/* The device has the works that wait, up to `last`, which are `count`. */
static void note_posted(struct maas_rdma_conn *conn, struct maas_rdma_task *last, uint32_t count)
{
	struct maas_rdma_task *rest = STAILQ_NEXT(last, link);

	*conn->posted.stqh_last = STAILQ_FIRST(&conn->waiting);
	conn->posted.stqh_last = &STAILQ_NEXT(last, link);
	STAILQ_NEXT(last, link) = NULL;
	STAILQ_FIRST(&conn->waiting) = rest;
	if (!rest)
		STAILQ_INIT(&conn->waiting);
	conn->num_posted += count;
	conn->rdma->num_posted += count;
}

/* The device did not take `bad` and what follows: that waits, to be flushed. */
static void note_refused(struct maas_rdma_conn *conn, const struct ibv_send_wr *bad)
{
	struct maas_rdma_task *last = NULL;
	struct maas_rdma_task *task;
	uint32_t count = 0;

	STAILQ_FOREACH (task, &conn->waiting, link) {
		if (&maas_rdma_work_of(task)->wr == bad)
			break;
		last = task;
		count++;
	}
	if (last)
		note_posted(conn, last, count);
	maas_rdma_conn_end(conn, "the device takes no work");
}

void maas_rdma_conn_post_waiting(struct maas_rdma_conn *conn)
{
	uint64_t deadline_ms = maas_clock_ms() + MAAS_RDMA_WORK_MS;
	uint32_t room = conn->sq_depth - conn->num_posted;
	struct maas_rdma_work *work = NULL;
	struct ibv_send_wr *first = NULL;
	struct ibv_send_wr **link = &first;
	struct ibv_send_wr *bad;
	struct maas_rdma_task *task;
	uint32_t count = 0;
	int err;

	for (task = STAILQ_FIRST(&conn->waiting); task && count < room; count++) {
		work = maas_rdma_work_of(task);
		work->deadline_ms = deadline_ms;
		work->wr.wr_id = (uintptr_t)work;
		work->wr.send_flags = 0;
		*link = &work->wr;
		link = &work->wr.next;
		task = STAILQ_NEXT(task, link);
	}
	if (!work)
		return;
	*link = NULL;
	/* One completion speaks for the chain: see finish_work(). */
	work->wr.send_flags = IBV_SEND_SIGNALED;
	bad = first;
	err = ibv_post_send(conn->qp, first, &bad);
	if (!err) {
		note_posted(conn, &work->task, count);
		return;
	}
	log_err("rdma: cannot post work connection=%u: %s", conn->number, strerror(err));
	note_refused(conn, bad);
}

static void take_oldest(struct maas_rdma_conn *conn, enum ibv_wc_status status)
{
	struct maas_rdma_task *task = STAILQ_FIRST(&conn->posted);

	STAILQ_REMOVE_HEAD(&conn->posted, link);
	conn->num_posted--;
	conn->rdma->num_posted--;
	task->run(task, (int)status);
}

/*
 * A queue pair does its work in order, and what fails or is flushed says so even when it is not
 * signalled: what is older than this has succeeded.
 */
static void finish_work(struct maas_rdma_conn *conn, const struct ibv_wc *wc)
{
	const struct maas_rdma_work *work = (const struct maas_rdma_work *)(uintptr_t)wc->wr_id;

	while (conn->num_posted && STAILQ_FIRST(&conn->posted) != &work->task)
		take_oldest(conn, IBV_WC_SUCCESS);
	if (!conn->num_posted)
		return; /* given up before its completion came */
	if (wc->status != IBV_WC_SUCCESS && wc->status < MAAS_RDMA_STATUSES &&
	    conn->state != MAAS_RDMA_CONN_ENDING) {
		maas_rdma_count(&conn->rdma->figures.errors[wc->status]);
		log_limited(&failures, "rdma: work failed connection=%u status=\"%s\" vendor=%u",
			    conn->number, ibv_wc_status_str(wc->status), wc->vendor_err);
	}
	take_oldest(conn, wc->status);
	if (wc->status != IBV_WC_SUCCESS)
		maas_rdma_conn_end(conn, ibv_wc_status_str(wc->status));
}

void maas_rdma_conn_poll(struct maas_rdma_conn *conn)
{
	struct ibv_wc wc[POLL_BATCH];
	int count = conn->num_posted ? 1 : 0;
	bool any = false;

	conn->rdma->turn_ns = 0;
	while (count > 0) {
		count = ibv_poll_cq(conn->cq, POLL_BATCH, wc);
		for (int i = 0; i < count; i++)
			finish_work(conn, &wc[i]);
		any = any || count > 0;
	}
	if (count < 0)
		maas_rdma_conn_end(conn, "its completion queue is broken");
	if (any && (conn->state == MAAS_RDMA_CONN_ENDING || !STAILQ_EMPTY(&conn->waiting)))
		maas_rdma_conn_dirty(conn);
}

static void probed(struct maas_rdma_task *task, int status)
{
	struct maas_rdma_conn *conn = MAAS_CONTAINER_OF(task, struct maas_rdma_conn, probe.task);

	(void)status; /* a failure ends the connection as any other does */
	conn->probing = false;
}

void maas_rdma_conn_probe(struct maas_rdma_conn *conn)
{
	if (conn->state != MAAS_RDMA_CONN_LIVE || conn->probing)
		return;
	conn->probing = true;
	conn->probe = (struct maas_rdma_work){
		.wr.opcode = IBV_WR_RDMA_WRITE, /* of no bytes: it needs no key */
		.task.run = probed,
	};
	maas_rdma_conn_post(conn, &conn->probe);
}
