/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: with an allocation, all or none of both, or to one that is there; and their end. */
#include "tests/fake/fail_nth.h"
#include "tests/unit/lend/lend_granting.h"

/* ---- with an allocation */

static void allocate_granted__gives_memory_and_keys(void **state)
{
	struct maas_slab_info info;
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 3, NULL, &answer), -EINPROGRESS);
	assert_int_equal(answer.told.calls, 0);
	assert_true(fake_keys_finish(&g.keys, 0));
	expect_status(&answer, 0);
	assert_int_equal(live_slabs(&g.f), 3);
	assert_int_equal(answer.first.size_bytes, 100);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(maas_slab_get(g.f.slab, answer.refs[i], &info), 0);
		assert_int_equal(answer.grants[i].addr, info.offset);
		assert_int_equal(answer.grants[i].len_bytes, 100);
		assert_int_equal(fake_keys_count(&g.keys, answer.refs[i]), 1);
	}
	close_granting(&g);
}

static void allocate_granted__done_may_come_before_the_call_returns(void **state)
{
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 2, "r", &answer), -EINPROGRESS);
	expect_status(&answer, 0);
	assert_int_equal(g.keys.num_keyed, 2);
	close_granting(&g);
}

static void allocate_granted__refuses_before_it_allocates(void **state)
{
	struct maas_lend_alloc_request request = {.size_bytes = 100, .count = 1};
	struct fixture without = fixture_open(POOL_BYTES, NULL, NULL);
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer), -EINVAL);
	request.session = "00000000-0000-8000-8000-000000000000";
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer), -ESRCH);
	request.session = g.session.id;
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_NONE, &answer), -EINVAL);
	assert_int_equal(maas_lend_allocate_granted(without.lend, &request, MAAS_LEND_ACCESS_WRITE,
						    answer.refs, &answer.first, answer.grants, tell,
						    &answer.told),
			 -EOPNOTSUPP);
	g.keys.unconnected = true;
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer), -ENOTCONN);
	assert_int_equal(maas_lend_session_end(g.f.lend, g.session.id, NULL, NULL), 0);
	assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer), -ESRCH);
	assert_int_equal(answer.told.calls, 0);
	assert_int_equal(g.keys.grants, 0);
	expect_nothing(&g);
	fixture_close(&without);
	close_granting(&g);
}

/* However the keys fail, at once or later: no memory, and the id is as new. */
static void allocate_granted__without_keys_leaves_nothing(void **state)
{
	static const struct {
		int start_error;
		int status;
	} cases[] = {{-EMLINK, 0}, {0, -EDQUOT}, {0, -ENOTCONN}};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct answer failed;
		struct answer again;
		struct granting g;

		open_granting(&g);
		g.keys.start_error = cases[i].start_error;
		assert_int_equal(ask(&g, 3, "r", &failed), -EINPROGRESS);
		if (!cases[i].start_error)
			assert_true(fake_keys_finish(&g.keys, cases[i].status));
		expect_status(&failed,
			      cases[i].start_error ? cases[i].start_error : cases[i].status);
		expect_nothing(&g);
		g.keys.start_error = 0;
		g.keys.immediate = true;
		assert_int_equal(ask(&g, 3, "r", &again), -EINPROGRESS);
		expect_status(&again, 0);
		assert_string_not_equal(again.first.id, failed.first.id);
		assert_int_equal(live_slabs(&g.f), 3);
		close_granting(&g);
	}
}

/* One key too many: the others die as well, and what they opened is revoked before it is reused. */
static void allocate_granted__is_all_or_none(void **state)
{
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	g.keys.max_keys = 2;
	assert_int_equal(ask(&g, 3, NULL, &answer), -EINPROGRESS);
	expect_status(&answer, -EDQUOT);
	expect_nothing(&g);
	assert_int_equal(ask(&g, 2, NULL, &answer), -EINPROGRESS);
	expect_status(&answer, 0);
	close_granting(&g);
}

/* A list shows the allocation before its keys are there, and somebody frees it. */
static void allocate_granted__whose_slab_is_freed_meanwhile(void **state)
{
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(ask(&g, 1, "r", &answer), -EINPROGRESS);
	assert_int_equal(free_now(&g.f, &answer.first), 0);
	assert_true(fake_keys_finish(&g.keys, 0));
	expect_status(&answer, -ENOENT);
	expect_nothing(&g);
	close_granting(&g);
}

