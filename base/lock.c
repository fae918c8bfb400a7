/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a lock that need the kernel: futex(2). */
#include "base/lock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

extern inline void maas_lock_take(struct maas_lock *lock);
extern inline void maas_lock_release(struct maas_lock *lock);

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
	int error = errno;

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
	errno = error;
}

static void wake(_Atomic uint32_t *word, int count)
{
	int error = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
	errno = error;
}

/* A thread that waited takes the lock as contended: others may be waiting still. */
void maas_lock_wait(struct maas_lock *lock)
{
	while (atomic_exchange_explicit(&lock->state, MAAS_LOCK_CONTENDED, memory_order_acquire) !=
	       MAAS_LOCK_FREE)
		sleep_while(&lock->state, MAAS_LOCK_CONTENDED);
}

/* The memory may be gone by now, if the thread that took the lock was the last to need it: the
 * kernel looks for sleepers by the address alone. */
void maas_lock_wake(struct maas_lock *lock)
{
	wake(&lock->state, 1);
}

void maas_lock_cond_wait(struct maas_lock_cond *cond, struct maas_lock *lock)
{
	uint32_t wakes = atomic_load_explicit(&cond->wakes, memory_order_relaxed);

	maas_lock_release(lock);
	sleep_while(&cond->wakes, wakes); /* does not sleep if one came since */
	maas_lock_take(lock);
}

void maas_lock_cond_wake(struct maas_lock_cond *cond)
{
	atomic_fetch_add_explicit(&cond->wakes, 1, memory_order_relaxed);
	wake(&cond->wakes, INT_MAX);
}
