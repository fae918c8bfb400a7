/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind_keys MODE LIVE: makes 1,000 keys in one go, once by the server's own operation, once with
 * bare verbs on the same device, beside LIVE allocations without keys. For each line of its input,
 * "ours" or "bare", it prints {"wall_ns":N,"cpu_ns":N}: how long all of them took. It prints {}
 * when it is ready.
 */
#include <errno.h>
#include <semaphore.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rdma/rdma.h"
#include "tests/bench/bare_keys.h"
#include "tests/rdma/raw_link.h"

#define SLAB_BYTES 1024
#define POOL_BYTES (512ull << 20)
#define CONNECT_MS 10000

struct parts {
	struct maas_slab *slab;
	struct maas_rdma *rdma;
	struct maas_lend *lend;
	struct maas_lend_session_ref session;
	struct raw_link client;
	struct maas_slab_ref refs[BARE_KEYS];
	struct maas_lend_key grants[BARE_KEYS];
	struct bare_keys *bare;
};

/* ---- the server's side */

struct wait {
	sem_t done;
	_Atomic unsigned int left;
	_Atomic int status;
};

static void wait_done(void *arg, int status)
{
	struct wait *wait = arg;

	if (status)
		atomic_store(&wait->status, status);
	if (atomic_fetch_sub(&wait->left, 1) == 1)
		sem_post(&wait->done);
}

static int wait_for(struct wait *wait)
{
	while (sem_wait(&wait->done))
		continue;
	sem_destroy(&wait->done);
	return atomic_load(&wait->status);
}

static int grant_all(struct parts *parts)
{
	struct wait wait = {.left = 1};
	int r;

	sem_init(&wait.done, 0, 0);
	r = maas_rdma_key_ops.grant(parts->rdma, parts->session, parts->refs, BARE_KEYS,
				    MAAS_LEND_ACCESS_WRITE, parts->grants, wait_done, &wait);
	return r ? r : wait_for(&wait);
}

static int ungrant_all(struct parts *parts)
{
	struct wait wait = {.left = BARE_KEYS};

	sem_init(&wait.done, 0, 0);
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		int r = maas_rdma_key_ops.ungrant(parts->rdma, parts->session, parts->refs[i],
						  wait_done, &wait);

		if (r)
			wait_done(&wait, r);
	}
	return wait_for(&wait);
}

/* Different keys, or the same place twice, would be an impossible speed. */
static int check_grants(const struct parts *parts)
{
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		const struct maas_lend_key *grant = &parts->grants[i];
		struct maas_slab_info info;
		int r = maas_slab_get(parts->slab, parts->refs[i], &info);

		if (r || grant->addr != info.offset || grant->len_bytes != SLAB_BYTES ||
		    !grant->rkey || !grant->connection)
			return -EBADMSG;
	}
	return 0;
}

/* ---- the client's side: a connection and nothing else */

static int await_connection(struct parts *parts)
{
	for (int ms = 0; ms < CONNECT_MS; ms += 10) {
		const struct timespec time = {.tv_nsec = 10000000};

		if (maas_rdma_key_ops.connected(parts->rdma, parts->session))
			return 0;
		nanosleep(&time, NULL);
	}
	return -ETIMEDOUT;
}

static int open_session(struct parts *parts)
{
	struct raw_session session = {0};
	struct maas_lend_key_address address;
	struct maas_lend_session_info info;
	int r = maas_lend_session_open(parts->lend, NULL, "bench", 3600, false, NULL, &info);

	/* The first ticket tells which session it is, the second connects. */
	if (!r)
		r = maas_lend_ticket_redeem(parts->lend, info.ticket, &parts->session);
	if (!r)
		r = maas_lend_session_ticket(parts->lend, NULL, info.id, &info);
	if (!r && !maas_lend_key_address(parts->lend, NULL, &address))
		r = -EOPNOTSUPP;
	if (r)
		return r;
	session.port = address.port;
	memcpy(session.addr, address.addr, sizeof(session.addr));
	memcpy(session.ticket, info.ticket, sizeof(session.ticket));
	r = raw_connect(&parts->client, &session, SLAB_BYTES);
	return r ? r : await_connection(parts);
}

