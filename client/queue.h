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

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/base.h"
#include "client/maas.h"

/* The head of a transport's operation. */
struct maas_op {
	struct maas_op *next; /* on a stack, or of the taken */
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
	_Atomic uint32_t under_way;	/* not yet done */
	_Atomic(struct maas_op *) done; /* latest first */
	pthread_mutex_t lock;
	_Atomic(struct maas_op *) taken; /* from `done`, oldest first; changed with `lock` */
};

/* Errors: -EMFILE. */
MAAS_MUST_CHECK int maas_queue_init(struct maas_queue *queue, uint32_t max);
void maas_queue_fini(struct maas_queue *queue);
/* All that a forked child may do. */
void maas_queue_close_fds(struct maas_queue *queue);
/* Frees completions that nobody took, when nothing is under way any more. */
void maas_queue_drop(struct maas *maas);

/* maas_event_fd() is readable when `fd` is, too. Errors: -EMFILE, -ENOMEM. */
MAAS_MUST_CHECK int maas_queue_add_fd(struct maas_queue *queue, int fd);

/* Counts an operation before it begins, for it may end at once. Errors: -EAGAIN. */
MAAS_MUST_CHECK int maas_queue_hold(struct maas_queue *queue);
/* The operation did not begin. The caller wakes waiting threads afterwards. */
void maas_queue_unhold(struct maas_queue *queue);
/* `count` operations ended, a chain from the `latest` to the `oldest`, and are maas_poll()'s from
 * here on. The caller wakes waiting threads afterwards. */
void maas_queue_done(struct maas_queue *queue, struct maas_op *latest, struct maas_op *oldest,
		     uint32_t count);

/* The outcome: `status` with the thread's sentence. */
static inline void maas_op_set_status(struct maas_op *op, int status)
{
	op->status = status;
	if (status)
		snprintf(op->error, sizeof(op->error), "%s", maas_error());
}

/* Puts a chain from `first` to `last` on the stack. True when the stack was empty: another thread
 * may have taken them already. */
static inline bool maas_op_push(_Atomic(struct maas_op *) *stack, struct maas_op *first,
				struct maas_op *last)
{
	struct maas_op *top = atomic_load(stack);

	do
		last->next = top;
	while (!atomic_compare_exchange_weak(stack, &top, first));
	return !top;
}

/* Whether maas_poll() has nothing to wait for: there is a completion, or none will come. */
static inline bool maas_queue_ready(const struct maas_queue *queue)
{
	return atomic_load(&queue->done) || atomic_load(&queue->taken) ||
	       !atomic_load(&queue->under_way);
}

#endif
