/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection, from the ticket to its end: address, route, queue pair, the exchange of private
 * data, and the collecting of what was posted before the queue pair is destroyed. The transport's
 * thread connects and disconnects; `lock` guards what others see of the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/wire.h"
#include "client/rdma/internal.h"

#define RETRIES	    7 /* the most there is, of MAAS_WIRE_ACK_TIMEOUT each */
#define FLUSH_MS    1000
#define NO_LISTENER 8  /* "invalid service id", Table 108 of the InfiniBand specification */
#define EVENT_SLICE 50 /* ms: between looks at the deadlines of operations */

/* An attempt to connect; on success `conn` is the connection. */
struct attempt {
	struct maas_rdma_client *rdma;
	struct maas_rdma_client_conn conn;
	const struct maas_ticket *ticket;
	uint64_t deadline_ms;
};

/* ---- events */

static int fail_version(uint16_t version)
{
	return maas_fail(
		-EPROTO,
		"the server's RDMA speaks version %u, this libmaas version %u: upgrade the "
		"older one, or go by HTTP until then",
		ntohs(version), MAAS_WIRE_VERSION);
}

static int fail_reason(const struct rdma_cm_event *event)
{
	const struct maas_wire_reject *reject = event->param.conn.private_data;

	if (event->status == NO_LISTENER)
		return maas_fail(-ECONNREFUSED, "nothing listens at the server's RDMA address");
	if (!reject || event->param.conn.private_data_len < sizeof(*reject) ||
	    ntohl(reject->magic) != MAAS_WIRE_MAGIC)
		return maas_fail(-ECONNREFUSED, "the RDMA connection was refused, for reason %d",
				 event->status);
	switch (ntohs(reject->reason)) {
	case MAAS_WIRE_VERSION_UNKNOWN:
		return fail_version(reject->version);
	case MAAS_WIRE_TICKET_UNKNOWN:
		return maas_fail(-EAGAIN, "the server does not know the ticket");
	case MAAS_WIRE_DEVICE:
		return maas_fail(-ENODEV, "the way to the server leads to another device than the "
					  "one that it uses");
	case MAAS_WIRE_RESOURCES:
		return maas_fail(-ENOBUFS, "the server is short of RDMA resources");
	case MAAS_WIRE_ENDING:
		return maas_fail(-ESHUTDOWN, "the server or the session is ending");
	default:
		return maas_fail(-ECONNREFUSED, "the server refused the RDMA connection");
	}
}

static int fail_event(const struct rdma_cm_event *event)
{
	if (event->event == RDMA_CM_EVENT_REJECTED)
		return fail_reason(event);
	if (event->status == -ETIMEDOUT)
		return maas_fail(-ETIMEDOUT, "the server's RDMA address does not answer");
	if (event->event == RDMA_CM_EVENT_ADDR_ERROR || event->event == RDMA_CM_EVENT_ROUTE_ERROR)
		return maas_fail(event->status < 0 ? event->status : -EHOSTUNREACH,
				 "no RDMA device here leads to the server: %s",
				 rdma_event_str(event->event));
	return maas_fail(-EHOSTUNREACH, "no RDMA connection: %s, %d", rdma_event_str(event->event),
			 event->status);
}

/* Errors: -ETIMEDOUT, -ECANCELED the transport ends. */
static int await_event(struct attempt *attempt, struct rdma_cm_event **ret_event)
{
	struct pollfd fd = {.fd = attempt->conn.events->fd, .events = POLLIN};

	while (rdma_get_cm_event(attempt->conn.events, ret_event)) {
		if (errno != EAGAIN && errno != EINTR)
			return maas_fail(-errno, "no news of the RDMA connection: %s",
					 strerror(errno));
		if (atomic_load(&attempt->rdma->stop))
			return -ECANCELED;
		if (maas_clock_ms() >= attempt->deadline_ms)
			return maas_fail(-ETIMEDOUT, "the server's RDMA did not answer in time");
		maas_rdma_client_expire(attempt->rdma);
		poll(&fd, 1, EVENT_SLICE);
	}
	return 0;
}

