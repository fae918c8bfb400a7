/* SPDX-License-Identifier: Apache-2.0 */
/* The order of revocation where slabs have keys: revoking, keys, transfers, reuse, answer. */
#include "tests/unit/lend/lend_keys.h"

static struct maas_lend_allocation a; /* of the whole pool: reuse shows as success */

static void setup(void)
{
	keys_open(65536);
	session = open_session("s", true);
}

static void reopen(void)
{
	keys_teardown();
	setup();
}

static void lend_plain(enum maas_lend_lifetime lifetime)
{
	a = ALLOCATE(.size_bytes = 65536, .lifetime = lifetime,
		     .session = lifetime == MAAS_LEND_LIFETIME_SESSION ? session.id : NULL);
}

static void lend_keyed(enum maas_lend_lifetime lifetime)
{
	lend_plain(lifetime);
	fake_keys_grant(&keys, given.refs[0]);
}

static int try_again(void)
{
	return TRY_ALLOCATE(.size_bytes = 65536);
}

TEST(free__without_a_key_is_done_at_once)
{
	lend_plain(MAAS_LEND_LIFETIME_DELETE);
	assert_int_equal(try_free(&a), 0);
	assert_int_equal(end.calls, 0);
	assert_int_equal(keys.calls[FAKE_KEY_REVOKE], 1);
	assert_int_equal(try_again(), 0);
}

TEST(free__waits_for_the_key)
{
	lend_keyed(MAAS_LEND_LIFETIME_DELETE);
	start_free(&a);
	assert_false(exists(&a));
	assert_int_equal(try_again(), -ENOSPC);
	assert_int_equal(end.calls, 0);
	finish(0);
	expect_told(&end, 0);
	assert_int_equal(try_again(), 0);
}

TEST(free__done_may_come_before_the_call_returns)
{
	keys.mode = FAKE_KEYS_AT_ONCE;
	lend_keyed(MAAS_LEND_LIFETIME_DELETE);
	start_free(&a);
	expect_told(&end, 0);
}

/* Keys and transfers, whichever ends last. */
TEST(free__waits_for_both)
{
	for (int keys_first = 0; keys_first < 2; keys_first++) {
		reopen();
		lend_keyed(MAAS_LEND_LIFETIME_DELETE);
		start_transfer(0, &a);
		start_free(&a);
		if (keys_first)
			finish(0);
		else
			end_transfer(0);
		assert_int_equal(end.calls, 0);
		assert_int_equal(try_again(), -ENOSPC);
		if (keys_first)
			end_transfer(0);
		else
			finish(0);
		expect_told(&end, 0);
		assert_int_equal(try_again(), 0);
	}
}

TEST(free__without_a_key_waits_for_transfers)
{
	lend_plain(MAAS_LEND_LIFETIME_DELETE);
	start_transfer(0, &a);
	start_free(&a);
	assert_int_equal(end.calls, 0);
	end_transfer(0);
	expect_told(&end, 0);
}

TEST(quarantine__when_a_key_is_not_confirmed)
{
	static const int start_errors[] = {0, -EIO};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(start_errors); i++) {
		reopen();
		keys.start_error = start_errors[i];
		lend_keyed(MAAS_LEND_LIFETIME_DELETE);
		start_free(&a);
		if (!start_errors[i])
			finish(-ETIMEDOUT);
		expect_told(&end, -ETIMEDOUT);
		assert_int_equal(quarantined_bytes(), 65536);
		assert_int_equal(try_again(), -ENOSPC);
		assert_false(exists(&a));
		/* Asked again: still not; then the queue pair is gone, and its keys with it. */
		keys.start_error = -EIO;
		pass_ms(1000);
		assert_int_equal(quarantined_bytes(), 65536);
		keys.num_keys = 0;
		pass_ms(1000);
		assert_int_equal(quarantined_bytes(), 0);
		assert_int_equal(try_again(), 0);
		assert_int_equal(end.calls, 1);
	}
}

TEST(quarantine__retry_may_take_its_time)
{
	lend_keyed(MAAS_LEND_LIFETIME_DELETE);
	start_free(&a);
	finish(-ETIMEDOUT);
	pass_ms(1000);
	assert_int_equal(keys.num_ops, 1);
	pass_ms(5000);
	assert_int_equal(keys.num_ops, 1);
	finish(-ETIMEDOUT);
	assert_int_equal(quarantined_bytes(), 65536);
	pass_ms(1000);
	finish(0);
	assert_int_equal(quarantined_bytes(), 0);
}

