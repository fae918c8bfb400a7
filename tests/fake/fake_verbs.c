/* SPDX-License-Identifier: Apache-2.0 */
/* The device itself: its rules, its faults, which call is to fail, and its asynchronous events. */
#include "tests/fake/fake_objects.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake fake;

static atomic_flag locked = ATOMIC_FLAG_INIT;
static atomic_long countdown[FAKE_KINDS];
static atomic_bool fired;
static __thread bool spared;

void fake_lock(void)
{
	while (atomic_flag_test_and_set_explicit(&locked, memory_order_acquire))
		sched_yield();
}

void fake_unlock(const int *unused)
{
	(void)unused;
	atomic_flag_clear_explicit(&locked, memory_order_release);
}

/* ---- faults and failures */

void fake_fault_at(const char *where, const char *format, ...)
{
	va_list args;

	fake.faults++;
	fprintf(stderr, "fake_verbs: FAULT in %s: ", where);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void fake_fail_nth(enum fake_kind kind, long nth)
{
	atomic_store(&fired, false);
	atomic_store(&countdown[kind], nth);
}

void fake_fail_spare(bool spare)
{
	spared = spare;
}

bool fake_fail_fired(void)
{
	return atomic_load(&fired);
}

bool fake_fail_disarm(void)
{
	for (int kind = 0; kind < FAKE_KINDS; kind++)
		atomic_store(&countdown[kind], 0);
	return atomic_load(&fired);
}

bool fake_due(enum fake_kind kind)
{
	if (spared || atomic_load(&countdown[kind]) <= 0 ||
	    atomic_fetch_sub(&countdown[kind], 1) != 1)
		return false;
	atomic_store(&fired, true);
	return true;
}

int fake_end_error(void)
{
	if (fake_due(FAKE_ENDS))
		return EBUSY;
	FAKE_LOCKED();
	if (!fake.ends_refused && (!fake.removed || fake.disassociates))
		return 0;
	fake.counts.refused++;
	return EIO;
}

void *fake_refuse(int error)
{
	errno = error;
	return NULL;
}

void *fake_new(size_t size, bool room)
{
	bool due = fake_due(FAKE_MAKES);
	void *object = due || !room ? NULL : calloc(1, size);

	return object ? object : fake_refuse(ENOMEM);
}

/* ---- file descriptors that count */

int fake_count_fd(void)
{
	return eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
}

void fake_count_up(int fd)
{
	eventfd_write(fd, 1);
}

void fake_count_down(int fd)
{
	eventfd_t value;

	eventfd_read(fd, &value);
}

bool fake_count_wait(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int timeout_ms = fcntl(fd, F_GETFL) & O_NONBLOCK ? 0 : -1;

	if (poll(&poll_fd, 1, timeout_ms) > 0)
		return true;
	errno = EAGAIN;
	return false;
}

/* ---- the whole */

struct fake_rules fake_rules_default(void)
{
	return (struct fake_rules){
		.windows = true,
		.window_bounds = true,
		.window_foreign = true,
		.window_revocation = true,
		.window_access = true,
		.region_access = true,
		.max_mr = 65536,
		.max_mw = 65536,
		.max_qp = (int)FAKE_QPS,
		.max_qp_wr = 4096,
		.max_msg_sz = 1u << 30,
	};
}

static void context_init(struct fake_context *context, struct ibv_device *device)
{
	context->verbs.device = device;
	context->verbs.num_comp_vectors = 1;
	context->verbs.ops.alloc_mw = fake.rules.windows ? fake_alloc_mw : NULL;
	context->verbs.ops.dealloc_mw = fake_dealloc_mw;
	context->verbs.ops.poll_cq = fake_poll_cq;
	context->verbs.ops.req_notify_cq = fake_req_notify_cq;
	context->verbs.ops.post_send = fake_post_send;
}

static void device_init(struct ibv_device *device, const char *name)
{
	snprintf(device->name, sizeof(device->name), "%s", name);
	device->node_type = IBV_NODE_CA;
	device->transport_type = IBV_TRANSPORT_IB;
}

/* RoCE v2, as IPv6 addresses; the last is empty. */
static void address_init(void)
{
	fake.gids[0][0] = "fe80::1";
	if (fake.rules.link_local)
		return;
	fake.gids[0][1] = "::ffff:127.0.0.1";
	fake.gids[0][2] = "::1";
	if (fake.rules.two_ports)
		fake.gids[1][0] = "::ffff:10.0.0.2";
}

void fake_verbs_start(const struct fake_rules *rules)
{
	memset(&fake, 0, sizeof(fake));
	fake.rules = rules ? *rules : fake_rules_default();
	device_init(&fake.bare, "bare0");
	device_init(&fake.device, "fake0");
	address_init();
	fake.cm.of_cm = true;
	context_init(&fake.cm, &fake.device);
	fake.cm.verbs.async_fd = fake_count_fd();
}

static unsigned int left(const char *what, unsigned int count)
{
	if (count)
		fprintf(stderr, "fake_verbs: LEFT: %u %s\n", count, what);
	return count;
}

unsigned int fake_verbs_finish(void)
{
	const struct fake_live *live = &fake.live;

	close(fake.cm.verbs.async_fd);
	return fake.faults + left("contexts", live->contexts) +
	       left("completion channels", live->channels) + left("completion queues", live->cqs) +
	       left("protection domains", live->pds) + left("regions", live->mrs) +
	       left("windows", live->mws) + left("queue pairs", live->qps) +
	       left("ids", live->ids) + left("event channels", live->event_channels);
}

unsigned int fake_faults(void)
{
	FAKE_LOCKED();
	return fake.faults;
}

struct fake_counts fake_counts(void)
{
	FAKE_LOCKED();
	return fake.counts;
}

struct fake_live fake_live(void)
{
	FAKE_LOCKED();
	return fake.live;
}

void fake_remove_device(void)
{
	struct fake_context *context;

	FAKE_LOCKED();
	fake.removed = true;
	LIST_FOREACH (context, &fake.contexts, link)
		fake_async(&context->verbs, IBV_EVENT_DEVICE_FATAL, NULL);
	for (uint32_t i = 0; i < FAKE_QPS; i++)
		if (fake.qps[i])
			fake_qp_to_error(fake.qps[i]);
	fake_cm_removed();
}

void fake_refuse_ends(bool refuse)
{
	FAKE_LOCKED();
	fake.ends_refused = refuse;
}

/* ---- devices */

void fake_init(void)
{
	static const char name[] = "RDMAV_ALLOW_DISASSOC_DESTROY";
	const char *value = getenv(name);

	FAKE_LOCKED();
	if (!fake.initialised)
		fake.disassociates = value && *value && strcmp(value, "0") != 0;
	fake.initialised = true;
}

struct ibv_device **ibv_get_device_list(int *ret_count)
{
	struct ibv_device **list = fake_new(3 * sizeof(*list), true);
	int count = 0;

	fake_init();
	if (!list)
		return NULL;
	if (fake.rules.bare)
		list[count++] = &fake.bare;
	if (!fake.rules.no_device)
		list[count++] = &fake.device;
	if (ret_count)
		*ret_count = count;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct fake_context *context = fake_new(sizeof(*context), true);

	if (!context)
		return NULL;
	context_init(context, device);
	context->verbs.async_fd = fake_count_fd();
	FAKE_LOCKED();
	LIST_INSERT_HEAD(&fake.contexts, context, link);
	fake.live.contexts++;
	return &context->verbs;
}

int ibv_close_device(struct ibv_context *verbs)
{
	struct fake_context *context = (struct fake_context *)verbs;

	FAKE_LOCKED();
	if (context->of_cm)
		fake_fault("closed librdmacm's context");
	if (context->objects)
		fake_fault("closed a device with %u objects on it", context->objects);
	LIST_REMOVE(context, link);
	fake.live.contexts--;
	close(verbs->async_fd);
	free(context);
	return 0;
}

int ibv_query_device(struct ibv_context *verbs, struct ibv_device_attr *ret_attr)
{
	(void)verbs;
	if (fake_due(FAKE_MAKES))
		return EIO;
	*ret_attr = (struct ibv_device_attr){
		.max_mr_size = UINT64_MAX,
		.max_qp = fake.rules.max_qp,
		.max_qp_wr = fake.rules.max_qp_wr,
		.max_sge = (int)FAKE_SGES,
		.max_cq = FAKE_MAX_CQ,
		.max_cqe = FAKE_MAX_CQE,
		.max_mr = fake.rules.max_mr,
		.max_pd = FAKE_MAX_PD,
		.max_qp_rd_atom = 16,
		.max_qp_init_rd_atom = 16,
		.max_mw = fake.rules.windows ? fake.rules.max_mw : 0,
		.phys_port_cnt = fake.rules.two_ports ? 2 : 1,
	};
	if (fake.rules.windows)
		ret_attr->device_cap_flags = IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B;
	return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *verbs, uint8_t port, struct _compat_ibv_port_attr *ret_attr)
{
	/* verbs.h hands on the whole of it. */
	struct ibv_port_attr *attr = (struct ibv_port_attr *)(void *)ret_attr;

	(void)verbs;
	if (fake_due(FAKE_MAKES))
		return EIO;
	FAKE_LOCKED();
	if (port < 1 || port > FAKE_PORTS)
		return EINVAL;
	*attr = (struct ibv_port_attr){
		.state = fake.removed || fake.unplugged[port - 1] ? IBV_PORT_DOWN : IBV_PORT_ACTIVE,
		.max_mtu = IBV_MTU_4096,
		.active_mtu = IBV_MTU_4096,
		.gid_tbl_len = FAKE_GIDS,
		.max_msg_sz = fake.rules.max_msg_sz,
		.link_layer = IBV_LINK_LAYER_ETHERNET,
	};
	return 0;
}

/* NULL: none. */
static const char *gid_at(const struct ibv_context *verbs, uint32_t port, uint32_t index)
{
	if (port < 1 || port > FAKE_PORTS || index >= FAKE_GIDS)
		return NULL;
	if (verbs->device == &fake.bare)
		return port == 1 && !index ? fake.rules.bare : NULL;
	return fake.gids[port - 1][index];
}

/* With the lock. */
static int read_gid(const struct ibv_context *verbs, uint32_t port, uint32_t index,
		    struct ibv_gid_entry *ret_entry)
{
	const char *gid = gid_at(verbs, port, index);

	if (!gid)
		return ENODATA;
	*ret_entry = (struct ibv_gid_entry){
		.gid_index = index,
		.port_num = port,
		.gid_type = verbs->device == &fake.bare && fake.rules.bare_no_roce
				    ? IBV_GID_TYPE_IB
				    : IBV_GID_TYPE_ROCE_V2,
	};
	return inet_pton(AF_INET6, gid, ret_entry->gid.raw) == 1 ? 0 : ENODATA;
}

int _ibv_query_gid_ex(struct ibv_context *verbs, uint32_t port, uint32_t index,
		      struct ibv_gid_entry *ret_entry, uint32_t flags, size_t entry_size)
{
	(void)flags;
	(void)entry_size;
	FAKE_LOCKED();
	return read_gid(verbs, port, index, ret_entry);
}

ssize_t _ibv_query_gid_table(struct ibv_context *verbs, struct ibv_gid_entry *ret_entries,
			     size_t max, uint32_t flags, size_t entry_size)
{
	size_t count = 0;

	(void)flags;
	(void)entry_size;
	FAKE_LOCKED();
	for (uint32_t at = 0; count < max && at < FAKE_PORTS * FAKE_GIDS; at++)
		if (!read_gid(verbs, at / FAKE_GIDS + 1, at % FAKE_GIDS, &ret_entries[count]))
			count++;
	return (ssize_t)count;
}

void fake_unplug(unsigned int port)
{
	FAKE_LOCKED();
	fake.unplugged[port - 1] = true;
}

void fake_readdress(const char *from, const char *to)
{
	struct fake_context *context;

	FAKE_LOCKED();
	for (uint32_t at = 0; at < FAKE_PORTS * FAKE_GIDS; at++) {
		const char **gid = &fake.gids[at / FAKE_GIDS][at % FAKE_GIDS];

		if (*gid && strcmp(*gid, from) == 0)
			*gid = to;
	}
	LIST_FOREACH (context, &fake.contexts, link)
		fake_async(&context->verbs, IBV_EVENT_GID_CHANGE, NULL);
}

int ibv_fork_init(void)
{
	return fake_due(FAKE_MAKES) ? EINVAL : 0;
}

enum ibv_fork_status ibv_is_fork_initialized(void)
{
	return IBV_FORK_DISABLED;
}

/* ---- asynchronous events */

void fake_async(struct ibv_context *verbs, enum ibv_event_type type, struct fake_qp *qp)
{
	struct fake_context *context = (struct fake_context *)verbs;
	struct ibv_async_event *event;

	if (context->num_events == FAKE_EVENTS)
		return;
	event = &context->events[context->num_events++];
	*event = (struct ibv_async_event){.event_type = type};
	if (qp)
		event->element.qp = &qp->verbs;
	fake_count_up(verbs->async_fd);
}

int ibv_get_async_event(struct ibv_context *verbs, struct ibv_async_event *ret_event)
{
	struct fake_context *context = (struct fake_context *)verbs;
	bool found = false;

	while (!found) {
		if (!fake_count_wait(verbs->async_fd))
			return -1;
		FAKE_LOCKED();
		found = context->num_events > 0;
		if (found) {
			fake_count_down(verbs->async_fd);
			*ret_event = context->events[0];
			context->num_events--;
			memmove(&context->events[0], &context->events[1],
				context->num_events * sizeof(context->events[0]));
			if (ret_event->element.qp)
				((struct fake_qp *)ret_event->element.qp)->unacked++;
		}
	}
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
	FAKE_LOCKED();
	if (event->element.qp)
		((struct fake_qp *)event->element.qp)->unacked--;
}
