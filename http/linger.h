/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that were answered before their request's body came, in their last moments. */
#ifndef MAAS_HTTP_LINGER_H
#define MAAS_HTTP_LINGER_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/base.h"

struct maas_http_lingerer;
TAILQ_HEAD(maas_http_lingerers, maas_http_lingerer);

struct maas_http_linger {
	bool running;
	pthread_t thread;
	int event_fd; /* wakes the thread */
	int epoll_fd;
	unsigned int max; /* at once; more are simply closed */

	pthread_mutex_t lock;
	/* guarded by lock */
	struct maas_http_lingerers fresh; /* that the thread has not seen yet */
	unsigned int count;		  /* descriptors held, fresh ones included */
	bool stop;
};

MAAS_MUST_CHECK int maas_http_linger_start(struct maas_http_linger *linger, unsigned int max);
void maas_http_linger_stop(struct maas_http_linger *linger);
/* Keeps a copy of `fd`, which the caller closes, and reads from it for at most two seconds. */
void maas_http_linger_add(struct maas_http_linger *linger, int fd);

#endif
