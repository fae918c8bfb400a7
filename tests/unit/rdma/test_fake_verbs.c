/* SPDX-License-Identifier: Apache-2.0 */
/* The fake itself: that it finds the faults and refuses what it is there for. What it does else
 * shows in the tests of rdma and of libmaas. */
#include "tests/fake/fake_verbs.h"
#include "tests/unit/unit.h"

#define BYTES 4096

/* Two queue pairs that are connected, and a region for each. */
static struct {
	struct ibv_device **list;
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *server;
	struct ibv_qp *client;
	struct ibv_mr *remote;
	struct ibv_mr *local;
	struct ibv_mw *mw;
	uint32_t rkey; /* the next one of the window */
	uint8_t remote_bytes[BYTES];
	uint8_t local_bytes[BYTES];
} pair;

static bool is_open;

static struct ibv_qp *new_qp(void)
{
	struct ibv_qp_init_attr init = {
		.send_cq = pair.cq,
		.recv_cq = pair.cq,
		.cap = {8, 1, 1, 1, 64},
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp *qp = ibv_create_qp(pair.pd, &init);

	assert_non_null(qp);
	return qp;
}

static void bring_up(struct ibv_qp *qp, const struct ibv_qp *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE,
		.dest_qp_num = peer->qp_num,
		.max_rd_atomic = 1,
		.max_dest_rd_atomic = 1,
	};
	const int init = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	const int rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	const int rts = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;

	assert_int_equal(ibv_modify_qp(qp, &attr, init), 0);
	attr.qp_state = IBV_QPS_RTR;
	assert_int_equal(ibv_modify_qp(qp, &attr, rtr), 0);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(ibv_modify_qp(qp, &attr, rts), 0);
}

static void open_pair(void)
{
	memset(&pair, 0, sizeof(pair));
	fake_verbs_start(NULL);
	pair.list = ibv_get_device_list(NULL);
	pair.verbs = ibv_open_device(pair.list[0]);
	pair.pd = ibv_alloc_pd(pair.verbs);
	pair.cq = ibv_create_cq(pair.verbs, 32, NULL, NULL, 0);
	pair.server = new_qp();
	pair.client = new_qp();
	bring_up(pair.server, pair.client);
	bring_up(pair.client, pair.server);
	pair.remote = ibv_reg_mr_iova(pair.pd, pair.remote_bytes, BYTES, 0,
				      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
					      IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND);
	pair.local = ibv_reg_mr(pair.pd, pair.local_bytes, BYTES, IBV_ACCESS_LOCAL_WRITE);
	pair.mw = ibv_alloc_mw(pair.pd, IBV_MW_TYPE_2);
	pair.rkey = ibv_inc_rkey(pair.mw->rkey);
	is_open = true;
}

static void close_pair(void)
{
	assert_int_equal(ibv_dealloc_mw(pair.mw), 0);
	assert_int_equal(ibv_destroy_qp(pair.client), 0);
	if (pair.server)
		assert_int_equal(ibv_destroy_qp(pair.server), 0);
	assert_int_equal(ibv_destroy_cq(pair.cq), 0);
	assert_int_equal(ibv_dereg_mr(pair.remote), 0);
	assert_int_equal(ibv_dereg_mr(pair.local), 0);
	assert_int_equal(ibv_dealloc_pd(pair.pd), 0);
	assert_int_equal(ibv_close_device(pair.verbs), 0);
	ibv_free_device_list(pair.list);
	is_open = false;
}

/* For tests that provoke so many faults. */
static void expect_faults(unsigned int faults)
{
	assert_int_equal(fake_faults(), faults);
	close_pair();
	assert_int_equal(fake_verbs_finish(), faults);
}

static void finish(void)
{
	if (is_open)
		expect_faults(0);
}

/* A write by the client. */
static int post(uint64_t at, uint32_t len, uint32_t rkey, unsigned int flags)
{
	struct ibv_sge sge = {(uintptr_t)pair.local_bytes, len, pair.local->lkey};
	struct ibv_send_wr wr = {
		.wr_id = at,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = flags,
		.wr.rdma = {at, rkey},
	};
	struct ibv_send_wr *bad;

	return ibv_post_send(pair.client, &wr, &bad);
}

