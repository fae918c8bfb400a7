/* SPDX-License-Identifier: Apache-2.0 */
/* Many keys in one request: all or none, of one connection, and nobody waits long for them. */
#include <poll.h>

#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_batch.h"

static void start_batch(const struct peer *one, uint32_t count, struct told *end)
{
	start_batch_of(1024, one, count, end);
}

static int run_batch(const struct peer *one, uint32_t count)
{
	struct told end = {0};

	start_batch(one, count, &end);
	return told(&end);
}

static void write_all(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(peer_write(peer, &keys[i]), IBV_WC_SUCCESS);
}

/* One doorbell for the chain, and one completion that speaks for all of it, unless one fails. */
TEST(windows__of_a_batch)
{
	enum { BATCH = 32 };
	struct fake_counts before, after;

	begin(MAAS_RDMA_KEYS_WINDOW);
	assert_int_equal(run_batch(peer, 1), 0); /* the extent is registered from now on */
	before = fake_counts();
	assert_int_equal(run_batch(peer, BATCH), 0);
	after = fake_counts();
	assert_int_equal(after.binds - before.binds, BATCH);
	assert_int_equal(after.doorbells - before.doorbells, 1);
	assert_int_equal(after.signalled - before.signalled, 1);
	write_all(BATCH);
	fake_fail_next(IBV_WR_BIND_MW, IBV_WC_MW_BIND_ERR);
	assert_int_equal(run_batch(peer, SERVER_GRANTS - BATCH - 1), -ENOTCONN);
	AWAIT(server_stats().grants == 0);
}

TEST_MODES(grants__of_a_batch)
{
	rules.max_mw = 5;
	rules.max_mr = 6;
	begin(mode);
	assert_int_equal(run_batch(peer, 8), -EMLINK);
	assert_int_equal(live_slabs(), 0);
	assert_int_equal(server_stats().grants, 0);
	assert_int_equal(run_batch(peer, 4), 0);
	write_all(4);
}

/* All that it made dies, but not the key that was there before. */
TEST_MODES(batch__that_fails_with_a_key_of_before)
{
	enum { BATCH = 8 };
	const struct maas_lend_alloc_request request = {.size_bytes = 1024, .count = BATCH};
	struct maas_lend_allocation first;
	struct told end = {0};
	struct maas_lend_key before;

	server_options.max_grants = BATCH - 1;
	begin(mode);
	assert_int_equal(maas_lend_allocate(server.lend, &request, refs, &first), 0);
	before = get_key(peer, first.id);
	assert_int_equal(maas_rdma_key_ops.grant(server.rdma, peer_ref(peer), refs, BATCH,
						 MAAS_LEND_ACCESS_WRITE, keys, tell, &end),
			 0);
	assert_int_equal(told(&end), -EDQUOT);
	assert_int_equal(server_stats().grants, 1);
	assert_int_equal(peer_write(peer, &before), IBV_WC_SUCCESS);
}

/* ---- between two steps of a batch */

struct replacement {
	struct maas_rdma_task task;
	struct maas_lend_session_ref session;
	struct maas_slab_ref freed;
	_Atomic bool reached;
	_Atomic bool dialled;
};

/*
 * In the turn of the first step: the client dials anew, one of the new keys is freed, so that the
 * rest of them fits into one turn of the end, and the connection breaks. In the next turn the new
 * connection is there before the second step.
 */
static void replace(struct maas_rdma_task *task, int status)
{
	struct replacement *replacement = MAAS_CONTAINER_OF(task, struct replacement, task);
	struct maas_rdma_conn *conn = maas_rdma_conn_find(server.rdma, replacement->session);
	struct pollfd requests = {.fd = server.rdma->cm->fd, .events = POLLIN};

	(void)status;
	replacement->reached = true;
	replacement->dialled = poll(&requests, 1, 10000) == 1;
	maas_rdma_grant_kill(maas_rdma_grant_find(conn, replacement->freed), NULL);
	maas_rdma_conn_end(conn, "the test breaks it");
}

