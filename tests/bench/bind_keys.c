/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind_keys MODE LIVE: makes 1,000 keys in one go, once by the server's own operation, once with
 * bare verbs on the same device, beside LIVE allocations without keys. For each line of its input,
 * "ours" or "bare", it prints {"wall_ns":N,"cpu_ns":N}: how long all of them took. It prints {}
 * when it is ready.
 */
#include <semaphore.h>
#include <sodium.h>
#include <stdatomic.h>

#include "rdma/rdma.h"
#include "tests/bench/bare_keys.h"
#include "tests/bench/bench.h"
#include "tests/rdma/raw_link.h"

#define SLAB_BYTES 1024
#define POOL_BYTES (512ull << 20)
#define CONNECT_MS 10000

static struct maas_slab *slab;
static struct maas_rdma *rdma;
static struct maas_lend *lend;
static struct maas_lend_session_ref session;
static struct raw_link client;
static struct maas_slab_ref refs[BARE_KEYS];
static struct maas_lend_key grants[BARE_KEYS];
static atomic_int failed; /* for main: exit handlers would run in the server's own thread */

/* ---- the server's side */

static void wait_done(void *done, int status)
{
	if (status)
		failed = status;
	sem_post(done);
}

static void wait_for(sem_t *done, unsigned int count)
{
	while (count)
		count -= !sem_wait(done);
	sem_destroy(done);
	need_0(failed, "keys");
}

static void grant_all(void)
{
	sem_t done;

	sem_init(&done, 0, 0);
	need_0(maas_rdma_key_ops.grant(rdma, session, refs, BARE_KEYS, MAAS_LEND_ACCESS_WRITE,
				       grants, wait_done, &done),
	       "grant");
	wait_for(&done, 1);
}

static void ungrant_all(void)
{
	sem_t done;

	sem_init(&done, 0, 0);
	for (unsigned int i = 0; i < BARE_KEYS; i++)
		need_0(maas_rdma_key_ops.ungrant(rdma, session, refs[i], wait_done, &done),
		       "ungrant");
	wait_for(&done, BARE_KEYS);
}

/* Different keys, or the same place twice, would be an impossible speed. */
static void check_grants(void)
{
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		const struct maas_lend_key *grant = &grants[i];
		struct maas_slab_info info;

		need_0(maas_slab_get(slab, refs[i], &info), "a slab");
		if (grant->addr != info.offset || grant->len_bytes != SLAB_BYTES || !grant->rkey ||
		    !grant->connection)
			errx(EXIT_FAILURE, "key %u is not that of its slab", i);
	}
}

/* ---- the client's side: a connection and nothing else */

static void open_session(void)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	uint64_t deadline_ms = maas_clock_ms() + CONNECT_MS;
	struct raw_session raw = {0};
	struct maas_lend_key_address address;
	struct maas_lend_session_info info;

	/* The first ticket tells which session it is, the second connects. */
	need_0(maas_lend_session_open(lend, NULL, "bench", 3600, false, NULL, &info), "a session");
	need_0(maas_lend_ticket_redeem(lend, info.ticket, &session), "a ticket");
	need_0(maas_lend_session_ticket(lend, NULL, info.id, &info), "another ticket");
	need_0(maas_lend_key_address(lend, NULL, &address) ? 0 : EOPNOTSUPP, "an address");
	raw.port = address.port;
	memcpy(raw.addr, address.addr, sizeof(raw.addr));
	memcpy(raw.ticket, info.ticket, sizeof(raw.ticket));
	need_0(raw_connect(&client, &raw, SLAB_BYTES), "connecting");
	while (!maas_rdma_key_ops.connected(rdma, session)) {
		need_0(maas_clock_ms() < deadline_ms ? 0 : ETIMEDOUT, "the server's side of it");
		nanosleep(&pause, NULL);
	}
}

/* ---- its life */

static void allocate(uint32_t count, struct maas_slab_ref *ret_refs)
{
	const struct maas_lend_alloc_request request = {.size_bytes = SLAB_BYTES, .count = count};
	struct maas_lend_allocation first;

	need_0(maas_lend_allocate(lend, &request, ret_refs, &first), "allocations");
}

static void fill(uint32_t live)
{
	static struct maas_slab_ref others[MAAS_SLAB_MAX_BATCH];

	for (; live > MAAS_SLAB_MAX_BATCH; live -= MAAS_SLAB_MAX_BATCH)
		allocate(MAAS_SLAB_MAX_BATCH, others);
	if (live)
		allocate(live, others);
	allocate(BARE_KEYS, refs);
}

static void open_server(bool windows)
{
	static const uint64_t classes[] = {SLAB_BYTES, 4096, 65536, 4u << 20};
	const struct maas_slab_options slab_options = {
		.max_bytes = POOL_BYTES,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
	};
	struct maas_rdma_options options = {
		.keys = windows ? MAAS_RDMA_KEYS_WINDOW : MAAS_RDMA_KEYS_MR,
		.max_sessions = 4,
		.max_grants = 4 * BARE_KEYS,
	};
	struct maas_lend_options lend_options = {.keys = &maas_rdma_key_ops, .max_sessions = 4};
	char error[MAAS_RDMA_ERROR] = "";

	need_0(maas_slab_open(&slab_options, NULL, &slab), "a pool");
	options.slab = lend_options.slab = slab;
	need_0(maas_rdma_open(&options, error, &rdma), error);
	lend_options.keys_ctx = rdma;
	need_0(maas_lend_open(&lend_options, &lend), "lending");
	need_0(maas_rdma_listen(rdma, lend, error), error);
}

static void world_open(bool windows, uint32_t live)
{
	open_server(windows);
	open_session();
	fill(live);
	bare_keys_open(windows);
	/* Once for both without a clock: windows are allocated, extents registered. */
	grant_all();
	ungrant_all();
	bare_keys_make();
	bare_keys_kill();
}

static void world_close(void)
{
	bare_keys_close();
	raw_close(&client);
	maas_rdma_stop(rdma);
	maas_lend_close(lend);
	maas_rdma_close(rdma);
	maas_slab_close(slab);
}

static void measure(bool bare)
{
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	uint64_t wall = maas_clock_ns();

	if (bare)
		bare_keys_make();
	else
		grant_all();
	wall = maas_clock_ns() - wall;
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	if (bare) {
		bare_keys_kill();
	} else {
		check_grants();
		ungrant_all();
	}
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)wall,
	       (unsigned long long)cpu);
}

int main(int argc, char **argv)
{
	char line[16];

	if (argc != 3 || sodium_init() < 0)
		errx(2, "usage: bind_keys window|mr LIVE");
	setlinebuf(stdout);
	world_open(!strcmp(argv[1], "window"), (uint32_t)strtoul(argv[2], NULL, 10));
	printf("{}\n");
	while (fgets(line, sizeof(line), stdin))
		measure(!strcmp(line, "bare\n"));
	world_close();
	return EXIT_SUCCESS;
}
