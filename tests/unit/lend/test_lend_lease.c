/* SPDX-License-Identifier: Apache-2.0 */
/* Lifetimes: what ends when, on whose clock, and how a lease is renewed. */
#include "lend/internal.h"
#include "tests/unit/lend/lend_fixture.h"

TEST(allocate__describes)
{
	struct maas_lend_allocation a, found;

	a = ALLOCATE(.size_bytes = 100, .owner = "tsdb", .lifetime = MAAS_LEND_LIFETIME_TTL,
		     .ttl_s = 60);
	assert_int_equal(a.size_bytes, 100);
	assert_int_equal(a.actual_size_bytes, 1024);
	assert_int_equal(a.age_s, 0);
	assert_int_equal(a.lease_s, 60);
	assert_string_equal(a.owner, "tsdb");
	pass_ms(2500);
	assert_int_equal(maas_lend_get(f.lend, NULL, a.id, &found), 0);
	assert_string_equal(found.id, a.id);
	assert_int_equal(found.actual_size_bytes, 1024);
	assert_int_equal(found.lifetime, MAAS_LEND_LIFETIME_TTL);
	assert_int_equal(found.age_s, 2);
	assert_int_equal(found.ttl_s, 60);
	assert_int_equal(found.lease_s, 58);
	assert_string_equal(found.owner, "tsdb");
}

TEST(allocate__every_class_is_named_as_the_slab_has_it)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 1023, 1024, 1025, 65535, 65536};
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		struct maas_lend_allocation a = ALLOCATE(.size_bytes = sizes[i]);
		struct maas_lend_allocation found;

		assert_int_equal(maas_lend_get(f.lend, NULL, a.id, &found), 0);
		assert_int_equal(found.size_bytes, sizes[i]);
		assert_int_equal(found.actual_size_bytes, a.actual_size_bytes);
	}
}

TEST(allocate__refuses)
{
	char long_name[MAAS_NAME_BYTES + 1], long_id[MAAS_LEND_REQUEST_ID + 1];
	const struct maas_lend_alloc_request bad[] = {
		{.size_bytes = 0, .count = 1},
		{.size_bytes = 1, .count = 0},
		{.size_bytes = 1, .count = MAAS_SLAB_MAX_BATCH + 1},
		{.size_bytes = 1, .count = 1, .ttl_s = 1},
		{.size_bytes = 1, .count = 1, .lifetime = MAAS_LEND_LIFETIME_TTL},
		{.size_bytes = 1,
		 .count = 1,
		 .lifetime = MAAS_LEND_LIFETIME_TTL,
		 .ttl_s = MAAS_LEND_MAX_TTL_S + 1},
		{.size_bytes = 1, .count = 1, .lifetime = MAAS_LEND_LIFETIME_SESSION},
		{.size_bytes = 1, .count = 1, .lifetime = (enum maas_lend_lifetime)9},
		{.size_bytes = 1, .count = 1, .owner = ""},
		{.size_bytes = 1, .count = 1, .owner = "a b"},
		{.size_bytes = 1, .count = 1, .owner = long_name},
		{.size_bytes = 1, .count = 1, .request_id = ""},
		{.size_bytes = 1, .count = 1, .request_id = long_id},
	};
	struct maas_lend_allocation a;
	struct maas_slab_ref ref;
	struct maas_lend_alloc_request request = {.size_bytes = 65537, .count = 1};

	memset(long_name, 'n', sizeof(long_name));
	long_name[MAAS_NAME_BYTES] = '\0';
	memset(long_id, 'r', sizeof(long_id));
	long_id[MAAS_LEND_REQUEST_ID] = '\0';
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(maas_lend_allocate(f.lend, &bad[i], &ref, &a), -EINVAL);
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &a), -EFBIG);
	assert_int_equal(live_slabs(), 0);
}

TEST(free__once)
{
	struct maas_lend_allocation a = allocate_plain();
	struct maas_lend_allocation found;

	assert_int_equal(free_now(&a), 0);
	assert_int_equal(free_now(&a), -ENOENT);
	assert_int_equal(maas_lend_get(f.lend, NULL, a.id, &found), -ENOENT);
	assert_int_equal(maas_lend_renew(f.lend, NULL, a.id, 5, &found), -ENOENT);
	assert_int_equal(maas_lend_free(f.lend, NULL, "no id", NULL, NULL), -ENOENT);
}

