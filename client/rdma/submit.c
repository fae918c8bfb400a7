/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client/rdma/internal.h"

struct wanted {
	const struct maas_range *ranges;
	uint32_t count;
	bool read;
	bool submitted;
	void *user;
	uint64_t deadline_ms;
};

/* Sends it on its way; what has to be registered first is, with the lock dropped meanwhile. */
static int post(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op)
{
	int r = maas_rdma_client_post(rdma, op);

	if (r != -EAGAIN)
		return r;
	pthread_mutex_unlock(&rdma->lock);
	r = maas_rdma_client_op_register(rdma, op);
	pthread_mutex_lock(&rdma->lock);
	return r ? r : maas_rdma_client_post(rdma, op);
}

static int start(struct maas_rdma_client *rdma, const struct wanted *wanted,
		 struct maas_rdma_client_op **ret_op)
{
	struct maas_rdma_client_op *op;
	int r;

	pthread_mutex_lock(&rdma->lock);
	op = maas_rdma_client_op_get(rdma);
	if (!op) {
		r = maas_fail(-EAGAIN, "too many operations are under way");
		goto out;
	}
	r = maas_rdma_client_op_fill(op, wanted->ranges, wanted->count);
	if (r)
		goto err_put;
	op->read = wanted->read;
	op->submitted = wanted->submitted;
	op->user = wanted->user;
	atomic_store(&op->deadline_ms, wanted->deadline_ms);
	*ret_op = op;
	r = post(rdma, op);
	if (r)
		goto err_release;
	/* The thread sleeps until the first deadline that it knows of. */
	if (wanted->deadline_ms < atomic_load(&rdma->next_ms))
		maas_rdma_client_thread_wake(rdma);
	goto out;

err_release:
	maas_rdma_client_op_release(rdma, op);
err_put:
	maas_rdma_client_op_put(rdma, op);
out:
	pthread_mutex_unlock(&rdma->lock);
	return r;
}

static int check_count(uint32_t count)
{
	if (count && count <= MAAS_MAX_BATCH)
		return 0;
	return maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
}

/* ---- calls that wait */

static int take_turn(struct maas_rdma_client *rdma, uint64_t deadline_ms)
{
	struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000),
				 .tv_nsec = (long)(deadline_ms % 1000) * 1000000L};

	while (sem_clockwait(&rdma->waits, CLOCK_MONOTONIC, &until))
		if (errno != EINTR)
			return maas_fail(-ETIMEDOUT, "%d other calls were under way all the time",
					 MAAS_RDMA_WAITS);
	return 0;
}

int maas_rdma_client_run(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			 bool read)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct wanted wanted = {
		.ranges = ranges,
		.count = count,
		.read = read,
		.deadline_ms = maas_clock_ms() + maas->options.timeout_ms,
	};
	struct maas_rdma_client_op *op;
	int r = check_count(count);

	if (!r)
		r = take_turn(rdma, wanted.deadline_ms);
	if (r)
		return r;
	r = start(rdma, &wanted, &op);
	if (!r) {
		maas_rdma_client_wait_op(rdma, op);
		r = op->status;
		/* The thread's own sentence may be of what it completed for others. */
		if (r)
			maas_error_set("%s", op->error);
		else
			maas_error_clear();
		maas_rdma_client_op_put(rdma, op);
	}
	sem_post(&rdma->waits);
	return r;
}

/* ---- submitted ones */

/* Counted before it starts: it may end before this returns. */
static int hold(struct maas_rdma_client *rdma)
{
	uint32_t max = rdma->maas->options.max_submitted;

	if (atomic_fetch_add(&rdma->held, 1) < max) {
		atomic_fetch_add(&rdma->under_way, 1);
		return 0;
	}
	atomic_fetch_sub(&rdma->held, 1);
	return maas_fail(-EAGAIN, "%u operations are under way; take their completions first", max);
}

int maas_rdma_client_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			    uint32_t timeout_ms, void *user, bool read)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct wanted wanted = {
		.ranges = ranges,
		.count = count,
		.read = read,
		.submitted = true,
		.user = user,
	};
	struct maas_rdma_client_op *op;
	int r = check_count(count);

	if (!r)
		r = hold(rdma);
	if (r)
		return r;
	wanted.deadline_ms = maas_clock_ms() + (timeout_ms ? timeout_ms : maas->options.timeout_ms);
	r = start(rdma, &wanted, &op);
	if (r) {
		atomic_fetch_sub(&rdma->under_way, 1);
		atomic_fetch_sub(&rdma->held, 1);
	} else {
		maas_error_clear(); /* what failed at once says so by its completion */
	}
	return r;
}

/* Holds take_lock. What ended since the last look, oldest first. */
static struct maas_rdma_client_op *take_done(struct maas_rdma_client *rdma)
{
	struct maas_rdma_client_op *latest = atomic_exchange(&rdma->done, NULL);
	struct maas_rdma_client_op *oldest = NULL;

	while (latest) {
		struct maas_rdma_client_op *op = latest;

		latest = op->next;
		op->next = oldest;
		oldest = op;
	}
	return oldest;
}

/* Holds take_lock. Readable as long as there is something to take, and no longer. */
static void settle_event_fd(struct maas_rdma_client *rdma)
{
	eventfd_t ignored;

	if (!atomic_load(&rdma->polled_by_event) || rdma->taken)
		return;
	eventfd_read(rdma->maas->event_fd, &ignored);
	if (atomic_load(&rdma->done))
		eventfd_write(rdma->maas->event_fd, 1);
}

static void give(struct maas_completion *to, const struct maas_rdma_client_op *op)
{
	to->user = op->user;
	to->status = op->status;
	if (op->status)
		memcpy(to->error, op->error, sizeof(to->error));
	else
		to->error[0] = '\0';
}

static uint32_t take(struct maas_rdma_client *rdma, struct maas_completion *ret_completions,
		     uint32_t max)
{
	uint32_t n = 0;

	pthread_mutex_lock(&rdma->take_lock);
	while (n < max) {
		struct maas_rdma_client_op *op;

		if (!rdma->taken)
			rdma->taken = take_done(rdma);
		op = rdma->taken;
		if (!op)
			break;
		rdma->taken = op->next;
		give(&ret_completions[n++], op);
		maas_rdma_client_op_put(rdma, op);
	}
	settle_event_fd(rdma);
	pthread_mutex_unlock(&rdma->take_lock);
	atomic_fetch_sub(&rdma->held, n);
	return n;
}

int maas_rdma_client_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
			  int timeout_ms)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint32_t n;

	maas_rdma_client_glance(rdma);
	n = take(rdma, ret_completions, max);
	if (!n && timeout_ms) {
		maas_rdma_client_wait_done(rdma, timeout_ms);
		n = take(rdma, ret_completions, max);
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

int maas_rdma_client_event_fd(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;
	int r = 0;

	pthread_mutex_lock(&rdma->take_lock);
	if (!atomic_load(&rdma->polled_by_event)) {
		r = add(rdma->epoll_fd, rdma->device.channel->fd);
		if (!r)
			r = add(rdma->epoll_fd, rdma->maas->event_fd);
		atomic_store(&rdma->polled_by_event, true);
		if (rdma->taken || atomic_load(&rdma->done))
			eventfd_write(rdma->maas->event_fd, 1);
	}
	pthread_mutex_unlock(&rdma->take_lock);
	if (r)
		return maas_fail(r, "no event file descriptor: %s", strerror(-r));
	/* What was posted without an event in mind. */
	maas_rdma_client_glance(rdma);
	return rdma->epoll_fd;
}
