/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of submitted operations over HTTP: it alone touches the multi handle, its easy handles
 * and the operations that run on them. The lock guards what callers leave for it.
 */
#include <errno.h>
#include <string.h>

#include "client/http/internal.h"

#define IDLE_MS 1000

static CURL *take_easy(struct maas_http_client *http)
{
	if (http->num_idle)
		return http->idle[--http->num_idle];
	return curl_easy_init();
}

/* The outcome of an operation that is on no list. */
static void complete(struct maas_http_client *http, struct maas_http_client_op *op, int status)
{
	struct maas *maas = http->maas;

	maas_op_set_status(&op->base, status);
	maas_queue_done(&maas->queue, &op->base);
	maas_http_client_wake(maas);
}

/* ---- running */

static int start_on(struct maas_http_client *http, struct maas_http_client_op *op, CURL *easy)
{
	uint64_t now_ms = maas_clock_ms();
	int r;

	if (now_ms >= op->deadline_ms)
		return maas_fail(-ETIMEDOUT, "its time was over before a connection was free");
	r = maas_client_transfer_begin(&op->transfer, easy, &http->maas->url, &op->request,
				       (uint32_t)(op->deadline_ms - now_ms),
				       http->maas->options.connect_timeout_ms);
	if (r)
		return r;
	if (curl_multi_add_handle(http->multi, easy)) {
		int ignored = maas_client_transfer_end(&op->transfer, CURLE_OUT_OF_MEMORY);

		(void)ignored; /* it is CURLE_OUT_OF_MEMORY's */
		return maas_fail(-ENOMEM, "out of memory");
	}
	TAILQ_INSERT_TAIL(&http->running, op, link);
	http->num_running++;
	return 0;
}

/* Takes an operation that is on no list. */
static void start(struct maas_http_client *http, struct maas_http_client_op *op)
{
	CURL *easy = take_easy(http);
	int r = easy ? start_on(http, op, easy) : maas_fail(-ENOMEM, "out of memory");

	if (!r)
		return;
	if (easy)
		http->idle[http->num_idle++] = easy;
	complete(http, op, r);
}

static void leave(struct maas_http_client *http, struct maas_http_client_op *op)
{
	curl_multi_remove_handle(http->multi, op->transfer.easy);
	TAILQ_REMOVE(&http->running, op, link);
	http->num_running--;
	http->idle[http->num_idle++] = op->transfer.easy;
}

static void finish(struct maas_http_client *http, struct maas_http_client_op *op, CURLcode code)
{
	int r = maas_client_transfer_end(&op->transfer, code);

	leave(http, op);
	if (!r && op->read)
		r = maas_http_client_check(&op->request);
	if (maas_request_again(&op->request, r) && maas_clock_ms() < op->deadline_ms)
		start(http, op);
	else
		complete(http, op, r);
}

/* Returns how many. */
static unsigned int finish_all(struct maas_http_client *http)
{
	struct CURLMsg *message;
	unsigned int count = 0;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left))) {
		struct maas_client_transfer *transfer = NULL;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		finish(http,
		       (struct maas_http_client_op *)((char *)transfer -
						      offsetof(struct maas_http_client_op,
							       transfer)),
		       code);
		count++;
	}
	return count;
}

/* ---- waiting */

/* Moves what is out of time to `late`, and the next to run to `next`. Returns when the first of the
 * others is out of time. */
static uint64_t choose(struct maas_http_client *http, struct maas_http_client_ops *late,
		       struct maas_http_client_ops *next)
{
	uint32_t room = http->maas->options.max_connections - http->num_running;
	uint64_t now_ms = maas_clock_ms();
	uint64_t first_ms = now_ms + IDLE_MS;
	struct maas_http_client_op *op;
	struct maas_http_client_op *after;

	for (op = TAILQ_FIRST(&http->waiting); op; op = after) {
		after = TAILQ_NEXT(op, link);
		if (now_ms >= op->deadline_ms) {
			TAILQ_REMOVE(&http->waiting, op, link);
			TAILQ_INSERT_TAIL(late, op, link);
		} else if (room) {
			room--;
			TAILQ_REMOVE(&http->waiting, op, link);
			TAILQ_INSERT_TAIL(next, op, link);
		} else if (op->deadline_ms < first_ms) {
			first_ms = op->deadline_ms;
		}
	}
	return first_ms;
}

static uint64_t start_waiting(struct maas_http_client *http)
{
	struct maas_http_client_ops late = TAILQ_HEAD_INITIALIZER(late);
	struct maas_http_client_ops next = TAILQ_HEAD_INITIALIZER(next);
	struct maas_http_client_op *op;
	uint64_t wake_ms;

	pthread_mutex_lock(&http->lock);
	wake_ms = choose(http, &late, &next);
	pthread_mutex_unlock(&http->lock);
	while ((op = TAILQ_FIRST(&late))) {
		TAILQ_REMOVE(&late, op, link);
		complete(http, op,
			 maas_fail(-ETIMEDOUT, "its time was over before a connection was free"));
	}
	while ((op = TAILQ_FIRST(&next))) {
		TAILQ_REMOVE(&next, op, link);
		start(http, op);
	}
	return wake_ms;
}

static bool is_stopped(struct maas_http_client *http)
{
	bool stop;

	pthread_mutex_lock(&http->lock);
	stop = http->stop;
	pthread_mutex_unlock(&http->lock);
	return stop;
}

static void drop_running(struct maas_http_client *http)
{
	struct maas_http_client_op *op;

	while ((op = TAILQ_FIRST(&http->running))) {
		int ignored = maas_client_transfer_end(&op->transfer, CURLE_OK);

		(void)ignored; /* nobody will ask */
		leave(http, op);
		maas_http_client_release(http->maas, &op->base);
	}
}

void *maas_http_client_thread(void *arg)
{
	struct maas_http_client *http = arg;
	uint64_t wake_ms;
	uint64_t now_ms;
	int running;

	while (!is_stopped(http)) {
		wake_ms = start_waiting(http);
		curl_multi_perform(http->multi, &running);
		if (finish_all(http))
			continue; /* and left room for others */
		now_ms = maas_clock_ms();
		if (now_ms < wake_ms)
			curl_multi_poll(http->multi, NULL, 0, (int)(wake_ms - now_ms), NULL);
	}
	drop_running(http);
	return NULL;
}
