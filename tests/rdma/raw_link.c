/* SPDX-License-Identifier: Apache-2.0 */
/* The RDMA of a raw client: a connection, and work requests as the test wants them. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/rdma/raw_link.h"

#define RESOLVE_MS 5000
#define ANSWER_MS  10000
#define RUN_MS	   10000
#define SPINS	   100
#define PAGE	   4096

int raw_hello(const struct raw_session *session, struct maas_wire_connect *ret_hello)
{
	size_t len;

	*ret_hello = (struct maas_wire_connect){
		.magic = htonl(MAAS_WIRE_MAGIC),
		.version = htons(MAAS_WIRE_VERSION),
	};
	if (sodium_hex2bin(ret_hello->ticket, sizeof(ret_hello->ticket), session->ticket,
			   strlen(session->ticket), NULL, &len, NULL))
		return -EINVAL;
	return len == sizeof(ret_hello->ticket) ? 0 : -EINVAL;
}

static void take_private_data(struct raw_link *link, const struct rdma_cm_event *event)
{
	const struct rdma_conn_param *param = &event->param.conn;
	struct maas_wire_accept accept;
	struct maas_wire_reject reject;

	if (event->event == RDMA_CM_EVENT_REJECTED) {
		if (param->private_data && param->private_data_len >= sizeof(reject)) {
			memcpy(&reject, param->private_data, sizeof(reject));
			if (ntohl(reject.magic) == MAAS_WIRE_MAGIC)
				link->reason = ntohs(reject.reason);
		}
	} else if (param->private_data && param->private_data_len >= sizeof(accept)) {
		memcpy(&accept, param->private_data, sizeof(accept));
		if (ntohl(accept.magic) == MAAS_WIRE_MAGIC &&
		    ntohs(accept.version) == MAAS_WIRE_VERSION)
			link->connection = ntohl(accept.connection);
	}
}

/* Waits for the next event, which must be `wanted`. */
static int expect(struct raw_link *link, enum rdma_cm_event_type wanted, int timeout_ms)
{
	struct pollfd pollfd = {.fd = link->events->fd, .events = POLLIN};
	struct rdma_cm_event *event;
	int err = 0;

	if (poll(&pollfd, 1, timeout_ms) != 1)
		return -ETIMEDOUT;
	if (rdma_get_cm_event(link->events, &event))
		return -errno;
	take_private_data(link, event);
	if (event->event == RDMA_CM_EVENT_REJECTED)
		err = -ECONNREFUSED;
	else if (event->event != wanted)
		err = -EHOSTUNREACH;
	rdma_ack_cm_event(event);
	return err;
}

static int resolve(struct raw_link *link, const struct raw_session *session)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(session->port)};
	int err;

	if (inet_pton(AF_INET, session->addr, &addr.sin_addr) != 1)
		return -EINVAL;
	link->events = rdma_create_event_channel();
	if (!link->events || rdma_create_id(link->events, &link->id, NULL, RDMA_PS_TCP) ||
	    rdma_resolve_addr(link->id, NULL, (struct sockaddr *)&addr, RESOLVE_MS))
		return -errno;
	err = expect(link, RDMA_CM_EVENT_ADDR_RESOLVED, RESOLVE_MS);
	if (err)
		return err;
	if (rdma_resolve_route(link->id, RESOLVE_MS))
		return -errno;
	return expect(link, RDMA_CM_EVENT_ROUTE_RESOLVED, RESOLVE_MS);
}

static int make_queues(struct raw_link *link, size_t len)
{
	struct ibv_qp_init_attr init = {.cap = {RAW_DEPTH, 1, 1, 1, 0}, .qp_type = IBV_QPT_RC};

	link->pd = ibv_alloc_pd(link->id->verbs);
	link->cq = link->pd ? ibv_create_cq(link->id->verbs, RAW_DEPTH + 1, NULL, NULL, 0) : NULL;
	link->len = (len + PAGE - 1) / PAGE * PAGE;
	link->bytes = link->cq ? aligned_alloc(PAGE, link->len) : NULL;
	if (!link->bytes)
		return -errno;
	memset(link->bytes, 0, link->len);
	link->mr = ibv_reg_mr(link->pd, link->bytes, link->len, IBV_ACCESS_LOCAL_WRITE);
	init.send_cq = init.recv_cq = link->cq;
	if (!link->mr || rdma_create_qp(link->id, link->pd, &init))
		return -errno;
	link->qp = link->id->qp;
	return 0;
}

