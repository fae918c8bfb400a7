/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mutex for the path of each transfer: a pair of maas_lock_take() and maas_lock_give() is 20
 * instructions where nobody waits, with pthread_mutex_lock(3) it is 60. All zeros: free.
 */
#ifndef MAAS_BASE_LOCK_H
#define MAAS_BASE_LOCK_H

#include <stdatomic.h>

#include "base/base.h"

struct maas_lock {
	_Atomic uint32_t state;
};

/* Waits until the lock is free; sleeps meanwhile. Not recursive. */
void maas_lock_take(struct maas_lock *lock);
void maas_lock_give(struct maas_lock *lock);

#endif
