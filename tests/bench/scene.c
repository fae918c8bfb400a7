/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/bench/scene_internal.h"

#define SETTLE_MS	  20000
#define VERIFY_OPERATIONS 8

enum after {
	NOTHING,
	SETTLE, /* the server's work goes on after the last answer: what was freed is zeroed */
	FREE,
	VERIFY,
};

static const struct {
	enum server_name server;
	enum job_kind kind;
	enum after after;
} works[SCENE_JOBS] = {
	[SCENE_HEALTH] = {FEW, JOB_HEALTH, NOTHING},
	[SCENE_BARE_HEALTH] = {BARE, JOB_HEALTH, NOTHING},
	[SCENE_PLAIN_HEALTH] = {PLAIN, JOB_HEALTH, NOTHING},
	[SCENE_PAIR] = {FEW, JOB_PAIR, SETTLE},
	[SCENE_BARE_PAIR] = {BARE, JOB_PAIR, NOTHING},
	[SCENE_PLAIN_PAIR] = {PLAIN, JOB_PAIR, NOTHING},
	[SCENE_STATS] = {FEW, JOB_STATS, NOTHING},
	[SCENE_BARE_STATS] = {BARE, JOB_STATS, NOTHING},
	[SCENE_FULL_STATS] = {FULL, JOB_STATS, NOTHING},
	[SCENE_METRICS] = {FEW, JOB_METRICS, NOTHING},
	[SCENE_BARE_METRICS] = {BARE, JOB_METRICS, NOTHING},
	[SCENE_FULL_METRICS] = {FULL, JOB_METRICS, NOTHING},
	[SCENE_SINGLES] = {FEW, JOB_ALLOCATE, FREE},
	[SCENE_BATCH] = {FEW, JOB_BATCH, FREE},
	[SCENE_DATA_GET] = {FEW, JOB_DATA_GET, VERIFY},
	[SCENE_DATA_PUT] = {FEW, JOB_DATA_PUT, VERIFY},
	[SCENE_REDIS_GET] = {REDIS, JOB_REDIS_GET, VERIFY},
	[SCENE_REDIS_SET] = {REDIS, JOB_REDIS_SET, VERIFY},
};

