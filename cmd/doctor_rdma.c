/* SPDX-License-Identifier: Apache-2.0 */
/* The RDMA part of `maas doctor`: devices, ports and limits of this host, and a server's RDMA. */
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#include "cmd/doctor.h"

#define RDMA_DEVICES "/sys/class/infiniband"

/* ---- ports, as the kernel lists them */

static bool gid_routes(const char *gid)
{
	return *gid && strncmp(gid, "fe80:", 5) != 0 &&
	       strcmp(gid, "0000:0000:0000:0000:0000:0000:0000:0000") != 0;
}

/* Whether a port has a GID that is not link-local. */
static bool port_routes(const char *device, const char *port)
{
	char path[2 * FINDING_BYTES + 64];
	char line[FINDING_BYTES];

	for (int i = 0; i < 256; i++) {
		snprintf(path, sizeof(path), RDMA_DEVICES "/%s/ports/%s/gids/%d", device, port, i);
		if (!*doctor_read_line(path, line))
			return false;
		if (gid_routes(line))
			return true;
	}
	return false;
}

static void check_port(struct report *report, const char *device, const char *port)
{
	char path[2 * FINDING_BYTES + 64];
	char line[FINDING_BYTES];

	snprintf(path, sizeof(path), RDMA_DEVICES "/%s/ports/%s/state", device, port);
	doctor_read_line(path, line);
	if (!strstr(line, "ACTIVE"))
		doctor_find(report, WARNING, "rdma",
			    "bring the link up; `rdma link` and `ip link` show it",
			    "%.64s port %.16s is not active (%.32s)", device, port, line);
	else if (!port_routes(device, port))
		doctor_find(
			report, WARNING, "rdma", "give the port's interface an IP address",
			"%.64s port %.16s has link-local GIDs only: other subnets cannot reach it",
			device, port);
	else
		doctor_find(report, FINE, "rdma", NULL, "%.64s port %.16s is active", device, port);
}

static unsigned int each_entry(struct report *report, const char *path, const char *device,
			       void (*check)(struct report *, const char *, const char *))
{
	DIR *dir = opendir(path);
	unsigned int count = 0;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		check(report, device ? device : entry->d_name, entry->d_name);
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

static void check_device(struct report *report, const char *device, const char *same)
{
	char path[FINDING_BYTES + 64];

	(void)same;
	snprintf(path, sizeof(path), RDMA_DEVICES "/%.128s/ports", device);
	each_entry(report, path, device, check_port);
}

/* Whether the kernel lets this process lock memory beyond the limit. A right that holds in a user
 * namespace only does not count; the one of the host has all user ids. */
static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};
	char line[FINDING_BYTES];

	return !syscall(SYS_capget, &header, sets) && (sets[0].effective & (1u << CAP_IPC_LOCK)) &&
	       strstr(doctor_read_line("/proc/self/uid_map", line), " 4294967295");
}

static void check_memlock(struct report *report)
{
	struct rlimit limit;
	char text[CMD_TEXT];

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return;
	if (limit.rlim_cur == RLIM_INFINITY)
		doctor_find(report, FINE, "memlock", NULL, "unlimited");
	else if (may_lock_all())
		doctor_find(report, FINE, "memlock", NULL,
			    "limited to %s, which does not bind this user (CAP_IPC_LOCK)",
			    maas_size_round((double)limit.rlim_cur, text));
	else
		doctor_find(
			report, WARNING, "memlock",
			"shell: ulimit -l unlimited; systemd: LimitMEMLOCK=infinity in the unit",
			"at most %s may be locked, and RDMA locks what it registers: a page or "
			"more "
			"for each grant, however small",
			maas_size_round((double)limit.rlim_cur, text));
}

/* SoftRoCE, whatever the device is called: only its driver has this vendor id. */
static bool is_rxe(const struct ibv_device_attr *attr)
{
	return attr->vendor_id == 0xffffff;
}

