/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAAS_CMD_LATENCY_H
#define MAAS_CMD_LATENCY_H

#include "base/base.h"

/*
 * The latency of each operation, in ns. All are kept, so that percentiles are exact. `struct
 * latency l = {0}` is empty. Threading: owner thread only.
 */
struct latency {
	uint64_t *ns;
	size_t count;
	size_t cap;
	uint64_t failed; /* operations that did not succeed: no latency */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int latency_add(struct latency *latency, uint64_t ns);
/* Appends the latencies of `other`. Errors: -ENOMEM. */
MAAS_MUST_CHECK int latency_merge(struct latency *latency, const struct latency *other);
void latency_sort(struct latency *latency);
/* The smallest value that a `share` (0 to 1) of the values do not exceed; they are sorted. 0 when
 * empty. */
uint64_t latency_quantile(const struct latency *latency, double share);
void latency_fini(struct latency *latency);

#endif
