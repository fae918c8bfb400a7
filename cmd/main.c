/* SPDX-License-Identifier: Apache-2.0 */
/* The `maas` command: finds the command and its options, and explains wrong ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct cmd *const commands[] = {
	&cmd_health, &cmd_stats, &cmd_alloc,  &cmd_free,       &cmd_put,   &cmd_get,	&cmd_ls,
	&cmd_top,    &cmd_bench, &cmd_doctor, &cmd_prometheus, &cmd_token, &cmd_whoami,
};

static const char common_help[] =
	"  --url URL        the server: https://HOST:PORT, [http://]HOST:PORT or unix:PATH\n"
	"                   (default: $MAAS_URL, else http://localhost:3000)\n"
	"  --token-file F   whose first line is the token for the server\n"
	"                   (default: $MAAS_TOKEN_FILE, else no token)\n"
	"  --ca-file F      with https: the CAs that the server's certificate may come from\n"
	"                   (default: $MAAS_CA_FILE, else those of this machine)\n"
	"  --cert-file F    the certificate that says who asks (default: $MAAS_CERT_FILE)\n"
	"  --key-file F     its key (default: $MAAS_KEY_FILE, else that in --cert-file)\n"
	"  --server-name N  a name that the server's certificate has, if not the URL's host\n"
	"                   (default: $MAAS_SERVER_NAME)\n"
	"  --timeout SEC    of each request (default 30)\n"
	"  --json           print JSON\n"
	"  --help           this text\n";

static void print_help(FILE *out)
{
	fputs("Usage: maas [OPTION...] COMMAND [OPTION...] [ARGUMENT...]\n\n"
	      "Borrows memory from a maasd server, and looks after it.\n\n",
	      out);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(commands); i++) {
		char call[64];

		snprintf(call, sizeof(call), "%s %s", commands[i]->name, commands[i]->arguments);
		fprintf(out, "  %-40s %s\n", call, commands[i]->summary);
	}
	fprintf(out,
		"\nOptions of every command (`maas COMMAND --help` for its own):\n%s"
		"  --version        print the version\n"
		"\nExit codes: 0 done, 1 failed, 2 usage, 3 no server answers.\n",
		common_help);
}

/* Stands for any command: options may come before the command. */
static const struct cmd any_command = {
	.name = "", .arguments = "[OPTION...] COMMAND [OPTION...] [ARGUMENT...]"};

_Noreturn void cmd_usage(const struct cmd *cmd, const char *fmt, ...)
{
	const char *arguments = *cmd->arguments ? cmd->arguments : "[OPTION...]";
	const char *blank = *cmd->name ? " " : "";
	va_list args;

	fprintf(stderr, "maas: %s%s", cmd->name, *cmd->name ? ": " : "");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nmaas: usage: maas%s%s %s\nmaas: `maas%s%s --help` tells more\n", blank,
		cmd->name, arguments, blank, cmd->name);
	exit(CMD_USAGE);
}

/* ---- wrong options */

#define MAX_OPTIONS 24 /* of one command */

/* Reports an unknown or ambiguous option: `word` is what was typed, `meant` its name or NULL. */
static _Noreturn void fail_unknown(const struct cmd *cmd, const char *word, const char *meant)
{
	if (meant)
		cmd_usage(cmd, "unknown option %s; did you mean --%s?", word, meant);
	cmd_usage(cmd, "unknown option %s", word);
}

static _Noreturn void fail_long(const struct cmd *cmd, const char *word,
				const struct option *options)
{
	const char *names[MAX_OPTIONS];
	size_t len = strcspn(word, "=");
	unsigned int alike = 0;
	char text[64];
	size_t count;
	size_t meant;

	for (count = 0; options[count].name && count < MAX_OPTIONS; count++) {
		names[count] = options[count].name;
		alike += !strncmp(names[count], word + 2, len - 2);
	}
	if (alike > 1)
		cmd_usage(cmd, "%.*s can stand for several options", (int)len, word);
	snprintf(text, sizeof(text), "%.*s", (int)(len - 2), word + 2);
	meant = maas_guess(text, names, count);
	fail_unknown(cmd, word, meant < count ? names[meant] : NULL);
}

/* `option` is what getopt_long(3) returned, ':' or '?'; `word` is what it had read, or "". */
static _Noreturn void fail_option(const struct cmd *cmd, int option, const char *word,
				  const struct option *options)
{
	char letter[] = {'-', (char)optopt, '\0'};

	if (option == ':')
		cmd_usage(cmd, "%s needs a value", word);
	if (!optopt)
		fail_long(cmd, word, options);
	if (!strncmp(word, "--", 2))
		cmd_usage(cmd, "%.*s takes no value", (int)strcspn(word, "="), word);
	/* getopt_long(3) gives the letter of the option, which no user sees. */
	while (options->name && options->val != optopt)
		options++;
	fail_unknown(cmd, letter, options->name);
}

