/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight threads do everything at random, on allocations that they share and on some of their own,
 * while housekeeping runs: each slab is freed once, nobody sees a foreign byte, an own allocation
 * lives until its thread frees it, and in the end nothing is left. With and without keys.
 */
#include <unistd.h>

#include "tests/counts.h"
#include "tests/unit/lend/lend_threads.h"

static void note_abort(void *arg)
{
	((struct held *)arg)->aborted = true;
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
	held->transfer.abort = note_abort;
	held->transfer.arg = held;
	held->aborted = false;
	if (!record ||
	    maas_lend_transfer_begin(f.lend, NULL, record->id, MAAS_AUTH_OWN, &held->transfer))
		return;
	held->record = record;
	CHECK(held->transfer.size_bytes == record->size_bytes);
	CHECK(load_tag(&held->transfer) == record->tag);
}

/* As a request that names several slabs does, some of them twice. */
static void do_transfer_many(struct actor *actor)
{
	struct maas_lend_transfer many[6];
	uint64_t tags[MAAS_ARRAY_SIZE(many)];
	uint32_t count = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(many); i++) {
		struct record *record = random_shared(actor);

		many[count].abort = ignore_abort;
		if (!record ||
		    maas_lend_transfer_begin(f.lend, NULL, record->id, MAAS_AUTH_OWN, &many[count]))
			continue;
		tags[count++] = record->tag;
	}
	for (uint32_t i = 0; i < count; i++)
		CHECK(load_tag(&many[i]) == tags[i]);
	maas_lend_transfers_end(f.lend, many, count);
}

/* ---- allocations */

static struct record *allocate(struct maas_lend_alloc_request request)
{
	int r = try_as(request);

	CHECK(!r || r == -ENOSPC || (r == -ESRCH && request.session));
	return r ? NULL : new_record(given.refs[0], &given.first);
}

static void do_allocate_shared(struct actor *actor)
{
	static const char *const owners[] = {NULL, "a", "b", "c"};
	struct maas_lend_alloc_request request = {
		.size_bytes = random_size(actor),
		.owner = owners[roll(actor, 4)],
		.lifetime = (enum maas_lend_lifetime)roll(actor, 3),
	};
	struct record *record;

	if (request.lifetime == MAAS_LEND_LIFETIME_TTL)
		request.ttl_s = 1 + roll(actor, 3);
	if (request.lifetime == MAAS_LEND_LIFETIME_SESSION) {
		request.session = last_session();
		if (!request.session)
			return;
	}
	record = allocate(request);
	if (!record)
		return;
	stamp(record);
	/* Whatever the cell named is freed by others, lapses, or is collected at the end. */
	world.cells[roll(actor, CELLS)] = record;
}

static void do_free_shared(struct actor *actor)
{
	struct record *record = random_shared(actor);

	if (record)
		free_record(record);
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
	struct maas_lend_allocation a;

	if (!*own) {
		*own = allocate((struct maas_lend_alloc_request){.size_bytes = random_size(actor),
								 .owner = "own"});
		return;
	}
	CHECK(maas_lend_get(f.lend, NULL, (*own)->id, &a) == 0);
	CHECK(!strcmp(a.owner, "own"));
	CHECK(free_record(*own));
	CHECK(maas_lend_get(f.lend, NULL, (*own)->id, &a) == -ENOENT);
	*own = NULL;
}

static void do_list(struct actor *actor)
{
	static const char *const owners[] = {NULL, "a", "own", "nobody"};
	const char *owner = owners[roll(actor, 4)];
	int r;
	int got = list_page(owner, NULL, 16);

	CHECK(got >= 0 && got <= 16);
	for (int i = 0; i < got && owner; i++)
		CHECK(!strcmp(page[i].owner, owner));
	/* Perhaps before its allocate has returned. */
	if (got > 0 && owner && !strcmp(owner, "a")) {
		r = free_now(&page[got - 1]);
		CHECK(r == 0 || r == -EINPROGRESS || r == -ENOENT);
	}
}

