/* SPDX-License-Identifier: Apache-2.0 */
/* alloc, free and ls: the commands that deal with allocations and not with their bytes. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"

#define PAGE 1000

/* ---- alloc */

static int print_allocations(const struct cmd_context *context,
			     const struct maas_allocation *allocations, uint32_t count)
{
	json_t *list;
	int status = CMD_OK;

	if (!context->json) {
		for (uint32_t i = 0; i < count; i++)
			puts(allocations[i].id);
	} else if (count == 1) {
		status = cmd_print_json(cmd_allocation_json(allocations));
	} else {
		list = json_array();
		for (uint32_t i = 0; i < count; i++)
			json_array_append_new(list, cmd_allocation_json(&allocations[i]));
		status = cmd_print_json(list);
	}
	return status ? status : cmd_flush();
}

static int allocate(struct cmd_context *context, uint64_t size, uint32_t count,
		    const struct maas_alloc_options *wanted)
{
	struct maas_allocation *allocations;
	int status;
	int error;

	allocations = calloc(count, sizeof(*allocations));
	if (!allocations) {
		fputs("maas: out of memory\n", stderr);
		return CMD_FAILED;
	}
	cmd_interrupt_defer();
	error = maas_alloc_many(context->maas, size, count, wanted, allocations);
	if (error)
		status = cmd_fail(context, error, "cannot allocate");
	else if (cmd_interrupted())
		status = CMD_FAILED;
	else
		status = print_allocations(context, allocations, count);
	/* Nobody has learned the ids. The same request id gives them once more. */
	if (!wanted->request_id) {
		for (uint32_t i = 0; status && !error && i < count; i++)
			error = maas_free(context->maas, allocations[i].id);
		cmd_tell_lent(error);
	}
	free(allocations);
	return status;
}

static int run_alloc(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						{"count", required_argument, NULL, 'c'},
						{"owner", required_argument, NULL, 'o'},
						{"ttl", required_argument, NULL, 'T'},
						{"request-id", required_argument, NULL, 'r'},
						{0}};
	struct maas_alloc_options wanted = {.size = sizeof(wanted)};
	uint32_t count = 1;
	uint64_t size;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_alloc, argc, argv, options)) != -1) {
		if (option == 'c')
			count = cmd_number(&cmd_alloc, "--count", optarg, 1, MAAS_MAX_BATCH);
		else if (option == 'o')
			wanted.owner = cmd_name(&cmd_alloc, optarg);
		else if (option == 'T')
			wanted.ttl_seconds = cmd_number(&cmd_alloc, "--ttl", optarg, 1, UINT32_MAX);
		else if (option == 'r')
			wanted.request_id = optarg;
	}
	if (argc - optind != 1)
		cmd_usage(&cmd_alloc, "it takes one SIZE");
	size = cmd_size(&cmd_alloc, "SIZE", argv[optind]);
	status = cmd_connect(context);
	return status ? status : allocate(context, size, count, &wanted);
}

const struct cmd cmd_alloc = {
	.name = "alloc",
	.arguments = "[OPTION...] SIZE",
	.summary = "Borrows memory and prints its id",
	.help = "  --count N        so many of that size, all or none (default 1)\n"
		"  --owner NAME     the owner, for `ls` and `free --owner`\n"
		"  --ttl SEC        it ends by itself unless renewed\n"
		"  --request-id ID  the same id gives the same memory, not more\n",
	.run = run_alloc,
};

/* ---- whose */

/* The owner that the options name, MAAS_NO_OWNER, or NULL for everybody. */
static const char *take_owner(struct cmd_context *context, const struct cmd *cmd, int argc,
			      char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						{"owner", required_argument, NULL, 'o'},
						{"no-owner", no_argument, NULL, 'n'},
						{0}};
	const char *owner = NULL;
	int option;

	while ((option = cmd_option(context, cmd, argc, argv, options)) != -1) {
		if (owner)
			cmd_usage(cmd, "--owner or --no-owner, and once");
		owner = option == 'o' ? cmd_name(cmd, optarg) : MAAS_NO_OWNER;
	}
	return owner;
}

/* ---- free */

static int report_freed(const struct cmd_context *context, uint64_t freed, uint64_t missing)
{
	if (context->json)
		(void)cmd_print_json(json_pack("{s:I, s:I}", "freed", (json_int_t)freed, "missing",
					       (json_int_t)missing));
	return missing ? CMD_FAILED : CMD_OK;
}

/* As maas_free_many(), in as many requests as the server's --max-body-size makes of it. */
static int free_in_parts(struct maas *maas, const char *const *ids, uint32_t count, bool *gone)
{
	int freed = maas_free_many(maas, ids, count, gone);
	uint32_t half = count / 2;
	int more;

	if (freed != -EMSGSIZE || count == 1)
		return freed;
	freed = free_in_parts(maas, ids, half, gone);
	if (freed < 0)
		return freed;
	more = free_in_parts(maas, ids + half, count - half, gone + half);
	return more < 0 ? more : freed + more;
}

static int free_ids(struct cmd_context *context, const char *const *ids, uint32_t count)
{
	uint64_t missing = 0;
	bool *gone = calloc(count, sizeof(*gone));
	int freed;

	if (!gone) {
		fputs("maas: out of memory\n", stderr);
		return CMD_FAILED;
	}
	freed = free_in_parts(context->maas, ids, count, gone);
	for (uint32_t i = 0; freed >= 0 && i < count; i++)
		if (gone[i]) {
			fprintf(stderr, "maas: %s is not there\n", ids[i]);
			missing++;
		}
	free(gone);
	if (freed < 0)
		return cmd_fail(context, freed, "cannot free");
	return report_freed(context, (uint64_t)freed, missing);
}

