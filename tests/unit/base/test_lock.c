/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/lock.h"
#include "base/thread.h"

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

static void take__one_thread_at_a_time(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	scene.count = 0;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(maas_thread_start(&threads[i], count_up, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(scene.count, THREADS * TURNS);
	assert_int_equal(atomic_load(&scene.lock.state), 0);
}

/* All of them are asleep, or about to be, when the lock is given: each has its turn. */
static void give__wakes_all_in_turn(void **state)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	pthread_t threads[THREADS];

	(void)state;
	scene.count = 0;
	maas_lock_take(&scene.lock);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(maas_thread_start(&threads[i], count_up, NULL), 0);
	nanosleep(&pause, NULL);
	assert_int_equal(scene.count, 0);
	maas_lock_give(&scene.lock);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(scene.count, THREADS * TURNS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take__one_thread_at_a_time),
		cmocka_unit_test(give__wakes_all_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
