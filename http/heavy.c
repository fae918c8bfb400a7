/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread for requests that take long by themselves: an allocation of a gigabyte has a gigabyte's
 * pages to get from the kernel, or to zero. In a worker, every other connection of that worker
 * would wait for it. Here such requests wait for each other alone.
 */
#include <errno.h>

#include "base/thread.h"
#include "http/internal.h"

static struct maas_http_pending *next(struct maas_http_heavy *heavy)
{
	struct maas_http_pending *pending;

	pthread_mutex_lock(&heavy->lock);
	while (!heavy->stop && TAILQ_EMPTY(&heavy->queue))
		pthread_cond_wait(&heavy->wake, &heavy->lock);
	pending = TAILQ_FIRST(&heavy->queue);
	if (pending)
		TAILQ_REMOVE(&heavy->queue, pending, link);
	pthread_mutex_unlock(&heavy->lock);
	return pending;
}

static bool is_stopping(struct maas_http_heavy *heavy)
{
	bool stop;

	pthread_mutex_lock(&heavy->lock);
	stop = heavy->stop;
	pthread_mutex_unlock(&heavy->lock);
	return stop;
}

static void *run(void *arg)
{
	struct maas_http_heavy *heavy = arg;
	struct maas_http_pending *pending;

	while ((pending = next(heavy))) {
		int r = is_stopping(heavy) ? -ECANCELED : pending->work(pending);

		if (r != -EINPROGRESS)
			maas_http_pending_done(pending, r);
	}
	return NULL;
}

int maas_http_heavy_start(struct maas_http_heavy *heavy)
{
	int r;

	TAILQ_INIT(&heavy->queue);
	r = maas_thread_start(&heavy->thread, run, heavy);
	heavy->running = !r;
	return r;
}

void maas_http_heavy_stop(struct maas_http_heavy *heavy)
{
	if (!heavy->running)
		return;
	pthread_mutex_lock(&heavy->lock);
	heavy->stop = true;
	pthread_cond_signal(&heavy->wake);
	pthread_mutex_unlock(&heavy->lock);
	pthread_join(heavy->thread, NULL);
	heavy->running = false;
}

int maas_http_heavy_run(struct maas_http_pending *pending,
			int (*work)(struct maas_http_pending *pending))
{
	struct maas_http_heavy *heavy = &pending->conn->http->heavy;
	int r = -ECANCELED;

	pending->work = work;
	maas_http_pending_begin(pending);
	pthread_mutex_lock(&heavy->lock);
	if (!heavy->stop) {
		TAILQ_INSERT_TAIL(&heavy->queue, pending, link);
		pthread_cond_signal(&heavy->wake);
		r = -EINPROGRESS;
	}
	pthread_mutex_unlock(&heavy->lock);
	return maas_http_pending_wait(pending, r);
}
