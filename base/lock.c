/* SPDX-License-Identifier: Apache-2.0 */
/* A mutex of one word, after U. Drepper, "Futexes Are Tricky". Any thread. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/lock.h"

enum {
	FREE,
	TAKEN,
	WAITED_FOR, /* taken, and a thread may sleep until it is given */
};

static void call_futex(struct maas_lock *lock, int what, uint32_t value)
{
	syscall(SYS_futex, &lock->state, what | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void maas_lock_take(struct maas_lock *lock)
{
	uint32_t state = FREE;

	if (atomic_compare_exchange_strong_explicit(&lock->state, &state, TAKEN,
						    memory_order_acquire, memory_order_relaxed))
		return;
	/* Who has slept does not know whether others do: the next that gives the lock wakes one. */
	while (atomic_exchange_explicit(&lock->state, WAITED_FOR, memory_order_acquire) != FREE)
		call_futex(lock, FUTEX_WAIT, WAITED_FOR);
}

void maas_lock_give(struct maas_lock *lock)
{
	if (atomic_exchange_explicit(&lock->state, FREE, memory_order_release) == WAITED_FOR)
		call_futex(lock, FUTEX_WAKE, 1);
}
