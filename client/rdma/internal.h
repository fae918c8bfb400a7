/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RDMA transport of a handle: the bytes travel by one-sided reads and writes, straight from the
 * caller's thread; everything else goes over HTTP. The transport's one thread does what cannot be
 * done at once: get a missing key, make a connection anew.
 *
 *	maas_submit_read() ─┬─▶ posted ────────┬─▶ done ──▶ maas_poll()
 *	                    │     ▲     broken │
 *	                    │  waiting (full)  │
 *	                    │     ▲            │
 *	                    └───▶ todo ◀───────┘
 *	                     (key, connection)
 *
 * The files:
 *
 *   rdma     the transport's table and life
 *   post     from a call to work requests: how an operation begins
 *   complete their completions
 *   op       the operations themselves, and how each ends
 *   wait     the role of the poller, waiting, waking
 *   memory   registered memory: callers' buffers, and slots of our own
 *   grant    the keys, by allocation id
 *   device   device, protection domain, completion queue, slots: last longer than a connection
 *   conn     one connection, from the ticket to its end
 *   thread   gets keys and connections, watches deadlines
 *   task     requests to the server beside the thread
 *
 * `lock` guards all that is needed to post. The role of the poller (`polling`), which one thread
 * has at a time, guards all that is needed to complete. An operation takes each once. Order: role,
 * lock, wait_lock.
 */
#ifndef MAAS_CLIENT_RDMA_INTERNAL_H
#define MAAS_CLIENT_RDMA_INTERNAL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/lock.h"
#include "client/rdma/grant.h"
#include "client/rdma/memory.h"
#include "client/transport.h"

#define MAAS_RDMA_DEPTH	 1024	      /* work requests under way, where the device takes so many */
#define MAAS_RDMA_WAITS	 256	      /* calls that wait at once; more wait for their turn */
#define MAAS_RDMA_TRIES	 3	      /* of an operation, the first included */
#define MAAS_RDMA_PIECE	 (1u << 30)   /* bytes of one work request at most */
#define MAAS_RDMA_RANGE	 (1ull << 40) /* bytes of one range: more than any allocation has */
#define MAAS_RDMA_RANGES 4	      /* of an operation that needs no memory of its own */

/* ---- op */

enum maas_rdma_client_state {
	MAAS_OP_DONE,	/* of its caller, or free */
	MAAS_OP_QUEUED, /* beginning, or in todo or waiting: holds `lock` */
	MAAS_OP_POSTED, /* of the poller */
};

/* A piece of a range: what one work request is made of, and made of again if need be. */
struct maas_rdma_client_range {
	struct maas_rdma_client_id id;
	const struct maas_rdma_client_grant *grant; /* as of who looked (post.c); NULL: none */
	uint64_t offset;
	char *buf;
	uint32_t len;
	struct ibv_mr *mr; /* registered for this operation, or NULL */
};

struct maas_rdma_client_op {
	struct maas_op base;
	TAILQ_ENTRY(maas_rdma_client_op) link; /* of todo or waiting */
	_Atomic unsigned int state;	       /* enum maas_rdma_client_state; DONE is news */
	_Atomic uint64_t deadline_ms;
	uint64_t posted; /* MAAS_POSTED: what of it is under way */
	bool read;
	bool submitted;	   /* its completion goes to maas_poll() */
	bool large;	   /* a range may have a region of its own */
	_Atomic bool late; /* its deadline came while it was posted */
	/* There may be more to do at its completion than to tell of it: a failure, bytes to copy,
	 * memory to let go of, a rest to post. */
	bool more;
	bool refused; /* by the server's device, once */
	uint16_t tries;
	enum ibv_wc_status failed;	     /* the first failure of what is posted */
	struct maas_rdma_client_slot *slots; /* in use by what is posted */
	struct maas_rdma_client_range *ranges;
	struct maas_rdma_client_range *next; /* the first that was not yet posted */
	struct maas_rdma_client_range *end;
	struct maas_rdma_client_range *limit; /* the end of the memory for them */
	struct maas_rdma_client_range few[MAAS_RDMA_RANGES];
};

TAILQ_HEAD(maas_rdma_client_ops, maas_rdma_client_op);

