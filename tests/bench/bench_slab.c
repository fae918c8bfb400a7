/* SPDX-License-Identifier: Apache-2.0 */
/* bench_slab: our slabs against jemalloc, mimalloc and glibc's malloc. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/contest.h"
#include "tests/bench/options.h"
#include "tests/bench/report.h"

#define RESIDENT_LIMIT_MIB 64.0

enum contestant {
	OURS,
	JEMALLOC,
	MIMALLOC,
	GLIBC,
	CONTESTANTS,
};
#define LIMIT CONTESTANTS /* no contestant: what is allowed */

static const struct {
	const char *name;
	const char *proof; /* a symbol of its own */
	const char *preload;
} contestants[] = {
	[OURS] = {"ours", NULL, NULL},
	[JEMALLOC] = {"jemalloc", "mallctl", "libjemalloc.so.2"},
	[MIMALLOC] = {"mimalloc", "mi_version", "libmimalloc.so"},
	[GLIBC] = {"glibc", "gnu_get_libc_version", NULL},
	[LIMIT] = {"allowed", NULL, NULL},
};

static const struct {
	const char *name;
	const char *unit;
} figures[CONTEST_FIGURES] = {
	[CONTEST_PAIR] = {"allocate + free 1 KiB, 10 live", "ns"},
	[CONTEST_THREADED] = {"the same beside an idle thread", "ns"},
	[CONTEST_ZEROED] = {"allocate + zero + free 1 KiB, 10 live", "ns"},
	[CONTEST_FEW_NS] = {"free a random one + allocate, 10 live", "ns"},
	[CONTEST_LIVE_NS] = {"free a random one + allocate, 1,000,000 live", "ns"},
	[CONTEST_GROWTH] = {"its growth from 10 to 1,000,000 live", "x"},
	[CONTEST_RESIDENT] = {"resident beside 1,000,000 live 1 KiB", "MiB"},
};

static const struct {
	enum contest_figure figure;
	enum contestant baseline;
	double bar;
} comparisons[] = {
	{CONTEST_PAIR, JEMALLOC, 3.0},
	{CONTEST_PAIR, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_PAIR, GLIBC, BENCH_NO_BAR},
	{CONTEST_THREADED, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_THREADED, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_THREADED, GLIBC, BENCH_NO_BAR},
	{CONTEST_ZEROED, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_ZEROED, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_ZEROED, GLIBC, BENCH_NO_BAR},
	{CONTEST_FEW_NS, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_FEW_NS, GLIBC, BENCH_NO_BAR},
	{CONTEST_LIVE_NS, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_LIVE_NS, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_LIVE_NS, GLIBC, BENCH_NO_BAR},
	{CONTEST_GROWTH, GLIBC, 1.0},
	{CONTEST_GROWTH, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_GROWTH, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_RESIDENT, LIMIT, 1.0},
	{CONTEST_RESIDENT, JEMALLOC, BENCH_NO_BAR},
	{CONTEST_RESIDENT, MIMALLOC, BENCH_NO_BAR},
	{CONTEST_RESIDENT, GLIBC, BENCH_NO_BAR},
};

#define NUM_ROWS MAAS_ARRAY_SIZE(comparisons)

static struct bench_row rows[NUM_ROWS];

/* In the child: one sample, its figures to stdout. */
static int run_sample(const char *name, bool quick)
{
	struct contest_sample sample;

	for (unsigned int i = 0; i < CONTESTANTS; i++) {
		if (strcmp(contestants[i].name, name) != 0)
			continue;
		if (contest_run(contestants[i].proof, quick, &sample) != 0)
			return EXIT_FAILURE;
		for (unsigned int f = 0; f < CONTEST_FIGURES; f++)
			printf("%.17g\n", sample.figures[f]);
		return EXIT_SUCCESS;
	}
	log_err("no such contestant name=%s", name);
	return EXIT_FAILURE;
}

static _Noreturn void exec_sample(enum contestant who, bool quick, int out_fd)
{
	unsetenv("LD_PRELOAD");
	if (contestants[who].preload)
		setenv("LD_PRELOAD", contestants[who].preload, 1);
	if (dup2(out_fd, STDOUT_FILENO) >= 0)
		execl("/proc/self/exe", "bench_slab", "--sample", contestants[who].name,
		      quick ? "--quick" : NULL, (char *)NULL);
	_exit(127);
}

static int take_sample(enum contestant who, bool quick, struct contest_sample *ret_sample)
{
	unsigned int num = 0;
	char line[64];
	int status;
	int fds[2];
	pid_t pid;
	FILE *in;

	if (pipe(fds) != 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		exec_sample(who, quick, fds[1]);
	close(fds[1]);
	in = fdopen(fds[0], "r");
	if (!in)
		return -errno;
	while (num < CONTEST_FIGURES && fgets(line, sizeof(line), in))
		ret_sample->figures[num++] = strtod(line, NULL);
	fclose(in);
	if (waitpid(pid, &status, 0) != pid || status != 0 || num != CONTEST_FIGURES) {
		log_err("sample failed contestant=%s status=%d", contestants[who].name, status);
		return -EIO;
	}
	return 0;
}

static int add_pair(struct contest_sample samples[2][CONTESTANTS])
{
	int ret = 0;

	for (unsigned int i = 0; i < NUM_ROWS && ret == 0; i++) {
		enum contest_figure f = comparisons[i].figure;
		enum contestant b = comparisons[i].baseline;
		double first = RESIDENT_LIMIT_MIB;
		double second = RESIDENT_LIMIT_MIB;

		if (b != LIMIT) {
			first = samples[0][b].figures[f];
			second = samples[1][b].figures[f];
		}
		ret = bench_row_add(&rows[i], samples[0][OURS].figures[f], first, second);
	}
	return ret;
}

/* Everybody once, then the baselines again; the next pair begins with another one. */
static int take_pair(unsigned int pair, bool quick)
{
	struct contest_sample samples[2][CONTESTANTS];

	for (unsigned int again = 0; again < 2; again++) {
		for (unsigned int i = 0; i < CONTESTANTS; i++) {
			enum contestant who = (pair + i) % CONTESTANTS;

			if (again && who == OURS)
				continue;
			if (take_sample(who, quick, &samples[again][who]) != 0)
				return -EIO;
		}
	}
	return add_pair(samples);
}

int main(int argc, char **argv)
{
	struct bench_options options;

	if (bench_options_parse(argc, argv, &options) != 0)
		return 2;
	if (options.sample)
		return run_sample(options.sample, options.quick);
	for (unsigned int i = 0; i < NUM_ROWS; i++) {
		rows[i].name = figures[comparisons[i].figure].name;
		rows[i].unit = figures[comparisons[i].figure].unit;
		rows[i].baseline_name = contestants[comparisons[i].baseline].name;
		rows[i].bar = comparisons[i].bar;
	}
	for (unsigned int pair = 0; pair < options.pairs; pair++) {
		bench_progress("slab", pair, options.pairs);
		if (take_pair(pair, options.quick) != 0)
			return EXIT_FAILURE;
	}
	bench_progress("slab", options.pairs, options.pairs);
	return bench_report_write(options.out, "slab", rows, NUM_ROWS) ? EXIT_FAILURE
								       : EXIT_SUCCESS;
}
