/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight threads do everything at random, on allocations that they share and on some of their own,
 * while housekeeping runs: each slab is freed once, nobody sees a foreign byte, an own allocation
 * lives until its thread frees it, and in the end nothing is left. With and without keys.
 */
#include <unistd.h>

#include "tests/counts.h"
#include "tests/unit/lend/lend_threads.h"

#define THREADS 8

static struct record *allocate(struct actor *actor, const struct maas_lend_alloc_request *request)
{
	struct world *world = actor->world;
	struct maas_lend_allocation a;
	struct maas_slab_ref ref;
	int r = maas_lend_allocate(f.lend, request, &ref, &a);

	if (r) {
		CHECK(r == -ENOSPC || (r == -ESRCH && request->session));
		return NULL;
	}
	return new_record(world, ref, &a);
}

static void do_allocate_shared(struct actor *actor)
{
	static const char *const owners[] = {NULL, "a", "b", "c"};
	struct world *world = actor->world;
	uint32_t session = atomic_load(&world->last_session);
	struct maas_lend_alloc_request request = {
		.size_bytes = random_size(actor),
		.count = 1,
		.owner = owners[roll(actor, 4)],
		.lifetime = (enum maas_lend_lifetime)roll(actor, 3),
	};
	struct record *record;

	if (request.lifetime == MAAS_LEND_LIFETIME_TTL)
		request.ttl_s = 1 + roll(actor, 3);
	if (request.lifetime == MAAS_LEND_LIFETIME_SESSION && !session)
		return;
	if (request.lifetime == MAAS_LEND_LIFETIME_SESSION)
		request.session = world->sessions[session];
	record = allocate(actor, &request);
	if (!record)
		return;
	stamp(world, record);
	/* Whatever the cell named is freed by others, lapses, or is collected at the end. */
	atomic_store(&world->cells[roll(actor, CELLS)], (uint32_t)(record - world->records));
}

static void do_free_shared(struct actor *actor)
{
	struct record *record = random_shared(actor);

	if (record)
		(void)free_record(actor->world, record);
}

static void do_get_shared(struct actor *actor)
{
	struct record *record = random_shared(actor);
	struct maas_lend_allocation a;

	if (!record || maas_lend_get(f.lend, NULL, record->id, &a))
		return;
	CHECK(!strcmp(a.owner, record->owner));
	CHECK(a.size_bytes == record->size_bytes);
	CHECK(a.lifetime == record->lifetime);
	CHECK(a.lease_s <= a.ttl_s);
}

static void do_renew_shared(struct actor *actor)
{
	struct record *record = random_shared(actor);
	struct maas_lend_allocation a;
	int r;

	if (!record)
		return;
	r = maas_lend_renew(f.lend, NULL, record->id, roll(actor, 3), &a);
	CHECK(r == -ENOENT || (r == 0) == (record->lifetime == MAAS_LEND_LIFETIME_TTL));
}

/* An own allocation is there exactly until its thread frees it. */
static void do_own(struct actor *actor)
{
	struct record **own = &actor->own[roll(actor, OWN)];
	const struct maas_lend_alloc_request request = {
		.size_bytes = random_size(actor),
		.count = 1,
		.owner = "own",
		.lifetime = MAAS_LEND_LIFETIME_DELETE,
	};
	struct maas_lend_allocation a;
	int r;

	if (!*own) {
		*own = allocate(actor, &request);
		return;
	}
	CHECK(maas_lend_get(f.lend, NULL, (*own)->id, &a) == 0);
	CHECK(!strcmp(a.owner, "own"));
	r = free_record(actor->world, *own);
	CHECK(r == 0 || r == -EINPROGRESS);
	CHECK(maas_lend_get(f.lend, NULL, (*own)->id, &a) == -ENOENT);
	*own = NULL;
}

static void note_abort(void *arg)
{
	atomic_store(&((struct held *)arg)->aborted, true);
}

static void end_held(struct held *held)
{
	CHECK(load_tag(&held->transfer) == held->record->tag);
	maas_lend_transfers_end(f.lend, &held->transfer, 1);
	held->record = NULL;
}

