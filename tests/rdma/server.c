/* SPDX-License-Identifier: Apache-2.0 */
/* A maasd of the scenario's own: its start, its log, its end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/rdma/scenario.h"

#define MAX_ARGS  40
#define STOP_MS	  2000
#define START_MS  30000
#define LOG_BYTES ((size_t)256 << 10)

struct server server;

/* Until the next call. */
static char *read_log(void)
{
	static char text[LOG_BYTES + 1];
	FILE *file = fopen(server.log, "r");
	size_t len = file ? fread(text, 1, LOG_BYTES, file) : 0;

	text[len] = '\0';
	if (file)
		fclose(file);
	return text;
}

bool server_log_has(const char *text)
{
	return strstr(read_log(), text);
}

/* Fills in the URL once the log says it. */
static bool is_listening(void)
{
	static const char words[] = "Listening on ";
	char *at = strstr(read_log(), words);
	char *end = at ? strchr(at, '\n') : NULL;

	if (end) {
		*end = '\0';
		snprintf(server.url, sizeof(server.url), "%s", at + sizeof(words) - 1);
	}
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

void server_start(const char *keys, const char *options)
{
	const char *argv[MAX_ARGS] = {scenario_maasd};
	unsigned int count = 1;
	char text[512];
	char *rest = text;
	int status;

	snprintf(text, sizeof(text), "--rdma required --listen %s:0 --rdma-keys %s%s%s",
		 getenv("SOFTROCE_ADDR"), keys, *options ? " " : "", options);
	while ((argv[count] = strsep(&rest, " ")))
		require(++count < MAX_ARGS, "too many options");
	require(server_try(argv, &status), "maasd ended with %d", status);
}

void server_stop(void)
{
	uint64_t started_ms = maas_clock_ms();
	const char *fault;
	int status;

	kill(server.pid, SIGTERM);
	require(scenario_wait_for(server.pid, STOP_MS, &status),
		"maasd still runs %d ms after SIGTERM", STOP_MS);
	server.pid = 0;
	require_equal(status, 0, "exit status of maasd");
	if (maas_clock_ms() - started_ms > 500)
		note_time("stopped", started_ms);
	/* An event of the log's level "error": the server itself, not a client, has a fault. */
	fault = strstr(read_log(), " error ");
	if (fault)
		fail("maasd says:%.*s", (int)strcspn(fault, "\n"), fault);
}

double server_metric(const char *name)
{
	struct raw_http *http = raw_http_new(server.url);
	double value = -1;
	char line[128];
	const char *at;

	snprintf(line, sizeof(line), "\n%s ", name);
	require_equal(raw_call(http, "GET", NULL, "/metrics"), 200, "GET /metrics");
	maas_buf_add(&http->reply, "", 1);
	at = strstr(http->reply.data, line);
	if (at)
		value = strtod(at + strlen(line), NULL);
	raw_http_free(http);
	return value;
}

void server_await(const char *name, double value, unsigned int timeout_ms)
{
	double got = -1;

	require_soon((got = server_metric(name)) == value, timeout_ms, "%s is %g, not %g", name,
		     got, value);
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
	snprintf(ret_resources->text, sizeof(ret_resources->text), "%s",
		 shell("rdma resource show"));
	require(*ret_resources->text, "rdma resource show: no answer");
}

void resources_await(const struct resources *before, unsigned int timeout_ms)
{
	struct resources now;

	require_soon((resources_get(&now), !strcmp(now.text, before->text)), timeout_ms,
		     "left:\n%snot:\n%s", now.text, before->text);
}
