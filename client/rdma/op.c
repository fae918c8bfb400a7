/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/rdma/internal.h"

#define KEEP_RANGES 256 /* memory for more is not kept for the next operation */

/* Memory that was never used stays untouched: most handles need few of their operations. */
struct maas_rdma_client_op *maas_rdma_client_op_get(struct maas_rdma_client *rdma)
{
	uint32_t used = atomic_load(&rdma->ops_used);
	struct maas_op *idle;
	struct maas_rdma_client_op *op;

	if (!rdma->idle)
		rdma->idle = atomic_exchange(&rdma->returned, NULL);
	idle = rdma->idle;
	if (idle) {
		rdma->idle = idle->next;
		return (struct maas_rdma_client_op *)idle;
	}
	if (used == rdma->num_ops)
		return NULL;
	op = &rdma->ops[used];
	op->ranges = op->few;
	op->room = MAAS_RDMA_RANGES;
	atomic_store(&rdma->ops_used, used + 1);
	return op;
}

void maas_rdma_client_op_put(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	if (op->room > KEEP_RANGES) {
		free(op->ranges);
		op->ranges = op->few;
		op->room = MAAS_RDMA_RANGES;
	}
	atomic_store(&op->state, MAAS_OP_FREE);
	maas_op_push(&rdma->returned, &op->base);
}

static int make_room(struct maas_rdma_client_op *op, uint32_t count)
{
	struct maas_rdma_client_range *ranges;

	if (count <= op->room)
		return 0;
	ranges = calloc(count, sizeof(*ranges));
	if (!ranges)
		return maas_fail(-ENOMEM, "out of memory");
	if (op->ranges != op->few)
		free(op->ranges);
	op->ranges = ranges;
	op->room = count;
	return 0;
}

int maas_rdma_client_op_fill(struct maas_rdma_client_op *op, const struct maas_range *ranges,
			     uint32_t count)
{
	int r = make_room(op, count);

	if (r)
		return r;
	for (uint32_t i = 0; i < count; i++) {
		struct maas_rdma_client_range *range = &op->ranges[i];

		if (!maas_rdma_client_id_set(&range->id, ranges[i].id))
			return maas_check_id("");
		if (!ranges[i].len || !ranges[i].buf)
			return maas_fail(-EINVAL, "range %u has no bytes", i);
		range->offset = ranges[i].offset;
		range->buf = ranges[i].buf;
		range->len = ranges[i].len;
		range->buffer = NULL;
		range->mr = NULL;
	}
	op->count = count;
	op->at = 0;
	op->at_offset = 0;
	op->local = false;
	op->refused = false;
	op->tries = 0;
	op->failed = IBV_WC_SUCCESS;
	op->slots = NULL;
	atomic_store(&op->late, false);
	return 0;
}

void maas_rdma_client_op_release(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	maas_rdma_client_slots_put(&rdma->device.slots, op->slots);
	op->slots = NULL;
	if (!op->local)
		return;
	for (uint32_t i = 0; i < op->count; i++) {
		struct maas_rdma_client_range *range = &op->ranges[i];

		if (range->buffer)
			atomic_fetch_sub(&range->buffer->users, 1);
		else
			maas_rdma_client_deregister(range->mr);
	}
	op->local = false;
}

void maas_rdma_client_op_end(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     int status)
{
	bool submitted = op->submitted;

	maas_rdma_client_op_release(rdma, op);
	maas_op_set_status(&op->base, status);
	atomic_store(&op->state, MAAS_OP_DONE);
	if (submitted)
		maas_queue_done(&rdma->maas->queue, &op->base);
}

void maas_rdma_client_op_todo(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	atomic_store(&op->state, MAAS_OP_QUEUED);
	op->at = 0;
	op->at_offset = 0;
	op->failed = IBV_WC_SUCCESS;
	TAILQ_INSERT_TAIL(&rdma->todo, op, link);
	atomic_fetch_add(&rdma->num_todo, 1);
	maas_rdma_client_thread_wake(rdma);
}
