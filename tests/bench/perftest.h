/* SPDX-License-Identifier: Apache-2.0 */
/* perftest: one run of a program of perftest, server and client on this host. One thread. */
#ifndef MAAS_BENCH_PERFTEST_H
#define MAAS_BENCH_PERFTEST_H

#include "base/base.h"

struct perftest {
	const char *program; /* ib_write_bw, … */
	const char *device;
	const char *dir;    /* for their output */
	uint64_t bytes;	    /* of a message */
	unsigned int depth; /* messages under way; 0: latency, one by one */
	unsigned int messages;
};

struct perftest_result {
	double mib_s;  /* of bandwidth … */
	double p50_us; /* … or of latency */
	double p99_us;
	double p999_us;
	double cpu_ns; /* of both programs, from start to end */
};

/* Errors: -ETIMEDOUT, -EIO, -EBADMSG its table could not be read. */
MAAS_MUST_CHECK int perftest_run(const struct perftest *test, struct perftest_result *ret_result);

#endif
