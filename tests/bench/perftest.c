/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/perftest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/server.h"

#define TIMEOUT_MS 60000
#define COLUMNS	   9
#define NUMBER	   16
#define MAX_ARGS   20

/* The row of figures is the one that begins with the size of the message. */
static int read_row(const char *path, uint64_t bytes, double columns[COLUMNS])
{
	FILE *file = fopen(path, "re");
	char line[512];
	int ret = -EBADMSG;

	if (!file)
		return -errno;
	while (ret && fgets(line, sizeof(line), file)) {
		char *at = line;
		char *end;
		unsigned int count = 0;

		while (count < COLUMNS) {
			columns[count] = strtod(at, &end);
			if (end == at)
				break;
			at = end;
			count++;
		}
		if (count >= 4 && columns[0] == (double)bytes)
			ret = 0;
	}
	fclose(file);
	if (ret)
		log_err("no figures in %s", path);
	return ret;
}

static void set_args(const struct perftest *test, char numbers[4][NUMBER],
		     const char *argv[MAX_ARGS])
{
	const char *const args[] = {test->program, "-d", test->device, "-F", "-p",
				    numbers[0],	   "-s", numbers[1],   "-n", numbers[2]};
	size_t count = MAAS_ARRAY_SIZE(args);

	memcpy(argv, args, sizeof(args));
	if (test->depth) {
		argv[count++] = "-t";
		argv[count++] = numbers[3];
	}
	argv[count] = NULL;
}

static int run_both(const struct perftest *test, uint16_t port, const char *output[2],
		    double *ret_cpu_ns)
{
	struct server ends[2] = {{.name = test->program}, {.name = test->program}};
	char numbers[4][NUMBER];
	const char *argv[MAX_ARGS];
	uint64_t cpu_ns[2] = {0};
	size_t count = 0;
	int ret;

	snprintf(numbers[0], NUMBER, "%u", port);
	snprintf(numbers[1], NUMBER, "%llu", (unsigned long long)test->bytes);
	snprintf(numbers[2], NUMBER, "%u", test->messages);
	snprintf(numbers[3], NUMBER, "%u", test->depth);
	set_args(test, numbers, argv);
	while (argv[count])
		count++;
	ret = server_launch(&ends[0], argv, output[0]);
	if (ret == 0)
		ret = server_await_listener(&ends[0], output[0], port);
	argv[count] = "127.0.0.1";
	argv[count + 1] = NULL;
	if (ret == 0)
		ret = server_launch(&ends[1], argv, output[1]);
	if (ret == 0)
		ret = server_wait(&ends[1], output[1], TIMEOUT_MS, &cpu_ns[1]);
	/* Which of the two is at fault was said. */
	if (ends[0].pid && ret && server_stop(&ends[0]))
		log_debug("perftest: its server was stopped");
	if (ret == 0)
		ret = server_wait(&ends[0], output[0], TIMEOUT_MS, &cpu_ns[0]);
	*ret_cpu_ns = (double)(cpu_ns[0] + cpu_ns[1]);
	return ret;
}

int perftest_run(const struct perftest *test, struct perftest_result *ret_result)
{
	char paths[2][512];
	const char *output[2] = {paths[0], paths[1]};
	double columns[COLUMNS] = {0};
	uint16_t port;
	int ret = server_free_port(&port);

	if (ret)
		return ret;
	for (int i = 0; i < 2; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/perftest-%s", test->dir,
			 i ? "client" : "server");
		unlink(paths[i]);
	}
	*ret_result = (struct perftest_result){0};
	ret = run_both(test, port, output, &ret_result->cpu_ns);
	if (ret == 0)
		ret = read_row(output[1], test->bytes, columns);
	if (ret)
		return ret;
	/* #bytes #iterations peak average rate, or min max typical avg stdev 99% 99.9% */
	ret_result->mib_s = columns[3];
	ret_result->p50_us = columns[4];
	ret_result->p99_us = columns[7];
	ret_result->p999_us = columns[8];
	return 0;
}
