/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slow_unlock: makes threads dawdle at random after they have dropped a lock, where what they still
 * hold a pointer to may be freed by another. Without it such a window is a few instructions wide
 * and hours of running do not hit it. Linked with --wrap=pthread_mutex_unlock.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <unistd.h>

/* The linker's names of --wrap. NOLINTBEGIN */
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	static __thread uint64_t seed;
	int error = __real_pthread_mutex_unlock(lock);
	unsigned int dice;

	if (!seed)
		seed = (uintptr_t)&seed;
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	dice = (unsigned int)(seed >> 40) % 256;
	if (!dice)
		usleep(200);
	else if (dice < 16)
		sched_yield();
	return error;
}
/* NOLINTEND */
