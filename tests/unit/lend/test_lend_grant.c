/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: with an allocation, all or none of both, or to one that is there; and their end. */
#include "tests/fake/fail_nth.h"
#include "tests/unit/lend/lend_keys.h"

static struct fixture without; /* keys */

static void setup(void)
{
	granting_setup();
	without = fixture_open(1u << 20, NULL, NULL);
}

static void teardown(void)
{
	fixture_close(&without);
	keys_teardown();
}

/* ---- with an allocation */

TEST(allocate_granted__gives_memory_and_keys)
{
	struct maas_slab_info info;
	struct answer answer;

	start(3, NULL, &answer);
	assert_int_equal(answer.told.calls, 0);
	finish(0);
	expect_told(&answer.told, 0);
	assert_int_equal(live_slabs(), 3);
	assert_int_equal(answer.first.size_bytes, 100);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(maas_slab_get(f.slab, answer.refs[i], &info), 0);
		assert_int_equal(answer.grants[i].addr, info.offset);
		assert_int_equal(answer.grants[i].len_bytes, 100);
		assert_int_equal(fake_keys_live(&keys, &answer.refs[i]), 1);
	}
}

TEST(allocate_granted__done_may_come_before_the_call_returns)
{
	struct answer answer;

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(2, "r", &answer);
	expect_told(&answer.told, 0);
	assert_int_equal(keys.num_keys, 2);
}

TEST(allocate_granted__refuses_before_it_allocates)
{
	struct maas_lend_alloc_request request = {.size_bytes = 100, .count = 1};
	struct answer answer;

	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -EINVAL);
	request.session = "00000000-0000-8000-8000-000000000000";
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -ESRCH);
	request.session = session.id;
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_NONE, &answer), -EINVAL);
	assert_int_equal(maas_lend_allocate_granted(without.lend, &request, MAAS_LEND_ACCESS_WRITE,
						    answer.refs, &answer.first, answer.grants, tell,
						    &answer.told),
			 -EOPNOTSUPP);
	keys.unconnected = true;
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -ENOTCONN);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, session.id, NULL, NULL), 0);
	assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -ESRCH);
	assert_int_equal(answer.told.calls, 0);
	assert_int_equal(keys.calls[FAKE_KEY_GRANT], 0);
	expect_nothing();
}

/* However the keys fail, at once or later: no memory, and the id is as new. */
TEST(allocate_granted__without_keys_leaves_nothing)
{
	static const struct {
		int start_error, status;
	} cases[] = {{-EMLINK, 0}, {0, -EDQUOT}, {0, -ENOTCONN}};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct answer failed, again;

		granting_reopen();
		keys.start_error = cases[i].start_error;
		start(3, "r", &failed);
		if (!cases[i].start_error)
			finish(cases[i].status);
		expect_told(&failed.told,
			    cases[i].start_error ? cases[i].start_error : cases[i].status);
		expect_nothing();
		keys.start_error = 0;
		keys.mode = FAKE_KEYS_AT_ONCE;
		start(3, "r", &again);
		expect_told(&again.told, 0);
		assert_string_not_equal(again.first.id, failed.first.id);
		assert_int_equal(live_slabs(), 3);
	}
}

/* One key too many: the others die as well, and their slabs are revoked before they are reused. */
TEST(allocate_granted__is_all_or_none)
{
	struct answer answer;

	keys.mode = FAKE_KEYS_AT_ONCE;
	keys.max_keys = 2;
	start(3, NULL, &answer);
	expect_told(&answer.told, -EDQUOT);
	expect_nothing();
	start(2, NULL, &answer);
	expect_told(&answer.told, 0);
}

/* A list shows the allocation before its keys are there, and somebody frees it. */
TEST(allocate_granted__whose_slab_is_freed_meanwhile)
{
	struct answer answer;

	start(1, "r", &answer);
	assert_int_equal(free_now(&answer.first), 0);
	finish(0);
	expect_told(&answer.told, -ENOENT);
	expect_nothing();
}

TEST(allocate_granted__whose_session_ends_meanwhile)
{
	const enum maas_lend_lifetime lifetimes[] = {MAAS_LEND_LIFETIME_DELETE,
						     MAAS_LEND_LIFETIME_SESSION};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lifetimes); i++) {
		struct told ended = {0};
		struct answer answer;
		struct maas_lend_alloc_request request = {
			.size_bytes = 100, .count = 2, .lifetime = lifetimes[i]};

		granting_reopen();
		request.session = session.id;
		assert_int_equal(ask_as(&request, MAAS_LEND_ACCESS_WRITE, &answer), -EINPROGRESS);
		assert_int_equal(maas_lend_session_end(f.lend, NULL, session.id, tell, &ended),
				 -EINPROGRESS);
		finish(-ENOTCONN);
		expect_told(&answer.told, -ENOTCONN);
		finish(0);
		expect_told(&ended, 0);
		expect_nothing();
	}
}

TEST(allocate_granted__wants_its_memory_first)
{
	bool fired = true;
	long nth;

	for (nth = 1; fired; nth++) {
		struct answer answer;
		int r;

		granting_reopen();
		keys.mode = FAKE_KEYS_AT_ONCE;
		fail_nth_arm(nth);
		r = ask(2, "r", &answer);
		fired = fail_nth_disarm();
		assert_int_equal(r, fired ? -ENOMEM : -EINPROGRESS);
		if (fired) {
			assert_int_equal(answer.told.calls, 0);
			expect_nothing();
		}
	}
	assert_true(nth > 3);
}

/* ---- to what is there */

static int grant_to(const char *id, const char *to, enum maas_lend_access access,
		    struct maas_lend_key *ret_grant, struct told *told)
{
	return maas_lend_grant(f.lend, NULL, id, to, access, ret_grant, tell, told);
}

