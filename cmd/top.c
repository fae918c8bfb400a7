/* SPDX-License-Identifier: Apache-2.0 */
/* top: prints the server's figures, and the rates of change between two looks, in a loop. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cmd.h"

#define HOME_AND_CLEAR "\033[H\033[J"

struct look {
	uint64_t at_ms;
	double allocations;
	double frees;
	double requests;
};

/* The sum of a counter over its labels, from Prometheus's text format. */
static double sum_metric(const char *text, const char *name)
{
	size_t len = strlen(name);
	double sum = 0;

	while (*text) {
		size_t line = strcspn(text, "\n");
		double number = 0;

		if (!strncmp(text, name, len) && (text[len] == '{' || text[len] == ' ')) {
			const char *value = text + len;

			/* A label's value may have braces: route="/allocate/{id}". */
			if (*value == '{')
				value = memrchr(value, '}', line - (size_t)(value - text));
			if (value)
				number = strtod(value + 1, NULL);
			if (number >= 0 && number < 0x1p63) /* false for NaN */
				sum += number;
		}
		text += line + (text[line] == '\n');
	}
	return sum;
}

static int look(struct cmd_context *context, struct look *ret_look, json_t **ret_stats)
{
	char *metrics;
	int error = maas_get(context->maas, "/metrics", &metrics, NULL);

	if (error)
		return cmd_fail(context, error, "/metrics");
	*ret_look = (struct look){
		.at_ms = maas_clock_ms(),
		.allocations = sum_metric(metrics, "maas_allocations_total"),
		.frees = sum_metric(metrics, "maas_frees_total"),
		.requests = sum_metric(metrics, "maas_http_requests_total"),
	};
	free(metrics);
	return context->json ? cmd_fetch_raw(context, "/stats", ret_stats)
			     : cmd_fetch(context, "/stats", ret_stats);
}

static void print_pools(const json_t *pools)
{
	char size[CMD_TEXT];
	char lent[CMD_TEXT];
	const json_t *pool;
	size_t i;

	printf("%10s %12s %12s %12s %7s\n", "SLAB", "USED", "TOTAL", "LENT", "USED%");
	json_array_foreach(pools, i, pool)
	{
		double used = cmd_json_number(pool, "used_slabs");
		double total = cmd_json_number(pool, "total_slabs");
		double slab = cmd_json_number(pool, "slab_size");

		printf("%10s %12.0f %12.0f %12s %7.1f\n", maas_size_round(slab, size), used, total,
		       maas_size_round(used * slab, lent), total > 0 ? used * 100 / total : 0);
	}
}

static double rate(double now, double before, const struct look *a, const struct look *b)
{
	double seconds = (double)(a->at_ms - b->at_ms) / 1000;

	/* A restarted server counts from zero. */
	return seconds > 0 && now >= before ? (now - before) / seconds : 0;
}

/* The ending of a noun behind a number that is printed without its fraction. */
static const char *plural(double number)
{
	return number > 0.5 && number < 1.5 ? "" : "s";
}

static void print_look(const struct cmd_context *context, const json_t *stats,
		       const struct look *now, const struct look *before)
{
	double active = cmd_json_number(stats, "active_allocations");
	double allocations = rate(now->allocations, before->allocations, now, before);
	double frees = rate(now->frees, before->frees, now, before);
	double requests = rate(now->requests, before->requests, now, before);
	char lent[CMD_TEXT];
	char pool[CMD_TEXT];

	printf("%s  %s of %s lent (%.1f %%), %.0f allocation%s\n", maas_url(context->maas),
	       maas_size_round(cmd_json_number(stats, "total_allocated_bytes"), lent),
	       maas_size_round(cmd_json_number(stats, "max_pool_size"), pool),
	       cmd_json_number(stats, "utilization_percent"), active, plural(active));
	printf("per second: %.0f allocation%s, %.0f free%s, %.0f request%s\n\n", allocations,
	       plural(allocations), frees, plural(frees), requests, plural(requests));
	print_pools(json_object_get(stats, "pool_stats"));
	putchar('\n');
}

static void print_look_json(json_t *stats, const struct look *now, const struct look *before)
{
	json_t *line;

	line = json_pack("{s:f, s:f, s:f, s:O}", "allocations_per_second",
			 rate(now->allocations, before->allocations, now, before),
			 "frees_per_second", rate(now->frees, before->frees, now, before),
			 "requests_per_second", rate(now->requests, before->requests, now, before),
			 "stats", stats);
	(void)cmd_write_json(line, JSON_COMPACT);
}

static void wait_seconds(double seconds)
{
	struct timespec ts = {.tv_sec = (time_t)seconds};

	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	(void)nanosleep(&ts, NULL);
}

static int watch(struct cmd_context *context, uint32_t count, double interval)
{
	bool screen = isatty(STDOUT_FILENO) && !context->json;
	struct look before = {0};
	struct look now = {0};

	for (uint32_t i = 0; !count || i < count; i++) {
		json_t *stats = NULL;
		int status = look(context, &now, &stats);

		if (status)
			return status;
		if (!i)
			before = now;
		if (screen)
			fputs(HOME_AND_CLEAR, stdout);
		if (context->json)
			print_look_json(stats, &now, &before);
		else
			print_look(context, stats, &now, &before);
		json_decref(stats);
		if (cmd_flush())
			return CMD_FAILED;
		before = now;
		if (i + 1 != count)
			wait_seconds(interval);
	}
	return CMD_OK;
}

static int run_top(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						{"count", required_argument, NULL, 'n'},
						{"interval", required_argument, NULL, 'i'},
						{0}};
	double interval = 2;
	uint32_t count = 0;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_top, argc, argv, options)) != -1) {
		char *end;

		if (option == 'n') {
			count = cmd_number(&cmd_top, "--count", optarg, 1, UINT32_MAX);
		} else if (option == 'i') {
			interval = strtod(optarg, &end);
			if (end == optarg || *end || !(interval >= 0.1 && interval <= 86400))
				cmd_usage(&cmd_top,
					  "--interval: %s is no number of seconds from "
					  "0.1 on",
					  optarg);
		}
	}
	if (optind != argc)
		cmd_usage(&cmd_top, "it takes no arguments");
	status = cmd_connect(context);
	return status ? status : watch(context, count, interval);
}

const struct cmd cmd_top = {
	.name = "top",
	.arguments = "[OPTION...]",
	.summary = "Shows what is lent and what is going on, again and again",
	.help = "  --count N        so many looks, then end (default: for ever)\n"
		"  --interval SEC   between two looks (default 2)\n",
	.run = run_top,
};