static int request(struct raw_link *link, const void *hello, uint8_t hello_len)
{
	/* Of no queue pair; the kernel takes a number that it knows for a connection gone stale. */
	static uint32_t next_number = 0x800000;
	struct rdma_conn_param param = {
		.private_data = hello,
		.private_data_len = hello_len,
		.initiator_depth = 4,
		.retry_count = 7,
		.rnr_retry_count = 7,
		.qp_num = link->qp ? 0 : next_number++,
	};

	return rdma_connect(link->id, &param) ? -errno : 0;
}

int raw_ask(struct raw_link *link, const struct raw_session *session, const void *hello,
	    uint8_t hello_len, size_t len)
{
	int err;

	memset(link, 0, sizeof(*link));
	err = resolve(link, session);
	if (!err)
		err = make_queues(link, len);
	if (!err)
		err = request(link, hello, hello_len);
	if (err)
		raw_close(link);
	return err;
}

int raw_answer(struct raw_link *link)
{
	int err = expect(link, RDMA_CM_EVENT_ESTABLISHED, ANSWER_MS);

	if (err)
		raw_close(link);
	return err;
}

int raw_connect_with(struct raw_link *link, const struct raw_session *session, const void *hello,
		     uint8_t hello_len, size_t len)
{
	int err = raw_ask(link, session, hello, hello_len, len);

	return err ? err : raw_answer(link);
}

int raw_connect(struct raw_link *link, const struct raw_session *session, size_t len)
{
	struct maas_wire_connect hello;
	int err = raw_hello(session, &hello);

	return err ? err : raw_connect_with(link, session, &hello, sizeof(hello), len);
}

/* Without a queue pair of its own librdmacm leaves it to the caller to say "established". */
int raw_connect_halfway(struct raw_link *link, const struct raw_session *session)
{
	struct maas_wire_connect hello;
	int err = raw_hello(session, &hello);

	memset(link, 0, sizeof(*link));
	if (!err)
		err = resolve(link, session);
	if (!err)
		err = request(link, &hello, sizeof(hello));
	if (!err)
		err = expect(link, RDMA_CM_EVENT_CONNECT_RESPONSE, ANSWER_MS);
	if (err)
		raw_close(link);
	return err;
}

void raw_close(struct raw_link *link)
{
	uint16_t reason = link->reason;

	if (link->qp)
		rdma_destroy_qp(link->id);
	if (link->id)
		rdma_destroy_id(link->id);
	if (link->mr)
		ibv_dereg_mr(link->mr);
	free(link->bytes);
	if (link->cq)
		ibv_destroy_cq(link->cq);
	if (link->pd)
		ibv_dealloc_pd(link->pd);
	if (link->events)
		rdma_destroy_event_channel(link->events);
	memset(link, 0, sizeof(*link));
	link->reason = reason;
}

int raw_post(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	     uint32_t rkey, uint64_t id)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)link->bytes + at,
		.length = (uint32_t)len,
		.lkey = link->mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = id,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {.remote_addr = addr, .rkey = rkey},
	};
	struct ibv_send_wr *bad;

	return -ibv_post_send(link->qp, &wr, &bad);
}

/* Not always at full speed: the two processors may have the server and its softirqs to run. */
int raw_poll(struct raw_link *link, struct ibv_wc *ret_wc, unsigned int timeout_ms)
{
	uint64_t deadline_ms = maas_clock_ms() + timeout_ms;

	for (unsigned int i = 0;; i++) {
		if (ibv_poll_cq(link->cq, 1, ret_wc) == 1)
			return 1;
		if (i >= SPINS) {
			if (maas_clock_ms() >= deadline_ms)
				return 0;
			usleep(50);
		}
	}
}

int raw_run(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	    uint32_t rkey)
{
	struct ibv_wc wc;
	int err = raw_post(link, opcode, at, len, addr, rkey, 0);

	if (err)
		return err;
	return raw_poll(link, &wc, RUN_MS) ? (int)wc.status : -ETIMEDOUT;
}

void raw_break(struct raw_link *link)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	int err = ibv_modify_qp(link->qp, &attr, IBV_QP_STATE);

	if (err)
		fprintf(stderr, "a queue pair does not go to ERR: %s\n", strerror(err));
}
