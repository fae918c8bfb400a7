/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that outlives its process: live slabs are there again, all others are free. */
#include <signal.h>
#include <sys/wait.h>

#include "tests/counts.h"
#include "tests/random.h"
#include "tests/unit/slab/slab_file.h"

#define SLABS 300

/* ---- a process that is killed */

struct legacy {
	struct maas_slab_ref live[SLABS];
	struct maas_slab_ref freed;
	struct maas_slab_ref revoking;
	struct maas_slab_ref quarantined;
	char arena_id[MAAS_SLAB_ID_TEXT];
};

static uint64_t size_of(unsigned int i)
{
	return i % 3 == 0 ? 64 : i % 3 == 1 ? 1000 : 4096;
}

static void live_and_die(int out)
{
	static struct legacy legacy;
	struct maas_slab *slab = open_pool();

	for (unsigned int i = 0; i < SLABS; i++) {
		legacy.live[i] = pool_alloc(slab, size_of(i));
		pattern_write(pool_get(slab, legacy.live[i]).bytes, 64, i);
	}
	legacy.freed = pool_alloc(slab, 1024);
	memset(pool_get(slab, legacy.freed).bytes, 0x77, 1024);
	legacy.revoking = pool_alloc(slab, 1024);
	memset(pool_get(slab, legacy.revoking).bytes, 0x77, 1024);
	legacy.quarantined = pool_alloc(slab, 64);
	pool_free(slab, legacy.freed);
	if (maas_slab_revoke(slab, legacy.revoking) || maas_slab_revoke(slab, legacy.quarantined) ||
	    maas_slab_quarantine(slab, legacy.quarantined))
		_exit(1);
	memcpy(legacy.arena_id, maas_slab_arena_id(slab), MAAS_SLAB_ID_TEXT);
	if (write(out, &legacy, sizeof(legacy)) != sizeof(legacy))
		_exit(1);
	raise(SIGKILL);
}

static struct legacy die_in_a_child(void)
{
	struct legacy legacy;
	int pipe_fds[2];
	pid_t child;
	int status;

	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		live_and_die(pipe_fds[1]);
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &legacy, sizeof(legacy)), sizeof(legacy));
	close(pipe_fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	return legacy;
}

TEST(file__keeps_what_a_killed_process_lent)
{
	struct legacy legacy = die_in_a_child();
	struct maas_slab *slab = open_pool();

	maas_slab_check(slab);
	assert_string_equal(maas_slab_arena_id(slab), legacy.arena_id);
	for (unsigned int i = 0; i < SLABS; i++) {
		struct maas_slab_info info = pool_get(slab, legacy.live[i]);

		assert_int_equal(info.size_bytes, size_of(i));
		assert_true(pattern_holds(info.bytes, 64, i));
	}
	assert_int_equal(pool_try_get(slab, legacy.freed), -ENOENT);
	assert_int_equal(pool_try_get(slab, legacy.revoking), -ENOENT);
	assert_int_equal(maas_slab_release(slab, legacy.revoking), -ENOENT);
	assert_int_equal(maas_slab_release(slab, legacy.quarantined), -ENOENT);
	assert_int_equal(pool_stats(slab).live_slabs, SLABS);
	assert_int_equal(pool_stats(slab).quarantined_bytes, 0);
	/* A slab that is handed out now is zero and has a new id. */
	while (pool_stats(slab).live_slabs < SLABS + 100) {
		struct maas_slab_ref ref = pool_take(slab, 1024).ref;

		assert_memory_not_equal(&ref, &legacy.freed, sizeof(ref));
	}
	for (unsigned int i = 0; i < SLABS; i++)
		pool_free(slab, legacy.live[i]);
	pool_settle(slab);
}

/* As the first versions of layout 2 left a slab that they were about to hand out. */
static void write_state(uint32_t slot, uint8_t state)
{
	size_t at = MAAS_SLAB_SLOT_HEADER_BYTES + MAAS_SLAB_ANNEX_BYTES +
		    slot * sizeof(struct maas_slab_slot) + offsetof(struct maas_slab_slot, state);

	write_at(table, (off_t)at, &state, 1);
}

