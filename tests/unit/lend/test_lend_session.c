/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: names, leases, tickets, and what ends with them. */
#include "tests/counts.h"
#include "tests/random.h"
#include "tests/unit/lend/lend_fixture.h"

static int try_open(const char *name, bool exclusive)
{
	struct maas_lend_session_info info;

	return maas_lend_session_open(f.lend, NULL, name, 10, exclusive, NULL, &info);
}

static void expect_session(const struct maas_lend_session_info *s, const char *wanted)
{
	char text[300];

	snprintf(text, sizeof(text), "%s%s from '%s', %llu s old, %u of %u s, %llu allocations",
		 s->name, s->exclusive ? " alone" : "", s->from, (unsigned long long)s->age_s,
		 s->lease_s, s->ttl_s, (unsigned long long)s->allocations);
	assert_string_equal(text, wanted);
}

TEST(open__describes)
{
	struct maas_lend_session_info info = open_session("prometheus/0", false);
	struct maas_lend_session_info found;

	expect_session(&info, "prometheus/0 from '', 0 s old, 10 of 10 s, 0 allocations");
	assert_int_equal(strlen(info.ticket), MAAS_LEND_TICKET_TEXT - 1);
	pass_ms(2500);
	allocate_of(&info);
	ALLOCATE(.session = info.id);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, info.id, &found), 0);
	expect_session(&found, "prometheus/0 from '', 2 s old, 8 of 10 s, 1 allocations");
	assert_string_equal(found.id, info.id);
	assert_string_equal(found.ticket, "");
	assert_int_equal(maas_lend_session_get(f.lend, NULL, "nonsense", &found), -ENOENT);
}

TEST(open__refuses)
{
	assert_int_equal(try_open("white space", false), -EINVAL);
	assert_int_equal(try_open("", true), -EINVAL);
	expect_state("");
}

static int reopen_lend(uint32_t max_sessions, uint32_t max_session_ttl_s)
{
	struct maas_lend_options options = fixture_options();

	options.max_sessions = max_sessions;
	options.max_session_ttl_s = max_session_ttl_s;
	maas_lend_close(f.lend);
	f.lend = NULL;
	return maas_lend_open(&options, &f.lend);
}

/* These work on `session`, of which the answer has to say the lease. */
static int try_ttl(uint32_t ttl_s)
{
	return maas_lend_session_open(f.lend, NULL, "", ttl_s, false, NULL, &session);
}

static int renew(uint32_t ttl_s)
{
	session.lease_s = session.ttl_s = 0;
	return maas_lend_session_renew(f.lend, NULL, session.id, ttl_s, &session);
}

static int get(void)
{
	session.lease_s = session.ttl_s = 0;
	return maas_lend_session_get(f.lend, NULL, session.id, &session);
}

TEST(open__lease_has_a_maximum)
{
	assert_int_equal(maas_lend_session_max_ttl_s(f.lend), MAAS_LEND_SESSION_MAX_S);
	assert_int_equal(try_ttl(0), 0);
	assert_int_equal(session.ttl_s, MAAS_LEND_SESSION_S);
	assert_int_equal(try_ttl(MAAS_LEND_SESSION_MAX_S), 0);
	assert_int_equal(try_ttl(MAAS_LEND_SESSION_MAX_S + 1), -ERANGE);

	assert_int_equal(reopen_lend(MAX_SESSIONS, 30), 0);
	assert_int_equal(try_ttl(31), -ERANGE);
	assert_int_equal(try_ttl(UINT32_MAX), -ERANGE);
	assert_int_equal(lend_stats().sessions, 0);
	assert_int_equal(try_ttl(0), 0);
	assert_int_equal(session.ttl_s, 30);
	assert_int_equal(renew(20), 0);
	assert_int_equal(renew(31), -ERANGE);
	assert_int_equal(get(), 0);
	assert_int_equal(session.ttl_s, 20);
	/* The lease of an allocation is another matter. */
	allocate_ttl(MAAS_LEND_MAX_TTL_S);

	fixture_reopen(1u << 20);
	assert_int_equal(reopen_lend(MAX_SESSIONS, MAAS_LEND_MAX_TTL_S + 1), -EINVAL);
	assert_int_equal(reopen_lend(MAX_SESSIONS, MAAS_LEND_MAX_TTL_S), 0);
	assert_int_equal(try_ttl(MAAS_LEND_MAX_TTL_S), 0);
}

static struct maas_lend_session_info all[64];

/* How many of the sessions of a name there are in `all`, which has room for `max`. */
static uint32_t named(const char *name, uint32_t max)
{
	return maas_lend_session_named(f.lend, NULL, name, all, max, &more);
}