/* ---- its life */

static int allocate(struct parts *parts, uint32_t count, struct maas_slab_ref *ret_refs)
{
	const struct maas_lend_alloc_request request = {.size_bytes = SLAB_BYTES, .count = count};
	struct maas_lend_allocation first;

	return maas_lend_allocate(parts->lend, &request, ret_refs, &first);
}

static int fill(struct parts *parts, unsigned int live)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	int r = 0;

	while (live && !r) {
		uint32_t count = live < MAAS_SLAB_MAX_BATCH ? live : MAAS_SLAB_MAX_BATCH;

		r = allocate(parts, count, refs);
		live -= count;
	}
	return r ? r : allocate(parts, BARE_KEYS, parts->refs);
}

static int open_server(struct parts *parts, bool windows)
{
	static const uint64_t classes[] = {SLAB_BYTES, 4096, 65536, 4u << 20};
	const struct maas_slab_options slab = {
		.max_bytes = POOL_BYTES,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.dir_fd = -1,
	};
	struct maas_rdma_options rdma = {
		.keys = windows ? MAAS_RDMA_KEYS_WINDOW : MAAS_RDMA_KEYS_MR,
		.max_sessions = 4,
		.max_grants = 4 * BARE_KEYS,
	};
	struct maas_lend_options lend = {.keys = &maas_rdma_key_ops, .max_sessions = 4};
	char error[MAAS_RDMA_ERROR] = "";
	int r = maas_slab_open(&slab, NULL, &parts->slab);

	if (r)
		return r;
	rdma.slab = parts->slab;
	r = maas_rdma_open(&rdma, error, &parts->rdma);
	if (!r) {
		lend.slab = parts->slab;
		lend.keys_ctx = parts->rdma;
		r = maas_lend_open(&lend, &parts->lend);
	}
	if (!r)
		r = maas_rdma_listen(parts->rdma, parts->lend, error);
	if (*error)
		log_err("%s", error);
	return r;
}

static int world_open(struct parts *parts, bool windows, unsigned int live)
{
	int r = open_server(parts, windows);

	if (!r)
		r = open_session(parts);
	if (!r)
		r = fill(parts, live);
	if (!r)
		r = bare_keys_open(windows, &parts->bare);
	/* Once for both without a clock: windows are allocated, extents registered. */
	if (!r)
		r = grant_all(parts);
	if (!r)
		r = ungrant_all(parts);
	if (!r)
		r = bare_keys_make(parts->bare);
	return r ? r : bare_keys_kill(parts->bare);
}

static void world_close(struct parts *parts)
{
	bare_keys_close(parts->bare);
	raw_close(&parts->client);
	maas_rdma_stop(parts->rdma);
	maas_lend_close(parts->lend);
	maas_rdma_close(parts->rdma);
	maas_slab_close(parts->slab);
}

/* ---- measuring */

static uint64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int measure(struct parts *parts, bool bare)
{
	uint64_t cpu = cpu_ns();
	uint64_t start = maas_clock_ns();
	int r = bare ? bare_keys_make(parts->bare) : grant_all(parts);

	if (r)
		return r;
	start = maas_clock_ns() - start;
	cpu = cpu_ns() - cpu;
	if (bare) {
		r = bare_keys_kill(parts->bare);
	} else {
		r = check_grants(parts);
		if (!r)
			r = ungrant_all(parts);
	}
	if (!r)
		printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)start,
		       (unsigned long long)cpu);
	return r;
}

static int serve(struct parts *parts)
{
	char line[16];
	int r = 0;

	printf("{}\n");
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin)) {
		r = measure(parts, !strcmp(line, "bare\n"));
		fflush(stdout);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct parts parts = {0};
	int r;

	if (argc != 3 || sodium_init() < 0) {
		fprintf(stderr, "usage: bind_keys window|mr LIVE\n");
		return 2;
	}
	r = world_open(&parts, !strcmp(argv[1], "window"),
		       (unsigned int)strtoul(argv[2], NULL, 10));
	if (!r)
		r = serve(&parts);
	if (r)
		log_err("keys could not be measured mode=%s error=%d", argv[1], -r);
	world_close(&parts);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
