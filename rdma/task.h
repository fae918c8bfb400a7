/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task: something that is to be done in the server's thread when its time has come: at once
 * (maas_rdma_send()), when a work request has completed, when a key is made or dead, when a
 * connection is gone. The storage belongs to whoever set `run`, and `run` may free it or use it for
 * the next wait. A task is in one list at most.
 */
#ifndef MAAS_RDMA_TASK_H
#define MAAS_RDMA_TASK_H

#include <sys/queue.h>

#include "base/base.h"

struct maas_rdma;

struct maas_rdma_task {
	STAILQ_ENTRY(maas_rdma_task) link;
	/* `status`: 0 or -errno; of a work request, enum ibv_wc_status. */
	void (*run)(struct maas_rdma_task *task, int status);
};

STAILQ_HEAD(maas_rdma_task_list, maas_rdma_task);

/*
 * Has the thread run the task, with status 0, after the tasks that were sent before. Threading: any
 * thread. Errors: -ESHUTDOWN when the thread has ended or never started; the task is not run then.
 */
MAAS_MUST_CHECK int maas_rdma_send(struct maas_rdma *rdma, struct maas_rdma_task *task);

/* Empties the list; returns its first task, with the others behind it. */
static inline struct maas_rdma_task *maas_rdma_tasks_take(struct maas_rdma_task_list *list)
{
	struct maas_rdma_task *first = STAILQ_FIRST(list);

	STAILQ_INIT(list);
	return first;
}

/* Runs the task (NULL: none) and those behind it. Threading: the server's thread. */
static inline void maas_rdma_tasks_run(struct maas_rdma_task *task, int status)
{
	struct maas_rdma_task *next;

	for (; task; task = next) {
		next = STAILQ_NEXT(task, link);
		task->run(task, status);
	}
}

#endif