TEST(named__are_all_that_live)
{
	struct maas_lend_session_info s, far;
	char from[200] = {0};

	memset(from, 'x', sizeof(from) - 1);
	assert_int_equal(maas_lend_session_open(f.lend, NULL, "me", 10, true, "192.0.2.1:99", &s),
			 0);
	assert_int_equal(maas_lend_session_open(f.lend, NULL, "you", 10, false, from, &far), 0);
	open_session("", false);
	pass_ms(2500);
	assert_int_equal(named("me", MAX_SESSIONS), 1);
	assert_false(more);
	expect_session(&all[0], "me alone from '192.0.2.1:99', 2 s old, 8 of 10 s, 0 allocations");
	assert_string_equal(all[0].id, "");
	assert_string_equal(all[0].ticket, "");
	assert_int_equal(named("", MAX_SESSIONS), 0);
	assert_int_equal(named("nobody", MAX_SESSIONS), 0);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, NULL, NULL), 0);
	assert_int_equal(named("me", MAX_SESSIONS), 0);
	assert_int_equal(named("you", MAX_SESSIONS), 1);
	assert_int_equal(strlen(all[0].from), MAAS_LEND_FROM_BYTES - 1);
	assert_false(all[0].exclusive);
}

TEST(open__at_most_max_sessions)
{
	struct maas_lend_session_info last = {0};

	for (int i = 0; i < MAX_SESSIONS; i++)
		last = open_session("s", false);
	assert_int_equal(named("s", MAX_SESSIONS - 1), MAX_SESSIONS - 1);
	assert_true(more);
	assert_int_equal(named("s", MAX_SESSIONS), MAX_SESSIONS);
	assert_false(more);
	assert_int_equal(try_open("s", false), -EUSERS);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, last.id, NULL, NULL), 0);
	/* The same record, but another session. */
	assert_string_not_equal(open_session("s", false).id, last.id);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, last.id, &last), -ENOENT);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, last.id, NULL, NULL), -ENOENT);
}

TEST(renew__starts_anew)
{
	session = open_session("s", false);
	pass_ms(9000);
	assert_int_equal(renew(0), 0);
	assert_int_equal(session.lease_s, 10);
	pass_ms(9000);
	assert_int_equal(renew(3), 0);
	assert_int_equal(session.ttl_s, 3);
	assert_int_equal(renew(MAAS_LEND_MAX_TTL_S + 1), -ERANGE);
	pass_ms(2900);
	assert_int_equal(get(), 0);
	pass_ms(1100);
	assert_int_equal(get(), -ENOENT);
	assert_int_equal(renew(0), -ENOENT);
	expect_state("lapsed sessions 1");
}

TEST(end__frees_its_own_only)
{
	struct maas_lend_session_info one = open_session("one", false);
	struct maas_lend_session_info two = open_session("two", false);
	struct maas_lend_allocation own[300], kept, other, leased;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(own); i++)
		own[i] = allocate_of(&one);
	kept = ALLOCATE(.session = one.id);
	leased = ALLOCATE(.session = one.id, .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 60);
	other = allocate_of(&two);
	assert_int_equal(free_now(&own[7]), 0);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, one.id, &one), 0);
	assert_int_equal(one.allocations, MAAS_ARRAY_SIZE(own) - 1);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, one.id, NULL, NULL), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(own); i++)
		assert_false(exists(&own[i]));
	assert_true(exists(&kept) && exists(&leased) && exists(&other));
	expect_state("slabs 3, sessions 1");
}

TEST(end__waits_for_transfers)
{
	struct maas_lend_session_info s = open_session("s", true);
	struct maas_lend_allocation a = allocate_of(&s), b = allocate_of(&s);

	start_transfer(0, &a);
	start_transfer(1, &b);
	start_end(&s);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, tell, &end), -ENOENT);
	assert_false(maas_lend_transfer_alive(f.lend, &transfers[0]));
	assert_int_equal(try_open("s", false), -EEXIST);
	end_transfer(0);
	assert_int_equal(end.calls, 0);
	end_transfer(1);
	expect_state("told 1");
	assert_int_equal(try_open("s", false), 0);
}

TEST(allocate__needs_a_live_session)
{
	struct maas_lend_session_info s = open_session("s", false);

	assert_int_equal(maas_lend_session_end(f.lend, NULL, s.id, NULL, NULL), 0);
	assert_int_equal(TRY_ALLOCATE(.session = s.id, .owner = "o"), -ESRCH);
	assert_int_equal(
		TRY_ALLOCATE(.session = s.id, .owner = "o", .lifetime = MAAS_LEND_LIFETIME_SESSION),
		-ESRCH);
	assert_int_equal(TRY_ALLOCATE(.session = "nonsense", .owner = "o",
				      .lifetime = MAAS_LEND_LIFETIME_SESSION),
			 -ESRCH);
	expect_state("");
}

TEST(ticket__works_once)
{
	struct maas_lend_session_info one = open_session("one", false), fresh = one;
	struct maas_lend_session_info two = open_session("two", false);
	struct maas_lend_session_ref first = {99, 99}, second = {99, 99};

	assert_int_equal(maas_lend_ticket_redeem(f.lend, one.ticket, &first), 0);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, two.ticket, &second), 0);
	assert_int_not_equal(first.index, second.index);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, one.ticket, &second), -ENOENT);
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, fresh.id, &fresh), 0);
	assert_string_not_equal(fresh.ticket, one.ticket);
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, one.id, &one), 0);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, fresh.ticket, &second), -ENOENT);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, one.ticket, &second), 0);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, one.id, &one), 0);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, one.id, NULL, NULL), 0);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, one.ticket, &second), -ENOENT);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, "", &second), -ENOENT);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, "00112233", &second), -ENOENT);
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, one.id, &one), -ENOENT);
}

