/* SPDX-License-Identifier: Apache-2.0 */
/* Of rdma_data: messages to memory of a maasd, and the two ways to send them. Threading: one
 * thread. */
#ifndef MAAS_BENCH_RDMA_DATA_H
#define MAAS_BENCH_RDMA_DATA_H

#include "base/base.h"

#define MAX_BYTES    (4u << 20)
#define MAX_MESSAGES 100000

struct messages {
	bool write;
	uint64_t bytes;
	unsigned int depth; /* so many under way; 0: one by one, each of them timed */
	unsigned int count;
};

/* Nanoseconds of those that are timed, in turn. */
extern uint64_t times_ns[MAX_MESSAGES];

/*
 * A way to send them; `memory` is where their bytes are sent from, or received. Errors: -errno,
 * logged.
 */
struct way {
	int (*open)(const char *url, uint8_t **ret_memory);
	int (*run)(const struct messages *messages);
	int (*allocate)(unsigned int count); /* NULL: it cannot */
	void (*close)(void);		     /* also of what is half open */
};

extern const struct way by_verbs; /* alone: one connection, one key, a loop that posts and polls */

#endif
