/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client/rdma_internal.h"

struct wanted {
	const struct maas_range *ranges;
	uint32_t count;
	bool read;
	bool submitted;
	void *user;
	uint64_t deadline_ms;
};

/* Sends it on its way; what has to be registered first is, with the lock dropped meanwhile. */
static int post(struct maas_verbs *verbs, struct maas_verbs_op *op)
{
	int r = maas_verbs_post(verbs, op);

	if (r != -EAGAIN)
		return r;
	pthread_mutex_unlock(&verbs->lock);
	r = maas_verbs_op_register(verbs, op);
	pthread_mutex_lock(&verbs->lock);
	return r ? r : maas_verbs_post(verbs, op);
}

static int start(struct maas_verbs *verbs, const struct wanted *wanted,
		 struct maas_verbs_op **ret_op)
{
	struct maas_verbs_op *op;
	int r;

	pthread_mutex_lock(&verbs->lock);
	op = maas_verbs_op_get(verbs);
	if (!op) {
		r = maas_fail(-EAGAIN, "too many operations are under way");
		goto out;
	}
	r = maas_verbs_op_fill(op, wanted->ranges, wanted->count);
	if (r)
		goto err_put;
	op->read = wanted->read;
	op->submitted = wanted->submitted;
	op->user = wanted->user;
	atomic_store(&op->deadline_ms, wanted->deadline_ms);
	*ret_op = op;
	r = post(verbs, op);
	if (r)
		goto err_release;
	/* The thread sleeps until the first deadline that it knows of. */
	if (wanted->deadline_ms < atomic_load(&verbs->next_ms))
		maas_verbs_thread_wake(verbs);
	goto out;

err_release:
	maas_verbs_op_release(verbs, op);
err_put:
	maas_verbs_op_put(verbs, op);
out:
	pthread_mutex_unlock(&verbs->lock);
	return r;
}

static int check_count(uint32_t count)
{
	if (count && count <= MAAS_MAX_BATCH)
		return 0;
	return maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
}

/* ---- calls that wait */

static int take_turn(struct maas_verbs *verbs, uint64_t deadline_ms)
{
	struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000),
				 .tv_nsec = (long)(deadline_ms % 1000) * 1000000L};

	while (sem_clockwait(&verbs->waits, CLOCK_MONOTONIC, &until))
		if (errno != EINTR)
			return maas_fail(-ETIMEDOUT, "%d other calls were under way all the time",
					 MAAS_VERBS_WAITS);
	return 0;
}

int maas_verbs_run(struct maas *maas, const struct maas_range *ranges, uint32_t count, bool read)
{
	struct maas_verbs *verbs = maas->verbs;
	struct wanted wanted = {
		.ranges = ranges,
		.count = count,
		.read = read,
		.deadline_ms = maas_clock_ms() + maas->options.timeout_ms,
	};
	struct maas_verbs_op *op;
	int r = check_count(count);

	if (!r)
		r = take_turn(verbs, wanted.deadline_ms);
	if (r)
		return r;
	r = start(verbs, &wanted, &op);
	if (!r) {
		maas_verbs_wait_op(verbs, op);
		r = op->status;
		/* The thread's own sentence may be of what it completed for others. */
		if (r)
			maas_error_set("%s", op->error);
		else
			maas_error_clear();
		maas_verbs_op_put(verbs, op);
	}
	sem_post(&verbs->waits);
	return r;
}

/* ---- submitted ones */

/* Counted before it starts: it may end before this returns. */
static int hold(struct maas_verbs *verbs)
{
	uint32_t max = verbs->maas->options.max_submitted;

	if (atomic_fetch_add(&verbs->held, 1) < max) {
		atomic_fetch_add(&verbs->under_way, 1);
		return 0;
	}
	atomic_fetch_sub(&verbs->held, 1);
	return maas_fail(-EAGAIN, "%u operations are under way; take their completions first", max);
}

