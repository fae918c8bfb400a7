/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids of allocations with keys: an answer is one for good only when its keys are there. */
#include "tests/unit/lend/lend_keys.h"

TEST(replay__gives_the_keys_of_now)
{
	struct answer first, again;

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(2, "r", &first);
	keys.num_keys = 0; /* the connection was replaced */
	start(2, "r", &again);
	expect_told(&again.told, 0);
	assert_memory_equal(first.refs, again.refs, 2 * sizeof(first.refs[0]));
	assert_string_equal(first.first.id, again.first.id);
	assert_int_not_equal(first.grants[0].rkey, again.grants[0].rkey);
	assert_int_equal(live_slabs(), 2);
}

TEST(replay__that_gets_no_keys_takes_nothing_back)
{
	struct answer first, again;

	start(1, "r", &first);
	finish(0);
	start(1, "r", &again);
	finish(-ENOTCONN);
	expect_told(&again.told, -ENOTCONN);
	assert_true(exists(&first.first));
	assert_int_equal(lend_stats().request_ids, 1);
}

TEST(replay__with_other_access_is_another_request)
{
	struct maas_lend_alloc_request request = {.size_bytes = 100, .count = 1, .request_id = "r"};
	struct answer answer;

	keys.mode = FAKE_KEYS_AT_ONCE;
	request.session = session.id;
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -EINPROGRESS);
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_READ, &answer), -ENOTUNIQ);
	assert_int_equal(maas_lend_allocate(f.lend, &request, answer.refs, &answer.first),
			 -ENOTUNIQ);
}

/* A client that asks again before the keys are there waits for them. */
TEST(duplicate__waits_for_the_first)
{
	struct answer first, duplicates[2];

	start(2, "r", &first);
	for (int i = 0; i < 2; i++)
		start(2, "r", &duplicates[i]);
	assert_int_equal(keys.num_ops, 1);
	finish(0);
	expect_told(&first.told, 0);
	finish_all();
	for (int i = 0; i < 2; i++) {
		expect_told(&duplicates[i].told, 0);
		assert_string_equal(first.first.id, duplicates[i].first.id);
		assert_int_equal(first.grants[1].rkey, duplicates[i].grants[1].rkey);
	}
	assert_int_equal(live_slabs(), 2);
}

TEST(duplicate__fails_with_the_first)
{
	struct answer first, duplicate, later;

	start(1, "r", &first);
	start(1, "r", &duplicate);
	finish(-EDQUOT);
	expect_told(&first.told, -EDQUOT);
	expect_told(&duplicate.told, -EDQUOT);
	expect_nothing();
	start(1, "r", &later);
	finish(0);
	expect_told(&later.told, 0);
	assert_int_equal(lend_stats().request_ids, 1);
}

/* A void request keeps its place: those behind it are forgotten in turn, and counted correctly. */
TEST(void_request__is_forgotten_in_its_turn)
{
	struct answer answer;

	start(2, "void", &answer);
	finish(-EDQUOT);
	keys.mode = FAKE_KEYS_AT_ONCE; /* the session lapses on the way */
	pass_ms(10000);
	ALLOCATE(.request_id = "behind");
	assert_int_equal(lend_stats().request_ids, 1);
	pass_ms(MAAS_LEND_REQUEST_S * 1000 - 5000);
	assert_int_equal(lend_stats().request_ids, 1);
	pass_ms(6000);
	assert_int_equal(lend_stats().request_ids, 0);
}

static void pass_awake(unsigned int seconds)
{
	struct maas_lend_session_info info;

	for (unsigned int i = 0; i < seconds; i += 30) {
		pass_ms(30000);
		assert_int_equal(maas_lend_session_renew(f.lend, NULL, session.id, 0, &info), 0);
	}
}

/* Ten minutes are over, and its keys still not there: it is the request under way that counts. */
TEST(duplicate__of_a_request_that_was_forgotten)
{
	struct answer first, duplicate, other;

	start(2, "r", &first);
	pass_awake(MAAS_LEND_REQUEST_S + 30);
	assert_int_equal(lend_stats().request_ids, 0);
	start(2, "r", &duplicate);
	assert_int_equal(ask(1, "r", &other), -ENOTUNIQ);
	assert_int_equal(live_slabs(), 2);
	assert_int_equal(keys.num_ops, 1);
	finish_all();
	expect_told(&first.told, 0);
	expect_told(&duplicate.told, 0);
	assert_memory_equal(first.refs, duplicate.refs, 2 * sizeof(first.refs[0]));
}

TEST(replay__of_a_batch_whose_list_is_gone)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct maas_lend_alloc_request large = {.size_bytes = 64, .count = MAAS_SLAB_MAX_BATCH};
	struct maas_lend_allocation a;
	struct answer answer;
	char name[32];

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(2, "r", &answer);
	for (int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		snprintf(name, sizeof(name), "large-%d", i);
		large.request_id = name;
		assert_int_equal(maas_lend_allocate(f.lend, &large, refs, &a), 0);
		for (int k = 0; k < MAAS_SLAB_MAX_BATCH; k++)
			assert_int_equal(maas_slab_free(f.slab, refs[k]), 0);
	}
	assert_int_equal(ask(2, "r", &answer), -ENODATA);
	assert_int_equal(live_slabs(), 2);
}

/* However many requests wait for their keys. */
TEST(steps__the_same_among_many_under_way)
{
	static struct answer answers[64];
	struct answer duplicate;
	uint64_t steps;
	char name[32];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(answers); i++) {
		snprintf(name, sizeof(name), "r-%zu", i);
		start(1, name, &answers[i]);
	}
	steps = maas_lend_steps(f.lend);
	start(1, "r-0", &duplicate);
	assert_in_range(maas_lend_steps(f.lend) - steps, 1, 8);
	finish_all();
	assert_string_equal(answers[0].first.id, duplicate.first.id);
}

TEST_MAIN(granting_setup, keys_teardown)
