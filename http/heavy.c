/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for requests that take long by themselves: an allocation of a gigabyte has a gigabyte's
 * pages to get from the kernel, or to zero. In a worker, every other connection of that worker
 * would wait for it. Here such requests wait for each other alone, and those of one client have one
 * thread at a time, so that others do not wait for them.
 */
#include <errno.h>

#include "base/thread.h"
#include "http/internal.h"

/* Lock held. */
static bool is_served(const struct maas_http_heavy *heavy, uint64_t client)
{
	for (size_t i = 0; i < MAAS_HTTP_HEAVY_THREADS; i++)
		if (heavy->threads[i].client == client)
			return true;
	return false;
}

/* Lock held. The oldest request of a client that is not served, or when the server stops, any. */
static struct maas_http_pending *find(const struct maas_http_heavy *heavy)
{
	struct maas_http_pending *pending;

	TAILQ_FOREACH (pending, &heavy->queue, link)
		if (heavy->stop || !is_served(heavy, pending->client))
			break;
	return pending;
}

static struct maas_http_pending *next(struct maas_http_heavy_thread *thread)
{
	struct maas_http_heavy *heavy = thread->heavy;
	struct maas_http_pending *pending;

	pthread_mutex_lock(&heavy->lock);
	thread->client = 0;
	while (!(pending = find(heavy)) && !heavy->stop)
		pthread_cond_wait(&heavy->wake, &heavy->lock);
	if (pending) {
		TAILQ_REMOVE(&heavy->queue, pending, link);
		thread->client = pending->client;
	}
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
	struct maas_http_heavy_thread *thread = arg;
	struct maas_http_pending *pending;

	while ((pending = next(thread))) {
		int r = is_stopping(thread->heavy) ? -ECANCELED : pending->work(pending);

		if (r != -EINPROGRESS)
			maas_http_pending_done(pending, r);
	}
	return NULL;
}

int maas_http_heavy_start(struct maas_http_heavy *heavy)
{
	int r = 0;

	TAILQ_INIT(&heavy->queue);
	while (heavy->running < MAAS_HTTP_HEAVY_THREADS && !r) {
		struct maas_http_heavy_thread *thread = &heavy->threads[heavy->running];

		thread->heavy = heavy;
		r = maas_thread_start(&thread->thread, run, thread);
		heavy->running += !r;
	}
	return r;
}

void maas_http_heavy_stop(struct maas_http_heavy *heavy)
{
	pthread_mutex_lock(&heavy->lock);
	heavy->stop = true;
	pthread_cond_broadcast(&heavy->wake);
	pthread_mutex_unlock(&heavy->lock);
	while (heavy->running)
		pthread_join(heavy->threads[--heavy->running].thread, NULL);
}

int maas_http_heavy_run(struct maas_http_pending *pending,
			int (*work)(struct maas_http_pending *pending))
{
	struct maas_http_heavy *heavy = &pending->conn->http->heavy;
	int r = -ECANCELED;

	pending->work = work;
	pending->client = maas_http_client(pending->conn);
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