static void allocate_granted__whose_session_ends_meanwhile(void **state)
{
	const enum maas_lend_lifetime lifetimes[] = {MAAS_LEND_LIFETIME_DELETE,
						     MAAS_LEND_LIFETIME_SESSION};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lifetimes); i++) {
		struct told ended = {0};
		struct answer answer;
		struct granting g;
		struct maas_lend_alloc_request request = {
			.size_bytes = 100, .count = 2, .lifetime = lifetimes[i]};

		open_granting(&g);
		request.session = g.session.id;
		assert_int_equal(ask_as(&g, &request, MAAS_LEND_ACCESS_WRITE, &answer),
				 -EINPROGRESS);
		assert_int_equal(maas_lend_session_end(g.f.lend, g.session.id, tell, &ended),
				 -EINPROGRESS);
		assert_true(fake_keys_finish(&g.keys, -ENOTCONN));
		expect_status(&answer, -ENOTCONN);
		assert_true(fake_keys_finish(&g.keys, 0));
		assert_int_equal(ended.calls, 1);
		assert_int_equal(ended.status, 0);
		expect_nothing(&g);
		close_granting(&g);
	}
}

static void allocate_granted__wants_its_memory_first(void **state)
{
	bool fired = true;
	long nth;

	(void)state;
	for (nth = 1; fired; nth++) {
		struct answer answer;
		struct granting g;
		int r;

		open_granting(&g);
		g.keys.immediate = true;
		fail_nth_arm(nth);
		r = ask(&g, 2, "r", &answer);
		fired = fail_nth_disarm();
		assert_int_equal(r, fired ? -ENOMEM : -EINPROGRESS);
		if (fired) {
			assert_int_equal(answer.told.calls, 0);
			expect_nothing(&g);
		}
		close_granting(&g);
	}
	assert_true(nth > 3);
}

/* ---- to what is there */

static int grant(struct granting *g, const struct maas_lend_allocation *a,
		 enum maas_lend_access access, struct maas_lend_key *ret_grant, struct told *told)
{
	return maas_lend_grant(g->f.lend, a->id, g->session.id, access, ret_grant, tell, told);
}

static void grant__to_an_allocation_of_another(void **state)
{
	struct maas_lend_key keys[2] = {0};
	struct told told = {0};
	struct maas_lend_allocation a;
	struct granting g;

	(void)state;
	open_granting(&g);
	a = allocate_plain(&g.f);
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_READ, &keys[0], &told), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, 0));
	assert_int_equal(told.status, 0);
	assert_int_equal(keys[0].len_bytes, 100);
	g.keys.immediate = true;
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_READ, &keys[1], &told), -EINPROGRESS);
	assert_int_equal(told.calls, 2);
	assert_int_equal(told.status, 0);
	assert_int_equal(keys[0].rkey, keys[1].rkey);
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_WRITE, &keys[1], &told), -EINPROGRESS);
	assert_int_equal(told.status, -EEXIST);
	close_granting(&g);
}

static void grant__refuses(void **state)
{
	struct fixture without = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_allocation a;
	struct maas_lend_key key;
	struct told told = {0};
	struct granting g;

	(void)state;
	open_granting(&g);
	a = allocate_plain(&g.f);
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_NONE, &key, &told), -EINVAL);
	assert_int_equal(
		maas_lend_grant(g.f.lend, a.id, "?", MAAS_LEND_ACCESS_READ, &key, tell, &told),
		-ESRCH);
	assert_int_equal(maas_lend_grant(g.f.lend, "?", g.session.id, MAAS_LEND_ACCESS_READ, &key,
					 tell, &told),
			 -ENOENT);
	assert_int_equal(maas_lend_grant(without.lend, a.id, g.session.id, MAAS_LEND_ACCESS_READ,
					 &key, tell, &told),
			 -EOPNOTSUPP);
	g.keys.start_error = -ENOTCONN;
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_READ, &key, &told), -ENOTCONN);
	assert_int_equal(free_now(&g.f, &a), 0);
	assert_int_equal(grant(&g, &a, MAAS_LEND_ACCESS_READ, &key, &told), -ENOENT);
	assert_int_equal(told.calls, 0);
	fixture_close(&without);
	close_granting(&g);
}

static void ungrant__ends_one_sessions_key(void **state)
{
	struct maas_lend_session_info other;
	struct answer answer;
	struct told told = {0};
	struct maas_lend_key key;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 1, NULL, &answer), -EINPROGRESS);
	assert_int_equal(maas_lend_session_open(g.f.lend, "other", 60, false, NULL, &other), 0);
	assert_int_equal(maas_lend_ungrant(g.f.lend, answer.first.id, other.id, tell, &told),
			 -EINPROGRESS);
	assert_int_equal(told.status, -ENOENT);
	assert_int_equal(maas_lend_grant(g.f.lend, answer.first.id, other.id, MAAS_LEND_ACCESS_READ,
					 &key, tell, &told),
			 -EINPROGRESS);
	assert_int_equal(fake_keys_count(&g.keys, answer.refs[0]), 2);
	assert_int_equal(maas_lend_ungrant(g.f.lend, answer.first.id, g.session.id, tell, &told),
			 -EINPROGRESS);
	assert_int_equal(told.status, 0);
	assert_int_equal(fake_keys_count(&g.keys, answer.refs[0]), 1);
	assert_true(exists(&g.f, &answer.first));
	close_granting(&g);
}

