/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of lend/ share: a small pool, a lend on a clock that the test moves. */
#ifndef MAAS_TESTS_UNIT_LEND_FIXTURE_H
#define MAAS_TESTS_UNIT_LEND_FIXTURE_H

#include "lend/lend.h"
#include "tests/unit/unit.h"

#define MAX_SESSIONS 4

struct fixture {
	struct maas_slab *slab;
	struct maas_lend *lend;
};

static struct fixture f; /* of the case */
static _Atomic uint64_t fixture_now_ms;

static inline uint64_t fixture_clock_ms(void)
{
	return atomic_load(&fixture_now_ms);
}

/* A pool of `max_bytes` with slabs of 64, 1024 and 65536 bytes. */
static inline struct fixture fixture_open(uint64_t max_bytes, const struct maas_lend_key_ops *keys,
					  void *keys_ctx)
{
	static const uint64_t classes[] = {64, 1024, 65536};
	const struct maas_slab_options slab_options = {
		.max_bytes = max_bytes,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.dir_fd = -1,
	};
	struct maas_lend_options lend_options = {
		.keys = keys,
		.keys_ctx = keys_ctx,
		.max_sessions = MAX_SESSIONS,
		.clock_ms = fixture_clock_ms,
	};
	struct fixture opened = {0};

	atomic_store(&fixture_now_ms, 1000000);
	assert_int_equal(maas_slab_open(&slab_options, NULL, &opened.slab), 0);
	lend_options.slab = opened.slab;
	assert_int_equal(maas_lend_open(&lend_options, &opened.lend), 0);
	return opened;
}

static inline void fixture_close(struct fixture *open)
{
	maas_slab_check(open->slab);
	maas_lend_close(open->lend);
	maas_slab_close(open->slab);
	*open = (struct fixture){0};
}

/* A setup and a teardown. */
static inline void fixture_setup(void)
{
	f = fixture_open(1u << 20, NULL, NULL);
}

static inline void fixture_teardown(void)
{
	if (f.slab)
		fixture_close(&f);
}

/* For a case that wants another pool. */
static inline void fixture_reopen(uint64_t max_bytes)
{
	fixture_teardown();
	f = fixture_open(max_bytes, NULL, NULL);
}

/* Lets `ms` pass as they do in a healthy process: ten ticks a second. */
static inline void pass_ms(uint64_t ms)
{
	while (ms) {
		uint64_t step_ms = ms < 100 ? ms : 100;

		atomic_fetch_add(&fixture_now_ms, step_ms);
		maas_lend_tick(f.lend);
		ms -= step_ms;
	}
}

static inline struct maas_lend_allocation allocate_as(const struct maas_lend_alloc_request *request)
{
	struct maas_lend_alloc_request one = *request;
	struct maas_lend_allocation allocation = {0};
	struct maas_slab_ref ref;

	one.count = 1;
	if (!one.size_bytes)
		one.size_bytes = 100;
	assert_int_equal(maas_lend_allocate(f.lend, &one, &ref, &allocation), 0);
	return allocation;
}

#define ALLOCATE(...) allocate_as(&(const struct maas_lend_alloc_request){__VA_ARGS__})

static inline struct maas_lend_allocation allocate_plain(void)
{
	return ALLOCATE(.count = 1);
}

static inline struct maas_lend_allocation allocate_ttl(uint32_t ttl_s)
{
	return ALLOCATE(.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = ttl_s);
}

/* For ten seconds. */
static inline struct maas_lend_session_info open_session(const char *name, bool exclusive)
{
	struct maas_lend_session_info info;

	assert_int_equal(maas_lend_session_open(f.lend, NULL, name, 10, exclusive, NULL, &info), 0);
	return info;
}

static inline bool exists(const struct maas_lend_allocation *allocation)
{
	struct maas_lend_allocation found;

	return maas_lend_get(f.lend, NULL, allocation->id, &found) == 0;
}

static inline int free_now(const struct maas_lend_allocation *allocation)
{
	return maas_lend_free(f.lend, NULL, allocation->id, NULL, NULL);
}

/* The same, and `told` hears of its end. */
static inline int free_told(const struct maas_lend_allocation *allocation, struct told *told)
{
	return maas_lend_free(f.lend, NULL, allocation->id, tell, told);
}

static inline int transfer_begin(const struct maas_lend_allocation *allocation,
				 struct maas_lend_transfer *transfer)
{
	return maas_lend_transfer_begin(f.lend, NULL, allocation->id, MAAS_AUTH_OWN, transfer);
}

static inline void transfer_end(struct maas_lend_transfer *transfer)
{
	maas_lend_transfers_end(f.lend, transfer, 1);
}

/* A whole page: how many, or an error. */
static inline int list_page(const char *owner, const char *after, uint32_t limit,
			    struct maas_lend_allocation *ret, bool *ret_more)
{
	struct maas_lend_page page;
	uint32_t total = 0;
	uint32_t count;
	int r = maas_lend_page_start(f.lend, NULL, &page, owner, after, limit);
	bool going = true;

	if (r)
		return r;
	for (; going; total += count) {
		struct maas_lend_allocation some[7];

		going = maas_lend_page_next(f.lend, &page, some, MAAS_ARRAY_SIZE(some), &count);
		memcpy(ret + total, some, count * sizeof(*some));
	}
	*ret_more = page.more;
	return (int)total;
}

static inline struct maas_lend_stats lend_stats(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(f.lend, &stats);
	return stats;
}

static inline uint64_t live_slabs(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f.slab, &stats);
	return stats.live_slabs;
}

static inline uint64_t quarantined_bytes(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f.slab, &stats);
	return stats.quarantined_bytes;
}

static inline void expect_told(const struct told *told, int status)
{
	assert_int_equal(told->calls, 1);
	assert_int_equal(told->status, status);
}

#endif
