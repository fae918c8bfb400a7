/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma: the server's side of the data plane: which device, what that device really enforces, and
 * the keys by which remote hosts reach slabs.
 */
#ifndef MAAS_RDMA_RDMA_H
#define MAAS_RDMA_RDMA_H

#include "lend/lend.h"

struct maas_rdma_device;

#define MAAS_RDMA_ERROR	   256
#define MAAS_RDMA_GID_TEXT 46

/*
 * Once, before the process has threads: what libibverbs reads in the environment, where it does not
 * stand there already. What a device that is gone had is then taken to be gone with it, instead of
 * never being confirmed dead (ibv_open_device(3)).
 */
void maas_rdma_prepare(void);

/*
 * Opens the device that carries `addr` (an IPv4 or IPv6 address of this host; NULL: the first that
 * has an active port with a GID of RoCE v2 that routes, else the first), or the device `name`. A
 * device that is named is never replaced by another. On failure `error` (MAAS_RDMA_ERROR bytes)
 * says what to do. Errors: -ENODEV only where there is no such device, -EADDRNOTAVAIL the device
 * has no GID for `addr`, -ENETDOWN no active port, errno of ibv_open_device(3).
 */
MAAS_MUST_CHECK int maas_rdma_device_open(const char *name, const char *addr, char *error,
					  struct maas_rdma_device **ret_device);
void maas_rdma_device_close(struct maas_rdma_device *device);

const char *maas_rdma_device_name(const struct maas_rdma_device *device);
/* The GID as an IPv6 address; a mapped IPv4 one as ::ffff:a.b.c.d. */
const char *maas_rdma_device_gid(const struct maas_rdma_device *device);

/* What a key mode was seen to enforce. False: it was seen not to, or could not be tried. */
struct maas_rdma_isolation {
	bool works;	 /* a valid key reads and writes */
	bool bounds;	 /* a byte before or behind the grant is refused */
	bool foreign;	 /* a key is refused on another session's connection */
	bool revocation; /* the first access after revocation is refused */
	bool access;	 /* a key to read reads, and refuses to write */
};

struct maas_rdma_selftest {
	struct maas_rdma_isolation window; /* type-2B windows in one protection domain */
	struct maas_rdma_isolation mr; /* a region for each grant, a protection domain a session */
};

/*
 * Tries the device over loopback connections: each refusal is the first operation of a live
 * connection, so that a flushed request is not taken for one. Takes tens of milliseconds.
 * Threading: any thread. Errors: -errno when not even a connection could be made.
 */
MAAS_MUST_CHECK int maas_rdma_selftest(struct maas_rdma_device *device,
				       struct maas_rdma_selftest *ret_result);

/* ---- the server */

enum maas_rdma_keys {
	MAAS_RDMA_KEYS_AUTO,
	MAAS_RDMA_KEYS_WINDOW,
	MAAS_RDMA_KEYS_MR,
	MAAS_RDMA_KEYS_POOL,
};

struct maas_rdma;

struct maas_rdma_options {
	const char *device; /* --rdma-device, or NULL */
	const char *addr;   /* --rdma-addr, or NULL: every address of the device */
	uint16_t port;	    /* --rdma-port; 0: any */
	enum maas_rdma_keys keys;
	bool require_isolation;
	uint32_t max_sessions; /* as lend's: a session's index is below it */
	uint32_t max_grants;
	struct maas_slab *slab; /* borrowed */
	bool register_all;	/* --prealloc: all of the arena now, not extent by extent */
};

/*
 * Opens the device, tries what it enforces and chooses the key mode; nobody can connect yet. Takes
 * tens of milliseconds. On failure `error` (MAAS_RDMA_ERROR bytes) says why and what to do about
 * it. Errors: as maas_rdma_device_open() and maas_rdma_selftest(); -EOPNOTSUPP the device cannot do
 * the key mode, -EPERM it does not isolate as required, -ENOMEM with the limit of locked memory.
 */
MAAS_MUST_CHECK int maas_rdma_open(const struct maas_rdma_options *options, char *error,
				   struct maas_rdma **ret_rdma);

/*
 * Listens, and starts the thread that does everything from here on. `lend` was opened with
 * maas_rdma_key_ops and is borrowed until maas_rdma_stop(). Errors: -EADDRINUSE, -EADDRNOTAVAIL,
 * -ENOMEM, -EAGAIN.
 */
MAAS_MUST_CHECK int maas_rdma_listen(struct maas_rdma *rdma, struct maas_lend *lend, char *error);

/*
 * Ends every connection and the thread, in well under two seconds, or as soon as all keys are dead
 * where the device takes longer to unpin their memory. Every `done` of a key operation has come
 * when it returns; operations started later fail with -ESHUTDOWN. NULL is allowed.
 */
void maas_rdma_stop(struct maas_rdma *rdma);

/* After maas_rdma_stop() and maas_lend_close(). NULL is allowed. Errors: -EBUSY connections would
 * not end, and all of it is left to the kernel: until then a device may write to the pool. */
int maas_rdma_close(struct maas_rdma *rdma);

/* Its ctx is a struct maas_rdma. */
extern const struct maas_lend_key_ops maas_rdma_key_ops;

/* Constant after maas_rdma_listen(). */
struct maas_rdma_info {
	const char *device;
	const char *gid;
	uint16_t port;			      /* that clients connect to */
	const char *keys;		      /* "window", "mr", "pool": the mode in use */
	struct maas_rdma_isolation isolation; /* of that mode */
	bool isolated;			      /* it has all that --require-isolation asks for */
	struct maas_rdma_selftest selftest;   /* of all */
};

void maas_rdma_info(const struct maas_rdma *rdma, struct maas_rdma_info *ret_info);

#endif
