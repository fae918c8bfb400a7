/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: names, leases, tickets, and what ends with them. */
#include "tests/unit/lend_fixture.h"

#define POOL_BYTES (1u << 20)

static struct maas_session_info open_session(struct fixture *f, const char *name, bool exclusive)
{
	struct maas_session_info info;

	assert_int_equal(maas_session_open(f->lend, name, 10, exclusive, &info), 0);
	return info;
}

static int try_open(struct fixture *f, const char *name, bool exclusive)
{
	struct maas_session_info info;

	return maas_session_open(f->lend, name, 10, exclusive, &info);
}

static void open__describes(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info info = open_session(&f, "prometheus/0", false);
	struct maas_session_info found;

	(void)state;
	assert_string_equal(info.name, "prometheus/0");
	assert_int_equal(strlen(info.ticket), MAAS_LEND_TICKET_TEXT - 1);
	assert_int_equal(info.ttl_s, 10);
	assert_int_equal(info.lease_s, 10);
	pass_ms(&f, 2500);
	ALLOCATE(&f, .session = info.id, .lifetime = MAAS_LIFETIME_SESSION);
	ALLOCATE(&f, .session = info.id);
	assert_int_equal(maas_session_get(f.lend, info.id, &found), 0);
	assert_string_equal(found.id, info.id);
	assert_string_equal(found.ticket, "");
	assert_int_equal(found.lease_s, 8);
	assert_int_equal(found.age_s, 2);
	assert_int_equal(found.allocations, 1);
	assert_int_equal(maas_session_get(f.lend, "nonsense", &found), -ENOENT);
	fixture_close(&f);
}

static void open__refuses(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info info;

	(void)state;
	assert_int_equal(maas_session_open(f.lend, "s", 0, false, &info), -EINVAL);
	assert_int_equal(maas_session_open(f.lend, "s", MAAS_LEND_MAX_TTL_S + 1, false, &info),
			 -EINVAL);
	assert_int_equal(try_open(&f, "white space", false), -EINVAL);
	assert_int_equal(try_open(&f, "", true), -EINVAL);
	assert_int_equal(lend_stats(&f).sessions, 0);
	fixture_close(&f);
}

static void exclusive__keeps_the_name(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info only = open_session(&f, "only", true);
	struct maas_session_info shared = open_session(&f, "shared", false);

	(void)state;
	assert_int_equal(try_open(&f, "only", false), -EEXIST);
	assert_int_equal(try_open(&f, "only", true), -EEXIST);
	assert_int_equal(try_open(&f, "shared", true), -EEXIST);
	assert_int_equal(try_open(&f, "shared", false), 0);
	assert_int_equal(maas_session_end(f.lend, only.id, NULL, NULL), 0);
	assert_int_equal(try_open(&f, "only", true), 0);
	assert_int_equal(maas_session_end(f.lend, shared.id, NULL, NULL), 0);
	assert_int_equal(try_open(&f, "shared", true), -EEXIST);
	fixture_close(&f);
}

static void anonymous__are_many(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);

	(void)state;
	for (int i = 0; i < MAX_SESSIONS; i++)
		assert_int_equal(try_open(&f, "", false), 0);
	assert_int_equal(lend_stats(&f).sessions, MAX_SESSIONS);
	fixture_close(&f);
}

static void open__at_most_max_sessions(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info last = {0};
	struct maas_session_info again;

	(void)state;
	for (int i = 0; i < MAX_SESSIONS; i++)
		last = open_session(&f, "s", false);
	assert_int_equal(try_open(&f, "s", false), -EUSERS);
	assert_int_equal(maas_session_end(f.lend, last.id, NULL, NULL), 0);
	again = open_session(&f, "s", false);
	/* The same record, but another session. */
	assert_string_not_equal(again.id, last.id);
	assert_int_equal(maas_session_get(f.lend, last.id, &last), -ENOENT);
	assert_int_equal(maas_session_end(f.lend, last.id, NULL, NULL), -ENOENT);
	fixture_close(&f);
}

static void renew__starts_anew(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info info = open_session(&f, "s", false);
	struct maas_session_info found;

	(void)state;
	pass_ms(&f, 9000);
	assert_int_equal(maas_session_renew(f.lend, info.id, 0, &found), 0);
	assert_int_equal(found.lease_s, 10);
	pass_ms(&f, 9000);
	assert_int_equal(maas_session_renew(f.lend, info.id, 3, &found), 0);
	assert_int_equal(found.ttl_s, 3);
	assert_int_equal(maas_session_renew(f.lend, info.id, MAAS_LEND_MAX_TTL_S + 1, &found),
			 -EINVAL);
	pass_ms(&f, 2900);
	assert_int_equal(maas_session_get(f.lend, info.id, &found), 0);
	pass_ms(&f, 1100);
	assert_int_equal(maas_session_get(f.lend, info.id, &found), -ENOENT);
	assert_int_equal(maas_session_renew(f.lend, info.id, 0, &found), -ENOENT);
	assert_int_equal(lend_stats(&f).lapsed_sessions, 1);
	assert_int_equal(lend_stats(&f).sessions, 0);
	fixture_close(&f);
}

