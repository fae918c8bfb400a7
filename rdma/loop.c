/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two queue pairs of this process, connected with each other: the self-test is its own client.
 * Owned by the thread that starts the server.
 */
#include <errno.h>
#include <string.h>

#include "rdma/internal.h"

#define QUEUE_DEPTH   4
#define COMPLETION_MS 1000
#define RETRY_TIMEOUT 14 /* 4.096 us << 14 = 67 ms a try: nothing is lost on a loopback */
#define RETRIES	      1
#define FIRST_PSN     0
#define MIN_RNR_TIMER 1

static int make_qp(struct ibv_pd *pd, struct ibv_cq *cq, struct ibv_qp **ret_qp)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq,
		.recv_cq = cq,
		.cap = {QUEUE_DEPTH, QUEUE_DEPTH, 1, 1, 0},
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp *qp = ibv_create_qp(pd, &init);

	if (!qp)
		return -errno;
	*ret_qp = qp;
	return 0;
}

static int to_init(const struct maas_rdma_device *device, struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = device->port,
		.qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND,
	};

	return -ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int to_ready(const struct maas_rdma_device *device, struct ibv_qp *qp, uint32_t peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = device->port_attr.active_mtu,
		.dest_qp_num = peer,
		.rq_psn = FIRST_PSN,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = MIN_RNR_TIMER,
		.ah_attr = {.is_global = 1,
			    .grh = {.dgid = device->gid,
				    .sgid_index = (uint8_t)device->gid_index,
				    .hop_limit = 1},
			    .port_num = device->port},
	};
	int err;

	err = -ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				     IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
	if (err)
		return err;
	attr.qp_state = IBV_QPS_RTS;
	attr.sq_psn = FIRST_PSN;
	attr.timeout = RETRY_TIMEOUT;
	attr.retry_cnt = RETRIES;
	attr.rnr_retry = RETRIES;
	attr.max_rd_atomic = 1;
	return -ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				      IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

int maas_rdma_loop_init(struct maas_rdma_device *device, struct ibv_pd *server_pd,
			struct ibv_pd *client_pd, struct maas_rdma_loop *loop)
{
	int err;

	memset(loop, 0, sizeof(*loop));
	loop->cq = ibv_create_cq(device->verbs, 2 * QUEUE_DEPTH, NULL, NULL, 0);
	if (!loop->cq)
		return -errno;
	err = make_qp(server_pd, loop->cq, &loop->server);
	if (!err)
		err = make_qp(client_pd, loop->cq, &loop->client);
	if (!err)
		err = to_init(device, loop->server);
	if (!err)
		err = to_init(device, loop->client);
	if (!err)
		err = to_ready(device, loop->server, loop->client->qp_num);
	if (!err)
		err = to_ready(device, loop->client, loop->server->qp_num);
	if (err)
		maas_rdma_loop_fini(loop);
	return err;
}

static void destroy_qp(struct ibv_qp *qp)
{
	int err = qp ? ibv_destroy_qp(qp) : 0;

	if (err)
		log_err("rdma: cannot destroy a queue pair: %s", strerror(err));
}

void maas_rdma_loop_fini(struct maas_rdma_loop *loop)
{
	int err;

	destroy_qp(loop->client);
	destroy_qp(loop->server);
	err = loop->cq ? ibv_destroy_cq(loop->cq) : 0;
	if (err)
		log_err("rdma: cannot destroy a completion queue: %s", strerror(err));
	memset(loop, 0, sizeof(*loop));
}

int maas_rdma_loop_run(struct maas_rdma_loop *loop, struct ibv_qp *qp, struct ibv_send_wr *wr)
{
	uint64_t deadline = maas_clock_ms() + COMPLETION_MS;
	struct ibv_send_wr *bad;
	struct ibv_wc wc;
	int n;

	wr->send_flags |= IBV_SEND_SIGNALED;
	n = ibv_post_send(qp, wr, &bad);
	if (n)
		return -n;
	for (;;) {
		n = ibv_poll_cq(loop->cq, 1, &wc);
		if (n < 0)
			return -EIO;
		/* The other end's requests fail too when the pair breaks: not ours to judge. */
		if (n == 1 && wc.qp_num == qp->qp_num)
			return (int)wc.status;
		if (n == 0 && maas_clock_ms() > deadline)
			return -ETIMEDOUT;
	}
}
