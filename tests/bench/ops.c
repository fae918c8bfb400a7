/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small operations for count_ops.py to count: the same work requests through libmaas and by a bare
 * loop over verbs, on the fake device. Each measured_*() is one row: valgrind collects in them
 * alone, and writes a profile after each. One thread.
 */
#include <err.h>
#include <stdlib.h>

#include "client/maas.h"
#include "tests/bench/queue_pair.h"
#include "tests/unit/client/rdma_lan.h"

#define OPERATIONS 3200
#define DEPTH	   32 /* under way at once, where operations are submitted */
#define BATCH	   16 /* completions of one poll at most */
#define BYTES	   64

static struct {
	/* strcmp(3) takes the slower of its ways where the addresses of both texts, or'ed, are like
	 * one at the end of a page. */
	_Alignas(4096) struct maas_allocation memory;
	struct maas *maas;
	char bytes[BYTES];
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct ibv_qp *qps[2];
	char remote[BYTES];
} scene;

static void need(bool good, const char *what)
{
	if (!good)
		errx(1, "%s: %s", what, maas_error());
}

/* ---- the bare loop */

static void open_bare(void)
{
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_qp_init_attr init = {
		.cap = {.max_send_wr = DEPTH, .max_send_sge = 1, .max_inline_data = BYTES},
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp_attr attr = {
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
		.max_rd_atomic = DEPTH,
		.max_dest_rd_atomic = DEPTH,
	};

	scene.context = ibv_open_device(devices[0]);
	ibv_free_device_list(devices);
	scene.pd = ibv_alloc_pd(scene.context);
	scene.cq = ibv_create_cq(scene.context, 2 * DEPTH, NULL, NULL, 0);
	scene.mr = ibv_reg_mr(scene.pd, &scene, sizeof(scene),
			      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
				      IBV_ACCESS_REMOTE_READ);
	init.send_cq = init.recv_cq = scene.cq;
	for (int i = 0; i < 2; i++)
		scene.qps[i] = ibv_create_qp(scene.pd, &init);
	for (int i = 0; i < 2; i++) {
		attr.dest_qp_num = scene.qps[!i]->qp_num;
		need(!queue_pair_connect(scene.qps[i], attr), "a queue pair");
	}
}

static void close_bare(void)
{
	ibv_destroy_qp(scene.qps[0]);
	ibv_destroy_qp(scene.qps[1]);
	ibv_dereg_mr(scene.mr);
	ibv_destroy_cq(scene.cq);
	ibv_dealloc_pd(scene.pd);
	ibv_close_device(scene.context);
}

static void post(bool read)
{
	struct ibv_sge sge = {(uintptr_t)scene.bytes, BYTES, scene.mr->lkey};
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED | (read ? 0 : IBV_SEND_INLINE),
		.wr.rdma = {(uintptr_t)scene.remote, scene.mr->rkey},
	};
	struct ibv_send_wr *bad;

	need(!ibv_post_send(scene.qps[0], &wr, &bad), "post");
}

static void run_bare(bool read, unsigned int depth)
{
	struct ibv_wc wcs[BATCH];

	for (unsigned int sent = 0, done = 0; done < OPERATIONS;) {
		int n;

		for (; sent < OPERATIONS && sent - done < depth; sent++)
			post(read);
		n = ibv_poll_cq(scene.cq, BATCH, wcs);
		need(n >= 0, "poll");
		for (int i = 0; i < n; i++)
			need(wcs[i].status == IBV_WC_SUCCESS, "a completion");
		done += (unsigned int)n;
	}
}

/* ---- libmaas */

static void run_submitted(bool read)
{
	const struct maas_range range = {scene.memory.id, 0, scene.bytes, BYTES};
	static struct maas_completion completions[BATCH];

	for (unsigned int sent = 0, done = 0; done < OPERATIONS;) {
		int n;

		for (; sent < OPERATIONS && sent - done < DEPTH; sent++)
			need(!(read ? maas_submit_read : maas_submit_write)(scene.maas, &range, 1,
									    0, NULL),
			     "submit");
		n = maas_poll(scene.maas, completions, BATCH, 0);
		need(n >= 0, "poll");
		for (int i = 0; i < n; i++)
			need(!completions[i].status, "a completion");
		done += (unsigned int)n;
	}
}

static void run_synchronous(bool read)
{
	for (unsigned int i = 0; i < OPERATIONS; i++)
		need(!(read ? maas_read(scene.maas, scene.memory.id, 0, scene.bytes, BYTES)
			    : maas_write(scene.maas, scene.memory.id, 0, scene.bytes, BYTES)),
		     "an operation");
}

/* ---- the rows */

#define ROW(name, call)                                                                            \
	static __attribute__((noinline)) void measured_##name(void)                                \
	{                                                                                          \
		call;                                                                              \
	}

ROW(bare_submitted_write, run_bare(false, DEPTH))
ROW(maas_submitted_write, run_submitted(false))
ROW(bare_submitted_read, run_bare(true, DEPTH))
ROW(maas_submitted_read, run_submitted(true))
ROW(bare_synchronous_write, run_bare(false, 1))
ROW(maas_synchronous_write, run_synchronous(false))
ROW(bare_synchronous_read, run_bare(true, 1))
ROW(maas_synchronous_read, run_synchronous(true))

int main(void)
{
	struct maas_options options = {.size = sizeof(options), .transport = MAAS_TRANSPORT_RDMA};
	struct maas_buffer *buffer;

	lan_open(NULL, "mr");
	open_bare();
	options.url = lan_url();
	need(!maas_open(&options, &scene.maas), "open");
	need(!maas_alloc(scene.maas, BYTES, NULL, &scene.memory), "allocate");
	need(!maas_buffer_register(scene.maas, scene.bytes, BYTES, &buffer), "register");
	/* Not measured: what the first use of a path makes. */
	run_submitted(false);
	run_synchronous(true);
	measured_bare_submitted_write();
	measured_maas_submitted_write();
	measured_bare_submitted_read();
	measured_maas_submitted_read();
	measured_bare_synchronous_write();
	measured_maas_synchronous_write();
	measured_bare_synchronous_read();
	measured_maas_synchronous_read();
	maas_close(scene.maas);
	close_bare();
	lan_close();
	return 0;
}
