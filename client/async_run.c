/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "client/async.h"

#define IDLE_MS 1000

static CURL *take_easy(struct maas_async *async)
{
	if (async->num_idle)
		return async->idle[--async->num_idle];
	return curl_easy_init();
}

/* The outcome of an operation that is on no list. */
static void complete(struct maas_async *async, struct maas_op *op, int status)
{
	op->status = status;
	snprintf(op->error, sizeof(op->error), "%s", status ? maas_error() : "");
	pthread_mutex_lock(&async->lock);
	if (TAILQ_EMPTY(&async->done))
		eventfd_write(async->maas->event_fd, 1);
	TAILQ_INSERT_TAIL(&async->done, op, link);
	async->under_way--;
	pthread_cond_broadcast(&async->completed);
	pthread_mutex_unlock(&async->lock);
}

/* ---- running */

static int start_on(struct maas_async *async, struct maas_op *op, CURL *easy)
{
	uint64_t now_ms = maas_clock_ms();
	int r;

	if (now_ms >= op->deadline_ms)
		return maas_fail(-ETIMEDOUT, "its time was over before a connection was free");
	r = maas_transfer_begin(&op->transfer, easy, &async->maas->url, &op->request,
				(uint32_t)(op->deadline_ms - now_ms),
				async->maas->options.connect_timeout_ms);
	if (r)
		return r;
	if (curl_multi_add_handle(async->multi, easy)) {
		int ignored = maas_transfer_end(&op->transfer, CURLE_OUT_OF_MEMORY);

		(void)ignored; /* it is CURLE_OUT_OF_MEMORY's */
		return maas_fail(-ENOMEM, "out of memory");
	}
	TAILQ_INSERT_TAIL(&async->running, op, link);
	async->num_running++;
	return 0;
}

/* Takes an operation that is on no list. */
static void start(struct maas_async *async, struct maas_op *op)
{
	CURL *easy = take_easy(async);
	int r = easy ? start_on(async, op, easy) : maas_fail(-ENOMEM, "out of memory");

	if (!r)
		return;
	if (easy)
		async->idle[async->num_idle++] = easy;
	complete(async, op, r);
}

static void leave(struct maas_async *async, struct maas_op *op)
{
	curl_multi_remove_handle(async->multi, op->transfer.easy);
	TAILQ_REMOVE(&async->running, op, link);
	async->num_running--;
	async->idle[async->num_idle++] = op->transfer.easy;
}

static void finish(struct maas_async *async, struct maas_op *op, CURLcode code)
{
	int r = maas_transfer_end(&op->transfer, code);

	leave(async, op);
	if (!r && op->read)
		r = maas_data_check(&op->request);
	if (maas_request_again(&op->request, r) && maas_clock_ms() < op->deadline_ms)
		start(async, op);
	else
		complete(async, op, r);
}

/* Returns how many. */
static unsigned int finish_all(struct maas_async *async)
{
	struct CURLMsg *message;
	unsigned int count = 0;
	int left;

	while ((message = curl_multi_info_read(async->multi, &left))) {
		struct maas_transfer *transfer = NULL;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		finish(async,
		       (struct maas_op *)((char *)transfer - offsetof(struct maas_op, transfer)),
		       code);
		count++;
	}
	return count;
}

/* ---- waiting */

/* Moves what is out of time to `late`, and the next to run to `next`. Returns when the first of the
 * others is out of time. */
static uint64_t choose(struct maas_async *async, struct maas_ops *late, struct maas_ops *next)
{
	uint32_t room = async->maas->options.max_connections - async->num_running;
	uint64_t now_ms = maas_clock_ms();
	uint64_t first_ms = now_ms + IDLE_MS;
	struct maas_op *op;
	struct maas_op *after;

	for (op = TAILQ_FIRST(&async->waiting); op; op = after) {
		after = TAILQ_NEXT(op, link);
		if (now_ms >= op->deadline_ms) {
			TAILQ_REMOVE(&async->waiting, op, link);
			TAILQ_INSERT_TAIL(late, op, link);
		} else if (room) {
			room--;
			TAILQ_REMOVE(&async->waiting, op, link);
			TAILQ_INSERT_TAIL(next, op, link);
		} else if (op->deadline_ms < first_ms) {
			first_ms = op->deadline_ms;
		}
	}
	return first_ms;
}

static uint64_t start_waiting(struct maas_async *async)
{
	struct maas_ops late = TAILQ_HEAD_INITIALIZER(late);
	struct maas_ops next = TAILQ_HEAD_INITIALIZER(next);
	struct maas_op *op;
	uint64_t wake_ms;

	pthread_mutex_lock(&async->lock);
	wake_ms = choose(async, &late, &next);
	pthread_mutex_unlock(&async->lock);
	while ((op = TAILQ_FIRST(&late))) {
		TAILQ_REMOVE(&late, op, link);
		complete(async, op,
			 maas_fail(-ETIMEDOUT, "its time was over before a connection was free"));
	}
	while ((op = TAILQ_FIRST(&next))) {
		TAILQ_REMOVE(&next, op, link);
		start(async, op);
	}
	return wake_ms;
}

static bool is_stopped(struct maas_async *async)
{
	bool stop;

	pthread_mutex_lock(&async->lock);
	stop = async->stop;
	pthread_mutex_unlock(&async->lock);
	return stop;
}

/* The memory of what still runs is freed by maas_async_free(). */
static void drop_running(struct maas_async *async)
{
	struct maas_op *op;

	while ((op = TAILQ_FIRST(&async->running))) {
		int ignored = maas_transfer_end(&op->transfer, CURLE_OK);

		(void)ignored; /* nobody will ask */
		leave(async, op);
		pthread_mutex_lock(&async->lock);
		TAILQ_INSERT_TAIL(&async->done, op, link);
		pthread_mutex_unlock(&async->lock);
	}
}

void *maas_async_run(void *arg)
{
	struct maas_async *async = arg;
	uint64_t wake_ms;
	uint64_t now_ms;
	int running;

	while (!is_stopped(async)) {
		wake_ms = start_waiting(async);
		curl_multi_perform(async->multi, &running);
		if (finish_all(async))
			continue; /* and left room for others */
		now_ms = maas_clock_ms();
		if (now_ms < wake_ms)
			curl_multi_poll(async->multi, NULL, 0, (int)(wake_ms - now_ms), NULL);
	}
	drop_running(async);
	return NULL;
}
