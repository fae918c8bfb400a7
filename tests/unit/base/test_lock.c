/* SPDX-License-Identifier: Apache-2.0 */
/* The lock: one thread at a time, and none that waits for it is forgotten. */
#include "base/lock.h"
#include "base/thread.h"
#include "tests/unit/unit.h"

#define THREADS 4
#define TURNS	20000

static struct {
	struct maas_lock lock;
	unsigned long count;
} scene;

static void *count_up(void *arg)
{
	(void)arg;
	for (int i = 0; i < TURNS; i++) {
		maas_lock_take(&scene.lock);
		scene.count++;
		maas_lock_give(&scene.lock);
	}
	return NULL;
}

static pthread_t threads[THREADS];

static void start_all(void)
{
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(maas_thread_start(&threads[i], count_up, NULL), 0);
}

static void join_all(void)
{
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

TEST(take__one_thread_at_a_time)
{
	scene.count = 0;
	start_all();
	join_all();
	assert_int_equal(scene.count, THREADS * TURNS);
	assert_int_equal(atomic_load(&scene.lock.state), 0);
}

/* All of them are asleep, or about to be, when the lock is given: each has its turn. */
TEST(give__wakes_all_in_turn)
{
	scene.count = 0;
	maas_lock_take(&scene.lock);
	start_all();
	nap_ms(20);
	assert_int_equal(scene.count, 0);
	maas_lock_give(&scene.lock);
	join_all();
	assert_int_equal(scene.count, THREADS * TURNS);
}

TEST_MAIN(NULL, NULL)