static _Noreturn void print_command_help(const struct cmd *cmd)
{
	printf("Usage: maas %s %s\n\n%s.\n\n%s%s", cmd->name,
	       *cmd->arguments ? cmd->arguments : "[OPTION...]", cmd->summary,
	       cmd->help ? cmd->help : "", common_help);
	exit(cmd_flush());
}

/* Takes an option that all commands have, or ends the process. False for other options. */
static bool take_common(struct cmd_context *context, const struct cmd *cmd, int option)
{
	switch (option) {
	case 'u':
		context->options.url = optarg;
		return true;
	case 'k':
		context->options.token_file = optarg;
		return true;
	case 'A':
		context->options.ca_file = optarg;
		return true;
	case 'C':
		context->options.cert_file = optarg;
		return true;
	case 'K':
		context->options.key_file = optarg;
		return true;
	case 'S':
		context->options.server_name = optarg;
		return true;
	case 'j':
		context->json = true;
		return true;
	case 't':
		context->options.timeout_ms = cmd_number(cmd, "--timeout", optarg, 1, 86400) * 1000;
		return true;
	default:
		return false;
	}
}

/* The next option that is not common to all, -1 at the end. Ends the process for a wrong one. */
static int next_option(struct cmd_context *context, const struct cmd *cmd, int argc, char **argv,
		       const char *letters, const struct option *options)
{
	int option;
	int before;

	opterr = 0; /* we print the errors ourselves */
	do {
		before = optind;
		option = getopt_long(argc, argv, letters, options, NULL);
	} while (take_common(context, cmd, option));
	if (option == '?' || option == ':')
		fail_option(cmd, option, optind > before ? argv[optind - 1] : "", options);
	return option;
}

int cmd_option(struct cmd_context *context, const struct cmd *cmd, int argc, char **argv,
	       const struct option *options)
{
	int option = next_option(context, cmd, argc, argv, ":h", options);

	if (option == 'h')
		print_command_help(cmd);
	return option;
}

uint64_t cmd_size(const struct cmd *cmd, const char *name, const char *text)
{
	uint64_t bytes = 0;

	if (maas_size_parse(text, &bytes))
		cmd_usage(cmd, "%s: %s is no size such as 4096, 64KiB or 1GiB", name, text);
	return bytes;
}

const char *cmd_name(const struct cmd *cmd, const char *text)
{
	if (!maas_name_valid(text))
		cmd_usage(cmd, "a NAME is 1 to 63 characters of A-Z a-z 0-9 . _ : / @ -");
	return text;
}

uint32_t cmd_number(const struct cmd *cmd, const char *name, const char *text, uint32_t min,
		    uint32_t max)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || value < min || value > max)
		cmd_usage(cmd, "%s: %s is no number from %u to %u", name, text, min, max);
	return (uint32_t)value;
}

static int fail_command(const char *name)
{
	const char *names[MAAS_ARRAY_SIZE(commands)];
	size_t meant;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(commands); i++)
		names[i] = commands[i]->name;
	meant = maas_guess(name, names, MAAS_ARRAY_SIZE(commands));
	if (meant < MAAS_ARRAY_SIZE(commands))
		fprintf(stderr, "maas: there is no command %s; did you mean %s?\n", name,
			names[meant]);
	else
		fprintf(stderr, "maas: there is no command %s; `maas --help` lists them\n", name);
	return CMD_USAGE;
}

static const struct cmd *find_command(const char *name)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

/* Common options may also come before the command. Returns the command's place in `argv`. */
static int leading_options(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {
		CMD_COMMON_OPTIONS, {"version", no_argument, NULL, 'V'}, {0}};
	int option = next_option(context, &any_command, argc, argv, "+:hV", options);

	if (option == 'h') {
		print_help(stdout);
		exit(cmd_flush());
	}
	if (option == 'V') {
		printf("maas %s\n", maas_version());
		exit(cmd_flush());
	}
	return optind;
}

int main(int argc, char **argv)
{
	struct cmd_context context = {.options = {.size = sizeof(context.options)}};
	const struct cmd *cmd;
	int status;
	int at;

	maas_file_open_standard(false);
	maas_log_set_program("maas"); /* for lines that libmaas logs */
	at = leading_options(&context, argc, argv);
	if (at >= argc) {
		fputs("maas: a command is missing\n\n", stderr);
		print_help(stderr);
		return CMD_USAGE;
	}
	if (!strcmp(argv[at], "help")) {
		print_help(stdout);
		return cmd_flush();
	}
	cmd = find_command(argv[at]);
	if (!cmd)
		return fail_command(argv[at]);
	optind = 0; /* restarts getopt(3) */
	status = cmd->run(&context, argc - at, argv + at);
	maas_close(context.maas);
	if (cmd_flush())
		status = CMD_FAILED;
	cmd_interrupt_end();
	return status;
}
