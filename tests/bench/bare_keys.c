/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that 1,000 keys cost: windows on a queue pair that is connected with itself, or a
 * region each. What the server does beside is what bind_keys compares with this. One thread, no
 * lock.
 */
#include "tests/bench/bare_keys.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rdma/internal.h"

#define KEY_BYTES    1024
#define MEMORY_BYTES ((size_t)BARE_KEYS * KEY_BYTES)
#define DEPTH	     512
#define CHAIN	     256

struct bare_keys {
	bool windows;
	struct maas_rdma_device *device;
	struct ibv_pd *pd;
	char *memory;
	struct ibv_mr *whole; /* that the windows are bound to */
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mw *mws[BARE_KEYS];
	uint32_t rkeys[BARE_KEYS];
	struct ibv_mr *mrs[BARE_KEYS];
};

/* ---- a queue pair that is connected with itself */

static int connect_qp(const struct bare_keys *keys)
{
	const struct maas_rdma_device *device = keys->device;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = device->port,
		.qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND,
		.path_mtu = device->port_attr.active_mtu,
		.dest_qp_num = keys->qp->qp_num,
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
	};
	int err =
		ibv_modify_qp(keys->qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);

	attr.qp_state = IBV_QPS_RTR;
	if (!err)
		err = ibv_modify_qp(keys->qp, &attr,
				    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
					    IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
					    IBV_QP_MIN_RNR_TIMER);
	attr.qp_state = IBV_QPS_RTS;
	if (!err)
		err = ibv_modify_qp(keys->qp, &attr,
				    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
					    IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
					    IBV_QP_MAX_QP_RD_ATOMIC);
	return -err;
}

static int make_qp(struct bare_keys *keys)
{
	struct ibv_qp_init_attr init = {
		.cap = {DEPTH, 1, 1, 1, 0},
		.qp_type = IBV_QPT_RC,
	};

	keys->cq = ibv_create_cq(keys->device->verbs, DEPTH, NULL, NULL, 0);
	if (!keys->cq)
		return -errno;
	init.send_cq = keys->cq;
	init.recv_cq = keys->cq;
	keys->qp = ibv_create_qp(keys->pd, &init);
	return keys->qp ? connect_qp(keys) : -errno;
}

/* ---- windows */

static int poll_some(const struct bare_keys *keys, unsigned int *under_way)
{
	struct ibv_wc wcs[32];
	int got = ibv_poll_cq(keys->cq, MAAS_ARRAY_SIZE(wcs), wcs);

	for (int i = 0; i < got; i++)
		if (wcs[i].status != IBV_WC_SUCCESS)
			return -EIO;
	*under_way -= (unsigned int)(got > 0 ? got : 0);
	return got < 0 ? -EIO : 0;
}

static void fill_wr(struct bare_keys *keys, unsigned int i, bool bind, struct ibv_send_wr *wr)
{
	*wr = (struct ibv_send_wr){.send_flags = IBV_SEND_SIGNALED};
	if (!bind) {
		/* By this key rxe finds the window when it is bound the next time. */
		keys->mws[i]->rkey = keys->rkeys[i];
		wr->opcode = IBV_WR_LOCAL_INV;
		wr->invalidate_rkey = keys->rkeys[i];
		return;
	}
	keys->rkeys[i] = ibv_inc_rkey(keys->rkeys[i]);
	wr->opcode = IBV_WR_BIND_MW;
	wr->bind_mw.mw = keys->mws[i];
	wr->bind_mw.rkey = keys->rkeys[i];
	wr->bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = keys->whole,
		.addr = (uintptr_t)keys->memory + (uint64_t)i * KEY_BYTES,
		.length = KEY_BYTES,
		.mw_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE,
	};
}

