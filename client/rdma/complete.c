/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions, by the thread that has the role of the poller (wait.c): operations that are done are
 * handed over, those that failed end or are tried again.
 */
#include <string.h>

#include "client/rdma/internal.h"

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
	return status == IBV_WC_LOC_PROT_ERR || status == IBV_WC_LOC_LEN_ERR;
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
	struct maas_rdma_client_op *op = (void *)(uintptr_t)(wc->wr_id & ~(uint64_t)MAAS_WR_LAST);

	if (atomic_load(&op->state) != MAAS_OP_POSTED)
		return; /* maas_rdma_client_flush() has ended it */
	if (wc->status != IBV_WC_SUCCESS)
		note_failure(rdma, op, wc);
	if (!(wc->wr_id & MAAS_WR_LAST))
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
