/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of test_lend_threads share: allocations that all know, and their ends. */
#ifndef MAAS_TESTS_UNIT_LEND_THREADS_H
#define MAAS_TESTS_UNIT_LEND_THREADS_H

#include "tests/fake/fake_keys.h"
#include "tests/random.h"
#include "tests/unit/lend/lend_fixture.h"

#define THREADS 8
#define CELLS	64
#define OWN	16
#define HELD	4
#define SHARERS 8 /* calls that use one request id */

/* An allocation; constant once it is in a cell. */
struct record {
	char id[MAAS_SLAB_ID_TEXT];
	char owner[MAAS_NAME_BYTES];
	uint64_t tag; /* in its first bytes */
	uint64_t size_bytes;
	enum maas_lend_lifetime lifetime;
	_Atomic unsigned int frees;
};

/* What all threads know. */
static struct {
	struct fake_keys *keys; /* NULL: without */
	struct record *records;
	_Atomic uint32_t used;
	struct record *_Atomic cells[CELLS];
	char (*sessions)[MAAS_SLAB_ID_TEXT]; /* [0] is unused */
	_Atomic uint32_t sessions_used;
	_Atomic uint32_t last_session;
	_Atomic uint64_t *answers[2]; /* to request ids, without and with keys: tags */
	_Atomic uint32_t requests[2];
	_Atomic uint64_t granted;
	_Atomic uint64_t under_way; /* frees and ends that will call back */
	_Atomic bool stop;
} world;

struct held {
	struct maas_lend_transfer transfer;
	const struct record *record;
	_Atomic bool aborted;
};

/* One thread. */
struct actor {
	uint64_t seed;
	struct record *own[OWN];
	struct held held[HELD];
};

static inline uint32_t roll(struct actor *actor, uint32_t below)
{
	return (uint32_t)test_random_below(&actor->seed, below);
}

static inline struct record *random_shared(struct actor *actor)
{
	return world.cells[roll(actor, CELLS)];
}

static inline uint64_t random_size(struct actor *actor)
{
	static const uint64_t sizes[] = {8, 64, 65, 1000, 1024};

	return sizes[roll(actor, MAAS_ARRAY_SIZE(sizes))];
}

/* The newest; NULL: there was none yet. */
static inline const char *last_session(void)
{
	uint32_t last = world.last_session;

	return last ? world.sessions[last] : NULL;
}

/* ---- ends */

static inline void under_way_done(void *arg, int status)
{
	(void)arg;
	CHECK(status == 0 || status == -ETIMEDOUT);
	CHECK(atomic_fetch_sub(&world.under_way, 1) > 0);
}

typedef int end_call(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		     maas_lend_free_done *done, void *arg);

/* False: it was not there any more. */
static inline bool end_it(end_call *call, const char *id)
{
	int r;

	world.under_way++;
	r = call(f.lend, NULL, id, under_way_done, NULL);
	if (r != -EINPROGRESS)
		world.under_way--;
	CHECK(!r || r == -EINPROGRESS || r == -ENOENT);
	return r != -ENOENT;
}

static inline bool free_record(struct record *record)
{
	bool was_there = end_it(maas_lend_free, record->id);

	if (was_there)
		CHECK(atomic_fetch_add(&record->frees, 1) == 0);
	return was_there;
}

/* ---- transfers */

static inline uint64_t load_tag(const struct maas_lend_transfer *transfer)
{
	return __atomic_load_n((const uint64_t *)(const void *)transfer->bytes, __ATOMIC_RELAXED);
}

static inline void ignore_abort(void *arg)
{
	(void)arg;
}

static inline void stamp(const struct record *record)
{
	struct maas_lend_transfer transfer = {.abort = ignore_abort};

	if (maas_lend_transfer_begin(f.lend, NULL, record->id, MAAS_AUTH_OWN, &transfer))
		return;
	CHECK(load_tag(&transfer) == 0);
	__atomic_store_n((uint64_t *)(void *)transfer.bytes, record->tag, __ATOMIC_RELAXED);
	maas_lend_transfers_end(f.lend, &transfer, 1);
}

static inline struct record *new_record(struct maas_slab_ref ref,
					const struct maas_lend_allocation *a)
{
	struct record *record = &world.records[world.used++];

	maas_lend_id(f.lend, ref, record->id);
	CHECK(ref.slot != given.refs[0].slot || !strcmp(record->id, a->id));
	memcpy(record->owner, a->owner, sizeof(a->owner));
	record->tag = (uint64_t)ref.slot << 32 | ref.generation;
	record->size_bytes = a->size_bytes;
	record->lifetime = a->lifetime;
	return record;
}

#endif
