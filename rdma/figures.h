/* SPDX-License-Identifier: Apache-2.0 */
/* figures: counters that the server's thread alone writes, and any thread reads. */
#ifndef MAAS_RDMA_FIGURES_H
#define MAAS_RDMA_FIGURES_H

#include <stdatomic.h>

#include "rdma/conn.h"

#define MAAS_RDMA_STATUSES (IBV_WC_TM_RNDV_INCOMPLETE + 1)
#define MAAS_RDMA_REASONS  8

struct maas_rdma_times {
	_Atomic uint64_t buckets[MAAS_LEND_KEY_BUCKETS + 1];
	_Atomic uint64_t sum_ns;
	/* Thread. */
	uint64_t last_ns;
	unsigned int last_bucket; /* its */
};

struct maas_rdma_figures {
	_Atomic uint64_t conns[MAAS_RDMA_CONN_STATES];
	struct maas_rdma_times bind;
	struct maas_rdma_times revoke;
	_Atomic uint64_t errors[MAAS_RDMA_STATUSES]; /* by enum ibv_wc_status */
	_Atomic uint64_t rejects[MAAS_RDMA_REASONS]; /* by enum maas_wire_reason */
};

/* With one writer, to add takes no locked instruction. */
static inline void maas_rdma_add(_Atomic uint64_t *figure, uint64_t more)
{
	atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + more,
			      memory_order_relaxed);
}

static inline void maas_rdma_count(_Atomic uint64_t *figure)
{
	maas_rdma_add(figure, 1);
}

static inline void maas_rdma_uncount(_Atomic uint64_t *figure)
{
	maas_rdma_add(figure, UINT64_MAX);
}

void maas_rdma_time_find(struct maas_rdma_times *times, uint64_t ns);

/* The keys of one chain take equally long. */
static inline void maas_rdma_time(struct maas_rdma_times *times, uint64_t ns)
{
	if (ns != times->last_ns)
		maas_rdma_time_find(times, ns);
	maas_rdma_count(&times->buckets[times->last_bucket]);
	maas_rdma_add(&times->sum_ns, ns);
}

/* All figures of the server. Threading: any thread. */
void maas_rdma_stats(struct maas_rdma *rdma, struct maas_lend_key_stats *ret_stats);

#endif