TEST(batch__over_a_reconnect)
{
	enum { BATCH = MAAS_RDMA_STEP + 8 };
	struct replacement replacement = {.task.run = replace};
	struct told end = {0};
	struct peer *again;
	struct halt halt;

	server_options.max_grants = BATCH;
	begin(MAAS_RDMA_KEYS_MR);
	replacement.session = peer_ref(peer);
	peer_renew(peer);
	again = peer_again(peer);

	thread_halt(&halt);
	start_batch(peer, BATCH, &end);
	replacement.freed = refs[0];
	assert_int_equal(maas_rdma_send(server.rdma, &replacement.task), 0);
	thread_go_on(&halt);
	AWAIT(replacement.reached);
	assert_int_equal(peer_dial(again), 0);

	assert_true(replacement.dialled);
	assert_int_equal(told(&end), -ENOTCONN);
	AWAIT(server_stats().grants == 0);
	assert_int_equal(live_slabs(), 0);
	assert_int_equal(run_batch(again, BATCH), 0);
	for (int i = 0; i < BATCH; i++)
		assert_int_equal(keys[i].connection, again->link.connection);
}

struct tries {
	struct maas_rdma_task task;
	unsigned long before;
	_Atomic unsigned long most; /* between two turns */
	_Atomic bool stop;
	_Atomic bool over;
};

static void count_tries(struct maas_rdma_task *task, int status)
{
	struct tries *tries = MAAS_CONTAINER_OF(task, struct tries, task);
	unsigned long now = fake_counts().refused;

	(void)status;
	if (now - tries->before > tries->most)
		tries->most = now - tries->before;
	tries->before = now;
	if (tries->stop || maas_rdma_send(server.rdma, task))
		tries->over = true;
}

/* Nobody waits for as many tries, and the log is not full of them. */
TEST_MODES(batch__whose_keys_will_not_go)
{
	struct tries tries = {.task.run = count_tries};
	struct log_file file;
	struct peer *again;

	server_options.max_grants = MAX_BATCH;
	begin(mode);
	assert_int_equal(run_batch(peer, MAX_BATCH), 0);
	log_file_begin(&file);
	fake_refuse_ends(true);
	assert_int_equal(maas_rdma_send(server.rdma, &tries.task), 0);
	peer_renew(peer);
	again = peer_again(peer);
	peer_ask_with_ticket(again); /* the connection of before has to end first */
	AWAIT(fake_counts().refused >= MAX_BATCH);
	tries.stop = true;
	AWAIT(tries.over);
	assert_in_range(tries.most, 1, MAAS_RDMA_STEP);
	assert_int_equal(server_stats().grants, MAX_BATCH);
	/* Of two seconds, perhaps. */
	assert_in_range(log_file_lines(&file, "cannot ", NULL), 1, 2 * MAAS_RATELIMIT_LINES);
	log_file_end(&file);

	fake_refuse_ends(false);
	ahead_ms += 1000;
	assert_int_equal(peer_answer(again), 0);
	assert_int_equal(server_stats().grants, 0);
}

/* ---- one of many keys, whose connection has to end */

struct wait {
	struct told end;
	uint64_t left; /* keys, when it came */
};

static void note_left(void *arg, int status)
{
	struct wait *wait = arg;

	wait->left = server_stats().grants;
	tell(&wait->end, status);
}

/* Returns when the thread has heard of it. */
static void free_one(uint32_t i, struct wait *wait)
{
	char id[MAAS_SLAB_ID_TEXT];

	*wait = (struct wait){0};
	maas_lend_id(server.lend, refs[i], id);
	assert_int_equal(maas_lend_free(server.lend, NULL, id, note_left, wait), -EINPROGRESS);
	thread_catch_up();
}