static void do_transfer(struct actor *actor)
{
	struct held *held = &actor->held[roll(actor, HELD)];
	struct record *record = random_shared(actor);

	if (held->record) {
		end_held(held);
		return;
	}
	if (!record)
		return;
	held->transfer.abort = note_abort;
	held->transfer.arg = held;
	atomic_store(&held->aborted, false);
	if (maas_lend_transfer_begin(f.lend, NULL, record->id, MAAS_AUTH_OWN, &held->transfer))
		return;
	held->record = record;
	CHECK(held->transfer.size_bytes == record->size_bytes);
	CHECK(load_tag(&held->transfer) == record->tag);
}

/* As a request that names several slabs does, some of them twice. */
static void do_transfer_many(struct actor *actor)
{
	struct maas_lend_transfer transfers[6];
	uint64_t tags[MAAS_ARRAY_SIZE(transfers)];
	uint32_t count = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(transfers); i++) {
		struct record *record = random_shared(actor);

		transfers[count].abort = ignore_abort;
		if (!record || maas_lend_transfer_begin(f.lend, NULL, record->id, MAAS_AUTH_OWN,
							&transfers[count]))
			continue;
		tags[count++] = record->tag;
	}
	for (uint32_t i = 0; i < count; i++)
		CHECK(load_tag(&transfers[i]) == tags[i]);
	maas_lend_transfers_end(f.lend, transfers, count);
}

static void do_list(struct actor *actor)
{
	static const char *const owners[] = {NULL, "a", "own", "nobody"};
	const char *owner = owners[roll(actor, 4)];
	struct maas_lend_allocation page[16];
	bool more;
	int r;
	int got = list_page(owner, NULL, 16, page, &more);

	CHECK(got >= 0 && got <= 16);
	for (int i = 0; i < got && owner; i++)
		CHECK(!strcmp(page[i].owner, owner));
	/* Perhaps before its allocate has returned. */
	if (got > 0 && owner && !strcmp(owner, "a")) {
		r = maas_lend_free(f.lend, NULL, page[got - 1].id, NULL, NULL);
		CHECK(r == 0 || r == -EINPROGRESS || r == -ENOENT);
	}
}

static void do_session(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t last = atomic_load(&world->last_session);
	struct maas_lend_session_info info;
	uint32_t index;
	int r;

	if (last && roll(actor, 2)) {
		r = maas_lend_session_renew(f.lend, NULL, world->sessions[last], 0, &info);
		CHECK(!r || r == -ENOENT);
		return;
	}
	if (last && roll(actor, 2)) {
		atomic_fetch_add(&world->under_way, 1);
		r = maas_lend_session_end(f.lend, NULL, world->sessions[last], under_way_done,
					  world);
		if (r != -EINPROGRESS)
			atomic_fetch_sub(&world->under_way, 1);
		CHECK(!r || r == -ENOENT || r == -EINPROGRESS);
		return;
	}
	r = maas_lend_session_open(f.lend, NULL, "s", 1 + roll(actor, 2), !roll(actor, 4), NULL,
				   &info);
	CHECK(!r || r == -EUSERS || r == -EEXIST);
	if (r)
		return;
	index = atomic_fetch_add(&world->sessions_used, 1);
	memcpy(world->sessions[index], info.id, sizeof(info.id));
	atomic_store(&world->last_session, index);
}

/* Some threads ask with one id: there is one answer, and one allocation. */
static void do_request(struct actor *actor)
{
	struct world *world = actor->world;
	uint32_t number = atomic_fetch_add(&world->requests, 1) / SHARERS;
	uint64_t expected = 0;
	char id[32];
	const struct maas_lend_alloc_request request = {
		.size_bytes = 64,
		.count = 1,
		.lifetime = MAAS_LEND_LIFETIME_TTL,
		.ttl_s = 1,
		.request_id = id,
	};
	struct record *record;

	snprintf(id, sizeof(id), "request-%u", number);
	record = allocate(actor, &request);
	if (!record)
		return;
	if (!atomic_compare_exchange_strong(&world->answers[number], &expected, record->tag))
		CHECK(expected == record->tag);
}

