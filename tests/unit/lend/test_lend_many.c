/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of very many allocations at once: no thread but housekeeping does more than a few of them in
 * one go, housekeeping no more than a tick has room for, and others get the lock in between.
 */
#include "lend/internal.h"
#include "tests/unit/lend/lend_keys.h"

#define MANY	140000
#define BATCH	MAAS_SLAB_MAX_BATCH
#define POOL	(16u << 20)
#define IN_TICK (UINT64_C(1) * MAAS_LEND_TICK_STEPS * MAAS_LEND_STEP) /* and less than all */
#define IN_CALL (UINT64_C(4) * MAAS_LEND_STEP)

static uint64_t last_steps;    /* at the last pause */
static uint64_t longest_steps; /* between two of them */

static void note_steps(void)
{
	uint64_t steps = maas_lend_steps(f.lend);

	if (steps - last_steps > longest_steps)
		longest_steps = steps - last_steps;
	last_steps = steps;
}

/* The linker's names of --wrap. NOLINTBEGIN */
int __real_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);

int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
	note_steps();
	return __real_nanosleep(wanted, left);
}
/* NOLINTEND */

static void setup(void)
{
	keys_open(POOL);
	session = open_session("s", true);
}

/* One without RDMA. */
static void reopen_plain(void)
{
	fixture_reopen(POOL);
	session = open_session("s", true);
}

static void allocate_many(enum maas_lend_lifetime lifetime, uint32_t ttl_s)
{
	for (uint32_t i = 0; i < MANY; i += BATCH)
		ALLOCATE(.size_bytes = 64, .count = BATCH, .lifetime = lifetime, .ttl_s = ttl_s,
			 .session = lifetime == MAAS_LEND_LIFETIME_SESSION ? session.id : NULL);
	assert_int_equal(live_slabs(), MANY);
}

/* `steps` are let go in one tick or call, and others have had their turn after each few. */
static void expect_some_freed(uint64_t before, uint64_t steps)
{
	assert_in_range(live_slabs(), before - steps, before - steps / 2);
}

/* A tick that does not get to the end, and one that does. */
static void tick_twice(void)
{
	uint64_t before = live_slabs();

	last_steps = maas_lend_steps(f.lend);
	longest_steps = 0;
	pass_ms(100);
	note_steps();
	expect_some_freed(before, IN_TICK);
	assert_int_equal(end.calls, 0);
	pass_ms(100);
	note_steps();
	assert_in_range(longest_steps, 1, MAAS_LEND_STEP);
	assert_int_equal(live_slabs(), 0);
}

static bool name_is_free(void)
{
	int r = maas_lend_session_open(f.lend, NULL, "s", 10, true, NULL, &session);

	assert_true(!r || r == -EEXIST);
	return !r;
}

TEST(end__does_a_part_in_the_callers_thread)
{
	reopen_plain();
	allocate_many(MAAS_LEND_LIFETIME_SESSION, 0);
	start_end(&session);
	expect_some_freed(MANY, IN_CALL);
	assert_false(name_is_free());
	tick_twice();
	expect_told(&end, 0);
	assert_true(name_is_free());
}

/* That of the keys' end may be the thread that serves all connections. */
TEST(end__does_less_in_the_thread_of_keys)
{
	allocate_many(MAAS_LEND_LIFETIME_SESSION, 0);
	start_end(&session);
	finish(0);
	expect_some_freed(MANY, MAAS_LEND_STEP / 8);
	tick_twice();
	expect_told(&end, 0);
}

TEST(end__of_a_lapsed_session)
{
	reopen_plain();
	allocate_many(MAAS_LEND_LIFETIME_SESSION, 0);
	pass_ms(9900);
	assert_int_equal(live_slabs(), MANY);
	tick_twice();
	assert_true(name_is_free());
}

/* A short one need not wait until a long one is complete. */
TEST(end__of_one_behind_another)
{
	struct maas_lend_session_info other;
	struct maas_lend_allocation a;

	reopen_plain();
	allocate_many(MAAS_LEND_LIFETIME_SESSION, 0);
	other = open_session("other", false);
	a = allocate_of(&other);
	pass_ms(10000);
	assert_false(exists(&a));
	assert_in_range(live_slabs(), MANY - IN_TICK, MANY - IN_TICK / 2);
}

TEST(lapse__of_many)
{
	for (int with_keys = 0; with_keys < 2; with_keys++) {
		reopen_plain();
		if (with_keys) {
			keys_teardown();
			setup();
		}
		allocate_many(MAAS_LEND_LIFETIME_TTL, 5);
		pass_ms(4900);
		assert_int_equal(live_slabs(), MANY);
		tick_twice();
		assert_int_equal(lend_stats().lapsed_allocations, MANY);
	}
}

/* None of them is lost when somebody else frees or renews meanwhile. */
TEST(lapse__of_many_with_some_renewed)
{
	struct maas_lend_allocation first, last;

	reopen_plain();
	allocate_many(MAAS_LEND_LIFETIME_TTL, 5);
	pass_ms(5000);
	assert_int_equal(list_page(NULL, NULL, 100), 100);
	first = page[0];
	last = page[99];
	assert_int_equal(maas_lend_renew(f.lend, NULL, first.id, 60, &first), 0);
	assert_int_equal(free_now(&last), 0);
	pass_ms(100);
	assert_int_equal(live_slabs(), 1);
	expect_lapse(&first, 59900);
}

TEST_MAIN(setup, keys_teardown)
