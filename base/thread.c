/* SPDX-License-Identifier: Apache-2.0 */
/* Starting threads and waiting in them; no state. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/thread.h"

bool maas_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms)
{
	struct timespec until = {.tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000L};

	return pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, &until) != ETIMEDOUT;
}

int maas_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
	sigset_t all;
	sigset_t old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(ret_thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -error;
}