/* Binds or invalidates all, in chains of one doorbell, the queue kept full. */
static int run_windows(struct bare_keys *keys, bool bind)
{
	static struct ibv_send_wr wrs[CHAIN];
	unsigned int under_way = 0;
	unsigned int next = 0;
	int r = 0;

	while (!r && (next < BARE_KEYS || under_way)) {
		struct ibv_send_wr *bad;
		unsigned int count = BARE_KEYS - next < CHAIN ? BARE_KEYS - next : CHAIN;

		if (!count || under_way + count > DEPTH) {
			r = poll_some(keys, &under_way);
			continue;
		}
		for (unsigned int i = 0; i < count; i++) {
			fill_wr(keys, next + i, bind, &wrs[i]);
			wrs[i].next = i + 1 < count ? &wrs[i + 1] : NULL;
		}
		r = -ibv_post_send(keys->qp, wrs, &bad);
		next += count;
		under_way += count;
	}
	return r;
}

static int make_windows(struct bare_keys *keys)
{
	int r;

	keys->whole = ibv_reg_mr(keys->pd, keys->memory, MEMORY_BYTES,
				 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	if (!keys->whole)
		return -errno;
	r = make_qp(keys);
	for (unsigned int i = 0; i < BARE_KEYS && !r; i++) {
		keys->mws[i] = ibv_alloc_mw(keys->pd, IBV_MW_TYPE_2);
		if (!keys->mws[i])
			return -errno;
		keys->rkeys[i] = keys->mws[i]->rkey;
	}
	return r;
}

/* ---- regions */

static int register_all(struct bare_keys *keys)
{
	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		keys->mrs[i] = ibv_reg_mr(keys->pd, keys->memory + (size_t)i * KEY_BYTES, KEY_BYTES,
					  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
						  IBV_ACCESS_REMOTE_WRITE);
		if (!keys->mrs[i])
			return -errno;
	}
	return 0;
}

static int deregister_all(struct bare_keys *keys)
{
	int err = 0;

	for (unsigned int i = 0; i < BARE_KEYS; i++) {
		if (keys->mrs[i] && !err)
			err = ibv_dereg_mr(keys->mrs[i]);
		keys->mrs[i] = NULL;
	}
	return -err;
}

/* ---- both */

int bare_keys_make(struct bare_keys *keys)
{
	return keys->windows ? run_windows(keys, true) : register_all(keys);
}

int bare_keys_kill(struct bare_keys *keys)
{
	return keys->windows ? run_windows(keys, false) : deregister_all(keys);
}

int bare_keys_open(bool windows, struct bare_keys **ret_keys)
{
	struct bare_keys *keys = calloc(1, sizeof(*keys));
	char error[MAAS_RDMA_ERROR];
	int r;

	if (!keys)
		return -ENOMEM;
	*ret_keys = keys;
	keys->windows = windows;
	keys->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (keys->memory == MAP_FAILED) {
		keys->memory = NULL;
		return -errno;
	}
	r = maas_rdma_device_open(NULL, NULL, error, &keys->device);
	if (r)
		return r;
	keys->pd = ibv_alloc_pd(keys->device->verbs);
	if (!keys->pd)
		return -errno;
	return windows ? make_windows(keys) : 0;
}

static void check(const char *what, int err)
{
	if (err)
		log_err("%s: %s", what, strerror(err));
}

void bare_keys_close(struct bare_keys *keys)
{
	if (!keys)
		return;
	check("deregister", -deregister_all(keys));
	/* Windows before their queue pair. */
	for (unsigned int i = 0; i < BARE_KEYS; i++)
		if (keys->mws[i])
			check("ibv_dealloc_mw", ibv_dealloc_mw(keys->mws[i]));
	if (keys->qp)
		check("ibv_destroy_qp", ibv_destroy_qp(keys->qp));
	if (keys->cq)
		check("ibv_destroy_cq", ibv_destroy_cq(keys->cq));
	if (keys->whole)
		check("ibv_dereg_mr", ibv_dereg_mr(keys->whole));
	if (keys->pd)
		check("ibv_dealloc_pd", ibv_dealloc_pd(keys->pd));
	maas_rdma_device_close(keys->device);
	if (keys->memory)
		munmap(keys->memory, MEMORY_BYTES);
	free(keys);
}