static void do_session(struct actor *actor)
{
	const char *last = last_session();
	struct maas_lend_session_info info;
	uint32_t index;
	int r;

	if (last && roll(actor, 2)) {
		r = maas_lend_session_renew(f.lend, NULL, last, 0, &info);
		CHECK(!r || r == -ENOENT);
		return;
	}
	if (last && roll(actor, 2)) {
		end_it(maas_lend_session_end, last);
		return;
	}
	r = maas_lend_session_open(f.lend, NULL, "s", 1 + roll(actor, 2), !roll(actor, 4), NULL,
				   &info);
	CHECK(!r || r == -EUSERS || r == -EEXIST);
	if (r)
		return;
	index = world.sessions_used++;
	memcpy(world.sessions[index], info.id, sizeof(info.id));
	world.last_session = index;
}

/* ---- keys */

/* What a key operation that was started so ended with. */
static int wait_for(struct told *told, int r)
{
	if (r != -EINPROGRESS)
		return r;
	while (!told->calls)
		nap();
	return told->status;
}

static bool is_key_error(int r)
{
	return r == -ENOENT || r == -ESRCH || r == -ENOTCONN || r == -EDQUOT || r == -EEXIST ||
	       r == -ETIMEDOUT;
}

static struct record *allocate_granted(struct actor *actor, struct maas_lend_alloc_request request)
{
	struct maas_lend_key grants[4];
	struct record *first = NULL;
	struct told told = {0};
	int r;

	request.size_bytes = random_size(actor);
	request.session = last_session();
	if (!request.session)
		return NULL;
	r = wait_for(&told,
		     maas_lend_allocate_granted(f.lend, &request, MAAS_LEND_ACCESS_WRITE,
						given.refs, &given.first, grants, tell, &told));
	if (r) {
		CHECK(r == -ENOSPC || (r == -ENOTUNIQ && request.request_id) || is_key_error(r));
		return NULL;
	}
	world.granted++;
	for (uint32_t i = 0; i < request.count; i++) {
		struct record *record = new_record(given.refs[i], &given.first);

		CHECK(grants[i].len_bytes == request.size_bytes);
		first = first ? first : record;
	}
	return first;
}

/* Only this thread knows the ids, so all its allocations are there. */
static void do_own_granted(struct actor *actor)
{
	const struct maas_lend_alloc_request request = {.count = 1 + roll(actor, 4)};
	struct record *record = allocate_granted(actor, request);

	if (!record)
		return;
	stamp(record);
	CHECK(free_record(record));
	/* The records of a batch need not lie side by side: the rest is freed at the end. */
}

/* A key to what all know, or the end of one. */
static void do_grant_shared(struct actor *actor)
{
	const char *session_id = last_session();
	struct record *record = random_shared(actor);
	struct maas_lend_key grant;
	struct told told = {0};
	int r;

	if (!session_id || !record)
		return;
	if (roll(actor, 2)) {
		r = wait_for(&told,
			     maas_lend_ungrant(f.lend, NULL, record->id, session_id, tell, &told));
		CHECK(!r || is_key_error(r));
		return;
	}
	r = wait_for(&told, maas_lend_grant(f.lend, NULL, record->id, session_id,
					    roll(actor, 8) ? MAAS_LEND_ACCESS_WRITE
							   : MAAS_LEND_ACCESS_READ,
					    &grant, tell, &told));
	CHECK(!r || is_key_error(r));
	if (!r)
		CHECK(grant.len_bytes == record->size_bytes);
}

/* Some threads ask with one id: there is one answer, and one allocation; all that get keys get keys
 * to the same slab. */
static void ask(struct actor *actor, bool keyed)
{
	uint32_t number = world.requests[keyed]++ / SHARERS;
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

	snprintf(id, sizeof(id), "%s-%u", keyed ? "keys" : "request", number);
	record = keyed ? allocate_granted(actor, request) : allocate(request);
	if (record &&
	    !atomic_compare_exchange_strong(&world.answers[keyed][number], &expected, record->tag))
		CHECK(expected == record->tag);
}

