/* SPDX-License-Identifier: Apache-2.0 */
/* A maasd of the scenario's own: its start, its log, its end. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/rdma/scenario.h"

#define MAX_ARGS   40
#define STOP_MS	   2000
#define START_MS   30000
#define PAGE_BYTES ((size_t)256 << 10)

struct server server;

static char *read_file(const char *path)
{
	char *text = calloc(1, PAGE_BYTES + 1);
	FILE *file = fopen(path, "r");

	require(text, "out of memory");
	if (file) {
		text[fread(text, 1, PAGE_BYTES, file)] = '\0';
		fclose(file);
	}
	return text;
}

bool server_log_has(const char *text)
{
	char *log = read_file(server.log);
	bool found = strstr(log, text) != NULL;

	free(log);
	return found;
}

/* Fills in the URL once the log says it. */
static bool is_listening(void)
{
	static const char words[] = "Listening on ";
	char *log = read_file(server.log);
	char *at = strstr(log, words);
	char *end = at ? strchr(at, '\n') : NULL;

	if (end) {
		*end = '\0';
		snprintf(server.url, sizeof(server.url), "%s", at + sizeof(words) - 1);
	}
	free(log);
	return end;
}

static void become_server(const char *const *argv)
{
	int fd = open(server.log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	char lease[16];

	/* By environment: some servers are started by another program. */
	snprintf(lease, sizeof(lease), "%u", LEASE_S);
	setenv("MAAS_MAX_SESSION_TTL", lease, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, STDERR_FILENO);
	dup2(fd, STDOUT_FILENO);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

bool server_try(const char *const *argv, int *ret_status)
{
	static unsigned int number;
	uint64_t deadline_ms = maas_clock_ms() + START_MS;

	memset(&server, 0, sizeof(server));
	snprintf(server.log, sizeof(server.log), "%s/server.%d.%u.log", scenario_dir, getpid(),
		 number++);
	server.pid = fork();
	require(server.pid >= 0, "fork: %s", strerror(errno));
	if (server.pid == 0)
		become_server(argv);
	while (!is_listening()) {
		if (scenario_wait_for(server.pid, 10, ret_status)) {
			server.pid = 0;
			return false;
		}
		require(maas_clock_ms() < deadline_ms, "maasd does not start");
	}
	return true;
}

void server_start(const char *options, ...)
{
	const char *argv[MAX_ARGS] = {scenario_maasd, "--rdma", "required", "--listen"};
	unsigned int count = 5;
	char listen[64];
	char text[512];
	char *rest = text;
	int status;
	va_list args;

	snprintf(listen, sizeof(listen), "%s:0", getenv("SOFTROCE_ADDR"));
	argv[4] = listen;
	va_start(args, options);
	vsnprintf(text, sizeof(text), options, args);
	va_end(args);
	while ((argv[count] = strsep(&rest, " ")))
		require(++count < MAX_ARGS, "too many options");
	require(server_try(argv, &status), "maasd ended with %d", status);
}

/* An event of the log's level "error": the server itself, not a client, has a fault. */
static void check_log(void)
{
	char *log = read_file(server.log);
	char *at = strstr(log, " error ");

	if (at) {
		*strchrnul(at, '\n') = '\0';
		fail("maasd says:%s", at);
	}
	free(log);
}

void server_stop(void)
{
	uint64_t started_ms = maas_clock_ms();
	int status;

	kill(server.pid, SIGTERM);
	require(scenario_wait_for(server.pid, STOP_MS, &status),
		"maasd still runs %d ms after SIGTERM", STOP_MS);
	server.pid = 0;
	require_equal(status, 0, "exit status of maasd");
	if (maas_clock_ms() - started_ms > 500)
		note("stopped in %llu ms", (unsigned long long)(maas_clock_ms() - started_ms));
	check_log();
}

double server_metric(const char *name)
{
	struct raw_http *http = raw_http_new(server.url);
	char *page = calloc(1, PAGE_BYTES + 1);
	size_t name_len = strlen(name);
	size_t len = 0;
	double value = -1;

	require(http && page, "out of memory");
	require_equal(raw_get(http, "/metrics", page, PAGE_BYTES, &len), 200, "GET /metrics");
	for (char *line = page; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, name_len) == 0 && line[name_len] == ' ')
			value = strtod(line + name_len, NULL);
	}
	raw_http_free(http);
	free(page);
	return value;
}

void server_await(const char *name, double value, unsigned int timeout_ms)
{
	uint64_t deadline_ms = maas_clock_ms() + timeout_ms;
	double got;

	while ((got = server_metric(name)) != value) {
		require(maas_clock_ms() < deadline_ms, "%s is %g, not %g", name, got, value);
		sleep_ms(50);
	}
}

static uint64_t cpu_ms_of(pid_t pid)
{
	unsigned long user = 0;
	unsigned long kernel = 0;
	char path[64];
	char *text;
	char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	text = read_file(path);
	at = strrchr(text, ')'); /* its name may hold anything */
	for (int field = 2; at && field < 14; field++)
		at = strchr(at + 1, ' ');
	require(at != NULL, "%s: %s", path, text);
	user = strtoul(at, &at, 10);
	kernel = strtoul(at, NULL, 10);
	free(text);
	return (user + kernel) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

static uint64_t wakeups_of(pid_t pid, const char *thread)
{
	char path[64];
	char *text;
	char *at;
	uint64_t count;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", pid, thread);
	text = read_file(path);
	at = strstr(text, "\nvoluntary_ctxt_switches:");
	require(at != NULL, "%s: %s", path, text);
	count = strtoull(at + strlen("\nvoluntary_ctxt_switches:"), NULL, 10);
	free(text);
	return count;
}

void process_effort(pid_t pid, struct effort *ret_effort)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	require(dir != NULL, "%s: %s", path, strerror(errno));
	*ret_effort = (struct effort){.cpu_ms = cpu_ms_of(pid)};
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			ret_effort->wakeups += wakeups_of(pid, entry->d_name);
	closedir(dir);
}

/* ---- what the kernel holds */

void device_open(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	struct rdma_cm_id *id;

	require(inet_pton(AF_INET, getenv("SOFTROCE_ADDR"), &addr.sin_addr) == 1, "SOFTROCE_ADDR");
	require(rdma_create_id(NULL, &id, NULL, RDMA_PS_TCP) == 0 &&
			rdma_bind_addr(id, (struct sockaddr *)&addr) == 0 &&
			rdma_destroy_id(id) == 0,
		"opening the device: %s", strerror(errno));
}

void resources_get(struct resources *ret_resources)
{
	FILE *pipe = popen("rdma resource show", "r"); /* NOLINT(cert-env33-c): a constant */
	size_t len =
		pipe ? fread(ret_resources->text, 1, sizeof(ret_resources->text) - 1, pipe) : 0;

	ret_resources->text[len] = '\0';
	require(pipe && pclose(pipe) == 0 && len, "rdma resource show: no answer");
}

void resources_await(const struct resources *before, unsigned int timeout_ms)
{
	uint64_t deadline_ms = maas_clock_ms() + timeout_ms;
	struct resources now;

	for (;;) {
		resources_get(&now);
		if (strcmp(now.text, before->text) == 0)
			return;
		require(maas_clock_ms() < deadline_ms, "left:\n%snot:\n%s", now.text, before->text);
		sleep_ms(100);
	}
}
