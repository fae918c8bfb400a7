/* SPDX-License-Identifier: Apache-2.0 */
/* What a work request does, and what a test does to work requests. */
#include "tests/fake/fake_objects.h"

#include <string.h>

/* ---- one-sided reads and writes */

static size_t length_of(const struct fake_work *work)
{
	size_t total = 0;

	for (unsigned int i = 0; i < work->num_sges; i++)
		total += work->sges[i].length;
	return total;
}

/* The other end goes down with it, as rxe and the standard have it. */
static enum ibv_wc_status refuse(struct fake_qp *peer)
{
	fake_qp_to_error(peer);
	fake_async(peer->verbs.context, IBV_EVENT_QP_ACCESS_ERR, peer);
	return IBV_WC_REM_ACCESS_ERR;
}

static enum ibv_wc_status move(struct fake_qp *qp, struct fake_work *work, char *remote)
{
	bool read = work->opcode == IBV_WR_RDMA_READ;
	uint8_t *inlined = work->inlined;

	for (unsigned int i = 0; i < work->num_sges; i++) {
		const struct ibv_sge *sge = &work->sges[i];
		void *local = inlined;

		if (work->flags & IBV_SEND_INLINE)
			inlined += sge->length;
		else
			local = fake_memory_local(qp, sge, read);
		if (read)
			memcpy(local, remote, sge->length);
		else
			memcpy(remote, local, sge->length);
		remote += sge->length;
	}
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status check_local(struct fake_qp *qp, const struct fake_work *work, size_t len)
{
	bool read = work->opcode == IBV_WR_RDMA_READ;

	if (len > fake.rules.max_msg_sz)
		return IBV_WC_LOC_LEN_ERR;
	for (unsigned int i = 0; i < work->num_sges; i++)
		if (!(work->flags & IBV_SEND_INLINE) && work->sges[i].length &&
		    !fake_memory_local(qp, &work->sges[i], read))
			return IBV_WC_LOC_PROT_ERR;
	if (read && !qp->max_reads) {
		fake_fault("a read on a queue pair that may have none under way: it would hang");
		return IBV_WC_LOC_QP_OP_ERR;
	}
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status run_data(struct fake_qp *qp, struct fake_work *work)
{
	bool read = work->opcode == IBV_WR_RDMA_READ;
	struct fake_qp *peer = fake_qp_find(qp->peer);
	size_t len = length_of(work);
	enum ibv_wc_status status = check_local(qp, work, len);
	void *remote;

	if (status)
		return status;
	if (!peer || peer->peer != qp->verbs.qp_num ||
	    (peer->verbs.state != IBV_QPS_RTR && peer->verbs.state != IBV_QPS_RTS))
		return IBV_WC_RETRY_EXC_ERR;
	if (read && !peer->max_dest_reads)
		return IBV_WC_REM_INV_REQ_ERR;
	if (!len) /* whatever the key is */
		return IBV_WC_SUCCESS;
	remote = fake_memory_remote(peer, work->remote_addr, len, work->rkey, !read);
	return remote ? move(qp, work, remote) : refuse(peer);
}

enum ibv_wc_status fake_work_run(struct fake_qp *qp, struct fake_work *work)
{
	switch (work->opcode) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_READ:
		return run_data(qp, work);
	case IBV_WR_BIND_MW:
		return fake_memory_bind(qp, work);
	case IBV_WR_LOCAL_INV:
		return fake_memory_invalidate(qp, work->rkey);
	default:
		return IBV_WC_LOC_QP_OP_ERR;
	}
}

/* ---- the test's hand */

static void run_all(void)
{
	for (uint32_t i = 0; i < FAKE_QPS; i++)
		if (fake.qps[i])
			fake_qp_run(fake.qps[i]);
}

void fake_hold(unsigned int opcodes)
{
	FAKE_LOCKED();
	fake.held_opcodes = opcodes;
	run_all();
}

void fake_release(void)
{
	fake_hold(0);
}

void fake_time_out(void)
{
	FAKE_LOCKED();
	for (uint32_t i = 0; i < FAKE_QPS; i++) {
		struct fake_qp *qp = fake.qps[i];

		if (!qp || qp->run == qp->tail)
			continue;
		fake_qp_complete(qp, IBV_WC_RETRY_EXC_ERR);
		fake_qp_to_error(qp);
	}
}

unsigned int fake_num_held(void)
{
	uint64_t count = 0;

	FAKE_LOCKED();
	for (uint32_t i = 0; i < FAKE_QPS; i++)
		if (fake.qps[i])
			count += fake.qps[i]->tail - fake.qps[i]->run;
	return (unsigned int)count;
}

void fake_mute(bool mute)
{
	FAKE_LOCKED();
	fake.muted = mute;
	run_all();
}

void fake_fail_few(enum ibv_wr_opcode opcode, enum ibv_wc_status status, unsigned int times)
{
	FAKE_LOCKED();
	fake.fail_times = times;
	fake.fail_opcode = opcode;
	fake.fail_status = status;
}

void fake_fail_next(enum ibv_wr_opcode opcode, enum ibv_wc_status status)
{
	fake_fail_few(opcode, status, 1);
}
