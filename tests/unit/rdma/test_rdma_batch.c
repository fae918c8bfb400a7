/* SPDX-License-Identifier: Apache-2.0 */
/* Many keys in one request: all or none, of one connection, and nobody waits long for them. */
#include "tests/unit/rdma/rdma_thread.h"

#include <poll.h>

static void start_batch(struct world *world, struct peer *peer, uint32_t count,
			struct maas_slab_ref *refs, struct maas_lend_key *grants, struct told *end)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 1024, .count = count, .session = peer->session.id};
	struct maas_lend_allocation first;

	assert_int_equal(maas_lend_allocate_granted(world->lend, &request, MAAS_LEND_ACCESS_WRITE,
						    refs, &first, grants, tell, end),
			 -EINPROGRESS);
}

static void ask_batch(struct world *world, struct peer *peer, uint32_t count,
		      struct maas_slab_ref *refs, struct maas_lend_key *grants, int want)
{
	struct told end = {0};

	start_batch(world, peer, count, refs, grants, &end);
	assert_int_equal(told(&end), want);
}

static uint64_t live_slabs(const struct world *world)
{
	struct maas_slab_stats stats;

	maas_slab_stats(world->slab, &stats);
	return stats.live_slabs;
}

/* One doorbell for the chain, and one completion that speaks for all of it, unless one fails. */
static void windows__of_a_batch(void **state)
{
	enum { BATCH = 32 };
	struct maas_slab_ref refs[BATCH];
	struct maas_lend_key grants[BATCH];
	struct fake_counts before;
	struct fake_counts after;
	struct world world;
	struct peer peer;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_WINDOW);
	peer_open(&world, &peer, "one");
	ask_batch(&world, &peer, 1, refs, grants, 0); /* the extent is registered from now on */
	fake_counts(&before);
	ask_batch(&world, &peer, BATCH, refs, grants, 0);
	fake_counts(&after);
	assert_int_equal(after.binds - before.binds, BATCH);
	assert_int_equal(after.doorbells - before.doorbells, 1);
	assert_int_equal(after.signalled - before.signalled, 1);
	for (int i = 0; i < BATCH; i++)
		assert_int_equal(peer_write(&peer, &grants[i]), IBV_WC_SUCCESS);
	fake_fail_next(IBV_WR_BIND_MW, IBV_WC_MW_BIND_ERR);
	ask_batch(&world, &peer, WORLD_GRANTS - BATCH - 1, refs, grants, -ENOTCONN);
	AWAIT(world_stats(&world).grants == 0);
	peer_close(&peer);
	world_close(&world);
}

