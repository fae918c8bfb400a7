/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last moments of a connection that was answered before its body came. A close with bytes
 * unread makes TCP reset the connection, and a client that is still sending then fails before it
 * reads the answer (RFC 9112, 9.6). So for a short while what it sends is read and thrown away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"
#include "http/internal.h"

#define LINGER_MS   2000
#define WASTE_BYTES (64u << 10) /* read at once */
#define MAX_EVENTS  64

struct maas_http_lingerer {
	int fd; /* our own copy */
	struct maas_http_listener *listener;
	enum maas_http_place place;
	struct maas_http_peer *peer;
	uint64_t end_ms;
	TAILQ_ENTRY(maas_http_lingerer) link; /* oldest first */
};

static void let_go(struct maas_http_linger *linger, struct maas_http_lingerers *list,
		   struct maas_http_lingerer *one)
{
	TAILQ_REMOVE(list, one, link);
	/* Closing the descriptor is not enough: the library may still hold the same socket. */
	epoll_ctl(linger->epoll_fd, EPOLL_CTL_DEL, one->fd, NULL);
	close(one->fd);
	maas_http_peers_leave(linger->http, one->listener, one->place, one->peer);
	free(one);
}

/* Adds what came since, and says whether to go on. */
static bool take_fresh(struct maas_http_linger *linger, struct maas_http_lingerers *list)
{
	struct maas_http_lingerers fresh = TAILQ_HEAD_INITIALIZER(fresh);
	struct maas_http_lingerer *one;
	uint64_t ticks;
	bool stop;

	(void)!read(linger->event_fd, &ticks, sizeof(ticks));
	pthread_mutex_lock(&linger->lock);
	TAILQ_CONCAT(&fresh, &linger->fresh, link);
	stop = linger->stop;
	pthread_mutex_unlock(&linger->lock);
	while ((one = TAILQ_FIRST(&fresh))) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};

		TAILQ_REMOVE(&fresh, one, link);
		TAILQ_INSERT_TAIL(list, one, link);
		one->end_ms = maas_clock_ms() + LINGER_MS;
		if (epoll_ctl(linger->epoll_fd, EPOLL_CTL_ADD, one->fd, &event))
			let_go(linger, list, one);
	}
	return !stop;
}

/* False when the client has closed, too. */
static bool waste(int fd)
{
	char bytes[WASTE_BYTES]; /* never looked at */
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void wait_some(struct maas_http_linger *linger, struct maas_http_lingerers *list)
{
	struct epoll_event events[MAX_EVENTS];
	int count = epoll_wait(linger->epoll_fd, events, MAX_EVENTS,
			       TAILQ_EMPTY(list) ? -1 : LINGER_MS / 20);

	for (int i = 0; i < count; i++) {
		struct maas_http_lingerer *one = events[i].data.ptr;

		if (one && !waste(one->fd))
			let_go(linger, list, one);
	}
}

static void *run(void *arg)
{
	struct maas_http_lingerers list = TAILQ_HEAD_INITIALIZER(list);
	struct maas_http_linger *linger = arg;
	struct maas_http_lingerer *one;

	/* The analyzer does not see that one who was let go is off the list. NOLINTBEGIN */
	while (take_fresh(linger, &list)) {
		wait_some(linger, &list);
		while ((one = TAILQ_FIRST(&list)) && one->end_ms <= maas_clock_ms())
			let_go(linger, &list, one);
	}
	while ((one = TAILQ_FIRST(&list)))
		let_go(linger, &list, one);
	/* NOLINTEND */
	return NULL;
}

static void wake(struct maas_http_linger *linger)
{
	const uint64_t one = 1;

	(void)!write(linger->event_fd, &one, sizeof(one));
}

int maas_http_linger_start(struct maas_http_linger *linger, struct maas_http *http)
{
	struct epoll_event event = {.events = EPOLLIN};
	int r;

	linger->http = http;
	TAILQ_INIT(&linger->fresh);
	linger->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (linger->event_fd < 0)
		return -errno;
	linger->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (linger->epoll_fd < 0 ||
	    epoll_ctl(linger->epoll_fd, EPOLL_CTL_ADD, linger->event_fd, &event)) {
		r = -errno;
		goto err_close;
	}
	pthread_mutex_init(&linger->lock, NULL);
	r = maas_thread_start(&linger->thread, run, linger);
	if (!r) {
		linger->running = true;
		return 0;
	}
	pthread_mutex_destroy(&linger->lock);
err_close:
	if (linger->epoll_fd >= 0)
		close(linger->epoll_fd);
	close(linger->event_fd);
	return r;
}

void maas_http_linger_stop(struct maas_http_linger *linger)
{
	if (!linger->running)
		return;
	pthread_mutex_lock(&linger->lock);
	linger->stop = true;
	pthread_mutex_unlock(&linger->lock);
	wake(linger);
	pthread_join(linger->thread, NULL);
	pthread_mutex_destroy(&linger->lock);
	close(linger->epoll_fd);
	close(linger->event_fd);
}

bool maas_http_linger_add(struct maas_http_linger *linger, int fd,
			  struct maas_http_listener *listener, enum maas_http_place place,
			  struct maas_http_peer *peer)
{
	struct maas_http_lingerer *one = malloc(sizeof(*one));
	bool added = false;

	if (!one)
		return false;
	*one = (struct maas_http_lingerer){.listener = listener, .place = place, .peer = peer};
	pthread_mutex_lock(&linger->lock);
	one->fd = linger->stop ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (one->fd >= 0) {
		TAILQ_INSERT_TAIL(&linger->fresh, one, link);
		added = true;
	}
	pthread_mutex_unlock(&linger->lock);
	if (added)
		wake(linger);
	else
		free(one);
	return added;
}
