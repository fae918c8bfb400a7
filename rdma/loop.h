/* SPDX-License-Identifier: Apache-2.0 */
/* loop: two queue pairs of this process that are connected with each other, for the self-test. */
#ifndef MAAS_RDMA_LOOP_H
#define MAAS_RDMA_LOOP_H

#include <infiniband/verbs.h>

#include "rdma/rdma.h"

struct maas_rdma_loop {
	struct ibv_cq *cq; /* of both ends */
	struct ibv_qp *server;
	struct ibv_qp *client;
};

/*
 * Connects a queue pair in `server_pd` with one in `client_pd`; a remote peer may read and write on
 * the server's. Owns: the pair, until maas_rdma_loop_fini(), which accepts a half-built one;
 * windows are deallocated before it. Errors: -errno of the verbs calls.
 */
MAAS_MUST_CHECK int maas_rdma_loop_init(struct maas_rdma_device *device, struct ibv_pd *server_pd,
					struct ibv_pd *client_pd, struct maas_rdma_loop *loop);
void maas_rdma_loop_fini(struct maas_rdma_loop *loop);

/*
 * Posts one signalled request on `qp` and waits for its completion, a second at most. Returns the
 * completion's status (enum ibv_wc_status, 0 is success) or -errno (-ETIMEDOUT).
 */
MAAS_MUST_CHECK int maas_rdma_loop_run(struct maas_rdma_loop *loop, struct ibv_qp *qp,
				       struct ibv_send_wr *wr);

#endif