static void do_request(struct actor *actor)
{
	ask(actor, false);
}

static void do_with_keys(struct actor *actor)
{
	uint32_t deed = roll(actor, 4);

	if (!world.keys)
		return;
	if (deed == 0)
		do_own_granted(actor);
	else if (deed == 1)
		ask(actor, true);
	else
		do_grant_shared(actor);
}

/* ---- */

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
		do_with_keys,
		do_with_keys,
	};
	struct actor *actor = arg;

	for (uint64_t i = 0, ops = count_lend_thread_ops(); i < ops; i++) {
		deeds[roll(actor, MAAS_ARRAY_SIZE(deeds))](actor);
		for (int h = 0; h < HELD; h++)
			if (actor->held[h].record && actor->held[h].aborted)
				end_held(&actor->held[h]);
	}
	for (int h = 0; h < HELD; h++)
		if (actor->held[h].record)
			end_held(&actor->held[h]);
	for (int i = 0; i < OWN; i++)
		if (actor->own[i])
			CHECK(free_record(actor->own[i]));
	return NULL;
}

/* Time passes 20 times as fast, so that leases lapse within the test. */
static void *keep_house(void *arg)
{
	(void)arg;
	while (!world.stop) {
		atomic_fetch_add(&fixture_now_ms, 20);
		maas_lend_tick(f.lend);
		maas_slab_reclaim(f.slab, fixture_clock_ms(), 65536);
		usleep(1000);
	}
	return NULL;
}

static void *zeroed(size_t size)
{
	/* An operation makes as many records at most. */
	void *array = calloc(THREADS * count_lend_thread_ops() * 4 + 1, size);

	assert_non_null(array);
	return array;
}

static void world_open(struct fake_keys *keys)
{
	fixture_open(1u << 20, keys ? &fake_key_ops : NULL, keys);
	memset(&world, 0, sizeof(world));
	world.keys = keys;
	if (keys)
		keys->slab = f.slab;
	world.records = zeroed(sizeof(*world.records));
	world.sessions = zeroed(sizeof(*world.sessions));
	world.answers[0] = zeroed(sizeof(*world.answers[0]));
	world.answers[1] = zeroed(sizeof(*world.answers[1]));
	world.sessions_used = 1;
}

static void world_close(void)
{
	free(world.records);
	free(world.sessions);
	free(world.answers[0]);
	free(world.answers[1]);
}

/* Frees and lets lapse whatever is left; then there is nothing any more. */
static void expect_nothing_left(void)
{
	struct maas_slab_stats slab;
	struct maas_lend_stats lend;

	for (uint32_t i = 0; i < world.used; i++)
		if (world.records[i].lifetime == MAAS_LEND_LIFETIME_DELETE)
			free_record(&world.records[i]);
	pass_ms(10000);
	assert_int_equal(world.under_way, 0);
	lend = lend_stats();
	assert_int_equal(lend.sessions + lend.owners + lend.transfers + lend.pending_frees, 0);
	slab = slab_stats();
	assert_int_equal(slab.live_slabs + slab.quarantined_bytes, 0);
	assert_int_equal(slab.allocations, slab.frees);
}

static void run(struct fake_keys *keys, uint64_t seed)
{
	static struct actor actors[THREADS];
	pthread_t house;

	memset(actors, 0, sizeof(actors));
	world_open(keys);
	threads_start(&house, 1, keep_house, NULL, 0);
	for (unsigned int i = 0; i < THREADS; i++)
		actors[i].seed = seed * THREADS + i;
	threads_run(THREADS, act, actors, sizeof(*actors));
	world.stop = true;
	threads_join(&house, 1);
	if (keys)
		fake_keys_settle(keys);
	expect_nothing_left();
	if (keys) {
		assert_int_equal(keys->num_keys, 0);
		assert_true(keys->last_rkey > 0 && world.granted > 0);
	}
	world_close();
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
