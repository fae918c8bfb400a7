/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that were answered before their request's body came, in their last moments. */
#ifndef MAAS_HTTP_LINGER_H
#define MAAS_HTTP_LINGER_H

#include <pthread.h>
#include <sys/queue.h>

#include "http/peers.h"

struct maas_http_lingerer;
TAILQ_HEAD(maas_http_lingerers, maas_http_lingerer);

struct maas_http_linger {
	bool running;
	pthread_t thread;
	int event_fd; /* wakes the thread */
	int epoll_fd;
	struct maas_http *http;

	pthread_mutex_t lock;
	/* guarded by lock */
	struct maas_http_lingerers fresh; /* that the thread has not seen yet */
	bool stop;
};

/* Borrows: `http`. */
MAAS_MUST_CHECK int maas_http_linger_start(struct maas_http_linger *linger, struct maas_http *http);
void maas_http_linger_stop(struct maas_http_linger *linger);
/*
 * Keeps a copy of the connection's descriptor, which the caller closes, reads from it for at most
 * two seconds, and then gives up its place: until then it counts as a connection. False: out of
 * memory or descriptors, the place is the caller's.
 */
MAAS_MUST_CHECK bool maas_http_linger_add(struct maas_http_linger *linger, int fd,
					  struct maas_http_listener *listener,
					  enum maas_http_place place, struct maas_http_peer *peer);

#endif
