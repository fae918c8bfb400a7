/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Polling, waiting and waking. Any thread that waits polls, for all: the first takes the role of
 * the poller (`polling`), the others sleep on `changed` until the role is free or their own wait
 * is over. The poller spins for a moment, then sleeps in poll(2) until the completion channel or
 * a write to kick_fd wakes it.
 *
 * Why no wake-up is lost. "News" is anything that can end a wait: the state of an operation, the
 * queue's completions, the role, the connection, a turn. Each pair below works alike: one thread
 * stores the first and then loads the second, another thread stores the second and then loads the
 * first. All these atomics are sequentially consistent, so at least one of the two threads sees
 * the other's store: either the one does not sleep, or the other wakes it.
 *
 *   sleeping, news      The poller stores `sleeping`, then looks for news (sleep_until()). A
 *                       thread with news stores the news, then looks at `sleeping` and writes
 *                       kick_fd (maas_rdma_client_wake()). kick_fd stays readable until the
 *                       poller reads it, and after that the poller looks for news again.
 *   waits_here, news    A thread that cannot poll counts itself in `waits_here`, then looks for
 *                       news. A thread with news stores the news, then looks at `waits_here`.
 *                       The waiter holds wait_lock from its look to its sleep, and `changed` is
 *                       broadcast with wait_lock only. A free role is news: role_put() clears
 *                       `polling`, then wakes.
 *   seizing             Needs no pair: role_seize() sets it, then always writes kick_fd. The
 *                       poller looks at `seizing` before each sleep and after each kick. Other
 *                       threads do not take the role meanwhile; role_put() wakes them in the
 *                       end.
 *   armed, completions  `armed` says that an event was asked for and not yet taken. The poller
 *                       polls once more after it has armed; a thread that posts arms before it
 *                       posts. So a completion is found by that poll, or it makes an event, and
 *                       the channel stays readable until the poller takes the event. Only the
 *                       poller clears `armed`, and it polls next.
 *   watched, posted     A thread that posts counts the operation in `posted`, then looks whether
 *                       the queue is `watched`, and arms if so. maas_event_fd() sets `watched`,
 *                       then takes and puts the role, or finds that another thread has it. In
 *                       either case role_put() looks at both afterwards, and arms.
 *
 * Two more pairs are explained where they are used: `posted` and `num_waiting` in post.c,
 * `next_ms` and the deadlines in thread.c. The queue's own are in client/queue.c.
 */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "client/rdma/internal.h"

#define SPIN_NS	   100000 /* longer than a small transfer takes, shorter than a time slice */
#define SPIN_TURNS 16	  /* between looks at the clock */
#define SLICE_MS   100	  /* between looks at deadlines, when they are over or not known */

/* ---- the role */

bool maas_rdma_client_role_try(struct maas_rdma_client *rdma)
{
	return !atomic_load(&rdma->seizing) && !atomic_exchange(&rdma->polling, true);
}

void maas_rdma_client_role_seize(struct maas_rdma_client *rdma)
{
	atomic_store(&rdma->seizing, true);
	eventfd_write(rdma->kick_fd, 1); /* the poller may have looked at `seizing` before */
	pthread_mutex_lock(&rdma->wait_lock);
	atomic_fetch_add(&rdma->waits_here, 1); /* pairs with `polling` */
	while (atomic_exchange(&rdma->polling, true))
		pthread_cond_wait(&rdma->changed, &rdma->wait_lock);
	atomic_fetch_sub(&rdma->waits_here, 1);
	pthread_mutex_unlock(&rdma->wait_lock);
	atomic_store(&rdma->seizing, false);
}

/* With the role; the caller polls afterwards. */
static void arm(struct maas_rdma_client *rdma)
{
	if (!atomic_exchange(&rdma->armed, true)) {
		ibv_req_notify_cq(rdma->device.cq, 0);
		return;
	}
	/* A thread that posts sets `armed` and asks for the event with the lock held: once the lock
	 * is free, the event has been asked for. */
	maas_lock_take(&rdma->lock);
	maas_lock_release(&rdma->lock);
}

/* When `armed` is set, an event is asked for, or a thread is about to ask and to post: then at the
 * latest the completion of that post makes an event for all before it. */
void maas_rdma_client_role_put(struct maas_rdma_client *rdma)
{
	if (atomic_load(&rdma->maas->queue.watched) && atomic_load(&rdma->posted) &&
	    !atomic_load(&rdma->armed)) {
		arm(rdma);
		maas_rdma_client_drain(rdma);
	}
	atomic_store(&rdma->polling, false); /* news: pairs with waits_here */
	maas_rdma_client_wake(rdma);
}

void maas_rdma_client_wake_all(struct maas_rdma_client *rdma)
{
	if (atomic_load(&rdma->sleeping)) /* pairs with the poller's store in sleep_until() */
		eventfd_write(rdma->kick_fd, 1);
	if (!atomic_load(&rdma->waits_here)) /* pairs with its increments */
		return;
	pthread_mutex_lock(&rdma->wait_lock);
	pthread_cond_broadcast(&rdma->changed);
	pthread_mutex_unlock(&rdma->wait_lock);
}

/* ---- turns: the pool has operations for so many calls that wait */

int maas_rdma_client_turn_wait(struct maas_rdma_client *rdma, uint64_t deadline_ms)
{
	bool more = true;

	while (atomic_load(&rdma->num_calls) >= MAAS_RDMA_WAITS) {
		if (!more)
			return maas_fail(-ETIMEDOUT, "%d other calls were under way all the time",
					 MAAS_RDMA_WAITS);
		maas_lock_release(&rdma->lock);
		pthread_mutex_lock(&rdma->wait_lock);
		atomic_fetch_add(&rdma->waits_here, 1); /* pairs with num_calls */
		while (more && atomic_load(&rdma->num_calls) >= MAAS_RDMA_WAITS)
			more = maas_cond_wait_until(&rdma->changed, &rdma->wait_lock, deadline_ms);
		atomic_fetch_sub(&rdma->waits_here, 1);
		pthread_mutex_unlock(&rdma->wait_lock);
		maas_lock_take(&rdma->lock);
	}
	return 0;
}

