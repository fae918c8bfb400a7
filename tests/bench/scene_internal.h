/* SPDX-License-Identifier: Apache-2.0 */
/* What scene.c and scene_open.c share. */
#ifndef MAAS_BENCH_SCENE_INTERNAL_H
#define MAAS_BENCH_SCENE_INTERNAL_H

#include "tests/bench/jobs.h"
#include "tests/bench/scene.h"
#include "tests/bench/server.h"

#define SCENE_ROUTES 4

enum server_name {
	FEW,
	FULL,
	BARE,
	PLAIN,
	REDIS,
	SERVERS,
};

struct scene {
	struct server servers[SERVERS];
	struct data_set data[SERVERS]; /* of FEW and REDIS */
	struct id_list ids;	       /* of FEW, made by the job under way */
	uint64_t seed;
	long cpus;
	char routes[SCENE_ROUTES][64]; /* maasd's calls and the sizes of their answers */
	const struct bench_options *options;
};

#endif