static void ungrant__refuses(void **state)
{
	struct fixture without = fixture_open(POOL_BYTES, NULL, NULL);
	struct told told = {0};
	struct maas_lend_allocation a;
	struct granting g;

	(void)state;
	open_granting(&g);
	a = allocate_plain(&g.f);
	assert_int_equal(maas_lend_ungrant(g.f.lend, a.id, g.session.id, tell, &told), -ENOENT);
	assert_int_equal(maas_lend_ungrant(g.f.lend, a.id, "?", tell, &told), -ESRCH);
	assert_int_equal(maas_lend_ungrant(g.f.lend, "?", g.session.id, tell, &told), -ENOENT);
	assert_int_equal(maas_lend_ungrant(without.lend, a.id, g.session.id, tell, &told),
			 -EOPNOTSUPP);
	assert_int_equal(told.calls, 0);
	fixture_close(&without);
	close_granting(&g);
}

static void free__kills_the_keys_of_all_sessions(void **state)
{
	struct maas_lend_session_info other;
	struct answer answer;
	struct maas_lend_key key;
	struct told told = {0};
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 1, NULL, &answer), -EINPROGRESS);
	assert_int_equal(maas_lend_session_open(g.f.lend, "other", 60, false, NULL, &other), 0);
	assert_int_equal(maas_lend_grant(g.f.lend, answer.first.id, other.id, MAAS_LEND_ACCESS_READ,
					 &key, tell, &told),
			 -EINPROGRESS);
	g.keys.immediate = false;
	assert_int_equal(maas_lend_free(g.f.lend, answer.first.id, tell, &told), -EINPROGRESS);
	assert_true(fake_keys_finish(&g.keys, 0));
	assert_int_equal(told.calls, 2);
	expect_nothing(&g);
	close_granting(&g);
}

/* ---- probes, and what the keys say */

static void probe__of_a_session_whose_lease_is_late(void **state)
{
	struct maas_lend_session_ref number;
	struct maas_lend_session_info info;
	struct granting g;

	(void)state;
	open_granting(&g);
	assert_int_equal(maas_lend_ticket_redeem(g.f.lend, g.session.ticket, &number), 0);
	pass_ms(&g.f, 39000);
	assert_int_equal(g.keys.probes, 0);
	pass_ms(&g.f, 5000);
	assert_in_range(g.keys.probes, 3, 5);
	assert_memory_equal(&g.keys.probed, &number, sizeof(number));
	assert_int_equal(maas_lend_session_renew(g.f.lend, g.session.id, 0, &info), 0);
	g.keys.probes = 0;
	pass_ms(&g.f, 39000);
	assert_int_equal(g.keys.probes, 0);
	close_granting(&g);
}

static void stats__are_those_of_the_keys(void **state)
{
	struct fixture without = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_lend_key_address address;
	struct maas_lend_key_stats stats;
	struct answer answer;
	struct granting g;

	(void)state;
	open_granting(&g);
	g.keys.immediate = true;
	assert_int_equal(ask(&g, 2, NULL, &answer), -EINPROGRESS);
	assert_true(maas_lend_key_stats(g.f.lend, &stats));
	assert_int_equal(stats.grants, 2);
	assert_true(maas_lend_key_address(g.f.lend, NULL, &address));
	assert_string_equal(address.addr, "10.0.0.2");
	assert_int_equal(address.port, 4711);
	assert_false(maas_lend_key_stats(without.lend, &stats));
	assert_false(maas_lend_key_address(without.lend, NULL, &address));
	for (int i = 1; i < MAAS_LEND_KEY_BUCKETS; i++)
		assert_true(maas_lend_key_bounds_ns[i - 1] < maas_lend_key_bounds_ns[i]);
	fixture_close(&without);
	close_granting(&g);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocate_granted__gives_memory_and_keys),
		cmocka_unit_test(allocate_granted__done_may_come_before_the_call_returns),
		cmocka_unit_test(allocate_granted__refuses_before_it_allocates),
		cmocka_unit_test(allocate_granted__without_keys_leaves_nothing),
		cmocka_unit_test(allocate_granted__is_all_or_none),
		cmocka_unit_test(allocate_granted__whose_slab_is_freed_meanwhile),
		cmocka_unit_test(allocate_granted__whose_session_ends_meanwhile),
		cmocka_unit_test(allocate_granted__wants_its_memory_first),
		cmocka_unit_test(grant__to_an_allocation_of_another),
		cmocka_unit_test(grant__refuses),
		cmocka_unit_test(ungrant__ends_one_sessions_key),
		cmocka_unit_test(ungrant__refuses),
		cmocka_unit_test(free__kills_the_keys_of_all_sessions),
		cmocka_unit_test(probe__of_a_session_whose_lease_is_late),
		cmocka_unit_test(stats__are_those_of_the_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
