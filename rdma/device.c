/* SPDX-License-Identifier: Apache-2.0 */
/* Which device, port and GID serve, and the address that a client is told. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

void maas_rdma_prepare(void)
{
	if (setenv("RDMAV_ALLOW_DISASSOC_DESTROY", "1", 0))
		log_warn("rdma: cannot set RDMAV_ALLOW_DISASSOC_DESTROY: %s", strerror(errno));
}

/* An address of a host in the form that a RoCE GID has (RFC 4291, 2.5.5.2 for IPv4). */
static int parse_addr(const char *addr, union ibv_gid *ret_gid)
{
	struct in_addr v4;

	memset(ret_gid, 0, sizeof(*ret_gid));
	if (inet_pton(AF_INET6, addr, ret_gid->raw) == 1)
		return 0;
	if (inet_pton(AF_INET, addr, &v4) != 1)
		return -EINVAL;
	ret_gid->raw[10] = 0xff;
	ret_gid->raw[11] = 0xff;
	memcpy(ret_gid->raw + 12, &v4, sizeof(v4));
	return 0;
}

static bool gid_is_null(const union ibv_gid *gid)
{
	static const union ibv_gid null;

	return memcmp(gid, &null, sizeof(null)) == 0;
}

static bool gid_is_equal(const union ibv_gid *a, const union ibv_gid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* fe80::/10, or 169.254.0.0/16. */
static bool gid_is_link_local(const union ibv_gid *gid)
{
	static const uint8_t v4[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254};

	return (gid->raw[0] == 0xfe && (gid->raw[1] & 0xc0) == 0x80) ||
	       !memcmp(gid->raw, v4, sizeof(v4));
}

/* RoCE v2 routes, v1 does not; what has a GID that is no address comes last, like a link-local. */
static enum maas_rdma_rank gid_rank(const struct ibv_gid_entry *entry, const union ibv_gid *wanted)
{
	if (gid_is_null(&entry->gid) || entry->gid_type == IBV_GID_TYPE_ROCE_V1)
		return MAAS_RDMA_RANK_NONE;
	if (wanted)
		return gid_is_equal(&entry->gid, wanted) ? MAAS_RDMA_RANK_BEST
							 : MAAS_RDMA_RANK_NONE;
	if (entry->gid_type != IBV_GID_TYPE_ROCE_V2 || gid_is_link_local(&entry->gid))
		return MAAS_RDMA_RANK_LOCAL;
	return MAAS_RDMA_RANK_BEST;
}

static int pick_gid(struct maas_rdma_device *device, const union ibv_gid *wanted)
{
	enum maas_rdma_rank best = MAAS_RDMA_RANK_NONE;

	for (uint8_t port = 1; port <= device->attr.phys_port_cnt; port++) {
		struct ibv_port_attr attr;

		if (ibv_query_port(device->verbs, port, &attr) || attr.state != IBV_PORT_ACTIVE)
			continue;
		for (int i = 0; i < attr.gid_tbl_len; i++) {
			struct ibv_gid_entry entry;
			enum maas_rdma_rank rank;

			if (ibv_query_gid_ex(device->verbs, port, (uint32_t)i, &entry, 0))
				continue;
			rank = gid_rank(&entry, wanted);
			if (rank <= best)
				continue;
			best = rank;
			device->port = port;
			device->port_attr = attr;
			device->gid_index = i;
			device->gid = entry.gid;
		}
	}
	if (best == MAAS_RDMA_RANK_NONE)
		return wanted ? -EADDRNOTAVAIL : -ENETDOWN;
	inet_ntop(AF_INET6, device->gid.raw, device->gid_text, sizeof(device->gid_text));
	device->rank = best;
	return 0;
}

static int try_device(struct ibv_device *candidate, const union ibv_gid *wanted,
		      struct maas_rdma_device **ret_device)
{
	struct maas_rdma_device *device = calloc(1, sizeof(*device));
	int err;

	if (!device)
		return -ENOMEM;
	device->verbs = ibv_open_device(candidate);
	if (!device->verbs) {
		err = errno && errno != ENODEV ? -errno : -ENXIO;
		goto err_close;
	}
	err = -ibv_query_device(device->verbs, &device->attr);
	if (err)
		goto err_close;
	err = pick_gid(device, wanted);
	if (err)
		goto err_close;
	*ret_device = device;
	return 0;

err_close:
	maas_rdma_device_close(device);
	return err;
}

static void explain(int err, const char *name, const char *addr, char *error)
{
	if (err == -ENODEV && name)
		snprintf(error, MAAS_RDMA_ERROR,
			 "no RDMA device %s; `ibv_devices` lists those of this host", name);
	else if (err == -ENODEV)
		snprintf(error, MAAS_RDMA_ERROR,
			 "no RDMA device on this host; for SoftRoCE: rdma link add rxe0 type rxe "
			 "netdev DEVICE");
	else if (err == -EADDRNOTAVAIL)
		snprintf(error, MAAS_RDMA_ERROR,
			 "no active RDMA port carries the address %s; `rdma link` and `ip addr` "
			 "tell",
			 addr);
	else if (err == -ENETDOWN)
		snprintf(error, MAAS_RDMA_ERROR, "no RDMA port is active; `rdma link` tells");
	else if (err == -EINVAL)
		snprintf(error, MAAS_RDMA_ERROR, "%s is not an IPv4 or IPv6 address", addr);
	else
		snprintf(error, MAAS_RDMA_ERROR, "cannot open %s: %s",
			 name ? name : "the RDMA device", strerror(-err));
}

/* The first of those of that name (NULL: all) with the best rank: to open them may take long. */
static int open_best(struct ibv_device **list, const char *name, const union ibv_gid *wanted,
		     struct maas_rdma_device **ret_device)
{
	struct maas_rdma_device *best = NULL;
	struct maas_rdma_device *device;
	int err = -ENODEV;

	for (; list && *list && !(best && best->rank == MAAS_RDMA_RANK_BEST); list++) {
		int r;

		if (name && strcmp(ibv_get_device_name(*list), name) != 0)
			continue;
		r = try_device(*list, wanted, &device);
		if (r) {
			err = r;
		} else if (best && device->rank <= best->rank) {
			maas_rdma_device_close(device);
		} else {
			maas_rdma_device_close(best);
			best = device;
		}
	}
	if (!best)
		return err;
	*ret_device = best;
	return 0;
}

int maas_rdma_device_open(const char *name, const char *addr, char *error,
			  struct maas_rdma_device **ret_device)
{
	struct ibv_device **list;
	union ibv_gid wanted;
	int err = addr ? parse_addr(addr, &wanted) : 0;

	if (!err) {
		list = ibv_get_device_list(NULL);
		err = open_best(list, name, addr ? &wanted : NULL, ret_device);
		if (list)
			ibv_free_device_list(list);
	}
	if (err)
		explain(err, name, addr, error);
	return err;
}

void maas_rdma_device_close(struct maas_rdma_device *device)
{
	if (!device)
		return;
	if (device->verbs && ibv_close_device(device->verbs))
		log_err("rdma: cannot close the device: %s", strerror(errno));
	free(device);
}

const char *maas_rdma_device_name(const struct maas_rdma_device *device)
{
	return ibv_get_device_name(device->verbs->device);
}

const char *maas_rdma_device_gid(const struct maas_rdma_device *device)
{
	return device->gid_text;
}

/* ---- the address that a client is told */

void maas_rdma_print_address(const union ibv_gid *gid, char text[MAAS_RDMA_GID_TEXT])
{
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)gid->raw))
		inet_ntop(AF_INET, gid->raw + 12, text, MAAS_RDMA_GID_TEXT);
	else
		inet_ntop(AF_INET6, gid->raw, text, MAAS_RDMA_GID_TEXT);
}

