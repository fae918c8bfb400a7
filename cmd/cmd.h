/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `maas` command: what its files share. main.c finds the command; each other file has one
 * command, or a few that belong together. The command uses libmaas only through its public header.
 */
#ifndef MAAS_CMD_CMD_H
#define MAAS_CMD_CMD_H

#include <getopt.h>
#include <jansson.h>

#include "base/base.h"
#include "client/maas.h"

/* The exit codes; maas(1) documents them. */
enum cmd_exit {
	CMD_OK = 0,
	CMD_FAILED = 1,	     /* the server refused, an operation failed, a byte was wrong */
	CMD_USAGE = 2,	     /* the command line makes no sense */
	CMD_UNREACHABLE = 3, /* no server answers */
};

struct cmd_context {
	struct maas_options options; /* for the handle that cmd_connect() opens */
	bool json;
	struct maas *maas; /* NULL before cmd_connect() */
};

struct cmd {
	const char *name;
	const char *arguments; /* what follows the name in the usage line */
	const char *summary;
	const char *help; /* the command's own options; NULL: none */
	/* getopt(3) begins anew; argv[0] is the command's name. */
	int (*run)(struct cmd_context *context, int argc, char **argv);
};

extern const struct cmd cmd_health, cmd_stats, cmd_alloc, cmd_free, cmd_put, cmd_get, cmd_ls,
	cmd_top, cmd_bench, cmd_doctor, cmd_prometheus, cmd_token, cmd_whoami;

/* ---- options */

/* The options of every command; a command's own options follow them. */
#define CMD_COMMON_OPTIONS                                                                         \
	{"url", required_argument, NULL, 'u'}, {"json", no_argument, NULL, 'j'},                   \
		{"timeout", required_argument, NULL, 't'},                                         \
		{"token-file", required_argument, NULL, 'k'},                                      \
		{"ca-file", required_argument, NULL, 'A'},                                         \
		{"cert-file", required_argument, NULL, 'C'},                                       \
		{"key-file", required_argument, NULL, 'K'},                                        \
		{"server-name", required_argument, NULL, 'S'}, {"help", no_argument, NULL, 'h'}

/*
 * The next option of `cmd`, as getopt_long(3) returns it; -1 at the end. Common options are taken
 * here. Ends the process after --help and for a wrong option.
 */
int cmd_option(struct cmd_context *context, const struct cmd *cmd, int argc, char **argv,
	       const struct option *options);
/* Ends the process with CMD_USAGE and a message that names the command. */
_Noreturn void cmd_usage(const struct cmd *cmd, const char *fmt, ...) MAAS_PRINTF(2, 3);
/* The value of an option: a size such as 64KiB, the name of an owner or a principal, or a number
 * from `min` to `max`. Calls cmd_usage() for another value. */
uint64_t cmd_size(const struct cmd *cmd, const char *name, const char *text);
const char *cmd_name(const struct cmd *cmd, const char *text);
uint32_t cmd_number(const struct cmd *cmd, const char *name, const char *text, uint32_t min,
		    uint32_t max);

/* ---- the server */

/* Opens the handle, over HTTP. Returns 0, or an exit code after a message. */
MAAS_MUST_CHECK int cmd_connect(struct cmd_context *context);

/* The option --transport of the commands that move data. */
#define CMD_TRANSPORT_OPTION {"transport", required_argument, NULL, 'T'}
#define CMD_TRANSPORT_HELP                                                                         \
	"  --transport WAY  rdma, http, or auto (default): rdma where both ends have it\n"
/* Takes the value of --transport, or ends the process. */
void cmd_transport(struct cmd_context *context, const struct cmd *cmd, const char *way);
/* Opens the handle over the chosen transport, by default `auto`. */
MAAS_MUST_CHECK int cmd_connect_data(struct cmd_context *context);
/* The transport that moves the data: "rdma" or "http". */
const char *cmd_transport_name(const struct cmd_context *context);
/* Memory for transfers, registered with the handle; the caller frees it, after maas_close(). NULL
 * after a message. */
void *cmd_buffer(struct cmd_context *context, size_t len);
/* Whether the failure `error` of libmaas says that no server answers. */
bool cmd_is_unreachable(int error);
/* Prints why the last call of libmaas failed, with `what` was tried. Returns the exit code. */
int cmd_fail(const struct cmd_context *context, int error, const char *what);
/* Says how to find the memory of a request that may have been carried out in spite of `error`. */
void cmd_tell_lent(int error);
/* Fetches and parses a JSON page, without cmd_json_clean(). Returns 0 or an exit code. Owns: the
 * caller, json_decref(). */
MAAS_MUST_CHECK int cmd_fetch_raw(const struct cmd_context *context, const char *path,
				  json_t **ret_json);
/* As cmd_fetch_raw(), and then cmd_json_clean(): strings may be printed, numbers make sense. */
MAAS_MUST_CHECK int cmd_fetch(const struct cmd_context *context, const char *path,
			      json_t **ret_json);
/* Prints a JSON page. Returns an exit code. */
int cmd_print_page(const struct cmd_context *context, const char *path);

/* ---- text */

#define CMD_TEXT MAAS_SIZE_TEXT
/* Whether `text` has the form of an allocation's id. */
bool cmd_is_id(const char *text);
/*
 * Text from a server reaches a terminal only through one of these. cmd_printable() copies a text as
 * maas_printable() does. cmd_json_clean() does that to every string of a JSON tree; false: out of
 * memory, or a number is negative or beyond 2^63. Text from libmaas (maas_error(), checked ids) is
 * clean already.
 */
char *cmd_printable(const char *text); /* Owns: the caller, free(3) */
MAAS_MUST_CHECK bool cmd_json_clean(json_t *value);
/* Members of JSON objects; 0 and "" if there are none. */
double cmd_json_number(const json_t *object, const char *name);
const char *cmd_json_string(const json_t *object, const char *name);
/* The text of a string, "" of another value. */
const char *cmd_json_text(const json_t *value);
/* Prints one JSON value in ASCII and a newline, and frees the value. Returns CMD_OK or
 * CMD_FAILED. */
int cmd_print_json(json_t *value);
int cmd_write_json(json_t *value, size_t flags); /* flags of json_dumps(3) */
json_t *cmd_allocation_json(const struct maas_allocation *allocation);

/* Writes the output out, and only then may the command forget what it made. Returns CMD_OK, or
 * CMD_FAILED after a message. */
MAAS_MUST_CHECK int cmd_flush(void);

/* ---- signals */

/*
 * From now on the first SIGINT, SIGTERM or SIGHUP only makes cmd_interrupted() true: the command
 * gives its memory back and returns. cmd_interrupt_end() then ends the process by that signal, if
 * there was one. SIGPIPE is ignored.
 */
void cmd_interrupt_defer(void);
bool cmd_interrupted(void);
void cmd_interrupt_end(void);

/* ---- progress: a bar on stderr when that is a terminal, else nothing */

struct cmd_progress {
	const char *what;
	uint64_t total; /* 0: unknown */
	uint64_t started_ms;
	uint64_t drawn_ms;
	bool on;
};

void cmd_progress_begin(struct cmd_progress *progress, const char *what, uint64_t total);
void cmd_progress_update(struct cmd_progress *progress, uint64_t done);
void cmd_progress_end(struct cmd_progress *progress, uint64_t done);
/* The text of the bar, without control characters; for the bar, and for its test. */
int cmd_progress_text(const struct cmd_progress *progress, uint64_t done, uint64_t elapsed_ms,
		      char *text, size_t len);

#endif