static int write_at(uint64_t at, uint32_t len, uint32_t rkey)
{
	struct ibv_wc wc;

	assert_int_equal(post(at, len, rkey, IBV_SEND_SIGNALED), 0);
	assert_int_equal(ibv_poll_cq(pair.cq, 1, &wc), 1);
	return (int)wc.status;
}

static int on_server(struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	wr->send_flags = IBV_SEND_SIGNALED;
	assert_int_equal(ibv_post_send(pair.server, wr, &bad), 0);
	assert_int_equal(ibv_poll_cq(pair.cq, 1, &wc), 1);
	return (int)wc.status;
}

static int bind_window(uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw = {pair.mw, rkey, {pair.remote, 1024, 512, IBV_ACCESS_REMOTE_WRITE}},
	};
	int status = on_server(&wr);

	if (!status)
		pair.mw->rkey = rkey;
	return status;
}

static int invalidate(uint32_t rkey)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV, .invalidate_rkey = rkey};

	return on_server(&wr);
}

TEST(data__behind_the_end_breaks_both_ends)
{
	assert_int_equal(write_at(BYTES - 7, 8, pair.remote->rkey), IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(write_at(0, 8, pair.remote->rkey), IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(pair.server->state, IBV_QPS_ERR);
}

TEST(queue__takes_as_much_as_it_is_deep)
{
	struct ibv_wc wc;

	/* Done, but not known to be: a request that is not signalled keeps its place. */
	for (int i = 0; i < 8; i++)
		assert_int_equal(post(0, 1, pair.remote->rkey, i == 7 ? IBV_SEND_SIGNALED : 0), 0);
	assert_int_equal(post(0, 1, pair.remote->rkey, 0), ENOMEM);
	assert_int_equal(ibv_poll_cq(pair.cq, 1, &wc), 1);
	assert_int_equal(ibv_poll_cq(pair.cq, 1, &wc), 0);
	assert_int_equal(post(0, 1, pair.remote->rkey, 0), 0);
	assert_int_equal(fake_counts().overflows, 1);
}

TEST(window__opens_its_range_until_invalidated)
{
	assert_int_equal(bind_window(pair.rkey), 0);
	assert_int_equal(write_at(1024, 512, pair.rkey), 0);
	assert_int_equal(ibv_dereg_mr(pair.remote), EINVAL); /* a fault */
	assert_int_equal(invalidate(pair.rkey), 0);
	assert_int_equal(write_at(1024, 1, pair.rkey), IBV_WC_REM_ACCESS_ERR);
	expect_faults(1);
}

TEST(window__key_comes_again)
{
	for (int i = 0; i < 256; i++) {
		assert_int_equal(bind_window(pair.rkey), 0);
		assert_int_equal(invalidate(pair.rkey), 0);
		pair.rkey = ibv_inc_rkey(pair.rkey);
	}
	assert_int_equal(fake_faults(), 0);
	assert_int_equal(bind_window(pair.rkey), 0);
	expect_faults(1);
}

TEST(window__bound_twice_breaks_the_queue_pair)
{
	assert_int_equal(bind_window(pair.rkey), 0);
	assert_int_equal(bind_window(ibv_inc_rkey(pair.rkey)), IBV_WC_MW_BIND_ERR);
	assert_int_equal(invalidate(pair.rkey), IBV_WC_WR_FLUSH_ERR);
}

TEST(window__is_bound_again_by_the_key_that_it_has)
{
	const uint32_t first = pair.mw->rkey;

	assert_int_equal(bind_window(pair.rkey), 0);
	assert_int_equal(invalidate(pair.rkey), 0);
	pair.mw->rkey = first;
	assert_int_equal(bind_window(ibv_inc_rkey(pair.rkey)), IBV_WC_MW_BIND_ERR);
}

TEST(window__outlives_its_queue_pair)
{
	assert_int_equal(bind_window(pair.rkey), 0);
	assert_int_equal(ibv_destroy_qp(pair.server), 0);
	pair.server = NULL;
	expect_faults(1);
}

TEST(queue_pair__to_reset)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	assert_int_equal(ibv_modify_qp(pair.client, &attr, IBV_QP_STATE), EINVAL);
	expect_faults(1);
}

TEST(order__of_destruction)
{
	assert_int_equal(ibv_destroy_cq(pair.cq), EBUSY);
	assert_int_equal(ibv_dealloc_pd(pair.pd), EBUSY);
	expect_faults(2);
}

TEST_MAIN(open_pair, finish)
