/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of the talk between hosts, through files that one writes and the other waits for. */
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/rdma/agent.h"

#define ANSWER_MS 60000
#define POLL_MS	  20
#define MAX_BYTES (4u << 20)

void agent_path(const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", getenv("SOFTROCE_SHARE"), name);
}

/* Appears all at once. */
static void put_file(const char *name, const char *text)
{
	char path[256];
	char part[264];
	FILE *file;

	agent_path(name, path);
	snprintf(part, sizeof(part), "%s.part", path);
	file = fopen(part, "w");
	require(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s: %s", part,
		strerror(errno));
	require(rename(part, path) == 0, "%s: %s", path, strerror(errno));
}

/* Takes it away; false: it is not there. */
static bool take_file(const char *name, char *text)
{
	char path[256];
	FILE *file;
	size_t len;

	agent_path(name, path);
	file = fopen(path, "r");
	if (!file)
		return false;
	len = fread(text, 1, AGENT_TEXT - 1, file);
	text[len] = '\0';
	fclose(file);
	require(unlink(path) == 0, "%s: %s", path, strerror(errno));
	return true;
}

void agent_fill(uint64_t seed, uint8_t *bytes, size_t len)
{
	uint64_t word;

	for (size_t i = 0; i < len; i += sizeof(word)) {
		word = test_random(&seed);
		memcpy(bytes + i, &word, len - i < sizeof(word) ? len - i : sizeof(word));
	}
}

/* The interface that carries SOFTROCE_ADDR, the only one beside lo. */
static void lose(unsigned int percent)
{
	struct if_nameindex *all = if_nameindex();
	char command[128];
	const char *name = NULL;

	for (struct if_nameindex *at = all; at && at->if_name; at++)
		if (strcmp(at->if_name, "lo") != 0)
			name = at->if_name;
	require(name, "no interface");
	if (percent)
		snprintf(command, sizeof(command), "tc qdisc replace dev %s root netem loss %u%%",
			 name, percent);
	else
		snprintf(command, sizeof(command), "tc qdisc del dev %s root", name);
	require(system(command) == 0, "%s", command); /* NOLINT(cert-env33-c) */
	if_freenameindex(all);
}

/* ---- host a */

/*
 * The kernel charges a process with the softirqs that run on top of it. So: maasd on the first
 * processor, the device's interrupts and what follows from them on the second.
 */
static void serve_pin(void)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "taskset -a -c -p 0 %d >/dev/null && "
		 "for irq in $(sed -n 's/^ *\\([0-9]*\\):.*virtio.*/\\1/p' /proc/interrupts); do "
		 "echo 2 >/proc/irq/$irq/smp_affinity || true; done 2>/dev/null",
		 server.pid);
	require(system(command) == 0, "%s", command); /* NOLINT(cert-env33-c) */
}

static void serve_start(char *options, char *answer)
{
	if (server.pid) {
		kill(server.pid, SIGKILL);
		scenario_wait(server.pid);
	}
	server_start("%s", options);
	snprintf(answer, AGENT_TEXT, "%s", server.url);
}

static void serve_check(uint64_t seed, char *answer)
{
	struct raw_http *http = raw_http_new(server.url);
	uint8_t *want = malloc(MAX_BYTES);
	uint8_t *got = malloc(MAX_BYTES);
	char line[RAW_ID + 2];
	unsigned int count = 0;
	char path[256];
	FILE *file;

	agent_path("ids", path);
	file = fopen(path, "r");
	require(http && want && got && file, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		size_t len = 0;

		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/allocate/%s/data", line);
		require_equal(raw_get(http, path, got, MAX_BYTES, &len), 200, path);
		agent_fill(seed + count++, want, len);
		require(len && !memcmp(got, want, len), "%s differs over HTTP", line);
	}
	fclose(file);
	free(want);
	free(got);
	raw_http_free(http);
	snprintf(answer, AGENT_TEXT, "%u", count);
}

static void serve_log(void)
{
	char command[256];

	snprintf(command, sizeof(command), "tail -n 60 %s", server.log);
	if (system(command)) /* NOLINT(cert-env33-c): a path of ours */
		printf("no log\n");
	fflush(stdout);
}