static void end__frees_its_own_only(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info one = open_session(&f, "one", false);
	struct maas_session_info two = open_session(&f, "two", false);
	struct maas_allocation own[300];
	struct maas_allocation kept;
	struct maas_allocation other;
	struct maas_allocation leased;

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(own); i++)
		own[i] = ALLOCATE(&f, .session = one.id, .lifetime = MAAS_LIFETIME_SESSION);
	kept = ALLOCATE(&f, .session = one.id);
	leased = ALLOCATE(&f, .session = one.id, .lifetime = MAAS_LIFETIME_TTL, .ttl_s = 60);
	other = ALLOCATE(&f, .session = two.id, .lifetime = MAAS_LIFETIME_SESSION);
	assert_int_equal(free_now(&f, &own[7]), 0);
	assert_int_equal(maas_session_get(f.lend, one.id, &one), 0);
	assert_int_equal(one.allocations, MAAS_ARRAY_SIZE(own) - 1);
	assert_int_equal(maas_session_end(f.lend, one.id, NULL, NULL), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(own); i++)
		assert_false(exists(&f, &own[i]));
	assert_true(exists(&f, &kept));
	assert_true(exists(&f, &leased));
	assert_true(exists(&f, &other));
	assert_int_equal(live_slabs(&f), 3);
	fixture_close(&f);
}

static void end__waits_for_transfers(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info s = open_session(&f, "s", true);
	struct maas_allocation a = ALLOCATE(&f, .session = s.id, .lifetime = MAAS_LIFETIME_SESSION);
	struct maas_allocation b = ALLOCATE(&f, .session = s.id, .lifetime = MAAS_LIFETIME_SESSION);
	struct maas_transfer one = {0};
	struct maas_transfer two = {0};
	struct told told = {0};

	(void)state;
	assert_int_equal(maas_transfer_begin(f.lend, a.id, &one), 0);
	assert_int_equal(maas_transfer_begin(f.lend, b.id, &two), 0);
	assert_int_equal(maas_session_end(f.lend, s.id, tell, &told), -EINPROGRESS);
	assert_int_equal(maas_session_end(f.lend, s.id, tell, &told), -ENOENT);
	assert_false(maas_transfer_alive(f.lend, &one));
	assert_int_equal(try_open(&f, "s", false), -EEXIST);
	maas_transfer_end(f.lend, &one);
	assert_int_equal(told.calls, 0);
	maas_transfer_end(f.lend, &two);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, 0);
	assert_int_equal(live_slabs(&f), 0);
	assert_int_equal(try_open(&f, "s", false), 0);
	fixture_close(&f);
}

static void allocate__needs_a_live_session(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info s = open_session(&f, "s", false);
	struct maas_alloc_request request = {
		.size_bytes = 1,
		.count = 1,
		.session = s.id,
		.owner = "o",
	};
	struct maas_allocation a;
	struct maas_slab_ref ref;

	(void)state;
	assert_int_equal(maas_session_end(f.lend, s.id, NULL, NULL), 0);
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &a), -ESRCH);
	request.lifetime = MAAS_LIFETIME_SESSION;
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &a), -ESRCH);
	request.session = "nonsense";
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &a), -ESRCH);
	assert_int_equal(live_slabs(&f), 0);
	assert_int_equal(lend_stats(&f).owners, 0);
	fixture_close(&f);
}

static void ticket__works_once(void **state)
{
	struct fixture f = fixture_open(POOL_BYTES, NULL, NULL);
	struct maas_session_info one = open_session(&f, "one", false);
	struct maas_session_info two = open_session(&f, "two", false);
	struct maas_session_info fresh;
	struct maas_session_ref first = {99, 99};
	struct maas_session_ref second = {99, 99};

	(void)state;
	assert_int_equal(maas_ticket_redeem(f.lend, one.ticket, &first), 0);
	assert_int_equal(maas_ticket_redeem(f.lend, two.ticket, &second), 0);
	assert_int_not_equal(first.index, second.index);
	assert_int_equal(maas_ticket_redeem(f.lend, one.ticket, &second), -ENOENT);
	assert_int_equal(maas_session_ticket(f.lend, one.id, &fresh), 0);
	assert_string_not_equal(fresh.ticket, one.ticket);
	assert_int_equal(maas_session_ticket(f.lend, one.id, &one), 0);
	assert_int_equal(maas_ticket_redeem(f.lend, fresh.ticket, &second), -ENOENT);
	assert_int_equal(maas_ticket_redeem(f.lend, one.ticket, &second), 0);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_int_equal(maas_session_ticket(f.lend, one.id, &one), 0);
	assert_int_equal(maas_session_end(f.lend, one.id, NULL, NULL), 0);
	assert_int_equal(maas_ticket_redeem(f.lend, one.ticket, &second), -ENOENT);
	assert_int_equal(maas_ticket_redeem(f.lend, "", &second), -ENOENT);
	assert_int_equal(maas_ticket_redeem(f.lend, "00112233", &second), -ENOENT);
	assert_int_equal(maas_session_ticket(f.lend, one.id, &one), -ENOENT);
	fixture_close(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(open__describes),
		cmocka_unit_test(open__refuses),
		cmocka_unit_test(exclusive__keeps_the_name),
		cmocka_unit_test(anonymous__are_many),
		cmocka_unit_test(open__at_most_max_sessions),
		cmocka_unit_test(renew__starts_anew),
		cmocka_unit_test(end__frees_its_own_only),
		cmocka_unit_test(end__waits_for_transfers),
		cmocka_unit_test(allocate__needs_a_live_session),
		cmocka_unit_test(ticket__works_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
