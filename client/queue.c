/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions of submitted operations, and the one descriptor that tells of them. Threads push
 * completions without a lock, and take them with `lock`.
 *
 * Why no wake-up is lost. Each pair below works alike: one thread stores the first and then
 * loads the second, another thread stores the second and then loads the first. All are
 * sequentially consistent, so at least one of the two threads sees the other's store.
 *
 *   done, watched    A push stores `done`, then looks whether the descriptor is `watched`.
 *                    maas_event_fd() stores `watched`, then looks at `done`. At least one of
 *                    them writes.
 *   done, event_fd   A thread that took all completions empties the descriptor, then looks at
 *                    `done`, and writes if there is one. A push stores `done`, then writes. So a
 *                    write that was emptied too early is made again.
 *   done, under_way  A push stores `done`, then decrements `under_way`. maas_poll() looks at
 *                    `under_way`, then takes: if nothing was under way, every completion is
 *                    there to be taken.
 *
 * A thread that sleeps in a transport's `wait` pairs its sleep with maas_queue_ready(): all
 * stores here (done, taken, under_way) come before a call of the transport's `wake`.
 */
#include "client/queue.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/transport.h"

static int fail_fd(int error)
{
	return maas_fail(-error, "no event file descriptor: %s", strerror(error));
}

int maas_queue_init(struct maas_queue *queue, uint32_t max)
{
	queue->max = max;
	queue->epoll_fd = -1;
	queue->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (queue->event_fd < 0)
		return fail_fd(errno);
	pthread_mutex_init(&queue->lock, NULL);
	return 0;
}

void maas_queue_fini(struct maas_queue *queue)
{
	maas_queue_close_fds(queue);
	pthread_mutex_destroy(&queue->lock);
}

void maas_queue_close_fds(struct maas_queue *queue)
{
	close(queue->event_fd);
	if (queue->epoll_fd >= 0)
		close(queue->epoll_fd);
}

/* ---- what a transport tells */

int maas_queue_hold(struct maas_queue *queue)
{
	if (atomic_fetch_add(&queue->held, 1) < queue->max) {
		atomic_fetch_add(&queue->under_way, 1);
		return 0;
	}
	atomic_fetch_sub(&queue->held, 1);
	return maas_fail(-EAGAIN, "%u operations are under way; take their completions first",
			 queue->max);
}

void maas_queue_unhold(struct maas_queue *queue)
{
	atomic_fetch_sub(&queue->under_way, 1);
	atomic_fetch_sub(&queue->held, 1);
}

void maas_queue_done(struct maas_queue *queue, struct maas_op *latest, struct maas_op *oldest,
		     uint32_t count)
{
	bool first = maas_op_push(&queue->done, latest, oldest);

	atomic_fetch_sub(&queue->under_way, count);
	/* With others before it the descriptor is readable already. */
	if (first && atomic_load(&queue->watched))
		eventfd_write(queue->event_fd, 1);
}

/* ---- maas_poll() */

/* Holds the lock. The completions since the last look, oldest first. */
static struct maas_op *take_done(struct maas_queue *queue)
{
	struct maas_op *latest = atomic_exchange(&queue->done, NULL);
	struct maas_op *oldest = NULL;

	while (latest) {
		struct maas_op *op = latest;

		latest = op->next;
		op->next = oldest;
		oldest = op;
	}
	return oldest;
}

/* Holds the lock. Readable as long as there is something to take, and no longer. */
static void settle_event_fd(struct maas_queue *queue)
{
	eventfd_t ignored;

	if (!atomic_load(&queue->watched) || atomic_load(&queue->taken))
		return;
	eventfd_read(queue->event_fd, &ignored);
	if (atomic_load(&queue->done))
		eventfd_write(queue->event_fd, 1);
}

/* Takes up to `max` completions, oldest first, and gives their operations back. Returns how many.
 */
static uint32_t take(struct maas *maas, struct maas_completion *ret_completions, uint32_t max)
{
	struct maas_queue *queue = &maas->queue;
	struct maas_op *first = NULL;
	struct maas_op **end = &first;
	struct maas_op *op;
	uint32_t n;

	pthread_mutex_lock(&queue->lock);
	op = atomic_load(&queue->taken);
	for (n = 0; n < max && (op || (op = take_done(queue))); n++) {
		struct maas_completion *completion = &ret_completions[n];

		completion->user = op->user;
		completion->status = op->status;
		completion->error[0] = '\0';
		if (op->status)
			memcpy(completion->error, op->error, sizeof(op->error));
		*end = op;
		end = &op->next;
		op = op->next;
	}
	*end = NULL;
	atomic_store(&queue->taken, op);
	settle_event_fd(queue);
	pthread_mutex_unlock(&queue->lock);
	if (first)
		maas->transport->release(maas, first);
	atomic_fetch_sub(&queue->held, n);
	/* Another waiting thread may have looked between `done` and `taken`, and seen neither. */
	if (op)
		maas->transport->wake(maas);
	return n;
}

int maas_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
	      int timeout_ms)
{
	uint64_t end_ms = UINT64_MAX;
	bool wait = timeout_ms != 0;
	uint32_t n;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!max || max > INT32_MAX || timeout_ms < -1)
		return maas_fail(-EINVAL, "maas_poll() takes at least one completion");
	if (timeout_ms > 0)
		end_ms = maas_clock_ms() + (uint64_t)timeout_ms;
	if (maas->transport->progress)
		maas->transport->progress(maas);
	while (!(n = take(maas, ret_completions, max)) && wait) {
		uint64_t until_ms = maas_clock_ms() + INT32_MAX;

		maas->transport->wait(maas, end_ms < until_ms ? end_ms : until_ms);
		/* Read before the next take, which finds all that is not under way any more. */
		wait = atomic_load(&maas->queue.under_way) && maas_clock_ms() < end_ms;
	}
	maas_error_clear(); /* operations that failed say so by their completions */
	return (int)n;
}

void maas_queue_drop(struct maas *maas)
{
	struct maas_completion ignored;

	while (take(maas, &ignored, 1))
		;
}

/* ---- the descriptor */

static int add(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? fail_fd(errno) : 0;
}

int maas_queue_add_fd(struct maas_queue *queue, int fd)
{
	int r;

	queue->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (queue->epoll_fd < 0)
		return fail_fd(errno);
	r = add(queue->epoll_fd, queue->event_fd);
	if (!r)
		r = add(queue->epoll_fd, fd);
	if (r) {
		close(queue->epoll_fd);
		queue->epoll_fd = -1;
	}
	return r;
}

int maas_event_fd(struct maas *maas)
{
	struct maas_queue *queue = &maas->queue;
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&queue->lock);
	if (!atomic_exchange(&queue->watched, true) &&
	    (atomic_load(&queue->taken) || atomic_load(&queue->done)))
		eventfd_write(queue->event_fd, 1);
	pthread_mutex_unlock(&queue->lock);
	/* For operations that began before the queue was watched. */
	if (maas->transport->progress)
		maas->transport->progress(maas);
	return queue->epoll_fd >= 0 ? queue->epoll_fd : queue->event_fd;
}
