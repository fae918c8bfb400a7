/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: their memory, and how each ends. Calls that wait and submitted ones are the same, but
 * for who takes the outcome.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/rdma/internal.h"

#define KEEP_RANGES 256 /* memory for more is not kept for the next operation */

static void use_ranges(struct maas_rdma_client_op *op, struct maas_rdma_client_range *ranges,
		       uint32_t room)
{
	op->ranges = ranges;
	op->limit = ranges + room;
}

struct maas_op *maas_rdma_client_op_idle(struct maas_rdma_client *rdma)
{
	uint32_t used = atomic_load(&rdma->ops_used);
	struct maas_op *idle = atomic_exchange(&rdma->returned, NULL);
	struct maas_rdma_client_op *op = &rdma->ops[used];

	if (idle)
		return idle;
	assert(used < rdma->num_ops);
	/* Memory that was never used stays untouched: most handles need few of their operations. */
	use_ranges(op, op->few, MAAS_RDMA_RANGES);
	atomic_store(&rdma->ops_used, used + 1);
	return &op->base;
}

/* Lets go of memory that is not kept. */
MAAS_COLD static void trim(struct maas_rdma_client *rdma, struct maas_op *first,
			   const struct maas_op *last)
{
	maas_lock_take(&rdma->lock); /* who has the lock may look at the ranges (memory.c) */
	for (struct maas_op *each = first;; each = each->next) {
		struct maas_rdma_client_op *op =
			MAAS_CONTAINER_OF(each, struct maas_rdma_client_op, base);

		if (op->limit - op->ranges > KEEP_RANGES) {
			free(op->ranges);
			use_ranges(op, op->few, MAAS_RDMA_RANGES);
			atomic_fetch_sub(&rdma->num_wide, 1);
		}
		if (each == last)
			break;
	}
	maas_lock_release(&rdma->lock);
}

void maas_rdma_client_op_put(struct maas_rdma_client *rdma, struct maas_op *first,
			     struct maas_op *last)
{
	if (atomic_load(&rdma->num_wide))
		trim(rdma, first, last);
	maas_op_push(&rdma->returned, first, last);
}

void maas_rdma_client_release(struct maas *maas, struct maas_op *first, struct maas_op *last)
{
	maas_rdma_client_op_put(maas->rdma, first, last);
}

int maas_rdma_client_op_room(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     size_t count)
{
	size_t used = (size_t)(op->end - op->ranges);
	bool wide = op->limit - op->ranges > KEEP_RANGES;
	struct maas_rdma_client_range *ranges;

	if (count <= (size_t)(op->limit - op->end))
		return 0;
	ranges = calloc(used + count, sizeof(*ranges));
	if (!ranges)
		return maas_fail(-ENOMEM, "out of memory");
	memcpy(ranges, op->ranges, used * sizeof(*ranges));
	if (op->ranges != op->few)
		free(op->ranges);
	use_ranges(op, ranges, (uint32_t)(used + count));
	op->next = ranges;
	op->end = ranges + used;
	if (!wide && used + count > KEEP_RANGES)
		atomic_fetch_add(&rdma->num_wide, 1);
	return 0;
}

void maas_rdma_client_op_release(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	if (op->slots)
		maas_rdma_client_slots_put(&rdma->device.slots, &op->slots);
	if (!op->large)
		return;
	for (struct maas_rdma_client_range *range = op->ranges; range < op->end; range++)
		maas_rdma_client_deregister(range->mr);
	op->large = false;
}

void maas_rdma_client_op_end(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     int status)
{
	bool submitted = op->submitted;

	maas_rdma_client_op_release(rdma, op);
	maas_op_set_status(&op->base, status);
	/* News (wait.c): the caller wakes the waiting threads afterwards, once for all operations
	 * that it ends. A thread that sees the state sees all stores above. */
	atomic_store(&op->state, MAAS_OP_DONE);
	if (submitted)
		maas_queue_done(&rdma->maas->queue, &op->base, &op->base.next);
}

void maas_rdma_client_op_todo(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	atomic_store(&op->state, MAAS_OP_QUEUED);
	op->next = op->ranges;
	op->failed = IBV_WC_SUCCESS;
	TAILQ_INSERT_TAIL(&rdma->todo, op, link);
	atomic_fetch_add(&rdma->num_todo, 1);
	maas_rdma_client_thread_wake(rdma);
}

/* Holds the lock. Returns how many ended. */
static unsigned int expire_in(struct maas_rdma_client *rdma, struct maas_rdma_client_ops *ops,
			      _Atomic uint32_t *count, uint64_t now_ms)
{
	struct maas_rdma_client_op *op;
	struct maas_rdma_client_op *after;
	unsigned int ended = 0;

	for (op = TAILQ_FIRST(ops); op; op = after) {
		after = TAILQ_NEXT(op, link);
		if (atomic_load(&op->deadline_ms) > now_ms)
			continue;
		TAILQ_REMOVE(ops, op, link);
		atomic_fetch_sub(count, 1);
		maas_error_set("its time was over%s%s", *rdma->connect_words ? ": " : "",
			       rdma->connect_words);
		maas_rdma_client_op_end(rdma, op, -ETIMEDOUT);
		ended++;
	}
	return ended;
}

void maas_rdma_client_expire(struct maas_rdma_client *rdma)
{
	uint64_t now_ms = maas_clock_ms();
	unsigned int ended;

	maas_lock_take(&rdma->lock);
	ended = expire_in(rdma, &rdma->todo, &rdma->num_todo, now_ms);
	ended += expire_in(rdma, &rdma->waiting, &rdma->num_waiting, now_ms);
	maas_lock_release(&rdma->lock);
	if (ended)
		maas_rdma_client_wake(rdma);
}
