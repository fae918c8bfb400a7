/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of lend/ share: a small pool, a lend on a clock that the test moves. */
#ifndef MAAS_TESTS_UNIT_LEND_FIXTURE_H
#define MAAS_TESTS_UNIT_LEND_FIXTURE_H

#include "lend/lend.h"
#include "tests/unit/unit.h"

#define MAX_SESSIONS 4

/* Of the case. */
static struct {
	struct maas_slab *slab;
	struct maas_lend *lend;
} f;
static struct maas_lend_session_info session;
static struct told end; /* what start_free() and start_end() wait for */
static struct maas_lend_transfer transfers[2];
static int aborts[2]; /* of them */
static _Atomic uint64_t fixture_now_ms;

/* What the last allocation of this thread gave. */
static _Thread_local struct {
	struct maas_lend_allocation first;
	struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
} given;

/* The last page of a list; whether there are others behind it, of sessions too. */
static _Thread_local struct maas_lend_allocation page[100];
static _Thread_local bool more;

static inline uint64_t fixture_clock_ms(void)
{
	return atomic_load(&fixture_now_ms);
}

static inline struct maas_lend_options fixture_options(void)
{
	return (struct maas_lend_options){
		.slab = f.slab, .max_sessions = MAX_SESSIONS, .clock_ms = fixture_clock_ms};
}

/* A pool of `max_bytes` with slabs of 64, 1024 and 65536 bytes. */
static inline void fixture_open(uint64_t max_bytes, const struct maas_lend_key_ops *keys,
				void *keys_ctx)
{
	static const uint64_t classes[] = {64, 1024, 65536};
	const struct maas_slab_options slab_options = {
		.max_bytes = max_bytes,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
	};
	struct maas_lend_options lend_options;

	end = (struct told){0};
	memset(aborts, 0, sizeof(aborts));
	atomic_store(&fixture_now_ms, 1000000);
	assert_int_equal(maas_slab_open(&slab_options, NULL, &f.slab), 0);
	lend_options = fixture_options();
	lend_options.keys = keys;
	lend_options.keys_ctx = keys_ctx;
	assert_int_equal(maas_lend_open(&lend_options, &f.lend), 0);
}

static inline void fixture_close(void)
{
	maas_slab_check(f.slab);
	maas_lend_close(f.lend);
	maas_slab_close(f.slab);
	memset(&f, 0, sizeof(f));
}

/* A setup and a teardown. */
static inline void fixture_setup(void)
{
	fixture_open(8u << 20, NULL, NULL);
}

static inline void fixture_teardown(void)
{
	if (f.slab)
		fixture_close();
}

/* For a case that wants another pool. */
static inline void fixture_reopen(uint64_t max_bytes)
{
	fixture_teardown();
	fixture_open(max_bytes, NULL, NULL);
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

/* One of 100 bytes, where the request does not say. */
static inline int try_as(struct maas_lend_alloc_request request)
{
	if (!request.count)
		request.count = 1;
	if (!request.size_bytes)
		request.size_bytes = 100;
	/* The answer has to write them. */
	memset(&given.first, 0, sizeof(given.first));
	if (request.count <= MAAS_SLAB_MAX_BATCH)
		memset(given.refs, 0xff, request.count * sizeof(*given.refs));
	return maas_lend_allocate(f.lend, &request, given.refs, &given.first);
}

static inline struct maas_lend_allocation allocate_as(struct maas_lend_alloc_request request)
{
	assert_int_equal(try_as(request), 0);
	return given.first;
}

/* 0 or an error; and one that has to succeed. */
#define TRY_ALLOCATE(...) try_as((struct maas_lend_alloc_request){__VA_ARGS__})
#define ALLOCATE(...)	  allocate_as((struct maas_lend_alloc_request){__VA_ARGS__})

static inline struct maas_lend_allocation allocate_plain(void)
{
	return ALLOCATE(.count = 1);
}

static inline struct maas_lend_allocation allocate_ttl(uint32_t ttl_s)
{
	return ALLOCATE(.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = ttl_s);
}

/* One for a minute; `session` is it. */
static inline int open_by(const struct maas_lend_caller *caller, const char *name)
{
	return maas_lend_session_open(f.lend, caller, name, 60, false, NULL, &session);
}

/* For ten seconds. */
static inline struct maas_lend_session_info open_session(const char *name, bool exclusive)
{
	struct maas_lend_session_info info;

	assert_int_equal(maas_lend_session_open(f.lend, NULL, name, 10, exclusive, NULL, &info), 0);
	return info;
}

/* One that ends with its session. */
static inline struct maas_lend_allocation allocate_of(const struct maas_lend_session_info *s)
{
	return ALLOCATE(.lifetime = MAAS_LEND_LIFETIME_SESSION, .session = s->id);
}

static inline bool exists(const struct maas_lend_allocation *allocation)
{
	struct maas_lend_allocation found;
	int r = maas_lend_get(f.lend, NULL, allocation->id, &found);

	assert_true(!r || r == -ENOENT);
	return !r;
}

/* One of the smallest slabs. */
static inline struct maas_lend_allocation allocate_for(const char *owner)
{
	return ALLOCATE(.size_bytes = 64, .owner = owner);
}

static inline int free_now(const struct maas_lend_allocation *allocation)
{
	return maas_lend_free(f.lend, NULL, allocation->id, NULL, NULL);
}

/* Where the free has to wait, `end` hears what came of it. */
static inline int try_free(const struct maas_lend_allocation *allocation)
{
	return maas_lend_free(f.lend, NULL, allocation->id, tell, &end);
}

/* A free, or the end of a session, that has to wait. */
static inline void start_free(const struct maas_lend_allocation *allocation)
{
	assert_int_equal(try_free(allocation), -EINPROGRESS);
}

static inline void start_end(const struct maas_lend_session_info *s)
{
	assert_int_equal(maas_lend_session_end(f.lend, NULL, s->id, tell, &end), -EINPROGRESS);
}

static inline int transfer_begin(const struct maas_lend_allocation *allocation,
				 struct maas_lend_transfer *transfer)
{
	return maas_lend_transfer_begin(f.lend, NULL, allocation->id, MAAS_AUTH_OWN, transfer);
}

static inline void count_abort(void *arg)
{
	++*(int *)arg;
}

/* The n-th of `transfers`. */
static inline int try_transfer(int n, const struct maas_lend_allocation *allocation)
{
	transfers[n] = (struct maas_lend_transfer){.abort = count_abort, .arg = &aborts[n]};
	return transfer_begin(allocation, &transfers[n]);
}

static inline void start_transfer(int n, const struct maas_lend_allocation *allocation)
{
	assert_int_equal(try_transfer(n, allocation), 0);
}

static inline void end_transfer(int n)
{
	maas_lend_transfers_end(f.lend, &transfers[n], 1);
}

/* Such as "owner-7"; good until the next call. */
static inline const char *numbered(const char *prefix, uint64_t number)
{
	static char text[32];

	snprintf(text, sizeof(text), "%s%llu", prefix, (unsigned long long)number);
	return text;
}

/* Freed past lend: these have no owner and no lease, so that lend does not miss them. */
static inline void request_and_free(const char *request_id, uint32_t count)
{
	ALLOCATE(.size_bytes = 64, .count = count, .request_id = request_id);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(maas_slab_free(f.slab, given.refs[i]), 0);
}

/* Gives a whole page, of at most 100, as `page` and `more`: how many they are, or an error. */
static inline int list_page(const char *owner, const char *after, uint32_t limit)
{
	struct maas_lend_page walk;
	uint32_t total = 0;
	uint32_t count;
	int r = maas_lend_page_start(f.lend, NULL, &walk, owner, after, limit);
	bool going = true;

	if (r)
		return r;
	for (; going; total += count) /* in pieces */
		going = maas_lend_page_next(f.lend, &walk, page + total, 7, &count);
	more = walk.more;
	return (int)total;
}

static inline struct maas_lend_stats lend_stats(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(f.lend, &stats);
	return stats;
}

static inline struct maas_slab_stats slab_stats(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f.slab, &stats);
	return stats;
}

