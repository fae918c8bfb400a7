/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the server in threads of a moment, so that the transport's thread can see to the
 * deadlines of operations while the server does not answer. A task belongs to who started it; while
 * it runs, to its thread.
 */
#include "client/rdma/internal.h"

#define SLICE_MS 50 /* between looks at the deadlines */

static void *run(void *arg)
{
	struct maas_rdma_client_task *task = arg;

	maas_error_clear();
	task->error = task->work(task->arg);
	snprintf(task->words, sizeof(task->words), "%s", maas_error());
	atomic_store(&task->done, true); /* news (wait.c) */
	maas_rdma_client_wake(task->rdma);
	return NULL;
}

void maas_rdma_client_task_start(struct maas_rdma_client *rdma, struct maas_rdma_client_task *task,
				 int (*work)(void *arg), void *arg)
{
	task->rdma = rdma;
	task->work = work;
	task->arg = arg;
	atomic_store(&task->done, false);
	task->beside = !maas_thread_start(&task->thread, run, task);
	if (!task->beside)
		run(task);
}

/* Until the task is done, but for a moment at most. */
static void wait_for(struct maas_rdma_client_task *task)
{
	struct maas_rdma_client *rdma = task->rdma;
	uint64_t until_ms = maas_clock_ms() + SLICE_MS;
	bool more = true;

	pthread_mutex_lock(&rdma->wait_lock);
	atomic_fetch_add(&rdma->waits_here, 1); /* pairs with `done` */
	while (more && !atomic_load(&task->done))
		more = maas_cond_wait_until(&rdma->changed, &rdma->wait_lock, until_ms);
	atomic_fetch_sub(&rdma->waits_here, 1);
	pthread_mutex_unlock(&rdma->wait_lock);
}

void maas_rdma_client_task_join(struct maas_rdma_client_task *task)
{
	wait_for(task);
	while (!atomic_load(&task->done)) {
		maas_rdma_client_expire(task->rdma);
		maas_rdma_client_end_late(task->rdma);
		wait_for(task);
	}
	if (task->beside)
		pthread_join(task->thread, NULL);
}
