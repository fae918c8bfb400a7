/* SPDX-License-Identifier: Apache-2.0 */
/* Queue pairs: their states, and what is posted on them. */
#include "tests/fake/fake_objects.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BITS 24
#define FIRST_QP    17

static struct fake_qp *qp_of(struct ibv_qp *verbs)
{
	return (struct fake_qp *)verbs;
}

/* ---- making and destroying */

struct fake_qp *fake_qp_find(uint32_t number)
{
	struct fake_qp *qp = fake.qps[number % FAKE_QPS];

	return qp && qp->verbs.qp_num == number ? qp : NULL;
}

/* Numbers come again only after all others. 0: there is none. */
static uint32_t new_number(void)
{
	for (uint32_t tries = 0; tries < FAKE_QPS; tries++) {
		uint32_t number = (FIRST_QP + fake.next_qp++) % (1u << NUMBER_BITS);

		if (number && !fake.qps[number % FAKE_QPS])
			return number;
	}
	return 0;
}

static bool can_be(const struct ibv_qp_init_attr *init)
{
	return init->qp_type == IBV_QPT_RC && init->send_cq && init->recv_cq &&
	       init->cap.max_send_wr <= (uint32_t)fake.rules.max_qp_wr &&
	       init->cap.max_send_sge <= FAKE_SGES && init->cap.max_inline_data <= FAKE_MAX_INLINE;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	FAKE_LOCKED();
	unsigned int depth = init->cap.max_send_wr ? init->cap.max_send_wr : 1;
	bool room = !fake.removed && fake.live.qps < (unsigned int)fake.rules.max_qp;
	uint32_t number = can_be(init) && room ? new_number() : 0;
	struct fake_qp *qp = fake_new(sizeof(*qp) + depth * sizeof(*qp->works), number);

	if (!qp)
		return fake_refuse(!can_be(init) ? EINVAL : fake.removed ? EIO : ENOMEM);
	qp->verbs.context = pd->context;
	qp->verbs.qp_context = init->qp_context;
	qp->verbs.pd = pd;
	qp->verbs.send_cq = init->send_cq;
	qp->verbs.recv_cq = init->recv_cq;
	qp->verbs.qp_type = init->qp_type;
	qp->verbs.state = IBV_QPS_RESET;
	qp->verbs.qp_num = number;
	qp->depth = depth;
	qp->max_inline = init->cap.max_inline_data;
	qp->sq_sig_all = init->sq_sig_all;
	fake.qps[number % FAKE_QPS] = qp;
	fake.live.qps++;
	((struct fake_pd *)pd)->objects++;
	((struct fake_cq *)init->send_cq)->qps++;
	((struct fake_cq *)init->recv_cq)->qps++;
	((struct fake_context *)pd->context)->objects++;
	return &qp->verbs;
}

static void forget_events(struct fake_qp *qp)
{
	struct fake_context *context = (struct fake_context *)qp->verbs.context;
	unsigned int kept = 0;

	if (qp->unacked)
		fake_fault("%u events not acknowledged: a real one would hang here", qp->unacked);
	for (unsigned int i = 0; i < context->num_events; i++) {
		const struct ibv_async_event *event = &context->events[i];

		if (event->element.qp == &qp->verbs)
			fake_count_down(context->verbs.async_fd);
		else
			context->events[kept++] = *event;
	}
	context->num_events = kept;
}

void fake_qp_destroy(struct ibv_qp *verbs)
{
	struct fake_qp *qp = qp_of(verbs);

	FAKE_LOCKED();
	fake_memory_forget(qp);
	forget_events(qp);
	fake.qps[verbs->qp_num % FAKE_QPS] = NULL;
	fake.live.qps--;
	((struct fake_pd *)verbs->pd)->objects--;
	((struct fake_cq *)verbs->send_cq)->qps--;
	((struct fake_cq *)verbs->recv_cq)->qps--;
	((struct fake_context *)verbs->context)->objects--;
	free(qp);
}

int ibv_destroy_qp(struct ibv_qp *verbs)
{
	int error = fake_end_error();

	if (!error)
		fake_qp_destroy(verbs);
	return error;
}

/* ---- states */

#define FROM(state) (1u << (state))

