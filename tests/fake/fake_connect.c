/* SPDX-License-Identifier: Apache-2.0 */
/* From the address to the end of a connection, between two ids of this process. */
#include "tests/fake/fake_cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* ---- the way */

int rdma_resolve_addr(struct rdma_cm_id *cm, struct sockaddr *from, struct sockaddr *to,
		      int timeout_ms)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)to;
	bool is_ours = to->sa_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK);

	(void)from;
	(void)timeout_ms;
	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	if (!is_ours || fake.removed)
		return fake_fail(ENODEV);
	FAKE_LOCKED();
	memcpy(&cm->route.addr.dst_storage, to, sizeof(struct sockaddr_in));
	cm->verbs = &fake.cm.verbs;
	cm->port_num = 1;
	fake_cm_id_of(cm)->state = FAKE_CM_ADDRESSED;
	return fake_result(fake_cm_say(fake_cm_id_of(cm), RDMA_CM_EVENT_ADDR_RESOLVED, 0));
}

int rdma_resolve_route(struct rdma_cm_id *cm, int timeout_ms)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);

	(void)timeout_ms;
	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	if (id->state != FAKE_CM_ADDRESSED)
		return fake_fail(EINVAL);
	FAKE_LOCKED();
	id->state = FAKE_CM_ROUTED;
	return fake_result(fake_cm_say(id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0));
}

/* ---- queue pairs */

/* With the lock. */
static int move(struct fake_cm_id *id, enum ibv_qp_state state)
{
	const struct ibv_qp_attr attr = {
		.qp_state = state,
		.qp_access_flags = id->max_dest_reads
					   ? IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
						     IBV_ACCESS_REMOTE_ATOMIC
					   : IBV_ACCESS_REMOTE_WRITE,
		.dest_qp_num = id->peer ? id->peer->qp_num : 0,
		.max_dest_rd_atomic = id->max_dest_reads,
		.max_rd_atomic = id->max_reads,
		.timeout = id->ack_timeout,
	};

	if (state == IBV_QPS_RTR && !id->peer)
		return EINVAL;
	return fake_qp_modify((struct fake_qp *)id->cm.qp, &attr,
			      IBV_QP_STATE | fake_qp_needed(state));
}

/* As librdmacm does with a queue pair that it knows: all the way to RTS. */
static int bring_up(struct fake_cm_id *id, enum ibv_qp_state first)
{
	int error = 0;

	for (enum ibv_qp_state state = first; state <= IBV_QPS_RTS && !error; state++)
		error = move(id, state);
	return error;
}

int rdma_create_qp(struct rdma_cm_id *cm, struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);

	if (pd->context != cm->verbs || cm->qp)
		return fake_fail(EINVAL);
	cm->qp = ibv_create_qp(pd, init);
	if (!cm->qp)
		return -1;
	FAKE_LOCKED();
	id->qp_num = cm->qp->qp_num;
	return fake_result(move(id, IBV_QPS_INIT));
}

void rdma_destroy_qp(struct rdma_cm_id *cm)
{
	fake_qp_destroy(cm->qp);
	cm->qp = NULL;
}

/* ---- the request and its answer */

/* With the lock. */
static int request(struct fake_cm_id *id, const struct rdma_conn_param *param)
{
	struct fake_cm_id *listener = fake_cm_listener(fake_cm_port(&id->cm.route.addr.dst_addr));
	struct fake_cm_id *child;
	struct fake_cm_event *event;

	if (!listener)
		return fake_cm_say(id, RDMA_CM_EVENT_REJECTED, FAKE_CM_NO_LISTENER);
	child = fake_cm_child(listener);
	if (!child)
		return ENOMEM;
	if (fake_cm_tell(child, RDMA_CM_EVENT_CONNECT_REQUEST, 0, param->private_data,
			 param->private_data_len, FAKE_CM_REQUEST)) {
		fake_cm_free(child);
		return ENOMEM;
	}
	child->peer = id;
	id->peer = child;
	id->state = FAKE_CM_CONNECTING;
	child->ack_timeout = id->ack_timeout; /* it is in the request */
	id->max_reads = param->initiator_depth;
	id->max_dest_reads = param->responder_resources;
	event = TAILQ_LAST(&((struct fake_cm_channel *)child->cm.channel)->events, fake_cm_events);
	event->cm.listen_id = &listener->cm;
	/* The server must have room for as many requests as the client may have under way. */
	event->cm.param.conn.responder_resources = param->initiator_depth;
	event->cm.param.conn.initiator_depth = param->responder_resources;
	event->cm.param.conn.retry_count = param->retry_count;
	event->cm.param.conn.rnr_retry_count = param->rnr_retry_count;
	event->cm.param.conn.qp_num = id->qp_num;
	return 0;
}