static int await(struct attempt *attempt, enum rdma_cm_event_type wanted)
{
	struct rdma_cm_event *event;
	int r = await_event(attempt, &event);

	if (r)
		return r;
	if (event->event != wanted)
		r = fail_event(event);
	rdma_ack_cm_event(event);
	return r;
}

static int read_accept(const struct rdma_cm_event *event, uint32_t *ret_number)
{
	const struct maas_wire_accept *accept = event->param.conn.private_data;

	if (!accept || event->param.conn.private_data_len < sizeof(*accept) ||
	    ntohl(accept->magic) != MAAS_WIRE_MAGIC || !accept->connection)
		return maas_fail(-EPROTO, "what accepted the RDMA connection is no maasd");
	if (ntohs(accept->version) != MAAS_WIRE_VERSION)
		return fail_version(accept->version);
	*ret_number = ntohl(accept->connection);
	return 0;
}

static int await_accept(struct attempt *attempt)
{
	struct rdma_cm_event *event;
	int r = await_event(attempt, &event);

	if (r)
		return r;
	r = event->event == RDMA_CM_EVENT_ESTABLISHED ? read_accept(event, &attempt->conn.number)
						      : fail_event(event);
	rdma_ack_cm_event(event);
	return r;
}

/* ---- the steps of connecting */

static int fail_cm(const char *what)
{
	int error = errno ? errno : EIO;

	/* Errors of librdmacm when there is no device, or none with that address. */
	if (error == ENOENT || error == ENODEV || error == ENETUNREACH || error == EADDRNOTAVAIL)
		return maas_fail(-ENODEV, "no RDMA device here leads to the server: %s",
				 strerror(error));
	return maas_fail(-error, "cannot %s: %s", what, strerror(error));
}

static uint32_t left_ms(const struct attempt *attempt)
{
	uint64_t now_ms = maas_clock_ms();

	return now_ms < attempt->deadline_ms ? (uint32_t)(attempt->deadline_ms - now_ms) : 1;
}

static int resolve(struct attempt *attempt)
{
	struct maas_rdma_client_conn *conn = &attempt->conn;
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char port[8];
	int r;

	snprintf(port, sizeof(port), "%u", attempt->ticket->port);
	if (getaddrinfo(attempt->ticket->addr, port, &hints, &found))
		return maas_fail(-EPROTO, "\"%s\" is no address of a server",
				 attempt->ticket->addr);
	r = rdma_resolve_addr(conn->id, NULL, found->ai_addr, (int)left_ms(attempt));
	freeaddrinfo(found);
	if (r)
		return fail_cm("find the server's RDMA address");
	r = await(attempt, RDMA_CM_EVENT_ADDR_RESOLVED);
	if (r)
		return r;
	r = maas_rdma_client_device_use(attempt->rdma, conn->id);
	if (r)
		return r;
	if (rdma_resolve_route(conn->id, (int)left_ms(attempt)))
		return fail_cm("find the way to the server");
	return await(attempt, RDMA_CM_EVENT_ROUTE_RESOLVED);
}

/* Devices differ in how many bytes a work request can carry inline. The only way to know is to ask
 * for a size and be refused. */
static int make_qp(struct attempt *attempt)
{
	static const uint32_t sizes[] = {256, 96, 0};
	const struct maas_rdma_client_device *device = &attempt->rdma->device;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		struct ibv_qp_init_attr attr = {
			.send_cq = device->cq,
			.recv_cq = device->cq,
			.cap = {.max_send_wr = device->depth,
				.max_recv_wr = 1,
				.max_send_sge = 1,
				.max_recv_sge = 1,
				.max_inline_data = sizes[i]},
			.qp_type = IBV_QPT_RC,
		};

		if (!rdma_create_qp(attempt->conn.id, device->pd, &attr)) {
			attempt->conn.max_inline = attr.cap.max_inline_data;
			return 0;
		}
	}
	return fail_cm("make a queue pair");
}