/* Where nothing is live, and behind the last slab that is, a table keeps old states too. */
TEST(file__forgets_what_was_not_live_beside_nothing_live)
{
	struct maas_slab *slab = open_pool();
	struct maas_slab_ref live = pool_alloc(slab, 64);
	const struct maas_slab_ref revoking[] = {pool_alloc(slab, 64), pool_alloc(slab, 65536)};
	const struct maas_slab_ref quarantined[] = {pool_alloc(slab, 64), pool_alloc(slab, 65536)};
	const struct maas_slab_ref unfinished[] = {pool_alloc(slab, 64), pool_alloc(slab, 65536)};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(revoking); i++) {
		assert_int_equal(maas_slab_revoke(slab, revoking[i]), 0);
		assert_int_equal(maas_slab_revoke(slab, quarantined[i]), 0);
		assert_int_equal(maas_slab_quarantine(slab, quarantined[i]), 0);
	}
	pool_close(slab);
	write_state(unfinished[0].slot, 6);
	write_state(unfinished[1].slot, MAAS_SLAB_SLOT_LAST_STATE);

	slab = open_pool();
	maas_slab_check(slab);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(revoking); i++) {
		assert_int_equal(maas_slab_release(slab, revoking[i]), -ENOENT);
		assert_int_equal(maas_slab_quarantine(slab, revoking[i]), -ENOENT);
		assert_int_equal(maas_slab_release(slab, quarantined[i]), -ENOENT);
		assert_int_equal(maas_slab_free(slab, unfinished[i]), -ENOENT);
	}
	assert_int_equal(pool_stats(slab).live_slabs, 1);
	maas_slab_check(slab);
	pool_free(slab, live);
	pool_settle(slab);
	assert_int_equal(pool_stats(slab).extents_used, 0);
}

/* When the arena was made stands in the table; versions before it left zeros there. */
TEST(file__keeps_when_it_was_made)
{
	const off_t at = offsetof(struct maas_slab_slot_header, created_s);
	const uint64_t kept_s[] = {1000, 0};
	uint64_t before_s = maas_clock_wall_s();
	struct maas_slab *slab = open_pool();

	assert_in_range(maas_slab_created_s(slab), before_s, maas_clock_wall_s());
	pool_close(slab);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(kept_s); i++) {
		write_at(table, at, &kept_s[i], sizeof(kept_s[i]));
		slab = open_pool();
		assert_int_equal(maas_slab_created_s(slab), kept_s[i]);
		pool_close(slab);
	}
	remove_files();
	slab = open_pool(); /* before the clock is asked how late it is */
	assert_in_range(maas_slab_created_s(slab), before_s, maas_clock_wall_s());
}

/* ---- many restarts against a model */

struct entry {
	struct maas_slab_ref ref;
	uint64_t seed;
	bool live;
};

static void play(struct maas_slab *slab, struct entry *entries, uint64_t *random)
{
	for (int i = 0; i < 400; i++) {
		struct entry *e = &entries[test_random_below(random, SLABS)];

		if (e->live) {
			assert_true(pattern_holds(pool_get(slab, e->ref).bytes, 64, e->seed));
			pool_free(slab, e->ref);
		} else {
			uint64_t size = 1 + test_random_below(random, 3000);
			struct maas_slab_info info = pool_take(slab, size);

			e->ref = info.ref;
			e->seed = test_random(random);
			pattern_write(info.bytes, 64, e->seed);
		}
		e->live = !e->live;
		if (test_random_below(random, 50) == 0)
			pool_settle(slab);
	}
}

TEST(file__holds_over_many_restarts)
{
	struct entry entries[SLABS] = {0};
	uint64_t random = maas_test_seed_told();

	for (uint64_t round = 0; round < count_slab_restarts(); round++) {
		struct maas_slab *slab = open_pool();
		uint64_t live = 0;

		maas_slab_check(slab);
		for (unsigned int i = 0; i < SLABS; i++) {
			live += entries[i].live;
			assert_int_equal(pool_try_get(slab, entries[i].ref),
					 entries[i].live ? 0 : -ENOENT);
		}
		assert_int_equal(pool_stats(slab).live_slabs, live);
		play(slab, entries, &random);
		pool_close(slab);
	}
}

int main(void)
{
	return file_test_run();
}
