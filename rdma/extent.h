/* SPDX-License-Identifier: Apache-2.0 */
/* extent: the arena's regions, one for each extent (window and pool mode), and their thread. */
#ifndef MAAS_RDMA_EXTENT_H
#define MAAS_RDMA_EXTENT_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rdma/task.h"

enum maas_rdma_extent_state {
	MAAS_RDMA_EXTENT_NONE,
	MAAS_RDMA_EXTENT_ASKED,
	MAAS_RDMA_EXTENT_READY,
	MAAS_RDMA_EXTENT_FAILED,
};

struct maas_rdma_extent {
	enum maas_rdma_extent_state state;
	int error;
	uint64_t failed_ms;
	_Atomic(struct ibv_mr *) mr;	     /* once it is there it stays, for any thread */
	STAILQ_ENTRY(maas_rdma_extent) link; /* of those that are asked for */
	struct maas_rdma_task_list waiting;  /* sent when it is registered, or cannot be */
};

struct maas_rdma_extents {
	struct maas_rdma *rdma;
	uint64_t extent_bytes;
	uint32_t count;
	unsigned int access;
	bool running;
	pthread_t thread;
	_Atomic uint64_t registered_bytes;
	_Atomic uint64_t wanted_bytes;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	STAILQ_HEAD(, maas_rdma_extent) asked;
	bool stop;
	struct maas_rdma_extent extents[];
};

/* With `register_all` every extent is asked for at once. Errors: -ENOMEM, -EAGAIN. */
MAAS_MUST_CHECK int maas_rdma_extents_open(struct maas_rdma *rdma, bool register_all,
					   struct maas_rdma_extents **ret_extents);
/* Stops the thread; the regions stay until maas_rdma_extents_close(). Both allow NULL. */
void maas_rdma_extents_stop(struct maas_rdma_extents *extents);
/* No window is bound any more. */
void maas_rdma_extents_close(struct maas_rdma_extents *extents);
/* The region of the extent at `offset`; NULL: there is none yet. Threading: any thread. */
static inline struct ibv_mr *maas_rdma_extent_find(const struct maas_rdma_extents *extents,
						   uint64_t offset)
{
	const struct maas_rdma_extent *extent = &extents->extents[offset / extents->extent_bytes];

	return atomic_load_explicit(&extent->mr, memory_order_acquire);
}
/*
 * Has the extent registered, and sends `task` when that has ended, well or not. Errors: -ENOMEM and
 * what ibv_reg_mr(3) said a moment ago, once the log has named the limit of locked memory and its
 * remedies; -ESHUTDOWN. Threading: the server's thread.
 */
MAAS_MUST_CHECK int maas_rdma_extent_await(struct maas_rdma_extents *extents, uint64_t offset,
					   struct maas_rdma_task *task);
/* How much is registered, and how much is to be. Threading: any thread. */
void maas_rdma_extents_progress(const struct maas_rdma_extents *extents, uint64_t *ret_registered,
				uint64_t *ret_wanted);

#endif
