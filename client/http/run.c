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

/* Ends an operation that is on no list. */
static void complete(struct maas_http_client *http, struct maas_http_client_op *op, int status)
{
	struct maas *maas = http->maas;

	maas_op_set_status(&op->base, status);
	maas_queue_done(&maas->queue, &op->base, &op->base.next);
	maas_http_client_wake(maas);
}

/* ---- running */

static int start_on(struct maas_http_client *http, struct maas_http_client_op *op, CURL *easy,
		    uint32_t left_ms)
{
	int r = maas_client_transfer_begin(&op->transfer, easy, http->maas, &op->request, left_ms);

	if (r)
		return r;
	if (curl_multi_add_handle(http->multi, easy)) {
		maas_client_transfer_drop(&op->transfer);
		return maas_fail(-ENOMEM, "out of memory");
	}
	TAILQ_INSERT_TAIL(&http->running, op, link);
	http->num_running++;
	return 0;
}

/* Takes an operation that is on no list; there is room for it, or its time is over. */
static void start(struct maas_http_client *http, struct maas_http_client_op *op)
{
	uint64_t now_ms = maas_clock_ms();
	CURL *easy;
	int r;

	if (now_ms >= op->deadline_ms) {
		complete(http, op,
			 maas_fail(-ETIMEDOUT, "its time was over before a connection was free"));
		return;
	}
	easy = take_easy(http);
	r = easy ? start_on(http, op, easy, (uint32_t)(op->deadline_ms - now_ms))
		 : maas_fail(-ENOMEM, "out of memory");
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
	if (maas_request_again(http->maas, &op->request, r) && maas_clock_ms() < op->deadline_ms)
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
		finish(http, MAAS_CONTAINER_OF(transfer, struct maas_http_client_op, transfer),
		       code);
		count++;
	}
	return count;
}

/* ---- waiting */

/* Returns one that is out of time, or NULL. Holds the lock. */
static struct maas_http_client_op *find_late(struct maas_http_client *http, uint64_t now_ms)
{
	struct maas_http_client_op *op;

	if (now_ms < http->late_ms)
		return NULL;
	http->late_ms = UINT64_MAX;
	TAILQ_FOREACH (op, &http->waiting, link) {
		if (op->deadline_ms < http->late_ms)
			http->late_ms = op->deadline_ms;
		if (now_ms >= op->deadline_ms)
			return op;
	}
	return NULL;
}

/* Takes the first operation that there is room for, or that is out of time. NULL: there is none;
 * then `ret_wake_ms` is no later than the first of those that wait is out of time. */
static struct maas_http_client_op *take_waiting(struct maas_http_client *http,
						uint64_t *ret_wake_ms)
{
	bool room = http->num_running < http->maas->options.max_connections;
	uint64_t now_ms = maas_clock_ms();
	uint64_t wake_ms = now_ms + IDLE_MS;
	struct maas_http_client_op *op;

	pthread_mutex_lock(&http->lock);
	op = TAILQ_FIRST(&http->waiting);
	if (!op)
		http->late_ms = UINT64_MAX;
	else if (!room)
		op = find_late(http, now_ms);
	if (op)
		TAILQ_REMOVE(&http->waiting, op, link);
	else if (http->late_ms < wake_ms)
		wake_ms = http->late_ms;
	pthread_mutex_unlock(&http->lock);
	*ret_wake_ms = wake_ms;
	return op;
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
		maas_client_transfer_drop(&op->transfer);
		leave(http, op);
		maas_http_client_free(http->maas, op);
	}
}

void *maas_http_client_thread(void *arg)
{
	struct maas_http_client *http = arg;
	struct maas_http_client_op *op;
	uint64_t wake_ms;
	uint64_t now_ms;
	int running;

	while (!is_stopped(http)) {
		while ((op = take_waiting(http, &wake_ms)))
			start(http, op);
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