/* In one word: how many operations are posted, and how many work requests these have. */
#define MAAS_POSTED(ops, requests) ((uint64_t)(ops) << 32 | (requests))

/* Lets go of slots and regions. */
void maas_rdma_client_op_release(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op);
/* Any thread that has the operation. Ends the operation, which is its caller's from here on, with
 * `status` and the thread's sentence. */
void maas_rdma_client_op_end(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op,
			     int status);
/* Ends queued operations whose time is over. Any thread. */
void maas_rdma_client_expire(struct maas_rdma_client *rdma);
/* Holds `lock`. */
void maas_rdma_client_op_todo(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op);

/* Holds `lock`. One that is idle, and those behind it: when `idle` is empty. */
MAAS_MUST_CHECK MAAS_COLD struct maas_op *maas_rdma_client_op_idle(struct maas_rdma_client *rdma);
/* Gives a chain of operations back. */
void maas_rdma_client_op_put(struct maas_rdma_client *rdma, struct maas_op *first,
			     struct maas_op *last);
/* Holds `lock`, while nothing is posted. Room for `count` more ranges. Errors: -ENOMEM. */
MAAS_MUST_CHECK MAAS_COLD int maas_rdma_client_op_room(struct maas_rdma_client *rdma,
						       struct maas_rdma_client_op *op,
						       size_t count);

/* ---- post. Holds `lock`. */

/* A wr_id is the address of its operation, and this for the last of a chain. */
#define MAAS_WR_LAST 1u

/* Sends an operation on its way again: posted, waiting or todo, or ended. After an error the
 * operation is still the caller's. Errors: -EINVAL an id. */
MAAS_MUST_CHECK int maas_rdma_client_post(struct maas_rdma_client *rdma,
					  struct maas_rdma_client_op *op);
/* Posts waiting operations, in order, as far as there is room. */
void maas_rdma_client_post_waiting(struct maas_rdma_client *rdma);

/* ---- complete, and wait: the role of the poller */

/* Takes the role if nobody has it; without waiting. */
MAAS_MUST_CHECK bool maas_rdma_client_role_try(struct maas_rdma_client *rdma);
/* Takes the role, from a sleeping poller too. */
void maas_rdma_client_role_seize(struct maas_rdma_client *rdma);
void maas_rdma_client_role_put(struct maas_rdma_client *rdma);
/* With the role: handles all completions there are, posts waiting operations. Returns how many
 * completions came. */
unsigned int maas_rdma_client_drain(struct maas_rdma_client *rdma);
/* With the role: the queue pair is gone; ends or retries all operations that were posted. */
void maas_rdma_client_flush(struct maas_rdma_client *rdma);
/* Holds `lock`, but while it waits for a turn to be given back. Errors: -ETIMEDOUT. */
MAAS_MUST_CHECK MAAS_COLD int maas_rdma_client_turn_wait(struct maas_rdma_client *rdma,
							 uint64_t deadline_ms);
/* Waits for the end of an operation. */
void maas_rdma_client_wait_op(struct maas_rdma_client *rdma, struct maas_rdma_client_op *op);
/* See maas_rdma_client_wake(). */
MAAS_COLD void maas_rdma_client_wake_all(struct maas_rdma_client *rdma);

/* ---- task: a request to the server, in a thread of a moment */

struct maas_rdma_client_task {
	struct maas_rdma_client *rdma;
	int (*work)(void *arg);
	void *arg;
	pthread_t thread;
	bool beside; /* in that thread; else in the one that started the task */
	_Atomic bool done;
	int error; /* the outcome, and its sentence */
	char words[MAAS_ERROR_BYTES];
};

/* Without `lock`. */
void maas_rdma_client_task_start(struct maas_rdma_client *rdma, struct maas_rdma_client_task *task,
				 int (*work)(void *arg), void *arg);
/* Without `lock`. Waits for the outcome, and sees to the deadlines of operations meanwhile. */
void maas_rdma_client_task_join(struct maas_rdma_client_task *task);

/* ---- grant: requests for keys, side by side */

#define MAAS_RDMA_ASKS 8

struct maas_rdma_client_ask {
	struct maas_rdma_client *rdma;
	struct maas_rdma_client_id id;
	uint64_t deadline_ms;
	struct maas_rdma_client_task task;
};

