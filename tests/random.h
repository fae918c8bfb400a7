/* SPDX-License-Identifier: Apache-2.0 */
/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
#ifndef MAAS_TESTS_RANDOM_H
#define MAAS_TESTS_RANDOM_H

#include <stdint.h>

static inline uint64_t test_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Less than `limit`; 0 when that is 0. */
static inline uint64_t test_random_below(uint64_t *state, uint64_t limit)
{
	return limit ? test_random(state) % limit : 0;
}

#endif
