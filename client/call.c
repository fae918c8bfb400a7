/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request over HTTP while the calling thread waits, with retries, and the curl handle for it:
 * one that each call borrows from a pool, or a line. `pool.lock` guards the pool; a borrowed handle
 * is its borrower's alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "client/internal.h"

#define SLICE_MS 1000 /* as curl_easy_perform() does */

/* ---- the pool of curl handles */

int maas_pool_init(struct maas_pool *pool, uint32_t max)
{
	pool->max = max;
	pool->num_idle = 0;
	pool->num_open = 0;
	pool->idle = calloc(max, sizeof(*pool->idle));
	if (!pool->idle)
		return -ENOMEM;
	pthread_cond_init(&pool->freed, NULL);
	pthread_mutex_init(&pool->lock, NULL);
	return 0;
}

void maas_pool_fini(struct maas_pool *pool)
{
	while (pool->num_idle)
		curl_easy_cleanup(pool->idle[--pool->num_idle]);
	free(pool->idle);
	pthread_cond_destroy(&pool->freed);
	pthread_mutex_destroy(&pool->lock);
}

/* Borrows a curl handle; waits for a free one until `deadline_ms`. Errors: -ETIMEDOUT, -ENOMEM. */
static int pool_get(struct maas_pool *pool, uint64_t deadline_ms, CURL **ret_easy)
{
	int r = 0;

	pthread_mutex_lock(&pool->lock);
	while (!r && !pool->num_idle && pool->num_open == pool->max)
		if (!maas_cond_wait_until(&pool->freed, &pool->lock, deadline_ms))
			r = maas_fail(-ETIMEDOUT, "all %u connections stayed in use", pool->max);
	if (!r && pool->num_idle) {
		*ret_easy = pool->idle[--pool->num_idle];
	} else if (!r) {
		*ret_easy = curl_easy_init();
		if (*ret_easy)
			pool->num_open++;
		else
			r = maas_fail(-ENOMEM, "out of memory");
	}
	pthread_mutex_unlock(&pool->lock);
	return r;
}

static void pool_put(struct maas_pool *pool, CURL *easy)
{
	pthread_mutex_lock(&pool->lock);
	pool->idle[pool->num_idle++] = easy;
	pthread_cond_signal(&pool->freed);
	pthread_mutex_unlock(&pool->lock);
}

/* ---- lines */

int maas_line_need(struct maas_line *line)
{
	if (line->multi)
		return 0;
	line->easy = curl_easy_init();
	line->multi = line->easy ? curl_multi_init() : NULL;
	if (line->multi)
		return 0;
	curl_easy_cleanup(line->easy);
	line->easy = NULL;
	return maas_fail(-ENOMEM, "out of memory");
}

void maas_line_fini(struct maas_line *line)
{
	if (!line->multi)
		return;
	curl_easy_cleanup(line->easy);
	curl_multi_cleanup(line->multi);
}

void maas_line_cut(struct maas_line *line)
{
	atomic_store(&line->cut, true);
	curl_multi_wakeup(line->multi);
}

/* As curl_easy_perform(), until the line is cut. A wake-up that comes before the wait ends it. */
static CURLcode perform_on(struct maas_line *line)
{
	CURLcode code = CURLE_ABORTED_BY_CALLBACK;
	const struct CURLMsg *message;
	int running = 1;
	int left;

	if (curl_multi_add_handle(line->multi, line->easy))
		return CURLE_OUT_OF_MEMORY;
	while (running && !atomic_load(&line->cut)) {
		if (curl_multi_perform(line->multi, &running))
			break;
		if (running)
			curl_multi_poll(line->multi, NULL, 0, SLICE_MS, NULL);
	}
	message = curl_multi_info_read(line->multi, &left);
	if (message && message->msg == CURLMSG_DONE)
		code = message->data.result;
	curl_multi_remove_handle(line->multi, line->easy);
	return code;
}

/* ---- calls */

static CURLcode perform(const struct maas_request *request, CURL *easy)
{
	return request->line ? perform_on(request->line) : curl_easy_perform(easy);
}

static int try_once(struct maas *maas, CURL *easy, struct maas_request *request, uint64_t left_ms)
{
	uint32_t timeout_ms = left_ms < UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
	struct maas_client_transfer transfer;
	CURLcode code;
	int r;

	r = maas_client_transfer_begin(&transfer, easy, maas, request, timeout_ms);
	if (r)
		return r;
	code = perform(request, easy);
	if (!code && maas_client_transfer_follow(&transfer))
		code = perform(request, easy);
	return maas_client_transfer_end(&transfer, code);
}

/* A server that restarts is back in a moment: 20 ms, then 80 ms, 320 ms after a refusal besides. */
static void nap(unsigned int tries)
{
	struct timespec pause = {.tv_nsec = 5000000L << (2 * tries)};

	nanosleep(&pause, NULL);
}

int maas_call(struct maas *maas, struct maas_request *request, uint64_t deadline_ms)
{
	CURL *easy = request->line ? request->line->easy : NULL;
	int r = easy ? 0 : pool_get(&maas->pool, deadline_ms, &easy);
	unsigned int tries = 0; /* of this call: a request may be in its second */
	bool had_failed = maas_failed;
	uint64_t now_ms;

	if (r)
		return r;
	do {
		if (tries)
			nap(tries);
		now_ms = maas_clock_ms();
		if (now_ms >= deadline_ms)
			break;
		r = try_once(maas, easy, request, deadline_ms - now_ms);
		tries++;
	} while (maas_request_again(maas, request, r));
	if (!request->line)
		pool_put(&maas->pool, easy);
	if (!r && !had_failed)
		maas_error_clear(); /* of the tries before */
	if (r && request->mute)
		r = maas_probe(maas, r, deadline_ms);
	if (!tries)
		r = maas_fail(-ETIMEDOUT, "no time was left to ask the server");
	return r;
}

int maas_call_json(struct maas *maas, struct maas_request *request, uint64_t deadline_ms,
		   json_t **ret_answer)
{
	int r = maas_call(maas, request, deadline_ms);

	return r ? r : maas_json_parse(&request->text, ret_answer);
}