static int grant(const struct maas_lend_allocation *a, enum maas_lend_access access,
		 struct maas_lend_key *ret_grant, struct told *told)
{
	return grant_to(a->id, session.id, access, ret_grant, told);
}

static int ungrant(const char *id, const char *from, struct told *told)
{
	return maas_lend_ungrant(f.lend, NULL, id, from, tell, told);
}

TEST(grant__to_an_allocation_of_another)
{
	struct maas_lend_key got[2] = {0};
	struct told told = {0};
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ, &got[0], &told), -EINPROGRESS);
	finish(0);
	assert_int_equal(told.status, 0);
	assert_int_equal(got[0].len_bytes, 100);
	keys.mode = FAKE_KEYS_AT_ONCE;
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ, &got[1], &told), -EINPROGRESS);
	assert_int_equal(told.calls, 2);
	assert_int_equal(told.status, 0);
	assert_int_equal(got[0].rkey, got[1].rkey);
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_WRITE, &got[1], &told), -EINPROGRESS);
	assert_int_equal(told.status, -EEXIST);
}

TEST(grant__refuses)
{
	struct maas_lend_key key;
	struct told told = {0};
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_NONE, &key, &told), -EINVAL);
	assert_int_equal(grant_to(a.id, "?", MAAS_LEND_ACCESS_READ, &key, &told), -ESRCH);
	assert_int_equal(grant_to("?", session.id, MAAS_LEND_ACCESS_READ, &key, &told), -ENOENT);
	assert_int_equal(maas_lend_grant(without.lend, NULL, a.id, session.id,
					 MAAS_LEND_ACCESS_READ, &key, tell, &told),
			 -EOPNOTSUPP);
	keys.start_error = -ENOTCONN;
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ, &key, &told), -ENOTCONN);
	assert_int_equal(free_now(&a), 0);
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ, &key, &told), -ENOENT);
	assert_int_equal(told.calls, 0);
}

TEST(ungrant__ends_one_sessions_key)
{
	struct maas_lend_session_info other = open_session("other", false);
	struct answer answer;
	struct told told = {0};
	struct maas_lend_key key;

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(1, NULL, &answer);
	assert_int_equal(ungrant(answer.first.id, other.id, &told), -EINPROGRESS);
	assert_int_equal(told.status, -ENOENT);
	assert_int_equal(grant_to(answer.first.id, other.id, MAAS_LEND_ACCESS_READ, &key, &told),
			 -EINPROGRESS);
	assert_int_equal(fake_keys_live(&keys, &answer.refs[0]), 2);
	assert_int_equal(ungrant(answer.first.id, session.id, &told), -EINPROGRESS);
	assert_int_equal(told.status, 0);
	assert_int_equal(fake_keys_live(&keys, &answer.refs[0]), 1);
	assert_true(exists(&answer.first));
}

TEST(ungrant__refuses)
{
	struct told told = {0};
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(ungrant(a.id, session.id, &told), -ENOENT);
	assert_int_equal(ungrant(a.id, "?", &told), -ESRCH);
	assert_int_equal(ungrant("?", session.id, &told), -ENOENT);
	assert_int_equal(maas_lend_ungrant(without.lend, NULL, a.id, session.id, tell, &told),
			 -EOPNOTSUPP);
	assert_int_equal(told.calls, 0);
}

TEST(free__kills_the_keys_of_all_sessions)
{
	struct maas_lend_session_info other = open_session("other", false);
	struct answer answer;
	struct maas_lend_key key;
	struct told told = {0};

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(1, NULL, &answer);
	assert_int_equal(grant_to(answer.first.id, other.id, MAAS_LEND_ACCESS_READ, &key, &told),
			 -EINPROGRESS);
	keys.mode = FAKE_KEYS_HOLD;
	assert_int_equal(free_told(&answer.first, &told), -EINPROGRESS);
	finish(0);
	assert_int_equal(told.calls, 2);
	expect_nothing();
}

/* ---- probes, and what the keys say */

TEST(probe__of_a_session_whose_lease_is_late)
{
	struct maas_lend_session_ref number;
	struct maas_lend_session_info info;

	assert_int_equal(maas_lend_ticket_redeem(f.lend, session.ticket, &number), 0);
	pass_ms(39000);
	assert_int_equal(keys.probes, 0);
	pass_ms(5000);
	assert_in_range(keys.probes, 3, 5);
	assert_memory_equal(&keys.probed, &number, sizeof(number));
	assert_int_equal(maas_lend_session_renew(f.lend, NULL, session.id, 0, &info), 0);
	keys.probes = 0;
	pass_ms(39000);
	assert_int_equal(keys.probes, 0);
}

TEST(stats__are_those_of_the_keys)
{
	struct maas_lend_key_address address;
	struct maas_lend_key_stats stats;
	struct answer answer;

	keys.mode = FAKE_KEYS_AT_ONCE;
	start(2, NULL, &answer);
	assert_true(maas_lend_key_stats(f.lend, &stats));
	assert_int_equal(stats.grants, 2);
	assert_true(maas_lend_key_address(f.lend, NULL, &address));
	assert_string_equal(address.addr, "192.0.2.1");
	assert_int_equal(address.port, FAKE_KEYS_PORT);
	assert_false(maas_lend_key_stats(without.lend, &stats));
	assert_false(maas_lend_key_address(without.lend, NULL, &address));
	for (int i = 1; i < MAAS_LEND_KEY_BUCKETS; i++)
		assert_true(maas_lend_key_bounds_ns[i - 1] < maas_lend_key_bounds_ns[i]);
}

TEST_MAIN(setup, teardown)
