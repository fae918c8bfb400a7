/* SPDX-License-Identifier: Apache-2.0 */
/* Clients and servers that stop and die. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB	  65536
#define TTL_S	  2
#define RECLAIM_S 2
#define OWNER	  0x4f
#define WRITERS	  5
#define DEPTH	  32
#define CLIENTS	  16
#define WORKERS	  4

static uint64_t seed;

/* ---- a client that is stopped while it writes */

struct writer {
	int fd; /* its key goes there; closed at its end */
	uint64_t posted;
	uint64_t completed;
};

/*
 * rxe 6.1 now and then neither completes nor retries what was under way when the peer's queue pair
 * went. A client then breaks its own, as libmaas does when an operation is out of time; that must
 * end it.
 */
static void must_end(struct raw_link *link, struct ibv_wc *ret_wc)
{
	if (raw_poll(link, ret_wc, 10000))
		return;
	note("one broke its own connection,");
	raw_break(link);
	if (!raw_poll(link, ret_wc, 10000))
		fail("a write did not end");
}

/* Writes without a pause, renews its lease, until either fails. */
static void write_on(struct borrower *borrower, const struct raw_key *key, struct writer *writer)
{
	uint64_t renewed_ms = maas_clock_ms();
	struct ibv_wc wc;

	memset(borrower->link.bytes, FOREIGN, SLAB);
	for (;;) {
		while (writer->posted - writer->completed < DEPTH) {
			size_t len = writer->posted % 2 ? SLAB : 4096;

			if (raw_post(&borrower->link, IBV_WR_RDMA_WRITE, 0, len, key->addr,
				     key->rkey, writer->posted))
				return;
			writer->posted++;
		}
		must_end(&borrower->link, &wc);
		if (wc.status != IBV_WC_SUCCESS) {
			require(writer->completed, "the first write: %s",
				ibv_wc_status_str(wc.status));
			return;
		}
		writer->completed++;
		if (maas_clock_ms() - renewed_ms < 500)
			continue;
		renewed_ms = maas_clock_ms();
		if (raw_session_renew(borrower->http, &borrower->session) != 200)
			return;
	}
}

/* Once it has noticed, it tries its old key, on a connection of a new session. */
static void run_writer(void *arg)
{
	struct writer *writer = arg;
	struct borrower borrower;
	struct raw_key key;

	device_open(); /* takes a good part of a lease */
	borrower_open_for(&borrower, TTL_S, SLAB);
	require_equal(raw_session_renew(borrower.http, &borrower.session), 200, "its renewal");
	borrower_alloc_owned(&borrower, SLAB, &key);
	require_equal(write(writer->fd, &key, sizeof(key)), sizeof(key), "pipe");
	write_on(&borrower, &key, writer);
	require_equal(raw_session_ticket(borrower.http, &borrower.session), 404,
		      "a ticket for a session that ended");
	borrower_close(&borrower);
	borrower_open_for(&borrower, TTL_S, SLAB);
	must_refuse(&borrower.link, IBV_WR_RDMA_WRITE, SLAB, key.addr, key.rkey);
	borrower_end(&borrower);
}

struct stop_round {
	pid_t pids[WRITERS];
	int fds[WRITERS];
	struct raw_key were[WRITERS];
	struct raw_key now[WRITERS];
	uint64_t stopped_ms;
	uint64_t *longest_ms; /* until all was reclaimed; the owner, a process of its own, writes it
			       */
};

static void start_writers(struct stop_round *round)
{
	for (size_t i = 0; i < WRITERS; i++) {
		struct writer writer = {0};
		int fds[2];

		require(pipe(fds) == 0, "pipe: %s", strerror(errno));
		writer.fd = fds[1];
		round->fds[i] = fds[0];
		round->pids[i] = scenario_fork(run_writer, &writer);
		close(fds[1]);
		require_equal(read(fds[0], &round->were[i], sizeof(round->were[i])),
			      sizeof(round->were[i]), "the writer's key");
	}
}

/* The pool has no other slab: the owner gets those of the writers, in any order. */
static void take_over(struct borrower *owner, struct stop_round *round)
{
	uint64_t limit_ms = (TTL_S + RECLAIM_S) * UINT64_C(1000);

	for (size_t i = 0; i < WRITERS; i++) {
		size_t was = 0;
		int status;

		while ((status = raw_alloc(owner->http, &owner->session, SLAB, NULL, NULL,
					   &round->now[i])) == 507) {
			require(maas_clock_ms() - round->stopped_ms <= limit_ms,
				"not reclaimed %llu ms after the stop",
				(unsigned long long)limit_ms);
			sleep_ms(10);
		}
		require_equal(status, 200, "POST /allocate");
		if (maas_clock_ms() - round->stopped_ms > *round->longest_ms)
			*round->longest_ms = maas_clock_ms() - round->stopped_ms;
		must_hold(&owner->link, &round->now[i], 0, "what the next owner finds");
		must_fill(&owner->link, &round->now[i], OWNER);
		while (was < WRITERS && round->were[was].addr != round->now[i].addr)
			was++;
		require(was < WRITERS, "not a slab of a stopped client");
	}
}

/* The next owner, which lets the writers go on once it has all their memory. */
static void run_owner(void *arg)
{
	struct stop_round *round = arg;
	struct borrower owner;
	char byte;

	borrower_open(&owner, SLAB);
	take_over(&owner, round);
	for (size_t i = 0; i < WRITERS; i++)
		kill(round->pids[i], SIGCONT);
	for (size_t i = 0; i < WRITERS; i++)
		require_equal(read(round->fds[i], &byte, 1), 0, "a writer's end");
	for (size_t i = 0; i < WRITERS; i++) {
		must_hold(&owner.link, &round->now[i], OWNER, "the next owner's bytes");
		must_hold_http(owner.http, &round->now[i], OWNER, "the next owner's bytes");
		borrower_free(&owner, &round->now[i]);
	}
	borrower_end(&owner);
}

