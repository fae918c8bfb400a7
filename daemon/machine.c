/* SPDX-License-Identifier: Apache-2.0 */
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

#define SPARE_FILES 128 /* for everything that is no connection */
#define NODES_DIR   "/sys/devices/system/node"
#define MAX_NODES   1024
#define LONG_BITS   (8 * sizeof(unsigned long))

/* ---- descriptors */

int maas_machine_raise_files(struct maas_options *options, char error[MAAS_OPTIONS_ERROR])
{
	rlim_t want = (rlim_t)options->num_listen * options->max_connections + SPARE_FILES;
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
	if (limit.rlim_cur < SPARE_FILES + options->num_listen) {
		snprintf(error, MAAS_OPTIONS_ERROR,
			 "the limit of open files (%llu) leaves none for connections; raise it "
			 "with ulimit -n, or LimitNOFILE= in the systemd unit",
			 (unsigned long long)limit.rlim_cur);
		return -EMFILE;
	}
	fits = (unsigned int)((limit.rlim_cur - SPARE_FILES) / options->num_listen);
	log_warn("--max-connections %u lowered to %u: the limit of open files is %llu; raise it "
		 "with "
		 "ulimit -n, or LimitNOFILE= in the systemd unit",
		 options->max_connections, fits, (unsigned long long)limit.rlim_cur);
	options->max_connections = fits;
	return 0;
}

/* ---- groups */

int maas_machine_find_group(const struct maas_options *options, char error[MAAS_OPTIONS_ERROR],
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
	snprintf(error, MAAS_OPTIONS_ERROR, "--socket-group %.64s: there is no such group", text);
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

int maas_machine_bind_node(unsigned int node, char error[MAAS_OPTIONS_ERROR])
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
	snprintf(error, MAAS_OPTIONS_ERROR, "--numa-node %u: %s; the nodes here are: %s", node,
		 r == -ENODEV ? "there is no such node, or it has no memory" : strerror(-r), nodes);
	return r;
}

/* ---- memory */

static uint64_t physical_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page_bytes = sysconf(_SC_PAGESIZE);

	return pages < 0 || page_bytes < 0 ? 0 : (uint64_t)pages * (uint64_t)page_bytes;
}

/* The cgroup's path, from the line "0::PATH". */
static int cgroup_path(const char *proc_path, char *path, size_t size)
{
	FILE *file = fopen(proc_path, "re");
	char line[4096];
	int r = -ENOENT;

	while (file && r && fgets(line, sizeof(line), file))
		if (!strncmp(line, "0::", 3)) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(path, size, "%s", line + 3);
			r = 0;
		}
	if (file)
		fclose(file);
	return r;
}

static uint64_t read_limit(const char *mount, const char *cgroup)
{
	char path[8192];
	char text[32] = "";
	unsigned long long bytes;
	char *end;
	FILE *file;

	snprintf(path, sizeof(path), "%s%s/memory.max", mount, cgroup);
	file = fopen(path, "re");
	if (!file)
		return UINT64_MAX;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	bytes = strtoull(text, &end, 10);
	return end == text ? UINT64_MAX : bytes; /* "max" is none */
}

int maas_machine_cgroup_limit(const char *proc_path, const char *mount, uint64_t *ret_bytes)
{
	uint64_t least = UINT64_MAX;
	char cgroup[4096];
	char *slash;
	int r;

	r = cgroup_path(proc_path, cgroup, sizeof(cgroup));
	if (r)
		return r;
	do {
		uint64_t bytes = read_limit(mount, cgroup);

		if (bytes < least)
			least = bytes;
		slash = strrchr(cgroup, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
	if (least == UINT64_MAX)
		return -ENOENT;
	*ret_bytes = least;
	return 0;
}

static int own_cgroup_limit(uint64_t *ret_bytes)
{
	return maas_machine_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup", ret_bytes);
}

unsigned int maas_machine_warn_memory(uint64_t max_bytes)
{
	uint64_t physical = physical_bytes();
	uint64_t limit;
	char pool_text[MAAS_SIZE_TEXT];
	char text[MAAS_SIZE_TEXT];
	unsigned int warnings = 0;

	maas_size_format(max_bytes, pool_text);
	if (physical && max_bytes > physical) {
		log_warn("--max-pool-size %s is more than this machine's memory (%s): a full pool "
			 "would swap, or be killed",
			 pool_text, maas_size_format(physical, text));
		warnings++;
	}
	if (!own_cgroup_limit(&limit) && max_bytes > limit) {
		log_warn(
			"--max-pool-size %s is more than the cgroup's memory.max (%s): a full pool "
			"would be killed; raise MemoryMax= or the container's limit",
			pool_text, maas_size_format(limit, text));
		warnings++;
	}
	return warnings;
}

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
		maas_buf_str(out, maas_size_format(limit.rlim_cur, text));
	else
		maas_buf_u64(out, limit.rlim_cur);
	maas_buf_printf(out, "%s\n", remark);
}

void maas_machine_print(struct maas_buf *out)
{
	char text[MAAS_SIZE_TEXT];
	uint64_t limit;

	maas_buf_printf(out, "machine memory = %s\n", maas_size_format(physical_bytes(), text));
	if (own_cgroup_limit(&limit))
		maas_buf_str(out, "cgroup memory.max = none\n");
	else
		maas_buf_printf(out, "cgroup memory.max = %s\n", maas_size_format(limit, text));
	print_limit(out, "limit of locked memory", RLIMIT_MEMLOCK, true,
		    " (without RDMA nothing is locked)");
	print_limit(out, "limit of open files", RLIMIT_NOFILE, false, "");
}
