/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the tests do. Every count that differs between the two tiers stands here and nowhere
 * else: the gate (every change) does the small one, MAAS_LONG=1 (`scripts/test --long`) the full.
 */
#ifndef MAAS_TESTS_COUNTS_H
#define MAAS_TESTS_COUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline bool maas_test_long(void)
{
	const char *value = getenv("MAAS_LONG");

	return value && strcmp(value, "1") == 0;
}

static inline bool maas_test_short(void)
{
	const char *value = getenv("MAAS_SHORT");

	return value && strcmp(value, "1") == 0;
}

/* The seed of random tests: MAAS_SEED, so that a failure can be run again, else a new one. */
static inline uint64_t maas_test_seed(void)
{
	const char *value = getenv("MAAS_SEED");

	return value ? strtoull(value, NULL, 0) : (uint64_t)time(NULL);
}

/* The same, and prints it. */
static inline uint64_t maas_test_seed_told(void)
{
	uint64_t seed = maas_test_seed();

	printf("MAAS_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

#define MAAS_TEST_COUNT(name, gate, full)                                                          \
	static inline uint64_t name(void)                                                          \
	{                                                                                          \
		return maas_test_long() ? (full) : (gate);                                         \
	}

/* For a program that ctest runs twice: a short run (MAAS_SHORT=1) among the unit tests as well. */
#define MAAS_TEST_COUNT_SHORT(name, brief, gate, full)                                             \
	static inline uint64_t name(void)                                                          \
	{                                                                                          \
		return maas_test_short() ? (brief) : maas_test_long() ? (full) : (gate);           \
	}

MAAS_TEST_COUNT_SHORT(count_slab_model_ops, 60000, 1200000, 40000000) /* all pools together */
MAAS_TEST_COUNT_SHORT(count_slab_thread_ops, 5000, 40000, 300000)     /* per thread */
MAAS_TEST_COUNT_SHORT(count_slab_thread_races, 500, 4000, 30000)
MAAS_TEST_COUNT(count_slab_restarts, 20, 500)
/* Every call fails once; in a short run every 7th. */
static inline uint64_t count_rdma_nomem_step(void)
{
	return maas_test_short() ? 7 : 1;
}

MAAS_TEST_COUNT_SHORT(count_lend_thread_ops, 3000, 8000, 40000) /* per thread */
MAAS_TEST_COUNT(count_lend_request_ops, 40000, 2000000)
MAAS_TEST_COUNT_SHORT(count_slab_fill_mib, 64, 256, 2048)
MAAS_TEST_COUNT(count_slab_generations, 100000, 2000000)
MAAS_TEST_COUNT(count_id_keys, 20, 200)
MAAS_TEST_COUNT(count_id_guesses, 100000, 2000000)

/*
 * On a real device. The full ones take an hour and a quarter altogether in virtual machines that
 * are emulated, which run a tenth as fast as real ones: a stop takes two seconds, a stale key with
 * a connection of its own 150 ms.
 */
MAAS_TEST_COUNT(count_device_stale, 200, 2000)
MAAS_TEST_COUNT(count_device_foreign, 30, 300)
MAAS_TEST_COUNT(count_device_guesses, 64, 500)
MAAS_TEST_COUNT(count_device_bounds, 8, 80) /* a multiple of 8: each way of each size */
MAAS_TEST_COUNT(count_device_garbage, 40, 250)
MAAS_TEST_COUNT(count_device_halfway, 128, 512)
MAAS_TEST_COUNT(count_device_reconnects, 20, 200)
MAAS_TEST_COUNT(count_device_stops, 10, 200)
MAAS_TEST_COUNT(count_device_kills, 20, 200)
MAAS_TEST_COUNT(count_device_grants, 10000, 100000)
MAAS_TEST_COUNT(count_device_cable_s, 5, 60) /* for which the cable is pulled */
MAAS_TEST_COUNT(count_device_loss_percent, 1, 5)
MAAS_TEST_COUNT(count_device_loss_s, 10, 60)

#endif
