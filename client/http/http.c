/* SPDX-License-Identifier: Apache-2.0 */
#include "client/http/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---- the thread's life */

static void free_parts(struct maas_http_client *http)
{
	while (http->idle && http->num_idle)
		curl_easy_cleanup(http->idle[--http->num_idle]);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	pthread_cond_destroy(&http->completed);
	pthread_mutex_destroy(&http->lock);
	free(http->idle);
	free(http);
}

static int start_thread(struct maas *maas, struct maas_http_client **ret_http)
{
	struct maas_http_client *http = calloc(1, sizeof(*http));
	long max = (long)maas->options.max_connections;
	int r = -ENOMEM;

	if (!http)
		return r;
	http->maas = maas;
	TAILQ_INIT(&http->running);
	TAILQ_INIT(&http->waiting);
	TAILQ_INIT(&http->done);
	pthread_mutex_init(&http->lock, NULL);
	if (maas_cond_init(&http->completed)) {
		free(http);
		return r;
	}
	http->idle = calloc(maas->options.max_connections, sizeof(*http->idle));
	http->multi = curl_multi_init();
	if (http->idle && http->multi) {
		curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, max);
		r = maas_thread_start(&http->thread, maas_http_client_thread, http);
	}
	if (r)
		free_parts(http);
	else
		*ret_http = http;
	return r;
}

static int get_http(struct maas *maas, struct maas_http_client **ret_http)
{
	int r = 0;

	pthread_mutex_lock(&maas->http_lock);
	if (!maas->http)
		r = start_thread(maas, &maas->http);
	*ret_http = maas->http;
	pthread_mutex_unlock(&maas->http_lock);
	return r ? maas_fail(r, "no thread for submitted operations: %s", strerror(-r)) : 0;
}

static void free_ops(struct maas *maas, struct maas_ops *ops)
{
	struct maas_op *op;

	while ((op = TAILQ_FIRST(ops))) {
		TAILQ_REMOVE(ops, op, link);
		maas_http_client_op_free(maas, op);
	}
}

static void http_stop(struct maas *maas)
{
	struct maas_http_client *http = maas->http;

	if (!http)
		return;
	pthread_mutex_lock(&http->lock);
	http->stop = true;
	pthread_mutex_unlock(&http->lock);
	curl_multi_wakeup(http->multi);
	pthread_join(http->thread, NULL);
	free_ops(http->maas, &http->waiting);
	free_ops(http->maas, &http->done);
	free_parts(http);
}

/* ---- submit */

void maas_http_client_op_free(struct maas *maas, struct maas_op *op)
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

static int enqueue(struct maas_http_client *http, struct maas_op *op)
{
	int r = 0;

	pthread_mutex_lock(&http->lock);
	if (http->held == http->maas->options.max_submitted) {
		r = maas_fail(-EAGAIN, "%u operations are under way; take their completions first",
			      http->held);
	} else {
		TAILQ_INSERT_TAIL(&http->waiting, op, link);
		http->under_way++;
		http->held++;
	}
	pthread_mutex_unlock(&http->lock);
	if (!r)
		curl_multi_wakeup(http->multi);
	return r;
}

static int http_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		       uint32_t timeout_ms, void *user, bool read)
{
	struct maas_http_client *http;
	struct maas_op *op;
	int r;

	if (!count || count > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
	r = get_http(maas, &http);
	if (r)
		return r;
	op = new_op(ranges, count);
	if (!op)
		return maas_fail(-ENOMEM, "out of memory");
	op->read = read;
	op->user = user;
	op->deadline_ms = maas_clock_ms() + (timeout_ms ? timeout_ms : maas->options.timeout_ms);
	r = read ? maas_http_client_read_request(&op->request, op->ranges, count)
		 : maas_http_client_write_request(&op->request, op->ranges, count);
	if (r)
		goto err_free;
	for (uint32_t i = 0; i < count; i++)
		op->buffers[i] = maas_buffer_get(maas, ranges[i].buf, ranges[i].len);
	r = enqueue(http, op);
	if (r)
		goto err_free;
	return 0;

err_free:
	maas_http_client_op_free(maas, op);
	return r;
}

/* ---- poll */

/* Holds the lock. Moves up to `max` completions to `taken`. */
static uint32_t take(struct maas_http_client *http, struct maas_ops *taken, uint32_t max)
{
	struct maas_op *op;
	eventfd_t ignored;
	uint32_t n = 0;

	while (n < max && (op = TAILQ_FIRST(&http->done))) {
		TAILQ_REMOVE(&http->done, op, link);
		TAILQ_INSERT_TAIL(taken, op, link);
		n++;
	}
	if (n && TAILQ_EMPTY(&http->done))
		eventfd_read(http->maas->event_fd, &ignored);
	http->held -= n;
	return n;
}

/* Holds the lock. */
static void wait_done(struct maas_http_client *http, int timeout_ms)
{
	uint64_t until_ms = maas_clock_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);

	while (TAILQ_EMPTY(&http->done) && http->under_way) {
		if (timeout_ms < 0)
			pthread_cond_wait(&http->completed, &http->lock);
		else if (!maas_cond_wait_until(&http->completed, &http->lock, until_ms))
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
		maas_http_client_op_free(maas, op);
	}
}

static int http_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
		     int timeout_ms)
{
	struct maas_ops taken = TAILQ_HEAD_INITIALIZER(taken);
	struct maas_http_client *http;
	int n;

	pthread_mutex_lock(&maas->http_lock);
	http = maas->http;
	pthread_mutex_unlock(&maas->http_lock);
	if (!http)
		return 0;
	pthread_mutex_lock(&http->lock);
	if (timeout_ms)
		wait_done(http, timeout_ms);
	n = (int)take(http, &taken, max);
	pthread_mutex_unlock(&http->lock);
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
	.run = maas_http_client_run,
	.submit = http_submit,
	.poll = http_poll,
	.event_fd = http_event_fd,
};
