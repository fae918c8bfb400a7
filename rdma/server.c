/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: what stays the same from open to close, and the thread that does all the rest. It
 * sleeps until a task, a connection event, a completion or a message of the device comes, and
 * looks at the time ten times a second while something is under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/thread.h"
#include "rdma/internal.h"

#define TICK_MS	 100
#define STOP_MS	 1500 /* connections that have not ended by then are left to the kernel */
#define EVENTS	 16
#define ONE_TURN 32 /* events that others cause, of the connection manager and the device */

struct maas_rdma_server {
	int epoll_fd;
	int wake_fd;
	bool running;
	pthread_t thread;
	uint64_t ticked_ms;
	uint64_t stop_ms; /* 0: goes on */

	struct maas_lock lock;
	/* guarded by lock */
	struct maas_rdma_task_list tasks;
	bool open; /* tasks are taken */
	bool stop;
};

/* ---- tasks */

int maas_rdma_send(struct maas_rdma *rdma, struct maas_rdma_task *task)
{
	struct maas_rdma_server *server = rdma->server;
	bool open;
	bool first;

	maas_lock_take(&server->lock);
	open = server->open;
	first = STAILQ_EMPTY(&server->tasks);
	if (open)
		STAILQ_INSERT_TAIL(&server->tasks, task, link);
	maas_lock_release(&server->lock);
	if (open && first)
		eventfd_write(server->wake_fd, 1);
	return open ? 0 : -ESHUTDOWN;
}

/* Those that are sent meanwhile wait for the next turn, and so does the rest when this turn has
 * pinned and unpinned enough. */
static void run_sent(struct maas_rdma *rdma)
{
	struct maas_rdma_task_list sent = STAILQ_HEAD_INITIALIZER(sent);
	struct maas_rdma_server *server = rdma->server;
	struct maas_rdma_task *task;

	maas_lock_take(&server->lock);
	STAILQ_CONCAT(&sent, &server->tasks);
	maas_lock_release(&server->lock);
	while ((task = STAILQ_FIRST(&sent)) && rdma->turn_bytes < MAAS_RDMA_STEP_BYTES) {
		STAILQ_REMOVE_HEAD(&sent, link);
		task->run(task, 0);
	}
	if (!task)
		return;
	maas_lock_take(&server->lock);
	STAILQ_CONCAT(&sent, &server->tasks);
	STAILQ_CONCAT(&server->tasks, &sent);
	maas_lock_release(&server->lock);
	eventfd_write(server->wake_fd, 1);
}

/* ---- the thread */

static void on_completions(struct maas_rdma *rdma)
{
	struct ibv_cq *cq;
	void *context;

	while (ibv_get_cq_event(rdma->completions, &cq, &context) == 0) {
		ibv_ack_cq_events(cq, 1);
		if (ibv_req_notify_cq(cq, 0))
			maas_rdma_conn_end(context, "its completion queue is broken");
		maas_rdma_conn_poll(context);
	}
}

/* Anybody can ask to connect: those beyond a few come in the next turn, after tasks. */
static void on_requests(struct maas_rdma *rdma)
{
	for (int i = 0; i < ONE_TURN && maas_rdma_listen_run(rdma); i++)
		;
}

static struct maas_ratelimit readdressed =
	MAAS_RATELIMIT(MAAS_LOG_INFO, "rdma: an address has changed");

static void on_device(struct maas_rdma *rdma)
{
	struct ibv_async_event event;

	for (int i = 0; i < ONE_TURN && !ibv_get_async_event(rdma->device->verbs, &event); i++) {
		enum ibv_event_type type = event.event_type;
		struct maas_rdma_conn *conn = NULL;

		if (type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR ||
		    type == IBV_EVENT_QP_ACCESS_ERR)
			conn = event.element.qp->qp_context;
		else if (type == IBV_EVENT_CQ_ERR)
			conn = event.element.cq->cq_context;
		log_debug("rdma: device says \"%s\"", ibv_event_type_str(type));
		ibv_ack_async_event(&event);
		if (conn)
			maas_rdma_conn_end(conn, ibv_event_type_str(type));
		else if (type == IBV_EVENT_DEVICE_FATAL)
			maas_rdma_listen_failed(rdma);
		if (type != IBV_EVENT_GID_CHANGE)
			continue;
		log_limited(&readdressed, "rdma: an address of %s has changed",
			    maas_rdma_device_name(rdma->device));
		maas_rdma_listen_watch(rdma);
	}
}

/* The kernel's end of the device is gone. */
static void on_broken(struct maas_rdma *rdma, int fd)
{
	if (epoll_ctl(rdma->server->epoll_fd, EPOLL_CTL_DEL, fd, NULL))
		log_err("rdma: cannot stop watching the device: %s", strerror(errno));
	maas_rdma_listen_failed(rdma);
}

