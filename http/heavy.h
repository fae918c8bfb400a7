/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for requests that take long by themselves. */
#ifndef MAAS_HTTP_HEAVY_H
#define MAAS_HTTP_HEAVY_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/base.h"

#define MAAS_HTTP_HEAVY_BYTES	(5u << 20) /* of slabs: from here on an allocation is heavy */
#define MAAS_HTTP_HEAVY_THREADS 4	   /* so many clients are served at a time */

struct maas_http_pending;
TAILQ_HEAD(maas_http_pending_list, maas_http_pending);

struct maas_http_heavy;

struct maas_http_heavy_thread {
	struct maas_http_heavy *heavy;
	pthread_t thread;
	uint64_t client; /* that it serves, 0: none; guarded by the lock of `heavy` */
};

struct maas_http_heavy {
	struct maas_http_heavy_thread threads[MAAS_HTTP_HEAVY_THREADS];
	unsigned int running; /* of them */
	pthread_cond_t wake;
	pthread_mutex_t lock;
	/* guarded by lock */
	struct maas_http_pending_list queue;
	bool stop;
};

MAAS_MUST_CHECK int maas_http_heavy_start(struct maas_http_heavy *heavy);
/* What waits in the queue ends with -ECANCELED. */
void maas_http_heavy_stop(struct maas_http_heavy *heavy);
/*
 * Suspends the request and runs `work` in one of those threads; its result ends the wait, unless
 * that is -EINPROGRESS: then maas_http_pending_done() comes by itself.
 */
MAAS_MUST_CHECK int maas_http_heavy_run(struct maas_http_pending *pending,
					int (*work)(struct maas_http_pending *pending));

#endif
