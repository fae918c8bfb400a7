/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test does in the server's own thread: it stops the thread between two of its turns, so
 * that what is sent meanwhile comes in one turn, and in order.
 */
#ifndef MAAS_TESTS_UNIT_RDMA_THREAD_H
#define MAAS_TESTS_UNIT_RDMA_THREAD_H

#include "rdma/internal.h"
#include "tests/unit/rdma/rdma_fixture.h"

struct halt {
	struct maas_rdma_task task;
	_Atomic bool reached;
	_Atomic bool over;
};

static inline void halt_here(struct maas_rdma_task *task, int status)
{
	struct halt *halt = MAAS_CONTAINER_OF(task, struct halt, task);

	(void)status;
	atomic_store(&halt->reached, true);
	while (!atomic_load(&halt->over))
		nap();
}

/* Returns when the thread stands still. */
static inline void thread_halt(struct halt *halt)
{
	*halt = (struct halt){.task.run = halt_here};
	assert_int_equal(maas_rdma_send(server.rdma, &halt->task), 0);
	AWAIT(atomic_load(&halt->reached));
}

static inline void thread_go_on(struct halt *halt)
{
	atomic_store(&halt->over, true);
}

/* Returns when what was sent before is done. */
static inline void thread_catch_up(void)
{
	static struct halt halt;

	halt = (struct halt){.task.run = halt_here, .over = true};
	assert_int_equal(maas_rdma_send(server.rdma, &halt.task), 0);
	AWAIT(atomic_load(&halt.reached));
}

#endif
