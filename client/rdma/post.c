/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The send queue of the connection: from ranges to work requests, and from completions back. A
 * thread that posts holds `lock`; a thread that polls has the role (wait.c). An operation is posted
 * as one chain of requests, of which the last is signalled; what does not fit waits, in order.
 */
#include <errno.h>
#include <string.h>

#include "client/rdma/internal.h"

/* A wr_id is the address of its operation, and this for the last of a chain. */
#define WR_LAST 1u

/* ---- work requests */

/* Where the bytes are on this side. False: no slot is free. */
static bool find_local(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		       const struct maas_rdma_client_range *range,
		       struct maas_rdma_client_request *request)
{
	uint32_t len = range->len;
	const struct ibv_mr *mr = range->mr;
	struct maas_rdma_client_slot *slot;

	request->sge.addr = (uintptr_t)range->buf;
	request->sge.length = len;
	request->wr.send_flags = 0;
	if (!op->read && len <= rdma->conn.max_inline) {
		request->wr.send_flags = IBV_SEND_INLINE;
		return true;
	}
	if (!mr)
		mr = maas_rdma_client_region_find(&rdma->regions, range->buf, len);
	if (mr) {
		request->sge.lkey = mr->lkey;
		return true;
	}
	slot = maas_rdma_client_slot_get(&rdma->device.slots, len);
	if (!slot)
		return false;
	slot->to = op->read ? range->buf : NULL;
	if (!op->read)
		memcpy(slot->at, range->buf, len);
	slot->next = op->slots;
	op->slots = slot;
	op->more = true;
	request->sge.addr = (uintptr_t)slot->at;
	request->sge.lkey = rdma->device.slots.mr->lkey;
	return true;
}

void maas_rdma_client_break(struct maas_rdma_client *rdma)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	int error;

	if (!maas_rdma_client_up(rdma))
		return;
	atomic_store(&rdma->link, MAAS_LINK_BROKEN);
	error = ibv_modify_qp(rdma->conn.id->qp, &attr, IBV_QP_STATE);
	if (error)
		log_err("rdma: cannot end a queue pair's work: %s", strerror(error));
	maas_rdma_client_thread_wake(rdma);
}

/* The operation is the poller's before its completion can come. */
static void ring(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		 struct ibv_send_wr *last, uint32_t count)
{
	uint64_t posted = MAAS_POSTED(1, count);
	struct ibv_send_wr *bad;
	int error;

	last->next = NULL;
	last->send_flags |= IBV_SEND_SIGNALED;
	last->wr_id |= WR_LAST;
	op->posted = posted;
	atomic_store_explicit(&op->state, MAAS_OP_POSTED, memory_order_release);
	/* Pairs with `watched` and `armed` (wait.c). */
	atomic_fetch_add(&rdma->posted, posted);
	if (atomic_load(&rdma->maas->queue.watched) && op->submitted &&
	    !atomic_exchange(&rdma->armed, true))
		ibv_req_notify_cq(rdma->device.cq, 0);
	error = ibv_post_send(rdma->conn.id->qp, &rdma->device.requests->wr, &bad);
	if (!error)
		return;
	/* Some or all of the requests may be on their way; they return with the queue pair. */
	log_err("rdma: cannot post: %s", strerror(error));
	maas_rdma_client_break(rdma);
}

MAAS_COLD static int fail_range(uint64_t len)
{
	return maas_fail(-ERANGE, "the range lies outside of the allocation: it has %llu bytes",
			 (unsigned long long)len);
}

/*
 * Makes a chain of work requests as far as there is room; looks at all that is left of the
 * operation before any of it is posted. An operation that does not fit goes in several parts, but
 * only when nothing else is under way: otherwise it waits whole.
 */
int maas_rdma_client_post_now(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	uint32_t room = rdma->device.depth - (uint32_t)atomic_load(&rdma->posted);
	struct maas_rdma_client_request *request = rdma->device.requests;
	struct maas_rdma_client_range *range;
	struct maas_rdma_client_range *rest = NULL;
	uint32_t count = 0;
	int r;

	for (range = op->next; range < op->end; range++) {
		const struct maas_rdma_client_grant *grant = range->grant;

		r = -ENOKEY;
		if (!grant)
			goto err_slots;
		if (range->len > grant->len || range->offset > grant->len - range->len) {
			r = fail_range(grant->len);
			goto err_slots;
		}
		if (rest)
			continue;
		if (count == room || !find_local(rdma, op, range, request)) {
			rest = range;
			continue;
		}
		request->wr.wr_id = (uintptr_t)op;
		request->wr.next = &request[1].wr;
		request->wr.opcode = op->read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		request->wr.wr.rdma.remote_addr = grant->addr + range->offset;
		request->wr.wr.rdma.rkey = grant->rkey;
		request++;
		count++;
	}
	if (rest) {
		r = -EBUSY;
		if (!count || atomic_load(&rdma->posted))
			goto err_slots;
		op->more = true;
		range = rest;
	}
	op->next = range;
	ring(rdma, op, &request[-1].wr, count);
	return 0;

err_slots:
	maas_rdma_client_slots_put(&rdma->device.slots, &op->slots);
	return r;
}

