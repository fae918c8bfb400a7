/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the benches share: a failure of any kind ends them with a word of why, for
 * half a measurement is none. Threading: any thread.
 */
#ifndef MAAS_BENCH_BENCH_H
#define MAAS_BENCH_BENCH_H

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/base.h"

/* Of what says in errno why it failed. */
static inline void need(bool good, const char *what)
{
	if (!good)
		err(EXIT_FAILURE, "%s", what);
}

/* Of what returns 0, or errno with either sign. */
static inline void need_0(int error, const char *what)
{
	errno = abs(error);
	need(!error, what);
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec time = {0};

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
