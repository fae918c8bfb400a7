/* SPDX-License-Identifier: Apache-2.0 */
/* prometheus status: who keeps a Prometheus's memory at the server, and what a take-over would
 * find. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/prometheus.h"

#define TRIES	     3 /* looks at a log that seems broken: it may be being written */
#define TRY_AGAIN_MS 300
#define TIME_BYTES   32
#define COLUMNS	     8
#define MAX_WIDTH    64 /* of a column, whatever a server says */

struct status {
	struct cmd_context *context;
	json_t *list;  /* of owners, or rows of the table of all owners */
	bool tell_all; /* everything about the one named owner */
};

/* One owner, its sessions and its memory. */
struct owner {
	const char *name;
	struct holding holding;
	json_t *leader;	  /* the leader's session, NULL: there is none */
	json_t *standbys; /* an array of the standbys' sessions */
	bool more;	  /* standbys than the server tells of */
};

/* ---- who is there */

static json_t *session_json(const json_t *session)
{
	static const char *const numbers[] = {"age_seconds", "ttl_seconds", "lease_seconds"};
	json_t *copy = json_pack("{s:s}", "from", cmd_json_string(session, "from"));

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(numbers); i++)
		json_object_set_new(copy, numbers[i],
				    json_integer((json_int_t)cmd_json_number(session, numbers[i])));
	return copy;
}

/* Adds the sessions of a name: the exclusive ones, or the others. `ret_more`: there are more of the
 * name than the server tells of. */
static int add_sessions(struct cmd_context *context, const char *name, const char *suffix,
			bool exclusive, json_t *array, bool *ret_more)
{
	char path[sizeof("/sessions?name=@follow") + MAAS_OWNER_BYTES];
	const json_t *session;
	json_t *page;
	size_t i;
	int status;

	snprintf(path, sizeof(path), "/sessions?name=%s%s", name, suffix);
	status = cmd_fetch(context, path, &page);
	if (status)
		return status;
	json_array_foreach(json_object_get(page, "sessions"), i,
			   session) if (json_is_true(json_object_get(session, "exclusive")) ==
					exclusive)
		json_array_append_new(array, session_json(session));
	*ret_more = json_is_true(json_object_get(page, "more"));
	json_decref(page);
	return CMD_OK;
}

/* The suffix of the session name that an owner's standbys share; owners' names leave room for
 * it. */
#define FOLLOW "@follow"

static int look_for_clients(struct cmd_context *context, struct owner *owner)
{
	json_t *leaders = json_array();
	int status = add_sessions(context, owner->name, "", true, leaders, &owner->more);

	owner->leader = json_incref(json_array_get(leaders, 0));
	json_decref(leaders);
	owner->standbys = json_array();
	if (!status && strlen(owner->name) + strlen(FOLLOW) < MAAS_OWNER_BYTES)
		status = add_sessions(context, owner->name, FOLLOW, false, owner->standbys,
				      &owner->more);
	return status;
}

/* ---- text */