static void fail_early(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op, int error)
{
	maas_rdma_client_op_end(rdma, op, error);
	maas_error_clear(); /* the operation has the sentence */
	maas_rdma_client_wake(rdma);
}

static void wait_for_room(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	atomic_store(&op->state, MAAS_OP_QUEUED);
	TAILQ_INSERT_TAIL(&rdma->waiting, op, link);
	/*
	 * The pair num_waiting, posted. This thread stores `num_waiting`, then looks at `posted`.
	 * The poller takes a completed operation and its room off `posted`, then looks at
	 * `num_waiting` (maas_rdma_client_drain()). So either the poller sees this operation and
	 * posts it, or this thread sees that nothing is posted, and posts the operation itself.
	 */
	atomic_fetch_add(&rdma->num_waiting, 1);
	if (!atomic_load(&rdma->posted))
		maas_rdma_client_post_waiting(rdma);
}

void maas_rdma_client_post_waiting(struct maas_rdma_client *rdma)
{
	struct maas_rdma_client_op *op;

	while (maas_rdma_client_up(rdma) && (op = TAILQ_FIRST(&rdma->waiting))) {
		int r;

		/* Off the list first: once posted, the operation is the poller's. */
		TAILQ_REMOVE(&rdma->waiting, op, link);
		maas_rdma_client_op_find_keys(rdma, op);
		r = maas_rdma_client_post_now(rdma, op);
		if (r == -EBUSY) {
			TAILQ_INSERT_HEAD(&rdma->waiting, op, link);
			return;
		}
		atomic_fetch_sub(&rdma->num_waiting, 1);
		if (r == -ENOKEY)
			maas_rdma_client_op_todo(rdma, op);
		else if (r)
			fail_early(rdma, op, r);
	}
}

/* Leaves the operation to the transport's thread, where ids become parts of paths. */
static int put_off(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_range *range = op->ranges; range < op->end; range++) {
		int r = maas_check_id(range->id.text);

		if (r)
			return r;
	}
	maas_rdma_client_op_todo(rdma, op);
	return 0;
}

int maas_rdma_client_put_aside(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			       int error)
{
	if (error == -ENOKEY)
		return put_off(rdma, op);
	if (error == -EBUSY)
		wait_for_room(rdma, op);
	else
		fail_early(rdma, op, error);
	return 0;
}

/* ---- completions. With the role. */

#define BATCH 16

/* What one look at the completion queue brought. */
struct batch {
	struct maas_op *oldest; /* of a chain of submitted operations that are done */
	struct maas_op **end;
	uint64_t posted; /* MAAS_POSTED, no more */
};

static void take_bytes(struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_slot *slot = op->slots; slot; slot = slot->next)
		if (slot->to)
			memcpy(slot->to, slot->at, slot->len);
}

/* What is left of the operation is posted behind the batch. */
static void wait_with_rest(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	maas_rdma_client_slots_put(&rdma->device.slots, &op->slots);
	maas_lock_take(&rdma->lock);
	atomic_store(&op->state, MAAS_OP_QUEUED);
	TAILQ_INSERT_HEAD(&rdma->waiting, op, link);
	atomic_fetch_add(&rdma->num_waiting, 1);
	maas_lock_release(&rdma->lock);
}

static bool is_refusal(enum ibv_wc_status status)
{
	return status == IBV_WC_REM_ACCESS_ERR || status == IBV_WC_REM_INV_REQ_ERR ||
	       status == IBV_WC_REM_OP_ERR;
}

static bool is_own_fault(enum ibv_wc_status status)
{
	return status == IBV_WC_LOC_PROT_ERR || status == IBV_WC_LOC_LEN_ERR ||
	       status == IBV_WC_LOC_QP_OP_ERR;
}

static void retry(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	maas_lock_take(&rdma->lock);
	if (is_refusal(op->failed)) {
		op->refused = true;
		for (struct maas_rdma_client_range *range = op->ranges; range < op->end; range++)
			maas_rdma_client_grant_remove(&rdma->grants, &range->id);
	}
	maas_rdma_client_op_todo(rdma, op);
	maas_lock_release(&rdma->lock);
}

