/* SPDX-License-Identifier: Apache-2.0 */
/* Channels, ids, events. */
#include "tests/fake/fake_cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/wire.h"

#define FIRST_PORT 20000
#define VERSION_AT offsetof(struct maas_wire_connect, version) /* and in the answers */

static TAILQ_HEAD(, fake_cm_id) ids = TAILQ_HEAD_INITIALIZER(ids);
static uint16_t last_port = FIRST_PORT;

static struct fake_cm_channel *channel_of(struct rdma_event_channel *cm)
{
	return (struct fake_cm_channel *)cm;
}

/* ---- channels */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct fake_cm_channel *channel = fake_new(sizeof(*channel), true);

	fake_init();
	if (!channel)
		return NULL;
	TAILQ_INIT(&channel->events);
	channel->cm.fd = fake_count_fd();
	FAKE_LOCKED();
	fake.live.event_channels++;
	return &channel->cm;
}

void rdma_destroy_event_channel(struct rdma_event_channel *cm)
{
	struct fake_cm_channel *channel = channel_of(cm);

	FAKE_LOCKED();
	if (channel->ids)
		fake_fault("a channel of %u ids", channel->ids);
	fake.live.event_channels--;
	close(cm->fd);
	free(channel);
}

/* ---- ids */

static struct fake_cm_id *new_id(struct fake_cm_channel *channel)
{
	struct fake_cm_id *id = calloc(1, sizeof(*id));

	if (!id)
		return NULL;
	id->cm.channel = &channel->cm;
	id->cm.ps = RDMA_PS_TCP;
	id->cm.qp_type = IBV_QPT_RC;
	id->ack_timeout = FAKE_ACK_TIMEOUT;
	channel->ids++;
	fake.live.ids++;
	TAILQ_INSERT_TAIL(&ids, id, link);
	return id;
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret_id, void *context,
		   enum rdma_port_space ps)
{
	struct fake_cm_id *id;

	if (fake_due(FAKE_MAKES) || fake.rules.no_device)
		return fake_fail(fake.rules.no_device ? ENODEV : ENOMEM);
	FAKE_LOCKED();
	id = new_id(channel_of(channel));
	if (!id)
		return fake_fail(ENOMEM);
	id->cm.context = context;
	id->cm.ps = ps;
	*ret_id = &id->cm;
	return 0;
}

int rdma_set_option(struct rdma_cm_id *cm, int level, int name, void *value, size_t len)
{
	if (fake.rules.no_ack_timeout)
		return fake_fail(ENOSYS);
	if (level != RDMA_OPTION_ID || name != RDMA_OPTION_ID_ACK_TIMEOUT || len != 1)
		return fake_fail(EINVAL);
	FAKE_LOCKED();
	fake_cm_id_of(cm)->ack_timeout = *(uint8_t *)value;
	return 0;
}

struct fake_cm_id *fake_cm_child(struct fake_cm_id *listener)
{
	struct fake_cm_id *id = new_id(channel_of(listener->cm.channel));

	if (!id)
		return NULL;
	id->cm.context = listener->cm.context;
	id->cm.verbs = &fake.cm.verbs;
	id->cm.port_num = 1;
	id->cm.route.addr.src_storage = listener->cm.route.addr.src_storage;
	id->port = listener->port;
	id->state = FAKE_CM_CONNECTING;
	return id;
}

void fake_cm_free(struct fake_cm_id *id)
{
	channel_of(id->cm.channel)->ids--;
	fake.live.ids--;
	TAILQ_REMOVE(&ids, id, link);
	free(id);
}

/* Requests that nobody took go with the listener. */
static void drop_requests(const struct fake_cm_id *listener)
{
	struct fake_cm_id *id, *next;

	if (listener->state != FAKE_CM_LISTENING)
		return;
	for (id = TAILQ_FIRST(&ids); id; id = next) {
		next = TAILQ_NEXT(id, link);
		if (id == listener || id->cm.channel != listener->cm.channel ||
		    id->state != FAKE_CM_CONNECTING || id->cm.context != listener->cm.context)
			continue;
		fake_cm_part(id);
		fake_cm_forget(id);
		fake_cm_free(id);
	}
}

int rdma_destroy_id(struct rdma_cm_id *cm)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);

	FAKE_LOCKED();
	if (id->unacked)
		fake_fault("an id with %u events not acknowledged: it would hang", id->unacked);
	fake_cm_part(id);
	fake_cm_forget(id);
	drop_requests(id);
	fake_cm_free(id);
	return 0;
}

