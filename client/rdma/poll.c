/* SPDX-License-Identifier: Apache-2.0 */
/* What completions mean. Everything here has the role of the poller. */
#include <errno.h>
#include <string.h>

#include "client/rdma/internal.h"

#define BATCH 16

/* ---- the end of what was posted */

static void take_bytes(struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_slot *slot = op->slots; slot; slot = slot->next)
		if (slot->to)
			memcpy(slot->to, slot->at, slot->len);
}

static void post_rest(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	pthread_mutex_lock(&rdma->lock);
	atomic_store(&op->state, MAAS_OP_QUEUED);
	TAILQ_INSERT_HEAD(&rdma->waiting, op, link);
	atomic_fetch_add(&rdma->num_waiting, 1);
	maas_rdma_client_post_waiting(rdma);
	pthread_mutex_unlock(&rdma->lock);
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
	pthread_mutex_lock(&rdma->lock);
	if (is_refusal(op->failed)) {
		op->refused = true;
		for (uint32_t i = 0; i < op->count; i++)
			maas_rdma_client_grant_remove(&rdma->grants, &op->ranges[i].id);
	}
	maas_rdma_client_op_todo(rdma, op);
	pthread_mutex_unlock(&rdma->lock);
}

static void fail(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	const char *words = ibv_wc_status_str(op->failed);
	int r;

	maas_rdma_client_slots_put(&rdma->device.slots, op->slots);
	op->slots = NULL;
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
static void finish(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	if (op->failed != IBV_WC_SUCCESS) {
		fail(rdma, op);
		return;
	}
	if (op->read)
		take_bytes(op);
	maas_rdma_client_slots_put(&rdma->device.slots, op->slots);
	op->slots = NULL;
	if (op->at < op->count)
		post_rest(rdma, op);
	else
		maas_rdma_client_op_end(rdma, op, 0);
}

static void note_failure(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			 const struct ibv_wc *wc)
{
	/* A flushed request only follows what failed before it. */
	if (op->failed == IBV_WC_SUCCESS || op->failed == IBV_WC_WR_FLUSH_ERR)
		op->failed = wc->status;
	if (wc->status != IBV_WC_WR_FLUSH_ERR)
		log_debug("rdma: a request failed: %s, vendor error %u",
			  ibv_wc_status_str(wc->status), wc->vendor_err);
	if (maas_rdma_client_up(rdma)) {
		pthread_mutex_lock(&rdma->lock);
		maas_rdma_client_break(rdma);
		pthread_mutex_unlock(&rdma->lock);
	}
}

static void complete(struct maas_rdma_client *rdma, const struct ibv_wc *wc)
{
	struct maas_rdma_client_op *op = &rdma->ops[(uint32_t)wc->wr_id];

	if (atomic_load(&op->state) != MAAS_OP_POSTED)
		return; /* it was taken as flushed */
	if (wc->status != IBV_WC_SUCCESS)
		note_failure(rdma, op, wc);
	if (!(wc->wr_id & MAAS_WR_LAST))
		return;
	atomic_fetch_add(&rdma->sq_free, (uint32_t)(wc->wr_id >> 32) & INT32_MAX);
	atomic_fetch_sub(&rdma->posted, 1);
	finish(rdma, op);
}

unsigned int maas_rdma_client_drain(struct maas_rdma_client *rdma)
{
	struct ibv_wc wcs[BATCH];
	unsigned int total = 0;
	int n;

	do {
		n = ibv_poll_cq(rdma->device.cq, BATCH, wcs);
		for (int i = 0; i < n; i++)
			complete(rdma, &wcs[i]);
		total += n > 0 ? (unsigned int)n : 0;
	} while (n == BATCH);
	if (total && atomic_load(&rdma->num_waiting)) {
		pthread_mutex_lock(&rdma->lock);
		maas_rdma_client_post_waiting(rdma);
		pthread_mutex_unlock(&rdma->lock);
	}
	if (total)
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
