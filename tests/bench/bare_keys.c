/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that 1,000 keys cost: windows on a queue pair that is connected with itself, or a
 * region each. What the server does beside is what bind_keys compares with this. One thread, no
 * lock.
 */
#include "tests/bench/bare_keys.h"

#include <sys/mman.h>

#include "rdma/internal.h"
#include "tests/bench/bench.h"
#include "tests/bench/queue_pair.h"

#define KEY_BYTES    1024
#define MEMORY_BYTES ((size_t)BARE_KEYS * KEY_BYTES)
#define DEPTH	     512
#define CHAIN	     256
#define REMOTE	     (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

static struct maas_rdma_device *device;
static struct ibv_pd *pd;
static char *memory;
static struct ibv_mr *mrs[BARE_KEYS];
/* Of windows alone. */
static struct ibv_mr *whole; /* that they are bound to; NULL: keys by regions */
static struct ibv_cq *cq;
static struct ibv_qp *qp;
static struct ibv_mw *mws[BARE_KEYS];
static uint32_t rkeys[BARE_KEYS];

/* ---- windows */

static void make_qp(void)
{
	struct ibv_qp_init_attr init = {.cap = {DEPTH, 1, 1, 1, 0}, .qp_type = IBV_QPT_RC};

	cq = ibv_create_cq(device->verbs, DEPTH, NULL, NULL, 0);
	need(cq, "ibv_create_cq");
	init.send_cq = init.recv_cq = cq;
	qp = ibv_create_qp(pd, &init);
	need(qp, "ibv_create_qp");
	need_0(queue_pair_connect(
		       qp,
		       (struct ibv_qp_attr){
			       .port_num = device->port,
			       .qp_access_flags =
				       IBV_ACCESS_LOCAL_WRITE | REMOTE | IBV_ACCESS_MW_BIND,
			       .path_mtu = device->port_attr.active_mtu,
			       .dest_qp_num = qp->qp_num,
			       .max_dest_rd_atomic = 1,
			       .max_rd_atomic = 1,
			       .min_rnr_timer = 1,
			       .timeout = 14,
			       .retry_cnt = 7,
			       .rnr_retry = 7,
			       .ah_attr = {.is_global = 1,
					   .grh = {.dgid = device->gid,
						   .sgid_index = (uint8_t)device->gid_index,
						   .hop_limit = 1},
					   .port_num = device->port},
		       }),
	       "a queue pair that is connected with itself");
}

/* Returns how many ended. */
static unsigned int poll_some(void)
{
	struct ibv_wc wcs[32];
	int got = ibv_poll_cq(cq, MAAS_ARRAY_SIZE(wcs), wcs);

	need_0(got < 0 ? EIO : 0, "ibv_poll_cq");
	for (int i = 0; i < got; i++)
		need_0(wcs[i].status == IBV_WC_SUCCESS ? 0 : EIO, "a window's bind or end");
	return (unsigned int)got;
}

static void fill_wr(unsigned int i, bool bind, struct ibv_send_wr *wr)
{
	*wr = (struct ibv_send_wr){.send_flags = IBV_SEND_SIGNALED};
	if (!bind) {
		/* By this key rxe finds the window when it is bound the next time. */
		mws[i]->rkey = rkeys[i];
		wr->opcode = IBV_WR_LOCAL_INV;
		wr->invalidate_rkey = rkeys[i];
		return;
	}
	rkeys[i] = ibv_inc_rkey(rkeys[i]);
	wr->opcode = IBV_WR_BIND_MW;
	wr->bind_mw.mw = mws[i];
	wr->bind_mw.rkey = rkeys[i];
	wr->bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = whole,
		.addr = (uintptr_t)memory + (uint64_t)i * KEY_BYTES,
		.length = KEY_BYTES,
		.mw_access_flags = REMOTE,
	};
}

/* Binds or invalidates all, in chains of one doorbell, the queue kept full. */
static void run_windows(bool bind)
{
	static struct ibv_send_wr wrs[CHAIN];
	unsigned int under_way = 0;
	unsigned int next = 0;

	while (next < BARE_KEYS || under_way) {
		struct ibv_send_wr *bad;
		unsigned int count = BARE_KEYS - next < CHAIN ? BARE_KEYS - next : CHAIN;

		if (!count || under_way + count > DEPTH) {
			under_way -= poll_some();
			continue;
		}
		for (unsigned int i = 0; i < count; i++) {
			fill_wr(next + i, bind, &wrs[i]);
			wrs[i].next = i + 1 < count ? &wrs[i + 1] : NULL;
		}
		need_0(ibv_post_send(qp, wrs, &bad), "ibv_post_send");
		next += count;
		under_way += count;
	}
}

static void make_windows(void)
{
	whole = ibv_reg_mr(pd, memory, MEMORY_BYTES, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	need(whole, "ibv_reg_mr");
	make_qp();
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		mws[i] = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		need(mws[i], "ibv_alloc_mw");
		rkeys[i] = mws[i]->rkey;
	}
}

static void close_windows(void)
{
	/* Before their queue pair. */
	for (unsigned int i = 0; i < BARE_KEYS; i++)
		need_0(ibv_dealloc_mw(mws[i]), "ibv_dealloc_mw");
	need_0(ibv_destroy_qp(qp), "ibv_destroy_qp");
	need_0(ibv_destroy_cq(cq), "ibv_destroy_cq");
	need_0(ibv_dereg_mr(whole), "ibv_dereg_mr");
}

/* ---- both */

void bare_keys_make(void)
{
	if (whole)
		return run_windows(true);
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		mrs[i] = ibv_reg_mr(pd, memory + (size_t)i * KEY_BYTES, KEY_BYTES,
				    IBV_ACCESS_LOCAL_WRITE | REMOTE);
		need(mrs[i], "ibv_reg_mr");
	}
}

void bare_keys_kill(void)
{
	if (whole)
		return run_windows(false);
	for (unsigned int i = 0; i < BARE_KEYS; i++)
		need_0(ibv_dereg_mr(mrs[i]), "ibv_dereg_mr");
}

void bare_keys_open(bool windows)
{
	char error[MAAS_RDMA_ERROR] = "";

	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	need(memory != MAP_FAILED, "mmap");
	need_0(maas_rdma_device_open(NULL, NULL, error, &device), error);
	pd = ibv_alloc_pd(device->verbs);
	need(pd, "ibv_alloc_pd");
	if (windows)
		make_windows();
}

void bare_keys_close(void)
{
	if (whole)
		close_windows();
	need_0(ibv_dealloc_pd(pd), "ibv_dealloc_pd");
	maas_rdma_device_close(device);
	munmap(memory, MEMORY_BYTES);
}
