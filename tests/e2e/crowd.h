/* SPDX-License-Identifier: Apache-2.0 */
/* Many connections that hold a server up: idle ones, and slow ones that a thread keeps going. */
#ifndef MAAS_TESTS_CROWD_H
#define MAAS_TESTS_CROWD_H

#include "base/base.h"

#define CROWD_IDLE 1000
#define CROWD_SLOW 100

struct crowd;

/* `id`: of an allocation for the slow writers and readers. Dies on failure. */
struct crowd *crowd_start(uint16_t port, const char *id);
void crowd_stop(struct crowd *crowd);

#endif
