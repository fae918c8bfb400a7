/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma: the server's side of the data plane: which device, what that device really enforces, and
 * the keys by which remote hosts reach slabs.
 */
#ifndef MAAS_RDMA_RDMA_H
#define MAAS_RDMA_RDMA_H

#include "base/base.h"

struct maas_rdma_device;

#define MAAS_RDMA_ERROR	   256
#define MAAS_RDMA_GID_TEXT 46

/*
 * Opens the device that carries `addr` (an IPv4 or IPv6 address of this host; NULL: the first
 * active port, its routable GID before a link-local one), or the device `name`. A device that is
 * named is never replaced by another. On failure `error` (MAAS_RDMA_ERROR bytes) says what to do.
 * Errors: -ENODEV no such device, -EADDRNOTAVAIL the device has no GID for `addr`, -ENETDOWN no
 * active port, errno of ibv_open_device(3).
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

#endif