/* The keys that an operation misses, as many as are asked for at once. Returns how many. */
MAAS_MUST_CHECK uint32_t
maas_rdma_client_asks_find(struct maas_rdma_client *rdma, const struct maas_rdma_client_op *op,
			   struct maas_rdma_client_ask asks[MAAS_RDMA_ASKS]);
/* Without `lock`. Asks for the keys; each of `asks` has its outcome afterwards. */
void maas_rdma_client_asks_run(struct maas_rdma_client_ask *asks, uint32_t count,
			       uint64_t deadline_ms);

/* ---- connection */

enum maas_rdma_client_link {
	MAAS_LINK_DOWN,
	MAAS_LINK_UP,
	MAAS_LINK_BROKEN, /* to be cleaned up by the thread */
};

struct maas_rdma_client_conn {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	uint32_t number;
	uint32_t max_inline;
};

/* The thread (or nobody else yet). A ticket until `ticket_ms`, then a connection, until
 * `deadline_ms` and for connect_timeout_ms at most; others' deadlines are seen to meanwhile. */
MAAS_MUST_CHECK int maas_rdma_client_connect(struct maas_rdma_client *rdma, uint64_t ticket_ms,
					     uint64_t deadline_ms);
/* The thread. Collects all posted requests and destroys the connection. */
void maas_rdma_client_disconnect(struct maas_rdma_client *rdma);
/* The thread. Handles the events of the connection. */
void maas_rdma_client_events(struct maas_rdma_client *rdma);
/* Holds `lock`. Moves the queue pair to ERR: all posted requests come back. */
void maas_rdma_client_break(struct maas_rdma_client *rdma);
/* The number of the connection, 0: none. */
MAAS_MUST_CHECK uint32_t maas_rdma_client_number(struct maas_rdma_client *rdma);
/* The server says that connection `number` is no more; the next need makes another. */
void maas_rdma_client_broken(struct maas_rdma_client *rdma, uint32_t number);

/* ---- device */

/* A work request and its one piece of memory. */
struct maas_rdma_client_request {
	struct ibv_send_wr wr;
	struct ibv_sge sge;
};

struct maas_rdma_client_device {
	struct ibv_context *context; /* librdmacm's */
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	uint32_t depth;
	uint32_t max_reads; /* under way at once */
	uint64_t max_piece;
	struct maas_rdma_client_request *requests; /* `depth`: to post with, by who has `lock` */
	struct maas_rdma_client_slots slots;
};

/* Looks for an RDMA device that this process can use. Errors: -ENODEV. */
MAAS_MUST_CHECK int maas_rdma_client_look(void);
/* Notes that this process uses librdmacm: a forked child could not use the same devices. */
void maas_rdma_client_claim(void);
/* Makes everything for the first connection; checks for later ones that the device is the same. */
MAAS_MUST_CHECK int maas_rdma_client_device_use(struct maas_rdma_client *rdma,
						struct rdma_cm_id *id);
void maas_rdma_client_device_fini(struct maas_rdma_client_device *device);

/* ---- thread */

/* Ends posted operations whose time is over, and with them the connection. Any thread. */
void maas_rdma_client_end_late(struct maas_rdma_client *rdma);
MAAS_MUST_CHECK int maas_rdma_client_thread_start(struct maas_rdma_client *rdma);
void maas_rdma_client_thread_stop(struct maas_rdma_client *rdma);

/* ---- the transport */

/* Of maas_transport_rdma; see there. */
MAAS_MUST_CHECK int maas_rdma_client_run(struct maas *maas, const struct maas_range *ranges,
					 uint32_t count, bool read);
MAAS_MUST_CHECK int maas_rdma_client_submit(struct maas *maas, const struct maas_range *ranges,
					    uint32_t count, uint32_t timeout_ms, void *user,
					    bool read);
void maas_rdma_client_release(struct maas *maas, struct maas_op *first, struct maas_op *last);
void maas_rdma_client_progress(struct maas *maas);
void maas_rdma_client_wait(struct maas *maas, uint64_t until_ms);
void maas_rdma_client_add_grant(struct maas *maas, const char *id, const json_t *rdma);
void maas_rdma_client_drop_grant(struct maas *maas, const char *id);
MAAS_MUST_CHECK int maas_rdma_client_pin(struct maas *maas, struct maas_buffer *buffer);
MAAS_MUST_CHECK int maas_rdma_client_unpin(struct maas *maas, struct maas_buffer *buffer);

