/* SPDX-License-Identifier: Apache-2.0 */
/* Lifetimes: what ends when, on whose clock, and how a lease is renewed. */
#include "lend/internal.h"
#include "tests/unit/lend/lend_fixture.h"

TEST(allocate__describes)
{
	struct maas_lend_allocation a =
		ALLOCATE(.owner = "tsdb", .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 60);

	expect_described(&a, "100 of 1024 bytes of tsdb, 0 s old, ttl 60 of 60 s");
	pass_ms(2500);
	expect_found(&a, "100 of 1024 bytes of tsdb, 2 s old, ttl 58 of 60 s");
}

TEST(allocate__every_class_is_named_as_the_slab_has_it)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 1023, 1024, 1025, 65535, 65536};
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		struct maas_lend_allocation a = ALLOCATE(.size_bytes = sizes[i]);
		struct maas_lend_allocation found = look_up(&a);

		assert_int_equal(found.size_bytes, sizes[i]);
		assert_int_equal(found.actual_size_bytes, a.actual_size_bytes);
	}
}

TEST(allocate__refuses)
{
	char long_name[MAAS_NAME_BYTES + 1] = {0}, long_id[MAAS_LEND_REQUEST_ID + 1] = {0};
	const struct maas_lend_alloc_request nothing[] = {{.count = 1}, {.size_bytes = 1}};
	const struct maas_lend_alloc_request bad[] = {
		{.count = MAAS_SLAB_MAX_BATCH + 1},
		{.ttl_s = 1},
		{.lifetime = MAAS_LEND_LIFETIME_TTL},
		{.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = MAAS_LEND_MAX_TTL_S + 1},
		{.lifetime = MAAS_LEND_LIFETIME_SESSION},
		{.lifetime = (enum maas_lend_lifetime)9},
		{.owner = ""},
		{.owner = "a b"},
		{.owner = long_name},
		{.request_id = ""},
		{.request_id = long_id},
	};

	memset(long_name, 'n', MAAS_NAME_BYTES);
	memset(long_id, 'r', MAAS_LEND_REQUEST_ID);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(try_as(bad[i]), -EINVAL);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(nothing); i++)
		assert_int_equal(maas_lend_allocate(f.lend, &nothing[i], given.refs, &given.first),
				 -EINVAL);
	assert_int_equal(TRY_ALLOCATE(.size_bytes = 65537), -EFBIG);
	expect_state("");
}

/* `given` is what it is then. */
static int renew(const struct maas_lend_allocation *a, uint32_t ttl_s)
{
	return maas_lend_renew(f.lend, NULL, a->id, ttl_s, &given.first);
}

TEST(free__once)
{
	struct maas_lend_allocation a = allocate_plain();

	assert_int_equal(free_now(&a), 0);
	assert_int_equal(free_now(&a), -ENOENT);
	assert_false(exists(&a));
	assert_int_equal(renew(&a, 5), -ENOENT);
	assert_int_equal(maas_lend_free(f.lend, NULL, "no id", NULL, NULL), -ENOENT);
}

TEST(lease__lapses_at_its_end_and_not_before)
{
	struct maas_lend_allocation plain = allocate_plain(), a = allocate_ttl(10), b;

	pass_ms(500);
	b = allocate_ttl(10);
	expect_lapse(&a, 9500);
	pass_ms(400);
	assert_true(exists(&b));
	pass_ms(1000);
	assert_true(exists(&plain));
	expect_state("slabs 1, lapsed 2");
}

/* Whoever looks for what ends soon does not meet what ends in a later round. */
TEST(lease__waits_for_its_round_apart_from_what_ends_soon)
{
	struct maas_lend_allocation late = allocate_ttl(MAAS_LEND_MAX_TTL_S);
	struct maas_lend_allocation soon = allocate_ttl(8191), next = allocate_ttl(8192);
	struct maas_slab_ref ref;
	uint32_t deadline_s;

	for (uint32_t i = 0; i < MAAS_LEND_LEASE_WHEEL; i++) {
		bool is_there = maas_lend_lease_first(&f.lend->leases, MAAS_LEND_LEASE_HEADS + i,
						      &ref, &deadline_s);

		assert_int_equal(is_there, i == 8191);
	}
	assert_int_equal(f.lend->leases.timed, 3);
	pass_ms(8190900);
	assert_true(exists(&soon));
	assert_int_equal(renew(&soon, 3 * 4096), 0);
	expect_lapse(&next, 1100);
	assert_true(exists(&late));
	pass_ms(3 * 4096 * 1000 - 1200);
	assert_true(exists(&soon));
	pass_ms(200);
	assert_false(exists(&soon));
	assert_int_equal(look_up(&late).lease_s, MAAS_LEND_MAX_TTL_S - 5 * 4096 + 1);
	assert_int_equal(f.lend->leases.timed, 1);
}

/* At the start of a round there may be more of the next one than a tick puts back: what has lapsed
 * is looked at first. */