TEST(lease__lapses_at_its_end_and_not_before)
{
	struct maas_lend_allocation plain = allocate_plain(), a = allocate_ttl(10), b;

	pass_ms(500);
	b = allocate_ttl(10);
	pass_ms(9400);
	assert_true(exists(&a));
	pass_ms(100);
	assert_false(exists(&a));
	pass_ms(400);
	assert_true(exists(&b));
	pass_ms(1000);
	assert_false(exists(&b));
	assert_true(exists(&plain));
	assert_int_equal(lend_stats().lapsed_allocations, 2);
	assert_int_equal(live_slabs(), 1);
}

/* Whoever looks for what ends soon does not meet what ends in a later round. */
TEST(lease__waits_for_its_round_apart_from_what_ends_soon)
{
	struct maas_lend_allocation late = allocate_ttl(MAAS_LEND_MAX_TTL_S);
	struct maas_lend_allocation soon = allocate_ttl(8191), next = allocate_ttl(8192), found;
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
	assert_int_equal(maas_lend_renew(f.lend, NULL, soon.id, 3 * 4096, &found), 0);
	pass_ms(1000);
	assert_true(exists(&next));
	pass_ms(100);
	assert_false(exists(&next));
	assert_true(exists(&late));
	pass_ms(3 * 4096 * 1000 - 1200);
	assert_true(exists(&soon));
	pass_ms(200);
	assert_false(exists(&soon));
	assert_int_equal(maas_lend_get(f.lend, NULL, late.id, &found), 0);
	assert_int_equal(found.lease_s, MAAS_LEND_MAX_TTL_S - 5 * 4096 + 1);
	assert_int_equal(f.lend->leases.timed, 1);
}

/* The process slept for a minute: nobody could renew a lease, so nobody may lose one. */
TEST(lease__is_extended_by_what_housekeeping_missed)
{
	struct maas_lend_session_info session = open_session("s", false);
	struct maas_lend_allocation a = allocate_ttl(10), found;

	pass_ms(5000);
	atomic_fetch_add(&fixture_now_ms, 60000);
	maas_lend_tick(f.lend);
	assert_int_equal(f.lend->lease_ms, 5100);
	assert_int_equal(maas_lend_get(f.lend, NULL, a.id, &found), 0);
	assert_int_equal(found.lease_s, 5);
	assert_int_equal(found.age_s, 65);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, session.id, &session), 0);
	pass_ms(4800);
	assert_true(exists(&a));
	pass_ms(100);
	assert_false(exists(&a));
	assert_int_equal(maas_lend_session_get(f.lend, NULL, session.id, &session), -ENOENT);
}

TEST(renew__starts_anew)
{
	struct maas_lend_allocation plain = allocate_plain();
	struct maas_lend_allocation a = allocate_ttl(10);
	struct maas_lend_allocation found;

	pass_ms(9000);
	assert_int_equal(maas_lend_renew(f.lend, NULL, a.id, 0, &found), 0);
	assert_int_equal(found.ttl_s, 10);
	assert_int_equal(found.lease_s, 10);
	pass_ms(9000);
	assert_int_equal(maas_lend_renew(f.lend, NULL, a.id, 20, &found), 0);
	assert_int_equal(found.ttl_s, 20);
	assert_int_equal(found.age_s, 18);
	pass_ms(19900);
	assert_int_equal(maas_lend_get(f.lend, NULL, a.id, &found), 0);
	assert_int_equal(found.ttl_s, 20);
	assert_int_equal(found.lease_s, 1);
	assert_int_equal(maas_lend_renew(f.lend, NULL, a.id, 1, &found), 0);
	pass_ms(2000);
	assert_false(exists(&a));
	assert_int_equal(maas_lend_renew(f.lend, NULL, a.id, 0, &found), -ENOENT);
	assert_int_equal(maas_lend_renew(f.lend, NULL, plain.id, 5, &found), -EMEDIUMTYPE);
	assert_int_equal(maas_lend_renew(f.lend, NULL, plain.id, MAAS_LEND_MAX_TTL_S + 1, &found),
			 -EINVAL);
}

/* A slot's next life must not inherit the lease of the last one. */
TEST(lease__ends_with_its_allocation)
{
	fixture_reopen(65536);
	struct maas_lend_allocation a, b;

	a = ALLOCATE(.size_bytes = 65536, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 5);
	assert_int_equal(free_now(&a), 0);
	b = ALLOCATE(.size_bytes = 65536);
	pass_ms(10000);
	assert_true(exists(&b));
	assert_int_equal(lend_stats().lapsed_allocations, 0);
}

TEST(batch__lapses_as_a_whole)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 64,
		.count = 1000,
		.lifetime = MAAS_LEND_LIFETIME_TTL,
		.ttl_s = 3,
	};
	static struct maas_slab_ref refs[1000];
	struct maas_lend_allocation first;

	assert_int_equal(maas_lend_allocate(f.lend, &request, refs, &first), 0);
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
