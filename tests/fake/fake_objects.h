/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of fake_verbs know of each other. All of it is guarded by fake_lock(). */
#ifndef MAAS_TESTS_FAKE_FAKE_OBJECTS_H
#define MAAS_TESTS_FAKE_FAKE_OBJECTS_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "tests/fake/fake_verbs.h"

#define FAKE_MAX_PD  4096
#define FAKE_MAX_CQ  4096
#define FAKE_MAX_CQE 8192

#define FAKE_KEYS    (1u << 18)
#define FAKE_QPS     4096u
#define FAKE_EVENTS  256u
#define FAKE_SGES    4u
#define FAKE_OPCODES 16u

struct fake_cm_id;

struct fake_context {
	struct ibv_context verbs; /* first */
	bool of_cm;		  /* librdmacm's: open as long as the program runs */
	struct ibv_async_event events[FAKE_EVENTS];
	unsigned int num_events;
	unsigned int objects;
	LIST_ENTRY(fake_context) link; /* of those that are open */
};

struct fake_pd {
	struct ibv_pd verbs; /* first */
	unsigned int objects;
};

struct fake_mr {
	struct ibv_mr verbs; /* first */
	uint64_t iova;
	unsigned int access;
	unsigned int windows; /* bound to it */
};

struct fake_mw {
	struct ibv_mw verbs; /* first */
	uint32_t key;	     /* now, its tag included */
	uint8_t used[32];    /* tags that it was bound with */
	bool bound;
	bool leaky; /* invalidated, by a device that does not care */
	struct fake_mr *mr;
	struct fake_qp *qp;	  /* that it was last bound on … */
	LIST_ENTRY(fake_mw) link; /* … in the list of its windows */
	uint64_t addr;
	uint64_t length;
	unsigned int access;
};

struct fake_key {
	struct fake_mr *mr;
	struct fake_mw *mw;
};

struct fake_channel {
	struct ibv_comp_channel verbs; /* first; the fd counts what stands in `ready` */
	TAILQ_HEAD(, fake_cq) ready;
};

struct fake_completion {
	struct ibv_wc wc;
	uint64_t upto; /* requests that were posted before it make room when it is taken */
};

struct fake_cq {
	struct ibv_cq verbs; /* first */
	struct fake_channel *channel;
	TAILQ_ENTRY(fake_cq) link; /* of ready */
	unsigned int events;	   /* not yet taken … */
	unsigned int unacked;	   /* … and taken, not acknowledged */
	bool armed;
	unsigned int qps;
	unsigned int depth;
	unsigned int head;
	atomic_uint count;
	struct fake_completion completions[]; /* a ring */
};

struct fake_work {
	uint64_t wr_id;
	enum ibv_wr_opcode opcode;
	unsigned int flags;
	struct ibv_sge sges[FAKE_SGES];
	unsigned int num_sges;
	uint64_t remote_addr;
	uint32_t rkey; /* to write or read with, to invalidate, to bind */
	struct ibv_mw *mw;
	uint32_t mw_rkey; /* that it had when the bind was posted: it is named by that */
	struct ibv_mw_bind_info bind;
	uint8_t inlined[FAKE_MAX_INLINE];
};

/*
 *     freed          run             tail
 *       |  completed  |  waits to run  |
 */
struct fake_qp {
	struct ibv_qp verbs; /* first */
	unsigned int access;
	uint32_t peer;
	uint8_t ack_timeout;
	uint8_t max_reads;	/* as requester … */
	uint8_t max_dest_reads; /* … and as responder */
	uint32_t max_inline;
	unsigned int depth;
	bool sq_sig_all;
	unsigned int unacked; /* asynchronous events */
	LIST_HEAD(, fake_mw) windows;
	uint64_t freed; /* counts of work since the start */
	uint64_t run;
	uint64_t tail;
	struct fake_work works[];
};

