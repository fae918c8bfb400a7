/* SPDX-License-Identifier: Apache-2.0 */
/* The order of revocation where slabs have keys: revoking, keys, transfers, reuse, answer. */
#include "tests/fake/fake_keys.h"
#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES 65536 /* one slab of the largest class: reuse shows as success */

struct keyed {
	struct fixture f;
	struct fake_keys keys;
};

static void open_keyed(struct keyed *k)
{
	memset(k, 0, sizeof(*k));
	k->f = fixture_open(POOL_BYTES, &fake_key_ops, &k->keys);
	k->keys.slab = k->f.slab;
}

static void close_keyed(struct keyed *k)
{
	assert_false(k->keys.slab_was_live);
	assert_int_equal(k->keys.num_under_way, 0);
	fixture_close(&k->f);
}

static int try_whole(struct keyed *k, const struct maas_lend_session_info *session, bool granted,
		     struct maas_lend_allocation *ret)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 65536,
		.count = 1,
		.session = session ? session->id : NULL,
		.lifetime = session ? MAAS_LEND_LIFETIME_SESSION : MAAS_LEND_LIFETIME_DELETE,
	};
	struct maas_slab_ref ref;
	int r = maas_lend_allocate(k->f.lend, &request, &ref, ret);

	if (!r && granted)
		fake_keys_grant(&k->keys, ref);
	return r;
}

static int try_again(struct keyed *k)
{
	struct maas_lend_allocation a;

	return try_whole(k, NULL, false, &a);
}

static void free__without_a_key_is_done_at_once(void **state)
{
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(try_whole(&k, NULL, false, &a), 0);
	assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), 0);
	assert_int_equal(told.calls, 0);
	assert_int_equal(k.keys.revokes, 1);
	assert_int_equal(try_again(&k), 0);
	close_keyed(&k);
}

static void free__waits_for_the_key(void **state)
{
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(try_whole(&k, NULL, true, &a), 0);
	assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), -EINPROGRESS);
	assert_false(exists(&k.f, &a));
	assert_int_equal(try_again(&k), -ENOSPC);
	assert_int_equal(told.calls, 0);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(try_again(&k), 0);
	close_keyed(&k);
}

static void free__done_may_come_before_the_call_returns(void **state)
{
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	k.keys.immediate = true;
	assert_int_equal(try_whole(&k, NULL, true, &a), 0);
	assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), -EINPROGRESS);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	close_keyed(&k);
}

/* Keys and transfers, whichever ends last. */
static void free__waits_for_both(void **state)
{
	for (int keys_first = 0; keys_first < 2; keys_first++) {
		struct maas_lend_transfer transfer = {0};
		struct maas_lend_allocation a;
		struct told told = {0};
		struct keyed k;

		(void)state;
		open_keyed(&k);
		assert_int_equal(try_whole(&k, NULL, true, &a), 0);
		assert_int_equal(maas_lend_transfer_begin(k.f.lend, a.id, &transfer), 0);
		assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), -EINPROGRESS);
		if (keys_first)
			assert_true(fake_keys_finish(&k.keys, 0));
		else
			maas_lend_transfers_end(k.f.lend, &transfer, 1);
		assert_int_equal(told.calls, 0);
		assert_int_equal(try_again(&k), -ENOSPC);
		if (keys_first)
			maas_lend_transfers_end(k.f.lend, &transfer, 1);
		else
			assert_true(fake_keys_finish(&k.keys, 0));
		assert_int_equal(told.calls, 1);
		assert_int_equal(try_again(&k), 0);
		close_keyed(&k);
	}
}

static void free__without_a_key_waits_for_transfers(void **state)
{
	struct maas_lend_transfer transfer = {0};
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(try_whole(&k, NULL, false, &a), 0);
	assert_int_equal(maas_lend_transfer_begin(k.f.lend, a.id, &transfer), 0);
	assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), -EINPROGRESS);
	assert_int_equal(told.calls, 0);
	maas_lend_transfers_end(k.f.lend, &transfer, 1);
	assert_int_equal(told.calls, 1);
	close_keyed(&k);
}

static void quarantine__when_a_key_is_not_confirmed(void **state)
{
	static const int start_errors[] = {0, -EIO};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(start_errors); i++) {
		struct maas_lend_allocation a;
		struct told told = {0};
		struct keyed k;

		open_keyed(&k);
		k.keys.start_error = start_errors[i];
		assert_int_equal(try_whole(&k, NULL, true, &a), 0);
		assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &told), -EINPROGRESS);
		if (!start_errors[i])
			assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
		assert_int_equal(told.calls, 1);
		assert_int_equal(told.status, -ETIMEDOUT);
		assert_int_equal(quarantined_bytes(&k.f), 65536);
		assert_int_equal(try_again(&k), -ENOSPC);
		assert_false(exists(&k.f, &a));
		/* Asked again: still not; then the queue pair is gone, and its keys with it. */
		k.keys.start_error = -EIO;
		pass_ms(&k.f, 1000);
		assert_int_equal(quarantined_bytes(&k.f), 65536);
		k.keys.num_keyed = 0;
		pass_ms(&k.f, 1000);
		assert_int_equal(quarantined_bytes(&k.f), 0);
		assert_int_equal(try_again(&k), 0);
		assert_int_equal(told.calls, 1);
		close_keyed(&k);
	}
}