static void grants__of_a_batch(void **state)
{
	enum { BATCH = 8 };

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		struct fake_rules rules = fake_rules_default();
		struct maas_slab_ref refs[BATCH];
		struct maas_lend_key grants[BATCH];
		struct world world;
		struct peer peer;

		rules.max_mw = 5;
		rules.max_mr = 6;
		world_open(&world, &rules, mode ? MAAS_RDMA_KEYS_MR : MAAS_RDMA_KEYS_WINDOW);
		peer_open(&world, &peer, "one");
		ask_batch(&world, &peer, BATCH, refs, grants, -EMLINK);
		assert_int_equal(live_slabs(&world), 0);
		assert_int_equal(world_stats(&world).grants, 0);
		ask_batch(&world, &peer, 4, refs, grants, 0);
		for (int i = 0; i < 4; i++)
			assert_int_equal(peer_write(&peer, &grants[i]), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

/* ---- between two steps of a batch */

struct replacement {
	struct maas_rdma_task task;
	struct maas_rdma *rdma;
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
	struct maas_rdma_conn *conn = maas_rdma_conn_find(replacement->rdma, replacement->session);
	struct pollfd requests = {.fd = replacement->rdma->cm->fd, .events = POLLIN};

	(void)status;
	atomic_store(&replacement->reached, true);
	atomic_store(&replacement->dialled, poll(&requests, 1, 10000) == 1);
	maas_rdma_grant_kill(maas_rdma_grant_find(conn, replacement->freed), NULL);
	maas_rdma_conn_end(conn, "the test breaks it");
}

static void batch__over_a_reconnect(void **state)
{
	enum { BATCH = MAAS_RDMA_STEP + 8 };
	struct replacement replacement = {.task.run = replace};
	static struct maas_slab_ref refs[BATCH];
	static struct maas_lend_key grants[BATCH];
	struct told end = {0};
	struct world world;
	struct peer peer;
	struct peer again = {0};
	struct halt halt;

	(void)state;
	world_max_grants = BATCH;
	world_open(&world, NULL, MAAS_RDMA_KEYS_MR);
	peer_open(&world, &peer, "one");
	replacement.rdma = world.rdma;
	replacement.session = peer_ref(&world, &peer);
	assert_int_equal(maas_lend_session_ticket(world.lend, peer.session.id, &again.session), 0);

	thread_halt(&world, &halt);
	start_batch(&world, &peer, BATCH, refs, grants, &end);
	replacement.freed = refs[0];
	assert_int_equal(maas_rdma_send(world.rdma, &replacement.task), 0);
	thread_go_on(&halt);
	AWAIT(atomic_load(&replacement.reached));
	assert_int_equal(peer_dial(&world, &again), 0);

	assert_true(atomic_load(&replacement.dialled));
	assert_int_equal(told(&end), -ENOTCONN);
	AWAIT(world_stats(&world).grants == 0);
	assert_int_equal(live_slabs(&world), 0);
	ask_batch(&world, &again, BATCH, refs, grants, 0);
	for (int i = 0; i < BATCH; i++)
		assert_int_equal(grants[i].connection, again.link.connection);
	peer_close(&again);
	peer_close(&peer);
	world_close(&world);
	world_max_grants = WORLD_GRANTS;
}

struct watch {
	struct maas_rdma_task task;
	struct maas_rdma *rdma;
	struct told *end;
	uint32_t before;
	_Atomic uint32_t most; /* keys that died between two turns */
	_Atomic bool over;
};

static void look(struct maas_rdma_task *task, int status)
{
	struct watch *watch = MAAS_CONTAINER_OF(task, struct watch, task);
	uint32_t now = watch->rdma->num_grants;

	(void)status;
	if (watch->before > now && watch->before - now > atomic_load(&watch->most))
		atomic_store(&watch->most, watch->before - now);
	watch->before = now;
	if (atomic_load(&watch->end->calls) || maas_rdma_send(watch->rdma, task))
		atomic_store(&watch->over, true);
}

/* Whoever asks for one more than there are does not hold up what others revoke. */
static void batch__that_fails_is_undone_in_steps(void **state)
{
	enum { BATCH = 3 * MAAS_RDMA_STEP };
	static struct maas_slab_ref refs[BATCH];
	static struct maas_lend_key grants[BATCH];
	struct told end = {0};
	struct watch watch = {.task.run = look, .end = &end};
	struct world world;
	struct peer peer;
	struct halt halt;

	(void)state;
	world_max_grants = BATCH - 1;
	world_open(&world, NULL, MAAS_RDMA_KEYS_MR);
	peer_open(&world, &peer, "one");
	thread_halt(&world, &halt);
	start_batch(&world, &peer, BATCH, refs, grants, &end);
	watch.rdma = world.rdma;
	assert_int_equal(maas_rdma_send(world.rdma, &watch.task), 0);
	thread_go_on(&halt);

	assert_int_equal(told(&end), -EDQUOT);
	AWAIT(atomic_load(&watch.over));
	assert_in_range(atomic_load(&watch.most), 1, MAAS_RDMA_STEP);
	assert_int_equal(world_stats(&world).grants, 0);
	assert_int_equal(live_slabs(&world), 0);
	peer_close(&peer);
	world_close(&world);
	world_max_grants = WORLD_GRANTS;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows__of_a_batch),
		cmocka_unit_test(grants__of_a_batch),
		cmocka_unit_test(batch__over_a_reconnect),
		cmocka_unit_test(batch__that_fails_is_undone_in_steps),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
