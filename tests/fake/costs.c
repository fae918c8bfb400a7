/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapped calls, and what this thread has made of them. */
#include "tests/fake/costs.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/lock.h"
#include "tests/fake/fail_nth.h"

#define LOCKS 16

static __thread struct costs costs;
static __thread const void *taken[LOCKS];

void costs_begin(void)
{
	costs = (struct costs){.memory = fail_nth_requests()};
}

struct costs costs_end(void)
{
	struct costs result = costs;

	result.memory = fail_nth_requests() - costs.memory;
	return result;
}

static void note_lock(const void *lock)
{
	for (unsigned int i = 0; i < costs.locks && i < LOCKS; i++)
		if (taken[i] == lock)
			costs.repeated++;
	if (costs.locks < LOCKS)
		taken[costs.locks] = lock;
	costs.locks++;
}

/* The linker's names of --wrap. NOLINTBEGIN */
#define WRAPS(type, name, ...)                                                                     \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

WRAPS(int, pthread_mutex_lock, pthread_mutex_t *lock);
WRAPS(void, maas_lock_take, struct maas_lock *lock);

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	note_lock(lock);
	return __real_pthread_mutex_lock(lock);
}

void __wrap_maas_lock_take(struct maas_lock *lock)
{
	note_lock(lock);
	__real_maas_lock_take(lock);
}

/* A call of the system, with its arguments in parentheses: with types, and without. */
#define COUNTS(name, typed, args)                                                                  \
	int __real_##name typed;                                                                   \
	int __wrap_##name typed;                                                                   \
	int __wrap_##name typed                                                                    \
	{                                                                                          \
		costs.calls++;                                                                     \
		return __real_##name args;                                                         \
	}

COUNTS(poll, (struct pollfd * fds, nfds_t count, int timeout_ms), (fds, count, timeout_ms))
COUNTS(eventfd_read, (int fd, eventfd_t *ret_value), (fd, ret_value))
COUNTS(eventfd_write, (int fd, eventfd_t value), (fd, value))
COUNTS(nanosleep, (const struct timespec *wanted, struct timespec *ret_left), (wanted, ret_left))
/* NOLINTEND */
