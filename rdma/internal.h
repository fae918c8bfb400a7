/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside rdma, a .c for each of these, and a .h for some:
 *
 *   server    struct maas_rdma: its life, its thread, and the tasks that other threads send it
 *   device    which device, port and GID
 *   selftest  what the device enforces, tried over a loop
 *   choice    the key mode that follows
 *   ops       the table of operations that lend calls
 *   request   those of them on grants, one or many
 *   listen    rdma_cm: who may connect
 *   conn      one connection: its queue pair and its end
 *   work      what the server posts on it
 *   grant     which session has which key to which slab
 *   window    keys by memory windows of a connection
 *   region    keys by memory regions: one for each grant (mr), or for each extent (pool)
 *   extent    the arena's regions, registered by a thread of their own
 *   figures   what /metrics shows
 *
 * One thread owns connections, grants and keys: no lock guards them. Other threads send it tasks,
 * and read atomics. "Thread": the server's own.
 */
#ifndef MAAS_RDMA_INTERNAL_H
#define MAAS_RDMA_INTERNAL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/wire.h"
#include "rdma/conn.h"
#include "rdma/extent.h"
#include "rdma/figures.h"
#include "rdma/grant.h"
#include "rdma/loop.h"
#include "rdma/rdma.h"
#include "rdma/task.h"

/* Which GIDs are taken first. */
enum maas_rdma_rank {
	MAAS_RDMA_RANK_NONE,
	MAAS_RDMA_RANK_LOCAL, /* it leads nowhere but on its own wire */
	MAAS_RDMA_RANK_BEST,  /* it routes, or is the one that was asked for */
};

/* Constant after maas_rdma_device_open(). */
struct maas_rdma_device {
	struct ibv_context *verbs;
	struct ibv_device_attr attr;
	struct ibv_port_attr port_attr;
	uint8_t port;		  /* from 1 */
	enum maas_rdma_rank rank; /* of its GID */
	int gid_index;
	union ibv_gid gid;
	char gid_text[MAAS_RDMA_GID_TEXT];
};

/*
 * The address of the device, as a GID of now, for a client that came to `came_to` (NULL: not by
 * IP): that one, if the device has it on any port, else one that routes. False: there are only
 * link-local ones, which lead nowhere but on their own wire. Threading: any thread.
 */
MAAS_MUST_CHECK bool maas_rdma_device_address(const struct maas_rdma_device *device,
					      const union ibv_gid *came_to, union ibv_gid *ret_gid);

/* A GID of RoCE v2 as the IP address that it stands for. */
void maas_rdma_print_address(const union ibv_gid *gid, char text[MAAS_RDMA_GID_TEXT]);

/* What lend asks of a session's connection: to end, or to be probed. */
struct maas_rdma_session_task {
	struct maas_rdma_task task;
	struct maas_rdma *rdma;
	struct maas_lend_session_ref session;
	maas_lend_key_done *done; /* of an end */
	void *arg;
};

struct maas_rdma {
	/* constant after maas_rdma_open() */
	struct maas_rdma_options options; /* strings are not kept */
	struct maas_rdma_device *device;
	struct maas_rdma_selftest selftest;
	enum maas_rdma_keys keys;
	struct maas_slab_area area;
	struct ibv_pd *pd;		   /* window, pool; NULL in mr */
	struct maas_rdma_extents *extents; /* NULL in mr */
	/* constant after maas_rdma_listen() */
	struct maas_lend *lend;
	uint16_t port;

	struct maas_rdma_figures figures;
	_Atomic bool failed; /* the device is gone */
	_Atomic uint64_t num_grants;
	_Atomic uint64_t *connected; /* by session index: its generation << 32 | connection; 0 */
	/* By slot: its chain; NULL: it has no key. Written by the thread, read by any. */
	_Atomic(struct maas_rdma_grant *) *keyed;

	/* By session index: a session ends once, and whether there is memory for that or not. */
	struct maas_rdma_session_task *session_ends;

	struct maas_rdma_server *server; /* server.c's own: thread, tasks, epoll */
	/* Thread. */
	struct rdma_event_channel *cm;
	struct rdma_cm_id *listener;
	struct rdma_cm_id *watch;	      /* bound to the device's address; NULL: none */
	struct ibv_comp_channel *completions; /* of all connections */
	struct maas_rdma_conn_list conns;     /* that wait, or live, or end */
	struct maas_rdma_conn_list dirty;     /* that have work to post or an end to go on with */
	struct maas_rdma_conn **by_session;   /* by index */
	uint32_t last_number;
	uint64_t last_asker;
	uint32_t num_posted;	       /* of all connections */
	struct maas_rdma_grant *spare; /* of grant.c, by `next` */
	uint32_t num_spare;
	uint32_t num_windows;	       /* that are not bound, of all connections */
	uint64_t turn_ns;	       /* the time of this turn; 0: nobody has asked yet */
	uint64_t turn_bytes;	       /* pinned and unpinned in this turn, for single keys */
	char addr[MAAS_RDMA_GID_TEXT]; /* --rdma-addr, or "" */
};

/* ---- listen */

/* The connection manager: where there is none, nothing of RDMA can be served. Errors: -ENODEV,
 * -EACCES. */
MAAS_MUST_CHECK int maas_rdma_listen_prepare(struct maas_rdma *rdma, char *error);
MAAS_MUST_CHECK int maas_rdma_listen_open(struct maas_rdma *rdma, char *error);
/* Thread, or before it runs. Watches the device, if nothing does. */
void maas_rdma_listen_watch(struct maas_rdma *rdma);
/* Nobody can connect any more; open connections stay. */
void maas_rdma_listen_end(struct maas_rdma *rdma);
void maas_rdma_listen_close(struct maas_rdma *rdma);
/* Thread. Tells a client that asks to connect why it may not; the id stays the caller's. */
void maas_rdma_refuse(struct maas_rdma *rdma, struct rdma_cm_id *id, enum maas_wire_reason reason);
/* Thread. The device is gone: every connection ends. */
void maas_rdma_listen_failed(struct maas_rdma *rdma);
/* Thread. Takes one event of the connection manager; false: there is none. */
bool maas_rdma_listen_run(struct maas_rdma *rdma);

/* ---- choice */

/* Tries the device, and sets `selftest` and `keys`. Errors: of maas_rdma_open(). */
MAAS_MUST_CHECK int maas_rdma_choose(struct maas_rdma *rdma, char *error);

/*
 * Says in the log why the device made no key, region or queue, with the limit of locked memory and
 * its remedies; `bytes` 0: not known. Returns -EMLINK when the device or a limit is full, else
 * `error`.
 */
int maas_rdma_explain(const char *what, uint64_t bytes, int error);

#endif