static void *act(void *arg)
{
	static void (*const deeds[])(struct actor *) = {
		do_allocate_shared,
		do_allocate_shared,
		do_allocate_shared,
		do_free_shared,
		do_free_shared,
		do_get_shared,
		do_renew_shared,
		do_own,
		do_own,
		do_transfer,
		do_transfer,
		do_transfer_many,
		do_list,
		do_session,
		do_request,
		lend_threads_keys,
		lend_threads_keys,
	};
	struct actor *actor = arg;

	for (uint64_t i = 0; i < actor->world->ops; i++) {
		deeds[roll(actor, MAAS_ARRAY_SIZE(deeds))](actor);
		for (int h = 0; h < HELD; h++)
			if (actor->held[h].record && atomic_load(&actor->held[h].aborted))
				end_held(&actor->held[h]);
	}
	for (int h = 0; h < HELD; h++)
		if (actor->held[h].record)
			end_held(&actor->held[h]);
	for (int i = 0; i < OWN; i++)
		if (actor->own[i])
			CHECK(free_record(actor->world, actor->own[i]) != -ENOENT);
	return NULL;
}

/* Time passes 20 times as fast, so that leases lapse within the test. */
static void *keep_house(void *arg)
{
	struct world *world = arg;

	while (!atomic_load(&world->stop)) {
		atomic_fetch_add(&fixture_now_ms, 20);
		maas_lend_tick(f.lend);
		maas_slab_reclaim(f.slab, fixture_clock_ms(), 65536);
		usleep(1000);
	}
	return NULL;
}

static void world_open(struct world *world, struct fake_keys *keys)
{
	size_t max = THREADS * world->ops * 4 + 1; /* an op makes as many records at most */

	f = fixture_open(1u << 20, keys ? &fake_key_ops : NULL, keys);
	world->lend = f.lend;
	world->keys = keys;
	if (keys)
		keys->slab = f.slab;
	world->records = calloc(max, sizeof(*world->records));
	world->sessions = calloc(max, sizeof(*world->sessions));
	world->answers = calloc(max, sizeof(*world->answers));
	world->keyed_answers = calloc(max, sizeof(*world->keyed_answers));
	assert_true(world->records && world->sessions && world->answers && world->keyed_answers);
	atomic_store(&world->used, 1);
	atomic_store(&world->sessions_used, 1);
}

static void world_close(struct world *world)
{
	free(world->records);
	free(world->sessions);
	free(world->answers);
	free(world->keyed_answers);
}

/* Frees and lets lapse whatever is left; then there is nothing any more. */
static void expect_nothing_left(struct world *world)
{
	struct maas_slab_stats slab;
	struct maas_lend_stats lend;

	for (uint32_t i = 1; i < atomic_load(&world->used); i++)
		if (world->records[i].lifetime == MAAS_LEND_LIFETIME_DELETE)
			(void)free_record(world, &world->records[i]);
	pass_ms(10000);
	assert_int_equal(atomic_load(&world->under_way), 0);
	lend = lend_stats();
	assert_int_equal(lend.sessions, 0);
	assert_int_equal(lend.owners, 0);
	assert_int_equal(lend.transfers, 0);
	assert_int_equal(lend.pending_frees, 0);
	maas_slab_stats(f.slab, &slab);
	assert_int_equal(slab.live_slabs, 0);
	assert_int_equal(slab.quarantined_bytes, 0);
	assert_int_equal(slab.allocations, slab.frees);
}

static void run(struct fake_keys *keys, uint64_t seed)
{
	static struct actor actors[THREADS];
	struct world world = {.ops = count_lend_thread_ops()};
	pthread_t house;

	memset(actors, 0, sizeof(actors));
	world_open(&world, keys);
	assert_int_equal(pthread_create(&house, NULL, keep_house, &world), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		actors[i].world = &world;
		actors[i].seed = seed * THREADS + i;
	}
	threads_run(THREADS, act, actors, sizeof(*actors));
	atomic_store(&world.stop, true);
	pthread_join(house, NULL);
	if (keys)
		fake_keys_settle(keys);
	expect_nothing_left(&world);
	if (keys) {
		assert_int_equal(keys->num_keys, 0);
		assert_true(keys->last_rkey > 0 && atomic_load(&world.granted) > 0);
	}
	world_close(&world);
}

TEST(threads__without_keys)
{
	run(NULL, maas_test_seed_told());
}

TEST(threads__with_keys)
{
	static struct fake_keys keys;
	uint64_t seed = maas_test_seed_told();

	fake_keys_init_random(&keys, seed);
	run(&keys, seed);
	fake_keys_fini(&keys);
}

TEST_MAIN(NULL, fixture_teardown)
