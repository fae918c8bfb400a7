/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that take no signals, and waits by the clock of base.h. */
#ifndef MAAS_BASE_THREAD_H
#define MAAS_BASE_THREAD_H

#include <pthread.h>

#include "base/base.h"

/* Starts a thread that takes no signals. Returns -errno. */
MAAS_MUST_CHECK int maas_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg);

/* As pthread_cond_timedwait(3), until maas_clock_ms() is `ms`; false when that has come. */
bool maas_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms);

#endif
