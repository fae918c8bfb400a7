/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scene: the servers of the http benchmark and what they are made to do.
 *
 *     few    maasd with 10 live allocations        bare   bare_mhd with maasd's buffers
 *     full   maasd with 1,000,000 of 1 KiB         plain  bare_mhd with the library's own
 *                                                  redis  redis-server, nothing saved
 *
 * All run all the time; one at a time has work. Threading: one thread.
 */
#ifndef MAAS_BENCH_SCENE_H
#define MAAS_BENCH_SCENE_H

#include "tests/bench/options.h"

#define SCENE_FEW  10u
#define SCENE_FULL 1000000u

enum scene_job {
	SCENE_HEALTH,
	SCENE_BARE_HEALTH,
	SCENE_PLAIN_HEALTH,
	SCENE_PAIR,
	SCENE_BARE_PAIR,
	SCENE_PLAIN_PAIR,
	SCENE_STATS,
	SCENE_BARE_STATS,
	SCENE_FULL_STATS,
	SCENE_METRICS,
	SCENE_BARE_METRICS,
	SCENE_FULL_METRICS,
	SCENE_SINGLES, /* an operation is a slab */
	SCENE_BATCH,   /* … too; their number is a multiple of SCENE_BATCH_SLABS */
	SCENE_DATA_GET,
	SCENE_DATA_PUT,
	SCENE_REDIS_GET,
	SCENE_REDIS_SET,
	SCENE_JOBS,
};

#define SCENE_BATCH_SLABS 10000u

/* Of one operation. */
struct scene_sample {
	double cpu_ns; /* the server's */
	double wall_ns;
};

struct scene;

/* Starts and fills all servers. Errors: whatever fails; logged. */
MAAS_MUST_CHECK int scene_open(const struct bench_options *options, struct scene **ret_scene);

/* Stops all. Errors: -EIO when a server did not end well. */
MAAS_MUST_CHECK int scene_close(struct scene *scene);

/*
 * Does a job and what has to be done after it: allocations are freed and zeroed, data is compared
 * byte by byte. Errors: a failed operation, a wrong byte, -ERANGE for an impossible figure; logged.
 */
MAAS_MUST_CHECK int scene_measure(struct scene *scene, enum scene_job job, uint64_t operations,
				  struct scene_sample *ret_sample);

/* What the full maasd keeps in memory beside the lent bytes. */
MAAS_MUST_CHECK int scene_resident_beside(struct scene *scene, uint64_t *ret_bytes);

#endif