static void check_device_limits(struct report *report, struct ibv_context *verbs)
{
	const char *name = ibv_get_device_name(verbs->device);
	struct ibv_device_attr attr;
	struct ibv_port_attr port;

	if (ibv_query_device(verbs, &attr) || ibv_query_port(verbs, 1, &port)) {
		doctor_find(report, WARNING, "rdma",
			    "`ibv_devinfo -v` and the kernel log tell more",
			    "%.64s does not answer", name);
		return;
	}
	doctor_find(report, FINE, "rdma", NULL,
		    "%.64s: %d queue pairs, %d regions, %d windows, messages to %u MiB, MTU %u",
		    name, attr.max_qp, attr.max_mr, attr.max_mw, port.max_msg_sz >> 20,
		    128u << port.active_mtu);
	if (port.active_mtu < IBV_MTU_1024)
		doctor_find(report, NOTE, "rdma",
			    "ip link set INTERFACE mtu 9000, on every host and switch",
			    "%.64s sends small packets: its interface has a small MTU", name);
	if (!attr.max_mw)
		doctor_find(report, NOTE, "rdma", NULL,
			    "%.64s has no memory windows: a maasd here makes its keys of regions",
			    name);
	if (is_rxe(&attr))
		doctor_find(report, NOTE, "rdma", NULL,
			    "%.64s is SoftRoCE, which does not hold the bounds of memory windows: "
			    "a maasd here makes its keys of regions",
			    name);
}

/* What the devices allow. */
static void check_limits(struct report *report)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	for (struct ibv_device **at = list; at && *at; at++) {
		struct ibv_context *verbs = ibv_open_device(*at);

		if (!verbs) {
			doctor_find(report, WARNING, "rdma",
				    "install rdma-core and ibverbs-providers; look at the "
				    "permissions of "
				    "/dev/infiniband",
				    "%.64s cannot be opened: %s", ibv_get_device_name(*at),
				    strerror(errno));
			continue;
		}
		check_device_limits(report, verbs);
		(void)ibv_close_device(verbs);
	}
	if (list)
		ibv_free_device_list(list);
}

void doctor_check_rdma(struct report *report)
{
	if (each_entry(report, RDMA_DEVICES, NULL, check_device)) {
		check_limits(report);
		check_memlock(report);
	} else {
		doctor_find(report, NOTE, "rdma",
			    "SoftRoCE: rdma link add rxe0 type rxe netdev INTERFACE",
			    "there is no RDMA device: data goes over HTTP");
	}
}

/* ---- a server's */

static void check_isolation(struct report *report, const char *keys, const json_t *isolation)
{
	static const char *const names[] = {"bounds", "foreign", "revocation", "access"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(names); i++) {
		const json_t *proved = json_object_get(isolation, names[i]);

		/* Version 0.1 of the server does not test keys to read. */
		if (!proved && !strcmp(names[i], "access"))
			continue;
		if (!json_is_true(proved)) {
			doctor_find(report, WARNING, "server rdma",
				    "start it with another --rdma-keys or --rdma-device, or let in "
				    "only clients that are trusted",
				    "its %.16s keys do not keep clients apart (%s: not enforced)",
				    keys, names[i]);
			return;
		}
	}
	doctor_find(report, FINE, "server rdma", NULL,
		    "its %.16s keys keep clients apart: bounds, foreign keys, revocation and keys "
		    "to read only were proved",
		    keys);
	if (!strcmp(keys, "mr"))
		doctor_find(
			report, NOTE, "server rdma",
			"its LimitMEMLOCK= should be infinity, or allow for a page and more a "
			"grant",
			"with mr keys each grant locks its own pages: four of 1 KiB on one page "
			"count as four");
}

void doctor_check_server_rdma(struct report *report, const json_t *health)
{
	const json_t *rdma = json_object_get(health, "rdma");
	const char *state = cmd_json_string(rdma, "state");

	if (!strcmp(state, "active")) {
		doctor_find(report, FINE, "server rdma", NULL, "%.64s, GID %.64s",
			    cmd_json_string(rdma, "device"), cmd_json_string(rdma, "gid"));
		check_isolation(report, cmd_json_string(rdma, "keys"),
				json_object_get(rdma, "isolation"));
	} else if (!strcmp(state, "failed")) {
		doctor_find(report, PROBLEM, "server rdma", "repair its device, and restart it",
			    "its RDMA device is gone; HTTP goes on");
	} else {
		doctor_find(report, NOTE, "server rdma",
			    "its log says why; `maasd --check` and --rdma required tell more",
			    "it has no RDMA: data goes over HTTP");
	}
}