MAAS_COLD static void fail(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	const char *words = ibv_wc_status_str(op->failed);
	int r;

	maas_rdma_client_slots_put(&rdma->device.slots, &op->slots);
	if (atomic_load(&op->late))
		r = maas_fail(-ETIMEDOUT, "it was not done in time; the connection was ended, so "
					  "that the buffer is free");
	else if (is_own_fault(op->failed))
		r = maas_fail(-EFAULT, "the device cannot use the buffer: %s", words);
	else if (is_refusal(op->failed) && op->refused)
		r = maas_fail(-EKEYREVOKED, "the server refuses the key, a fresh one too: %s",
			      words);
	else if (++op->tries == MAAS_RDMA_TRIES)
		r = maas_fail(-ECONNRESET, "the connection broke %u times: %s", op->tries, words);
	else
		return retry(rdma, op);
	maas_rdma_client_op_end(rdma, op, r);
}

/* What is more than to tell that the operation is done. False: it is not. */
static bool finish_more(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	if (op->failed != IBV_WC_SUCCESS) {
		fail(rdma, op);
		return false;
	}
	if (op->read)
		take_bytes(op);
	if (op->next < op->end) {
		wait_with_rest(rdma, op);
		return false;
	}
	maas_rdma_client_op_release(rdma, op);
	return true;
}

/* Nothing of the operation is posted any more. */
static void finish(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		   struct batch *batch)
{
	if (op->more && !finish_more(rdma, op))
		return;
	op->base.status = 0;
	if (!op->submitted) {
		atomic_store(&op->state, MAAS_OP_DONE); /* news (wait.c) */
		return;
	}
	atomic_store_explicit(&op->state, MAAS_OP_DONE, memory_order_relaxed);
	*batch->end = &op->base;
	batch->end = &op->base.next;
}

MAAS_COLD static void note_failure(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				   const struct ibv_wc *wc)
{
	/* A request is flushed because of an earlier failure: that one is the cause. */
	if (op->failed == IBV_WC_SUCCESS || op->failed == IBV_WC_WR_FLUSH_ERR)
		op->failed = wc->status;
	op->more = true;
	if (wc->status != IBV_WC_WR_FLUSH_ERR)
		log_debug("rdma: a request failed: %s, vendor error %u",
			  ibv_wc_status_str(wc->status), wc->vendor_err);
	if (maas_rdma_client_up(rdma)) {
		maas_lock_take(&rdma->lock);
		maas_rdma_client_break(rdma);
		maas_lock_release(&rdma->lock);
	}
}

static void complete(struct maas_rdma_client *rdma, const struct ibv_wc *wc, struct batch *batch)
{
	struct maas_rdma_client_op *op = (void *)(uintptr_t)(wc->wr_id & ~(uint64_t)WR_LAST);

	if (atomic_load(&op->state) != MAAS_OP_POSTED)
		return; /* maas_rdma_client_flush() has ended it */
	if (wc->status != IBV_WC_SUCCESS)
		note_failure(rdma, op, wc);
	if (!(wc->wr_id & WR_LAST))
		return;
	batch->posted += op->posted;
	finish(rdma, op, batch);
}

unsigned int maas_rdma_client_drain(struct maas_rdma_client *rdma)
{
	struct ibv_wc wcs[BATCH];
	unsigned int total = 0;
	int n;

	do {
		struct batch batch = {.end = &batch.oldest};

		n = ibv_poll_cq(rdma->device.cq, BATCH, wcs);
		if (n <= 0)
			break;
		for (int i = 0; i < n; i++)
			complete(rdma, &wcs[i], &batch);
		if (batch.oldest)
			maas_queue_done(&rdma->maas->queue, batch.oldest, batch.end);
		atomic_fetch_sub(&rdma->posted, batch.posted);
		total += (unsigned int)n;
	} while (n == BATCH);
	if (!total)
		return 0;
	if (atomic_load(&rdma->num_waiting)) { /* pairs with `posted` */
		maas_lock_take(&rdma->lock);
		maas_rdma_client_post_waiting(rdma);
		maas_lock_release(&rdma->lock);
	}
	maas_rdma_client_wake(rdma);
	return total;
}

void maas_rdma_client_flush(struct maas_rdma_client *rdma)
{
	uint32_t used = atomic_load(&rdma->ops_used);

	maas_rdma_client_drain(rdma);
	for (uint32_t i = 0; i < used; i++) {
		struct maas_rdma_client_op *op = &rdma->ops[i];

		if (atomic_load(&op->state) != MAAS_OP_POSTED)
			continue;
		if (op->failed == IBV_WC_SUCCESS)
			op->failed = IBV_WC_WR_FLUSH_ERR;
		fail(rdma, op);
	}
	atomic_store(&rdma->posted, 0);
	maas_rdma_client_wake(rdma);
}