TEST(ticket__lives_for_thirty_seconds)
{
	struct maas_lend_session_info one = open_session("one", false);
	struct maas_lend_session_info two = open_session("two", false);
	struct maas_lend_session_ref ref;

	fixture_now_ms += 29999;
	assert_int_equal(maas_lend_ticket_redeem(f.lend, one.ticket, &ref), 0);
	fixture_now_ms += 1;
	assert_int_equal(maas_lend_ticket_redeem(f.lend, two.ticket, &ref), -ENOENT);
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, two.id, &two), 0);
	assert_int_equal(maas_lend_ticket_redeem(f.lend, two.ticket, &ref), 0);
}

#define MANY 20000

/* However many sessions there are, of whatever names. */
TEST(steps__the_same_among_many)
{
	static struct maas_lend_session_info many[MANY - 2];
	struct maas_lend_session_ref ref;
	uint64_t steps;
	char name[32];

	assert_int_equal(reopen_lend(MANY, 0), 0);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(many); i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		many[i] = open_session(i % 3 ? (i % 3 == 1 ? "same" : "") : name, false);
	}
	/* The keyed hash may put a few names into one bucket, not all. */
	steps = maas_lend_steps(f.lend);
	assert_int_equal(try_open("same", true), -EEXIST);
	assert_int_equal(try_open("same", false), 0);
	assert_int_equal(try_open("another", true), 0);
	assert_true(maas_lend_steps(f.lend) - steps < 30);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(many); i += 97) {
		steps = maas_lend_steps(f.lend);
		assert_int_equal(maas_lend_ticket_redeem(f.lend, many[i].ticket, &ref), 0);
		assert_int_equal(ref.index, i);
		assert_int_equal(maas_lend_ticket_redeem(f.lend, many[i].ticket, &ref), -ENOENT);
		assert_int_equal(maas_lend_steps(f.lend) - steps, 2);
	}
}

/* One bit wrong anywhere, and a ticket is nobody's. */
TEST(ticket__is_whole)
{
	struct maas_lend_session_info s[MAX_SESSIONS];
	struct maas_lend_session_ref ref;

	for (int i = 0; i < MAX_SESSIONS; i++)
		s[i] = open_session("", false);
	for (size_t i = 0; i < strlen(s[0].ticket); i++) {
		struct maas_lend_session_info bad = s[0];

		bad.ticket[i] = bad.ticket[i] == '0' ? '1' : '0';
		assert_int_equal(maas_lend_ticket_redeem(f.lend, bad.ticket, &ref), -ENOENT);
	}
	/* The bits of one with the place of another. */
	for (int i = 1; i < MAX_SESSIONS; i++) {
		struct maas_lend_session_info mixed = s[0];

		memcpy(mixed.ticket, s[i].ticket, 8);
		assert_int_equal(maas_lend_ticket_redeem(f.lend, mixed.ticket, &ref), -ENOENT);
	}
	assert_int_equal(maas_lend_ticket_redeem(f.lend, s[0].ticket, &ref), 0);
}

#define NAMES 5
#define OPEN  MAAS_ARRAY_SIZE(all)

/* Sessions of a few names come and go at random: who may open one follows from who is there. */
TEST(names__random)
{
	uint64_t seed = maas_test_seed_told();
	struct maas_lend_session_info opened[OPEN] = {0};
	unsigned int names[OPEN];
	unsigned int live[NAMES + 1] = {0};
	bool exclusive[NAMES + 1] = {false};

	assert_int_equal(reopen_lend(MANY, 0), 0);
	for (int i = 0; i < 200000; i++) {
		uint64_t roll = test_random(&seed);
		unsigned int at = (unsigned int)(roll % OPEN);
		unsigned int name = (unsigned int)(roll >> 8) % (NAMES + 1);
		char text[] = {(char)('a' + name), '\0'};
		bool alone = name < NAMES && roll >> 40 & 1;
		bool taken = exclusive[name] || (alone && live[name]);

		if (*opened[at].id) {
			assert_int_equal(
				maas_lend_session_end(f.lend, NULL, opened[at].id, NULL, NULL), 0);
			*opened[at].id = '\0';
			live[names[at]]--;
			exclusive[names[at]] = false;
			continue;
		}
		/* The last has no name. */
		assert_int_equal(maas_lend_session_open(f.lend, NULL, name < NAMES ? text : "", 10,
							alone, NULL, &opened[at]),
				 taken ? -EEXIST : 0);
		if (taken)
			continue;
		names[at] = name;
		live[name]++;
		exclusive[name] = alone;
		if (name < NAMES && i % 16 == 0)
			assert_int_equal(named(text, OPEN), live[name]);
	}
}

TEST_MAIN(fixture_setup, fixture_teardown)
