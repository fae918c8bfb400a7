/* SPDX-License-Identifier: Apache-2.0 */
/* A survey finds what is largest and what ends first, and of that what the caller may see; how long
 * it takes does not depend on how much is lent. */
#include "lend/internal.h"
#include "lend/survey.h"
#include "tests/unit/lend/lend_auth.h"

static struct maas_lend_survey survey;

/* Returns how often it took the lock. */
static unsigned int look(const struct maas_lend_caller *as)
{
	unsigned int steps = 1;

	maas_lend_survey_start(&survey, as);
	while (maas_lend_survey_next(f.lend, &survey))
		steps++;
	return steps;
}

static void tear_down(void)
{
	fixture_teardown();
	table_end();
}

TEST(survey__of_nothing)
{
	look(NULL);
	assert_int_equal(survey.owners_total + survey.sessions_total + survey.leases_total, 0);
	assert_int_equal(survey.num_owners + survey.num_sessions + survey.num_leases, 0);
	assert_true(survey.whole);
}

/* 30 owners, of 1 to 30 allocations, in an order that is neither up nor down. */
TEST(owners__the_largest_first)
{
	for (uint32_t i = 0; i < 30; i++)
		for (uint32_t n = 0; n <= i * 7 % 30; n++)
			allocate_for(numbered("o", i * 7 % 30 + 1));
	ALLOCATE(.size_bytes = 1024, .owner = "one");
	look(NULL);
	assert_int_equal(survey.owners_total, 31);
	assert_int_equal(survey.num_owners, MAAS_LEND_SURVEY_TOP);
	for (unsigned int i = 0; i < MAAS_LEND_SURVEY_TOP; i++) {
		/* It has as much as o16, and came later. */
		assert_string_equal(survey.owners[i].name, i == 15 ? "one" : numbered("o", 30 - i));
		assert_int_equal(survey.owners[i].bytes, i < 15 ? (30 - i) * 64 : 1024);
	}
	assert_int_equal(survey.owners[0].allocations, 30);
}

TEST(owners__go_with_their_last_allocation)
{
	struct maas_lend_allocation a = ALLOCATE(.owner = "a");

	allocate_for("b");
	assert_int_equal(free_now(&a), 0);
	look(NULL);
	assert_int_equal(survey.owners_total, 1);
	assert_string_equal(survey.owners[0].name, "b");
}

TEST(leases__those_that_end_first)
{
	for (uint32_t i = 0; i < 20; i++)
		allocate_ttl(100 + i * 7 % 20);
	allocate_ttl(5000);
	allocate_ttl(MAAS_LEND_MAX_TTL_S);
	allocate_plain();
	pass_ms(50000);
	look(NULL);
	assert_int_equal(survey.leases_total, 22);
	assert_int_equal(survey.num_leases, MAAS_LEND_SURVEY_TOP);
	for (uint32_t i = 0; i < MAAS_LEND_SURVEY_TOP; i++) {
		assert_int_equal(survey.leases[i].lease_s, 50 + i);
		assert_int_equal(survey.leases[i].ttl_s, 100 + i);
	}
	assert_true(survey.whole);
	pass_ms(69000);
	look(NULL);
	/* Of those that end later only the number is told. */
	assert_int_equal(survey.leases_total, 2);
	assert_int_equal(survey.num_leases, 0);
	pass_ms(1000000);
	look(NULL);
	assert_int_equal(survey.num_leases, 1);
	assert_int_equal(survey.leases[0].lease_s, 5000 - 1119);
}

TEST(sessions__those_that_end_first_without_their_ids)
{
	static const uint32_t ttls[] = {300, 100, 200};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(ttls); i++)
		assert_int_equal(
			maas_lend_session_open(f.lend, NULL, "s", ttls[i], false, "here", &session),
			0);
	assert_int_equal(open_by(NULL, "t"), 0);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, session.id, NULL, NULL), 0);
	look(NULL);
	assert_int_equal(survey.sessions_total, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(survey.sessions[i].info.ttl_s, 100 * (i + 1));
		assert_string_equal(survey.sessions[i].info.id, "");
		assert_string_equal(survey.sessions[i].info.from, "here");
		assert_false(survey.sessions[i].connected);
	}
}

static void expect_seen(const char *name, unsigned int owners, unsigned int sessions,
			unsigned int leases)
{
	look(BY(name));
	assert_int_equal(survey.owners_total, owners);
	assert_int_equal(survey.sessions_total, sessions);
	assert_int_equal(survey.num_leases, leases);
}

TEST(survey__shows_what_the_caller_may_see)
{
	static const char *const names[] = {"a", "b"};

	use("a uid=1 owner=a,a/*\nb uid=2 owner=b read=a\nc uid=3 owner=c\nm uid=4 metrics\n"
	    "ops uid=5 admin\n");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(names); i++) {
		const struct maas_lend_caller *as = BY(names[i]);

		ALLOCATE(.caller = as);
		ALLOCATE(.caller = as, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 60);
		assert_int_equal(open_by(as, names[i]), 0);
		assert_int_equal(open_by(as, ""), 0);
	}
	ALLOCATE(.caller = BY("a"), .owner = "a/1");
	expect_seen("a", 2, 2, 1);
	/* The sessions of a name that it may read, but not those without a name. */
	expect_seen("b", 2, 3, 2);
	expect_seen("c", 0, 0, 0);
	expect_seen("m", 0, 0, 0);
	expect_seen("ops", 3, 4, 2);
	look(NULL);
	assert_int_equal(survey.owners_total + survey.sessions_total + survey.num_leases, 0);
}

/* However many allocations there are, and whosever: some thousand looks at most. */
TEST(survey__takes_as_long_whatever_is_lent)
{
	unsigned int steps = look(NULL);

	for (int i = 0; i < 8; i++) {
		ALLOCATE(.size_bytes = 64, .count = 10000, .lifetime = MAAS_LEND_LIFETIME_TTL,
			 .ttl_s = 90);
		pass_ms(1000);
	}
	assert_true(look(NULL) <= steps);
	assert_int_equal(survey.num_leases, MAAS_LEND_SURVEY_TOP);
	/* Whoever may see none of them is told that not all were looked at. */
	use("c uid=3 owner=c\n");
	assert_true(look(BY("c")) <= steps + 8);
	assert_int_equal(survey.num_leases, 0);
	assert_false(survey.whole);
}

TEST_MAIN(fixture_setup, tear_down)
