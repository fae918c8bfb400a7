/* SPDX-License-Identifier: Apache-2.0 */
/* Runs scenarios: each in a process group of its own, with a time limit, and kills what is left. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rdma/scenario.h"

#define LOG_LINES  "60"
#define LONG_TIMES 10
#define SHELL_TEXT 1024

const char *scenario_maasd;
char scenario_dir[64];
void (*scenario_on_failure)(void);

static unsigned int warnings; /* of the kernel since the boot */
static unsigned int warnings_at_first;
static unsigned int ran;
static unsigned int failed;

/* ---- within a scenario */

void scenario_fail(const char *file, int line, const char *fmt, ...)
{
	const char *name = strrchr(file, '/');
	va_list args;

	printf("  %s:%d: ", name ? name + 1 : file, line);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void scenario_equal(const char *file, int line, long long got, long long want, const char *what)
{
	if (got != want)
		scenario_fail(file, line, "%s: %lld, not %lld", what, got, want);
}

void note(const char *fmt, ...)
{
	FILE *file = fopen("note", "a");
	va_list args;

	require(file, "note: %s", strerror(errno));
	fputs(", ", file);
	va_start(args, fmt);
	vfprintf(file, fmt, args);
	va_end(args);
	fclose(file);
}

void note_time(const char *what, uint64_t started_ms)
{
	note("%s in %llu ms", what, (unsigned long long)(maas_clock_ms() - started_ms));
}

pid_t scenario_fork(void (*run)(void *arg), void *arg)
{
	pid_t pid = fork();

	require(pid >= 0, "fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run(arg);
	fflush(stdout);
	_exit(0);
}

int scenario_wait(pid_t pid)
{
	int status;

	while (!scenario_wait_for(pid, UINT_MAX, &status))
		continue;
	return status;
}

bool scenario_wait_for(pid_t pid, unsigned int timeout_ms, int *ret_status)
{
	uint64_t deadline_ms = maas_clock_ms() + timeout_ms;
	int status;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		require(ended >= 0, "waitpid: %s", strerror(errno));
		if (ended == pid) {
			*ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
			return true;
		}
		if (maas_clock_ms() >= deadline_ms)
			return false;
		usleep(2000);
	}
}

void sleep_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

void write_file(const char *path, const char *text)
{
	char part[264];
	FILE *file;

	snprintf(part, sizeof(part), "%s.part", path);
	file = fopen(part, "w");
	require(file && !fchmod(fileno(file), 0600) && fputs(text, file) >= 0 && !fclose(file) &&
			!rename(part, path),
		"%s: %s", path, strerror(errno));
}

const char *shell(const char *fmt, ...)
{
	static char text[SHELL_TEXT];
	char command[SHELL_TEXT];
	va_list args;
	FILE *pipe;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	fflush(stdout);
	pipe = popen(command, "r"); /* NOLINT(cert-env33-c): a command of ours */
	require(pipe, "popen: %s", strerror(errno));
	text[fread(text, 1, sizeof(text) - 1, pipe)] = '\0';
	require(pclose(pipe) == 0, "failed: %s", command);
	return text;
}

/* ---- running them */

/* How often the kernel warned since the boot; where its log cannot be read, scripts/softroce looks.
 */
static unsigned int kernel_warnings(void)
{
	return (unsigned int)strtoul(
		shell("dmesg 2>/dev/null | grep -c -e WARNING: -e BUG: -e Oops "
		      "-e rxe_pool.c -e 'Call Trace' || true"),
		NULL, 10);
}

/* Runs one in its own process group. Returns NULL when it passed, else why not. */
static const char *run_one(const struct scenario *scenario, const char *keys)
{
	unsigned int limit_s = scenario->limit_s * (maas_test_long() ? LONG_TIMES : 1);
	const char *why = NULL;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setpgid(0, 0);
		scenario->run(keys);
		if (server.pid)
			server_stop();
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0)
		return "fork failed";
	setpgid(pid, pid);
	if (!scenario_wait_for(pid, limit_s * 1000, &status))
		why = "it took too long";
	else if (status > 0)
		why = "see above";
	else if (status < 0)
		why = strsignal(-status);
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0); /* of one that took too long */
	return why;
}

/* `filter`: names, parted by commas, or key modes; NULL: all of this tier. */
static bool is_wanted(const char *name, const char *keys, const char *filter)
{
	char words[256];
	char *rest = words;
	char *word;

	if (!filter)
		return true;
	snprintf(words, sizeof(words), "%s", filter);
	while ((word = strsep(&rest, ",")))
		if (!strcmp(name, word) || !strcmp(keys, word))
			return true;
	return false;
}

/* Returns whether it passed; the folder is empty before and after. */
static bool run_and_report(const struct scenario *scenario, const char *keys)
{
	uint64_t started_ms = maas_clock_ms();
	const char *why = run_one(scenario, keys);
	double took_s = (double)(maas_clock_ms() - started_ms) / 1000;
	unsigned int now = kernel_warnings();

	if (now != warnings) {
		why = "the kernel warned";
		shell("dmesg | tail -n " LOG_LINES " >&2");
	}
	warnings = now;
	printf("%-6s %-24s %-7s %6.1f s%s%s%s\n", why ? "FAILED" : "ok", scenario->name, keys,
	       took_s, shell("cat note 2>/dev/null || true"), why ? ": " : "", why ? why : "");
	if (why && scenario_on_failure)
		scenario_on_failure();
	else if (why)
		shell("tail -n " LOG_LINES " server.*.log >&2 || true");
	shell("rm -f note server.*.log");
	return !why;
}

void scenario_dir_make(void)
{
	snprintf(scenario_dir, sizeof(scenario_dir), "/tmp/maas-device.XXXXXX");
	require(mkdtemp(scenario_dir) && chdir(scenario_dir) == 0, "%s: %s", scenario_dir,
		strerror(errno));
}

/* In each of its key modes, until the kernel warns. */
static void run_modes(const struct scenario *scenario, const char *filter)
{
	char modes[64];
	char *rest = modes;
	char *keys;

	snprintf(modes, sizeof(modes), "%s %s", scenario->keys,
		 maas_test_long() ? scenario->long_keys : "");
	while (warnings == warnings_at_first && (keys = strsep(&rest, " "))) {
		if (!*keys || !is_wanted(scenario->name, keys, filter))
			continue;
		ran++;
		failed += !run_and_report(scenario, keys);
	}
}

int scenario_main(int argc, char **argv, const char *variable, const struct scenario *scenarios,
		  size_t count)
{
	char seed[24];

	if (!getenv(variable)) {
		fprintf(stderr, "no %s: run it through scripts/softroce\n", variable);
		return getenv("MAAS_REQUIRE_RDMA") ? 1 : 77;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: %s MAASD [FILTER]\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	scenario_maasd = argv[1];
	scenario_dir_make();
	/* One for all, so that MAAS_SEED repeats the whole. */
	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)maas_test_seed());
	setenv("MAAS_SEED", seed, 1);
	warnings = warnings_at_first = kernel_warnings();
	for (size_t i = 0; i < count; i++)
		run_modes(&scenarios[i], argc > 2 ? argv[2] : NULL);
	rmdir(scenario_dir);
	printf("%u scenarios, %u failed, seed %s\n", ran, failed, seed);
	return failed || !ran;
}
