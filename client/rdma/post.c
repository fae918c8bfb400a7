/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a call to the send queue of the connection: an operation is a copy of the caller's ranges,
 * and is posted as one chain of work requests, of which the last is signalled; what does not fit
 * waits, in order. A thread that posts holds `lock`.
 */
#include <errno.h>
#include <string.h>

#include "client/rdma/internal.h"

/* ---- work requests. Holds `lock`. */

/* The bytes go through a slot. False: none is free. */
static bool find_slot(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
		      const struct maas_rdma_client_range *range, struct ibv_sge *sge)
{
	struct maas_rdma_client_slot *slot =
		maas_rdma_client_slot_get(&rdma->device.slots, range->len);

	if (!slot)
		return false;
	slot->to = op->read ? range->buf : NULL;
	if (!op->read)
		memcpy(slot->at, range->buf, range->len);
	slot->next = op->slots;
	op->slots = slot;
	op->more = true;
	sge->addr = (uintptr_t)slot->at;
	sge->lkey = rdma->device.slots.mr->lkey;
	return true;
}

/* Where the bytes are on this side. False: no slot is free. */
static MAAS_INLINE bool find_local(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				   const struct maas_rdma_client_range *range,
				   struct maas_rdma_client_request *request)
{
	const struct ibv_mr *mr = range->mr;

	request->sge.addr = (uintptr_t)range->buf;
	request->sge.length = range->len;
	request->wr.send_flags = 0;
	if (!op->read && range->len <= rdma->conn.max_inline) {
		request->wr.send_flags = IBV_SEND_INLINE;
		return true;
	}
	if (!mr)
		mr = maas_rdma_client_region_find(&rdma->regions, range->buf, range->len);
	if (!mr)
		return find_slot(rdma, op, range, &request->sge);
	request->sge.lkey = mr->lkey;
	return true;
}