struct fake {
	struct fake_rules rules;
	struct ibv_device device;
	struct ibv_device bare;
	const char *gids[FAKE_PORTS][FAKE_GIDS]; /* of `device` */
	struct fake_context cm;			 /* librdmacm's own */
	LIST_HEAD(, fake_context) contexts;
	struct fake_live live;
	struct fake_counts counts;
	unsigned int faults;
	bool removed;
	bool unplugged[FAKE_PORTS];
	bool initialised;
	bool disassociates; /* RDMAV_ALLOW_DISASSOC_DESTROY, as libibverbs found it */
	bool ends_refused;
	struct fake_key keys[FAKE_KEYS];
	uint32_t next_key;
	uint64_t pinned;
	struct fake_qp *qps[FAKE_QPS];
	uint32_t next_qp;
	unsigned int held_opcodes;
	bool muted;
	unsigned int fail_times;
	enum ibv_wr_opcode fail_opcode;
	enum ibv_wc_status fail_status;
};

extern struct fake fake;

/* Spins, so that a test can count the locks that the product takes. */
void fake_lock(void);
void fake_unlock(const int *unused);
/* Holds the lock from here to the end of the block. */
#define FAKE_LOCKED()                                                                              \
	const int fake_locked __attribute__((cleanup(fake_unlock), unused)) = (fake_lock(), 0)

#define fake_fault(...) fake_fault_at(__func__, __VA_ARGS__)
void fake_fault_at(const char *where, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* True: this call has to fail. */
bool fake_due(enum fake_kind kind);
/* What a call that destroys something fails with; 0. */
int fake_end_error(void);
/* The library looks at its environment, once. */
void fake_init(void);
/* NULL, with errno set. */
void *fake_refuse(int error);
/* All zero. NULL with ENOMEM, if there is no room for it, or this call has to fail. */
void *fake_new(size_t size, bool room);

/* An event fd that counts; taken from under the lock only, so that it never blocks. */
int fake_count_fd(void);
void fake_count_up(int fd);
void fake_count_down(int fd);
/* Waits as a blocking read would. False: nothing there, with EAGAIN. */
bool fake_count_wait(int fd);

/* `element` is a queue pair or NULL. */
void fake_async(struct ibv_context *verbs, enum ibv_event_type type, struct fake_qp *qp);

/* ---- by part; all hold the lock */

struct fake_qp *fake_qp_find(uint32_t number);
void fake_qp_destroy(struct ibv_qp *verbs); /* takes the lock itself; never fails */
int fake_qp_modify(struct fake_qp *qp, const struct ibv_qp_attr *attr, int mask);
/* The mask of what has to be given, besides the state. */
int fake_qp_needed(enum ibv_qp_state to);
/* Runs what may run. */
void fake_qp_run(struct fake_qp *qp);
void fake_qp_to_error(struct fake_qp *qp);
struct fake_work *fake_qp_work(struct fake_qp *qp, uint64_t at);
/* The oldest work that did not run ends so. */
void fake_qp_complete(struct fake_qp *qp, enum ibv_wc_status status);

/* Runs it. */
enum ibv_wc_status fake_work_run(struct fake_qp *qp, struct fake_work *work);

void fake_cq_add(struct fake_cq *cq, const struct fake_completion *completion);

void fake_memory_forget(struct fake_qp *qp);
enum ibv_wc_status fake_memory_bind(struct fake_qp *qp, const struct fake_work *work);
enum ibv_wc_status fake_memory_invalidate(struct fake_qp *qp, uint32_t rkey);
/* The bytes that a key opens on a queue pair, or NULL. */
void *fake_memory_local(const struct fake_qp *qp, const struct ibv_sge *sge, bool written);
void *fake_memory_remote(const struct fake_qp *qp, uint64_t addr, size_t len, uint32_t rkey,
			 bool written);

struct ibv_mw *fake_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int fake_dealloc_mw(struct ibv_mw *mw);
int fake_poll_cq(struct ibv_cq *cq, int max, struct ibv_wc *ret_wcs);
int fake_req_notify_cq(struct ibv_cq *cq, int solicited_only);
int fake_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **ret_bad);

void fake_cm_removed(void);

#endif
