/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request for memory and every call of verbs and rdma_cm fails once, in turn, through the
 * life of a server: nothing leaks or hangs, who waits is told once, and the one slab is not lent
 * again while a key to it lives.
 */
#include "tests/unit/rdma/rdma_fixture.h"

#include "tests/counts.h"
#include "tests/fake/fail_nth.h"

#define SLAB_BYTES 65536
#define TICKS	   300 /* of 100 ms each on the test's clock */

enum what { MEMORY, MAKES, ENDS };

static enum maas_rdma_keys keys;

static void arm(enum what what, long nth)
{
	if (what == MEMORY)
		fail_nth_arm(nth);
	else
		fake_fail_nth(what == MAKES ? FAKE_MAKES : FAKE_ENDS, nth);
}

static bool disarm(enum what what)
{
	return what == MEMORY ? fail_nth_disarm() : fake_fail_disarm();
}

static void spare(bool yes)
{
	fail_nth_spare(yes);
	fake_fail_spare(yes);
}

/* A tenth of a second of a daemon's life. */
static void tick(void)
{
	clock_add_ms(100);
	maas_lend_tick(server.lend);
	for (int n = 0; n < 10; n++)
		nap();
}

static int heard(struct told *end)
{
	for (int n = 0; n < 50 && !end->calls; n++)
		nap();
	for (int n = 0; n < TICKS && !end->calls; n++)
		tick();
	return told(end);
}

static bool can_allocate(struct maas_lend_allocation *ret_allocation)
{
	const struct maas_lend_alloc_request request = {.size_bytes = SLAB_BYTES, .count = 1};
	struct maas_slab_ref ref;

	return maas_lend_allocate(server.lend, &request, &ref, ret_allocation) == 0;
}

static int grant_it(const struct peer *peer, const char *id, struct maas_lend_key *ret_grant)
{
	struct told end = {0};
	int r = ask_key(peer, id, MAAS_LEND_ACCESS_WRITE, ret_grant, &end);

	if (r == -EINPROGRESS || !r)
		return heard(&end);
	assert_int_equal(end.calls, 0);
	return r;
}

static int write_spared(struct peer *peer, const struct maas_lend_key *grant)
{
	int status;

	spare(true);
	status = peer_write(peer, grant);
	spare(false);
	return status;
}

/* Then the next client gets the slab, and no key to it lives. */
static void free_until_reused(struct peer *peer, const char *id, const struct maas_lend_key *grant)
{
	struct maas_lend_allocation next;
	struct told end = {0};
	bool reused = false;
	int r = maas_lend_free(server.lend, NULL, id, tell, &end);

	if (r == -ENOMEM) /* it lives on */
		r = maas_lend_free(server.lend, NULL, id, tell, &end);
	if (r == -EINPROGRESS)
		(void)heard(&end);
	else
		assert_int_equal(r, 0);
	for (int n = 0; n < TICKS && !reused; n++) {
		reused = can_allocate(&next);
		if (!reused)
			tick();
	}
	assert_true(reused);
	/* In pool mode the key is everybody's, for ever. */
	if (grant->rkey && keys != MAAS_RDMA_KEYS_POOL)
		assert_int_not_equal(write_spared(peer, grant), IBV_WC_SUCCESS);
}

static void lend_once(struct peer *peer)
{
	struct maas_lend_allocation memory;
	struct maas_lend_key grant = {0};
	struct told end = {0};
	int r;

	if (can_allocate(&memory)) {
		if (grant_it(peer, memory.id, &grant))
			grant.rkey = 0;
		if (grant.rkey)
			(void)write_spared(peer, &grant);
		free_until_reused(peer, memory.id, &grant);
	}
	r = maas_lend_session_end(server.lend, NULL, peer->session.id, tell, &end);
	if (r == -ENOMEM)
		r = maas_lend_session_end(server.lend, NULL, peer->session.id, tell, &end);
	if (r == -EINPROGRESS)
		(void)heard(&end);
	else
		assert_int_equal(r, 0);
}

static void live(enum what what, long nth)
{
	struct peer *peer = peer_new(NULL);
	int r;

	if (maas_lend_session_open(server.lend, NULL, "one", 60, false, NULL, &peer->session))
		return;
	spare(true);
	r = peer_dial(peer);
	spare(false);
	if (r)
		return;
	if (what == ENDS)
		arm(what, nth);
	lend_once(peer);
}

static bool run_with(enum what what, long nth)
{
	bool failed;

	server_options.pool_bytes = SLAB_BYTES;
	if (what != ENDS)
		arm(what, nth);
	if (!server_try(NULL, keys))
		live(what, nth);
	failed = disarm(what);
	server_close();
	return failed;
}

static void all_fail(enum what what)
{
	static const enum maas_rdma_keys modes[] = {MAAS_RDMA_KEYS_WINDOW, MAAS_RDMA_KEYS_MR,
						    MAAS_RDMA_KEYS_POOL};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(modes); i++) {
		long nth = 1;

		keys = modes[i];
		for (bool failed = true; failed; nth += (long)count_rdma_nomem_step()) {
			long blocks = fail_nth_blocks();
			long bytes = fail_nth_mapped_bytes();

			failed = run_with(what, nth);
			if (fail_nth_blocks() != blocks || fail_nth_mapped_bytes() != bytes)
				fail_msg("mode %d: number %ld leaks", (int)keys, nth);
		}
		print_message("mode %d: about %ld\n", (int)keys, nth - 2);
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
