/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every cmocka program needs: the headers that cmocka wants, cases that add themselves to the
 * program, threads, and waiting for them.
 *
 *	TEST(alloc__pool_is_full)
 *	{
 *		assert_int_equal(pool_try_alloc(slab, 64), -ENOSPC);
 *	}
 *
 *	TEST_MAIN(open_pool, close_pool)
 *
 * The two functions run before and after each case, the second also after a case that failed; NULL
 * is none. A program with a main() of its own calls test_run() there.
 */
#ifndef MAAS_TESTS_UNIT_H
#define MAAS_TESTS_UNIT_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- cases */

static struct CMUnitTest test_cases[64];
static void (*test_bodies[64])(void);
static size_t test_num_cases;
static void (*test_setup)(void);
static void (*test_teardown)(void);

static inline void test_run_case(void **state)
{
	void (**body)(void) = *state;

	(*body)();
}

static inline int test_set_up(void **state)
{
	(void)state;
	if (test_setup)
		test_setup();
	return 0;
}

static inline int test_tear_down(void **state)
{
	(void)state;
	if (test_teardown)
		test_teardown();
	return 0;
}

static inline void test_add(const char *name, void (*body)(void))
{
	if (test_num_cases == sizeof(test_bodies) / sizeof(*test_bodies))
		abort();
	test_bodies[test_num_cases] = body;
	test_cases[test_num_cases] = (struct CMUnitTest){
		.name = name,
		.test_func = test_run_case,
		.setup_func = test_set_up,
		.teardown_func = test_tear_down,
		.initial_state = &test_bodies[test_num_cases],
	};
	test_num_cases++;
}

/* The cases of a file run in the order in which they stand there. */
#define TEST(name)                                                                                 \
	static void name(void);                                                                    \
	static void __attribute__((constructor)) name##__add(void)                                 \
	{                                                                                          \
		test_add(#name, name);                                                             \
	}                                                                                          \
	static void name(void)

/* Runs the cases; returns what main() returns. */
static inline int test_run(void (*setup)(void), void (*teardown)(void))
{
	test_setup = setup;
	test_teardown = teardown;
	return _cmocka_run_group_tests("tests", test_cases, test_num_cases, NULL, NULL);
}

#define TEST_MAIN(setup, teardown)                                                                 \
	int main(void)                                                                             \
	{                                                                                          \
		return test_run(setup, teardown);                                                  \
	}

/* ---- threads */

/* Starts `count` of them: each has its own of as many structs of `size` bytes, or all have `arg`
 * (0). */
static inline void threads_start(pthread_t *threads, size_t count, void *(*run)(void *), void *arg,
				 size_t size)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, (char *)arg + i * size), 0);
}

static inline void threads_join(const pthread_t *threads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Both; at most 128. */
static inline void threads_run(size_t count, void *(*run)(void *), void *arg, size_t size)
{
	pthread_t threads[128];

	assert_in_range(count, 1, 128);
	threads_start(threads, count, run, arg, size);
	threads_join(threads, count);
}

/* ---- waiting for other threads */

static inline void nap_ms(long ms)
{
	usleep((useconds_t)ms * 1000);
}

/* A tenth of a millisecond. */
static inline void nap(void)
{
	usleep(100);
}

/* Waits until another thread makes it true; fails after ten seconds. */
#define AWAIT(condition)                                                                           \
	do {                                                                                       \
		for (unsigned int naps = 0; !(condition); naps++) {                                \
			if (naps == 100000)                                                        \
				fail_msg("never came true: %s", #condition);                       \
			nap();                                                                     \
		}                                                                                  \
	} while (0)

/* An assert for other threads: cmocka's asserts jump, which only the thread of the case may do. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A `done` function that counts its calls and keeps their status in its `arg`, a struct told. */
struct told {
	_Atomic int calls;
	_Atomic int status;
};

static inline void tell(void *arg, int status)
{
	struct told *told = arg;

	told->status = status;
	told->calls++;
}

/* Waits for the call, which must be the only one. Returns its status. */
static inline int told(struct told *told)
{
	AWAIT(told->calls);
	assert_int_equal(told->calls, 1);
	return told->status;
}

#endif
