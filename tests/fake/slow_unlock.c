/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slow_unlock: makes threads dawdle at random after they have dropped a lock, where what they still
 * hold a pointer to may be freed by another. Without it such a window is a few instructions wide
 * and hours of running do not hit it. Linked with --wrap for the mutex and for the lock of base,
 * whose release is a call only where the compiler does not optimize.
 */
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "base/lock.h"

static void dawdle(void)
{
	static __thread uint64_t seed;
	unsigned int dice;

	if (!seed)
		seed = (uintptr_t)&seed;
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	dice = (unsigned int)(seed >> 40) % 256;
	/* Not sched_yield(), which lets each busy program of the machine have a whole slice. */
	if (!dice)
		usleep(200);
	else if (dice < 16)
		usleep(1);
}

/* The linker's names of --wrap. NOLINTBEGIN */
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);
void __real_maas_lock_release(struct maas_lock *lock);
void __wrap_maas_lock_release(struct maas_lock *lock);

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	int error = __real_pthread_mutex_unlock(lock);

	dawdle();
	return error;
}

void __wrap_maas_lock_release(struct maas_lock *lock)
{
	__real_maas_lock_release(lock);
	dawdle();
}
/* NOLINTEND */
