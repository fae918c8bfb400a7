/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of slab/ share: pools in one line, patterns, and checks of a slab's bytes. */
#ifndef MAAS_TESTS_UNIT_SLAB_FIXTURE_H
#define MAAS_TESTS_UNIT_SLAB_FIXTURE_H

#include "slab/slab.h"
#include "tests/unit/unit.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)

static const struct maas_slab_label no_label;

/* ---- pools; those of a case are closed with it */

static struct maas_slab *pools[4];

static inline struct maas_slab *pool_open_as(const struct maas_slab_options *options)
{
	char error[MAAS_SLAB_ERROR] = "";
	unsigned int i = 0;

	while (i < MAAS_ARRAY_SIZE(pools) && pools[i])
		i++;
	assert_true(i < MAAS_ARRAY_SIZE(pools));
	if (maas_slab_open(options, error, &pools[i]))
		fail_msg("maas_slab_open: %s", error);
	return pools[i];
}

/* Slab classes, and how many. */
#define CLASSES(...)                                                                               \
	(const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)

/* A pool over a memfd with `...` as its slab classes. */
#define POOL(max, extent, ...) pool_open(max, extent, CLASSES(__VA_ARGS__))

static inline struct maas_slab_options pool_options(uint64_t max_bytes, uint64_t extent_bytes,
						    const uint64_t *class_bytes, size_t num_classes)
{
	return (struct maas_slab_options){
		.max_bytes = max_bytes,
		.class_bytes = class_bytes,
		.num_classes = (unsigned int)num_classes,
		.extent_bytes = extent_bytes,
	};
}

static inline struct maas_slab *pool_open(uint64_t max_bytes, uint64_t extent_bytes,
					  const uint64_t *class_bytes, size_t num_classes)
{
	const struct maas_slab_options options =
		pool_options(max_bytes, extent_bytes, class_bytes, num_classes);

	return pool_open_as(&options);
}

static inline void pool_forget(const struct maas_slab *slab)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pools); i++)
		if (pools[i] == slab)
			pools[i] = NULL;
}

/* Before its case ends. */
static inline void pool_close(struct maas_slab *slab)
{
	pool_forget(slab);
	maas_slab_check(slab);
	maas_slab_close(slab);
}

static inline void pool_discard(struct maas_slab *slab)
{
	pool_forget(slab);
	maas_slab_discard(slab);
}

/* The teardown of a program. */
static inline void pools_close(void)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pools); i++)
		if (pools[i])
			pool_close(pools[i]);
}

static char pool_error[MAAS_SLAB_ERROR]; /* of the last refusal */

/* Refused, with `words` in the reason. */
static inline void expect_refused_as(const struct maas_slab_options *options, int wanted,
				     const char *words)
{
	struct maas_slab *slab = NULL;

	*pool_error = '\0';
	assert_int_equal(maas_slab_open(options, pool_error, &slab), wanted);
	assert_null(slab);
	if (!strstr(pool_error, words))
		fail_msg("'%s' is not in: %s", words, pool_error);
}

/* ---- slabs */

static inline struct maas_slab_ref pool_alloc(struct maas_slab *slab, uint64_t size_bytes)
{
	struct maas_slab_ref ref = {0};

	assert_int_equal(maas_slab_alloc(slab, size_bytes, &no_label, &ref), 0);
	return ref;
}

/* 0 or the error, for calls whose slab nobody needs. */
static inline int pool_try_alloc(struct maas_slab *slab, uint64_t size_bytes)
{
	struct maas_slab_ref ref;

	return maas_slab_alloc(slab, size_bytes, &no_label, &ref);
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

/* A new slab, which is zero as every new one is. */
static inline struct maas_slab_info pool_take(struct maas_slab *slab, uint64_t size_bytes)
{
	struct maas_slab_info info = pool_get(slab, pool_alloc(slab, size_bytes));

	assert_true(bytes_are_zero(info.bytes, info.slab_bytes));
	return info;
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