static int read_ticket(const char *text, uint8_t bytes[MAAS_WIRE_TICKET])
{
	for (size_t i = 0; i < MAAS_WIRE_TICKET; i++) {
		char digits[3] = {text[2 * i], text[2 * i + 1]};
		char *end;

		bytes[i] = (uint8_t)strtoul(digits, &end, 16);
		if (end != digits + 2)
			return maas_fail(-EPROTO, "the server's ticket makes no sense");
	}
	return 0;
}

static int request(struct attempt *attempt)
{
	struct maas_wire_connect hello = {
		.magic = htonl(MAAS_WIRE_MAGIC),
		.version = htons(MAAS_WIRE_VERSION),
	};
	struct rdma_conn_param param = {
		.private_data = &hello,
		.private_data_len = sizeof(hello),
		.initiator_depth = (uint8_t)attempt->rdma->device.max_reads,
		.retry_count = RETRIES,
	};
	int r = read_ticket(attempt->ticket->text, hello.ticket);

	if (r)
		return r;
	if (rdma_connect(attempt->conn.id, &param))
		return fail_cm("connect");
	return await_accept(attempt);
}

/* ---- a connection's life */

void maas_rdma_client_break(struct maas_rdma_client *rdma)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	int error;

	if (!maas_rdma_client_up(rdma))
		return;
	atomic_store(&rdma->link, MAAS_LINK_BROKEN);
	error = ibv_modify_qp(rdma->conn.id->qp, &attr, IBV_QP_STATE);
	if (error)
		log_err("rdma: cannot end a queue pair's work: %s", strerror(error));
	maas_rdma_client_thread_wake(rdma);
}

static void check(int error, const char *what)
{
	if (error)
		log_err("rdma: cannot %s: %s", what, strerror(errno));
}

static void destroy(struct maas_rdma_client_conn *conn)
{
	if (conn->id && conn->id->qp)
		rdma_destroy_qp(conn->id);
	if (conn->id)
		check(rdma_destroy_id(conn->id), "destroy a connection");
	if (conn->events)
		rdma_destroy_event_channel(conn->events);
	*conn = (struct maas_rdma_client_conn){0};
}

static int dial(struct attempt *attempt)
{
	struct maas_rdma_client_conn *conn = &attempt->conn;
	uint8_t ack_timeout = MAAS_WIRE_ACK_TIMEOUT;
	int r;

	maas_rdma_client_claim();
	conn->events = rdma_create_event_channel();
	if (!conn->events)
		return fail_cm("reach librdmacm");
	if (fcntl(conn->events->fd, F_SETFL, O_NONBLOCK) ||
	    rdma_create_id(conn->events, &conn->id, NULL, RDMA_PS_TCP)) {
		r = fail_cm("begin a connection");
		goto err_destroy;
	}
	/* Kernels before 5.1 do not know the option: their connections notice later what breaks. */
	(void)rdma_set_option(conn->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
			      sizeof(ack_timeout));
	r = resolve(attempt);
	if (!r)
		r = make_qp(attempt);
	if (!r)
		r = request(attempt);
	if (r)
		goto err_destroy;
	return 0;

err_destroy:
	destroy(conn);
	return r;
}

/* A ticket, and until when it is waited for. */
struct ask {
	struct maas *maas;
	uint64_t deadline_ms;
	struct maas_ticket ticket;
};

static int ask_ticket(void *arg)
{
	struct ask *ask = arg;

	return maas_client_session_ticket(ask->maas, ask->deadline_ms, &ask->ticket);
}