static bool dirty(const struct maas_rdma *rdma)
{
	return !TAILQ_EMPTY(&rdma->dirty);
}

/* Deadlines run only while something is under way; else nothing but events wakes the thread. */
static int patience_ms(const struct maas_rdma *rdma)
{
	const _Atomic uint64_t *conns = rdma->figures.conns;

	if (dirty(rdma))
		return 0;
	if (rdma->num_posted || atomic_load(&conns[MAAS_RDMA_CONN_WAITING]) ||
	    atomic_load(&conns[MAAS_RDMA_CONN_CONNECTING]) ||
	    atomic_load(&conns[MAAS_RDMA_CONN_ENDING]))
		return TICK_MS;
	return -1;
}

static void take_events(struct maas_rdma *rdma)
{
	struct maas_rdma_server *server = rdma->server;
	struct epoll_event events[EVENTS];
	eventfd_t ignored;
	int count = epoll_wait(server->epoll_fd, events, EVENTS, patience_ms(rdma));

	for (int i = 0; i < count; i++) {
		int fd = events[i].data.fd;

		if (events[i].events & EPOLLERR)
			on_broken(rdma, fd);
		else if (fd == server->wake_fd)
			eventfd_read(fd, &ignored);
		else if (fd == rdma->completions->fd)
			on_completions(rdma);
		else if (fd == rdma->device->verbs->async_fd)
			on_device(rdma);
		else
			on_requests(rdma);
	}
}

/* True when it is time to leave. */
static bool wind_up(struct maas_rdma *rdma, uint64_t now_ms)
{
	struct maas_rdma_server *server = rdma->server;
	bool stop;

	maas_lock_take(&server->lock);
	stop = server->stop;
	maas_lock_release(&server->lock);
	if (!stop)
		return false;
	if (!server->stop_ms) {
		server->stop_ms = now_ms + STOP_MS;
		maas_rdma_listen_end(rdma);
	}
	maas_rdma_conns_end(rdma, "the server ends");
	/* A dirty one is getting on: the kernel would take as long for its keys. */
	return TAILQ_EMPTY(&rdma->conns) || (now_ms >= server->stop_ms && !dirty(rdma));
}

static void *serve(void *arg)
{
	struct maas_rdma *rdma = arg;
	struct maas_rdma_server *server = rdma->server;
	uint64_t now_ms;

	do {
		take_events(rdma);
		rdma->turn_ns = 0;
		rdma->turn_bytes = 0;
		run_sent(rdma);
		now_ms = maas_clock_ms();
		if (now_ms >= server->ticked_ms + TICK_MS) {
			server->ticked_ms = now_ms;
			maas_rdma_conns_run(rdma, now_ms);
		} else {
			maas_rdma_conns_run(rdma, 0);
		}
	} while (!wind_up(rdma, now_ms));
	return NULL;
}

/* ---- open */

static int make_server(struct maas_rdma *rdma)
{
	struct maas_rdma_server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	STAILQ_INIT(&server->tasks);
	rdma->server = server;
	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server->epoll_fd = server->wake_fd < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
	return server->epoll_fd < 0 ? -errno : 0;
}

static void free_server(struct maas_rdma_server *server)
{
	if (!server)
		return;
	if (server->epoll_fd >= 0)
		close(server->epoll_fd);
	if (server->wake_fd >= 0)
		close(server->wake_fd);
	free(server);
}

static int make_parts(struct maas_rdma *rdma)
{
	uint32_t sessions = rdma->options.max_sessions;
	int r;

	rdma->connected = calloc(sessions, sizeof(*rdma->connected));
	rdma->by_session = calloc(sessions, sizeof(struct maas_rdma_conn *));
	rdma->session_ends = calloc(sessions, sizeof(*rdma->session_ends));
	if (!rdma->connected || !rdma->by_session || !rdma->session_ends)
		return -ENOMEM;
	if (rdma->keys != MAAS_RDMA_KEYS_MR) {
		rdma->pd = ibv_alloc_pd(rdma->device->verbs);
		if (!rdma->pd)
			return -errno;
		r = maas_rdma_extents_open(rdma, rdma->options.register_all, &rdma->extents);
		if (r)
			return r;
	}
	r = maas_rdma_grants_open(rdma);
	return r ? r : make_server(rdma);
}

int maas_rdma_open(const struct maas_rdma_options *options, char *error,
		   struct maas_rdma **ret_rdma)
{
	struct maas_rdma *rdma = calloc(1, sizeof(*rdma));
	int r;

