/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_verbs: libibverbs and librdmacm with the behaviour of a device, in one process. Queue pairs
 * that are connected really move bytes, keys are really checked, and what would hang a kernel or
 * corrupt memory is a fault: said on stderr and counted, for fake_verbs_finish().
 *
 *   fake_verbs    the rules, faults, failures; devices and their asynchronous events
 *   fake_memory   domains, regions and windows
 *   fake_cq       completion queues and channels
 *   fake_qp       queue pairs and what is posted
 *   fake_run      what a work request does
 *   fake_cm       rdma_cm: ids, channels, events
 *   fake_connect  rdma_cm: from the request to the end
 *
 * A program that is linked with them reaches no real device. What is posted runs at once and in its
 * poster's thread, unless it is held back.
 *
 * Threading: any thread, except for start and finish.
 */
#ifndef MAAS_TESTS_FAKE_FAKE_VERBS_H
#define MAAS_TESTS_FAKE_FAKE_VERBS_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define FAKE_PORTS	2
#define FAKE_GIDS	4
#define FAKE_MAX_INLINE 96

/* What rdma_cm gives a queue pair over RoCE: 4.096 µs * 2^19 = 2.15 s. */
#define FAKE_ACK_TIMEOUT 19

/* What the device enforces and how much it has. */
struct fake_rules {
	bool no_device;
	const char *bare;    /* before fake0 there is bare0, which has this GID alone; NULL: no */
	bool bare_no_roce;   /* … which is no address */
	bool link_local;     /* fake0 has a link-local address alone */
	bool two_ports;	     /* it has another port, at 10.0.0.2 */
	bool windows;	     /* it has memory windows */
	bool window_bounds;  /* … and enforces their bounds, … */
	bool window_foreign; /* … that they belong to a queue pair, … */
	bool window_revocation; /* … and invalidation, … */
	bool window_access;	/* … and that a key to read does not write */
	bool region_access;	/* as that, of regions */
	bool region_local;	/* regions have no remote rights */
	bool no_ack_timeout;	/* the kernel does not know that option of rdma_cm (before 5.1) */
	bool bare_data;		/* private data arrives without zeros behind it */
	uint16_t wire_version;	/* so the other side's version is read (base/wire.h); 0: as said */
	bool flush_applies;	/* a flushed invalidation took effect nevertheless */
	int max_mr;
	int max_mw;
	int max_qp;
	int max_qp_wr;
	uint32_t max_msg_sz;
	uint64_t max_pinned; /* bytes of all regions; 0: no limit */
};

/* A device fake0 at 127.0.0.1 and ::1 that enforces everything. */
struct fake_rules fake_rules_default(void);

/* Borrows: the strings. */
void fake_verbs_start(const struct fake_rules *rules);
/* Says what is left, and returns how much that is, faults included. */
unsigned int fake_verbs_finish(void);
unsigned int fake_faults(void);

/* ---- what happens to work */

#define FAKE_OP(opcode) (1u << (opcode))
#define FAKE_DATA	(FAKE_OP(IBV_WR_RDMA_WRITE) | FAKE_OP(IBV_WR_RDMA_READ))

/* Work of these opcodes alone, and all behind it on its queue pair, is held back … */
void fake_hold(unsigned int opcodes);
/* … until it is let go, */
void fake_release(void);
/* or the peers do not answer any more: the oldest ends with IBV_WC_RETRY_EXC_ERR. */
void fake_time_out(void);
unsigned int fake_num_held(void);

/* The device says nothing, and does not flush either; later, it says all of it at once. */
void fake_mute(bool mute);

/* The next one of `opcode` ends with `status`, and does nothing; or the next few. */
void fake_fail_next(enum ibv_wr_opcode opcode, enum ibv_wc_status status);
void fake_fail_few(enum ibv_wr_opcode opcode, enum ibv_wc_status status, unsigned int times);

/* IBV_EVENT_DEVICE_FATAL and RDMA_CM_EVENT_DEVICE_REMOVAL; nothing new can be made. What destroys
 * something answers EIO, unless RDMAV_ALLOW_DISASSOC_DESTROY was set (ibv_open_device(3)). */
void fake_remove_device(void);
/* What destroys something answers EIO, for whatever reason. */
void fake_refuse_ends(bool refuse);

/* That port of fake0, from 1, has no link any more; its addresses stay. */
void fake_unplug(unsigned int port);

/* The address `from` of fake0, as a GID's text, becomes `to`; NULL: there is none. */
void fake_readdress(const char *from, const char *to);

/* ---- failures: as fail_nth.h does it with memory */

enum fake_kind {
	FAKE_MAKES, /* calls that make, connect, post, … */
	FAKE_ENDS,  /* … or destroy something */
	FAKE_KINDS,
};

/* The `nth` call of that kind from now on, 1 the next, fails. */
void fake_fail_nth(enum fake_kind kind, long nth);
/* Calls of this thread do not count, as long as it says so: they are not under test. */
void fake_fail_spare(bool spare);
/* Whether it came. */
bool fake_fail_fired(void);
/* No call fails any more. Returns whether one did. */
bool fake_fail_disarm(void);

/* ---- figures */

struct fake_counts {
	unsigned long doorbells; /* calls of ibv_post_send(3) … */
	unsigned long requests;	 /* … and what they brought */
	unsigned long signalled;
	unsigned long inlined;
	unsigned long overflows; /* refused, because the send queue was full */
	unsigned long binds;
	unsigned long invalidations;
	unsigned long refused; /* to destroy something, with EIO */
};

struct fake_counts fake_counts(void);

struct fake_live {
	unsigned int contexts; /* opened by ibv_open_device(3) */
	unsigned int channels; /* of completions */
	unsigned int cqs;
	unsigned int pds;
	unsigned int mrs;
	unsigned int mws;
	unsigned int bound; /* of these */
	unsigned int qps;
	unsigned int ids;
	unsigned int event_channels;
};

struct fake_live fake_live(void);

/* Queue pairs that are up, and wait so long for an answer. */
unsigned int fake_num_qps(uint8_t ack_timeout);

#endif
