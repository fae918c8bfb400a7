/* SPDX-License-Identifier: Apache-2.0 */
/* Many keys in one request. */
#include "tests/unit/rdma_fixture.h"

static void ask_batch(struct world *world, struct peer *peer, uint32_t count,
		      struct maas_slab_ref *refs, struct maas_grant *grants, int want)
{
	const struct maas_alloc_request request = {
		.size_bytes = 1024, .count = count, .session = peer->session.id};
	struct maas_allocation first;
	struct told end = {0};

	assert_int_equal(maas_lend_allocate_granted(world->lend, &request, MAAS_ACCESS_WRITE, refs,
						    &first, grants, tell, &end),
			 -EINPROGRESS);
	assert_int_equal(told(&end), want);
}

/* One doorbell for the chain, and one completion that speaks for all of it, unless one fails. */
static void windows__of_a_batch(void **state)
{
	enum { BATCH = 32 };
	struct maas_slab_ref refs[BATCH];
	struct maas_grant grants[BATCH];
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
		struct maas_grant grants[BATCH];
		struct maas_slab_stats stats;
		struct world world;
		struct peer peer;

		rules.max_mw = 5;
		rules.max_mr = 6;
		world_open(&world, &rules, mode ? MAAS_RDMA_KEYS_MR : MAAS_RDMA_KEYS_WINDOW);
		peer_open(&world, &peer, "one");
		ask_batch(&world, &peer, BATCH, refs, grants, -EMLINK);
		maas_slab_stats(world.slab, &stats);
		assert_int_equal(stats.live_slabs, 0);
		assert_int_equal(world_stats(&world).grants, 0);
		ask_batch(&world, &peer, 4, refs, grants, 0);
		for (int i = 0; i < 4; i++)
			assert_int_equal(peer_write(&peer, &grants[i]), IBV_WC_SUCCESS);
		peer_close(&peer);
		world_close(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows__of_a_batch),
		cmocka_unit_test(grants__of_a_batch),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