static inline uint64_t live_slabs(void)
{
	return slab_stats().live_slabs;
}

static inline uint64_t quarantined_bytes(void)
{
	return slab_stats().quarantined_bytes;
}

static inline void expect_told(const struct told *told, int status)
{
	assert_int_equal(told->calls, 1);
	assert_int_equal(told->status, status);
}

struct figure {
	const char *name;
	uint64_t count;
};

/* All of them that are not zero: such as "slabs 3, transfers 2". */
static inline void expect_figures(const struct figure *figures, size_t count, const char *wanted)
{
	char text[200] = "";
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		if (figures[i].count)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %llu",
						len ? ", " : "", figures[i].name,
						(unsigned long long)figures[i].count);
	assert_string_equal(text, wanted);
}

/* All that lend has, in this order, of which only what is not zero is said: "told" and "error" are
 * of `end`, the aborts of both transfers. */
static inline void expect_state(const char *wanted)
{
	const struct maas_lend_stats stats = lend_stats();
	const struct figure figures[] = {
		{"slabs", live_slabs()},
		{"quarantined", quarantined_bytes()},
		{"sessions", stats.sessions},
		{"owners", stats.owners},
		{"transfers", stats.transfers},
		{"frees", stats.pending_frees},
		{"requests", stats.request_ids},
		{"lapsed", stats.lapsed_allocations},
		{"lapsed sessions", stats.lapsed_sessions},
		{"forced", stats.forced_transfers},
		{"aborts", (uint64_t)aborts[0] + (uint64_t)aborts[1]},
		{"told", (uint64_t)end.calls},
		{"error", (uint64_t)-end.status},
	};

	expect_figures(figures, MAAS_ARRAY_SIZE(figures), wanted);
}

/* It is there until `ms` have passed, to a tenth of a second. */
static inline void expect_lapse(const struct maas_lend_allocation *allocation, uint64_t ms)
{
	pass_ms(ms - 100);
	assert_true(exists(allocation));
	pass_ms(100);
	assert_false(exists(allocation));
}

/* Such as "100 of 1024 bytes of tsdb, 2 s old, ttl 58 of 60 s". */
static inline void expect_described(const struct maas_lend_allocation *a, const char *wanted)
{
	static const char *const lifetimes[] = {"delete", "ttl", "session"};
	char text[200];

	snprintf(text, sizeof(text), "%llu of %llu bytes of %s, %llu s old, %s %u of %u s",
		 (unsigned long long)a->size_bytes, (unsigned long long)a->actual_size_bytes,
		 *a->owner ? a->owner : "(nobody)", (unsigned long long)a->age_s,
		 lifetimes[a->lifetime], a->lease_s, a->ttl_s);
	assert_string_equal(text, wanted);
}

/* What it is now: it has to be there. */
static inline struct maas_lend_allocation look_up(const struct maas_lend_allocation *allocation)
{
	struct maas_lend_allocation now;

	assert_int_equal(maas_lend_get(f.lend, NULL, allocation->id, &now), 0);
	assert_string_equal(now.id, allocation->id);
	return now;
}

static inline void expect_found(const struct maas_lend_allocation *a, const char *wanted)
{
	const struct maas_lend_allocation now = look_up(a);

	expect_described(&now, wanted);
}

#endif
