/* SPDX-License-Identifier: Apache-2.0 */
/* The part of test_lend_threads that asks for keys, and ends them. */
#include <semaphore.h>

#include "tests/unit/lend/lend_threads.h"

/* A key operation that its thread waits for. */
struct wait {
	sem_t done;
	int status;
};

static void wait_done(void *arg, int status)
{
	struct wait *wait = arg;

	wait->status = status;
	sem_post(&wait->done);
}

static int wait_for(struct wait *wait, int r)
{
	if (r == -EINPROGRESS) {
		while (sem_wait(&wait->done))
			CHECK(errno == EINTR);
		r = wait->status;
	}
	sem_destroy(&wait->done);
	return r;
}

static bool is_key_error(int r)
{
	return r == -ENOENT || r == -ESRCH || r == -ENOTCONN || r == -EDQUOT || r == -EEXIST ||
	       r == -ETIMEDOUT;
}

static struct record *allocate_granted(struct actor *actor, uint32_t count,
				       enum maas_lend_lifetime lifetime, const char *request_id)
{
	struct world *world = actor->world;
	uint32_t session = atomic_load(&world->last_session);
	const struct maas_lend_alloc_request request = {
		.size_bytes = random_size(actor),
		.count = count,
		.session = world->sessions[session],
		.lifetime = lifetime,
		.ttl_s = lifetime == MAAS_LEND_LIFETIME_TTL,
		.request_id = request_id,
	};
	struct maas_slab_ref refs[4];
	struct maas_lend_key grants[4];
	struct maas_lend_allocation a;
	struct record *first = NULL;
	struct wait wait;
	int r;

	if (!session)
		return NULL;
	sem_init(&wait.done, 0, 0);
	r = wait_for(&wait,
		     maas_lend_allocate_granted(world->lend, &request, MAAS_LEND_ACCESS_WRITE, refs,
						&a, grants, wait_done, &wait));
	if (r) {
		CHECK(r == -ENOSPC || (r == -ENOTUNIQ && request_id) || is_key_error(r));
		return NULL;
	}
	atomic_fetch_add(&world->granted, 1);
	for (uint32_t i = 0; i < count; i++) {
		struct record *record;

		CHECK(grants[i].len_bytes == request.size_bytes);
		maas_lend_id(world->lend, refs[i], a.id);
		record = new_record(world, refs[i], &a);
		first = first ? first : record;
	}
	return first;
}

/* Only this thread knows the ids, so all its allocations are there. */
static void do_own_granted(struct actor *actor)
{
	uint32_t count = 1 + roll(actor, 4);
	struct record *record = allocate_granted(actor, count, MAAS_LEND_LIFETIME_DELETE, NULL);

	if (!record)
		return;
	stamp(actor->world, record);
	CHECK(free_record(actor->world, record) != -ENOENT);
	/* The records of a batch need not lie side by side: the rest is freed at the end. */
}

/* Some threads ask with one id; all that get keys get keys to the same slab. */
static void do_request_granted(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t number = atomic_fetch_add(&world->keyed_requests, 1) / SHARERS;
	uint64_t expected = 0;
	char id[32];
	struct record *record;

	snprintf(id, sizeof(id), "keys-%u", number);
	record = allocate_granted(actor, 1, MAAS_LEND_LIFETIME_TTL, id);
	if (!record)
		return;
	if (!atomic_compare_exchange_strong(&world->keyed_answers[number], &expected, record->tag))
		CHECK(expected == record->tag);
}

static void do_grant_shared(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t session = atomic_load(&world->last_session);
	struct record *record = random_shared(actor);
	struct maas_lend_key grant;
	struct wait wait;
	int r;

	if (!session || !record)
		return;
	sem_init(&wait.done, 0, 0);
	r = wait_for(&wait, maas_lend_grant(world->lend, NULL, record->id, world->sessions[session],
					    roll(actor, 8) ? MAAS_LEND_ACCESS_WRITE
							   : MAAS_LEND_ACCESS_READ,
					    &grant, wait_done, &wait));
	CHECK(!r || is_key_error(r));
	if (!r)
		CHECK(grant.len_bytes == record->size_bytes);
}

static void do_ungrant_shared(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t session = atomic_load(&world->last_session);
	struct record *record = random_shared(actor);
	struct wait wait;
	int r;

	if (!session || !record)
		return;
	sem_init(&wait.done, 0, 0);
	r = wait_for(&wait, maas_lend_ungrant(world->lend, NULL, record->id,
					      world->sessions[session], wait_done, &wait));
	CHECK(!r || is_key_error(r));
}

void lend_threads_keys(struct actor *actor)
{
	static void (*const deeds[])(struct actor *) = {
		do_own_granted,
		do_request_granted,
		do_grant_shared,
		do_ungrant_shared,
	};

	if (actor->world->keys)
		deeds[roll(actor, MAAS_ARRAY_SIZE(deeds))](actor);
}
