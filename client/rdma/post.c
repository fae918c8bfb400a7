/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The send queue of the connection: from ranges to work requests, and from completions back. A
 * thread that posts holds `lock`; a thread that polls has the role (wait.c). An operation is posted
 * as one chain of requests, of which the last is signalled; what does not fit waits, in order.
 */
#include <errno.h>
#include <string.h>

#include "client/rdma/internal.h"

/* The bits of a wr_id above the index of its operation. */
#define MAAS_WR_LAST	     (1ull << 63) /* nothing of the operation is posted behind it */
#define MAAS_WR_FREES(count) ((uint64_t)(count) << 32)

/* ---- work requests */

/* Where the bytes are on this side. False: no slot is free. */
static bool find_local(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		       struct maas_rdma_client_range *range)
{
	uint32_t len = range->sge.length;
	const struct ibv_mr *mr = range->mr;
	struct maas_rdma_client_slot *slot;

	range->sge.addr = (uintptr_t)range->buf;
	range->wr.send_flags = 0;
	if (!op->read && len <= rdma->conn.max_inline) {
		range->wr.send_flags = IBV_SEND_INLINE;
		return true;
	}
	if (!mr)
		mr = maas_rdma_client_region_find(&rdma->regions, range->buf, len);
	if (mr) {
		range->sge.lkey = mr->lkey;
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
	range->sge.addr = (uintptr_t)slot->at;
	range->sge.lkey = rdma->device.slots.mr->lkey;
	return true;
}

/*
 * Makes a chain of work requests as far as there is room; looks at all that is left of the
 * operation before any of it is posted. Errors: -ENOKEY, -ERANGE.
 */
static int build(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op, uint32_t *ret_count)
{
	uint32_t room = rdma->device.depth - (uint32_t)atomic_load(&rdma->posted);
	uint32_t count = 0;

	for (struct maas_rdma_client_range *range = op->next; range < op->end; range++) {
		const struct maas_rdma_client_grant *grant =
			maas_rdma_client_grant_find(&rdma->grants, &range->id);

		if (!grant)
			return -ENOKEY;
		if (range->offset > grant->len || range->sge.length > grant->len - range->offset)
			return maas_fail(-ERANGE,
					 "the range lies outside of the allocation: it has %llu "
					 "bytes",
					 (unsigned long long)grant->len);
		if (count == room || !find_local(rdma, op, range)) {
			room = count;
			continue;
		}
		range->wr.wr_id = op->index;
		range->wr.next = &range[1].wr;
		range->wr.opcode = op->read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		range->wr.wr.rdma.remote_addr = grant->addr + range->offset;
		range->wr.wr.rdma.rkey = grant->rkey;
		count++;
	}
	*ret_count = count;
	return 0;
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
static void ring(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op, uint32_t count)
{
	struct ibv_send_wr *first = &op->next->wr;
	struct ibv_send_wr *last;
	struct ibv_send_wr *bad = NULL;
	int error;

	op->next += count;
	last = &op->next[-1].wr;
	last->next = NULL;
	last->send_flags |= IBV_SEND_SIGNALED;
	last->wr_id |= MAAS_WR_LAST | MAAS_WR_FREES(count);
	atomic_store(&op->state, MAAS_OP_POSTED);
	/* Pairs with `watched` and `armed` (wait.c). */
	atomic_fetch_add(&rdma->posted, MAAS_POSTED(1, count));
	if (op->submitted && atomic_load(&rdma->maas->queue.watched) &&
	    !atomic_exchange(&rdma->armed, true))
		ibv_req_notify_cq(rdma->device.cq, 0);
	error = ibv_post_send(rdma->conn.id->qp, first, &bad);
	if (!error)
		return;
	/* Some or all of the requests may be on their way; they return with the queue pair. */
	log_err("rdma: cannot post: %s", strerror(error));
	maas_rdma_client_break(rdma);
}

/*
 * An operation that does not fit goes in several parts, but only when nothing else is under way:
 * otherwise it waits whole. Errors: -EBUSY it has to wait, -ENOKEY, -ERANGE.
 */
static int try_post(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	uint32_t count;
	int r = build(rdma, op, &count);

	if (!r && (!count || (op->next + count < op->end && atomic_load(&rdma->posted))))
		r = -EBUSY;
	if (!r)
		ring(rdma, op, count);
	else if (op->slots)
		maas_rdma_client_slots_put(&rdma->device.slots, &op->slots);
	return r;
}

static void fail_early(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op, int error)
{
	maas_rdma_client_op_end(rdma, op, error);
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
		r = try_post(rdma, op);
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

/* What could not be posted. */
MAAS_COLD static int put_aside(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
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

int maas_rdma_client_post(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	int r = -ENOKEY;

	if (maas_rdma_client_up(rdma))
		r = atomic_load(&rdma->num_waiting) ? -EBUSY : try_post(rdma, op);
	return r ? put_aside(rdma, op, r) : 0;
}

/* ---- completions. With the role. */

#define BATCH 16

/* What one look at the completion queue brought. */
struct batch {
	struct maas_op *oldest; /* of a chain of submitted operations that are done, or NULL */
	struct maas_op *latest;
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

/* Nothing of the operation is posted any more. */
static void finish(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		   struct batch *batch)
{
	if (op->failed != IBV_WC_SUCCESS) {
		fail(rdma, op);
		return;
	}
	if (op->read)
		take_bytes(op);
	if (op->next < op->end) {
		wait_with_rest(rdma, op);
		return;
	}
	if (op->slots || op->large)
		maas_rdma_client_op_release(rdma, op);
	op->base.status = 0;
	if (!op->submitted) {
		atomic_store(&op->state, MAAS_OP_DONE); /* news (wait.c) */
		return;
	}
	atomic_store_explicit(&op->state, MAAS_OP_DONE, memory_order_relaxed);
	if (batch->oldest)
		batch->latest->next = &op->base;
	else
		batch->oldest = &op->base;
	batch->latest = &op->base;
}

MAAS_COLD static void note_failure(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				   const struct ibv_wc *wc)
{
	/* A request is flushed because of an earlier failure: that one is the cause. */
	if (op->failed == IBV_WC_SUCCESS || op->failed == IBV_WC_WR_FLUSH_ERR)
		op->failed = wc->status;
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
	struct maas_rdma_client_op *op = &rdma->ops[(uint32_t)wc->wr_id];

	if (atomic_load(&op->state) != MAAS_OP_POSTED)
		return; /* maas_rdma_client_flush() has ended it */
	if (wc->status != IBV_WC_SUCCESS)
		note_failure(rdma, op, wc);
	if (!(wc->wr_id & MAAS_WR_LAST))
		return;
	batch->posted += MAAS_POSTED(1, wc->wr_id >> 32 & INT32_MAX);
	finish(rdma, op, batch);
}

unsigned int maas_rdma_client_drain(struct maas_rdma_client *rdma)
{
	struct ibv_wc wcs[BATCH];
	unsigned int total = 0;
	int n;

	do {
		struct batch batch = {0};

		n = ibv_poll_cq(rdma->device.cq, BATCH, wcs);
		if (n <= 0)
			break;
		for (int i = 0; i < n; i++)
			complete(rdma, &wcs[i], &batch);
		if (batch.oldest)
			maas_queue_done(&rdma->maas->queue, batch.oldest, batch.latest);
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
