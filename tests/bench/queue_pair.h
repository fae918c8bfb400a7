/* SPDX-License-Identifier: Apache-2.0 */
/* A queue pair that is connected by hand, without librdmacm. Threading: one thread. */
#ifndef MAAS_BENCH_QUEUE_PAIR_H
#define MAAS_BENCH_QUEUE_PAIR_H

#include <infiniband/verbs.h>

/* From RESET to RTS; `attr` is for all steps. Errors: errno of ibv_modify_qp(3). */
static inline int queue_pair_connect(struct ibv_qp *qp, struct ibv_qp_attr attr)
{
	int error;

	attr.qp_state = IBV_QPS_INIT;
	error = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	attr.qp_state = IBV_QPS_RTR;
	if (!error)
		error = ibv_modify_qp(qp, &attr,
				      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
					      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
					      IBV_QP_MIN_RNR_TIMER);
	attr.qp_state = IBV_QPS_RTS;
	if (!error)
		error = ibv_modify_qp(qp, &attr,
				      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
					      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
					      IBV_QP_MAX_QP_RD_ATOMIC);
	return error;
}

#endif
