/* SPDX-License-Identifier: Apache-2.0 */
/* key_maker: a bind_keys that runs, and is asked for samples. One thread. */
#ifndef MAAS_BENCH_KEY_MAKER_H
#define MAAS_BENCH_KEY_MAKER_H

#include <sys/types.h>

#include "base/base.h"

struct key_maker {
	pid_t pid; /* 0: not started */
	FILE *to;
	FILE *from;
};

struct key_sample {
	double wall_ns; /* for a key */
	double cpu_ns;
};

/* Errors: errno of fork(2), -EIO it did not get ready. */
MAAS_MUST_CHECK int key_maker_open(struct key_maker *maker, const char *program, const char *mode,
				   unsigned int live);
/* Errors: -EIO. */
MAAS_MUST_CHECK int key_maker_sample(struct key_maker *maker, bool bare,
				     struct key_sample *ret_sample);
/* Errors: -EIO it did not end with 0. */
MAAS_MUST_CHECK int key_maker_close(struct key_maker *maker);

#endif
