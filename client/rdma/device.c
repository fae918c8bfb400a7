/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lasts from connection to connection: the device, its protection domain, completion queue and
 * channel, and the slots. Made with the first connection, then constant.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/rdma/internal.h"

#define MAX_READS 16

/* The process that opened librdmacm's devices, which stay open for good; 0: none. */
static _Atomic pid_t opened_by;

void maas_rdma_client_claim(void)
{
	atomic_store(&opened_by, maas_process());
}

int maas_rdma_client_look(void)
{
	pid_t opener = atomic_load(&opened_by);
	struct ibv_device **list;
	int count = 0;

	if (opener && opener != maas_process())
		return maas_fail(-ENODEV, "RDMA was in use before this process was forked, and "
					  "cannot be used again in it before exec(2)");
	list = ibv_get_device_list(&count);
	if (list)
		ibv_free_device_list(list);
	return list && count > 0 ? 0 : maas_fail(-ENODEV, "this host has no RDMA device");
}

static int fail_make(const char *what)
{
	int error = errno ? errno : ENOMEM;

	return maas_fail(-error, "cannot make a %s: %s", what, strerror(error));
}

static uint32_t at_most(int device_limit, uint32_t wanted)
{
	return device_limit > 0 && (uint32_t)device_limit < wanted ? (uint32_t)device_limit
								   : wanted;
}

static int read_limits(struct maas_rdma_client_device *device, uint8_t port)
{
	struct ibv_device_attr attr;
	struct ibv_port_attr port_attr;
	int error;

	error = ibv_query_device(device->context, &attr);
	if (!error)
		error = ibv_query_port(device->context, port, &port_attr);
	if (error)
		return maas_fail(-error, "cannot ask the device for its limits: %s",
				 strerror(error));
	device->depth = at_most(attr.max_qp_wr, MAAS_RDMA_DEPTH);
	device->depth = at_most(attr.max_cqe - 1, device->depth);
	device->max_reads = at_most(attr.max_qp_init_rd_atom, MAX_READS);
	device->max_piece = MAAS_RDMA_PIECE;
	if (port_attr.max_msg_sz && port_attr.max_msg_sz < device->max_piece)
		device->max_piece = port_attr.max_msg_sz;
	return 0;
}

/* A failure and every request behind it have completions, signalled or not. */
static int make_queue(struct maas_rdma_client_device *device)
{
	device->channel = ibv_create_comp_channel(device->context);
	if (!device->channel)
		return fail_make("completion channel");
	if (fcntl(device->channel->fd, F_SETFL, O_NONBLOCK))
		return fail_make("completion channel");
	device->cq =
		ibv_create_cq(device->context, (int)device->depth + 1, NULL, device->channel, 0);
	return device->cq ? 0 : fail_make("completion queue");
}

/* What is the same in each chain of work requests. */
static int make_requests(struct maas_rdma_client_device *device)
{
	struct maas_rdma_client_request *requests = calloc(device->depth, sizeof(*requests));

	if (!requests)
		return maas_fail(-ENOMEM, "out of memory");
	for (uint32_t i = 0; i < device->depth; i++) {
		requests[i].wr.sg_list = &requests[i].sge;
		requests[i].wr.num_sge = 1;
	}
	device->requests = requests;
	return 0;
}

static int init(struct maas_rdma_client_device *device, struct rdma_cm_id *id)
{
	int r;

	device->context = id->verbs;
	r = read_limits(device, id->port_num);
	if (r)
		return r;
	/* Otherwise the first write to pinned memory after a fork(2) would give this process
	 * another page than the device has. */
	if (ibv_is_fork_initialized() == IBV_FORK_DISABLED && ibv_fork_init())
		return maas_fail(-EINVAL, "this kernel cannot keep pinned memory over fork(2), and "
					  "other code of this process uses RDMA already");
	device->pd = ibv_alloc_pd(device->context);
	if (!device->pd)
		return fail_make("protection domain");
	r = make_queue(device);
	if (!r)
		r = make_requests(device);
	return r ? r : maas_rdma_client_slots_init(&device->slots, device->pd);
}

int maas_rdma_client_device_use(struct maas_rdma_client *rdma, struct rdma_cm_id *id)
{
	int r;

	if (rdma->device.context == id->verbs)
		return 0;
	if (rdma->device.context)
		return maas_fail(-ENODEV, "the way to the server leads through another device now; "
					  "open a new handle");
	r = init(&rdma->device, id);
	if (r)
		maas_rdma_client_device_fini(&rdma->device);
	return r;
}

static void check(int error, const char *what)
{
	if (error)
		log_err("rdma: cannot destroy a %s: %s", what, strerror(error));
}

void maas_rdma_client_device_fini(struct maas_rdma_client_device *device)
{
	maas_rdma_client_slots_fini(&device->slots);
	free(device->requests);
	if (device->cq)
		check(ibv_destroy_cq(device->cq), "completion queue");
	if (device->channel)
		check(ibv_destroy_comp_channel(device->channel), "completion channel");
	if (device->pd)
		check(ibv_dealloc_pd(device->pd), "protection domain");
	*device = (struct maas_rdma_client_device){0};
}
