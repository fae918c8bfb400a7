/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request for memory and every call of verbs and rdma_cm fails once, in turn, through the
 * life of a server: nothing leaks or hangs, who waits is told once, the one slab is not lent again
 * while a key to it lives, and no key outlives its session.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#include "tests/counts.h"
#include "tests/fake/fail_nth.h"

#define SLAB_BYTES 65536
#define TICKS	   300 /* of 100 ms each on the test's clock */

static enum what { MEMORY, MAKES, ENDS } what;

static void arm(long nth)
{
	if (what == MEMORY)
		fail_nth_arm(nth);
	else
		fake_fail_nth(what == MAKES ? FAKE_MAKES : FAKE_ENDS, nth);
}

static bool disarm(void)
{
	return what == MEMORY ? fail_nth_disarm() : fake_fail_disarm();
}

static void spare(bool yes)
{
	fail_nth_spare(yes);
	fake_fail_spare(yes);
}

/* What the call `r` that was to be told so comes to. */
static int heard(struct told *end, int r)
{
	if (r && r != -EINPROGRESS) {
		assert_int_equal(end->calls, 0);
		return r;
	}
	for (int n = 0; n < 50 && !end->calls; n++)
		nap();
	for (int n = 0; n < TICKS && !end->calls; n++)
		tick();
	return told(end);
}

static int write_spared(struct maas_lend_key *with)
{
	int status;

	spare(true);
	status = peer_write(peer, with);
	spare(false);
	return status;
}

typedef int end_call(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		     maas_lend_free_done *done, void *arg);

/* Tried again where there was no memory: then it lives on. */
static void end_it(end_call *call, const char *id)
{
	struct told end = {0};
	int r = call(server.lend, NULL, id, tell, &end);

	if (r == -ENOMEM)
		r = call(server.lend, NULL, id, tell, &end);
	if (r == -EINPROGRESS)
		r = heard(&end, r);
	/* No key needs memory to die. */
	if (what != ENDS)
		assert_int_equal(r, 0);
}

/* A key to `memory`; 0: there is none. */
static struct maas_lend_key lend_key(void)
{
	struct maas_lend_key grant = {0};
	struct told end = {0};

	if (heard(&end, ask_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE, &grant, &end)))
		grant.rkey = 0;
	if (grant.rkey)
		(void)write_spared(&grant);
	return grant;
}

static void expect_dead(struct maas_lend_key *grant)
{
	if (grant->rkey)
		assert_int_not_equal(write_spared(grant), IBV_WC_SUCCESS);
}

/* The slab of `memory` is lent again, and no key to what was there before lives. */
static void free_until_reused(struct maas_lend_key *grant)
{
	bool reused = false;

	end_it(maas_lend_free, memory.id);
	for (int n = 0; n < TICKS && !reused; n++) {
		reused = try_allocate(SLAB_BYTES, &memory);
		if (!reused)
			tick();
	}
	assert_true(reused);
	/* In pool mode the key is everybody's, for ever. */
	if (mode != MAAS_RDMA_KEYS_POOL)
		expect_dead(grant);
}

/* The second key ends with the session; its slab lives on. */
static void lend_once(void)
{
	struct maas_lend_key grant = {0};

	if (try_allocate(SLAB_BYTES, &memory)) {
		grant = lend_key();
		free_until_reused(&grant);
		grant = lend_key();
	}
	end_it(maas_lend_session_end, peer->session.id);
	expect_dead(&grant);
}

static void live(long nth)
{
	int r;

	peer = peer_new(NULL);
	if (maas_lend_session_open(server.lend, NULL, "one", 60, false, NULL, &peer->session))
		return;
	spare(true);
	r = peer_dial(peer);
	spare(false);
	if (r)
		return;
	if (what == ENDS)
		arm(nth);
	lend_once();
}

static bool run_with(enum maas_rdma_keys keys, long nth)
{
	bool failed;

	server_options.pool_bytes = SLAB_BYTES;
	if (what != ENDS)
		arm(nth);
	if (!server_try(keys))
		live(nth);
	failed = disarm();
	server_close();
	return failed;
}

static void all_fail(enum what kind)
{
	static const enum maas_rdma_keys modes[] = {MAAS_RDMA_KEYS_WINDOW, MAAS_RDMA_KEYS_MR,
						    MAAS_RDMA_KEYS_POOL};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(modes); i++) {
		long nth = 1;

		what = kind;
		for (bool failed = true; failed; nth += (long)count_rdma_nomem_step()) {
			long blocks = fail_nth_blocks();
			long bytes = fail_nth_mapped_bytes();

			failed = run_with(modes[i], nth);
			if (fail_nth_blocks() != blocks || fail_nth_mapped_bytes() != bytes)
				fail_msg("mode %d: number %ld leaks", (int)modes[i], nth);
		}
		print_message("mode %d: about %ld\n", (int)modes[i], nth - 2);
		assert_true(nth > 2);
	}
}

TEST(life__any_memory_fails)
{
	all_fail(MEMORY);
}

TEST(life__any_call_that_makes_fails)
{
	all_fail(MAKES);
}

TEST(life__any_call_that_ends_fails)
{
	all_fail(ENDS);
}

/* This program is all about failures, whose logs would be thousands of lines. */
RDMA_TEST_MAIN()
