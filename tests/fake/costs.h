/* SPDX-License-Identifier: Apache-2.0 */
/*
 * costs: what one thread does between two points: requests for memory, locks, calls of the system
 * that our own code makes. A program asks for it with `maas_costs(TARGET)` in CMake, besides
 * maas_fail_nth(TARGET).
 */
#ifndef MAAS_TESTS_FAKE_COSTS_H
#define MAAS_TESTS_FAKE_COSTS_H

#include <stdbool.h>

/* The steps of a maas_lock stand in the caller where the compiler optimizes: they are not seen. */
#ifdef __OPTIMIZE__
#define COSTS_SEES_LOCKS false
#else
#define COSTS_SEES_LOCKS true
#endif

struct costs {
	unsigned long memory;  /* requests for it */
	unsigned int locks;    /* taken */
	unsigned int repeated; /* of these, a lock that was taken before */
	unsigned int calls;    /* of the system */
};

/* Of the calling thread. */
void costs_begin(void);
struct costs costs_end(void);

#endif
