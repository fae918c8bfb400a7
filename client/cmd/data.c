/* SPDX-License-Identifier: Apache-2.0 */
/* put and get: an allocation's bytes, in pieces: no buffer of the whole. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cmd/cmd.h"

#define PIECE ((size_t)4 << 20)

struct copy {
	const struct cmd_context *context;
	const char *id;
	uint64_t offset;
	uint64_t left; /* of the allocation, from `offset` on */
	uint64_t done;
	uint8_t *piece;
	int fd;
	struct cmd_progress progress;
};

static int fail_file(const char *name, const char *what)
{
	fprintf(stderr, "maas: cannot %s %s: %s\n", what, name, strerror(errno));
	return CMD_FAILED;
}

/* Connects, and finds what of the allocation is meant. */
static int copy_begin(struct copy *copy, struct cmd_context *context, const char *id,
		      uint64_t offset)
{
	struct maas_allocation allocation;
	int error;
	int status = cmd_connect_data(context);

	if (status)
		return status;
	error = maas_describe(context->maas, id, &allocation);
	if (error)
		return cmd_fail(context, error, id);
	if (offset > allocation.size_bytes) {
		fprintf(stderr,
			"maas: offset %" PRIu64 " lies behind the %" PRIu64 " bytes of %s\n",
			offset, allocation.size_bytes, id);
		return CMD_FAILED;
	}
	copy->context = context;
	copy->id = id;
	copy->offset = offset;
	copy->left = allocation.size_bytes - offset;
	copy->piece = cmd_buffer(context, PIECE);
	return copy->piece ? CMD_OK : CMD_FAILED;
}

/* The handle goes first: it may have the piece registered. */
static void copy_end(struct copy *copy, struct cmd_context *context)
{
	maas_close(context->maas);
	context->maas = NULL;
	free(copy->piece);
}

/* ---- put */

/* A whole piece, unless the input ends: a pipe gives less at a time. Returns bytes or -1. */
static ssize_t read_piece(int fd, uint8_t *piece, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, piece + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int put_pieces(struct copy *copy, const char *name)
{
	for (;;) {
		ssize_t n = read_piece(copy->fd, copy->piece, PIECE);
		int error;

		if (n < 0)
			return fail_file(name, "read");
		if (n == 0)
			return CMD_OK;
		if ((uint64_t)n > copy->left) {
			fprintf(stderr,
				"maas: %s is longer than the memory: stopped after the %" PRIu64
				" bytes that fit in whole pieces\n",
				name, copy->done);
			return CMD_FAILED;
		}
		error = maas_write(copy->context->maas, copy->id, copy->offset, copy->piece,
				   (size_t)n);
		if (error)
			return cmd_fail(copy->context, error, copy->id);
		copy->offset += (uint64_t)n;
		copy->left -= (uint64_t)n;
		copy->done += (uint64_t)n;
		cmd_progress_update(&copy->progress, copy->done);
	}
}

/* The size of a plain file is known beforehand: then nothing is written when it does not fit. */
static int put(struct copy *copy, const char *name)
{
	struct stat st = {0};
	uint64_t total = 0;
	int status;

	if (fstat(copy->fd, &st) == 0 && S_ISREG(st.st_mode)) {
		off_t at = lseek(copy->fd, 0, SEEK_CUR);

		total = (uint64_t)(st.st_size - (at > 0 ? at : 0));
		if (total > copy->left) {
			fprintf(stderr,
				"maas: %s has %" PRIu64 " bytes, there is room for %" PRIu64 "\n",
				name, total, copy->left);
			return CMD_FAILED;
		}
	}
	cmd_progress_begin(&copy->progress, "put", total);
	status = put_pieces(copy, name);
	cmd_progress_end(&copy->progress, copy->done);
	return status;
}

static int run_put(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						CMD_TRANSPORT_OPTION,
						{"offset", required_argument, NULL, 'o'},
						{0}};
	struct copy copy = {.fd = STDIN_FILENO};
	const char *name = "the input";
	uint64_t offset = 0;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_put, argc, argv, options)) != -1)
		if (option == 'o')
			offset = cmd_size(&cmd_put, "--offset", optarg);
		else if (option == 'T')
			cmd_transport(context, &cmd_put, optarg);
	if (argc - optind < 1 || argc - optind > 2)
		cmd_usage(&cmd_put, "it takes an ID and perhaps a FILE");
	if (argc - optind == 2) {
		name = argv[optind + 1];
		copy.fd = open(name, O_RDONLY | O_CLOEXEC);
		if (copy.fd < 0)
			return fail_file(name, "open");
	}
	status = copy_begin(&copy, context, argv[optind], offset);
	if (!status)
		status = put(&copy, name);
	if (!status && context->json)
		status = cmd_print_json(json_pack("{s:s, s:I, s:s}", "id", copy.id, "written_bytes",
						  (json_int_t)copy.done, "transport",
						  cmd_transport_name(context)));
	copy_end(&copy, context);
	if (copy.fd != STDIN_FILENO)
		close(copy.fd);
	return status;
}

