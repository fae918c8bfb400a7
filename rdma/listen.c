/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect: whoever brings the ticket of a session that lives, through our device. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <sodium.h>
#include <string.h>

#include "rdma/internal.h"

#define BACKLOG		256
#define REFUSAL(reason) MAAS_RATELIMIT(MAAS_LOG_WARN, "rdma: connection refused, " reason)

/* ---- the listener */

/* `addr` NULL: every address, of both families where the host has IPv6. */
static int bind_id(struct rdma_cm_id *id, const char *addr, uint16_t port)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_family = addr ? AF_UNSPEC : AF_INET6,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *info;
	char service[8];
	int r;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(addr, service, &hints, &info))
		return -EINVAL;
	r = rdma_bind_addr(id, info->ai_addr) ? -errno : 0;
	freeaddrinfo(info);
	if (!r || addr)
		return r;
	hints.ai_family = AF_INET;
	if (getaddrinfo(NULL, service, &hints, &info))
		return -EINVAL;
	r = rdma_bind_addr(id, info->ai_addr) ? -errno : 0;
	freeaddrinfo(info);
	return r;
}

int maas_rdma_listen_prepare(struct maas_rdma *rdma, char *error)
{
	int r;

	errno = 0;
	rdma->cm = rdma_create_event_channel();
	if (rdma->cm)
		return 0;
	r = errno ? -errno : -ENODEV;
	snprintf(error, MAAS_RDMA_ERROR,
		 "no connection manager (/dev/infiniband/rdma_cm): %s; load its module: "
		 "modprobe rdma_ucm",
		 strerror(-r));
	return r;
}

static struct maas_ratelimit unwatched = MAAS_RATELIMIT(MAAS_LOG_INFO, "rdma: cannot watch");

/*
 * Learns that the device is gone from an id that is bound to its address. A listener on every
 * address belongs to no device, and a driver that waits until nobody has the device open (rxe)
 * tells nobody else.
 */
void maas_rdma_listen_watch(struct maas_rdma *rdma)
{
	char addr[MAAS_RDMA_GID_TEXT];
	union ibv_gid gid;

	if (rdma->watch || *rdma->addr)
		return;
	if (!maas_rdma_device_address(rdma->device, NULL, &gid))
		gid = rdma->device->gid;
	maas_rdma_print_address(&gid, addr);
	if (rdma_create_id(rdma->cm, &rdma->watch, NULL, RDMA_PS_TCP)) {
		rdma->watch = NULL;
	} else if (bind_id(rdma->watch, addr, 0)) {
		rdma_destroy_id(rdma->watch);
		rdma->watch = NULL;
	}
	if (!rdma->watch)
		log_limited(&unwatched,
			    "rdma: cannot watch %s; its driver has to tell when it is gone", addr);
}

int maas_rdma_listen_open(struct maas_rdma *rdma, char *error)
{
	const char *addr = *rdma->addr ? rdma->addr : NULL;
	int r = 0;

	if (rdma_create_id(rdma->cm, &rdma->listener, NULL, RDMA_PS_TCP))
		r = -errno;
	if (!r)
		r = bind_id(rdma->listener, addr, rdma->options.port);
	if (!r && rdma_listen(rdma->listener, BACKLOG))
		r = -errno;
	if (r)
		snprintf(error, MAAS_RDMA_ERROR,
			 "cannot listen for RDMA on %s port %u: %s (--rdma-addr, --rdma-port)",
			 addr ? addr : "every address", rdma->options.port, strerror(-r));
	else
		rdma->port = be16toh(rdma_get_src_port(rdma->listener));
	if (!r)
		maas_rdma_listen_watch(rdma);
	if (!r && rdma->device->rank == MAAS_RDMA_RANK_LOCAL)
		log_warn("rdma: %s has link-local addresses only: who comes to the server at "
			 "another one goes by HTTP; give its interface an IP address",
			 maas_rdma_device_name(rdma->device));
	return r;
}

void maas_rdma_listen_end(struct maas_rdma *rdma)
{
	if (rdma->listener && rdma_destroy_id(rdma->listener))
		log_err("rdma: cannot close the listener: %s", strerror(errno));
	rdma->listener = NULL;
	if (rdma->watch && rdma_destroy_id(rdma->watch))
		log_err("rdma: cannot close the device's watch: %s", strerror(errno));
	rdma->watch = NULL;
}

void maas_rdma_listen_close(struct maas_rdma *rdma)
{
	maas_rdma_listen_end(rdma);
	if (rdma->cm)
		rdma_destroy_event_channel(rdma->cm);
	rdma->cm = NULL;
}

/* ---- requests */

static const char *const reasons[] = {
	[MAAS_WIRE_VERSION_UNKNOWN] = "not a libmaas client, or another protocol version",
	[MAAS_WIRE_TICKET_UNKNOWN] = "ticket wrong, stale or used before",
	[MAAS_WIRE_DEVICE] = "through another device",
	[MAAS_WIRE_RESOURCES] = "short of resources",
	[MAAS_WIRE_ENDING] = "ending",
};