static void serve_effort(char *answer)
{
	struct effort effort;

	process_effort(server.pid, &effort);
	snprintf(answer, AGENT_TEXT, "%llu %llu", (unsigned long long)effort.cpu_ms,
		 (unsigned long long)effort.wakeups);
}

/* The file of --auth-file, which a server that runs reads at once. */
static void serve_principals(const char *text)
{
	FILE *file = fopen("principals", "w");

	require(file && !chmod("principals", 0600) && fputs(text, file) >= 0 && !fclose(file),
		"principals: %s", strerror(errno));
	if (server.pid)
		kill(server.pid, SIGHUP);
}

static void serve_one(char *asked, char *answer)
{
	char *rest = strchr(asked, ' ');

	if (rest)
		*rest++ = '\0';
	else
		rest = asked + strlen(asked);
	memcpy(answer, "done", sizeof("done"));
	if (!strcmp(asked, "start"))
		serve_start(rest, answer);
	else if (!strcmp(asked, "stop"))
		server_stop();
	else if (!strcmp(asked, "effort"))
		serve_effort(answer);
	else if (!strcmp(asked, "pin"))
		serve_pin();
	else if (!strcmp(asked, "metric"))
		snprintf(answer, AGENT_TEXT, "%.17g", server_metric(rest));
	else if (!strcmp(asked, "check"))
		serve_check(strtoull(rest, NULL, 10), answer);
	else if (!strcmp(asked, "lose"))
		lose((unsigned int)strtoul(rest, NULL, 10));
	else if (!strcmp(asked, "principals"))
		serve_principals(rest);
	else if (!strcmp(asked, "log"))
		serve_log();
	else
		require(!strcmp(asked, "end"), "what is %s?", asked);
}

int agent_serve(void)
{
	char answer[AGENT_TEXT];
	char asked[AGENT_TEXT];
	bool ended = false;

	scenario_dir_make();
	while (!ended) {
		while (!take_file("ask", asked))
			sleep_ms(POLL_MS);
		ended = !strcmp(asked, "end");
		serve_one(asked, answer);
		put_file("answer", answer);
	}
	return 0;
}

/* ---- host b */

void agent_ask(char *answer, const char *fmt, ...)
{
	uint64_t deadline_ms = maas_clock_ms() + ANSWER_MS;
	char scratch[AGENT_TEXT];
	char text[AGENT_TEXT];
	va_list args;

	/* Of a scenario that was ended while it asked. */
	take_file("answer", scratch);
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	put_file("ask", text);
	while (!take_file("answer", answer ? answer : scratch)) {
		require(maas_clock_ms() < deadline_ms, "host a does not answer to \"%s\"", text);
		sleep_ms(POLL_MS);
	}
}

void agent_start(const char *options, ...)
{
	char answer[AGENT_TEXT];
	char text[AGENT_TEXT];
	va_list args;

	va_start(args, options);
	vsnprintf(text, sizeof(text), options, args);
	va_end(args);
	agent_ask(answer, "start %s", text);
	require(!strncmp(answer, "http://", 7) && strlen(answer) < RAW_URL, "%s", answer);
	memcpy(server.url, answer, strlen(answer) + 1);
}

void agent_start_with(const char *keys, const char *fmt, ...)
{
	char text[AGENT_TEXT];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	agent_ask(NULL, "principals %s", text);
	/* SoftRoCE does not hold windows to their bounds, so that such a start needs a word. */
	agent_start("--rdma-keys %s --auth-file principals --insecure-plaintext%s", keys,
		    strcmp(keys, "window") ? "" : " --insecure-rdma");
}

void agent_effort(struct effort *ret_effort)
{
	char answer[AGENT_TEXT];
	char *rest;

	agent_ask(answer, "effort");
	ret_effort->cpu_ms = strtoull(answer, &rest, 10);
	ret_effort->wakeups = strtoull(rest, NULL, 10);
}

double agent_metric(const char *name)
{
	char answer[AGENT_TEXT];

	agent_ask(answer, "metric %s", name);
	return strtod(answer, NULL);
}

void agent_lose(unsigned int percent)
{
	agent_ask(NULL, "lose %u", percent);
	lose(percent);
}

void agent_show_log(void)
{
	agent_ask(NULL, "log");
}

void agent_cable(const char *state)
{
	char text[32];

	snprintf(text, sizeof(text), "link a %s\n", state);
	put_file("cable", text);
}
