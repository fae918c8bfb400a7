/* SPDX-License-Identifier: Apache-2.0 */
/* What the thread takes on in one turn: many keys, or a few large ones, hold up nobody for long. */
#include "tests/unit/rdma/rdma_batch.h"

struct watch {
	struct maas_rdma_task task;
	struct told *end;
	uint32_t before;
	_Atomic uint32_t most; /* keys that were made, or died, between two turns */
	_Atomic bool over;
};

static void look(struct maas_rdma_task *task, int status)
{
	struct watch *watch = MAAS_CONTAINER_OF(task, struct watch, task);
	uint32_t now = (uint32_t)server.rdma->num_grants;
	uint32_t change = now > watch->before ? now - watch->before : watch->before - now;

	(void)status;
	if (change > watch->most)
		watch->most = change;
	watch->before = now;
	if (watch->end->calls || maas_rdma_send(server.rdma, task))
		watch->over = true;
}

/* A request for more keys than there are does not hold up the revocations of others. */
TEST(batch__that_fails_is_undone_in_steps)
{
	enum { BATCH = 3 * MAAS_RDMA_STEP };
	struct told end = {0};
	struct watch watch = {.task.run = look, .end = &end};
	struct halt halt;

	server_options.max_grants = BATCH - 1;
	begin(MAAS_RDMA_KEYS_MR);
	thread_halt(&halt);
	start_batch_of(1024, peer, BATCH, &end);
	assert_int_equal(maas_rdma_send(server.rdma, &watch.task), 0);
	thread_go_on(&halt);

	assert_int_equal(told(&end), -EDQUOT);
	AWAIT(watch.over);
	assert_in_range(watch.most, 1, MAAS_RDMA_STEP);
	assert_int_equal(server_stats().grants, 0);
	assert_int_equal(live_slabs(), 0);
}

/* To pin a gibibyte takes a fifth of a second. */
TEST(batch__of_large_regions_is_made_in_steps)
{
	enum { BATCH = 3, PER_STEP = 2 };
	struct told end = {0};
	struct watch watch = {.task.run = look, .end = &end};
	struct halt halt;

	server_options.largest_bytes = MAAS_RDMA_STEP_BYTES / PER_STEP;
	server_options.pool_bytes = BATCH * server_options.largest_bytes;
	begin(MAAS_RDMA_KEYS_MR);
	thread_halt(&halt);
	start_batch_of(server_options.largest_bytes, peer, BATCH, &end);
	assert_int_equal(maas_rdma_send(server.rdma, &watch.task), 0);
	thread_go_on(&halt);

	assert_int_equal(told(&end), 0);
	AWAIT(watch.over);
	assert_int_equal(watch.most, PER_STEP);
	assert_int_equal(server_stats().grants, BATCH);

	/* And so they die. */
	end = (struct told){0};
	watch = (struct watch){.task.run = look, .end = &end, .before = BATCH};
	assert_int_equal(maas_rdma_send(server.rdma, &watch.task), 0);
	assert_int_equal(maas_lend_session_end(server.lend, NULL, peer->session.id, tell, &end),
			 -EINPROGRESS);
	assert_int_equal(told(&end), 0);
	AWAIT(watch.over);
	assert_int_equal(watch.most, PER_STEP);
}

/* A connection that ends in the middle of something. */
struct parting {
	struct maas_rdma_task task;
	struct maas_lend_session_ref session;
	struct maas_slab_ref ref;
	uint64_t left; /* keys of others when its own has died */
	struct told end;
};

static void parted(struct maas_rdma_task *task, int status)
{
	struct parting *parting = MAAS_CONTAINER_OF(task, struct parting, task);

	parting->left = server.rdma->num_grants;
	tell(&parting->end, status);
}

static void part(void *arg, int status)
{
	struct parting *parting = arg;
	struct maas_rdma_conn *conn = maas_rdma_conn_find(server.rdma, parting->session);

	(void)status;
	maas_rdma_conn_end(conn, "test");
	STAILQ_INSERT_TAIL(&maas_rdma_grant_find(conn, parting->ref)->dead, &parting->task, link);
}

/* Each is freed by a request of its own, and all of these may come in one turn. */
TEST(free__of_many_large_regions_takes_turns)
{
	enum { COUNT = 5, PER_STEP = 2 };
	const struct maas_lend_alloc_request small = {.size_bytes = 1024, .count = 1};
	struct parting parting = {.task.run = parted};
	struct maas_lend_allocation slabs[COUNT];
	struct told freed[COUNT] = {0};
	struct halt halt;
	struct peer *other;

	server_options.largest_bytes = MAAS_RDMA_STEP_BYTES / PER_STEP;
	server_options.pool_bytes = (COUNT + 1) * server_options.largest_bytes;
	begin(MAAS_RDMA_KEYS_MR);
	other = peer_open("other");
	parting.session = peer_ref(other);
	assert_int_equal(maas_lend_allocate(server.lend, &small, &parting.ref, &slabs[0]), 0);
	(void)get_key(other, slabs[0].id);
	for (int i = 0; i < COUNT; i++) {
		slabs[i] = allocate(server_options.largest_bytes);
		(void)get_key(peer, slabs[i].id);
	}
	thread_halt(&halt);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(maas_lend_free(server.lend, NULL, slabs[i].id, i ? tell : part,
						i ? (void *)&freed[i] : &parting),
				 -EINPROGRESS);
	thread_go_on(&halt);

	assert_int_equal(told(&parting.end), 0);
	assert_int_equal(parting.left, COUNT - PER_STEP);
	for (int i = 1; i < COUNT; i++)
		assert_int_equal(told(&freed[i]), 0);
}

