/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages by a client that shares nothing with libmaas: one connection, one key, a registered
 * buffer, and a loop that posts and asks for completions. Each message has a completion, as
 * libmaas's have.
 */
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "tests/bench/rdma_data.h"
#include "tests/rdma/raw.h"

#define TTL_S 36000 /* a benchmark renews nothing while it measures */

static struct raw_http *http;
static struct raw_session session;
static struct raw_link link;
static struct raw_key key;

static int post(const struct messages *messages)
{
	return raw_post(&link, messages->write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, 0,
			messages->bytes, key.addr, key.rkey, 0);
}

/* Returns how many ended. Errors: -EIO one failed. */
static int take(void)
{
	struct ibv_wc wcs[16];
	int n = ibv_poll_cq(link.cq, MAAS_ARRAY_SIZE(wcs), wcs);

	for (int i = 0; i < n; i++) {
		if (wcs[i].status != IBV_WC_SUCCESS) {
			log_err("a message failed: %s", ibv_wc_status_str(wcs[i].status));
			return -EIO;
		}
	}
	return n;
}

static int run(const struct messages *messages)
{
	const unsigned int depth = messages->depth ? messages->depth : 1;
	unsigned int sent = 0;
	unsigned int done = 0;
	uint64_t start = 0;

	if (depth > RAW_DEPTH)
		return -EINVAL;
	while (done < messages->count) {
		int n;

		for (; sent < messages->count && sent - done < depth; sent++) {
			if (!messages->depth)
				start = maas_clock_ns();
			n = post(messages);
			if (n)
				return n;
		}
		n = take();
		if (n < 0)
			return n;
		if (n && !messages->depth)
			times_ns[done] = maas_clock_ns() - start;
		done += (unsigned int)n;
	}
	return 0;
}

static int borrow(const char *url)
{
	int r;

	http = raw_http_new(url);
	if (!http)
		return -ENOMEM;
	if (raw_session_open(http, "", TTL_S, &session) != 200)
		return -EPROTO;
	r = raw_connect(&link, &session, MAX_BYTES);
	/* The first one loads libraries. In a machine whose clock counts instructions, that may
	 * take longer than a ticket lives. */
	if (r == -ECONNREFUSED && link.reason == MAAS_WIRE_TICKET_UNKNOWN &&
	    raw_session_ticket(http, &session) == 200)
		r = raw_connect(&link, &session, MAX_BYTES);
	if (r)
		return r;
	r = raw_alloc(http, &session, MAX_BYTES, NULL, NULL, &key);
	return r == 200 ? 0 : -EPROTO;
}

static int open_link(const char *url, uint8_t **ret_memory)
{
	int r;

	curl_global_init(CURL_GLOBAL_ALL);
	r = borrow(url);
	if (r)
		log_err("bare verbs cannot be measured: %s", strerror(-r));
	*ret_memory = link.bytes;
	return r;
}

static void close_link(void)
{
	if (*session.id)
		raw_session_end(http, &session);
	raw_close(&link);
	raw_http_free(http);
	curl_global_cleanup();
}

const struct way by_verbs = {open_link, run, NULL, close_link};
