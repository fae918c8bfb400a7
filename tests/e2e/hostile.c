/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile PORT: behaves as badly towards a server on 127.0.0.1 as a client can, and finds out
 * whether an honest client still gets its answers, in time and right to the byte.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/counts.h"
#include "tests/e2e/abuse.h"
#include "tests/e2e/crowd.h"
#include "tests/e2e/http_client.h"

#define SLAB_BYTES   (1u << 20)
#define HONEST_MS    4000  /* how long the honest client works among the others */
#define HONEST_TURNS 20	   /* and how often at least */
#define WAIT_MS	     5000  /* the longest that one of its answers may take */
#define CLEAR_MS     60000 /* until the server is rid of the crowd */

static void allocate(uint16_t port, size_t bytes, char id[64])
{
	struct maas_buf body = {0};
	char json[64];

	snprintf(json, sizeof(json), "{\"size_bytes\":%zu}", bytes);
	if (http_request(port, "POST", "/allocate", json, strlen(json), &body) != 200)
		die("POST /allocate fails");
	maas_buf_add(&body, "", 1);
	if (sscanf(body.data, "{\"id\":\"%36[0-9a-f-]\"", id) != 1)
		die("POST /allocate: %s", body.data);
	maas_buf_fini(&body);
}

static void delete(uint16_t port, const char *id)
{
	char path[128];

	snprintf(path, sizeof(path), "/allocate/%s", id);
	if (http_request(port, "DELETE", path, NULL, 0, NULL) != 200)
		die("DELETE %s fails", path);
}

/* Allocates, writes, reads and frees; returns how long the slowest step took. */
static uint64_t honest_turn(uint16_t port, uint8_t *data, size_t len)
{
	struct maas_buf body = {0};
	uint64_t slowest = 0;
	uint64_t at = maas_clock_ms();
	char path[128];
	char id[64];

	for (int step = 0; step < 4; step++) {
		uint64_t now;

		if (step == 0)
			allocate(port, len, id);
		snprintf(path, sizeof(path), "/allocate/%s/data", id);
		if (step == 1 && http_request(port, "PUT", path, data, len, NULL) != 200)
			die("PUT %s fails", path);
		if (step == 2 && http_request(port, "GET", path, NULL, 0, &body) != 200)
			die("GET %s fails", path);
		if (step == 3)
			delete (port, id);
		now = maas_clock_ms();
		slowest = now - at > slowest ? now - at : slowest;
		at = now;
	}
	if (body.len != len || memcmp(body.data, data, len) != 0)
		die("the honest client reads other bytes than it wrote");
	maas_buf_fini(&body);
	return slowest;
}

static void work_honestly(uint16_t port, const char *among)
{
	static uint8_t data[100000];
	uint64_t end_ms = maas_clock_ms() + HONEST_MS;
	uint64_t slowest = 0;
	unsigned int turns = 0;

	while (maas_clock_ms() < end_ms || turns < HONEST_TURNS) {
		uint64_t took_ms;

		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(i * 7 + turns);
		took_ms = honest_turn(port, data, sizeof(data));
		slowest = took_ms > slowest ? took_ms : slowest;
		turns++;
	}
	printf("- %u honest turns %s, the slowest answer took %llu ms\n", turns, among,
	       (unsigned long long)slowest);
	if (slowest > WAIT_MS)
		die("an honest client waits %llu ms", (unsigned long long)slowest);
}

/* Waits until only the connection that asks is left. */
static void wait_clear(uint16_t port)
{
	const struct timespec pause = {0, 200000000};
	uint64_t start_ms = maas_clock_ms();

	while (http_metric(port, "maas_http_connections") > 1.5 ||
	       http_metric(port, "maas_transfers") > 0.5) {
		if (maas_clock_ms() - start_ms > CLEAR_MS)
			die("the server keeps %g connections of a crowd that does not move",
			    http_metric(port, "maas_http_connections"));
		nanosleep(&pause, NULL);
	}
	printf("- rid of the crowd after another %llu ms\n",
	       (unsigned long long)(maas_clock_ms() - start_ms));
}

static void raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < CROWD_IDLE + CROWD_SLOW + 64)
		die("too few descriptors for this test: %llu", (unsigned long long)limit.rlim_cur);
}

int main(int argc, char **argv)
{
	uint64_t seed = maas_test_seed();
	uint16_t port = argc == 2 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
	struct crowd *crowd;
	char id[64];

	if (!port)
		die("usage: hostile PORT");
	setvbuf(stdout, NULL, _IOLBF, 0);
	raise_files();
	allocate(port, SLAB_BYTES, id);

	crowd = crowd_start(port, id);
	if (http_metric(port, "maas_http_connections") < CROWD_IDLE * 0.5)
		die("the crowd is not there");
	work_honestly(port, "among 1,000 idle and 100 slow connections");
	wait_clear(port);
	crowd_stop(crowd);

	abuse_known(port, id);
	abuse_connections(port, id);
	printf("- seed %llu\n", (unsigned long long)seed);
	abuse_random(port, id, seed, (unsigned int)count_hostile_requests());
	work_honestly(port, "after all of it");
	delete (port, id);
	return 0;
}
