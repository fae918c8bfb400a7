/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token: makes a token and the line that the server's file has for it. No server is asked, and the
 * token is nowhere but where the user wants it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "auth/auth.h"
#include "cmd/cmd.h"

/* Nobody else can read the file at any time. Returns an exit code. */
static int write_file(const char *path, const char *token)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
	size_t len = strlen(token);
	int error = 0;

	if (fd < 0) {
		fprintf(stderr, "maas: %s: %s%s\n", path, strerror(errno),
			errno == EEXIST ? ": write a new file, and move that over the old one"
					: "");
		return CMD_FAILED;
	}
	errno = EIO; /* of a short write, which sets none */
	if (write(fd, token, len) != (ssize_t)len || write(fd, "\n", 1) != 1 || fsync(fd))
		error = errno;
	if (close(fd) && !error)
		error = errno;
	if (!error)
		return CMD_OK;
	unlink(path);
	fprintf(stderr, "maas: %s: %s\n", path, strerror(error));
	return CMD_FAILED;
}

/* `token` NULL: it is in a file. */
static int print(const struct cmd_context *context, const char *name, const char *token,
		 const char *hash)
{
	char line[MAAS_OWNER_BYTES * 2 + MAAS_AUTH_HASH + 16];

	snprintf(line, sizeof(line), "%s token=%s owner=%s", name, hash, name);
	if (context->json)
		return cmd_print_json(
			json_pack("{s:s, s:s*, s:s}", "name", name, "token", token, "line", line));
	if (token)
		puts(token);
	puts(line);
	return CMD_OK;
}

static int run_token(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {
		CMD_COMMON_OPTIONS, {"output", required_argument, NULL, 'o'}, {0}};
	const char *output = NULL;
	char token[MAAS_AUTH_TOKEN];
	char hash[MAAS_AUTH_HASH];
	int status = CMD_OK;

	while (cmd_option(context, &cmd_token, argc, argv, options) != -1)
		output = optarg;
	if (argc - optind != 2 || strcmp(argv[optind], "new") != 0)
		cmd_usage(&cmd_token, "it is `maas token new NAME`");
	(void)cmd_name(&cmd_token, argv[optind + 1]);
	if (maas_auth_token_make(token)) {
		fputs("maas: the kernel has no random bytes\n", stderr);
		return CMD_FAILED;
	}
	maas_auth_token_hash(token, strlen(token), hash);
	if (output)
		status = write_file(output, token);
	if (!status)
		status = print(context, argv[optind + 1], output ? NULL : token, hash);
	explicit_bzero(token, sizeof(token));
	return status;
}

const struct cmd cmd_token = {
	.name = "token",
	.arguments = "new NAME [--output FILE]",
	.summary = "Makes a token, and the line for the server's --auth-file",
	.help = "  --output FILE    write the token there (mode 0600), and print only the line\n",
	.run = run_token,
};
