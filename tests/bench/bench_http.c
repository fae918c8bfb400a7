/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_http: maasd against a bare libmicrohttpd program, against Redis, and against itself with
 * few and many allocations.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/bench/jobs.h"
#include "tests/bench/options.h"
#include "tests/bench/report.h"
#include "tests/bench/scene.h"

#define RESIDENT_LIMIT_MIB 64.0
#define MAX_MIB_S	   200000.0 /* faster than memory is */
#define MIB		   (1024.0 * 1024.0)

enum metric {
	CPU_US, /* the server's, for one operation */
	RATE,	/* operations in a second */
	MIB_S,
	METRICS,
};

static const char *const units[METRICS] = {"us of CPU", "1/s", "MiB/s"};

enum case_name {
	HEALTH,
	HEALTH_PLAIN,
	PAIR,
	PAIR_PLAIN,
	STATS,
	PROM,
	FULL_STATS,
	FULL_PROM,
	DATA_GET,
	DATA_PUT,
	BATCH,
	CASES,
};

static const struct {
	enum scene_job ours;
	enum scene_job baseline;
	const char *baseline_name;
	unsigned int operations;
} cases[CASES] = {
	[HEALTH] = {SCENE_HEALTH, SCENE_BARE_HEALTH, "bare libmicrohttpd", 20000},
	[HEALTH_PLAIN] = {SCENE_HEALTH, SCENE_PLAIN_HEALTH, "bare, its own buffers", 20000},
	[PAIR] = {SCENE_PAIR, SCENE_BARE_PAIR, "bare libmicrohttpd", 10000},
	[PAIR_PLAIN] = {SCENE_PAIR, SCENE_PLAIN_PAIR, "bare, its own buffers", 10000},
	[STATS] = {SCENE_STATS, SCENE_BARE_STATS, "bare libmicrohttpd", 10000},
	[PROM] = {SCENE_METRICS, SCENE_BARE_METRICS, "bare libmicrohttpd", 5000},
	[FULL_STATS] = {SCENE_FULL_STATS, SCENE_STATS, "the same at 10", 10000},
	[FULL_PROM] = {SCENE_FULL_METRICS, SCENE_METRICS, "the same at 10", 5000},
	[DATA_GET] = {SCENE_DATA_GET, SCENE_REDIS_GET, "Redis GET", 400},
	[DATA_PUT] = {SCENE_DATA_PUT, SCENE_REDIS_SET, "Redis SET", 400},
	[BATCH] = {SCENE_BATCH, SCENE_SINGLES, "single requests", 2 * SCENE_BATCH_SLABS},
};

static const struct {
	enum case_name of;
	enum metric metric;
	double bar;
	enum bench_bar_is bar_is;
	const char *name;
} comparisons[] = {
	{HEALTH, CPU_US, 1.25, BENCH_BAR_MAX, "GET /health"},
	{PAIR, CPU_US, 1.6, BENCH_BAR_MAX, "POST /allocate + DELETE"},
	{FULL_STATS, CPU_US, 1.2, BENCH_BAR_MAX, "GET /stats at 1,000,000 live"},
	{FULL_PROM, CPU_US, 1.2, BENCH_BAR_MAX, "GET /metrics at 1,000,000 live"},
	{DATA_GET, MIB_S, 1.0, BENCH_BAR_MIN, "GET 4 MiB of data"},
	{DATA_PUT, MIB_S, 0.9, BENCH_BAR_MIN, "PUT 4 MiB of data"},
	{BATCH, CPU_US, 0.05, BENCH_BAR_MAX, "a slab of 10,000 in one request"},
	{HEALTH_PLAIN, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "GET /health"},
	{PAIR_PLAIN, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "POST /allocate + DELETE"},
	{STATS, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "GET /stats"},
	{PROM, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "GET /metrics"},
	{DATA_GET, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "GET 4 MiB of data"},
	{DATA_PUT, CPU_US, BENCH_NO_BAR, BENCH_BAR_MAX, "PUT 4 MiB of data"},
	{HEALTH, RATE, BENCH_NO_BAR, BENCH_BAR_MIN, "GET /health"},
};