	if (!rdma) {
		snprintf(error, MAAS_RDMA_ERROR, "out of memory");
		return -ENOMEM;
	}
	rdma->options = *options;
	TAILQ_INIT(&rdma->conns);
	TAILQ_INIT(&rdma->dirty);
	maas_slab_area(options->slab, &rdma->area);
	if (options->addr)
		snprintf(rdma->addr, sizeof(rdma->addr), "%s", options->addr);
	r = maas_rdma_device_open(options->device, options->addr, error, &rdma->device);
	if (!r)
		r = maas_rdma_listen_prepare(rdma, error);
	if (!r)
		r = maas_rdma_choose(rdma, error);
	if (r)
		goto err_close;
	r = make_parts(rdma);
	if (r) {
		snprintf(error, MAAS_RDMA_ERROR, "cannot start RDMA: %s", strerror(-r));
		goto err_close;
	}
	*ret_rdma = rdma;
	return 0;

err_close:
	/*
	 * -ENODEV means that there is no device; an error of a device must not be taken for that.
	 */
	if (r == -ENODEV && rdma->device)
		r = -ENXIO;
	maas_rdma_close(rdma);
	return r;
}

/* ---- listen and stop */

static int watch(struct maas_rdma_server *server, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int never_block(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int watch_all(struct maas_rdma *rdma)
{
	const int fds[] = {rdma->server->wake_fd, rdma->completions->fd,
			   rdma->device->verbs->async_fd, rdma->cm->fd};
	int r = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fds) && !r; i++) {
		r = never_block(fds[i]);
		if (!r)
			r = watch(rdma->server, fds[i]);
	}
	return r;
}

static int start_thread(struct maas_rdma *rdma)
{
	struct maas_rdma_server *server = rdma->server;
	int r;

	server->open = true;
	r = maas_thread_start(&server->thread, serve, rdma);
	server->running = !r;
	server->open = !r;
	return r;
}

int maas_rdma_listen(struct maas_rdma *rdma, struct maas_lend *lend, char *error)
{
	int r;

	rdma->lend = lend;
	rdma->completions = ibv_create_comp_channel(rdma->device->verbs);
	if (!rdma->completions) {
		r = -errno;
		snprintf(error, MAAS_RDMA_ERROR, "no completion channel: %s", strerror(-r));
		return r;
	}
	r = maas_rdma_listen_open(rdma, error);
	if (r)
		return r;
	r = watch_all(rdma);
	if (!r)
		r = start_thread(rdma);
	if (r)
		snprintf(error, MAAS_RDMA_ERROR, "cannot start the RDMA thread: %s", strerror(-r));
	return r;
}

/* No task is taken any more; those that were are run. */
static void close_tasks(struct maas_rdma *rdma)
{
	struct maas_rdma_server *server = rdma->server;

	maas_lock_take(&server->lock);
	server->open = false;
	maas_lock_release(&server->lock);
	do {
		rdma->turn_bytes = 0;
		run_sent(rdma);
	} while (!STAILQ_EMPTY(&server->tasks));
}

void maas_rdma_stop(struct maas_rdma *rdma)
{
	struct maas_rdma_server *server = rdma ? rdma->server : NULL;
	struct maas_rdma_conn *conn;

	if (!server || !server->running)
		return;
	maas_lock_take(&server->lock);
	server->stop = true;
	maas_lock_release(&server->lock);
	eventfd_write(server->wake_fd, 1);
	pthread_join(server->thread, NULL);
	server->running = false;
	maas_rdma_extents_stop(rdma->extents);
	close_tasks(rdma);
	TAILQ_FOREACH (conn, &rdma->conns, link)
		maas_rdma_conn_abandon(conn);
}

int maas_rdma_close(struct maas_rdma *rdma)
{
	if (!rdma)
		return 0;
	maas_rdma_stop(rdma);
	/* Where the thread never ran, nobody has stopped that of the extents. */
	maas_rdma_extents_stop(rdma->extents);
	if (!TAILQ_EMPTY(&rdma->conns)) {
		/* If what they use were freed, rxe could crash; the kernel ends them with the
		 * process. */
		log_err("rdma: connections would not end, left to the kernel");
		return -EBUSY;
	}
	maas_rdma_listen_close(rdma);
	if (rdma->completions && ibv_destroy_comp_channel(rdma->completions))
		log_err("rdma: cannot destroy the completion channel");
	maas_rdma_grants_close(rdma);
	maas_rdma_extents_close(rdma->extents);
	if (rdma->pd && ibv_dealloc_pd(rdma->pd))
		log_err("rdma: cannot free the protection domain");
	free_server(rdma->server);
	maas_rdma_device_close(rdma->device);
	free(rdma->connected);
	free(rdma->by_session);
	free(rdma->session_ends);
	free(rdma);
	return 0;
}