static void stop_and_continue(uint64_t *longest_ms)
{
	struct stop_round round = {.longest_ms = longest_ms};

	start_writers(&round);
	sleep_ms((unsigned int)test_random_below(&seed, 500));
	for (size_t i = 0; i < WRITERS; i++)
		kill(round.pids[i], SIGSTOP);
	round.stopped_ms = maas_clock_ms();
	require_equal(scenario_wait(scenario_fork(run_owner, &round)), 0, "the next owner");
	for (size_t i = 0; i < WRITERS; i++) {
		require_equal(scenario_wait(round.pids[i]), 0, "a writer");
		close(round.fds[i]);
	}
}

void life_stopped(const char *keys)
{
	uint64_t rounds = count_device_stops() / WRITERS;
	uint64_t *longest_ms = mmap(NULL, sizeof(*longest_ms), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	require(longest_ms != MAP_FAILED, "mmap: %s", strerror(errno));
	seed = maas_test_seed();
	server_start(keys, "--slab-sizes 64KiB --max-pool-size 320KiB");
	for (uint64_t i = 0; i < rounds; i++)
		stop_and_continue(longest_ms);
	note("%llu stops, all reclaimed after %llu ms", (unsigned long long)rounds * WRITERS,
	     (unsigned long long)*longest_ms);
	munmap(longest_ms, sizeof(*longest_ms));
}

/* ---- kill -9 of clients */

/* Everything that a client can be in the middle of. */
static void run_worker(void *arg)
{
	struct raw_key keys[8];
	struct borrower borrower;

	(void)arg;
	device_open();
	for (;;) {
		borrower_open_for(&borrower, TTL_S, 4096);
		for (size_t i = 0; i < MAAS_ARRAY_SIZE(keys); i++) {
			borrower_alloc_owned(&borrower, 4096, &keys[i]);
			must_fill(&borrower.link, &keys[i], FOREIGN);
		}
		borrower_free(&borrower, &keys[0]);
		borrower_reconnect(&borrower);
		borrower_grant(&borrower, keys[1].id, "rw", &keys[1]);
		must_hold(&borrower.link, &keys[1], FOREIGN, "its own bytes");
		borrower_end(&borrower);
	}
}

/* The server has opened everything that it opens only once. */
static void run_first_client(void *arg)
{
	struct borrower borrower;

	(void)arg;
	device_open();
	borrower_open(&borrower, 4096);
	borrower_end(&borrower);
}

void life_killed(const char *keys)
{
	static const char *const gone[] = {"maas_active_allocations", "maas_rdma_grants",
					   "maas_rdma_queue_pairs{state=\"connected\"}",
					   "maas_rdma_queue_pairs{state=\"connecting\"}",
					   "maas_rdma_queue_pairs{state=\"ending\"}"};
	uint64_t count = count_device_kills();
	struct resources before;

	seed = maas_test_seed();
	server_start(keys, "--max-pool-size 16MiB --prealloc");
	require_equal(scenario_wait(scenario_fork(run_first_client, NULL)), 0, "the first client");
	server_await("maas_rdma_queue_pairs{state=\"ending\"}", 0, 2000);
	resources_get(&before);
	for (uint64_t i = 0; i < count; i += WORKERS) {
		pid_t pids[WORKERS];

		for (size_t w = 0; w < WORKERS; w++)
			pids[w] = scenario_fork(run_worker, NULL);
		for (size_t w = 0; w < WORKERS; w++) {
			sleep_ms((unsigned int)test_random_below(&seed, 200));
			kill(pids[w], SIGKILL);
			require_equal(scenario_wait(pids[w]), -SIGKILL, "a client's end");
		}
	}
	server_await("maas_sessions", 0, (TTL_S + RECLAIM_S) * 1000);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(gone); i++)
		server_await(gone[i], 0, 1000);
	require_equal(server_metric("maas_quarantined_bytes"), 0, "maas_quarantined_bytes");
	resources_await(&before, 5000);
	note("%llu clients killed", (unsigned long long)count);
}

/* ---- the server's end, with clients that write */

static void open_clients(struct borrower *clients)
{
	struct raw_key key;

	for (size_t i = 0; i < CLIENTS; i++) {
		borrower_open(&clients[i], SLAB);
		borrower_alloc(&clients[i], SLAB, &key);
		for (uint64_t n = 0; n < DEPTH; n++)
			require_equal(raw_post(&clients[i].link, IBV_WR_RDMA_WRITE, 0, SLAB,
					       key.addr, key.rkey, n),
				      0, "a write");
	}
}

static void close_clients(struct borrower *clients)
{
	for (size_t i = 0; i < CLIENTS; i++)
		borrower_close(&clients[i]);
}

static void kill_server(void)
{
	int status;

	kill(server.pid, SIGKILL);
	require(scenario_wait_for(server.pid, 5000, &status), "its end takes too long");
}

/* Clients write while it ends; the kernel then holds no more than before. */
static void end_server(const char *keys, void (*end)(void))
{
	struct borrower clients[CLIENTS];
	struct resources before;

	device_open();
	resources_get(&before);
	server_start(keys, "");
	open_clients(clients);
	end();
	close_clients(clients);
	resources_await(&before, 10000);
}

void life_sigterm(const char *keys)
{
	end_server(keys, server_stop);
}

/* The next one finds the device as it was. */
void life_server_killed(const char *keys)
{
	struct borrower clients[CLIENTS];

	end_server(keys, kill_server);
	server_start(keys, "");
	open_clients(clients);
	close_clients(clients);
}