/* Frees one page after the other. Counts what was listed, and what was freed of it. */
static int free_listed(struct maas *maas, const char *owner, uint64_t *ret_listed,
		       uint64_t *ret_freed)
{
	struct maas_allocation *page = calloc(PAGE, sizeof(*page));
	const char **ids = calloc(PAGE, sizeof(*ids));
	bool gone[PAGE];
	char cursor[MAAS_ID_BYTES] = "";
	int r = page && ids ? 0 : -ENOMEM;

	*ret_listed = 0;
	*ret_freed = 0;
	do {
		int count = r ? r : maas_list(maas, owner, cursor, page, PAGE);

		for (int i = 0; i < count; i++)
			ids[i] = page[i].id;
		r = count > 0 ? free_in_parts(maas, ids, (uint32_t)count, gone) : count;
		if (r >= 0) {
			*ret_listed += (uint64_t)count;
			*ret_freed += (uint64_t)r;
			r = 0;
		}
	} while (!r && *cursor);
	free(page);
	free(ids);
	return r;
}

/*
 * All are freed when a listing is empty. What a listing shows may be gone when it is freed, as
 * others free, too: only of what a second listing shows as well is it said that it stays.
 */
static int free_owned(struct cmd_context *context, const char *owner)
{
	uint64_t total = 0;
	uint64_t listed;
	uint64_t freed;
	int in_vain = 0; /* listings of which nothing could be freed */
	int error;

	do {
		error = free_listed(context->maas, owner, &listed, &freed);
		total += freed;
		in_vain = freed ? 0 : in_vain + 1;
	} while (!error && listed && in_vain < 2);
	if (error)
		return cmd_fail(context, error, "cannot free");
	if (!context->json)
		printf("%" PRIu64 " freed\n", total);
	if (listed)
		fprintf(stderr,
			"maas: %" PRIu64 " allocation%s still there: may you free what others "
			"own? `maas whoami`\n",
			listed, listed == 1 ? " is" : "s are");
	return report_freed(context, total, listed);
}

static int run_free(struct cmd_context *context, int argc, char **argv)
{
	const char *owner = take_owner(context, &cmd_free, argc, argv);
	int status;

	if (owner ? optind != argc : optind == argc)
		cmd_usage(&cmd_free, "it takes either IDs, --owner NAME or --no-owner");
	if (argc - optind > MAAS_MAX_BATCH)
		cmd_usage(&cmd_free, "at most %d IDs at once", MAAS_MAX_BATCH);
	status = cmd_connect(context);
	if (status)
		return status;
	if (owner)
		return free_owned(context, owner);
	return free_ids(context, (const char *const *)(argv + optind), (uint32_t)(argc - optind));
}

const struct cmd cmd_free = {
	.name = "free",
	.arguments = "ID... | --owner NAME | --no-owner",
	.summary = "Gives memory back",
	.help = "  --owner NAME     all memory of NAME\n"
		"  --no-owner       all memory that has no owner\n",
	.run = run_free,
};

/* ---- ls */

static void print_row(const struct maas_allocation *a)
{
	char size[CMD_TEXT];
	char slab[CMD_TEXT];
	char lease[CMD_TEXT] = "-";
	char *owner = cmd_printable(*a->owner ? a->owner : "-");

	if (a->lifetime == MAAS_LIFETIME_TTL)
		snprintf(lease, sizeof(lease), "%us", a->lease_seconds);
	else if (a->lifetime == MAAS_LIFETIME_SESSION)
		snprintf(lease, sizeof(lease), "session");
	printf("%-36s %10s %10s %8llus %8s %s\n", a->id,
	       maas_size_round((double)a->size_bytes, size),
	       maas_size_round((double)a->actual_size_bytes, slab),
	       (unsigned long long)a->age_seconds, lease, owner);
	free(owner);
}

/* Page by page: a million allocations take no memory here, and no answer is that long. */
static int list(struct cmd_context *context, const char *owner, json_t *array)
{
	struct maas_allocation *page = calloc(PAGE, sizeof(*page));
	char cursor[MAAS_ID_BYTES] = "";
	int count;

	if (!page) {
		fputs("maas: out of memory\n", stderr);
		return CMD_FAILED;
	}
	do {
		count = maas_list(context->maas, owner, cursor, page, PAGE);
		for (int i = 0; i < count; i++) {
			if (array)
				json_array_append_new(array, cmd_allocation_json(&page[i]));
			else
				print_row(&page[i]);
		}
	} while (count >= 0 && *cursor);
	free(page);
	return count < 0 ? cmd_fail(context, count, "cannot list") : CMD_OK;
}

static int run_ls(struct cmd_context *context, int argc, char **argv)
{
	const char *owner = take_owner(context, &cmd_ls, argc, argv);
	json_t *array;
	int status;

	if (optind != argc)
		cmd_usage(&cmd_ls, "it takes no arguments");
	status = cmd_connect(context);
	if (status)
		return status;
	if (!context->json) {
		printf("%-36s %10s %10s %9s %8s %s\n", "ID", "SIZE", "SLAB", "AGE", "LEASE",
		       "OWNER");
		return list(context, owner, NULL);
	}
	array = json_array();
	status = list(context, owner, array);
	if (status)
		json_decref(array);
	return status ? status : cmd_print_json(array);
}

const struct cmd cmd_ls = {
	.name = "ls",
	.arguments = "[--owner NAME | --no-owner]",
	.summary = "Lists what is lent",
	.help = "  --owner NAME     only the memory of NAME\n"
		"  --no-owner       only what has no owner\n",
	.run = run_ls,
};