static char *age_text(double seconds, char text[TIME_BYTES])
{
	uint64_t s = (uint64_t)seconds;

	if (s < 120)
		snprintf(text, TIME_BYTES, "%" PRIu64 "s", s);
	else if (s < 7200)
		snprintf(text, TIME_BYTES, "%" PRIu64 "m", s / 60);
	else if (s < UINT64_C(48) * 3600)
		snprintf(text, TIME_BYTES, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(text, TIME_BYTES, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return text;
}

/* The number comes from memory that anybody may have written. */
static char *time_text(int64_t ms, char text[TIME_BYTES])
{
	time_t seconds = ms / 1000 - (ms % 1000 < 0);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || tm.tm_year > 8099 ||
	    !strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(text, TIME_BYTES, "%" PRId64 " ms", ms);
	return text;
}

static char *age_of(const json_t *session, char text[TIME_BYTES])
{
	return age_text(cmd_json_number(session, "age_seconds"), text);
}

static void print_session(const char *what, const json_t *session)
{
	double left = cmd_json_number(session, "lease_seconds");
	double ttl = cmd_json_number(session, "ttl_seconds");
	char age[TIME_BYTES];
	char quiet[TIME_BYTES];

	printf("%-10s %s, for %s, heard of %s ago\n", what, cmd_json_string(session, "from"),
	       age_of(session, age), age_text(ttl > left ? ttl - left : 0, quiet));
}

static void print_clients(const struct owner *owner)
{
	const json_t *standby;
	size_t i;

	if (owner->leader)
		print_session("leader", owner->leader);
	else
		puts("leader     none: nobody holds the name");
	if (!json_array_size(owner->standbys))
		puts("standby    none");
	json_array_foreach(owner->standbys, i, standby) print_session("standby", standby);
	if (owner->more)
		puts("standby    and more");
}

/* For the table of all owners, which has 20 characters for it. */
static const char *const log_words[] = {
	[REMOTEFILE_LOG_NONE] = "no log",
	[REMOTEFILE_LOG_WHOLE] = "start of the log",
	[REMOTEFILE_LOG_HEADLESS] = "log not whole",
	[REMOTEFILE_LOG_GAP] = "log not whole",
};

static void print_takeover(const struct holding *holding)
{
	static const char *const words[] = {
		[REMOTEFILE_LOG_NONE] = "there is no log to begin with",
		[REMOTEFILE_LOG_WHOLE] = "the log is whole",
		[REMOTEFILE_LOG_HEADLESS] = "the beginning of the log is missing, or on its way",
		[REMOTEFILE_LOG_GAP] = "the log has a gap, or something of it is on its way",
	};
	char from[TIME_BYTES];
	char to[TIME_BYTES];

	printf("take-over  %s", words[holding->log]);
	if (holding->log == REMOTEFILE_LOG_WHOLE)
		printf("; the head begins %s%s",
		       holding->has_head_begin ? "at " : "where that does",
		       holding->has_head_begin ? time_text(holding->head_begin_ms, from) : "");
	printf("\nblocks     %" PRIu32, holding->blocks);
	if (holding->blocks)
		printf(", from %s to %s", time_text(holding->blocks_begin_ms, from),
		       time_text(holding->blocks_end_ms, to));
	if (holding->partial_blocks)
		printf("; %" PRIu32 " not whole", holding->partial_blocks);
	puts("");
}

static void print_kept(const char *name, const struct kept *kept)
{
	char stored[CMD_TEXT];
	char lent[CMD_TEXT];

	printf("%-14s %8" PRIu64 " %12" PRIu64 " %12s %12s\n", name, kept->files, kept->allocations,
	       maas_size_round((double)kept->stored_bytes, stored),
	       maas_size_round((double)kept->lent_bytes, lent));
}

static const char *kind_name(unsigned int kind)
{
	return kind ? remotefile_kind_name(kind) : "other";
}

static void print_all(const struct owner *owner)
{
	const struct holding *holding = &owner->holding;
	char age[TIME_BYTES];

	printf("owner      %s, epoch %" PRIu64 "\n", owner->name, holding->epoch);
	print_clients(owner);
	print_takeover(holding);
	if (holding->all.allocations)
		printf("allocated  last %s ago\n", age_text((double)holding->newest_age_s, age));
	if (holding->foreign)
		printf("unknown    %" PRIu64 " allocation%s of another version of Prometheus\n",
		       holding->foreign, MAAS_S(holding->foreign));
	printf("\n%-14s %8s %12s %12s %12s\n", "", "files", "allocations", "stored", "allocated");
	for (unsigned int i = 1; i <= REMOTEFILE_KINDS; i++)
		if (holding->kinds[i % REMOTEFILE_KINDS].allocations)
			print_kept(kind_name(i % REMOTEFILE_KINDS),
				   &holding->kinds[i % REMOTEFILE_KINDS]);
	print_kept("all", &holding->all);
}

/* A row of the table of all owners. */
static json_t *owner_row(const struct owner *owner)
{
	const struct holding *holding = &owner->holding;
	const char *head = log_words[holding->log];
	char standbys[CMD_TEXT];
	char stored[CMD_TEXT];
	char lent[CMD_TEXT];
	char times[3][TIME_BYTES] = {"-", "", "-"};

	if (owner->leader)
		age_of(owner->leader, times[0]);
	if (holding->log == REMOTEFILE_LOG_WHOLE && holding->has_head_begin)
		head = time_text(holding->head_begin_ms, times[1]);
	if (holding->blocks)
		time_text(holding->blocks_begin_ms, times[2]);
	snprintf(standbys, sizeof(standbys), "%zu%s", json_array_size(owner->standbys),
		 owner->more ? "+" : "");
	return json_pack("[s, s, s, s, s, s, s, s]",
			 owner->leader ? cmd_json_string(owner->leader, "from") : "none", times[0],
			 standbys, maas_size_round((double)holding->all.stored_bytes, stored),
			 maas_size_round((double)holding->all.lent_bytes, lent), head, times[2],
			 owner->name);
}

static const char *cell_at(const json_t *rows, size_t row, size_t column)
{
	return cmd_json_text(json_array_get(json_array_get(rows, row), column));
}

/* Each column is as wide as it has to be: the address of a leader may have 47 characters. */
static void print_table(json_t *rows)
{
	static const bool to_the_right[COLUMNS] = {false, true, true, true, true};
	json_t *titles = json_pack("[s, s, s, s, s, s, s, s]", "LEADER", "SINCE", "STANDBYS",
				   "STORED", "ALLOCATED", "HEAD FROM", "BLOCKS FROM", "OWNER");
	size_t widths[COLUMNS] = {0};

	json_array_insert_new(rows, 0, titles);
	for (size_t i = 0; i < json_array_size(rows); i++)
		for (size_t j = 0; j < COLUMNS - 1; j++) {
			size_t width = strlen(cell_at(rows, i, j));

			if (width > widths[j] && width <= MAX_WIDTH)
				widths[j] = width;
		}
	for (size_t i = 0; i < json_array_size(rows); i++) {
		for (size_t j = 0; j < COLUMNS - 1; j++)
			printf(to_the_right[j] ? "%*s " : "%-*s ", (int)widths[j],
			       cell_at(rows, i, j));
		puts(cell_at(rows, i, COLUMNS - 1));
	}
}

/* ---- JSON */

static json_t *kept_json(const struct kept *kept)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "files", (json_int_t)kept->files, "allocations",
			 (json_int_t)kept->allocations, "stored_bytes",
			 (json_int_t)kept->stored_bytes, "allocated_bytes",
			 (json_int_t)kept->lent_bytes);
}

