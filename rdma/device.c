/* SPDX-License-Identifier: Apache-2.0 */
/* Which device, port and GID serve. Constant after the start. */
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

/* Higher is better; 0 is no candidate. RoCE v2 routes, v1 does not; link-local comes last. */
static int gid_rank(const struct ibv_gid_entry *entry, const union ibv_gid *wanted)
{
	bool link_local = entry->gid.raw[0] == 0xfe && (entry->gid.raw[1] & 0xc0) == 0x80;

	if (gid_is_null(&entry->gid) || entry->gid_type == IBV_GID_TYPE_ROCE_V1)
		return 0;
	if (wanted)
		return memcmp(&entry->gid, wanted, sizeof(*wanted)) == 0 ? 1 : 0;
	return link_local ? 1 : 2;
}

static int pick_gid(struct maas_rdma_device *device, const union ibv_gid *wanted)
{
	int best = 0;

	for (uint8_t port = 1; port <= device->attr.phys_port_cnt; port++) {
		struct ibv_port_attr attr;

		if (ibv_query_port(device->verbs, port, &attr) || attr.state != IBV_PORT_ACTIVE)
			continue;
		for (int i = 0; i < attr.gid_tbl_len; i++) {
			struct ibv_gid_entry entry;
			int rank;

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
	if (!best)
		return wanted ? -EADDRNOTAVAIL : -ENETDOWN;
	inet_ntop(AF_INET6, device->gid.raw, device->gid_text, sizeof(device->gid_text));
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

int maas_rdma_device_open(const char *name, const char *addr, char *error,
			  struct maas_rdma_device **ret_device)
{
	struct ibv_device **list;
	union ibv_gid wanted;
	int err = addr ? parse_addr(addr, &wanted) : 0;

	if (err) {
		explain(err, name, addr, error);
		return err;
	}
	err = -ENODEV;
	list = ibv_get_device_list(NULL);
	for (struct ibv_device **at = list; at && *at; at++) {
		if (name && strcmp(ibv_get_device_name(*at), name) != 0)
			continue;
		err = try_device(*at, addr ? &wanted : NULL, ret_device);
		if (!err)
			break;
	}
	if (list)
		ibv_free_device_list(list);
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
