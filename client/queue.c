/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions of submitted operations, and the one descriptor that tells of them. `done_lock` is
 * held for a moment only: no thread that completes operations waits for one that copies
 * completions, which has `take_lock`.
 *
 * Why no wake-up is lost. Each pair below works alike: one thread stores the first and then
 * loads the second, another thread stores the second and then loads the first. All are
 * sequentially consistent, so at least one of the two threads sees the other's store.
 *
 *   done, watched    Who adds to an empty `done` stores it, then looks whether the descriptor is
 *                    `watched`. maas_event_fd() stores `watched`, then looks at `done`. At least
 *                    one of them writes.
 *   done, event_fd   A thread that took all completions empties the descriptor, then looks at
 *                    `done`, and writes if there is one. Who adds to an empty `done` stores it,
 *                    then writes. So a write that was emptied too early is made again.
 *
 * A thread that sleeps in a transport's `wait` pairs its sleep with maas_queue_ready(): a call of
 * the transport's `wake` comes after operations were added to `done`, and after the last one that
 * was `held` was taken. From `done` they go to `taken` first and then from `done`, so that who
 * looks at `done` and then at `taken` sees them.
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
	return 0;
}

void maas_queue_fini(struct maas_queue *queue)
{
	close(queue->event_fd);
	if (queue->epoll_fd >= 0)
		close(queue->epoll_fd);
}

/* ---- what a transport tells */

int maas_queue_fail_full(const struct maas_queue *queue)
{
	return maas_fail(-EAGAIN, "%u operations are under way; take their completions first",
			 queue->max);
}

void maas_queue_unhold(struct maas_queue *queue)
{
	atomic_fetch_sub(&queue->held, 1);
}

void maas_queue_done(struct maas_queue *queue, struct maas_op *oldest, struct maas_op **end)
{
	bool others;

	*end = NULL;
	maas_lock_take(&queue->done_lock);
	others = atomic_load(&queue->done);
	if (others)
		*queue->done_end = oldest;
	else
		atomic_store(&queue->done, oldest);
	queue->done_end = end;
	maas_lock_release(&queue->done_lock);
	/* With others before it the descriptor is readable already. */
	if (!others && atomic_load(&queue->watched))
		eventfd_write(queue->event_fd, 1);
}

/* ---- maas_poll() */

/* Holds `take_lock`. */
static void take_done(struct maas_queue *queue)
{
	struct maas_op *oldest = atomic_load(&queue->done);

	if (!oldest)
		return;
	if (atomic_load(&queue->taken))
		*queue->taken_end = oldest;
	else
		atomic_store(&queue->taken, oldest);
	maas_lock_take(&queue->done_lock);
	atomic_store(&queue->done, NULL);
	queue->taken_end = queue->done_end;
	maas_lock_release(&queue->done_lock);
}

/* Holds `take_lock`. Readable as long as there is something to take, and no longer. */
static void settle_event_fd(struct maas_queue *queue)
{
	eventfd_t ignored;

	if (!atomic_load(&queue->watched) || atomic_load(&queue->taken))
		return;
	eventfd_read(queue->event_fd, &ignored);
	if (atomic_load(&queue->done))
		eventfd_write(queue->event_fd, 1);
}

static void fill_in(struct maas_completion *completion, const struct maas_op *op)
{
	completion->user = op->user;
	completion->status = op->status;
	completion->error[0] = '\0';
	if (op->status)
		memcpy(completion->error, op->error, sizeof(op->error));
}

/* Takes up to `max` completions, oldest first, and gives their operations back. Returns how many.
 */
static uint32_t take(struct maas *maas, struct maas_completion *ret_completions, uint32_t max)
{
	struct maas_queue *queue = &maas->queue;
	struct maas_op *first;
	struct maas_op *last = NULL;
	struct maas_completion *to = ret_completions;
	const struct maas_completion *end = to + max;
	uint32_t n;

	maas_lock_take(&queue->take_lock);
	take_done(queue);
	first = atomic_load(&queue->taken);
	for (struct maas_op *op = first; op && to < end; op = op->next) {
		fill_in(to++, op);
		last = op;
	}
	if (last) {
		atomic_store(&queue->taken, last->next);
		last->next = NULL;
	}
	settle_event_fd(queue);
	maas_lock_release(&queue->take_lock);
	if (!last)
		return 0;
	n = (uint32_t)(to - ret_completions);
	maas->transport->release(maas, first, last);
	if (atomic_fetch_sub(&queue->held, n) == n)
		maas->transport->wake(maas); /* nothing is under way */
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
		wait = atomic_load(&maas->queue.held) && maas_clock_ms() < end_ms;
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
	maas_lock_take(&queue->take_lock);
	if (!atomic_exchange(&queue->watched, true) &&
	    (atomic_load(&queue->taken) || atomic_load(&queue->done)))
		eventfd_write(queue->event_fd, 1);
	maas_lock_release(&queue->take_lock);
	/* For operations that began before the queue was watched. */
	if (maas->transport->progress)
		maas->transport->progress(maas);
	return queue->epoll_fd >= 0 ? queue->epoll_fd : queue->event_fd;
}
