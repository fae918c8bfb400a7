/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: finds problems of this host and of the server, and says what to do about each. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>

#include "cmd/doctor.h"

#define ENOUGH_FILES  4096
#define SHARED_MEMORY "/dev/shm"
#define CLOCK_APART   60     /* seconds */
#define ENOUGH_SHARED 1.12e9 /* bytes: a default pool, 1 GiB, and its table */

static const char *const grades[] = {"ok", "note", "warning", "problem"};

void doctor_find(struct report *report, enum grade grade, const char *what, const char *remedy,
		 const char *fmt, ...)
{
	char text[4 * FINDING_BYTES];
	char raw[FINDING_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	maas_printable(text, sizeof(text), raw); /* the text may end inside a character */
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

const char *doctor_read_line(const char *path, char line[FINDING_BYTES])
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
		doctor_find(report, FINE, "files", NULL,
			    "%llu may be open, up to %llu when asked for",
			    (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	else
		doctor_find(report, WARNING, "files",
			    "shell: ulimit -n 65536; systemd: LimitNOFILE=65536 in the unit",
			    "only %llu may be open: a maasd here serves few connections",
			    (unsigned long long)limit.rlim_max);
}

static void check_cgroup(struct report *report)
{
	char text[CMD_TEXT];
	uint64_t bytes;
	int r = maas_cgroup_memory("/proc/self", &bytes);

	if (r == -ENOENT)
		doctor_find(report, FINE, "cgroup", NULL, "sets no limit of memory here");
	else if (r)
		doctor_find(report, NOTE, "cgroup",
			    "look from outside: which memory limit does this container have?",
			    "a limit of memory cannot be seen from here");
	else
		doctor_find(
			report, NOTE, "cgroup",
			"keep a maasd's --max-pool-size well below it: a pool that does not fit is "
			"killed",
			"memory is limited to %s here", maas_size_round((double)bytes, text));
}

/* The usual place of a maasd's --memory-file. Containers have little of it. */
static void check_shared_memory(struct report *report)
{
	char text[CMD_TEXT];
	struct statvfs fs;
	double bytes;

	if (statvfs(SHARED_MEMORY, &fs))
		return;
	bytes = (double)fs.f_bavail * (double)fs.f_frsize;
	maas_size_round(bytes, text);
	if (!fs.f_blocks)
		doctor_find(report, FINE, "shm", NULL, SHARED_MEMORY " has no limit of its own");
	else if (bytes < ENOUGH_SHARED)
		doctor_find(report, NOTE, "shm",
			    "mount -o remount,size=SIZE " SHARED_MEMORY "; docker: --shm-size",
			    "only %s are free in " SHARED_MEMORY
			    ": too little for the --memory-file of a maasd's default pool",
			    text);
	else
		doctor_find(report, FINE, "shm", NULL,
			    "%s are free in " SHARED_MEMORY
			    ", for the --memory-file of a maasd here",
			    text);
}

static void check_huge_pages(struct report *report)
{
	static const char file[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char line[FINDING_BYTES];

	doctor_read_line(file, line);
	if (strstr(line, "[advise]") || strstr(line, "[always]") || strstr(line, "[within_size]") ||
	    strstr(line, "[force]"))
		doctor_find(report, FINE, "huge pages", NULL, "the pool can have them");
	else
		doctor_find(
			report, NOTE, "huge pages",
			"echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled",
			"the kernel gives a maasd here small pages only: correct, a little slower");
}

/* ---- the server */

static void check_pool(struct report *report, const json_t *stats)
{
	double used = cmd_json_number(stats, "utilization_percent");

	if (used >= 90)
		doctor_find(
			report, WARNING, "pool",
			"free what is not needed (`maas ls`), or raise --max-pool-size: nothing is "
			"ever evicted",
			"%.1f %% of it is lent", used);
	else
		doctor_find(report, FINE, "pool", NULL, "%.1f %% of it is lent", used);
}

/* Only the server knows its own file system. */
static void check_room(struct report *report, const json_t *stats)
{
	double may_grow =
		cmd_json_number(stats, "max_pool_size") - cmd_json_number(stats, "backed_bytes");
	double room = cmd_json_number(stats, "room_bytes");
	char grow_text[CMD_TEXT];
	char room_text[CMD_TEXT];

	if (!json_is_number(json_object_get(stats, "room_bytes")))
		return;
	maas_size_round(room, room_text);
	if (room < may_grow)
		doctor_find(report, WARNING, "memory file",
			    "on its host: free some of that file system, or make it larger (a "
			    "tmpfs: mount -o remount,size=SIZE)",
			    "the server's pool may grow by %s, its file system has only %s",
			    maas_size_round(may_grow, grow_text), room_text);
	else
		doctor_find(report, FINE, "memory file", NULL,
			    "the server's file system has %s for it to grow", room_text);
}

/* A service has a control group of its own, with another limit than that of a shell. */
static void check_limit(struct report *report, const json_t *stats)
{
	double most = cmd_json_number(stats, "max_pool_size");
	double limit = cmd_json_number(stats, "memory_limit_bytes");
	char most_text[CMD_TEXT];
	char limit_text[CMD_TEXT];

	if (!json_is_number(json_object_get(stats, "memory_limit_bytes")))
		return;
	maas_size_round(most, most_text);
	maas_size_round(limit, limit_text);
	if (most >= limit)
		doctor_find(report, WARNING, "memory",
			    "on its host: raise MemoryMax= or the container's limit, or lower "
			    "--max-pool-size; `maasd --check` there says how far",
			    "the server's pool may grow to %s, its cgroup is limited to %s",
			    most_text, limit_text);
	else
		doctor_find(report, FINE, "memory", NULL,
			    "the server's cgroup is limited to %s, its pool to %s", limit_text,
			    most_text);
}

/* Dates in certificates go by the clock; leases do not. */
static void check_clock(struct report *report, const json_t *health)
{
	double theirs = cmd_json_number(health, "timestamp");
	double ahead = (double)time(NULL) - theirs;

	if (!theirs) /* a server that tells a stranger less */
		return;
	if (ahead > CLOCK_APART || ahead < -CLOCK_APART)
		doctor_find(report, WARNING, "clock",
			    "set both by NTP: timedatectl set-ntp true, or chrony",
			    "this machine's is %.0f s %s the server's", ahead > 0 ? ahead : -ahead,
			    ahead > 0 ? "ahead of" : "behind");
	else
		doctor_find(report, FINE, "clock", NULL, "that of the server, within %d s",
			    CLOCK_APART);
}

/* `health` of a server that may tell no more to who proves nothing. */
static void check_health(struct report *report, struct cmd_context *context, const json_t *health)
{
	const char *version = cmd_json_string(health, "version");

	if (!*version)
		doctor_find(report, NOTE, "server",
			    "a token that the server knows: --token-file, MAAS_TOKEN_FILE",
			    "%.128s is %.32s, and tells no more without a token",
			    maas_url(context->maas), cmd_json_string(health, "status"));
	else if (strcmp(version, maas_version()) != 0)
		doctor_find(report, NOTE, "server", NULL, "version %.32s, this is %s", version,
			    maas_version());
	else
		doctor_find(report, FINE, "server", NULL, "%.128s is %.32s",
			    maas_url(context->maas), cmd_json_string(health, "status"));
	check_clock(report, health);
	if (*version)
		doctor_check_server_rdma(report, health);
}

/* Returns 0, or the exit code if no server answers. */
static int check_stats(struct report *report, struct cmd_context *context)
{
	json_t *page;
	char *text;
	size_t len;
	int error = maas_get(context->maas, "/stats", &text, &len);

	if (error) {
		int status = cmd_is_unreachable(error) ? CMD_UNREACHABLE : CMD_OK;

		doctor_find(report, status ? PROBLEM : NOTE, "pool", NULL, "how full it is: %s",
			    maas_error());
		return status;
	}
	page = json_loadb(text, len, 0, NULL);
	free(text);
	if (json_is_object(page) && cmd_json_clean(page)) {
		check_pool(report, page);
		check_room(report, page);
		check_limit(report, page);
	} else {
		doctor_find(report, PROBLEM, "pool", NULL,
			    "how full it is: /stats makes no sense: is that a maasd?");
	}
	json_decref(page);
	return CMD_OK;
}

/* As check_stats(). */
static int check_server(struct report *report, struct cmd_context *context)
{
	json_t *page;
	int status;

	status = cmd_fetch(context, "/health", &page);
	if (status) {
		doctor_find(report, PROBLEM, "server",
			    status == CMD_UNREACHABLE
				    ? "start `maasd`, or name another: --url, MAAS_URL"
				    : "see above; a token that the server knows: --token-file, "
				      "MAAS_TOKEN_FILE",
			    "%s does not answer as it should", maas_url(context->maas));
		return status;
	}
	check_health(report, context, page);
	json_decref(page);
	return check_stats(report, context);
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
	check_shared_memory(&report);
	check_huge_pages(&report);
	doctor_check_rdma(&report);
	doctor_check_tls(&report, context);
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