static json_t *integer_or_null(bool is, int64_t value)
{
	return is ? json_integer(value) : json_null();
}

static json_t *takeover_json(const struct holding *holding)
{
	static const char *const logs[] = {
		[REMOTEFILE_LOG_NONE] = "none",
		[REMOTEFILE_LOG_WHOLE] = "whole",
		[REMOTEFILE_LOG_HEADLESS] = "headless",
		[REMOTEFILE_LOG_GAP] = "gap",
	};
	bool blocks = holding->blocks > 0;

	return json_pack(
		"{s:s, s:o, s:I, s:I, s:o, s:o}", "log", logs[holding->log], "head_begin_ms",
		integer_or_null(holding->has_head_begin, holding->head_begin_ms), "blocks",
		(json_int_t)holding->blocks, "partial_blocks", (json_int_t)holding->partial_blocks,
		"blocks_begin_ms", integer_or_null(blocks, holding->blocks_begin_ms),
		"blocks_end_ms", integer_or_null(blocks, holding->blocks_end_ms));
}

static json_t *owner_json(const struct owner *owner)
{
	const struct holding *holding = &owner->holding;
	json_t *kinds = json_object();

	for (unsigned int i = 1; i <= REMOTEFILE_KINDS; i++)
		json_object_set_new(kinds, kind_name(i % REMOTEFILE_KINDS),
				    kept_json(&holding->kinds[i % REMOTEFILE_KINDS]));
	return json_pack(
		"{s:s, s:O?, s:O, s:b, s:I, s:o, s:o, s:I, s:o, s:o}", "owner", owner->name,
		"leader", owner->leader, "standbys", owner->standbys, "more_standbys", owner->more,
		"epoch", (json_int_t)holding->epoch, "takeover", takeover_json(holding),
		"newest_allocation_age_seconds",
		integer_or_null(holding->all.allocations > 0, (int64_t)holding->newest_age_s),
		"unknown_allocations", (json_int_t)holding->foreign, "all",
		kept_json(&holding->all), "kinds", kinds);
}

