/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: with an allocation, all or none of both, or to one that is there; and their end. */
#include "tests/fake/fail_nth.h"
#include "tests/unit/lend/lend_keys.h"

/* ---- with an allocation */

TEST(allocate_granted__gives_memory_and_keys)
{
	struct maas_slab_info info;

	start(3, NULL, &answer);
	assert_int_equal(answer.told.calls, 0);
	finish(0);
	expect_told(&answer.told, 0);
	expect_state("slabs 3, sessions 1");
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
	obtain(2, "r", &answer);
	assert_int_equal(keys.num_keys, 2);
}

TEST(allocate_granted__refuses_before_it_allocates)
{
	struct maas_lend_alloc_request request = {.size_bytes = 100, .count = 1};

	assert_int_equal(ask_as(request, MAAS_LEND_ACCESS_WRITE, &answer), -EINVAL);
	request.session = "00000000-0000-8000-8000-000000000000";
	assert_int_equal(ask_as(request, MAAS_LEND_ACCESS_WRITE, &answer), -ESRCH);
	request.session = session.id;
	assert_int_equal(ask_as(request, MAAS_LEND_ACCESS_NONE, &answer), -EINVAL);
	keys.unconnected = true;
	assert_int_equal(ask(1, NULL, &answer), -ENOTCONN);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, session.id, NULL, NULL), 0);
	assert_int_equal(ask(1, NULL, &answer), -ESRCH);
	assert_int_equal(answer.told.calls, 0);
	assert_int_equal(keys.calls[FAKE_KEY_GRANT], 0);
	expect_nothing();
}

/* However the keys fail, at once or later: no memory, and the id is as new. */
TEST(allocate_granted__without_keys_leaves_nothing)
{
	static const int errors[] = {-EMLINK, -EDQUOT, -ENOTCONN};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(errors); i++) {
		struct answer failed, again;

		granting_reopen();
		keys.start_error = i ? 0 : errors[i];
		start(3, "r", &failed);
		if (i)
			finish(errors[i]);
		expect_told(&failed.told, errors[i]);
		expect_nothing();
		keys.start_error = 0;
		obtain(3, "r", &again);
		assert_string_not_equal(again.first.id, failed.first.id);
		assert_int_equal(live_slabs(), 3);
	}
}

/* One key too many: the others die as well, and their slabs are revoked before they are reused. */
TEST(allocate_granted__is_all_or_none)
{
	keys.mode = FAKE_KEYS_AT_ONCE;
	keys.max_keys = 2;
	start(3, NULL, &answer);
	expect_told(&answer.told, -EDQUOT);
	expect_nothing();
	obtain(2, NULL, &answer);
}

/* A list shows the allocation before its keys are there, and somebody frees it. */
TEST(allocate_granted__whose_slab_is_freed_meanwhile)
{
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
		const struct maas_lend_alloc_request request = {
			.count = 2, .lifetime = lifetimes[i], .session = session.id};

		granting_reopen();
		assert_int_equal(ask_as(request, MAAS_LEND_ACCESS_WRITE, &answer), -EINPROGRESS);
		start_end(&session);
		finish(-ENOTCONN);
		expect_told(&answer.told, -ENOTCONN);
		finish(0);
		expect_told(&end, 0);
		expect_nothing();
	}
}

TEST(allocate_granted__wants_its_memory_first)
{
	bool fired = true;
	long nth;

	for (nth = 1; fired; nth++) {
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

static struct maas_lend_key key;

static int grant_to(const char *id, const char *to, enum maas_lend_access access)
{
	return maas_lend_grant(f.lend, NULL, id, to, access, &key, tell, &end);
}

static int grant(const struct maas_lend_allocation *a, enum maas_lend_access access)
{
	return grant_to(a->id, session.id, access);
}

static int ungrant(const char *id, const char *from)
{
	return maas_lend_ungrant(f.lend, NULL, id, from, tell, &end);
}

TEST(grant__to_an_allocation_of_another)
{
	struct maas_lend_allocation a = allocate_plain();
	uint32_t rkey;

	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	finish(0);
	expect_told(&end, 0);
	assert_int_equal(key.len_bytes, 100);
	rkey = key.rkey;
	key.rkey = 0;
	keys.mode = FAKE_KEYS_AT_ONCE;
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	expect_state("slabs 1, sessions 1, told 2");
	assert_int_equal(key.rkey, rkey);
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_WRITE), -EINPROGRESS);
	assert_int_equal(end.status, -EEXIST);
}

