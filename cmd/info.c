/* SPDX-License-Identifier: Apache-2.0 */
/* health, stats and whoami: prints what the server tells about itself and about its caller. */
#include <string.h>

#include "auth/auth.h"
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

/* What who proves nothing does not see. */
static void print_details(const json_t *health)
{
	if (!json_object_get(health, "version")) {
		puts("The server tells more to its principals: --token-file, MAAS_TOKEN_FILE.");
		return;
	}
	printf("version    %s\n", cmd_json_string(health, "version"));
	print_duration(cmd_json_number(health, "uptime_seconds"));
	printf("arena      %s\nboot       %s\n", cmd_json_string(health, "arena_id"),
	       cmd_json_string(health, "boot_id"));
	print_rdma(json_object_get(health, "rdma"));
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
	printf("server     %s\nstatus     %s\n", maas_url(context->maas),
	       cmd_json_string(health, "status"));
	print_details(health);
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

/* ---- whoami */

static void print_words(const char *what, const json_t *words, const char *none)
{
	const json_t *word;
	size_t i;

	printf("%-10s ", what);
	json_array_foreach(words, i, word) printf("%s%s", i ? ", " : "", cmd_json_text(word));
	puts(json_array_size(words) ? "" : none);
}

static bool is_admin(const json_t *whoami)
{
	const json_t *word;
	size_t i;

	json_array_foreach(json_object_get(whoami, "rights"), i,
			   word) if (!strcmp(cmd_json_text(word), "admin")) return true;
	return false;
}

static void print_quota(const json_t *whoami, const char *name)
{
	const json_t *quota = json_object_get(json_object_get(whoami, "quota"), name);
	double figures[] = {cmd_json_number(json_object_get(whoami, "usage"), name),
			    json_number_value(quota)};
	char text[2][CMD_TEXT];

	if (!quota) /* the server is older */
		return;
	for (int i = 0; i < 2; i++)
		if (!strcmp(name, "bytes"))
			maas_size_round(figures[i], text[i]);
		else
			snprintf(text[i], CMD_TEXT, "%.0f", figures[i]);
	printf("%-11s  %s%s%s\n", name, text[0], json_is_number(quota) ? " of " : ", no limit",
	       json_is_number(quota) ? text[1] : "");
}

static void print_principal(const json_t *whoami)
{
	printf("principal  %s\n", cmd_json_string(whoami, "name"));
	print_words("rights", json_object_get(whoami, "rights"), "none but those by owner");
	print_words("owner", json_object_get(whoami, "owner"),
		    is_admin(whoami) ? "everybody" : "nobody: it cannot allocate");
	print_words("read", json_object_get(whoami, "read"),
		    is_admin(whoami) ? "everybody" : "nobody else");
	puts("");
	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++)
		print_quota(whoami, maas_auth_quota_name((enum maas_auth_quota)i));
}

/* A certificate that the server did not ask for is not shown, so that nobody refuses it. */
static const char *proves_nothing(const struct cmd_context *context)
{
	const char *cert = context->options.cert_file;

	if (!cert)
		cert = getenv("MAAS_CERT_FILE");
	return cert && *cert
		       ? "maas: this proves nothing, the certificate neither: no line of the "
			 "server's --auth-file has cert= with a name of it, or the server asks for "
			 "none (--tls-client-ca)\n"
		       : "maas: this proves nothing: --token-file, MAAS_TOKEN_FILE\n";
}

static int run_whoami(struct cmd_context *context, int argc, char **argv)
{
	json_t *whoami;
	int status;

	parse_plain(context, &cmd_whoami, argc, argv);
	status = cmd_connect(context);
	if (status)
		return status;
	status = context->json ? cmd_fetch_raw(context, "/whoami", &whoami)
			       : cmd_fetch(context, "/whoami", &whoami);
	if (status)
		return status;
	/* Who proves nothing to a server that asks for it fails, for scripts. */
	if (!strcmp(cmd_json_string(whoami, "name"), "*"))
		status = CMD_FAILED;
	if (context->json)
		return cmd_print_json(whoami) ? CMD_FAILED : status;
	if (!json_is_string(json_object_get(whoami, "name")))
		puts("nobody: the server has no --auth-file, and everybody may do everything");
	else
		print_principal(whoami);
	if (status)
		fputs(proves_nothing(context), stderr);
	json_decref(whoami);
	return status;
}

const struct cmd cmd_whoami = {
	.name = "whoami",
	.arguments = "",
	.summary = "Tells who you are to the server, what you may do, and what you use",
	.run = run_whoami,
};
