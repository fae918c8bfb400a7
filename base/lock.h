/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock for what is locked with each operation on a slab or on a queue pair, or several times with
 * each request. An uncontended pthread_mutex_t takes and releases in 56 instructions, this one in
 * 8: the steps that need no system call stand in the caller. Elsewhere a pthread_mutex_t does.
 *
 * The lock is a word with three values, the second mutex of U. Drepper, "Futexes Are Tricky":
 *
 *	FREE ──take──▶ TAKEN ──another waits──▶ CONTENDED ──release, one is woken──▶ FREE
 *	  ▲──────release─┘
 *
 * All zero is a free lock, and a condition that nobody waits for; neither needs an end. Any thread.
 * errno stays as it was.
 */
#ifndef MAAS_BASE_LOCK_H
#define MAAS_BASE_LOCK_H

#include <stdatomic.h>

#include "base/base.h"

enum maas_lock_state {
	MAAS_LOCK_FREE,
	MAAS_LOCK_TAKEN,
	MAAS_LOCK_CONTENDED, /* a thread may be waiting */
};

struct maas_lock {
	_Atomic uint32_t state;
};

/* As a pthread_cond_t: who changes what others wait for has the lock. */
struct maas_lock_cond {
	_Atomic uint32_t wakes; /* so far */
};

/* What is left to do when the lock is taken, and when it was released. */
MAAS_COLD void maas_lock_wait(struct maas_lock *lock);
MAAS_COLD void maas_lock_wake(struct maas_lock *lock);

inline void maas_lock_take(struct maas_lock *lock)
{
	uint32_t state = MAAS_LOCK_FREE;

	if (!atomic_compare_exchange_strong_explicit(&lock->state, &state, MAAS_LOCK_TAKEN,
						     memory_order_acquire, memory_order_relaxed))
		maas_lock_wait(lock);
}

inline void maas_lock_release(struct maas_lock *lock)
{
	if (atomic_exchange_explicit(&lock->state, MAAS_LOCK_FREE, memory_order_release) ==
	    MAAS_LOCK_CONTENDED)
		maas_lock_wake(lock);
}

/* Holds the lock, which is released meanwhile. Returns when woken, and at times without a cause. */
void maas_lock_cond_wait(struct maas_lock_cond *cond, struct maas_lock *lock);
/* Holds the lock. Wakes all. */
void maas_lock_cond_wake(struct maas_lock_cond *cond);

#endif