/* Frees a slab to which so many sessions have a key; returns how many died in one turn. */
static uint32_t free_shared(uint64_t size_bytes, uint32_t count)
{
	struct told freed = {0};
	struct watch watch = {.task.run = look, .end = &freed, .before = count};
	struct halt halt;

	memory = allocate(size_bytes);
	(void)get_key(peer, memory.id);
	for (uint32_t i = 1; i < count; i++)
		(void)get_key(peer_open("other"), memory.id);
	thread_halt(&halt);
	assert_int_equal(maas_lend_free(server.lend, NULL, memory.id, tell, &freed), -EINPROGRESS);
	assert_int_equal(maas_rdma_send(server.rdma, &watch.task), 0);
	thread_go_on(&halt);
	assert_int_equal(told(&freed), 0);
	AWAIT(watch.over);
	assert_int_equal(live_slabs(), 0);
	return watch.most;
}

TEST_MODES(free__of_a_slab_with_many_keys_takes_turns)
{
	enum { COUNT = MAAS_RDMA_STEP + 2 };

	server_options.max_sessions = COUNT;
	server_options.max_grants = COUNT;
	begin(mode);
	assert_in_range(free_shared(1024, COUNT), 1, MAAS_RDMA_STEP);
}

TEST(free__of_a_large_slab_with_many_keys_takes_turns)
{
	enum { COUNT = 5, PER_STEP = 2 };

	server_options.largest_bytes = MAAS_RDMA_STEP_BYTES / PER_STEP;
	server_options.pool_bytes = server_options.largest_bytes;
	begin(MAAS_RDMA_KEYS_MR);
	assert_int_equal(free_shared(server_options.largest_bytes, COUNT), PER_STEP);
}

struct slow {
	struct maas_rdma_task task;
	uint32_t turns;
};

/* A turn takes two seconds. */
static void delay(struct maas_rdma_task *task, int status)
{
	struct slow *slow = MAAS_CONTAINER_OF(task, struct slow, task);

	(void)status;
	ahead_ms += 2000;
	if (++slow->turns < 20 && maas_rdma_send(server.rdma, task))
		slow->turns = 20;
}

/* What is left to the kernel may still be written to, as far as the next start knows. */
TEST(stop__waits_for_large_regions)
{
	enum { COUNT = 5 };
	struct slow slow = {.task.run = delay};

	server_options.largest_bytes = MAAS_RDMA_STEP_BYTES;
	server_options.pool_bytes = COUNT * server_options.largest_bytes;
	begin(MAAS_RDMA_KEYS_MR);
	for (int i = 0; i < COUNT; i++)
		(void)get_key(peer, allocate(server_options.largest_bytes).id);
	assert_int_equal(maas_rdma_send(server.rdma, &slow.task), 0);
	maas_rdma_stop(server.rdma);
	assert_int_equal(server_stats().grants, 0);
	assert_int_equal(maas_rdma_close(server.rdma), 0);
	server.rdma = NULL;
}

struct noted {
	struct maas_rdma_task task;
	bool run;
};

/* Uses up the turn. */
static void note(struct maas_rdma_task *task, int status)
{
	(void)status;
	MAAS_CONTAINER_OF(task, struct noted, task)->run = true;
	server.rdma->turn_bytes = MAAS_RDMA_STEP_BYTES;
}

static void *stop(void *arg)
{
	maas_rdma_stop(arg);
	return NULL;
}

TEST(stop__runs_all_that_was_sent)
{
	struct noted sent[] = {{.task.run = note}, {.task.run = note}, {.task.run = note}};
	struct halt halt;
	pthread_t thread;

	server_open(MAAS_RDMA_KEYS_MR);
	thread_halt(&halt);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sent); i++)
		assert_int_equal(maas_rdma_send(server.rdma, &sent[i].task), 0);
	assert_int_equal(pthread_create(&thread, NULL, stop, server.rdma), 0);
	nap_ms(50); /* so that it is the thread's last turn */
	thread_go_on(&halt);
	pthread_join(thread, NULL);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sent); i++)
		assert_true(sent[i].run);
}

TEST(batch__of_large_regions_that_fails_is_undone_in_steps)
{
	enum { BATCH = 5, PER_STEP = 2 };
	struct told end = {0};
	struct watch watch = {.task.run = look, .end = &end};
	struct halt halt;

	server_options.largest_bytes = MAAS_RDMA_STEP_BYTES / PER_STEP;
	server_options.pool_bytes = BATCH * server_options.largest_bytes;
	server_options.max_grants = BATCH - 1;
	begin(MAAS_RDMA_KEYS_MR);
	thread_halt(&halt);
	start_batch_of(server_options.largest_bytes, peer, BATCH, &end);
	assert_int_equal(maas_rdma_send(server.rdma, &watch.task), 0);
	thread_go_on(&halt);

	assert_int_equal(told(&end), -EDQUOT);
	AWAIT(watch.over);
	assert_int_equal(watch.most, PER_STEP);
	assert_int_equal(server_stats().grants, 0);
}

RDMA_TEST_MAIN()
