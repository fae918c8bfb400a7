/* SPDX-License-Identifier: Apache-2.0 */
/* The process_… metrics that every exporter has, from /proc (proc(5)). */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/internal.h"

#define STAT_BYTES 1024

struct process {
	uint64_t cpu_ticks;
	uint64_t start_ticks;
	uint64_t virtual_bytes;
	uint64_t resident_pages;
};

static bool read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t len;

	if (!file)
		return false;
	len = fread(text, 1, size - 1, file);
	fclose(file);
	text[len] = '\0';
	return len > 0;
}

/* Field `number` of /proc/self/stat, as proc(5) counts; `rest` is what follows the second. */
static uint64_t field(const char *rest, int number)
{
	for (int i = 2; i < number && *rest; i++) {
		rest += strspn(rest, " ");
		if (i + 1 < number)
			rest += strcspn(rest, " ");
	}
	return strtoull(rest, NULL, 10);
}

static bool read_process(struct process *ret_process)
{
	char text[STAT_BYTES];
	const char *rest;

	if (!read_text("/proc/self/stat", text, sizeof(text)))
		return false;
	rest = strrchr(text, ')'); /* the name before it may hold anything */
	if (!rest)
		return false;
	rest++;
	*ret_process = (struct process){
		.cpu_ticks = field(rest, 14) + field(rest, 15),
		.start_ticks = field(rest, 22),
		.virtual_bytes = field(rest, 23),
		.resident_pages = field(rest, 24),
	};
	return true;
}

/* When the machine started, in seconds since 1970. */
static double boot_time(void)
{
	struct timespec wall;
	struct timespec up;

	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &up);
	return (double)(wall.tv_sec - up.tv_sec) + (double)(wall.tv_nsec - up.tv_nsec) / 1e9;
}

static uint64_t count_fds(const struct rlimit *limit)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t count = 0;

	if (!dir)
		return errno == EMFILE ? limit->rlim_cur : 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 3; /* ".", ".." and the directory itself */
}

void maas_http_process_metrics(struct maas_buf *out)
{
	double tick = (double)sysconf(_SC_CLK_TCK);
	struct rlimit limit = {0};
	struct process p = {0};

	if (read_process(&p)) {
		maas_buf_printf(out,
				"# HELP process_cpu_seconds_total User and system CPU time.\n"
				"# TYPE process_cpu_seconds_total counter\n"
				"process_cpu_seconds_total %.2f\n"
				"# HELP process_start_time_seconds When the process started, since "
				"1970.\n"
				"# TYPE process_start_time_seconds gauge\n"
				"process_start_time_seconds %.2f\n",
				(double)p.cpu_ticks / tick,
				boot_time() + (double)p.start_ticks / tick);
		maas_http_metric(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
				 p.virtual_bytes);
		maas_http_metric(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
				 p.resident_pages * (uint64_t)sysconf(_SC_PAGESIZE));
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	maas_http_metric(out, "process_open_fds", "gauge", "Open file descriptors.",
			 count_fds(&limit));
	maas_http_metric(out, "process_max_fds", "gauge", "Limit of open file descriptors.",
			 limit.rlim_cur);
}
