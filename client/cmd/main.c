/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cmd/cmd.h"

static const struct cmd *const commands[] = {
	&cmd_health, &cmd_stats, &cmd_alloc, &cmd_free,	 &cmd_put,
	&cmd_get,    &cmd_ls,	 &cmd_top,   &cmd_bench, &cmd_doctor,
};

static const char common_help[] =
	"  --url URL        the server: [http://]HOST:PORT or unix:PATH\n"
	"                   (default: $MAAS_URL, else http://localhost:3000)\n"
	"  --timeout SEC    of each request (default 30)\n"
	"  --json           print JSON\n"
	"  --help           this text\n";

static void print_help(FILE *out)
{
	fputs("usage: maas [OPTION]... COMMAND [OPTION]... [ARGUMENT]...\n\n"
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

_Noreturn void cmd_usage(const struct cmd *cmd, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "maas %s: ", cmd->name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nusage: maas %s %s\nTry: maas %s --help\n", cmd->name, cmd->arguments,
		cmd->name);
	exit(CMD_USAGE);
}

static _Noreturn void print_command_help(const struct cmd *cmd)
{
	printf("usage: maas %s %s\n\n%s.\n\n%s%s", cmd->name, cmd->arguments, cmd->summary,
	       cmd->help ? cmd->help : "", common_help);
	exit(CMD_OK);
}

/* False for an option that is not common to all, or ends the process. */
static bool take_common(struct cmd_context *context, const struct cmd *cmd, int option)
{
	switch (option) {
	case 'u':
		context->options.url = optarg;
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

int cmd_option(struct cmd_context *context, const struct cmd *cmd, int argc, char **argv,
	       const struct option *options)
{
	int option = getopt_long(argc, argv, "h", options, NULL);

	while (take_common(context, cmd, option))
		option = getopt_long(argc, argv, "h", options, NULL);
	if (option == 'h')
		print_command_help(cmd);
	if (option == '?') {
		fprintf(stderr, "Try: maas %s --help\n", cmd->name);
		exit(CMD_USAGE);
	}
	return option;
}

uint64_t cmd_size(const struct cmd *cmd, const char *name, const char *text)
{
	uint64_t bytes = 0;

	if (maas_size_parse(text, &bytes))
		cmd_usage(cmd, "%s: %s is no size such as 4096, 64KiB or 1GiB", name, text);
	return bytes;
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

static const struct cmd *find_command(const char *name)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static const struct cmd any_command = {.name = "COMMAND", .arguments = "[OPTION]... [ARGUMENT]..."};

/* The common options may also stand before the command. Returns where that is in `argv`. */
static int leading_options(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {
		CMD_COMMON_OPTIONS, {"version", no_argument, NULL, 'V'}, {0}};
	int option = getopt_long(argc, argv, "+hV", options, NULL);

	while (take_common(context, &any_command, option))
		option = getopt_long(argc, argv, "+hV", options, NULL);
	if (option == 'h') {
		print_help(stdout);
		exit(CMD_OK);
	}
	if (option == 'V') {
		printf("maas %s\n", maas_version());
		exit(CMD_OK);
	}
	if (option == '?') {
		fputs("Try: maas --help\n", stderr);
		exit(CMD_USAGE);
	}
	return optind;
}

int main(int argc, char **argv)
{
	struct cmd_context context = {.options = {.size = sizeof(context.options)}};
	const struct cmd *cmd;
	int status;
	int at = leading_options(&context, argc, argv);

	if (at >= argc) {
		print_help(stderr);
		return CMD_USAGE;
	}
	if (!strcmp(argv[at], "help")) {
		print_help(stdout);
		return CMD_OK;
	}
	cmd = find_command(argv[at]);
	if (!cmd) {
		fprintf(stderr, "maas: there is no command %s\nTry: maas --help\n", argv[at]);
		return CMD_USAGE;
	}
	optind = 0; /* getopt(3) begins anew */
	status = cmd->run(&context, argc - at, argv + at);
	maas_close(context.maas);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "maas: cannot write the output: %s\n", strerror(errno));
		return CMD_FAILED;
	}
	return status;
}