TEST(lease__that_has_lapsed_is_first)
{
	struct maas_lend_leases *leases = &f.lend->leases;
	struct maas_lend_allocation soon = allocate_ttl(4097), late = allocate_ttl(8200);
	struct maas_lend_allocation later = allocate_ttl(8201);
	const struct maas_lend_allocation *order[] = {&soon, &late, &later};
	struct maas_slab_ref ref = {0};
	uint32_t deadline_s;
	char id[MAAS_SLAB_ID_TEXT];

	maas_lend_lease_turn(leases, 4096);
	maas_lend_lease_turn(leases, 4097);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(order); i++) {
		assert_true(
			i ? maas_lend_lease_next(leases, MAAS_LEND_LEASE_DUE, &ref, &deadline_s)
			  : maas_lend_lease_first(leases, MAAS_LEND_LEASE_DUE, &ref, &deadline_s));
		maas_lend_id(f.lend, ref, id);
		assert_string_equal(id, order[i]->id);
	}
	assert_false(maas_lend_lease_next(leases, MAAS_LEND_LEASE_DUE, &ref, &deadline_s));
}

/* The process slept for a minute: nobody could renew a lease, so nobody may lose one. */
TEST(lease__is_extended_by_what_housekeeping_missed)
{
	struct maas_lend_session_info s = open_session("s", false);
	struct maas_lend_allocation a = allocate_ttl(10);

	pass_ms(5000);
	atomic_fetch_add(&fixture_now_ms, 60000);
	maas_lend_tick(f.lend);
	assert_int_equal(f.lend->lease_ms, 5100);
	expect_found(&a, "100 of 1024 bytes of (nobody), 65 s old, ttl 5 of 10 s");
	assert_int_equal(maas_lend_session_get(f.lend, NULL, s.id, &s), 0);
	expect_lapse(&a, 4900);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, s.id, &s), -ENOENT);
}

TEST(renew__starts_anew)
{
	struct maas_lend_allocation plain = allocate_plain();
	struct maas_lend_allocation a = allocate_ttl(10);

	pass_ms(9000);
	assert_int_equal(renew(&a, 0), 0);
	expect_described(&given.first, "100 of 1024 bytes of (nobody), 9 s old, ttl 10 of 10 s");
	pass_ms(9000);
	assert_int_equal(renew(&a, 20), 0);
	expect_described(&given.first, "100 of 1024 bytes of (nobody), 18 s old, ttl 20 of 20 s");
	pass_ms(19900);
	expect_found(&a, "100 of 1024 bytes of (nobody), 37 s old, ttl 1 of 20 s");
	assert_int_equal(renew(&a, 1), 0);
	pass_ms(2000);
	assert_false(exists(&a));
	assert_int_equal(renew(&a, 0), -ENOENT);
	assert_int_equal(renew(&plain, 5), -EMEDIUMTYPE);
	assert_int_equal(renew(&plain, MAAS_LEND_MAX_TTL_S + 1), -EINVAL);
}

/* ---- a renewal between two holds of the lock of an allocation of many */

#define LATE_TTL_S 3600u
static bool is_renewal_due;

/* What a list may show that the allocation has not given a lease yet: the last of the batch. */
static void renew_last(void)
{
	struct maas_lend_allocation last;

	is_renewal_due = false;
	maas_lend_id(f.lend, given.refs[MAAS_LEND_STEP], last.id);
	assert_int_equal(maas_lend_renew(f.lend, NULL, last.id, LATE_TTL_S, &last), 0);
	assert_int_equal(last.lease_s, LATE_TTL_S);
}

/* The linker's names of --wrap. NOLINTBEGIN */
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	int error = __real_pthread_mutex_unlock(lock);

	if (is_renewal_due && live_slabs())
		renew_last();
	return error;
}
/* NOLINTEND */

TEST(renew__outlasts_the_allocation_still_under_way)
{
	struct maas_lend_allocation last;

	is_renewal_due = true;
	ALLOCATE(.count = MAAS_LEND_STEP + 1, .size_bytes = 64, .lifetime = MAAS_LEND_LIFETIME_TTL,
		 .ttl_s = 5);
	assert_false(is_renewal_due);
	maas_lend_id(f.lend, given.refs[MAAS_LEND_STEP], last.id);
	expect_found(&last, "64 of 64 bytes of (nobody), 0 s old, ttl 3600 of 3600 s");
	pass_ms(7000);
	assert_int_equal(live_slabs(), 1);
	expect_lapse(&last, (LATE_TTL_S - UINT64_C(7)) * 1000);
}

/* A slot's next life must not inherit the lease of the last one. */
TEST(lease__ends_with_its_allocation)
{
	fixture_reopen(65536);
	struct maas_lend_allocation a =
		ALLOCATE(.size_bytes = 65536, .ttl_s = 5, .lifetime = MAAS_LEND_LIFETIME_TTL);
	struct maas_lend_allocation b;

	assert_int_equal(free_now(&a), 0);
	b = ALLOCATE(.size_bytes = 65536);
	pass_ms(10000);
	assert_true(exists(&b));
	expect_state("slabs 1");
}

TEST(batch__lapses_as_a_whole)
{
	ALLOCATE(.count = 1000, .size_bytes = 64, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 3);
	assert_int_equal(live_slabs(), 1000);
	pass_ms(2900);
	assert_int_equal(live_slabs(), 1000);
	pass_ms(100);
	assert_int_equal(live_slabs(), 0);
}

TEST(open__refuses)
{
	struct maas_lend_options options = {.max_sessions = 1};
	struct maas_lend *lend = NULL;

	assert_int_equal(maas_lend_open(&options, &lend), -EINVAL);
	assert_null(lend);
	maas_lend_close(NULL);
}

TEST_MAIN(fixture_setup, fixture_teardown)
