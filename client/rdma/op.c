/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations, from the call that makes one to its end. Calls that wait and submitted ones are the
 * same, but for who takes the outcome.
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

/* Holds the lock. */
MAAS_COLD static struct maas_op *get_idle(struct maas_rdma_client *rdma)
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

/* Holds the lock. There is one for each call that has its turn and each operation that is held. */
static struct maas_rdma_client_op *get(struct maas_rdma_client *rdma)
{
	struct maas_op *idle = rdma->idle ? rdma->idle : get_idle(rdma);

	rdma->idle = idle->next;
	return MAAS_CONTAINER_OF(idle, struct maas_rdma_client_op, base);
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

static void put(struct maas_rdma_client *rdma, struct maas_op *first, struct maas_op *last)
{
	if (atomic_load(&rdma->num_wide))
		trim(rdma, first, last);
	maas_op_push(&rdma->returned, first, last);
}

void maas_rdma_client_release(struct maas *maas, struct maas_op *first, struct maas_op *last)
{
	put(maas->rdma, first, last);
}

/* Holds the lock. Room for `count` more ranges. */
MAAS_COLD static int make_room(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
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
	op->end = ranges + used;
	if (!wide && used + count > KEEP_RANGES)
		atomic_fetch_add(&rdma->num_wide, 1);
	return 0;
}

/* Holds the lock. Most operations name the allocation of the one before. False: `text` is no id. */
static bool set_id(struct maas_rdma_client *rdma, struct maas_rdma_client_range *range,
		   const char *text)
{
	const struct maas_rdma_client_grant *last = rdma->grants.last;

	if (last && text && strcmp(text, last->id.text) == 0) {
		range->id = last->id;
		range->grant = last;
		return true;
	}
	if (!maas_rdma_client_id_set(&range->id, text))
		return false;
	range->grant = maas_rdma_client_grant_find(&rdma->grants, &range->id);
	return true;
}

void maas_rdma_client_op_find_keys(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_range *range = op->next; range < op->end; range++)
		range->grant = maas_rdma_client_grant_find(&rdma->grants, &range->id);
}

/* Holds the lock. Copies a range that is one piece. Errors: -EINVAL, -ENOMEM. */
static inline int add(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
	       const struct maas_range *from)
{
	struct maas_rdma_client_range *to;

	if (op->end == op->limit && make_room(rdma, op, (size_t)(op->end - op->ranges)))
		return -ENOMEM;
	to = op->end++;
	if (!set_id(rdma, to, from->id))
		return maas_check_id("");
	to->offset = from->offset;
	to->buf = from->buf;
	to->len = (uint32_t)from->len;
	to->mr = NULL;
	if (from->len > MAAS_RDMA_COPY)
		op->large = op->more = true;
	return 0;
}

/* Holds the lock. Copies a range in as many pieces as the device takes. Errors: -EINVAL, -ENOMEM. */
MAAS_COLD static int add_pieces(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				const struct maas_range *from)
{
	struct maas_range piece = *from;
	int r = 0;

	for (size_t at = 0; !r && at < from->len; at += piece.len) {
		piece.offset = from->offset + at;
		piece.buf = (char *)from->buf + at;
		piece.len = from->len - at;
		if (piece.len > rdma->device.max_piece)
			piece.len = rdma->device.max_piece;
		r = add(rdma, op, &piece);
	}
	return r;
}

/* Holds the lock. Copies what is asked for. Errors: -EINVAL, -ENOMEM. */
static int fill(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		const struct maas_access *access)
{
	const struct maas_range *range = access->ranges;
	const struct maas_range *end = range + access->count;
	int r = 0;

	op->base.user = access->user;
	op->read = access->read;
	op->submitted = access->submitted;
	op->more = false;
	op->refused = false;
	op->tries = 0;
	op->failed = IBV_WC_SUCCESS;
	op->end = op->ranges;
	atomic_store_explicit(&op->late, false, memory_order_relaxed);
	if (access->count > MAAS_RDMA_RANGES && make_room(rdma, op, access->count))
		return -ENOMEM;
	for (; !r && range < end; range++) {
		if (!range->len || !range->buf)
			r = maas_fail(-EINVAL, "range %zu has no bytes",
				      (size_t)(range - access->ranges));
		else if (range->len > rdma->device.max_piece)
			r = add_pieces(rdma, op, range);
		else
			r = add(rdma, op, range);
	}
	op->next = op->ranges;
	return r;
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

/* ---- how each begins */

/* Holds the lock, but for as long as memory is registered: larger ranges than are copied, outside
 * of callers' buffers. Errors: -ENOMEM, -EFAULT. */
MAAS_COLD static int pin(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_range *range = op->ranges; range < op->end; range++) {
		int r;

		if (range->len <= MAAS_RDMA_COPY ||
		    maas_rdma_client_region_find(&rdma->regions, range->buf, range->len))
			continue;
		atomic_store(&op->state, MAAS_OP_QUEUED);
		maas_lock_release(&rdma->lock);
		r = maas_rdma_client_register(rdma->device.pd, range->buf, range->len, op->read,
					      &range->mr);
		maas_lock_take(&rdma->lock);
		if (r)
			return r;
	}
	maas_rdma_client_op_find_keys(rdma, op);
	return 0;
}

/* The operation did not begin. */
MAAS_COLD static int fail_start(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				int error)
{
	bool submitted = op->submitted;

	maas_rdma_client_op_release(rdma, op);
	atomic_store(&op->state, MAAS_OP_DONE);
	put(rdma, &op->base, &op->base);
	if (submitted)
		maas_queue_unhold(&rdma->maas->queue);
	else
		maas_rdma_client_turn_put(rdma);
	maas_rdma_client_wake(rdma);
	return error;
}

/* Begins an operation; who waits for its end gets it. */
static int start(struct maas *maas, const struct maas_access *access,
		 struct maas_rdma_client_op **ret_op)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint64_t deadline_ms = maas_clock_ms() + access->timeout_ms;
	struct maas_rdma_client_op *op;
	int r;

	maas_lock_take(&rdma->lock);
	r = access->submitted ? maas_queue_hold(&maas->queue)
			      : maas_rdma_client_turn_take(rdma, deadline_ms);
	if (r) {
		maas_lock_release(&rdma->lock);
		return r;
	}
	op = get(rdma);
	atomic_store_explicit(&op->deadline_ms, deadline_ms, memory_order_relaxed);
	r = fill(rdma, op, access);
	if (!r && op->large)
		r = pin(rdma, op);
	if (!r)
		r = maas_rdma_client_post(rdma, op);
	if (deadline_ms < atomic_load(&rdma->next_ms)) /* see thread.c */
		maas_rdma_client_thread_wake(rdma);
	maas_lock_release(&rdma->lock);
	if (r)
		return fail_start(rdma, op, r);
	if (ret_op)
		*ret_op = op;
	return 0;
}

/* ---- calls that wait */

int maas_rdma_client_run(struct maas *maas, const struct maas_access *access)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct maas_rdma_client_op *op;
	int r = start(maas, access, &op);

	if (r)
		return r;
	maas_rdma_client_wait_op(rdma, op);
	r = op->base.status;
	/* The thread's own sentence may be of an operation that it completed for another thread. */
	if (r)
		maas_error_set("%s", op->base.error);
	else
		maas_error_clear();
	put(rdma, &op->base, &op->base);
	maas_rdma_client_turn_put(rdma);
	return r;
}

/* ---- submitted ones */

int maas_rdma_client_submit(struct maas *maas, const struct maas_access *access)
{
	return start(maas, access, NULL);
}
