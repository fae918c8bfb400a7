/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids of allocations with keys: an answer is one for good only when its keys are there. */
#include "tests/unit/lend/lend_granting.h"

static void replay__gives_the_keys_of_now(void **state)
{
	struct answer first;
	struct answer again;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 2, "r", &first), -EINPROGRESS);
	g.keys.num_keyed = 0; /* the connection was replaced */
	assert_int_equal(ask(&g, 2, "r", &again), -EINPROGRESS);
	expect_status(&again, 0);
	assert_memory_equal(first.refs, again.refs, 2 * sizeof(first.refs[0]));
	assert_string_equal(first.first.id, again.first.id);
	assert_int_not_equal(first.grants[0].rkey, again.grants[0].rkey);
	assert_int_equal(live_slabs(&g.f), 2);
	close_granting(&g);
}

static void replay__that_gets_no_keys_takes_nothing_back(void **state)
{
	struct answer first;
	struct answer again;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 1, "r", &first), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, 0));
	assert_int_equal(ask(&g, 1, "r", &again), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, -ENOTCONN));
	expect_status(&again, -ENOTCONN);
	assert_true(exists(&g.f, &first.first));
	assert_int_equal(lend_stats(&g.f).request_ids, 1);
	close_granting(&g);
}

static void replay__with_other_access_is_another_request(void **state)
{
	struct maas_lend_alloc_request request = {.size_bytes = 100, .count = 1, .request_id = "r"};
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	request.session = g.session.id;
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer), -EINPROGRESS);
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_READ, &answer), -ENOTUNIQ);
	assert_int_equal(maas_lend_allocate(g.f.lend, &request, answer.refs, &answer.first),
			 -ENOTUNIQ);
	close_granting(&g);
}

/* Who asks again before the keys are there waits for them. */
static void duplicate__waits_for_the_first(void **state)
{
	struct answer first;
	struct answer duplicates[2];
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 2, "r", &first), -EINPROGRESS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask(&g, 2, "r", &duplicates[i]), -EINPROGRESS);
	assert_int_equal(g.keys.num_under_way, 1);
	assert_true(fake_keys_finish(&g.keys, 0));
	expect_status(&first, 0);
	while (fake_keys_finish(&g.keys, 0))
		continue;
	for (int i = 0; i < 2; i++) {
		expect_status(&duplicates[i], 0);
		assert_string_equal(first.first.id, duplicates[i].first.id);
		assert_int_equal(first.grants[1].rkey, duplicates[i].grants[1].rkey);
	}
	assert_int_equal(live_slabs(&g.f), 2);
	close_granting(&g);
}

static void duplicate__fails_with_the_first(void **state)
{
	struct answer first;
	struct answer duplicate;
	struct answer later;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 1, "r", &first), -EINPROGRESS);
	assert_int_equal(ask(&g, 1, "r", &duplicate), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, -EDQUOT));
	expect_status(&first, -EDQUOT);
	expect_status(&duplicate, -EDQUOT);
	expect_nothing(&g);
	assert_int_equal(ask(&g, 1, "r", &later), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, 0));
	expect_status(&later, 0);
	assert_int_equal(lend_stats(&g.f).request_ids, 1);
	close_granting(&g);
}

/* A void request keeps its place: what is behind it is forgotten in its turn, and counted right. */
static void void_request__is_forgotten_in_its_turn(void **state)
{
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 2, "void", &answer), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, -EDQUOT));
	g.keys.immediate = true; /* the session lapses on the way */
	pass_ms(&g.f, 10000);
	ALLOCATE(&g.f, .request_id = "behind");
	assert_int_equal(lend_stats(&g.f).request_ids, 1);
	pass_ms(&g.f, MAAS_LEND_REQUEST_S * 1000 - 5000);
	assert_int_equal(lend_stats(&g.f).request_ids, 1);
	pass_ms(&g.f, 6000);
	assert_int_equal(lend_stats(&g.f).request_ids, 0);
	close_granting(&g);
}

static void pass_awake(struct granting *g, unsigned int seconds)
{
	struct maas_lend_session_info info;

	for (unsigned int i = 0; i < seconds; i += 30) {
		pass_ms(&g->f, 30000);
		assert_int_equal(maas_lend_session_renew(g->f.lend, g->session.id, 0, &info), 0);
	}
}

/* Ten minutes are over, and its keys still not there: it is the request under way that counts. */
static void duplicate__of_a_request_that_was_forgotten(void **state)
{
	struct answer first;
	struct answer duplicate;
	struct answer other;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 2, "r", &first), -EINPROGRESS);
	pass_awake(&g, MAAS_LEND_REQUEST_S + 30);
	assert_int_equal(lend_stats(&g.f).request_ids, 0);
	assert_int_equal(ask(&g, 2, "r", &duplicate), -EINPROGRESS);
	assert_int_equal(ask(&g, 1, "r", &other), -ENOTUNIQ);
	assert_int_equal(live_slabs(&g.f), 2);
	assert_int_equal(g.keys.num_under_way, 1);
	while (fake_keys_finish(&g.keys, 0))
		continue;
	expect_status(&first, 0);
	expect_status(&duplicate, 0);
	assert_memory_equal(first.refs, duplicate.refs, 2 * sizeof(first.refs[0]));
	close_granting(&g);
}

static void replay__of_a_batch_whose_list_is_gone(void **state)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct maas_lend_alloc_request large = {.size_bytes = 64, .count = MAAS_SLAB_MAX_BATCH};
	struct maas_lend_allocation a;
	struct answer answer;
	struct granting g;
	char name[32];

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 2, "r", &answer), -EINPROGRESS);
	for (int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		snprintf(name, sizeof(name), "large-%d", i);
		large.request_id = name;
		assert_int_equal(maas_lend_allocate(g.f.lend, &large, refs, &a), 0);
		for (int k = 0; k < MAAS_SLAB_MAX_BATCH; k++)
			assert_int_equal(maas_slab_free(g.f.slab, refs[k]), 0);
	}
	assert_int_equal(ask(&g, 2, "r", &answer), -ENODATA);
	assert_int_equal(live_slabs(&g.f), 2);
	close_granting(&g);
}

/* However many requests wait for their keys. */
static void steps__the_same_among_many_under_way(void **state)
{
	static struct answer answers[FAKE_KEYS_MAX];
	struct answer duplicate;
	struct granting g;
	uint64_t steps;
	char name[32];

	(void)state;
	open_granting(&g);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(answers); i++) {
		snprintf(name, sizeof(name), "r-%zu", i);
		assert_int_equal(ask(&g, 1, name, &answers[i]), -EINPROGRESS);
	}
	steps = maas_lend_steps(g.f.lend);
	assert_int_equal(ask(&g, 1, "r-0", &duplicate), -EINPROGRESS);
	assert_in_range(maas_lend_steps(g.f.lend) - steps, 1, 8);
	while (fake_keys_finish(&g.keys, 0))
		continue;
	assert_string_equal(answers[0].first.id, duplicate.first.id);
	close_granting(&g);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(replay__gives_the_keys_of_now),
		cmocka_unit_test(replay__that_gets_no_keys_takes_nothing_back),
		cmocka_unit_test(replay__with_other_access_is_another_request),
		cmocka_unit_test(duplicate__waits_for_the_first),
		cmocka_unit_test(duplicate__fails_with_the_first),
		cmocka_unit_test(void_request__is_forgotten_in_its_turn),
		cmocka_unit_test(duplicate__of_a_request_that_was_forgotten),
		cmocka_unit_test(replay__of_a_batch_whose_list_is_gone),
		cmocka_unit_test(steps__the_same_among_many_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
