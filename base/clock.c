/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks. No state: any thread. */
#include <time.h>

#include "base/base.h"

uint64_t maas_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t maas_clock_ms(void)
{
	return maas_clock_ns() / 1000000u;
}

uint64_t maas_clock_wall_s(void)
{
	return (uint64_t)time(NULL);
}
