/* SPDX-License-Identifier: Apache-2.0 */
/* What the server itself posts on a connection's queue pair: binds, invalidations, probes. */
#include <errno.h>
#include <string.h>

#include "rdma/internal.h"

#define PROBE_MS   30000 /* the device's own retries end sooner, and say what it was */
#define POLL_BATCH 16

static struct maas_ratelimit failures = MAAS_RATELIMIT(MAAS_LOG_WARN, "rdma: work failed");

void maas_rdma_conn_post(struct maas_rdma_conn *conn, struct maas_rdma_work *work)
{
	STAILQ_INSERT_TAIL(&conn->waiting, &work->task, link);
	maas_rdma_conn_dirty(conn);
}

static void add_posted(struct maas_rdma_conn *conn, struct maas_rdma_task_list *chain,
		       uint32_t count)
{
	STAILQ_CONCAT(&conn->posted, chain);
	conn->num_posted += count;
	conn->rdma->num_posted += count;
}

/* What the device did not take, from `bad` on, goes back to the front, to be flushed. */
static void take_back(struct maas_rdma_conn *conn, struct maas_rdma_task_list *chain,
		      const struct ibv_send_wr *bad)
{
	struct maas_rdma_task_list taken = STAILQ_HEAD_INITIALIZER(taken);
	struct maas_rdma_task *task;
	uint32_t count = 0;

	while ((task = STAILQ_FIRST(chain)) && &maas_rdma_work_of(task)->wr != bad) {
		STAILQ_REMOVE_HEAD(chain, link);
		STAILQ_INSERT_TAIL(&taken, task, link);
		count++;
	}
	add_posted(conn, &taken, count);
	STAILQ_CONCAT(chain, &conn->waiting);
	STAILQ_CONCAT(&conn->waiting, chain);
}

void maas_rdma_conn_post_waiting(struct maas_rdma_conn *conn)
{
	struct maas_rdma_task_list chain = STAILQ_HEAD_INITIALIZER(chain);
	uint64_t now_ms = maas_clock_ms();
	struct ibv_send_wr *first = NULL;
	struct ibv_send_wr **link = &first;
	struct ibv_send_wr *bad;
	struct maas_rdma_work *work = NULL;
	struct maas_rdma_task *task;
	uint32_t count = 0;
	int err;

	while (conn->num_posted + count < conn->sq_depth && (task = STAILQ_FIRST(&conn->waiting))) {
		STAILQ_REMOVE_HEAD(&conn->waiting, link);
		STAILQ_INSERT_TAIL(&chain, task, link);
		count++;
		work = maas_rdma_work_of(task);
		work->deadline_ms =
			now_ms + (work->timeout_ms ? work->timeout_ms : MAAS_RDMA_WORK_MS);
		work->wr.wr_id = (uintptr_t)work;
		work->wr.send_flags = 0;
		work->wr.next = NULL;
		*link = &work->wr;
		link = &work->wr.next;
	}
	if (!work)
		return;
	/* One completion speaks for the chain: see finish_work(). */
	work->wr.send_flags = IBV_SEND_SIGNALED;
	bad = first;
	err = ibv_post_send(conn->qp, first, &bad);
	if (!err) {
		add_posted(conn, &chain, count);
		return;
	}
	log_err("rdma: cannot post work connection=%u: %s", conn->number, strerror(err));
	take_back(conn, &chain, bad);
	maas_rdma_conn_end(conn, "the device takes no work");
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
		.timeout_ms = PROBE_MS,
		.task.run = probed,
	};
	maas_rdma_conn_post(conn, &conn->probe);
}
