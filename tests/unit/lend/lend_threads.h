/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of test_lend_threads share: allocations that all know, and what each one does.
 */
#ifndef MAAS_TESTS_UNIT_LEND_THREADS_H
#define MAAS_TESTS_UNIT_LEND_THREADS_H

#include "tests/fake/fake_keys.h"
#include "tests/unit/lend/lend_fixture.h"

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

struct world {
	struct maas_lend *lend;
	struct fake_keys *keys; /* NULL: without */
	uint64_t ops;
	struct record *records; /* [0] is unused */
	_Atomic uint32_t used;
	_Atomic uint32_t cells[CELLS]; /* of records */
	char (*sessions)[MAAS_SLAB_ID_TEXT];
	_Atomic uint32_t sessions_used;
	_Atomic uint32_t last_session;
	_Atomic uint64_t *answers; /* to request ids: tags */
	_Atomic uint32_t requests;
	_Atomic uint64_t *keyed_answers; /* the same, of requests for keys */
	_Atomic uint32_t keyed_requests;
	_Atomic uint64_t granted;
	_Atomic uint64_t under_way; /* frees and ends that will call back */
	_Atomic bool stop;
};

struct held {
	struct maas_lend_transfer transfer;
	const struct record *record;
	_Atomic bool aborted;
};

struct actor {
	struct world *world;
	uint64_t seed;
	struct record *own[OWN];
	struct held held[HELD];
};

static inline uint32_t roll(struct actor *actor, uint32_t below)
{
	actor->seed = actor->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(actor->seed >> 33) % below;
}

/* One random operation with keys; none without. */
void lend_threads_keys(struct actor *actor);

static inline void under_way_done(void *arg, int status)
{
	struct world *world = arg;

	CHECK(status == 0 || status == -ETIMEDOUT);
	CHECK(atomic_fetch_sub(&world->under_way, 1) > 0);
}

static inline int free_record(struct world *world, struct record *record)
{
	int r;

	atomic_fetch_add(&world->under_way, 1);
	r = maas_lend_free(world->lend, NULL, record->id, under_way_done, world);
	if (r != -EINPROGRESS)
		atomic_fetch_sub(&world->under_way, 1);
	if (!r || r == -EINPROGRESS)
		CHECK(atomic_fetch_add(&record->frees, 1) == 0);
	else
		CHECK(r == -ENOENT);
	return r;
}

static inline uint64_t load_tag(const struct maas_lend_transfer *transfer)
{
	return __atomic_load_n((const uint64_t *)(const void *)transfer->bytes, __ATOMIC_RELAXED);
}

static inline void ignore_abort(void *arg)
{
	(void)arg;
}

static inline void stamp(struct world *world, const struct record *record)
{
	struct maas_lend_transfer transfer = {.abort = ignore_abort};

	if (maas_lend_transfer_begin(world->lend, NULL, record->id, MAAS_AUTH_OWN, &transfer))
		return;
	CHECK(load_tag(&transfer) == 0);
	__atomic_store_n((uint64_t *)(void *)transfer.bytes, record->tag, __ATOMIC_RELAXED);
	maas_lend_transfers_end(world->lend, &transfer, 1);
}

static inline struct record *new_record(struct world *world, struct maas_slab_ref ref,
					const struct maas_lend_allocation *a)
{
	struct record *record = &world->records[atomic_fetch_add(&world->used, 1)];

	memcpy(record->id, a->id, sizeof(a->id));
	memcpy(record->owner, a->owner, sizeof(a->owner));
	record->tag = (uint64_t)ref.slot << 32 | ref.generation;
	record->size_bytes = a->size_bytes;
	record->lifetime = a->lifetime;
	return record;
}

static inline uint64_t random_size(struct actor *actor)
{
	static const uint64_t sizes[] = {8, 64, 65, 1000, 1024};

	return sizes[roll(actor, MAAS_ARRAY_SIZE(sizes))];
}

static inline struct record *random_shared(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t index = atomic_load(&world->cells[roll(actor, CELLS)]);

	return index ? &world->records[index] : NULL;
}

#endif