/* One limit for each reason: a flood of one does not hide the others. */
static struct maas_ratelimit refusals[] = {
	[MAAS_WIRE_VERSION_UNKNOWN] = REFUSAL("version"),
	[MAAS_WIRE_TICKET_UNKNOWN] = REFUSAL("ticket"),
	[MAAS_WIRE_DEVICE] = REFUSAL("device"),
	[MAAS_WIRE_RESOURCES] = REFUSAL("resources"),
	[MAAS_WIRE_ENDING] = REFUSAL("ending"),
};

void maas_rdma_refuse(struct maas_rdma *rdma, struct rdma_cm_id *id, enum maas_wire_reason reason)
{
	const struct maas_wire_reject data = {
		.magic = htobe32(MAAS_WIRE_MAGIC),
		.version = htobe16(MAAS_WIRE_VERSION),
		.reason = htobe16((uint16_t)reason),
	};

	maas_rdma_count(&rdma->figures.rejects[reason]);
	if (rdma_reject(id, &data, sizeof(data)))
		log_debug("rdma: cannot refuse a connection: %s", strerror(errno));
}

static void reject(struct maas_rdma *rdma, struct rdma_cm_id *id, enum maas_wire_reason reason)
{
	log_limited(&refusals[reason], "rdma: connection refused reason=\"%s\"", reasons[reason]);
	maas_rdma_refuse(rdma, id, reason);
	if (rdma_destroy_id(id))
		log_err("rdma: cannot free a connection's id: %s", strerror(errno));
}

/* A request to connect, copied out of its event. */
struct request {
	struct rdma_cm_id *id;
	struct rdma_conn_param param;
	struct maas_wire_connect data;
	bool whole;
};

/* 0, or why not (enum maas_wire_reason). */
static int judge(struct maas_rdma *rdma, const struct request *request,
		 struct maas_lend_session_ref *ret_session)
{
	char ticket[2 * MAAS_WIRE_TICKET + 1];

	if (!request->whole || request->data.magic != htobe32(MAAS_WIRE_MAGIC) ||
	    request->data.version != htobe16(MAAS_WIRE_VERSION))
		return MAAS_WIRE_VERSION_UNKNOWN;
	if (!request->id->verbs || strcmp(ibv_get_device_name(request->id->verbs->device),
					  maas_rdma_device_name(rdma->device)) != 0)
		return MAAS_WIRE_DEVICE;
	if (atomic_load(&rdma->failed))
		return MAAS_WIRE_ENDING;
	sodium_bin2hex(ticket, sizeof(ticket), request->data.ticket, sizeof(request->data.ticket));
	if (maas_lend_ticket_redeem(rdma->lend, ticket, ret_session) ||
	    ret_session->index >= rdma->options.max_sessions)
		return MAAS_WIRE_TICKET_UNKNOWN;
	return 0;
}

static void on_request(struct maas_rdma *rdma, const struct request *request)
{
	struct maas_lend_session_ref session;
	int reason = judge(rdma, request, &session);

	if (!reason && maas_rdma_conn_open(rdma, request->id, session, &request->param))
		reason = MAAS_WIRE_RESOURCES;
	if (reason)
		reject(rdma, request->id, (enum maas_wire_reason)reason);
}

void maas_rdma_listen_failed(struct maas_rdma *rdma)
{
	if (atomic_exchange(&rdma->failed, true))
		return;
	log_err("rdma: the device is gone; HTTP goes on, RDMA needs a restart");
	maas_rdma_conns_end(rdma, "the device is gone");
}

bool maas_rdma_listen_run(struct maas_rdma *rdma)
{
	struct request request = {0};
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;
	struct maas_rdma_conn *conn;

	if (rdma_get_cm_event(rdma->cm, &event))
		return false;
	type = event->event;
	request.id = event->id;
	conn = event->id->context;
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		request.param = event->param.conn;
		request.whole = event->param.conn.private_data &&
				event->param.conn.private_data_len >= sizeof(request.data);
		if (request.whole)
			memcpy(&request.data, event->param.conn.private_data, sizeof(request.data));
		request.param.private_data = NULL;
	}
	/* An id can only be destroyed when its events were acknowledged. */
	if (rdma_ack_cm_event(event))
		log_err("rdma: cannot acknowledge an event: %s", strerror(errno));
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
		on_request(rdma, &request);
	else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL)
		maas_rdma_listen_failed(rdma);
	else if (conn && type == RDMA_CM_EVENT_ESTABLISHED)
		maas_rdma_conn_established(conn);
	else if (conn && type != RDMA_CM_EVENT_TIMEWAIT_EXIT)
		maas_rdma_conn_end(conn, rdma_event_str(type));
	return true;
}