static void pause_ms(long ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

/* ---- the state of a maasd */

/* Slabs that were freed and are not zeroed yet. */
static int waiting_slabs(uint16_t port, json_int_t *ret_waiting)
{
	json_int_t waiting = 0;
	char *text;
	json_t *stats;
	json_t *pool;
	size_t i;
	int ret = job_call(port, "GET /stats", NULL, &text);

	if (ret)
		return ret;
	stats = json_loads(text, 0, NULL);
	free(text);
	if (!json_is_array(json_object_get(stats, "pool_stats")))
		ret = -EBADMSG;
	json_array_foreach(json_object_get(stats, "pool_stats"), i, pool) waiting +=
		json_integer_value(json_object_get(pool, "total_slabs")) -
		json_integer_value(json_object_get(pool, "free_slabs")) -
		json_integer_value(json_object_get(pool, "used_slabs"));
	json_decref(stats);
	*ret_waiting = waiting;
	return ret;
}

static int settle(const struct server *server)
{
	json_int_t waiting = 1;

	for (long ms = 0; ms < SETTLE_MS; ms += 200) {
		int ret;

		pause_ms(200);
		ret = waiting_slabs(server->port, &waiting);
		if (ret)
			return ret;
		if (waiting == 0)
			return 0;
	}
	log_err("freed slabs are still not zeroed slabs=%lld", (long long)waiting);
	return -ETIMEDOUT;
}

static int free_some(struct scene *scene, size_t from, size_t to)
{
	struct maas_buf body = {0};
	char *answer = NULL;
	int ret;

	maas_buf_str(&body, "{\"ids\":[");
	for (size_t i = from; i < to; i++)
		maas_buf_printf(&body, "%s\"%s\"", i == from ? "" : ",", scene->ids.ids[i]);
	maas_buf_add(&body, "]}", sizeof("]}"));
	ret = body.error;
	if (ret == 0)
		ret = job_call(scene->servers[FEW].port, "POST /free", body.data, &answer);
	maas_buf_fini(&body);
	if (ret == 0 && !strstr(answer, "\"unknown\":[]")) {
		log_err("an allocation is not there any more answer=\"%.200s\"", answer);
		ret = -EBADMSG;
	}
	free(answer);
	return ret;
}

static int free_all(struct scene *scene)
{
	int ret = 0;

	for (size_t i = 0; i < scene->ids.num && ret == 0; i += SCENE_BATCH_SLABS) {
		size_t left = scene->ids.num - i;

		ret = free_some(scene, i,
				i + (left < SCENE_BATCH_SLABS ? left : SCENE_BATCH_SLABS));
	}
	scene->ids.num = 0;
	return ret ? ret : settle(&scene->servers[FEW]);
}

/* ---- jobs */

static int run_job(struct scene *scene, enum scene_job job, uint64_t operations, bool verify,
		   struct scene_sample *ret_sample)
{
	const struct server *server = &scene->servers[works[job].server];
	const struct job_options options = {
		.kind = works[job].kind,
		.batch = SCENE_BATCH_SLABS,
		.ids = &scene->ids,
		.data = &scene->data[works[job].server],
		.verify = verify,
	};
	uint64_t requests = job == SCENE_BATCH ? operations / SCENE_BATCH_SLABS : operations;
	uint64_t wall_ns = 0;
	uint64_t start_ns;
	uint64_t cpu_ns;
	struct job *run;
	int ret = job_open(server->port, &options, &run);

	if (ret)
		return ret;
	/* Connections are made and buffers have grown before the clock starts. */
	if (works[job].after != FREE)
		ret = job_run(run, UINT64_C(4) * job_connections(run), &wall_ns);
	if (ret == 0 && works[job].after == SETTLE)
		ret = settle(server);
	start_ns = maas_clock_ns();
	cpu_ns = server_cpu_ns(server);
	if (ret == 0)
		ret = job_run(run, requests, &wall_ns);
	if (ret == 0 && works[job].after == SETTLE)
		ret = settle(server);
	pause_ms(5);
	cpu_ns = server_cpu_ns(server) - cpu_ns;
	job_close(run);
	if (ret)
		return ret;
	if (cpu_ns == 0 || cpu_ns > (maas_clock_ns() - start_ns) * (uint64_t)scene->cpus) {
		log_err("impossible CPU time server=%s ns=%llu", server->name,
			(unsigned long long)cpu_ns);
		return -ERANGE;
	}
	ret_sample->cpu_ns = (double)cpu_ns / (double)operations;
	ret_sample->wall_ns = (double)wall_ns / (double)operations;
	return 0;
}

static int verify_data(struct scene *scene, enum server_name server)
{
	struct scene_sample unused;

	return run_job(scene, server == REDIS ? SCENE_REDIS_GET : SCENE_DATA_GET, VERIFY_OPERATIONS,
		       true, &unused);
}

int scene_measure(struct scene *scene, enum scene_job job, uint64_t operations,
		  struct scene_sample *ret_sample)
{
	int ret;

	/* Other bytes than before: a write that did not happen is seen. */
	if (job == SCENE_DATA_PUT || job == SCENE_REDIS_SET)
		data_set_fill(&scene->data[works[job].server], ++scene->seed);
	ret = run_job(scene, job, operations, false, ret_sample);
	if (ret == 0 && works[job].after == FREE)
		ret = free_all(scene);
	if (ret == 0 && works[job].after == VERIFY)
		ret = verify_data(scene, works[job].server);
	return ret;
}

int scene_resident_beside(struct scene *scene, uint64_t *ret_bytes)
{
	uint64_t bytes;
	int ret = server_memory(&scene->servers[FULL], &bytes);

	if (ret == 0 && bytes < SCENE_FULL * 1024ull) {
		log_err("impossible: less memory than is lent bytes=%llu",
			(unsigned long long)bytes);
		return -ERANGE;
	}
	*ret_bytes = bytes - SCENE_FULL * 1024ull;
	return ret;
}
