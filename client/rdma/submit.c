/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>

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
	op->base.user = wanted->user;
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
	int r = take_turn(rdma, wanted.deadline_ms);

	if (r)
		return r;
	r = start(rdma, &wanted, &op);
	if (!r) {
		maas_rdma_client_wait_op(rdma, op);
		r = op->base.status;
		/* The thread's own sentence may be of what it completed for others. */
		if (r)
			maas_error_set("%s", op->base.error);
		else
			maas_error_clear();
		maas_rdma_client_op_put(rdma, op);
	}
	sem_post(&rdma->waits);
	return r;
}

/* ---- submitted ones */

int maas_rdma_client_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			    uint64_t deadline_ms, void *user, bool read)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct wanted wanted = {
		.ranges = ranges,
		.count = count,
		.read = read,
		.submitted = true,
		.user = user,
		.deadline_ms = deadline_ms,
	};
	struct maas_rdma_client_op *op;
	int r = maas_queue_hold(&maas->queue);

	if (r)
		return r;
	r = start(rdma, &wanted, &op);
	if (r) {
		maas_queue_unhold(&maas->queue);
		maas_rdma_client_wake(rdma);
	}
	return r;
}

void maas_rdma_client_release(struct maas *maas, struct maas_op *base)
{
	maas_rdma_client_op_put(maas->rdma, (struct maas_rdma_client_op *)base);
}