int rdma_connect(struct rdma_cm_id *cm, struct rdma_conn_param *param)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);
	int error = EINVAL;

	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	FAKE_LOCKED();
	if (cm->qp && id->state == FAKE_CM_ROUTED && param->private_data_len <= FAKE_CM_REQUEST)
		error = request(id, param);
	return fake_result(error);
}

int rdma_accept(struct rdma_cm_id *cm, struct rdma_conn_param *param)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);
	int error;

	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	FAKE_LOCKED();
	if (id->state != FAKE_CM_CONNECTING || !id->peer || !cm->qp)
		return fake_fail(EINVAL);
	id->qp_num = cm->qp->qp_num;
	id->max_reads = param->initiator_depth;
	id->max_dest_reads = param->responder_resources;
	if (id->peer->max_reads > param->responder_resources)
		id->peer->max_reads = param->responder_resources;
	error = bring_up(id, IBV_QPS_INIT);
	if (!error)
		error = fake_cm_tell(id->peer, RDMA_CM_EVENT_CONNECT_RESPONSE, 0,
				     param->private_data, param->private_data_len, FAKE_CM_ACCEPT);
	if (!error)
		id->state = FAKE_CM_ACCEPTED;
	return fake_result(error);
}

int fake_cm_establish(struct fake_cm_id *id)
{
	int error = id->peer ? bring_up(id, IBV_QPS_RTR) : ECONNRESET;

	if (error)
		return -error;
	id->state = FAKE_CM_CONNECTED;
	id->peer->state = FAKE_CM_CONNECTED;
	return -fake_cm_say(id->peer, RDMA_CM_EVENT_ESTABLISHED, 0);
}

int rdma_reject(struct rdma_cm_id *cm, const void *data, uint8_t len)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);
	int error = EINVAL;

	FAKE_LOCKED();
	if (id->state == FAKE_CM_CONNECTING && id->peer) {
		error = fake_cm_tell(id->peer, RDMA_CM_EVENT_REJECTED, FAKE_CM_REFUSED, data, len,
				     FAKE_CM_REJECT);
		id->peer->peer = NULL;
		id->peer->state = FAKE_CM_ROUTED;
		id->peer = NULL;
		id->state = FAKE_CM_ENDED;
	}
	return fake_result(error);
}

/* ---- the end */

static void end(struct fake_cm_id *id)
{
	bool was_up = id->state == FAKE_CM_CONNECTED || id->state == FAKE_CM_ACCEPTED;

	id->state = FAKE_CM_ENDED;
	id->peer = NULL;
	if (was_up)
		fake_cm_say(id, RDMA_CM_EVENT_DISCONNECTED, 0);
}

void fake_cm_part(struct fake_cm_id *id)
{
	struct fake_cm_id *peer = id->peer;

	id->peer = NULL;
	if (!peer)
		return;
	if (peer->state == FAKE_CM_CONNECTING) {
		/* A request that nobody answers, or that nobody waits for. */
		peer->peer = NULL;
		fake_cm_say(peer, RDMA_CM_EVENT_REJECTED, FAKE_CM_NO_LISTENER);
	} else {
		end(peer);
	}
}

int rdma_disconnect(struct rdma_cm_id *cm)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);

	FAKE_LOCKED();
	/* librdmacm moves the queue pair that it knows. */
	if (cm->qp)
		fake_qp_to_error((struct fake_qp *)cm->qp);
	if (!id->peer || (id->state != FAKE_CM_CONNECTED && id->state != FAKE_CM_ACCEPTED))
		return fake_fail(EINVAL);
	fake_cm_part(id);
	end(id);
	return 0;
}
