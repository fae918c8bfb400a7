/* SPDX-License-Identifier: Apache-2.0 */
/* Runs scenarios: each in a process group of its own, with a time limit, and kills what is left. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rdma/scenario.h"

#define LOG_LINES	 "60"
#define LONG_TIMES	 10
#define KLOG_READ_ALL	 3
#define KLOG_SIZE_BUFFER 10

const char *scenario_maasd;
char scenario_dir[64];
void (*scenario_on_failure)(void);

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

void scenario_bytes(const char *file, int line, const uint8_t *bytes, uint8_t value, size_t len,
		    const char *what)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != value)
			scenario_fail(file, line, "%s: byte %zu of %zu is 0x%02x, not 0x%02x", what,
				      i, len, bytes[i], value);
}

static void note_path(char *path, size_t size)
{
	snprintf(path, size, "%s/note", scenario_dir);
}

void note(const char *fmt, ...)
{
	char path[96];
	va_list args;
	FILE *file;

	note_path(path, sizeof(path));
	file = fopen(path, "a");
	require(file, "%s: %s", path, strerror(errno));
	fputs(", ", file);
	va_start(args, fmt);
	vfprintf(file, fmt, args);
	va_end(args);
	fclose(file);
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

static int status_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int scenario_wait(pid_t pid)
{
	int status;

	require(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	return status_of(status);
}

bool scenario_wait_for(pid_t pid, unsigned int timeout_ms, int *ret_status)
{
	uint64_t deadline_ms = maas_clock_ms() + timeout_ms;
	int status;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		require(ended >= 0, "waitpid: %s", strerror(errno));
		if (ended == pid) {
			*ret_status = status_of(status);
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

/* ---- running them */

/* How often the kernel warned since the boot; where its log cannot be read, scripts/softroce looks.
 */
static unsigned int kernel_warnings(void)
{
	static const char *const words[] = {"WARNING:", "BUG:", "Oops", "rxe_pool.c", "Call Trace"};
	int size = klogctl(KLOG_SIZE_BUFFER, NULL, 0);
	char *text = size > 0 ? calloc(1, (size_t)size + 1) : NULL;
	unsigned int count = 0;

	if (text && klogctl(KLOG_READ_ALL, text, size) > 0)
		for (size_t i = 0; i < MAAS_ARRAY_SIZE(words); i++)
			for (char *at = text; (at = strstr(at, words[i])); at++)
				count++;
	free(text);
	return count;
}

/* In the scenarios' folder; only what a person sees depends on it. */
static void run_shell(const char *command)
{
	fflush(stdout);
	if (system(command)) /* NOLINT(cert-env33-c): a constant of ours */
		printf("  (%s failed)\n", command);
}

/* Runs one in its own process group. Returns NULL when it passed, else why not. */
static const char *run_one(const struct scenario *scenario)
{
	unsigned int limit_s = scenario->limit_s * (maas_test_long() ? LONG_TIMES : 1);
	const char *why = NULL;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setpgid(0, 0);
		scenario->run(scenario->keys);
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
	if (why && strcmp(why, "it took too long") == 0)
		scenario_wait(pid);
	return why;
}

static void print_line(const struct scenario *scenario, const char *why, uint64_t took_ms)
{
	char path[96];
	char text[256] = "";
	FILE *file;

	note_path(path, sizeof(path));
	file = fopen(path, "r");
	if (file) {
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
	}
	printf("%-6s %-24s %-7s %6.1f s%s%s%s\n", why ? "FAILED" : "ok", scenario->name,
	       scenario->keys ? scenario->keys : "", (double)took_ms / 1000, text, why ? ": " : "",
	       why ? why : "");
	fflush(stdout);
}

/* `filter`: names, parted by commas, or key modes; NULL: all of this tier. */
static bool is_wanted(const struct scenario *scenario, const char *filter)
{
	char words[256];
	char *rest = words;
	char *word;

	if (scenario->tier == SCENARIO_LONG && !maas_test_long())
		return false;
	if (!filter)
		return true;
	snprintf(words, sizeof(words), "%s", filter);
	while ((word = strsep(&rest, ",")))
		if (!strcmp(scenario->name, word) ||
		    (scenario->keys && !strcmp(scenario->keys, word)))
			return true;
	return false;
}

/* Returns whether it passed; the folder is empty before and after. */
static bool run_and_report(const struct scenario *scenario, unsigned int *warnings)
{
	uint64_t started_ms = maas_clock_ms();
	const char *why = run_one(scenario);
	unsigned int now = kernel_warnings();

	if (now != *warnings) {
		why = "the kernel warned";
		run_shell("dmesg | tail -n " LOG_LINES);
	}
	*warnings = now;
	print_line(scenario, why, maas_clock_ms() - started_ms);
	if (why && scenario_on_failure)
		scenario_on_failure();
	else if (why)
		run_shell("tail -n " LOG_LINES " server.*.log");
	run_shell("rm -f note server.*.log");
	return !why;
}

void scenario_dir_make(void)
{
	snprintf(scenario_dir, sizeof(scenario_dir), "/tmp/maas-device.XXXXXX");
	require(mkdtemp(scenario_dir) && chdir(scenario_dir) == 0, "%s: %s", scenario_dir,
		strerror(errno));
}

/* One for all, so that MAAS_SEED repeats the whole. */
static void choose_seed(void)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)maas_test_seed());
	setenv("MAAS_SEED", text, 1);
}

int scenario_main(int argc, char **argv, const char *variable, const struct scenario *scenarios,
		  size_t count)
{
	unsigned int warnings = kernel_warnings();
	unsigned int at_first = warnings;
	unsigned int ran = 0;
	unsigned int failed = 0;

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
	choose_seed();
	for (size_t i = 0; i < count && warnings == at_first; i++) {
		if (!is_wanted(&scenarios[i], argc > 2 ? argv[2] : NULL))
			continue;
		ran++;
		failed += !run_and_report(&scenarios[i], &warnings);
	}
	rmdir(scenario_dir);
	printf("%u scenarios, %u failed, seed %llu\n", ran, failed,
	       (unsigned long long)maas_test_seed());
	return failed || !ran;
}
