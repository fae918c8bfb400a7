/* SPDX-License-Identifier: Apache-2.0 */
/* Request ids of allocations with keys: an answer is one for good only when its keys are there. */
#include "tests/unit/lend/lend_keys.h"

TEST(replay__gives_the_keys_of_now)
{
	struct answer first, again;

	obtain(2, "r", &first);
	keys.num_keys = 0; /* the connection was replaced */
	obtain(2, "r", &again);
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
	const struct maas_lend_alloc_request request = {
		.count = 1, .request_id = "r", .session = session.id};

	obtain(1, "r", &answer);
	assert_int_equal(ask_as(request, MAAS_LEND_ACCESS_READ, &answer), -ENOTUNIQ);
	assert_int_equal(try_as(request), -ENOTUNIQ);
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
	obtain(1, "r", &later);
	expect_state("slabs 1, sessions 1, requests 1");
}

/* A void request keeps its place: those behind it are forgotten in turn, and counted correctly. */
TEST(void_request__is_forgotten_in_its_turn)
{
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
	for (unsigned int i = 0; i < seconds; i += 30) {
		pass_ms(30000);
		assert_int_equal(maas_lend_session_renew(f.lend, NULL, session.id, 0, &session), 0);
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
	obtain(2, "r", &answer);
	for (unsigned int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++)
		request_and_free(numbered("large-", i), MAAS_SLAB_MAX_BATCH);
	assert_int_equal(ask(2, "r", &answer), -ENODATA);
	assert_int_equal(live_slabs(), 2);
}

/* However many requests wait for their keys. */
TEST(steps__the_same_among_many_under_way)
{
	static struct answer answers[64];
	struct answer duplicate;
	uint64_t steps;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(answers); i++)
		start(1, numbered("r-", i), &answers[i]);
	steps = maas_lend_steps(f.lend);
	start(1, "r-0", &duplicate);
	assert_in_range(maas_lend_steps(f.lend) - steps, 1, 8);
	finish_all();
	assert_string_equal(answers[0].first.id, duplicate.first.id);
}

TEST_MAIN(granting_setup, keys_teardown)
