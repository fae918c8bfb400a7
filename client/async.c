/* SPDX-License-Identifier: Apache-2.0 */
#include "client/async.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---- the thread's life */

static void free_parts(struct maas_async *async)
{
	while (async->idle && async->num_idle)
		curl_easy_cleanup(async->idle[--async->num_idle]);
	if (async->multi)
		curl_multi_cleanup(async->multi);
	pthread_cond_destroy(&async->completed);
	pthread_mutex_destroy(&async->lock);
	free(async->idle);
	free(async);
}

static int start_thread(struct maas *maas, struct maas_async **ret_async)
{
	struct maas_async *async = calloc(1, sizeof(*async));
	long max = (long)maas->options.max_connections;
	int r = -ENOMEM;

	if (!async)
		return r;
	async->maas = maas;
	TAILQ_INIT(&async->running);
	TAILQ_INIT(&async->waiting);
	TAILQ_INIT(&async->done);
	pthread_mutex_init(&async->lock, NULL);
	if (maas_cond_init(&async->completed)) {
		free(async);
		return r;
	}
	async->idle = calloc(maas->options.max_connections, sizeof(*async->idle));
	async->multi = curl_multi_init();
	if (async->idle && async->multi) {
		curl_multi_setopt(async->multi, CURLMOPT_MAXCONNECTS, max);
		r = maas_thread_start(&async->thread, maas_async_run, async);
	}
	if (r)
		free_parts(async);
	else
		*ret_async = async;
	return r;
}

static int get_async(struct maas *maas, struct maas_async **ret_async)
{
	int r = 0;

	pthread_mutex_lock(&maas->async_lock);
	if (!maas->async)
		r = start_thread(maas, &maas->async);
	*ret_async = maas->async;
	pthread_mutex_unlock(&maas->async_lock);
	return r ? maas_fail(r, "no thread for submitted operations: %s", strerror(-r)) : 0;
}

static void free_ops(struct maas *maas, struct maas_ops *ops)
{
	struct maas_op *op;

	while ((op = TAILQ_FIRST(ops))) {
		TAILQ_REMOVE(ops, op, link);
		maas_op_free(maas, op);
	}
}

static void http_stop(struct maas *maas)
{
	struct maas_async *async = maas->async;

	if (!async)
		return;
	pthread_mutex_lock(&async->lock);
	async->stop = true;
	pthread_mutex_unlock(&async->lock);
	curl_multi_wakeup(async->multi);
	pthread_join(async->thread, NULL);
	free_ops(async->maas, &async->waiting);
	free_ops(async->maas, &async->done);
	free_parts(async);
}

/* ---- submit */

void maas_op_free(struct maas *maas, struct maas_op *op)
{
	for (uint32_t i = 0; i < op->count; i++)
		maas_buffer_put(maas, op->buffers[i]);
	maas_request_fini(&op->request);
	free(op);
}

static struct maas_op *new_op(const struct maas_range *ranges, uint32_t count)
{
	size_t each = sizeof(struct maas_range) + sizeof(struct maas_buffer *);
	struct maas_op *op = calloc(1, sizeof(*op) + count * each);

	if (op) {
		op->count = count;
		memcpy(op->ranges, ranges, count * sizeof(*ranges));
		op->buffers = (struct maas_buffer **)(void *)&op->ranges[count];
	}
	return op;
}

static int enqueue(struct maas_async *async, struct maas_op *op)
{
	int r = 0;

	pthread_mutex_lock(&async->lock);
	if (async->held == async->maas->options.max_submitted) {
		r = maas_fail(-EAGAIN, "%u operations are under way; take their completions first",
			      async->held);
	} else {
		TAILQ_INSERT_TAIL(&async->waiting, op, link);
		async->under_way++;
		async->held++;
	}
	pthread_mutex_unlock(&async->lock);
	if (!r)
		curl_multi_wakeup(async->multi);
	return r;
}

static int http_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		       uint32_t timeout_ms, void *user, bool read)
{
	struct maas_async *async;
	struct maas_op *op;
	int r;

	if (!count || count > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
	r = get_async(maas, &async);
	if (r)
		return r;
	op = new_op(ranges, count);
	if (!op)
		return maas_fail(-ENOMEM, "out of memory");
	op->read = read;
	op->user = user;
	op->deadline_ms = maas_clock_ms() + (timeout_ms ? timeout_ms : maas->options.timeout_ms);
	r = read ? maas_data_read_request(&op->request, op->ranges, count)
		 : maas_data_write_request(&op->request, op->ranges, count);
	if (r)
		goto err_free;
	for (uint32_t i = 0; i < count; i++)
		op->buffers[i] = maas_buffer_get(maas, ranges[i].buf, ranges[i].len);
	r = enqueue(async, op);
	if (r)
		goto err_free;
	return 0;

err_free:
	maas_op_free(maas, op);
	return r;
}

/* ---- poll */

/* Holds the lock. Moves up to `max` completions to `taken`. */
static uint32_t take(struct maas_async *async, struct maas_ops *taken, uint32_t max)
{
	struct maas_op *op;
	eventfd_t ignored;
	uint32_t n = 0;

	while (n < max && (op = TAILQ_FIRST(&async->done))) {
		TAILQ_REMOVE(&async->done, op, link);
		TAILQ_INSERT_TAIL(taken, op, link);
		n++;
	}
	if (n && TAILQ_EMPTY(&async->done))
		eventfd_read(async->maas->event_fd, &ignored);
	async->held -= n;
	return n;
}

/* Holds the lock. */
static void wait_done(struct maas_async *async, int timeout_ms)
{
	uint64_t until_ms = maas_clock_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);

	while (TAILQ_EMPTY(&async->done) && async->under_way) {
		if (timeout_ms < 0)
			pthread_cond_wait(&async->completed, &async->lock);
		else if (!maas_cond_wait_until(&async->completed, &async->lock, until_ms))
			break;
	}
}

static void give(struct maas *maas, struct maas_ops *taken, struct maas_completion *to)
{
	struct maas_op *op;

	while ((op = TAILQ_FIRST(taken))) {
		TAILQ_REMOVE(taken, op, link);
		to->user = op->user;
		to->status = op->status;
		memcpy(to->error, op->error, sizeof(to->error));
		to++;
		maas_op_free(maas, op);
	}
}

static int http_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
		     int timeout_ms)
{
	struct maas_ops taken = TAILQ_HEAD_INITIALIZER(taken);
	struct maas_async *async;
	int n;

	pthread_mutex_lock(&maas->async_lock);
	async = maas->async;
	pthread_mutex_unlock(&maas->async_lock);
	if (!async)
		return 0;
	pthread_mutex_lock(&async->lock);
	if (timeout_ms)
		wait_done(async, timeout_ms);
	n = (int)take(async, &taken, max);
	pthread_mutex_unlock(&async->lock);
	give(maas, &taken, ret_completions);
	return n;
}

static int http_event_fd(struct maas *maas)
{
	return maas->event_fd;
}

const struct maas_transport maas_transport_http = {
	.type = MAAS_TRANSPORT_HTTP,
	.stop = http_stop,
	.run = maas_http_run,
	.submit = http_submit,
	.poll = http_poll,
	.event_fd = http_event_fd,
};