/* ---- with the role */

/* What ends a wait: the end of `op`, or, where that is NULL, of any submitted operation. */
static bool is_over(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op)
{
	if (op)
		return atomic_load(&op->state) == MAAS_OP_DONE;
	return maas_queue_ready(&rdma->maas->queue);
}

static void take_armed(struct maas_rdma_client *rdma)
{
	struct ibv_cq *cq;
	void *context;
	unsigned int count = 0;

	while (ibv_get_cq_event(rdma->device.channel, &cq, &context) == 0)
		count++;
	if (!count)
		return;
	/* A thread that posts and still finds `armed` set has counted its operation in `posted`
	 * before: this thread arms again before it sleeps, or in role_put(), which sees `posted`.
	 */
	atomic_store(&rdma->armed, false);
	ibv_ack_cq_events(rdma->device.cq, count);
}

static void take_events(struct maas_rdma_client *rdma)
{
	if (atomic_load(&rdma->armed))
		take_armed(rdma);
}

/* Returns whether the wait is over, as do the next ones. */
static bool spin(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op)
{
	uint64_t until_ns = 0;

	for (unsigned int turn = 1; !atomic_load(&rdma->seizing); turn++) {
		unsigned int completions = maas_rdma_client_drain(rdma);

		if (is_over(rdma, op))
			return true;
		if (completions)
			until_ns = 0;
		else if (!until_ns)
			until_ns = maas_clock_ns() + SPIN_NS;
		else if (turn % SPIN_TURNS == 0 && maas_clock_ns() >= until_ns)
			return false;
	}
	return false;
}

static void sleep_until(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op,
			uint64_t until_ms)
{
	struct pollfd fds[] = {
		{.fd = rdma->device.channel->fd, .events = POLLIN},
		{.fd = rdma->kick_fd, .events = POLLIN},
	};
	uint64_t now_ms = maas_clock_ms();
	eventfd_t ignored;

	atomic_store(&rdma->sleeping, true); /* pairs with the news looked for next */
	if (now_ms < until_ms && !is_over(rdma, op) && !atomic_load(&rdma->seizing)) {
		uint64_t left_ms = until_ms - now_ms;

		poll(fds, MAAS_ARRAY_SIZE(fds), left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
	}
	atomic_store(&rdma->sleeping, false);
	if (fds[1].revents)
		eventfd_read(rdma->kick_fd, &ignored);
	take_events(rdma);
}

static bool poll_for(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op,
		     uint64_t until_ms)
{
	bool over;

	take_events(rdma);
	over = spin(rdma, op);
	while (!over && !atomic_load(&rdma->seizing) && maas_clock_ms() < until_ms) {
		arm(rdma);
		if (!maas_rdma_client_drain(rdma))
			sleep_until(rdma, op, until_ms);
		maas_rdma_client_drain(rdma);
		over = is_over(rdma, op);
	}
	return over;
}

/* ---- with or without it */

/* Until the role is free, or not needed. */
static void wait_turn(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op,
		      uint64_t until_ms)
{
	bool more = true;

	pthread_mutex_lock(&rdma->wait_lock);
	atomic_fetch_add(&rdma->waits_here, 1); /* pairs with the news looked for next */
	while (more && !is_over(rdma, op) &&
	       (atomic_load(&rdma->seizing) || atomic_load(&rdma->polling)))
		more = maas_cond_wait_until(&rdma->changed, &rdma->wait_lock, until_ms);
	atomic_fetch_sub(&rdma->waits_here, 1);
	pthread_mutex_unlock(&rdma->wait_lock);
}

static bool wait_until(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op,
		       uint64_t until_ms)
{
	bool over;

	if (!maas_rdma_client_role_try(rdma)) {
		wait_turn(rdma, op, until_ms);
		return is_over(rdma, op);
	}
	over = poll_for(rdma, op, until_ms);
	maas_rdma_client_role_put(rdma);
	return over;
}

/* The thread ends what is posted when its time is over, but may itself be waiting for the server:
 * what is queued is ended here. */
MAAS_COLD static void wait_on(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	uint64_t deadline_ms = atomic_load(&op->deadline_ms);
	uint64_t until_ms;

	do {
		uint64_t now_ms = maas_clock_ms();

		until_ms = deadline_ms;
		if (now_ms >= deadline_ms) {
			until_ms = now_ms + SLICE_MS;
			maas_rdma_client_expire(rdma);
		}
	} while (!wait_until(rdma, op, until_ms));
}

void maas_rdma_client_wait_op(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	if (!wait_until(rdma, op, atomic_load(&op->deadline_ms)))
		wait_on(rdma, op);
}

void maas_rdma_client_wait(struct maas *maas, uint64_t until_ms)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint64_t slice_ms = maas_clock_ms() + SLICE_MS;

	if (atomic_load(&rdma->num_todo) && slice_ms < until_ms)
		until_ms = slice_ms;
	wait_until(rdma, NULL, until_ms);
	if (atomic_load(&rdma->num_todo))
		maas_rdma_client_expire(rdma);
}

void maas_rdma_client_progress(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;

	if (!maas_rdma_client_role_try(rdma))
		return; /* who has it looks for all */
	take_events(rdma);
	maas_rdma_client_drain(rdma);
	maas_rdma_client_role_put(rdma);
}