int maas_verbs_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user, bool read)
{
	struct maas_verbs *verbs = maas->verbs;
	struct wanted wanted = {
		.ranges = ranges,
		.count = count,
		.read = read,
		.submitted = true,
		.user = user,
	};
	struct maas_verbs_op *op;
	int r = check_count(count);

	if (!r)
		r = hold(verbs);
	if (r)
		return r;
	wanted.deadline_ms = maas_clock_ms() + (timeout_ms ? timeout_ms : maas->options.timeout_ms);
	r = start(verbs, &wanted, &op);
	if (r) {
		atomic_fetch_sub(&verbs->under_way, 1);
		atomic_fetch_sub(&verbs->held, 1);
	} else {
		maas_error_clear(); /* what failed at once says so by its completion */
	}
	return r;
}

/* Holds take_lock. What ended since the last look, oldest first. */
static struct maas_verbs_op *take_done(struct maas_verbs *verbs)
{
	struct maas_verbs_op *latest = atomic_exchange(&verbs->done, NULL);
	struct maas_verbs_op *oldest = NULL;

	while (latest) {
		struct maas_verbs_op *op = latest;

		latest = op->next;
		op->next = oldest;
		oldest = op;
	}
	return oldest;
}

/* Holds take_lock. Readable as long as there is something to take, and no longer. */
static void settle_event_fd(struct maas_verbs *verbs)
{
	eventfd_t ignored;

	if (!atomic_load(&verbs->polled_by_event) || verbs->taken)
		return;
	eventfd_read(verbs->maas->event_fd, &ignored);
	if (atomic_load(&verbs->done))
		eventfd_write(verbs->maas->event_fd, 1);
}

static void give(struct maas_completion *to, const struct maas_verbs_op *op)
{
	to->user = op->user;
	to->status = op->status;
	if (op->status)
		memcpy(to->error, op->error, sizeof(to->error));
	else
		to->error[0] = '\0';
}

static uint32_t take(struct maas_verbs *verbs, struct maas_completion *ret_completions,
		     uint32_t max)
{
	uint32_t n = 0;

	pthread_mutex_lock(&verbs->take_lock);
	while (n < max) {
		struct maas_verbs_op *op;

		if (!verbs->taken)
			verbs->taken = take_done(verbs);
		op = verbs->taken;
		if (!op)
			break;
		verbs->taken = op->next;
		give(&ret_completions[n++], op);
		maas_verbs_op_put(verbs, op);
	}
	settle_event_fd(verbs);
	pthread_mutex_unlock(&verbs->take_lock);
	atomic_fetch_sub(&verbs->held, n);
	return n;
}

int maas_verbs_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
		    int timeout_ms)
{
	struct maas_verbs *verbs = maas->verbs;
	uint32_t n;

	maas_verbs_glance(verbs);
	n = take(verbs, ret_completions, max);
	if (!n && timeout_ms) {
		maas_verbs_wait_done(verbs, timeout_ms);
		n = take(verbs, ret_completions, max);
	}
	maas_error_clear(); /* what failed says so by its completion */
	return (int)n;
}

/* ---- the event fd: something was completed, or the device says that it will soon be */

static int add(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int maas_verbs_event_fd(struct maas *maas)
{
	struct maas_verbs *verbs = maas->verbs;
	int r = 0;

	pthread_mutex_lock(&verbs->take_lock);
	if (!atomic_load(&verbs->polled_by_event)) {
		r = add(verbs->epoll_fd, verbs->device.channel->fd);
		if (!r)
			r = add(verbs->epoll_fd, verbs->maas->event_fd);
		atomic_store(&verbs->polled_by_event, true);
		if (verbs->taken || atomic_load(&verbs->done))
			eventfd_write(verbs->maas->event_fd, 1);
	}
	pthread_mutex_unlock(&verbs->take_lock);
	if (r)
		return maas_fail(r, "no event file descriptor: %s", strerror(-r));
	/* What was posted without an event in mind. */
	maas_verbs_glance(verbs);
	return verbs->epoll_fd;
}
