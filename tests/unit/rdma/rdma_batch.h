/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of rdma: a request for many keys. */
#ifndef MAAS_TESTS_UNIT_RDMA_RDMA_BATCH_H
#define MAAS_TESTS_UNIT_RDMA_RDMA_BATCH_H

#include "tests/unit/rdma/rdma_thread.h"

enum { MAX_BATCH = 3 * MAAS_RDMA_STEP };

/* Of the newest batch. */
static struct maas_slab_ref refs[MAX_BATCH];
static struct maas_lend_key keys[MAX_BATCH];

static inline void start_batch_of(uint64_t size_bytes, const struct peer *one, uint32_t count,
				  struct told *end)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = size_bytes, .count = count, .session = one->session.id};
	struct maas_lend_allocation first;

	assert_int_equal(maas_lend_allocate_granted(server.lend, &request, MAAS_LEND_ACCESS_WRITE,
						    refs, &first, keys, tell, end),
			 -EINPROGRESS);
}

#endif