struct fake_cm_id *fake_cm_listener(uint16_t port)
{
	struct fake_cm_id *id;

	TAILQ_FOREACH (id, &ids, link)
		if (id->state == FAKE_CM_LISTENING && id->port == port)
			return id;
	return NULL;
}

void fake_cm_removed(void)
{
	struct fake_cm_id *id;

	TAILQ_FOREACH (id, &ids, link)
		if (id->cm.verbs)
			fake_cm_say(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
}

/* ---- addresses */

uint16_t fake_cm_port(const struct sockaddr *addr)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)addr;

	return ntohs(addr->sa_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
}

int rdma_bind_addr(struct rdma_cm_id *cm, struct sockaddr *addr)
{
	struct fake_cm_id *id = fake_cm_id_of(cm);
	size_t len = addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						 : sizeof(struct sockaddr_in);
	const struct sockaddr_in6 *v6 = (const void *)addr;
	uint16_t port = fake_cm_port(addr);

	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	FAKE_LOCKED();
	if (port && fake_cm_listener(port))
		return fake_fail(EADDRINUSE);
	/* Of which interface? */
	if (addr->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) &&
	    !v6->sin6_scope_id)
		return fake_fail(EINVAL);
	memcpy(&id->cm.route.addr.src_storage, addr, len);
	id->port = port ? port : ++last_port;
	return 0;
}

int rdma_listen(struct rdma_cm_id *cm, int backlog)
{
	(void)backlog;
	if (fake_due(FAKE_MAKES))
		return fake_fail(ENOMEM);
	FAKE_LOCKED();
	fake_cm_id_of(cm)->state = FAKE_CM_LISTENING;
	return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *cm)
{
	return htons(fake_cm_id_of(cm)->port);
}

/* ---- events */

int fake_cm_tell(struct fake_cm_id *id, enum rdma_cm_event_type type, int status, const void *data,
		 size_t len, size_t room)
{
	struct fake_cm_channel *channel = channel_of(id->cm.channel);
	struct fake_cm_event *event = calloc(1, sizeof(*event));

	if (!event)
		return ENOMEM;
	event->cm.id = &id->cm;
	event->cm.event = type;
	event->cm.status = status;
	if (len)
		memcpy(event->data, data, len < room ? len : room);
	if (len > VERSION_AT + 1 && fake.rules.wire_version) {
		event->data[VERSION_AT] = (uint8_t)(fake.rules.wire_version >> 8);
		event->data[VERSION_AT + 1] = (uint8_t)fake.rules.wire_version;
	}
	if (fake.rules.bare_data && len < room)
		room = len;
	if (room) {
		event->cm.param.conn.private_data = event->data;
		event->cm.param.conn.private_data_len = (uint8_t)room;
	}
	TAILQ_INSERT_TAIL(&channel->events, event, link);
	fake_count_up(channel->cm.fd);
	return 0;
}

void fake_cm_forget(struct fake_cm_id *id)
{
	struct fake_cm_channel *channel = channel_of(id->cm.channel);
	struct fake_cm_event *event, *next;

	for (event = TAILQ_FIRST(&channel->events); event; event = next) {
		next = TAILQ_NEXT(event, link);
		if (event->cm.id != &id->cm)
			continue;
		TAILQ_REMOVE(&channel->events, event, link);
		fake_count_down(channel->cm.fd);
		free(event);
	}
}

static struct fake_cm_event *take(struct fake_cm_channel *channel)
{
	struct fake_cm_event *event = TAILQ_FIRST(&channel->events);
	struct fake_cm_id *id;

	if (!event)
		return NULL;
	TAILQ_REMOVE(&channel->events, event, link);
	fake_count_down(channel->cm.fd);
	id = fake_cm_id_of(event->cm.id);
	if (event->cm.event == RDMA_CM_EVENT_CONNECT_RESPONSE) {
		event->cm.status = fake_cm_establish(id);
		event->cm.event =
			event->cm.status ? RDMA_CM_EVENT_CONNECT_ERROR : RDMA_CM_EVENT_ESTABLISHED;
	}
	id->unacked++;
	return event;
}

int rdma_get_cm_event(struct rdma_event_channel *cm, struct rdma_cm_event **ret_event)
{
	struct fake_cm_event *event = NULL;

	while (!event) {
		if (!fake_count_wait(cm->fd))
			return -1;
		FAKE_LOCKED();
		event = take(channel_of(cm));
	}
	*ret_event = &event->cm;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	FAKE_LOCKED();
	fake_cm_id_of(event->id)->unacked--;
	free(event);
	return 0;
}
