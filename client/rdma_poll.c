/* SPDX-License-Identifier: Apache-2.0 */
/* What completions mean. Everything here has the role of the poller. */
#include <errno.h>
#include <string.h>

#include "client/rdma_internal.h"

#define BATCH 16

/* ---- the end of what was posted */

static void take_bytes(struct maas_verbs_op *op)
{
	for (struct maas_verbs_slot *slot = op->slots; slot; slot = slot->next)
		if (slot->to)
			memcpy(slot->to, slot->at, slot->len);
}

static void post_rest(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	pthread_mutex_lock(&verbs->lock);
	atomic_store(&op->state, MAAS_OP_QUEUED);
	TAILQ_INSERT_HEAD(&verbs->waiting, op, link);
	atomic_fetch_add(&verbs->num_waiting, 1);
	maas_verbs_post_waiting(verbs);
	pthread_mutex_unlock(&verbs->lock);
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

static void retry(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	pthread_mutex_lock(&verbs->lock);
	if (is_refusal(op->failed)) {
		op->refused = true;
		for (uint32_t i = 0; i < op->count; i++)
			maas_verbs_grant_remove(&verbs->grants, &op->ranges[i].id);
	}
	maas_verbs_op_todo(verbs, op);
	pthread_mutex_unlock(&verbs->lock);
}

static void fail(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	const char *words = ibv_wc_status_str(op->failed);
	int r;

	maas_verbs_slots_put(&verbs->device.slots, op->slots);
	op->slots = NULL;
	if (atomic_load(&op->late))
		r = maas_fail(-ETIMEDOUT, "it was not done in time; the connection was ended, so "
					  "that the buffer is free");
	else if (is_own_fault(op->failed))
		r = maas_fail(-EFAULT, "the device cannot use the buffer: %s", words);
	else if (is_refusal(op->failed) && op->refused)
		r = maas_fail(-EKEYREVOKED, "the server refuses the key, a fresh one too: %s",
			      words);
	else if (++op->tries == MAAS_VERBS_TRIES)
		r = maas_fail(-ECONNRESET, "the connection broke %u times: %s", op->tries, words);
	else
		return retry(verbs, op);
	maas_verbs_op_end(verbs, op, r);
}

/* Nothing of the operation is posted any more. */
static void finish(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	if (op->failed != IBV_WC_SUCCESS) {
		fail(verbs, op);
		return;
	}
	if (op->read)
		take_bytes(op);
	maas_verbs_slots_put(&verbs->device.slots, op->slots);
	op->slots = NULL;
	if (op->at < op->count)
		post_rest(verbs, op);
	else
		maas_verbs_op_end(verbs, op, 0);
}

static void note_failure(struct maas_verbs *verbs, struct maas_verbs_op *op,
			 const struct ibv_wc *wc)
{
	/* A flushed request only follows what failed before it. */
	if (op->failed == IBV_WC_SUCCESS || op->failed == IBV_WC_WR_FLUSH_ERR)
		op->failed = wc->status;
	if (wc->status != IBV_WC_WR_FLUSH_ERR)
		log_debug("rdma: a request failed: %s, vendor error %u",
			  ibv_wc_status_str(wc->status), wc->vendor_err);
	if (maas_verbs_up(verbs)) {
		pthread_mutex_lock(&verbs->lock);
		maas_verbs_break(verbs);
		pthread_mutex_unlock(&verbs->lock);
	}
}

static void complete(struct maas_verbs *verbs, const struct ibv_wc *wc)
{
	struct maas_verbs_op *op = &verbs->ops[(uint32_t)wc->wr_id];

	if (atomic_load(&op->state) != MAAS_OP_POSTED)
		return; /* it was taken as flushed */
	if (wc->status != IBV_WC_SUCCESS)
		note_failure(verbs, op, wc);
	if (!(wc->wr_id & MAAS_WR_LAST))
		return;
	atomic_fetch_add(&verbs->sq_free, (uint32_t)(wc->wr_id >> 32) & INT32_MAX);
	atomic_fetch_sub(&verbs->posted, 1);
	finish(verbs, op);
}

unsigned int maas_verbs_drain(struct maas_verbs *verbs)
{
	struct ibv_wc wcs[BATCH];
	unsigned int total = 0;
	int n;

	do {
		n = ibv_poll_cq(verbs->device.cq, BATCH, wcs);
		for (int i = 0; i < n; i++)
			complete(verbs, &wcs[i]);
		total += n > 0 ? (unsigned int)n : 0;
	} while (n == BATCH);
	if (total && atomic_load(&verbs->num_waiting)) {
		pthread_mutex_lock(&verbs->lock);
		maas_verbs_post_waiting(verbs);
		pthread_mutex_unlock(&verbs->lock);
	}
	if (total)
		maas_verbs_wake(verbs);
	return total;
}

void maas_verbs_flush(struct maas_verbs *verbs)
{
	uint32_t used = atomic_load(&verbs->ops_used);

	maas_verbs_drain(verbs);
	for (uint32_t i = 0; i < used; i++) {
		struct maas_verbs_op *op = &verbs->ops[i];

		if (atomic_load(&op->state) != MAAS_OP_POSTED)
			continue;
		if (op->failed == IBV_WC_SUCCESS)
			op->failed = IBV_WC_WR_FLUSH_ERR;
		fail(verbs, op);
	}
	atomic_store(&verbs->posted, 0);
	maas_verbs_wake(verbs);
}
