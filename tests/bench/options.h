/* SPDX-License-Identifier: Apache-2.0 */
/* options: what scripts/bench tells a driver, and what a driver tells the person who waits. */
#ifndef MAAS_BENCH_OPTIONS_H
#define MAAS_BENCH_OPTIONS_H

#include "base/base.h"

struct bench_options {
	const char *out; /* the report's file */
	unsigned int pairs;
	bool quick;	   /* a tenth of the work: shows that it runs, not how fast */
	const char *dir;   /* bench_http, bench_rdma: for the servers' output */
	const char *maasd; /* … and the programs themselves */
	const char *bare;
	const char *redis;
	const char *keys; /* bench_rdma: bind_keys */
};

/* Says on stderr what is wrong. Errors: -EINVAL. */
MAAS_MUST_CHECK int bench_options_parse(int argc, char **argv, struct bench_options *ret_options);

/* `done` of `total` pairs, one line on stderr that is written over when stderr is a terminal. */
void bench_progress(const char *area, unsigned int done, unsigned int total);

#endif