/* ---- the command */

static void wait_ms(unsigned int ms)
{
	struct timespec ts = {.tv_nsec = (long)ms * 1000000};

	(void)nanosleep(&ts, NULL);
}

static int look_at(struct status *status, struct owner *owner)
{
	int r = prometheus_look(status->context, owner->name, &owner->holding);

	for (int i = 1; !r && owner->holding.log > REMOTEFILE_LOG_WHOLE && i < TRIES; i++) {
		wait_ms(TRY_AGAIN_MS);
		r = prometheus_look(status->context, owner->name, &owner->holding);
	}
	/* An owner without such files is no Prometheus; a named owner may have a standby alone. */
	if (!r && (status->tell_all || holding_any(&owner->holding)))
		r = look_for_clients(status->context, owner);
	return r;
}

static int tell(struct status *status, const struct owner *owner)
{
	if (!holding_any(&owner->holding) && !owner->leader && !json_array_size(owner->standbys)) {
		if (!status->tell_all)
			return CMD_OK;
		fprintf(stderr,
			"maas: no Prometheus keeps memory under the owner %s, and none has its "
			"name\n",
			owner->name);
		return CMD_FAILED;
	}
	if (status->context->json)
		json_array_append_new(status->list, owner_json(owner));
	else if (status->tell_all)
		print_all(owner);
	else
		json_array_append_new(status->list, owner_row(owner));
	return CMD_OK;
}

static int tell_owner(void *arg, const char *name)
{
	struct status *status = arg;
	struct owner owner = {.name = name};
	int r = look_at(status, &owner);

	if (!r)
		r = tell(status, &owner);
	json_decref(owner.leader);
	json_decref(owner.standbys);
	return r;
}

static int tell_status(struct cmd_context *context, const char *name)
{
	struct status status = {.context = context, .list = json_array(), .tell_all = name};
	int r = name ? tell_owner(&status, name) : prometheus_owners(context, tell_owner, &status);

	if (context->json && !r)
		return cmd_print_json(status.list);
	if (!context->json && !name && (!r || json_array_size(status.list)))
		print_table(status.list);
	json_decref(status.list);
	return r;
}

static int run_prometheus(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {
		CMD_COMMON_OPTIONS, {"owner", required_argument, NULL, 'o'}, {0}};
	const char *owner = NULL;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_prometheus, argc, argv, options)) != -1)
		if (option == 'o')
			owner = cmd_name(&cmd_prometheus, optarg);
	if (argc - optind != 1 || strcmp(argv[optind], "status") != 0)
		cmd_usage(&cmd_prometheus, "it takes the word status");
	status = cmd_connect(context);
	return status ? status : tell_status(context, owner);
}

const struct cmd cmd_prometheus = {
	.name = "prometheus",
	.arguments = "status [--owner NAME]",
	.summary = "Shows who keeps a Prometheus's memory here",
	.help = "  --owner NAME     all about this one\n",
	.run = run_prometheus,
};