/* The operation is the poller's before its completion can come. */
static MAAS_INLINE void ring(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     struct ibv_send_wr *last, uint32_t count)
{
	uint64_t posted = MAAS_POSTED(1, count);
	struct ibv_send_wr *bad;
	int error;

	last->next = NULL;
	last->send_flags |= IBV_SEND_SIGNALED;
	last->wr_id |= MAAS_WR_LAST;
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

/* For a range that is not within the bytes that may be written. */
MAAS_COLD static int check_range(const struct maas_rdma_client_range *range, bool read)
{
	const struct maas_rdma_client_grant *grant = range->grant;
	uint64_t len = grant->len ? grant->len : grant->read_len;

	if (range->len > len || range->offset > len - range->len)
		return maas_fail(-ERANGE,
				 "the range lies outside of the allocation: it has %llu bytes",
				 (unsigned long long)len);
	return read ? 0 : maas_fail(-EPERM, "the key that the server gives may only read");
}

/* Makes a chain of work requests as far as there is room; looks at all that is left of the
 * operation before any of it is posted. What does not fit goes in several parts, but only when
 * nothing else is under way: otherwise it waits whole. Errors: -EROFS a range needs a `careful`
 * look. */
static MAAS_INLINE int try_post(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				bool careful)
{
	enum ibv_wr_opcode opcode = op->read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
	uint32_t room = rdma->device.depth - (uint32_t)atomic_load(&rdma->posted);
	struct maas_rdma_client_request *request = rdma->device.requests;
	struct maas_rdma_client_range *range = op->next;
	struct maas_rdma_client_range *rest = NULL;
	uint32_t count = 0;
	int r;

	do {
		const struct maas_rdma_client_grant *grant = range->grant;

		r = -ENOKEY;
		if (!grant)
			goto err_slots;
		if (range->len > grant->len || range->offset > grant->len - range->len) {
			r = careful ? check_range(range, op->read) : -EROFS;
			if (r)
				goto err_slots;
		}
		if (count == room || !find_local(rdma, op, range, request)) {
			rest = rest ? rest : range;
			room = count;
			continue;
		}
		request->wr.wr_id = (uintptr_t)op;
		request->wr.next = &request[1].wr;
		request->wr.opcode = opcode;
		request->wr.wr.rdma.remote_addr = grant->addr + range->offset;
		request->wr.wr.rdma.rkey = grant->rkey;
		request++;
		count++;
	} while (++range < op->end);
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

MAAS_COLD static int post_carefully(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	return try_post(rdma, op, true);
}

static MAAS_INLINE int post_now(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	int r = try_post(rdma, op, false);

	return r == -EROFS ? post_carefully(rdma, op) : r;
}

/* Holds the lock while the keys are good. Those of the ranges that were not yet posted. */
static void find_keys(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	for (struct maas_rdma_client_range *range = op->next; range < op->end; range++)
		range->grant = maas_rdma_client_grant_find(&rdma->grants, &range->id);
}

static int post_again(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	find_keys(rdma, op);
	return post_now(rdma, op);
}

/* ---- what cannot be posted now */

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
		r = post_again(rdma, op);
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

/* Errors: -ENOKEY there is no connection, -EBUSY others wait. */
static int may_post(const struct maas_rdma_client *rdma)
{
	if (!maas_rdma_client_up(rdma))
		return -ENOKEY;
	return atomic_load(&rdma->num_waiting) ? -EBUSY : 0;
}

int maas_rdma_client_post(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	int r = may_post(rdma);

	if (!r)
		r = post_again(rdma, op);
	return r ? put_aside(rdma, op, r) : 0;
}

/* ---- what a call asks for */

struct call {
	const struct maas_range *ranges; /* at least one */
	uint32_t count;
	bool read;
	bool submitted; /* its completion goes to maas_poll() */
	uint32_t timeout_ms;
	void *user;
};

/* Holds the lock. There is one for each call that has its turn and each operation that is held. */
static struct maas_rdma_client_op *get(struct maas_rdma_client *rdma)
{
	struct maas_op *idle = rdma->idle ? rdma->idle : maas_rdma_client_op_idle(rdma);

	rdma->idle = idle->next;
	return MAAS_CONTAINER_OF(idle, struct maas_rdma_client_op, base);
}

/* Holds the lock. Most operations name the allocation of the one before. False: `text` is no id. */
static MAAS_INLINE bool set_id(struct maas_rdma_client *rdma, struct maas_rdma_client_range *range,
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

/* Holds the lock. Copies a range that is one piece. Errors: -EINVAL, -ENOMEM. */
static MAAS_INLINE int add(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			   const struct maas_range *from)
{
	struct maas_rdma_client_range *to;

	if (op->end == op->limit &&
	    maas_rdma_client_op_room(rdma, op, (size_t)(op->end - op->ranges)))
		return -ENOMEM;
	to = op->end;
	if (!set_id(rdma, to, from->id))
		return maas_check_id("");
	to->offset = from->offset;
	to->buf = from->buf;
	to->len = (uint32_t)from->len;
	to->mr = NULL;
	op->end++; /* whole: what begins is released from here on */
	if (from->len > MAAS_RDMA_COPY)
		op->large = op->more = true;
	return 0;
}

/* As add(), in pieces that the device takes. Errors: -ERANGE, too. */
MAAS_COLD static int add_pieces(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				const struct maas_range *from)
{
	struct maas_range piece = *from;
	int r = 0;

	if (from->len > MAAS_RDMA_RANGE)
		return maas_fail(-ERANGE, "no allocation has %zu bytes", from->len);
	for (size_t at = 0; !r && at < from->len; at += piece.len) {
		piece.offset = from->offset + at;
		piece.buf = (char *)from->buf + at;
		piece.len = from->len - at > rdma->device.max_piece ? rdma->device.max_piece
								    : from->len - at;
		r = add(rdma, op, &piece);
	}
	return r;
}

/* Holds the lock. Copies what is asked for. Errors: as add_pieces(). */
static MAAS_INLINE int fill(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			    const struct call *call)
{
	const struct maas_range *range = call->ranges;
	const struct maas_range *end = range + call->count;

	op->base.user = call->user;
	op->read = call->read;
	op->submitted = call->submitted;
	op->more = false;
	op->refused = false;
	op->tries = 0;
	op->failed = IBV_WC_SUCCESS;
	op->next = op->end = op->ranges;
	atomic_store_explicit(&op->late, false, memory_order_relaxed);
	if (call->count > MAAS_RDMA_RANGES && maas_rdma_client_op_room(rdma, op, call->count))
		return -ENOMEM;
	do {
		int r;

		if (!range->len || !range->buf)
			return maas_fail(-EINVAL, "range %zu has no bytes",
					 (size_t)(range - call->ranges));
		r = range->len > rdma->device.max_piece ? add_pieces(rdma, op, range)
							: add(rdma, op, range);
		if (r)
			return r;
	} while (++range < end);
	return 0;
}

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
	find_keys(rdma, op);
	return 0;
}

/* The operation did not begin. */
MAAS_COLD static int fail_start(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
				int error)
{
	bool submitted = op->submitted;

	maas_rdma_client_op_release(rdma, op);
	atomic_store(&op->state, MAAS_OP_DONE);
	maas_rdma_client_op_put(rdma, &op->base, &op->base);
	if (submitted)
		maas_queue_unhold(&rdma->maas->queue);
	else
		maas_rdma_client_turn_put(rdma);
	maas_rdma_client_wake(rdma);
	return error;
}

/* Holds the lock. Sends a new operation on its way. Errors: -EINVAL, -ENOMEM, -EFAULT. */
static MAAS_INLINE int begin(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     const struct call *call)
{
	int r = fill(rdma, op, call);

	if (!r && op->large)
		r = pin(rdma, op);
	if (r)
		return r;
	r = may_post(rdma);
	if (!r)
		r = post_now(rdma, op);
	return r ? put_aside(rdma, op, r) : 0;
}

/* Begins an operation. */
static MAAS_INLINE int start(struct maas *maas, const struct call *call,
			     struct maas_rdma_client_op **ret_op)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint64_t deadline_ms;
	struct maas_rdma_client_op *op;
	int r = maas_transport_enter(maas, call->count);

	if (r)
		return r;
	deadline_ms = maas_clock_ms() + call->timeout_ms;
	maas_lock_take(&rdma->lock);
	r = call->submitted ? maas_queue_hold(&maas->queue)
			    : maas_rdma_client_turn_take(rdma, deadline_ms);
	if (r) {
		maas_lock_release(&rdma->lock);
		return r;
	}
	op = get(rdma);
	atomic_store_explicit(&op->deadline_ms, deadline_ms, memory_order_relaxed);
	r = begin(rdma, op, call);
	if (deadline_ms < atomic_load(&rdma->next_ms)) /* see thread.c */
		maas_rdma_client_thread_wake(rdma);
	maas_lock_release(&rdma->lock);
	if (r)
		return fail_start(rdma, op, r);
	*ret_op = op;
	return 0;
}

/* ---- calls that wait */

int maas_rdma_client_run(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			 bool read)
{
	const struct call call = {.ranges = ranges,
				  .count = count,
				  .read = read,
				  .timeout_ms = maas->options.timeout_ms};
	struct maas_rdma_client *rdma = maas->rdma;
	struct maas_rdma_client_op *op = NULL;
	int r = start(maas, &call, &op);

	if (r)
		return r;
	maas_rdma_client_wait_op(rdma, op);
	r = op->base.status;
	/* The thread's own sentence may be of an operation that it completed for another thread. */
	if (r)
		maas_error_set("%s", op->base.error);
	else
		maas_error_clear();
	maas_rdma_client_op_put(rdma, &op->base, &op->base);
	maas_rdma_client_turn_put(rdma);
	return r;
}

/* ---- submitted ones */

int maas_rdma_client_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			    uint32_t timeout_ms, void *user, bool read)
{
	const struct call call = {.ranges = ranges,
				  .count = count,
				  .read = read,
				  .submitted = true,
				  .timeout_ms = timeout_ms,
				  .user = user};
	struct maas_rdma_client_op *ignored;

	return start(maas, &call, &ignored);
}
