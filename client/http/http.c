/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP transport's table and life. Calls that wait are requests of the calling thread;
 * submitted ones are handed to a thread (run.c), which is started for the first of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/http/internal.h"

/* ---- life */

static void free_http(struct maas *maas)
{
	struct maas_http_client *http = maas->http;

	if (!http)
		return;
	pthread_cond_destroy(&http->completed);
	pthread_mutex_destroy(&http->lock);
	free(http);
}

static int start_http(struct maas *maas, uint64_t deadline_ms)
{
	struct maas_http_client *http = calloc(1, sizeof(*http));

	(void)deadline_ms; /* connects when it is needed */
	if (!http)
		return maas_fail(-ENOMEM, "out of memory");
	http->maas = maas;
	TAILQ_INIT(&http->running);
	TAILQ_INIT(&http->waiting);
	pthread_cond_init(&http->completed, NULL);
	pthread_mutex_init(&http->lock, NULL);
	maas->http = http;
	return 0;
}

static void free_handles(struct maas_http_client *http)
{
	while (http->idle && http->num_idle)
		curl_easy_cleanup(http->idle[--http->num_idle]);
	free(http->idle);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	http->idle = NULL;
	http->multi = NULL;
}

/* Holds the lock. */
static int need_thread(struct maas_http_client *http)
{
	uint32_t max = http->maas->options.max_connections;
	int r = -ENOMEM;

	if (http->multi)
		return 0;
	http->idle = calloc(max, sizeof(*http->idle));
	http->multi = curl_multi_init();
	if (http->idle && http->multi) {
		curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)max);
		r = maas_thread_start(&http->thread, maas_http_client_thread, http);
	}
	if (r)
		free_handles(http);
	return r ? maas_fail(r, "no thread for submitted operations: %s", strerror(-r)) : 0;
}

static void stop_http(struct maas *maas)
{
	struct maas_http_client *http = maas->http;
	struct maas_http_client_op *op;

	if (!http || !http->multi)
		return;
	pthread_mutex_lock(&http->lock);
	http->stop = true;
	pthread_mutex_unlock(&http->lock);
	curl_multi_wakeup(http->multi);
	pthread_join(http->thread, NULL);
	while ((op = TAILQ_FIRST(&http->waiting))) {
		TAILQ_REMOVE(&http->waiting, op, link);
		maas_http_client_free(maas, op);
	}
	free_handles(http);
}

/* ---- operations */

static int run_request(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		       bool read)
{
	struct maas_request request;
	int r = maas_transport_enter(maas, count);

	if (!r)
		r = maas_http_client_request(&request, ranges, count, read);
	if (r)
		return r;
	r = maas_call(maas, &request, maas_deadline_ms(maas));
	if (!r && read)
		r = maas_http_client_check(&request);
	maas_request_fini(&request);
	return r;
}

void maas_http_client_free(struct maas *maas, struct maas_http_client_op *op)
{
	for (uint32_t i = 0; i < op->count; i++)
		maas_buffer_put(maas, op->buffers[i]);
	maas_request_fini(&op->request);
	free(op);
}

static void release(struct maas *maas, struct maas_op *first, struct maas_op *last)
{
	(void)last;
	while (first) {
		struct maas_op *op = first;

		first = op->next;
		maas_http_client_free(maas,
				      MAAS_CONTAINER_OF(op, struct maas_http_client_op, base));
	}
}

static struct maas_http_client_op *new_op(const struct maas_range *ranges, uint32_t count)
{
	size_t each = sizeof(struct maas_range) + sizeof(struct maas_buffer *);
	struct maas_http_client_op *op = calloc(1, sizeof(*op) + count * each);

	if (op) {
		op->count = count;
		memcpy(op->ranges, ranges, count * sizeof(*ranges));
		op->buffers = (struct maas_buffer **)(void *)&op->ranges[count];
	}
	return op;
}

static int enqueue(struct maas_http_client *http, struct maas_http_client_op *op)
{
	int r;

	pthread_mutex_lock(&http->lock);
	r = need_thread(http);
	if (!r)
		r = maas_queue_hold(&http->maas->queue);
	if (!r) {
		TAILQ_INSERT_TAIL(&http->waiting, op, link);
		if (op->deadline_ms < http->late_ms)
			http->late_ms = op->deadline_ms;
	}
	pthread_mutex_unlock(&http->lock);
	if (!r)
		curl_multi_wakeup(http->multi);
	return r;
}

static int submit_request(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			  uint32_t timeout_ms, void *user, bool read)
{
	struct maas_http_client_op *op;
	int r = maas_transport_enter(maas, count);

	if (r)
		return r;
	op = new_op(ranges, count);
	if (!op)
		return maas_fail(-ENOMEM, "out of memory");
	op->read = read;
	op->base.user = user;
	op->deadline_ms = maas_clock_ms() + timeout_ms;
	r = maas_http_client_request(&op->request, op->ranges, op->count, op->read);
	if (r)
		goto err_release;
	for (uint32_t i = 0; i < op->count; i++)
		op->buffers[i] = maas_buffer_get(maas, op->ranges[i].buf, op->ranges[i].len);
	r = enqueue(maas->http, op);
	if (r)
		goto err_release;
	return 0;

err_release:
	maas_http_client_free(maas, op);
	return r;
}

/* ---- completions */

void maas_http_client_wake(struct maas *maas)
{
	struct maas_http_client *http = maas->http;

	pthread_mutex_lock(&http->lock);
	pthread_cond_broadcast(&http->completed);
	pthread_mutex_unlock(&http->lock);
}

static void wait_completed(struct maas *maas, uint64_t until_ms)
{
	struct maas_http_client *http = maas->http;
	bool more = true;

	/* Threads change the queue first and then take the lock to broadcast. So the change is seen
	 * here, or the broadcast comes while this thread waits. */
	pthread_mutex_lock(&http->lock);
	while (more && !maas_queue_ready(&maas->queue))
		more = maas_cond_wait_until(&http->completed, &http->lock, until_ms);
	pthread_mutex_unlock(&http->lock);
}

const struct maas_transport maas_transport_http = {
	.type = MAAS_TRANSPORT_HTTP,
	.start = start_http,
	.stop = stop_http,
	.free = free_http,
	.run = run_request,
	.submit = submit_request,
	.release = release,
	.wait = wait_completed,
	.wake = maas_http_client_wake,
};
