/* SPDX-License-Identifier: Apache-2.0 */
/* health and stats: prints what the server tells about itself. */
#include <string.h>

#include "cmd/cmd.h"

static void parse_plain(struct cmd_context *context, const struct cmd *cmd, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS, {0}};

	if (cmd_option(context, cmd, argc, argv, options) != -1 || optind != argc)
		cmd_usage(cmd, "it takes no arguments");
}

static void print_duration(double seconds)
{
	unsigned long long s = (unsigned long long)seconds;

	printf("up         %llud %02llu:%02llu:%02llu\n", s / 86400, s / 3600 % 24, s / 60 % 60,
	       s % 60);
}

static void print_rdma(const json_t *rdma)
{
	const char *state = cmd_json_string(rdma, "state");

	if (*cmd_json_string(rdma, "device"))
		printf("rdma       %s, device %s, keys %s\n", state,
		       cmd_json_string(rdma, "device"), cmd_json_string(rdma, "keys"));
	else
		printf("rdma       %s: data goes over HTTP\n", *state ? state : "off");
}

static int run_health(struct cmd_context *context, int argc, char **argv)
{
	json_t *health;
	bool healthy;
	int status;

	parse_plain(context, &cmd_health, argc, argv);
	status = cmd_connect(context);
	if (status)
		return status;
	if (context->json)
		return cmd_print_page(context, "/health");
	status = cmd_fetch(context, "/health", &health);
	if (status)
		return status;
	healthy = !strcmp(cmd_json_string(health, "status"), "healthy");
	printf("server     %s\nstatus     %s\nversion    %s\n", maas_url(context->maas),
	       cmd_json_string(health, "status"), cmd_json_string(health, "version"));
	print_duration(cmd_json_number(health, "uptime_seconds"));
	printf("arena      %s\nboot       %s\n", cmd_json_string(health, "arena_id"),
	       cmd_json_string(health, "boot_id"));
	print_rdma(json_object_get(health, "rdma"));
	json_decref(health);
	return healthy ? CMD_OK : CMD_FAILED;
}

const struct cmd cmd_health = {
	.name = "health",
	.arguments = "",
	.summary = "Tells whether the server is well",
	.run = run_health,
};

static void print_pools(const json_t *pools)
{
	const json_t *pool;
	char text[3][CMD_TEXT];
	size_t i;

	printf("\n%10s %12s %12s %12s %12s %12s\n", "slab", "used", "free", "total", "lent",
	       "asked for");
	json_array_foreach(pools, i, pool)
		printf("%10s %12.0f %12.0f %12.0f %12s %12s\n",
		       maas_size_round(cmd_json_number(pool, "slab_size"), text[0]),
		       cmd_json_number(pool, "used_slabs"), cmd_json_number(pool, "free_slabs"),
		       cmd_json_number(pool, "total_slabs"),
		       maas_size_round(cmd_json_number(pool, "slab_size") *
					       cmd_json_number(pool, "used_slabs"),
				       text[1]),
		       maas_size_round(cmd_json_number(pool, "requested_bytes"), text[2]));
}

static int run_stats(struct cmd_context *context, int argc, char **argv)
{
	char text[3][CMD_TEXT];
	json_t *stats;
	int status;

	parse_plain(context, &cmd_stats, argc, argv);
	status = cmd_connect(context);
	if (status)
		return status;
	if (context->json)
		return cmd_print_page(context, "/stats");
	status = cmd_fetch(context, "/stats", &stats);
	if (status)
		return status;
	printf("allocations  %.0f active, %.0f since the start\n",
	       cmd_json_number(stats, "active_allocations"),
	       cmd_json_number(stats, "total_allocations"));
	printf("memory       %s lent of %s (%.1f %%), %s asked for\n",
	       maas_size_round(cmd_json_number(stats, "total_allocated_bytes"), text[0]),
	       maas_size_round(cmd_json_number(stats, "max_pool_size"), text[1]),
	       cmd_json_number(stats, "utilization_percent"),
	       maas_size_round(cmd_json_number(stats, "total_in_use_bytes"), text[2]));
	print_pools(json_object_get(stats, "pool_stats"));
	json_decref(stats);
	return CMD_OK;
}

const struct cmd cmd_stats = {
	.name = "stats",
	.arguments = "",
	.summary = "Shows what is lent, by size of slab",
	.run = run_stats,
};
