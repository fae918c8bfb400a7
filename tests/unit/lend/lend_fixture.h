/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of lend/ share: a small pool, a lend on a clock that the test moves. */
#ifndef MAAS_TESTS_UNIT_LEND_FIXTURE_H
#define MAAS_TESTS_UNIT_LEND_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lend/lend.h"

#define MAX_SESSIONS 4

struct fixture {
	struct maas_slab *slab;
	struct maas_lend *lend;
};

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
	struct fixture f = {0};

	atomic_store(&fixture_now_ms, 1000000);
	assert_int_equal(maas_slab_open(&slab_options, NULL, &f.slab), 0);
	lend_options.slab = f.slab;
	assert_int_equal(maas_lend_open(&lend_options, &f.lend), 0);
	return f;
}

static inline void fixture_close(struct fixture *f)
{
	maas_slab_check(f->slab);
	maas_lend_close(f->lend);
	maas_slab_close(f->slab);
}

/* Lets `ms` pass as they do in a healthy process: ten ticks a second. */
static inline void pass_ms(struct fixture *f, uint64_t ms)
{
	while (ms) {
		uint64_t step_ms = ms < 100 ? ms : 100;

		atomic_fetch_add(&fixture_now_ms, step_ms);
		maas_lend_tick(f->lend);
		ms -= step_ms;
	}
}

static inline struct maas_lend_allocation allocate_as(struct fixture *f,
						      const struct maas_lend_alloc_request *request)
{
	struct maas_lend_alloc_request one = *request;
	struct maas_lend_allocation allocation = {0};
	struct maas_slab_ref ref;

	one.count = 1;
	if (!one.size_bytes)
		one.size_bytes = 100;
	assert_int_equal(maas_lend_allocate(f->lend, &one, &ref, &allocation), 0);
	return allocation;
}

#define ALLOCATE(f, ...) allocate_as(f, &(const struct maas_lend_alloc_request){__VA_ARGS__})

static inline struct maas_lend_allocation allocate_plain(struct fixture *f)
{
	const struct maas_lend_alloc_request request = {0};

	return allocate_as(f, &request);
}

static inline struct maas_lend_allocation allocate_ttl(struct fixture *f, uint32_t ttl_s)
{
	return ALLOCATE(f, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = ttl_s);
}

static inline bool exists(struct fixture *f, const struct maas_lend_allocation *allocation)
{
	struct maas_lend_allocation found;

	return maas_lend_get(f->lend, allocation->id, &found) == 0;
}

static inline int free_now(struct fixture *f, const struct maas_lend_allocation *allocation)
{
	return maas_lend_free(f->lend, allocation->id, NULL, NULL);
}

/* A whole page: how many, or an error. */
static inline int list_page(struct maas_lend *lend, const char *owner, const char *after,
			    uint32_t limit, struct maas_lend_allocation *ret, bool *ret_more)
{
	struct maas_lend_page page;
	uint32_t total = 0;
	uint32_t count;
	int r = maas_lend_page_start(lend, &page, owner, after, limit);
	bool going = true;

	if (r)
		return r;
	for (; going; total += count) {
		struct maas_lend_allocation some[7];

		going = maas_lend_page_next(lend, &page, some, MAAS_ARRAY_SIZE(some), &count);
		memcpy(ret + total, some, count * sizeof(*some));
	}
	*ret_more = page.more;
	return (int)total;
}

static inline struct maas_lend_stats lend_stats(struct fixture *f)
{
	struct maas_lend_stats stats;

	maas_lend_stats(f->lend, &stats);
	return stats;
}

static inline uint64_t live_slabs(struct fixture *f)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f->slab, &stats);
	return stats.live_slabs;
}

static inline uint64_t quarantined_bytes(struct fixture *f)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f->slab, &stats);
	return stats.quarantined_bytes;
}

/* A maas_lend_free_done whose `arg` notes the call. */
struct told {
	int calls;
	int status;
};

static inline void tell(void *arg, int status)
{
	struct told *told = arg;

	told->calls++;
	told->status = status;
}

#endif
