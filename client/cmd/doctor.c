/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what on this host, or about the server, stands in the way, and what to do about it. */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "client/cmd/cmd.h"

#define RDMA_DEVICES  "/sys/class/infiniband"
#define ENOUGH_FILES  4096
#define FINDING_BYTES 256

enum grade { FINE, NOTE, WARNING, PROBLEM };

struct report {
	json_t *list; /* NULL: print as it comes */
	enum grade worst;
};

static const char *const grades[] = {"ok", "note", "warning", "problem"};

MAAS_PRINTF(5, 6)
static void find(struct report *report, enum grade grade, const char *what, const char *remedy,
		 const char *fmt, ...)
{
	char text[FINDING_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (grade > report->worst)
		report->worst = grade;
	if (report->list) {
		json_array_append_new(report->list,
				      json_pack("{s:s, s:s, s:s, s:s?}", "check", what, "grade",
						grades[grade], "finding", text, "remedy", remedy));
		return;
	}
	printf("%-8s %-12s %s\n", grades[grade], what, text);
	if (remedy)
		printf("%-8s %-12s -> %s\n", "", "", remedy);
}

/* The first line of a small file, "" when it cannot be read. */
static const char *read_line(const char *path, char line[FINDING_BYTES])
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (!file)
		return line;
	if (!fgets(line, FINDING_BYTES, file))
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	fclose(file);
	return line;
}

/* ---- this host */

static void check_files(struct report *report)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	if (limit.rlim_cur >= ENOUGH_FILES || limit.rlim_max >= ENOUGH_FILES)
		find(report, FINE, "files", NULL, "%llu may be open, up to %llu when asked for",
		     (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	else
		find(report, WARNING, "files",
		     "shell: ulimit -n 65536; systemd: LimitNOFILE=65536 in the unit",
		     "only %llu may be open: a maasd here serves few connections",
		     (unsigned long long)limit.rlim_max);
}

static void check_cgroup(struct report *report)
{
	char line[FINDING_BYTES];
	char path[FINDING_BYTES + 64];
	char text[CMD_TEXT];
	const char *group;
	uint64_t bytes;

	group = strrchr(read_line("/proc/self/cgroup", line), ':');
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group ? group + 1 : "");
	read_line(path, line);
	if (maas_size_parse(line, &bytes))
		find(report, FINE, "cgroup", NULL, "sets no limit of memory");
	else
		find(report, NOTE, "cgroup",
		     "keep a maasd's --max-pool-size well below it: a pool that does not fit is "
		     "killed",
		     "memory is limited to %s", cmd_human((double)bytes, text));
}

static void check_huge_pages(struct report *report)
{
	static const char file[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char line[FINDING_BYTES];

	read_line(file, line);
	if (strstr(line, "[advise]") || strstr(line, "[always]") || strstr(line, "[within_size]"))
		find(report, FINE, "huge pages", NULL, "the pool can have them");
	else
		find(report, NOTE, "huge pages",
		     "echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		     "the kernel gives a maasd here small pages only: correct, a little slower");
}

/* ---- RDMA devices, as the kernel lists them: no library is needed for that */

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
		if (!*read_line(path, line))
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
	read_line(path, line);
	if (!strstr(line, "ACTIVE"))
		find(report, WARNING, "rdma",
		     "bring the link up; `rdma link` and `ip link` show it",
		     "%.64s port %.16s is not active (%.32s)", device, port, line);
	else if (!port_routes(device, port))
		find(report, WARNING, "rdma", "give the port's interface an IP address",
		     "%.64s port %.16s has link-local GIDs only: other subnets cannot reach it",
		     device, port);
	else
		find(report, FINE, "rdma", NULL, "%.64s port %.16s is active", device, port);
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

static void check_memlock(struct report *report)
{
	struct rlimit limit;
	char text[CMD_TEXT];

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return;
	if (limit.rlim_cur == RLIM_INFINITY)
		find(report, FINE, "memlock", NULL, "unlimited");
	else
		find(report, WARNING, "memlock",
		     "shell: ulimit -l unlimited; systemd: LimitMEMLOCK=infinity in the unit",
		     "at most %s may be locked, and RDMA locks what it registers: a page or more "
		     "for each grant, however small",
		     cmd_human((double)limit.rlim_cur, text));
}

static void check_rdma(struct report *report)
{
	if (each_entry(report, RDMA_DEVICES, NULL, check_device))
		check_memlock(report);
	else
		find(report, NOTE, "rdma", "SoftRoCE: rdma link add rxe0 type rxe netdev INTERFACE",
		     "there is no RDMA device: data goes over HTTP");
}

/* ---- the server */

static void check_pool(struct report *report, const json_t *stats)
{
	double used = cmd_json_number(stats, "utilization_percent");

	if (used >= 90)
		find(report, WARNING, "pool",
		     "free what is not needed (`maas ls`), or raise --max-pool-size: nothing is "
		     "ever evicted",
		     "%.1f %% of it is lent", used);
	else
		find(report, FINE, "pool", NULL, "%.1f %% of it is lent", used);
}

/* 0, or the exit code when no server answers. */
static int check_server(struct report *report, struct cmd_context *context)
{
	json_t *page;
	int status;

	status = cmd_fetch(context, "/health", &page);
	if (status) {
		find(report, PROBLEM, "server", "start `maasd`, or name another: --url, MAAS_URL",
		     "%s does not answer as it should", maas_url(context->maas));
		return status;
	}
	if (strcmp(cmd_json_string(page, "version"), maas_version()) != 0)
		find(report, NOTE, "server", NULL, "version %.32s, this is %s",
		     cmd_json_string(page, "version"), maas_version());
	else
		find(report, FINE, "server", NULL, "%.128s is %.32s", maas_url(context->maas),
		     cmd_json_string(page, "status"));
	json_decref(page);
	status = cmd_fetch(context, "/stats", &page);
	if (status)
		return status;
	check_pool(report, page);
	json_decref(page);
	return CMD_OK;
}

static int run_doctor(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS, {0}};
	struct report report = {0};
	int status;

	if (cmd_option(context, &cmd_doctor, argc, argv, options) != -1 || optind != argc)
		cmd_usage(&cmd_doctor, "it takes no arguments");
	status = cmd_connect(context);
	if (status)
		return status;
	if (context->json)
		report.list = json_array();
	check_files(&report);
	check_cgroup(&report);
	check_huge_pages(&report);
	check_rdma(&report);
	status = check_server(&report, context);
	if (report.list)
		(void)cmd_print_json(report.list);
	if (status)
		return status;
	return report.worst >= WARNING ? CMD_FAILED : CMD_OK;
}

const struct cmd cmd_doctor = {
	.name = "doctor",
	.arguments = "",
	.summary = "Looks for what stands in the way here, and says what to do",
	.help = "  Exit codes: 0 nothing to do, 1 warnings or problems, 3 no server answers.\n",
	.run = run_doctor,
};