struct maas_rdma_client {
	struct maas *maas;
	struct maas_rdma_client_op *ops;
	uint32_t num_ops;
	struct maas_rdma_client_device device;
	int kick_fd; /* wakes the poller */
	int wake_fd; /* wakes the thread */
	pthread_t thread;
	bool running;

	/*
	 * Atomics. "News" can end a wait: its stores pair with loads of `sleeping` and `waits_here`
	 * (wait.c). Those "for the thread" need no pair: wake_fd is written after each store.
	 */
	_Atomic unsigned int link;     /* enum maas_rdma_client_link; changed with `lock`; news */
	_Atomic bool lost;	       /* the session; news */
	_Atomic bool stop;	       /* for the thread */
	_Atomic uint32_t num_given_up; /* rounds of tries that ended without a connection; news */
	_Atomic uint32_t num_calls;    /* that wait; more with `lock`; one less is news */
	_Atomic uint64_t posted;       /* MAAS_POSTED; pairs with num_waiting and `watched` */
	_Atomic uint32_t num_waiting;  /* pairs with `posted` (post.c) */
	_Atomic uint64_t next_ms;      /* when the thread looks at deadlines again (thread.c) */
	_Atomic bool armed;	       /* the next completion makes an event (wait.c) */
	_Atomic uint32_t num_todo;     /* for the thread; changed with `lock` */
	_Atomic uint32_t needs;	       /* for the thread: threads that wait for a connection … */
	_Atomic uint32_t num_failed;   /* … and tries that failed since there was one */
	_Atomic uint32_t num_wide;     /* operations with memory that is not kept (op.c) */
	_Atomic uint32_t ops_used;     /* those above were never used; changed with `lock` */
	_Atomic(struct maas_op *) returned; /* taken all at once, with `lock` */

	struct maas_lock lock;
	int connect_error;
	struct maas_rdma_client_conn conn;
	struct maas_rdma_client_grants grants;
	struct maas_rdma_client_regions regions;
	struct maas_op *idle;
	struct maas_rdma_client_ops waiting;
	struct maas_rdma_client_ops todo;
	char connect_words[MAAS_ERROR_BYTES];

	/* See wait.c. */
	_Atomic bool polling;	     /* a thread has the role; that none has it is news */
	_Atomic bool sleeping;	     /* the poller sleeps until it is kicked */
	_Atomic bool seizing;	     /* the role is to be given up */
	_Atomic uint32_t waits_here; /* threads that wait for `changed` */
	pthread_mutex_t wait_lock;
	pthread_cond_t changed;
};

static inline bool maas_rdma_client_up(const struct maas_rdma_client *rdma)
{
	return atomic_load(&rdma->link) == MAAS_LINK_UP;
}

/* Wakes all threads that wait, after something changed (wait.c). */
static inline void maas_rdma_client_wake(struct maas_rdma_client *rdma)
{
	if (atomic_load(&rdma->sleeping) || atomic_load(&rdma->waits_here))
		maas_rdma_client_wake_all(rdma);
}

/* Holds `lock`, but while it waits. Lets a call that waits begin. Errors: -ETIMEDOUT. */
MAAS_MUST_CHECK static inline int maas_rdma_client_turn_take(struct maas_rdma_client *rdma,
							     uint64_t deadline_ms)
{
	int r = 0;

	if (atomic_load(&rdma->num_calls) >= MAAS_RDMA_WAITS)
		r = maas_rdma_client_turn_wait(rdma, deadline_ms);
	if (!r)
		atomic_fetch_add(&rdma->num_calls, 1);
	return r;
}

/* A thread that waits found all turns taken: the first that is given back after that is news. */
static inline void maas_rdma_client_turn_put(struct maas_rdma_client *rdma)
{
	if (atomic_fetch_sub(&rdma->num_calls, 1) == MAAS_RDMA_WAITS)
		maas_rdma_client_wake(rdma);
}

static inline void maas_rdma_client_thread_wake(const struct maas_rdma_client *rdma)
{
	eventfd_write(rdma->wake_fd, 1);
}

#endif