TEST(grant__refuses)
{
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_NONE), -EINVAL);
	assert_int_equal(grant_to(a.id, "?", MAAS_LEND_ACCESS_READ), -ESRCH);
	assert_int_equal(grant_to("?", session.id, MAAS_LEND_ACCESS_READ), -ENOENT);
	keys.start_error = -ENOTCONN;
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ), -ENOTCONN);
	assert_int_equal(free_now(&a), 0);
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ), -ENOENT);
	assert_int_equal(end.calls, 0);
}

TEST(ungrant__ends_one_sessions_key)
{
	struct maas_lend_session_info other = open_session("other", false);

	obtain(1, NULL, &answer);
	assert_int_equal(ungrant(answer.first.id, other.id), -EINPROGRESS);
	assert_int_equal(end.status, -ENOENT);
	assert_int_equal(grant_to(answer.first.id, other.id, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	assert_int_equal(fake_keys_live(&keys, &answer.refs[0]), 2);
	assert_int_equal(ungrant(answer.first.id, session.id), -EINPROGRESS);
	assert_int_equal(end.status, 0);
	assert_int_equal(fake_keys_live(&keys, &answer.refs[0]), 1);
	assert_true(exists(&answer.first));
}

TEST(ungrant__refuses)
{
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(ungrant(a.id, session.id), -ENOENT);
	assert_int_equal(ungrant(a.id, "?"), -ESRCH);
	assert_int_equal(ungrant("?", session.id), -ENOENT);
	assert_int_equal(end.calls, 0);
}

TEST(free__kills_the_keys_of_all_sessions)
{
	struct maas_lend_session_info other = open_session("other", false);

	obtain(1, NULL, &answer);
	assert_int_equal(grant_to(answer.first.id, other.id, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	keys.mode = FAKE_KEYS_HOLD;
	start_free(&answer.first);
	finish(0);
	assert_int_equal(end.calls, 2);
	expect_nothing();
}

/* ---- probes, and what the keys say */

TEST(probe__of_a_session_whose_lease_is_late)
{
	struct maas_lend_session_ref number;

	assert_int_equal(maas_lend_ticket_redeem(f.lend, session.ticket, &number), 0);
	pass_ms(39000);
	assert_int_equal(keys.probes, 0);
	pass_ms(5000);
	assert_in_range(keys.probes, 3, 5);
	assert_memory_equal(&keys.probed, &number, sizeof(number));
	assert_int_equal(maas_lend_session_renew(f.lend, NULL, session.id, 0, &session), 0);
	keys.probes = 0;
	pass_ms(39000);
	assert_int_equal(keys.probes, 0);
}

TEST(stats__are_those_of_the_keys)
{
	struct maas_lend_key_address address;
	struct maas_lend_key_stats stats;

	obtain(2, NULL, &answer);
	assert_true(maas_lend_key_stats(f.lend, &stats));
	assert_int_equal(stats.grants, 2);
	assert_true(maas_lend_key_address(f.lend, NULL, &address));
	assert_string_equal(address.addr, "192.0.2.1");
	assert_int_equal(address.port, FAKE_KEYS_PORT);
	for (int i = 1; i < MAAS_LEND_KEY_BUCKETS; i++)
		assert_true(maas_lend_key_bounds_ns[i - 1] < maas_lend_key_bounds_ns[i]);
}

TEST(lend__without_rdma_has_no_keys)
{
	struct maas_lend_key_address address;
	struct maas_lend_key_stats stats;
	struct maas_lend_allocation a;

	fixture_reopen(1u << 20);
	assert_int_equal(open_by(NULL, "s"), 0);
	a = allocate_plain();
	assert_int_equal(ask(1, NULL, &answer), -EOPNOTSUPP);
	assert_int_equal(grant(&a, MAAS_LEND_ACCESS_READ), -EOPNOTSUPP);
	assert_int_equal(ungrant(a.id, session.id), -EOPNOTSUPP);
	assert_false(maas_lend_key_stats(f.lend, &stats));
	assert_false(maas_lend_key_address(f.lend, NULL, &address));
	expect_state("slabs 1, sessions 1");
}

TEST_MAIN(granting_setup, keys_teardown)
