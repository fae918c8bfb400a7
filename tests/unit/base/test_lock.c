/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of hot paths: one thread at a time has it, and a thread that waits is woken. */
#include "base/lock.h"

#include <sched.h>

#include "tests/unit/unit.h"

#define THREADS 4
#define EACH	20000

static struct {
	struct maas_lock lock;
	struct maas_lock_cond changed;
	uint64_t count; /* guarded by the lock */
	bool open;	/* guarded by the lock */
	_Atomic unsigned int inside;
} t;

static void reset(void)
{
	memset(&t, 0, sizeof(t));
}

/* Each keeps the lock for a moment now and then, so that the others have to sleep. */
static void *count_up(void *arg)
{
	for (int i = 0; i < EACH; i++) {
		maas_lock_take(&t.lock);
		t.count++;
		if (i % 1000 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
		maas_lock_release(&t.lock);
	}
	return arg;
}

TEST(lock__one_thread_at_a_time)
{
	threads_run(THREADS, count_up, NULL, 0);
	assert_int_equal(t.count, THREADS * EACH);
	assert_int_equal(atomic_load(&t.lock.state), MAAS_LOCK_FREE);
}

static void *take_once(void *arg)
{
	errno = EDOM;
	maas_lock_take(&t.lock);
	t.count += errno == EDOM;
	maas_lock_release(&t.lock);
	return arg;
}

/* All of them sleep, and each release wakes the next. */
TEST(lock__waiting_threads_are_woken_and_keep_errno)
{
	pthread_t threads[THREADS];

	maas_lock_take(&t.lock);
	threads_start(threads, THREADS, take_once, NULL, 0);
	while (atomic_load(&t.lock.state) != MAAS_LOCK_CONTENDED)
		sched_yield();
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	assert_int_equal(t.count, 0);
	errno = ERANGE;
	maas_lock_release(&t.lock);
	assert_int_equal(errno, ERANGE);
	threads_join(threads, THREADS);
	assert_int_equal(t.count, THREADS);
	assert_int_equal(atomic_load(&t.lock.state), MAAS_LOCK_FREE);
}

static void *enter_when_open(void *arg)
{
	maas_lock_take(&t.lock);
	atomic_fetch_add(&t.inside, 1);
	while (!t.open)
		maas_lock_cond_wait(&t.changed, &t.lock);
	t.count++;
	maas_lock_release(&t.lock);
	return arg;
}

TEST(cond__wakes_all_and_none_sleeps_through_it)
{
	for (int round = 0; round < 50; round++) {
		pthread_t threads[THREADS];

		reset();
		threads_start(threads, THREADS, enter_when_open, NULL, 0);
		/* In odd rounds some may be on their way to sleep. */
		while (round % 2 && atomic_load(&t.inside) < THREADS)
			sched_yield();
		maas_lock_take(&t.lock);
		assert_int_equal(t.count, 0);
		t.open = true;
		maas_lock_cond_wake(&t.changed);
		maas_lock_release(&t.lock);
		threads_join(threads, THREADS);
		assert_int_equal(t.count, THREADS);
	}
}

TEST_MAIN(reset, NULL)