static void expect_first(struct wait *wait, uint32_t others)
{
	AWAIT(wait->end.calls);
	assert_int_equal(told(&wait->end), 0);
	assert_in_range(wait->left, others, MAX_BATCH);
}

static void begin_with_batch(void)
{
	server_options.max_grants = MAX_BATCH + 1;
	begin(mode);
	assert_int_equal(run_batch(peer, MAX_BATCH), 0);
}

/* What nobody waits for dies after it, in the end that the silence of the device leads to. */
TEST(free__of_one_of_many_that_is_not_invalidated)
{
	static const uint32_t one[] = {0, MAX_BATCH / 2, MAX_BATCH - 1};

	mode = MAAS_RDMA_KEYS_WINDOW;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(one); i++) {
		struct wait wait;

		begin_with_batch();
		fake_hold(FAKE_OP(IBV_WR_LOCAL_INV));
		free_one(one[i], &wait);
		AWAIT(fake_num_held() == 1);
		ahead_ms += MAAS_RDMA_WORK_MS;
		expect_first(&wait, MAX_BATCH - 1);
		fake_release();
		server_close();
	}
}

TEST(free__of_one_of_many_regions_that_will_not_go)
{
	struct wait wait;

	mode = MAAS_RDMA_KEYS_MR;
	begin_with_batch();
	fake_fail_nth(FAKE_ENDS, 1);
	free_one(0, &wait);
	expect_first(&wait, MAX_BATCH - 1);
}

/* The connection ends, and the device does not flush its work: no key can be killed by itself. */
static void begin_ending(void)
{
	AWAIT(server_stats().connected == 1);
	fake_mute(true);
	maas_rdma_key_ops.probe(server.rdma, peer_ref(peer));
	AWAIT(fake_num_held() == 1);
	peer_renew(peer);
	peer_ask_with_ticket(peer_again(peer));
	AWAIT(server_stats().ending == 1);
}

static void free_first_of_ending(void)
{
	struct wait wait;

	free_one(0, &wait);
	ahead_ms += MAAS_RDMA_WORK_MS;
	expect_first(&wait, MAX_BATCH - 1);
	fake_mute(false);
}

TEST_MODES(free__of_one_of_many_that_are_ending)
{
	begin_with_batch();
	begin_ending();
	free_first_of_ending();
}

/* The free waits for the key of the other one first. */
TEST(free__of_one_of_many_that_another_has)
{
	struct peer *other;
	char id[MAAS_SLAB_ID_TEXT];

	mode = MAAS_RDMA_KEYS_MR;
	begin_with_batch();
	begin_ending();
	other = peer_open("two");
	maas_lend_id(server.lend, refs[0], id);
	(void)get_key(other, id);
	free_first_of_ending();
}

/* Its bind is flushed: then the key is neither live nor being invalidated. */
TEST(free__of_one_of_many_that_are_bound)
{
	enum { MANY = MAAS_RDMA_STEP + 8 };
	const struct maas_lend_alloc_request request = {.size_bytes = 1024, .count = MANY};
	static struct told granted[MANY];
	struct maas_lend_allocation first;
	char id[MAAS_SLAB_ID_TEXT];
	struct wait wait;

	memset(granted, 0, sizeof(granted));
	server_options.max_grants = MANY;
	begin(MAAS_RDMA_KEYS_WINDOW);
	assert_int_equal(maas_lend_allocate(server.lend, &request, refs, &first), 0);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	for (uint32_t i = 0; i < MANY; i++) {
		maas_lend_id(server.lend, refs[i], id);
		start_key(peer, id, &keys[i], &granted[i]);
	}
	AWAIT(server_stats().grants == MANY && fake_num_held());
	free_one(0, &wait);
	ahead_ms += MAAS_RDMA_WORK_MS;
	expect_first(&wait, MANY - 1);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_not_equal(told(&granted[i]), 0);
	fake_release();
}

RDMA_TEST_MAIN()
