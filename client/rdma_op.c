/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "client/rdma_internal.h"

#define KEEP_RANGES 256 /* memory for more is not kept for the next operation */

/* Memory that was never used stays untouched: most handles need few of their operations. */
struct maas_verbs_op *maas_verbs_op_get(struct maas_verbs *verbs)
{
	uint32_t used = atomic_load(&verbs->ops_used);
	struct maas_verbs_op *op;

	if (!verbs->idle)
		verbs->idle = atomic_exchange(&verbs->returned, NULL);
	op = verbs->idle;
	if (op) {
		verbs->idle = op->next;
		return op;
	}
	if (used == verbs->num_ops)
		return NULL;
	op = &verbs->ops[used];
	op->ranges = op->few;
	op->room = MAAS_VERBS_RANGES;
	atomic_store(&verbs->ops_used, used + 1);
	return op;
}

/* True when it is the first. Afterwards the operation may be another's already. */
static bool push(_Atomic(struct maas_verbs_op *) *stack, struct maas_verbs_op *op)
{
	struct maas_verbs_op *top = atomic_load(stack);

	do
		op->next = top;
	while (!atomic_compare_exchange_weak(stack, &top, op));
	return !top;
}

void maas_verbs_op_put(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	if (op->room > KEEP_RANGES) {
		free(op->ranges);
		op->ranges = op->few;
		op->room = MAAS_VERBS_RANGES;
	}
	atomic_store(&op->state, MAAS_OP_FREE);
	push(&verbs->returned, op);
}

static int make_room(struct maas_verbs_op *op, uint32_t count)
{
	struct maas_verbs_range *ranges;

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

int maas_verbs_op_fill(struct maas_verbs_op *op, const struct maas_range *ranges, uint32_t count)
{
	int r = make_room(op, count);

	if (r)
		return r;
	for (uint32_t i = 0; i < count; i++) {
		struct maas_verbs_range *range = &op->ranges[i];

		if (!maas_verbs_id_set(&range->id, ranges[i].id))
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

void maas_verbs_op_release(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	maas_verbs_slots_put(&verbs->device.slots, op->slots);
	op->slots = NULL;
	if (!op->local)
		return;
	for (uint32_t i = 0; i < op->count; i++) {
		struct maas_verbs_range *range = &op->ranges[i];

		if (range->buffer)
			atomic_fetch_sub(&range->buffer->users, 1);
		else
			maas_verbs_deregister(range->mr);
	}
	op->local = false;
}

void maas_verbs_op_end(struct maas_verbs *verbs, struct maas_verbs_op *op, int status)
{
	bool submitted;
	bool first;

	maas_verbs_op_release(verbs, op);
	op->status = status;
	op->error[0] = '\0';
	if (status)
		snprintf(op->error, sizeof(op->error), "%s", maas_error());
	submitted = op->submitted;
	atomic_store(&op->state, MAAS_OP_DONE);
	if (!submitted)
		return;
	first = push(&verbs->done, op);
	atomic_fetch_sub(&verbs->under_way, 1);
	/* With others before it the descriptor is readable already. */
	if (first && atomic_load(&verbs->polled_by_event))
		eventfd_write(verbs->maas->event_fd, 1);
}

void maas_verbs_op_todo(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	atomic_store(&op->state, MAAS_OP_QUEUED);
	op->at = 0;
	op->at_offset = 0;
	op->failed = IBV_WC_SUCCESS;
	TAILQ_INSERT_TAIL(&verbs->todo, op, link);
	atomic_fetch_add(&verbs->num_todo, 1);
	maas_verbs_thread_wake(verbs);
}