#define NUM_COMPARISONS MAAS_ARRAY_SIZE(comparisons)

/* The last one is the resident memory, whose baseline is what is allowed. */
static struct bench_row rows[NUM_COMPARISONS + 1];

static double figure(const struct scene_sample *sample, enum metric metric)
{
	if (metric == CPU_US)
		return sample->cpu_ns / 1e3;
	if (metric == RATE)
		return 1e9 / sample->wall_ns;
	return (double)JOB_DATA_BYTES / MIB * 1e9 / sample->wall_ns;
}

static int add_case(enum case_name name, const struct scene_sample samples[3])
{
	int ret = 0;

	for (unsigned int i = 0; i < NUM_COMPARISONS && ret == 0; i++) {
		double values[3];

		if (comparisons[i].of != name)
			continue;
		for (unsigned int s = 0; s < 3; s++) {
			values[s] = figure(&samples[s], comparisons[i].metric);
			if (comparisons[i].metric == MIB_S && values[s] > MAX_MIB_S)
				return -ERANGE;
		}
		ret = bench_row_add(&rows[i], values[0], values[1], values[2]);
	}
	return ret;
}

/* Ours, the baseline and the baseline again, in an order that changes from pair to pair. */
static int take_case(struct scene *scene, enum case_name name, unsigned int pair, bool quick)
{
	static const unsigned char orders[][3] = {{0, 1, 2}, {1, 0, 2}, {1, 2, 0}};
	const unsigned char *order = orders[pair % MAAS_ARRAY_SIZE(orders)];
	unsigned int operations = cases[name].operations;
	struct scene_sample samples[3];

	if (quick)
		operations = name == BATCH ? SCENE_BATCH_SLABS : operations / 10;
	for (unsigned int i = 0; i < 3; i++) {
		enum scene_job job = order[i] == 0 ? cases[name].ours : cases[name].baseline;
		int ret = scene_measure(scene, job, operations, &samples[order[i]]);

		if (ret)
			return ret;
	}
	return add_case(name, samples);
}

static int take_pair(struct scene *scene, unsigned int pair, bool quick)
{
	uint64_t bytes;
	int ret = 0;

	for (unsigned int i = 0; i < CASES && ret == 0; i++)
		ret = take_case(scene, i, pair, quick);
	if (ret == 0)
		ret = scene_resident_beside(scene, &bytes);
	if (ret == 0)
		ret = bench_row_add(&rows[NUM_COMPARISONS], (double)bytes / MIB, RESIDENT_LIMIT_MIB,
				    RESIDENT_LIMIT_MIB);
	return ret;
}

static void name_rows(void)
{
	for (unsigned int i = 0; i < NUM_COMPARISONS; i++) {
		rows[i].name = comparisons[i].name;
		rows[i].unit = units[comparisons[i].metric];
		rows[i].baseline_name = cases[comparisons[i].of].baseline_name;
		rows[i].bar = comparisons[i].bar;
		rows[i].bar_is = comparisons[i].bar_is;
	}
	rows[NUM_COMPARISONS] = (struct bench_row){
		.name = "resident beside 1,000,000 live 1 KiB",
		.unit = "MiB",
		.baseline_name = "allowed",
		.bar = 1.0,
	};
}

int main(int argc, char **argv)
{
	struct bench_options options;
	struct scene *scene = NULL;
	int ret;

	if (bench_options_parse(argc, argv, &options) != 0)
		return 2;
	if (!options.maasd || !options.bare || !options.redis || !options.dir) {
		fprintf(stderr, "--maasd, --bare, --redis and --dir are needed\n");
		return 2;
	}
	name_rows();
	ret = scene_open(&options, &scene);
	for (unsigned int pair = 0; pair < options.pairs && ret == 0; pair++) {
		bench_progress("http", pair, options.pairs);
		ret = take_pair(scene, pair, options.quick);
	}
	if (scene_close(scene) != 0 || ret != 0)
		return EXIT_FAILURE;
	bench_progress("http", options.pairs, options.pairs);
	return bench_report_write(options.out, "http", rows, MAAS_ARRAY_SIZE(rows)) ? EXIT_FAILURE
										    : EXIT_SUCCESS;
}
