/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_data URL PID: what rdma_data does with the memory of a maasd, with verbs alone: one
 * connection, one key, a registered buffer, and a loop that posts and asks for completions. Each
 * message has a completion, as libmaas's have. It prints {}, and for each line of its input one of
 * figures:
 *
 *     write|read BYTES DEPTH MESSAGES  {"wall_ns":N,"cpu_ns":N,"times_ns":[...]}: DEPTH of them
 *                                      under way, or with 0 one by one, each of them timed
 *
 * CPU time is that of this process and the server. One thread.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/rdma/raw.h"

#define MAX_BYTES    (4u << 20)
#define MAX_MESSAGES 100000
#define TTL_S	     3600

struct bare_data {
	clockid_t server_clock;
	struct raw_http *http;
	struct raw_session session;
	struct raw_link link;
	struct raw_key key;
};

struct job {
	bool write;
	uint32_t bytes;
	unsigned int depth; /* 0: one by one, each of them timed */
	unsigned int messages;
};

/* Nanoseconds of the messages that are timed. */
static uint64_t times_ns[MAX_MESSAGES];

static uint64_t cpu_ns(const struct bare_data *data)
{
	const clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, data->server_clock};
	uint64_t ns = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(clocks); i++) {
		struct timespec time = {0};

		clock_gettime(clocks[i], &time);
		ns += (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
	}
	return ns;
}

static int post(const struct bare_data *data, const struct job *job)
{
	struct ibv_sge sge = {(uintptr_t)data->link.bytes, job->bytes, data->link.mr->lkey};
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = job->write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {.remote_addr = data->key.addr, .rkey = data->key.rkey},
	};
	struct ibv_send_wr *bad;

	return -ibv_post_send(data->link.qp, &wr, &bad);
}

/* Returns how many ended. Errors: -EIO one failed. */
static int take(const struct bare_data *data)
{
	struct ibv_wc wcs[16];
	int n = ibv_poll_cq(data->link.cq, MAAS_ARRAY_SIZE(wcs), wcs);

	for (int i = 0; i < n; i++) {
		if (wcs[i].status != IBV_WC_SUCCESS) {
			log_err("a message failed: %s", ibv_wc_status_str(wcs[i].status));
			return -EIO;
		}
	}
	return n;
}

static int run(const struct bare_data *data, const struct job *job)
{
	const unsigned int depth = job->depth ? job->depth : 1;
	unsigned int sent = 0;
	unsigned int done = 0;
	uint64_t start = 0;

	while (done < job->messages) {
		int n;

		for (; sent < job->messages && sent - done < depth; sent++) {
			if (!job->depth)
				start = maas_clock_ns();
			n = post(data, job);
			if (n)
				return n;
		}
		n = take(data);
		if (n < 0)
			return n;
		if (n && !job->depth)
			times_ns[done] = maas_clock_ns() - start;
		done += (unsigned int)n;
	}
	return 0;
}

static int measure(const struct bare_data *data, const struct job *job)
{
	uint64_t cpu;
	uint64_t wall;
	int r;

	/* A benchmark takes longer than a lease may be. */
	if (raw_session_renew(data->http, &data->session) != 200)
		return -EPROTO;
	cpu = cpu_ns(data);
	wall = maas_clock_ns();
	r = run(data, job);
	if (r)
		return r;
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns(data) - cpu;
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu,\"times_ns\":[", (unsigned long long)wall,
	       (unsigned long long)cpu);
	for (unsigned int i = 0; i < job->messages && !job->depth; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)times_ns[i]);
	printf("]}\n");
	return 0;
}

static int borrow(struct bare_data *data, const char *url)
{
	int r;

	data->http = raw_http_new(url);
	if (!data->http)
		return -ENOMEM;
	if (raw_session_open(data->http, "", TTL_S, &data->session) != 200)
		return -EPROTO;
	r = raw_connect(&data->link, &data->session, MAX_BYTES);
	/* The first one loads libraries. In a machine whose clock counts instructions, that may
	 * take longer than a ticket lives. */
	if (r == -ECONNREFUSED && data->link.reason == MAAS_WIRE_TICKET_UNKNOWN &&
	    raw_session_ticket(data->http, &data->session) == 200)
		r = raw_connect(&data->link, &data->session, MAX_BYTES);
	if (r)
		return r;
	r = raw_alloc(data->http, &data->session, MAX_BYTES, NULL, NULL, &data->key);
	return r == 200 ? 0 : -EPROTO;
}

static int serve(struct bare_data *data, const char *url)
{
	char line[80];
	int r = borrow(data, url);

	if (!r)
		printf("{}\n");
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin)) {
		struct job job;
		char verb[16];

		/* NOLINTNEXTLINE(cert-err34-c): what is too large is refused below */
		if (sscanf(line, "%15s %u %u %u", verb, &job.bytes, &job.depth, &job.messages) != 4)
			return -EINVAL;
		if (job.bytes > MAX_BYTES || job.depth > RAW_DEPTH || !job.messages ||
		    job.messages > MAX_MESSAGES)
			return -EINVAL;
		job.write = strcmp(verb, "write") == 0;
		r = measure(data, &job);
		fflush(stdout);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct bare_data data = {0};
	int r;

	if (argc != 3 ||
	    clock_getcpuclockid((pid_t)strtol(argv[2], NULL, 10), &data.server_clock)) {
		fprintf(stderr, "usage: bare_data URL PID\n");
		return 2;
	}
	curl_global_init(CURL_GLOBAL_ALL);
	r = serve(&data, argv[1]);
	if (r)
		log_err("bare verbs could not be measured: %s", strerror(-r));
	if (*data.session.id)
		raw_session_end(data.http, &data.session);
	raw_close(&data.link);
	raw_http_free(data.http);
	curl_global_cleanup();
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