const struct cmd cmd_put = {
	.name = "put",
	.arguments = "[--offset N] ID [FILE]",
	.summary = "Writes a file, or the input, into the memory",
	.help = "  --offset N       where in the memory (default 0)\n" CMD_TRANSPORT_HELP,
	.run = run_put,
};

/* ---- get */

static int write_piece(int fd, const uint8_t *piece, size_t len)
{
	while (len) {
		ssize_t n = write(fd, piece, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		piece += n;
		len -= (size_t)n;
	}
	return 0;
}

static int get_pieces(struct copy *copy, const char *name)
{
	while (copy->left) {
		size_t n = copy->left < PIECE ? (size_t)copy->left : PIECE;
		int error;

		error = maas_read(copy->context->maas, copy->id, copy->offset, copy->piece, n);
		if (error)
			return cmd_fail(copy->context, error, copy->id);
		if (write_piece(copy->fd, copy->piece, n))
			return fail_file(name, "write");
		copy->offset += n;
		copy->left -= n;
		copy->done += n;
		cmd_progress_update(&copy->progress, copy->done);
	}
	return CMD_OK;
}

static int get(struct copy *copy, const char *name, uint64_t length)
{
	int status;

	if (length != UINT64_MAX && length > copy->left) {
		fprintf(stderr, "maas: there are %" PRIu64 " bytes from offset %" PRIu64 " on\n",
			copy->left, copy->offset);
		return CMD_FAILED;
	}
	if (length != UINT64_MAX)
		copy->left = length;
	cmd_progress_begin(&copy->progress, "get", copy->left);
	status = get_pieces(copy, name);
	cmd_progress_end(&copy->progress, copy->done);
	return status;
}

/* Not before the memory is known to be there: a wrong id empties no file. */
static int open_output(struct copy *copy, const char *name)
{
	copy->fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return copy->fd < 0 ? fail_file(name, "open") : CMD_OK;
}

static int run_get(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						CMD_TRANSPORT_OPTION,
						{"offset", required_argument, NULL, 'o'},
						{"length", required_argument, NULL, 'l'},
						{0}};
	struct copy copy = {.fd = STDOUT_FILENO};
	const char *name = NULL;
	uint64_t length = UINT64_MAX;
	uint64_t offset = 0;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_get, argc, argv, options)) != -1) {
		if (option == 'o')
			offset = cmd_size(&cmd_get, "--offset", optarg);
		else if (option == 'l')
			length = cmd_size(&cmd_get, "--length", optarg);
		else if (option == 'T')
			cmd_transport(context, &cmd_get, optarg);
	}
	if (argc - optind < 1 || argc - optind > 2)
		cmd_usage(&cmd_get, "it takes an ID and perhaps a FILE");
	if (argc - optind == 2)
		name = argv[optind + 1];
	if (context->json && !name)
		cmd_usage(&cmd_get, "--json takes a FILE: the output cannot hold both");
	status = copy_begin(&copy, context, argv[optind], offset);
	if (!status && name)
		status = open_output(&copy, name);
	if (!status)
		status = get(&copy, name ? name : "the output", length);
	if (name && copy.fd >= 0 && copy.fd != STDOUT_FILENO && close(copy.fd))
		status = fail_file(name, "write");
	if (!status && context->json)
		status = cmd_print_json(json_pack("{s:s, s:I, s:s}", "id", copy.id, "read_bytes",
						  (json_int_t)copy.done, "transport",
						  cmd_transport_name(context)));
	copy_end(&copy, context);
	return status;
}

const struct cmd cmd_get = {
	.name = "get",
	.arguments = "[--offset N] [--length N] ID [FILE]",
	.summary = "Reads the memory into a file, or to the output",
	.help = "  --offset N       where in the memory (default 0)\n"
		"  --length N       how much (default: to its end)\n" CMD_TRANSPORT_HELP,
	.run = run_get,
};