static void quarantine__retry_may_take_its_time(void **state)
{
	struct maas_lend_allocation a;
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(try_whole(&k, NULL, true, &a), 0);
	assert_int_equal(free_now(&k.f, &a), -EINPROGRESS);
	assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
	pass_ms(&k.f, 1000);
	assert_int_equal(k.keys.num_under_way, 1);
	pass_ms(&k.f, 5000);
	assert_int_equal(k.keys.num_under_way, 1);
	assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
	assert_int_equal(quarantined_bytes(&k.f), 65536);
	pass_ms(&k.f, 1000);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(quarantined_bytes(&k.f), 0);
	close_keyed(&k);
}

static void session__ends_its_connection_first(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct told told = {0};
	struct maas_lend_session_ref number = {99, 99};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, true, NULL, &s), 0);
	assert_int_equal(maas_lend_ticket_redeem(k.f.lend, s.ticket, &number), 0);
	assert_int_equal(try_whole(&k, &s, true, &a), 0);
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_int_equal(k.keys.session_ends, 1);
	assert_int_equal(k.keys.revokes, 0);
	assert_int_equal(k.keys.under_way[0].session.index, number.index);
	assert_int_equal(k.keys.under_way[0].session.generation, number.generation);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), -EEXIST);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_false(exists(&k.f, &a));
	assert_int_equal(try_again(&k), 0);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	close_keyed(&k);
}

/* The connection does not die in time: the slab is kept back, the caller is told. */
static void session__whose_connection_cannot_be_ended(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	assert_int_equal(try_whole(&k, &s, true, &a), 0);
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
	assert_int_equal(told.calls, 0);
	assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, -ETIMEDOUT);
	assert_int_equal(quarantined_bytes(&k.f), 65536);
	pass_ms(&k.f, 1000);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(quarantined_bytes(&k.f), 0);
	close_keyed(&k);
}

static void session__without_slabs_tells_that_its_connection_lives(void **state)
{
	struct maas_lend_session_info s;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_true(fake_keys_finish(&k.keys, -ETIMEDOUT));
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, -ETIMEDOUT);
	close_keyed(&k);
}

/* The connection has ended well, but another session's key to the slab lives on. */
static void session__tells_that_a_slab_was_kept_back(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	assert_int_equal(try_whole(&k, &s, true, &a), 0);
	k.keys.unconnected = true;
	k.keys.start_error = -EIO;
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, -ETIMEDOUT);
	assert_int_equal(quarantined_bytes(&k.f), 65536);
	close_keyed(&k);
}

static void session__waits_for_a_free_that_is_under_way(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct told freed = {0};
	struct told ended = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	assert_int_equal(try_whole(&k, &s, true, &a), 0);
	assert_int_equal(maas_lend_free(k.f.lend, a.id, tell, &freed), -EINPROGRESS);
	k.keys.start_error = -EALREADY;
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &ended), -EINPROGRESS);
	assert_int_equal(ended.calls, 0);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(freed.calls, 1);
	assert_int_equal(ended.calls, 1);
	assert_int_equal(lend_stats(&k.f).sessions, 0);
	close_keyed(&k);
}

static void session__without_a_connection_ends_at_once(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct told told = {0};
	struct keyed k;

	(void)state;
	open_keyed(&k);
	k.keys.start_error = -EALREADY;
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 10, false, NULL, &s), 0);
	assert_int_equal(try_whole(&k, &s, false, &a), 0);
	assert_int_equal(maas_lend_session_end(k.f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(try_again(&k), 0);
	close_keyed(&k);
}

static void session__lapses_in_the_same_order(void **state)
{
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct keyed k;

	(void)state;
	open_keyed(&k);
	assert_int_equal(maas_lend_session_open(k.f.lend, "s", 2, false, NULL, &s), 0);
	assert_int_equal(try_whole(&k, &s, true, &a), 0);
	pass_ms(&k.f, 2000);
	assert_int_equal(k.keys.session_ends, 1);
	pass_ms(&k.f, 3000);
	assert_int_equal(k.keys.session_ends, 1);
	assert_int_equal(try_again(&k), -ENOSPC);
	assert_true(fake_keys_finish(&k.keys, 0));
	assert_int_equal(try_again(&k), 0);
	assert_int_equal(lend_stats(&k.f).lapsed_sessions, 1);
	close_keyed(&k);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(free__without_a_key_is_done_at_once),
		cmocka_unit_test(free__waits_for_the_key),
		cmocka_unit_test(free__done_may_come_before_the_call_returns),
		cmocka_unit_test(free__waits_for_both),
		cmocka_unit_test(free__without_a_key_waits_for_transfers),
		cmocka_unit_test(quarantine__when_a_key_is_not_confirmed),
		cmocka_unit_test(quarantine__retry_may_take_its_time),
		cmocka_unit_test(session__ends_its_connection_first),
		cmocka_unit_test(session__whose_connection_cannot_be_ended),
		cmocka_unit_test(session__without_slabs_tells_that_its_connection_lives),
		cmocka_unit_test(session__tells_that_a_slab_was_kept_back),
		cmocka_unit_test(session__waits_for_a_free_that_is_under_way),
		cmocka_unit_test(session__without_a_connection_ends_at_once),
		cmocka_unit_test(session__lapses_in_the_same_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