static bool may_go(enum ibv_qp_state from, enum ibv_qp_state to)
{
	static const unsigned int froms[IBV_QPS_UNKNOWN + 1] = {
		[IBV_QPS_INIT] = FROM(IBV_QPS_RESET) | FROM(IBV_QPS_INIT),
		[IBV_QPS_RTR] = FROM(IBV_QPS_INIT),
		[IBV_QPS_RTS] = FROM(IBV_QPS_RTR) | FROM(IBV_QPS_RTS),
		[IBV_QPS_ERR] = UINT_MAX,
	};

	return froms[to] & FROM(from);
}

int fake_qp_needed(enum ibv_qp_state to)
{
	static const int needed[IBV_QPS_UNKNOWN + 1] = {
		[IBV_QPS_INIT] = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
		[IBV_QPS_RTR] = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
		[IBV_QPS_RTS] = IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC,
	};

	return needed[to];
}

int fake_qp_modify(struct fake_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	enum ibv_qp_state from = qp->verbs.state;
	enum ibv_qp_state to = mask & IBV_QP_STATE ? attr->qp_state : from;

	if (to == IBV_QPS_RESET && from != IBV_QPS_RESET)
		fake_fault("a live queue pair goes to RESET: rxe crashes");
	if ((mask & IBV_QP_STATE) &&
	    (!may_go(from, to) || (from != to && fake_qp_needed(to) & ~mask)))
		return EINVAL;
	if (mask & IBV_QP_ACCESS_FLAGS)
		qp->access = attr->qp_access_flags;
	if (mask & IBV_QP_DEST_QPN)
		qp->peer = attr->dest_qp_num;
	if (mask & IBV_QP_TIMEOUT)
		qp->ack_timeout = attr->timeout;
	if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
		qp->max_reads = attr->max_rd_atomic;
	if (mask & IBV_QP_MAX_DEST_RD_ATOMIC)
		qp->max_dest_reads = attr->max_dest_rd_atomic;
	if (to == IBV_QPS_ERR)
		fake_qp_to_error(qp);
	else
		qp->verbs.state = to;
	return 0;
}

int ibv_modify_qp(struct ibv_qp *verbs, struct ibv_qp_attr *attr, int mask)
{
	bool ends = (mask & IBV_QP_STATE) && attr->qp_state == IBV_QPS_ERR;

	if (fake_due(ends ? FAKE_ENDS : FAKE_MAKES))
		return EIO;
	FAKE_LOCKED();
	if (fake.removed)
		return EIO;
	return fake_qp_modify(qp_of(verbs), attr, mask);
}

void fake_qp_to_error(struct fake_qp *qp)
{
	qp->verbs.state = IBV_QPS_ERR;
	fake_qp_run(qp);
}

unsigned int fake_num_qps(uint8_t ack_timeout)
{
	unsigned int count = 0;

	FAKE_LOCKED();
	for (uint32_t i = 0; i < FAKE_QPS; i++)
		if (fake.qps[i] && fake.qps[i]->verbs.state == IBV_QPS_RTS)
			count += fake.qps[i]->ack_timeout == ack_timeout;
	return count;
}

/* ---- what is posted */

struct fake_work *fake_qp_work(struct fake_qp *qp, uint64_t at)
{
	return &qp->works[at % qp->depth];
}

