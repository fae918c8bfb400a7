/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/report.h"

static int parse_pairs(const char *text, unsigned int *ret_pairs)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < 1 || value > BENCH_MAX_PAIRS) {
		fprintf(stderr, "--pairs takes 1 to %d\n", BENCH_MAX_PAIRS);
		return -EINVAL;
	}
	*ret_pairs = (unsigned int)value;
	return 0;
}

/* The options that only keep their argument. */
static bool path_option(struct bench_options *options, int name)
{
	const struct {
		int name;
		const char **value;
	} paths[] = {
		{'o', &options->out},  {'d', &options->dir},   {'m', &options->maasd},
		{'b', &options->bare}, {'r', &options->redis}, {'k', &options->keys},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(paths); i++) {
		if (paths[i].name == name) {
			*paths[i].value = optarg;
			return true;
		}
	}
	return false;
}

int bench_options_parse(int argc, char **argv, struct bench_options *ret_options)
{
	static const struct option known[] = {
		{"out", required_argument, NULL, 'o'},
		{"pairs", required_argument, NULL, 'p'},
		{"quick", no_argument, NULL, 'q'},
		{"dir", required_argument, NULL, 'd'},
		{"maasd", required_argument, NULL, 'm'},
		{"bare", required_argument, NULL, 'b'},
		{"redis", required_argument, NULL, 'r'},
		{"keys", required_argument, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	struct bench_options options = {.out = "/dev/stdout", .pairs = 7};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'p':
			if (parse_pairs(optarg, &options.pairs) != 0)
				return -EINVAL;
			break;
		case 'q':
			options.quick = true;
			break;
		default:
			if (!path_option(&options, c))
				return -EINVAL;
		}
	}
	*ret_options = options;
	return 0;
}

void bench_progress(const char *area, unsigned int done, unsigned int total)
{
	bool terminal = isatty(STDERR_FILENO);

	fprintf(stderr, "%s%s: pair %u of %u%s%s", terminal ? "\r\033[K" : "", area,
		done < total ? done + 1 : total, total, done < total ? "" : " done",
		terminal && done < total ? "" : "\n");
	fflush(stderr);
}
