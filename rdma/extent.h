/* SPDX-License-Identifier: Apache-2.0 */
/* extent: the arena's regions, one for each extent (window and pool mode), and their thread. */
#ifndef MAAS_RDMA_EXTENT_H
#define MAAS_RDMA_EXTENT_H

#include <infiniband/verbs.h>

#include "rdma/task.h"

struct maas_rdma_extents;

/* With `register_all` every extent is asked for at once. Errors: -ENOMEM, -EAGAIN. */
MAAS_MUST_CHECK int maas_rdma_extents_open(struct maas_rdma *rdma, bool register_all,
					   struct maas_rdma_extents **ret_extents);
/* Stops the thread; the regions stay until maas_rdma_extents_close(). Both allow NULL. */
void maas_rdma_extents_stop(struct maas_rdma_extents *extents);
/* No window is bound any more. */
void maas_rdma_extents_close(struct maas_rdma_extents *extents);
/* The region of the extent at `offset`; NULL: there is none yet. Threading: any thread. */
struct ibv_mr *maas_rdma_extent_find(const struct maas_rdma_extents *extents, uint64_t offset);
/*
 * The same; NULL with -EINPROGRESS: it is being registered, and `task` is sent when that has ended,
 * well or not. NULL with another error: -ENOMEM and what ibv_reg_mr(3) said, once the log has named
 * the limit of locked memory and its remedies. Threading: the server's thread.
 */
struct ibv_mr *maas_rdma_extent_get(struct maas_rdma_extents *extents, uint64_t offset,
				    struct maas_rdma_task *task, int *ret_error);
/* How much is registered, and how much is to be. Threading: any thread. */
void maas_rdma_extents_progress(const struct maas_rdma_extents *extents, uint64_t *ret_registered,
				uint64_t *ret_wanted);

#endif