void fake_qp_complete(struct fake_qp *qp, enum ibv_wc_status status)
{
	static const enum ibv_wc_opcode completed[FAKE_OPCODES] = {
		[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
		[IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ,
		[IBV_WR_BIND_MW] = IBV_WC_BIND_MW,
		[IBV_WR_LOCAL_INV] = IBV_WC_LOCAL_INV,
	};
	const struct fake_work *work = fake_qp_work(qp, qp->run++);
	struct fake_completion completion = {
		.wc = {.wr_id = work->wr_id,
		       .status = status,
		       .opcode = completed[work->opcode],
		       .vendor_err = status ? 0x88 : 0,
		       .qp_num = qp->verbs.qp_num},
		.upto = qp->run,
	};
	bool signalled = work->flags & IBV_SEND_SIGNALED || qp->sq_sig_all;

	if (status == IBV_WC_WR_FLUSH_ERR && work->opcode == IBV_WR_LOCAL_INV &&
	    fake.rules.flush_applies)
		(void)fake_memory_invalidate(qp, work->rkey);
	/* A failure is always told. */
	if (signalled || status)
		fake_cq_add((struct fake_cq *)qp->verbs.send_cq, &completion);
}

static void run_one(struct fake_qp *qp)
{
	struct fake_work *work = fake_qp_work(qp, qp->run);
	enum ibv_wc_status status;

	if (fake.fail_times && fake.fail_opcode == work->opcode) {
		fake.fail_times--;
		status = fake.fail_status;
	} else {
		status = fake_work_run(qp, work);
	}
	fake_qp_complete(qp, status);
	if (status)
		qp->verbs.state = IBV_QPS_ERR;
}

void fake_qp_run(struct fake_qp *qp)
{
	if (fake.muted)
		return;
	while (qp->run < qp->tail && qp->verbs.state == IBV_QPS_RTS &&
	       !(fake.held_opcodes & FAKE_OP(fake_qp_work(qp, qp->run)->opcode)))
		run_one(qp);
	while (qp->run < qp->tail && qp->verbs.state == IBV_QPS_ERR)
		fake_qp_complete(qp, IBV_WC_WR_FLUSH_ERR);
}

static int copy_work(struct fake_qp *qp, const struct ibv_send_wr *wr, struct fake_work *work)
{
	uint8_t *to = work->inlined;
	size_t total = 0;

	*work = (struct fake_work){.wr_id = wr->wr_id,
				   .opcode = wr->opcode,
				   .flags = wr->send_flags,
				   .num_sges = (unsigned int)wr->num_sge,
				   .remote_addr = wr->wr.rdma.remote_addr,
				   .rkey = wr->wr.rdma.rkey};
	if (work->num_sges > FAKE_SGES || wr->opcode >= FAKE_OPCODES)
		return EINVAL;
	if (wr->opcode == IBV_WR_LOCAL_INV)
		work->rkey = wr->invalidate_rkey;
	if (wr->opcode == IBV_WR_BIND_MW) {
		if (wr->imm_data) /* so rxe's provider */
			return EINVAL;
		work->mw = wr->bind_mw.mw;
		work->mw_rkey = wr->bind_mw.mw->rkey;
		work->rkey = wr->bind_mw.rkey;
		work->bind = wr->bind_mw.bind_info;
	}
	for (unsigned int i = 0; i < work->num_sges; i++) {
		work->sges[i] = wr->sg_list[i];
		total += wr->sg_list[i].length;
	}
	if (!(work->flags & IBV_SEND_INLINE))
		return 0;
	if (total > qp->max_inline || wr->opcode == IBV_WR_RDMA_READ)
		return EINVAL;
	for (unsigned int i = 0; i < work->num_sges; i++) {
		memcpy(to, (const void *)(uintptr_t)wr->sg_list[i].addr, wr->sg_list[i].length);
		to += wr->sg_list[i].length;
	}
	return 0;
}

static int post(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
	int error;

	if (qp->verbs.state != IBV_QPS_RTS && qp->verbs.state != IBV_QPS_ERR)
		return EINVAL;
	if (qp->tail - qp->freed == qp->depth) {
		fake.counts.overflows++;
		return ENOMEM;
	}
	error = copy_work(qp, wr, fake_qp_work(qp, qp->tail));
	if (error)
		return error;
	qp->tail++;
	fake.counts.requests++;
	if (wr->send_flags & IBV_SEND_SIGNALED)
		fake.counts.signalled++;
	if (wr->send_flags & IBV_SEND_INLINE)
		fake.counts.inlined++;
	return 0;
}

int fake_post_send(struct ibv_qp *verbs, struct ibv_send_wr *wr, struct ibv_send_wr **ret_bad)
{
	struct fake_qp *qp = qp_of(verbs);
	int error = fake_due(FAKE_MAKES) ? ENOMEM : 0;

	if (error) {
		*ret_bad = wr;
		return error;
	}
	FAKE_LOCKED();
	fake.counts.doorbells++;
	for (; wr && !error; wr = error ? wr : wr->next)
		error = post(qp, wr);
	if (error)
		*ret_bad = wr;
	fake_qp_run(qp);
	return error;
}
