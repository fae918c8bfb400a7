/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The submitted operations of a handle, of either transport:
 *
 *	maas_submit_read() ──▶ under way ──▶ done ──▶ taken ──▶ maas_poll()
 *	                    (the transport)
 *
 * The queue counts operations and keeps those that ended; where they are meanwhile is the
 * transport's affair.
 */
#ifndef MAAS_CLIENT_QUEUE_H
#define MAAS_CLIENT_QUEUE_H

#include <stdatomic.h>
#include <stdio.h>

#include "base/base.h"
#include "base/lock.h"
#include "client/maas.h"

/* The head of a transport's operation. */
struct maas_op {
	struct maas_op *next; /* on a stack, or of `done` or `taken` */
	void *user;
	int status;
	char error[MAAS_ERROR_BYTES]; /* where `status` is not 0 */
};

struct maas_queue {
	uint32_t max;
	int event_fd;	       /* readable while there are completions, if it is watched */
	int epoll_fd;	       /* of event_fd and a transport's descriptor; -1: there is none */
	_Atomic bool watched;  /* maas_event_fd() was called */
	_Atomic uint32_t held; /* not yet taken by maas_poll() */

	struct maas_lock take_lock;
	_Atomic(struct maas_op *) taken; /* from `done`, oldest first; changed with `take_lock` */
	struct maas_op **taken_end;	 /* of that chain */

	struct maas_lock done_lock;
	_Atomic(struct maas_op *) done; /* oldest first; changed with `done_lock` */
	struct maas_op **done_end;	/* of that chain */
};

/* Errors: -EMFILE. */
MAAS_MUST_CHECK int maas_queue_init(struct maas_queue *queue, uint32_t max);
/* Closes the descriptors; a forked child may do that, too. */
void maas_queue_fini(struct maas_queue *queue);
/* Frees completions that nobody took, when nothing is under way any more. */
void maas_queue_drop(struct maas *maas);

/* maas_event_fd() is readable when `fd` is, too. Errors: -EMFILE, -ENOMEM. */
MAAS_MUST_CHECK int maas_queue_add_fd(struct maas_queue *queue, int fd);

/* Fails with -EAGAIN. */
MAAS_COLD int maas_queue_fail_full(const struct maas_queue *queue);

/* Counts an operation before it begins, for it may end at once. One thread at a time, by a lock of
 * the transport. Errors: -EAGAIN. */
MAAS_MUST_CHECK static inline int maas_queue_hold(struct maas_queue *queue)
{
	if (atomic_load(&queue->held) >= queue->max)
		return maas_queue_fail_full(queue);
	atomic_fetch_add(&queue->held, 1);
	return 0;
}

/* The operation did not begin. The caller wakes waiting threads afterwards. */
void maas_queue_unhold(struct maas_queue *queue);
/* Operations ended, a chain from the `oldest` to the one whose `next` is `end`, and are
 * maas_poll()'s from here on. The caller wakes waiting threads afterwards. */
void maas_queue_done(struct maas_queue *queue, struct maas_op *oldest, struct maas_op **end);

/* The outcome: `status` with the thread's sentence. */
static inline void maas_op_set_status(struct maas_op *op, int status)
{
	op->status = status;
	if (status)
		snprintf(op->error, sizeof(op->error), "%s", maas_error());
}

/* Puts a chain from `first` to `last` on the stack. */
static inline void maas_op_push(_Atomic(struct maas_op *) *stack, struct maas_op *first,
				struct maas_op *last)
{
	struct maas_op *top = atomic_load(stack);

	do
		last->next = top;
	while (!atomic_compare_exchange_weak(stack, &top, first));
}

/* Whether maas_poll() has nothing to wait for: there is a completion, or none will come. */
static inline bool maas_queue_ready(const struct maas_queue *queue)
{
	return atomic_load(&queue->done) || atomic_load(&queue->taken) ||
	       !atomic_load(&queue->held);
}

#endif
