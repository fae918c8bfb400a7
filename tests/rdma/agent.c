/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of the talk between hosts, through files that one writes and the other waits for. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/rdma/agent.h"

#define ANSWER_MS 60000
#define POLL_MS	  20
#define MAX_BYTES (4u << 20)
#define KNOWN	  "--auth-file principals --insecure-plaintext"

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", getenv("SOFTROCE_SHARE"), name);
	return path;
}

/* Takes it away; false: it is not there. */
static bool take_file(const char *name, char *text)
{
	FILE *file = fopen(path_of(name), "r");

	if (!file)
		return false;
	text[fread(text, 1, AGENT_TEXT - 1, file)] = '\0';
	fclose(file);
	require(unlink(path_of(name)) == 0, "%s: %s", path_of(name), strerror(errno));
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

/* The interface that carries SOFTROCE_ADDR is the only one beside lo. */
static void lose(unsigned int percent)
{
	shell("for i in /sys/class/net/*; do [ ${i##*/} = lo ] || dev=${i##*/}; done; "
	      "if [ %u = 0 ]; then tc qdisc del dev $dev root; "
	      "else tc qdisc replace dev $dev root netem loss %u%%; fi",
	      percent, percent);
}

/* ---- host a */

/*
 * The kernel charges a process with the softirqs that run on top of it. So: maasd on the first
 * processor, the device's interrupts and what follows from them on the second.
 */
static void serve_pin(void)
{
	shell("taskset -a -c -p 0 %d >/dev/null && "
	      "for irq in $(sed -n 's/^ *\\([0-9]*\\):.*virtio.*/\\1/p' /proc/interrupts); do "
	      "echo 2 >/proc/irq/$irq/smp_affinity || true; done 2>/dev/null",
	      server.pid);
}

/* KEYS [OPTION...] */
static void serve_start(char *words, char *answer)
{
	const char *keys = strsep(&words, " ");

	if (server.pid) {
		kill(server.pid, SIGKILL);
		scenario_wait(server.pid);
	}
	server_start(keys, words);
	snprintf(answer, AGENT_TEXT, "%s", server.url);
}

/* SEED ID... */
static void serve_check(char *words)
{
	struct raw_http *http = raw_http_new(server.url);
	struct maas_buf *got = &http->reply;
	uint64_t seed = strtoull(strsep(&words, " "), NULL, 10);
	static uint8_t want[MAX_BYTES];
	const char *id;

	for (; (id = strsep(&words, " ")); seed++) {
		require_equal(raw_call(http, "GET", NULL, "/allocate/%s/data", id), 200, id);
		require(got->len && got->len <= MAX_BYTES, "%s has %zu bytes", id, got->len);
		agent_fill(seed, want, got->len);
		require(!memcmp(got->data, want, got->len), "%s differs over HTTP", id);
	}
	raw_http_free(http);
}

static void serve_effort(char *answer)
{
	struct timespec cpu;
	clockid_t clock;

	require(!clock_getcpuclockid(server.pid, &clock) && !clock_gettime(clock, &cpu),
		"no clock of maasd");
	snprintf(answer, AGENT_TEXT, "%llu %s",
		 (unsigned long long)cpu.tv_sec * 1000 + (unsigned long long)cpu.tv_nsec / 1000000,
		 shell("awk '/^voluntary_/ {n += $2} END {print n}' /proc/%d/task/*/status",
		       server.pid));
}

/* The file of --auth-file, which a server that runs reads at once. */
static void serve_principals(const char *text)
{
	write_file("principals", text);
	if (server.pid)
		kill(server.pid, SIGHUP);
}

static void serve_one(char *asked, char *answer)
{
	char *rest = asked + strcspn(asked, " ");

	if (*rest)
		*rest++ = '\0';
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
		serve_check(rest);
	else if (!strcmp(asked, "lose"))
		lose((unsigned int)strtoul(rest, NULL, 10));
	else if (!strcmp(asked, "principals"))
		serve_principals(rest);
	else if (!strcmp(asked, "log"))
		shell("tail -n 60 %s >&2 || true", server.log);
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
		write_file(path_of("answer"), answer);
	}
	return 0;
}

/* ---- host b */

void agent_ask(char *answer, const char *fmt, ...)
{
	char scratch[AGENT_TEXT];
	char text[AGENT_TEXT];
	va_list args;

	/* Of a scenario that was ended while it asked. */
	take_file("answer", scratch);
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	write_file(path_of("ask"), text);
	require_soon(take_file("answer", answer ? answer : scratch), ANSWER_MS,
		     "host a does not answer to \"%s\"", text);
}

void agent_start(const char *keys, const char *options)
{
	char answer[AGENT_TEXT];

	agent_ask(answer, "start %s %s", keys, options);
	require(!strncmp(answer, "http://", 7) && strlen(answer) < RAW_URL, "%s", answer);
	memcpy(server.url, answer, strlen(answer) + 1);
}

void agent_start_known(const char *keys)
{
	/* SoftRoCE does not hold windows to their bounds, so that such a start needs a word. */
	agent_start(keys, strcmp(keys, "window") ? KNOWN : KNOWN " --insecure-rdma");
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
	write_file(path_of("cable"), text);
}