int maas_rdma_client_connect(struct maas_rdma_client *rdma, uint64_t ticket_ms,
			     uint64_t deadline_ms)
{
	struct ask ask = {.maas = rdma->maas, .deadline_ms = ticket_ms};
	struct attempt attempt = {.rdma = rdma, .ticket = &ask.ticket};
	struct maas_rdma_client_task task;
	int r;

	maas_rdma_client_task_start(rdma, &task, ask_ticket, &ask);
	maas_rdma_client_task_join(&task);
	if (task.error)
		return maas_fail(task.error, "%s", task.words);
	if (!ask.ticket.port)
		return maas_fail(-EOPNOTSUPP, "the server at %s offers no RDMA at present",
				 rdma->maas->url.text);
	attempt.deadline_ms = maas_clock_ms() + rdma->maas->options.connect_timeout_ms;
	if (attempt.deadline_ms > deadline_ms)
		attempt.deadline_ms = deadline_ms;
	r = dial(&attempt);
	if (r)
		return r;
	maas_lock_take(&rdma->lock);
	rdma->conn = attempt.conn;
	atomic_store(&rdma->link, MAAS_LINK_UP);
	maas_lock_release(&rdma->lock);
	return 0;
}

/* With the role. Buffers are the callers' again only when their requests came back. */
static void collect(struct maas_rdma_client *rdma)
{
	uint64_t until_ms = maas_clock_ms() + FLUSH_MS;
	const struct timespec pause = {.tv_nsec = 1000000};

	for (;;) {
		maas_rdma_client_drain(rdma);
		if (!atomic_load(&rdma->posted))
			return;
		if (maas_clock_ms() >= until_ms)
			break;
		nanosleep(&pause, NULL);
	}
	log_warn("rdma: %u operations did not come back from their queue pair",
		 (unsigned int)(atomic_load(&rdma->posted) >> 32));
}

static void requeue_waiting(struct maas_rdma_client *rdma)
{
	struct maas_rdma_client_op *op;

	maas_lock_take(&rdma->lock);
	while ((op = TAILQ_FIRST(&rdma->waiting))) {
		TAILQ_REMOVE(&rdma->waiting, op, link);
		maas_rdma_client_op_todo(rdma, op);
	}
	atomic_store(&rdma->num_waiting, 0);
	maas_lock_release(&rdma->lock);
}

void maas_rdma_client_disconnect(struct maas_rdma_client *rdma)
{
	struct maas_rdma_client_conn conn;

	maas_lock_take(&rdma->lock);
	maas_rdma_client_break(rdma);
	conn = rdma->conn;
	maas_lock_release(&rdma->lock);
	if (!conn.id)
		return;
	maas_rdma_client_role_seize(rdma);
	collect(rdma);
	/* Tells the server, unless the server has disconnected first. */
	if (rdma_disconnect(conn.id) && errno != EINVAL && errno != ENOTCONN)
		log_debug("rdma: cannot disconnect: %s", strerror(errno));
	rdma_destroy_qp(conn.id);
	maas_rdma_client_flush(rdma);
	maas_rdma_client_role_put(rdma);
	maas_lock_take(&rdma->lock);
	memset(&rdma->conn, 0, sizeof(rdma->conn));
	maas_rdma_client_grants_fini(&rdma->grants);
	atomic_store(&rdma->link, MAAS_LINK_DOWN);
	maas_lock_release(&rdma->lock);
	requeue_waiting(rdma);
	destroy(&conn);
}

void maas_rdma_client_events(struct maas_rdma_client *rdma)
{
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;

	if (!rdma->conn.events)
		return;
	while (!rdma_get_cm_event(rdma->conn.events, &event)) {
		type = event->event;
		rdma_ack_cm_event(event);
		if (type != RDMA_CM_EVENT_DISCONNECTED && type != RDMA_CM_EVENT_DEVICE_REMOVAL)
			continue;
		maas_lock_take(&rdma->lock);
		maas_rdma_client_break(rdma);
		maas_lock_release(&rdma->lock);
	}
}

uint32_t maas_rdma_client_number(struct maas_rdma_client *rdma)
{
	uint32_t number;

	maas_lock_take(&rdma->lock);
	number = maas_rdma_client_up(rdma) ? rdma->conn.number : 0;
	maas_lock_release(&rdma->lock);
	return number;
}

void maas_rdma_client_broken(struct maas_rdma_client *rdma, uint32_t number)
{
	maas_lock_take(&rdma->lock);
	if (rdma->conn.number == number)
		maas_rdma_client_break(rdma);
	maas_lock_release(&rdma->lock);
}