TEST(session__ends_its_connection_first)
{
	struct maas_lend_session_ref number = {99, 99};

	assert_int_equal(maas_lend_ticket_redeem(f.lend, session.ticket, &number), 0);
	lend_keyed(MAAS_LEND_LIFETIME_SESSION);
	start_end(&session);
	assert_int_equal(keys.calls[FAKE_KEY_END_SESSION], 1);
	assert_int_equal(keys.calls[FAKE_KEY_REVOKE], 0);
	assert_memory_equal(&STAILQ_FIRST(&keys.ops)->session, &number, sizeof(number));
	assert_int_equal(open_by(NULL, "s"), -EEXIST);
	finish(0);
	expect_told(&end, 0);
	assert_false(exists(&a));
	assert_int_equal(try_again(), 0);
	open_session("s", false);
}

/* The connection does not die in time: the slab is kept back, the caller is told. */
TEST(session__whose_connection_cannot_be_ended)
{
	lend_keyed(MAAS_LEND_LIFETIME_SESSION);
	start_end(&session);
	finish(-ETIMEDOUT);
	assert_int_equal(end.calls, 0);
	finish(-ETIMEDOUT);
	expect_told(&end, -ETIMEDOUT);
	assert_int_equal(quarantined_bytes(), 65536);
	/* Both are asked for again: the connection still cannot be ended, then it can. */
	pass_ms(1000);
	assert_int_equal(keys.num_ops, 2);
	finish(-ETIMEDOUT);
	assert_int_equal(open_by(NULL, "s"), -EEXIST);
	finish(0);
	assert_int_equal(quarantined_bytes(), 0);
	pass_ms(100);
	finish(0);
	open_session("s", true);
	assert_int_equal(end.calls, 1);
}

TEST(session__without_slabs_tells_that_its_connection_lives)
{
	start_end(&session);
	finish(-ETIMEDOUT);
	expect_told(&end, -ETIMEDOUT);
}

/* The connection has ended well, but another session's key to the slab lives on. */
TEST(session__tells_that_a_slab_was_kept_back)
{
	lend_keyed(MAAS_LEND_LIFETIME_SESSION);
	keys.unconnected = true;
	keys.start_error = -EIO;
	start_end(&session);
	expect_told(&end, -ETIMEDOUT);
	assert_int_equal(quarantined_bytes(), 65536);
}

TEST(session__waits_for_a_free_that_is_under_way)
{
	struct told freed = {0};

	lend_keyed(MAAS_LEND_LIFETIME_SESSION);
	assert_int_equal(maas_lend_free(f.lend, NULL, a.id, tell, &freed), -EINPROGRESS);
	keys.start_error = -EALREADY;
	start_end(&session);
	assert_int_equal(end.calls, 0);
	finish(0);
	expect_told(&freed, 0);
	expect_told(&end, 0);
}

TEST(session__without_a_connection_ends_at_once)
{
	keys.start_error = -EALREADY;
	lend_plain(MAAS_LEND_LIFETIME_SESSION);
	start_end(&session);
	expect_told(&end, 0);
	assert_int_equal(try_again(), 0);
}

TEST(session__lapses_in_the_same_order)
{
	assert_int_equal(maas_lend_session_renew(f.lend, NULL, session.id, 2, &session), 0);
	lend_keyed(MAAS_LEND_LIFETIME_SESSION);
	pass_ms(2000);
	assert_int_equal(keys.calls[FAKE_KEY_END_SESSION], 1);
	pass_ms(3000);
	assert_int_equal(keys.calls[FAKE_KEY_END_SESSION], 1);
	assert_int_equal(try_again(), -ENOSPC);
	finish(0);
	assert_int_equal(try_again(), 0);
	assert_int_equal(lend_stats().lapsed_sessions, 1);
}

/* The session's connection could not even be told to end: its keys live, and so does its name. */
TEST(session__is_ended_again_until_its_keys_are_dead)
{
	enum { BY_CALL, BY_LAPSE, KINDS };

	for (int kind = 0; kind < KINDS; kind++) {
		struct maas_lend_session_info next;

		reopen();
		lend_keyed(MAAS_LEND_LIFETIME_DELETE);
		keys.start_error = -ENOMEM;
		if (kind == BY_CALL)
			start_end(&session);
		pass_ms(11000);
		assert_true(keys.calls[FAKE_KEY_END_SESSION] > 1);
		assert_int_equal(fake_keys_live(&keys, NULL), 1);
		assert_int_equal(end.calls, 0);
		assert_int_equal(maas_lend_session_open(f.lend, NULL, "s", 10, true, NULL, &next),
				 -EEXIST);
		keys.start_error = 0;
		pass_ms(100);
		assert_int_equal(keys.num_ops, 1);
		finish(0);
		assert_int_equal(fake_keys_live(&keys, NULL), 0);
		assert_int_equal(end.calls, kind == BY_CALL);
		assert_int_equal(end.status, 0);
		assert_int_equal(maas_lend_session_open(f.lend, NULL, "s", 10, true, NULL, &next),
				 0);
		assert_true(exists(&a));
	}
}

TEST_MAIN(setup, keys_teardown)