static bool port_is_active(const struct maas_rdma_device *device, uint32_t port)
{
	struct ibv_port_attr attr;

	return !ibv_query_port(device->verbs, (uint8_t)port, &attr) &&
	       attr.state == IBV_PORT_ACTIVE;
}

/* The one of `entries` that the client came to, else one that routes, that of the start first; or
 * NULL. */
static const union ibv_gid *choose(const struct maas_rdma_device *device,
				   const struct ibv_gid_entry *entries, ssize_t count,
				   const union ibv_gid *came_to)
{
	const union ibv_gid *found = NULL;
	uint32_t port = 0; /* that was asked about last: entries come port by port */
	bool active = false;

	for (ssize_t i = 0; i < count; i++) {
		const struct ibv_gid_entry *entry = &entries[i];
		bool of_start = gid_is_equal(&entry->gid, &device->gid);

		if (came_to && gid_is_equal(&entry->gid, came_to))
			return &entry->gid;
		if (gid_rank(entry, NULL) != MAAS_RDMA_RANK_BEST || (found && !of_start))
			continue;
		if (entry->port_num != port)
			active = port_is_active(device, entry->port_num);
		port = entry->port_num;
		if (active)
			found = &entry->gid;
	}
	return found;
}

bool maas_rdma_device_address(const struct maas_rdma_device *device, const union ibv_gid *came_to,
			      union ibv_gid *ret_gid)
{
	size_t max = (size_t)device->port_attr.gid_tbl_len * device->attr.phys_port_cnt;
	struct ibv_gid_entry *entries = calloc(max, sizeof(*entries));
	const union ibv_gid *found;
	ssize_t count = 0;
	bool known;

	/* All at once: one by one, a table of a thousand takes ten milliseconds. */
	if (entries)
		count = ibv_query_gid_table(device->verbs, entries, max, 0);
	found = choose(device, entries, count, came_to);
	if (!found && device->rank == MAAS_RDMA_RANK_BEST)
		found = &device->gid; /* it may come back */
	known = found != NULL;
	if (known)
		*ret_gid = *found;
	free(entries);
	return known;
}
