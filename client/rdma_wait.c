/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever waits polls, for all: the first takes the role, the others sleep until it is free again
 * or their own wait is over. The poller spins for a moment, then sleeps until the completion
 * channel, or somebody's kick, wakes it.
 */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "client/rdma_internal.h"

#define SPIN_NS	   100000 /* longer than a small transfer takes, shorter than a time slice */
#define SPIN_TURNS 16	  /* between looks at the clock */
#define SLICE_MS   100	  /* between looks at deadlines, when they are over or not known */

/* ---- the role */

bool maas_verbs_role_try(struct maas_verbs *verbs)
{
	return !atomic_load(&verbs->seizing) && !atomic_exchange(&verbs->polling, true);
}

void maas_verbs_role_seize(struct maas_verbs *verbs)
{
	atomic_store(&verbs->seizing, true);
	eventfd_write(verbs->kick_fd, 1);
	pthread_mutex_lock(&verbs->wait_lock);
	atomic_fetch_add(&verbs->waits_here, 1);
	while (atomic_exchange(&verbs->polling, true))
		pthread_cond_wait(&verbs->changed, &verbs->wait_lock);
	atomic_fetch_sub(&verbs->waits_here, 1);
	pthread_mutex_unlock(&verbs->wait_lock);
	atomic_store(&verbs->seizing, false);
}

static void arm(struct maas_verbs *verbs)
{
	if (!atomic_exchange(&verbs->armed, true))
		ibv_req_notify_cq(verbs->device.cq, 0);
}

/* Who waits by poll(2) hears of a completion only if it was asked for before it came. */
void maas_verbs_role_put(struct maas_verbs *verbs)
{
	if (atomic_load(&verbs->polled_by_event) && atomic_load(&verbs->posted) &&
	    !atomic_load(&verbs->armed)) {
		arm(verbs);
		maas_verbs_drain(verbs);
	}
	atomic_store(&verbs->polling, false);
	maas_verbs_wake(verbs);
}

void maas_verbs_wake(struct maas_verbs *verbs)
{
	if (atomic_load(&verbs->sleeping))
		eventfd_write(verbs->kick_fd, 1);
	if (!atomic_load(&verbs->waits_here))
		return;
	pthread_mutex_lock(&verbs->wait_lock);
	pthread_cond_broadcast(&verbs->changed);
	pthread_mutex_unlock(&verbs->wait_lock);
}

/* ---- with the role */

/* What ends a wait: the end of `op`, or, where that is NULL, of any submitted operation. */
static bool is_over(struct maas_verbs *verbs, const struct maas_verbs_op *op)
{
	if (op)
		return atomic_load(&op->state) == MAAS_OP_DONE;
	return atomic_load(&verbs->done) || !atomic_load(&verbs->under_way);
}

static void take_events(struct maas_verbs *verbs)
{
	struct ibv_cq *cq;
	void *context;
	unsigned int count = 0;

	if (!atomic_load(&verbs->armed))
		return;
	while (ibv_get_cq_event(verbs->device.channel, &cq, &context) == 0)
		count++;
	if (!count)
		return;
	atomic_store(&verbs->armed, false);
	ibv_ack_cq_events(verbs->device.cq, count);
}

static void spin(struct maas_verbs *verbs, const struct maas_verbs_op *op)
{
	uint64_t until_ns = 0;

	for (unsigned int turn = 1; !is_over(verbs, op) && !atomic_load(&verbs->seizing); turn++) {
		if (maas_verbs_drain(verbs))
			until_ns = 0;
		else if (!until_ns)
			until_ns = maas_clock_ns() + SPIN_NS;
		else if (turn % SPIN_TURNS == 0 && maas_clock_ns() >= until_ns)
			return;
	}
}

static void sleep_until(struct maas_verbs *verbs, const struct maas_verbs_op *op, uint64_t until_ms)
{
	struct pollfd fds[] = {
		{.fd = verbs->device.channel->fd, .events = POLLIN},
		{.fd = verbs->kick_fd, .events = POLLIN},
	};
	uint64_t now_ms = maas_clock_ms();
	eventfd_t ignored;

	/* Whoever changes something looks at `sleeping` afterwards. */
	atomic_store(&verbs->sleeping, true);
	if (now_ms < until_ms && !is_over(verbs, op) && !atomic_load(&verbs->seizing)) {
		uint64_t left_ms = until_ms - now_ms;

		poll(fds, MAAS_ARRAY_SIZE(fds), left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
	}
	atomic_store(&verbs->sleeping, false);
	if (fds[1].revents)
		eventfd_read(verbs->kick_fd, &ignored);
	take_events(verbs);
}

static void poll_for(struct maas_verbs *verbs, const struct maas_verbs_op *op, uint64_t until_ms)
{
	take_events(verbs);
	spin(verbs, op);
	while (!is_over(verbs, op) && !atomic_load(&verbs->seizing) && maas_clock_ms() < until_ms) {
		arm(verbs);
		if (!maas_verbs_drain(verbs))
			sleep_until(verbs, op, until_ms);
		maas_verbs_drain(verbs);
	}
}

/* ---- with or without it */

/* Until the role is free, or not needed. */
static void wait_turn(struct maas_verbs *verbs, const struct maas_verbs_op *op, uint64_t until_ms)
{
	bool more = true;

	pthread_mutex_lock(&verbs->wait_lock);
	atomic_fetch_add(&verbs->waits_here, 1);
	while (more && !is_over(verbs, op) &&
	       (atomic_load(&verbs->seizing) || atomic_load(&verbs->polling)))
		more = maas_cond_wait_until(&verbs->changed, &verbs->wait_lock, until_ms);
	atomic_fetch_sub(&verbs->waits_here, 1);
	pthread_mutex_unlock(&verbs->wait_lock);
}

static void wait_until(struct maas_verbs *verbs, const struct maas_verbs_op *op, uint64_t until_ms)
{
	if (maas_verbs_role_try(verbs)) {
		poll_for(verbs, op, until_ms);
		maas_verbs_role_put(verbs);
	} else {
		wait_turn(verbs, op, until_ms);
	}
}

/* The thread ends what is posted when its time is over, but may itself be waiting for the server:
 * what is queued is ended here. */
void maas_verbs_wait_op(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	uint64_t deadline_ms = atomic_load(&op->deadline_ms);

	while (!is_over(verbs, op)) {
		uint64_t now_ms = maas_clock_ms();

		wait_until(verbs, op, now_ms < deadline_ms ? deadline_ms : now_ms + SLICE_MS);
		if (!is_over(verbs, op) && maas_clock_ms() >= deadline_ms)
			maas_verbs_expire(verbs);
	}
}

void maas_verbs_wait_done(struct maas_verbs *verbs, int timeout_ms)
{
	uint64_t end_ms = timeout_ms < 0 ? UINT64_MAX : maas_clock_ms() + (uint64_t)timeout_ms;
	uint64_t now_ms;

	do {
		uint64_t slice_ms;

		now_ms = maas_clock_ms();
		slice_ms = now_ms + (atomic_load(&verbs->num_todo) ? SLICE_MS : INT32_MAX);
		wait_until(verbs, NULL, slice_ms < end_ms ? slice_ms : end_ms);
		if (atomic_load(&verbs->num_todo))
			maas_verbs_expire(verbs);
	} while (!is_over(verbs, NULL) && maas_clock_ms() < end_ms);
}

void maas_verbs_glance(struct maas_verbs *verbs)
{
	if (!maas_verbs_role_try(verbs))
		return; /* who has it looks for all */
	take_events(verbs);
	maas_verbs_drain(verbs);
	maas_verbs_role_put(verbs);
}
