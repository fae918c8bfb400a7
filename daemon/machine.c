/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine allows the process: open files, a NUMA node, a group for sockets. Called by the
 * main thread, before any other starts.
 */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/internal.h"

#define FILES_OF_THREAD 2   /* its epoll set, and what wakes it */
#define SPARE_FILES	128 /* for everything else that is no connection */
#define NODES_DIR	"/sys/devices/system/node"
#define MAX_NODES	1024
#define LONG_BITS	(8 * sizeof(unsigned long))

/* ---- descriptors */

int maasd_machine_raise_files(struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	rlim_t addresses = options->listen.num;
	rlim_t metrics = options->listen_metrics.num;
	rlim_t threads = addresses * maas_http_threads(options->http_threads) + metrics;
	rlim_t beside = (addresses + metrics) * MAAS_HTTP_RESERVE +
			metrics * MAAS_HTTP_METRICS_CONNECTIONS + threads * FILES_OF_THREAD +
			SPARE_FILES;
	rlim_t want = addresses * options->max_connections + beside;
	struct rlimit limit;
	struct rlimit raised;
	unsigned int fits;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
		return 0;
	raised = (struct rlimit){want, limit.rlim_max > want ? limit.rlim_max : want};
	if (!setrlimit(RLIMIT_NOFILE, &raised))
		return 0;
	raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
	if (!setrlimit(RLIMIT_NOFILE, &raised))
		limit = raised;
	if (limit.rlim_cur < beside + addresses) {
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "the limit of open files (%llu) leaves none for connections; raise it "
			 "with ulimit -n, or LimitNOFILE= in the systemd unit",
			 (unsigned long long)limit.rlim_cur);
		return -EMFILE;
	}
	fits = (unsigned int)((limit.rlim_cur - beside) / addresses);
	log_warn("--max-connections %u lowered to %u: the limit of open files is %llu; raise it "
		 "with ulimit -n, or LimitNOFILE= in the systemd unit",
		 options->max_connections, fits, (unsigned long long)limit.rlim_cur);
	options->max_connections = fits;
	return 0;
}

/* ---- groups */

int maasd_machine_find_group(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
			     gid_t *ret_group)
{
	const char *text = options->socket_group;
	const struct group *group;
	char *end;
	unsigned long id;

	if (!text)
		return 0;
	group = getgrnam(text);
	if (group) {
		*ret_group = group->gr_gid;
		return 0;
	}
	id = strtoul(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && !*end && id < (gid_t)-1) {
		*ret_group = (gid_t)id;
		return 0;
	}
	snprintf(error, MAASD_OPTIONS_ERROR, "--socket-group %.64s: there is no such group", text);
	return -ENOENT;
}

/* ---- NUMA */

static void list_nodes(char *text, size_t size)
{
	DIR *dir = opendir(NODES_DIR);
	const struct dirent *entry;
	size_t used = 0;

	snprintf(text, size, "none");
	while (dir && (entry = readdir(dir)) && used < size)
		if (!strncmp(entry->d_name, "node", 4) && strchr("0123456789", entry->d_name[4]))
			used += (size_t)snprintf(text + used, size - used, "%s%.8s",
						 used ? ", " : "", entry->d_name + 4);
	if (dir)
		closedir(dir);
}

int maasd_machine_bind_node(unsigned int node, char error[MAASD_OPTIONS_ERROR])
{
	unsigned long mask[MAX_NODES / LONG_BITS] = {0};
	char nodes[128];
	char path[64];
	int r = 0;

	if (node >= MAX_NODES)
		return -ENODEV;
	mask[node / LONG_BITS] = 1ul << node % LONG_BITS;
	snprintf(path, sizeof(path), NODES_DIR "/node%u", node);
	if (access(path, F_OK))
		r = -ENODEV;
	/* The kernel reads one bit less than it is told. */
	else if (syscall(SYS_set_mempolicy, MPOL_BIND, mask, (unsigned long)MAX_NODES + 1))
		r = errno == EINVAL ? -ENODEV : -errno;
	if (!r)
		return 0;
	list_nodes(nodes, sizeof(nodes));
	snprintf(error, MAASD_OPTIONS_ERROR, "--numa-node %u: %s; the nodes here are: %s", node,
		 r == -ENODEV ? "there is no such node, or it has no memory" : strerror(-r), nodes);
	return r;
}

/* ---- the limits of this process */

static void print_limit(struct maas_buf *out, const char *name, int resource, bool bytes,
			const char *remark)
{
	struct rlimit limit;
	char text[MAAS_SIZE_TEXT];

	maas_buf_printf(out, "%s = ", name);
	if (getrlimit((__rlimit_resource_t)resource, &limit))
		maas_buf_str(out, "unknown");
	else if (limit.rlim_cur == RLIM_INFINITY)
		maas_buf_str(out, "unlimited");
	else if (bytes)
		maas_buf_str(out, maas_size_human(limit.rlim_cur, text));
	else
		maas_buf_u64(out, limit.rlim_cur);
	maas_buf_printf(out, "%s\n", remark);
}

void maasd_machine_print(struct maas_buf *out)
{
	print_limit(out, "limit of locked memory", RLIMIT_MEMLOCK, true,
		    " (without RDMA nothing is locked)");
	print_limit(out, "limit of open files", RLIMIT_NOFILE, false, "");
}
