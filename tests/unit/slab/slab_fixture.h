/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of slab/ share: pools in one line, patterns, and checks of a slab's bytes. */
#ifndef MAAS_TESTS_UNIT_SLAB_FIXTURE_H
#define MAAS_TESTS_UNIT_SLAB_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "slab/slab.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)

/* A pool over a memfd with `...` as its slab classes. */
#define POOL(max, extent, ...)                                                                     \
	pool_open(max, extent, (const uint64_t[]){__VA_ARGS__},                                    \
		  sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static inline struct maas_slab *pool_open(uint64_t max_bytes, uint64_t extent_bytes,
					  const uint64_t *class_bytes, size_t num_classes)
{
	const struct maas_slab_options options = {
		.max_bytes = max_bytes,
		.class_bytes = class_bytes,
		.num_classes = (unsigned int)num_classes,
		.extent_bytes = extent_bytes,
		.dir_fd = -1,
	};
	char error[MAAS_SLAB_ERROR] = "";
	struct maas_slab *slab = NULL;
	int r = maas_slab_open(&options, error, &slab);

	if (r)
		fail_msg("maas_slab_open: %d: %s", r, error);
	return slab;
}

static inline struct maas_slab_ref pool_alloc(struct maas_slab *slab, uint64_t size_bytes)
{
	struct maas_slab_label label = {0};
	struct maas_slab_ref ref = {0};

	assert_int_equal(maas_slab_alloc(slab, size_bytes, &label, &ref), 0);
	return ref;
}

/* 0 or the error, for calls whose slab nobody needs. */
static inline int pool_try_alloc(struct maas_slab *slab, uint64_t size_bytes)
{
	struct maas_slab_label label = {0};
	struct maas_slab_ref ref;

	return maas_slab_alloc(slab, size_bytes, &label, &ref);
}

static inline struct maas_slab_info pool_get(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_info info = {0};

	assert_int_equal(maas_slab_get(slab, ref, &info), 0);
	return info;
}

static inline int pool_try_get(struct maas_slab *slab, struct maas_slab_ref ref)
{
	struct maas_slab_info info;

	return maas_slab_get(slab, ref, &info);
}

static inline void pool_free(struct maas_slab *slab, struct maas_slab_ref ref)
{
	assert_int_equal(maas_slab_free(slab, ref), 0);
}

static inline struct maas_slab_stats pool_stats(struct maas_slab *slab)
{
	struct maas_slab_stats stats;

	maas_slab_stats(slab, &stats);
	return stats;
}

static inline uint64_t pool_waiting(struct maas_slab *slab)
{
	struct maas_slab_stats stats = pool_stats(slab);
	uint64_t waiting = 0;

	for (unsigned int i = 0; i < stats.num_classes; i++)
		waiting += stats.classes[i].waiting_slabs;
	return waiting;
}

/* Two seconds of housekeeping from `now_ms` on: whatever waited is back then. Returns the end. */
static inline uint64_t pool_settle_at(struct maas_slab *slab, uint64_t now_ms)
{
	for (int i = 0; i <= 2; i++, now_ms += 1000) {
		while (maas_slab_reclaim(slab, now_ms, 64 * MIB))
			;
	}
	assert_int_equal(pool_waiting(slab), 0);
	return now_ms;
}

/* The same, for a test that does not ask what time it is. */
static inline void pool_settle(struct maas_slab *slab)
{
	static uint64_t ahead_ms;

	ahead_ms += 5000;
	pool_settle_at(slab, maas_clock_ms() + ahead_ms);
}

static inline bool bytes_are_zero(const uint8_t *bytes, uint64_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Slabs are whole multiples of 64 bytes: 8 at a time. */
static inline void pattern_write(uint8_t *bytes, uint64_t len, uint64_t seed)
{
	for (uint64_t i = 0; i < len; i += sizeof(seed)) {
		uint64_t word = (seed + i) * 0x9e3779b97f4a7c15u | 1;

		memcpy(bytes + i, &word, sizeof(word));
	}
}

static inline bool pattern_holds(const uint8_t *bytes, uint64_t len, uint64_t seed)
{
	for (uint64_t i = 0; i < len; i += sizeof(seed)) {
		uint64_t word = (seed + i) * 0x9e3779b97f4a7c15u | 1;

		if (memcmp(bytes + i, &word, sizeof(word)) != 0)
			return false;
	}
	return true;
}

#endif
