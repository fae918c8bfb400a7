/* SPDX-License-Identifier: Apache-2.0 */
/* put and get: copies an allocation's bytes piece by piece, so that no buffer has to hold them
 * all. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/cmd.h"

#define PIECE ((size_t)4 << 20)

struct copy {
	const struct cmd_context *context;
	char id[MAAS_ID_BYTES];
	uint64_t size; /* of the allocation */
	uint64_t offset;
	uint64_t left; /* to copy, from `offset` on */
	uint64_t done;
	uint8_t *piece;
	int fd;		  /* -1: `name` is not open yet */
	const char *name; /* of the file, for messages */
	struct cmd_progress progress;
};

static int fail_file(const char *name, const char *what)
{
	fprintf(stderr, "maas: cannot %s %s: %s\n", what, name, strerror(errno));
	return CMD_FAILED;
}

static int copy_buffer(struct copy *copy, struct cmd_context *context)
{
	copy->context = context;
	copy->piece = cmd_buffer(context, PIECE);
	return copy->piece ? CMD_OK : CMD_FAILED;
}

/* Connects, and finds which bytes of the allocation are meant. */
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
		fprintf(stderr, "maas: offset %" PRIu64 " is beyond the %" PRIu64 " byte%s of %s\n",
			offset, allocation.size_bytes, MAAS_S(allocation.size_bytes), id);
		return CMD_FAILED;
	}
	snprintf(copy->id, sizeof(copy->id), "%s", allocation.id);
	copy->size = allocation.size_bytes;
	copy->offset = offset;
	copy->left = allocation.size_bytes - offset;
	return copy_buffer(copy, context);
}

/* The handle goes first: the piece may be registered with it. */
static void copy_end(struct copy *copy, struct cmd_context *context)
{
	maas_close(context->maas);
	context->maas = NULL;
	free(copy->piece);
}

/* ---- put */

/* Reads a whole piece, unless the input ends; a pipe gives less at a time. Returns bytes or -1. */
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

static int put_pieces(struct copy *copy)
{
	while (!cmd_interrupted()) {
		ssize_t n = read_piece(copy->fd, copy->piece, PIECE);
		int error;

		if (n < 0)
			return fail_file(copy->name, "read");
		if (n == 0)
			return CMD_OK;
		if ((uint64_t)n > copy->left) {
			fprintf(stderr,
				"maas: %s is longer than the memory: stopped after the %" PRIu64
				" bytes that fit in whole pieces\n",
				copy->name, copy->done);
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
	return CMD_FAILED;
}

/* The size of a plain file is known beforehand: if the file does not fit, nothing is written. */
static int put(struct copy *copy)
{
	struct stat st = {0};
	uint64_t total = 0;
	int status;

	if (fstat(copy->fd, &st) == 0 && S_ISREG(st.st_mode)) {
		off_t at = lseek(copy->fd, 0, SEEK_CUR);

		if (at < 0)
			at = 0;
		total = at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
		if (total > copy->left) {
			fprintf(stderr,
				"maas: %s has %" PRIu64 " byte%s, there is room for %" PRIu64 "\n",
				copy->name, total, MAAS_S(total), copy->left);
			return CMD_FAILED;
		}
	}
	cmd_progress_begin(&copy->progress, "put", total);
	status = put_pieces(copy);
	cmd_progress_end(&copy->progress, copy->done);
	return status;
}

struct put_call {
	const char *id;	  /* NULL: borrow new memory */
	const char *name; /* NULL: the input */
	const char *offset;
	struct maas_alloc_options wanted; /* for new memory */
};

/* Says how `maas get` gives back exactly what was put. */
static void tell_length(const struct copy *copy, uint64_t offset)
{
	if (copy->done == copy->size)
		return;
	fprintf(stderr, "maas: %" PRIu64 " of the memory's %" PRIu64 " byte%s written", copy->done,
		copy->size, MAAS_S(copy->size));
	if (copy->done && offset)
		fprintf(stderr, "; `maas get --offset %" PRIu64 " --length %" PRIu64 " %s`", offset,
			copy->done, copy->id);
	else if (copy->done)
		fprintf(stderr, "; `maas get --length %" PRIu64 " %s`", copy->done, copy->id);
	fputs(copy->done ? " gives them back\n" : "\n", stderr);
}

/* `done` names the figure of the bytes that were copied. */
static int report_copy(const struct copy *copy, const char *done)
{
	return cmd_print_json(json_pack("{s:s, s:I, s:I, s:s}", "id", copy->id, "size_bytes",
					(json_int_t)copy->size, done, (json_int_t)copy->done,
					"transport", cmd_transport_name(copy->context)));
}

/* Writes into an existing allocation. */
static int put_old(struct copy *copy, struct cmd_context *context, const struct put_call *call,
		   uint64_t offset)
{
	int status = copy_begin(copy, context, call->id, offset);

	if (!status)
		status = put(copy);
	if (status)
		return status;
	if (context->json)
		return report_copy(copy, "written_bytes");
	tell_length(copy, offset);
	return CMD_OK;
}

/* The size of the memory to borrow for a file. */
static int new_size(const struct copy *copy, uint64_t *ret_size)
{
	const char *name = copy->name;
	struct stat st;

	if (fstat(copy->fd, &st))
		return fail_file(name, "look at");
	if (!S_ISREG(st.st_mode)) {
		fprintf(stderr,
			"maas: %s is not a plain file, so its size is unknown: `maas alloc SIZE` "
			"first, then `maas put ID <%s`\n",
			name, name);
		return CMD_FAILED;
	}
	if (!st.st_size) {
		fprintf(stderr, "maas: %s is empty; memory has at least one byte\n", name);
		return CMD_FAILED;
	}
	*ret_size = (uint64_t)st.st_size;
	return CMD_OK;
}

/* Fills the new memory and tells its id. */
static int fill_new(struct copy *copy, struct cmd_context *context)
{
	int status = copy_buffer(copy, context);

	if (!status)
		status = put(copy);
	if (status)
		return status;
	if (copy->done != copy->size) {
		fprintf(stderr, "maas: %s became shorter while it was read\n", copy->name);
		return CMD_FAILED;
	}
	if (context->json)
		status = report_copy(copy, "written_bytes");
	else
		puts(copy->id);
	return status ? status : cmd_flush();
}

/* Borrows memory of exactly the file's size, so that `maas get` gives the same file back. */
static int put_new(struct copy *copy, struct cmd_context *context, const struct put_call *call)
{
	struct maas_allocation allocation;
	int error;
	int status = new_size(copy, &copy->left);

	if (!status)
		status = cmd_connect_data(context);
	if (status)
		return status;
	cmd_interrupt_defer();
	error = maas_alloc(context->maas, copy->left, &call->wanted, &allocation);
	if (error) {
		status = cmd_fail(context, error, "cannot allocate");
		cmd_tell_lent(error);
		return status;
	}
	memcpy(copy->id, allocation.id, sizeof(copy->id));
	copy->size = copy->left;
	status = fill_new(copy, context);
	/* Nobody has learned the id. */
	if (status && maas_free(context->maas, copy->id))
		fprintf(stderr, "maas: cannot free %s, which nobody uses: %s\n", copy->id,
			maas_error());
	return status;
}

static void parse_put(struct cmd_context *context, int argc, char **argv, struct put_call *call)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						CMD_TRANSPORT_OPTION,
						{"offset", required_argument, NULL, 'f'},
						{"owner", required_argument, NULL, 'o'},
						{"ttl", required_argument, NULL, 'l'},
						{0}};
	bool has_id;
	int option;

	*call = (struct put_call){.wanted.size = sizeof(call->wanted)};
	while ((option = cmd_option(context, &cmd_put, argc, argv, options)) != -1) {
		if (option == 'f')
			call->offset = optarg;
		else if (option == 'o')
			call->wanted.owner = cmd_name(&cmd_put, optarg);
		else if (option == 'l')
			call->wanted.ttl_seconds =
				cmd_number(&cmd_put, "--ttl", optarg, 1, UINT32_MAX);
		else if (option == 'T')
			cmd_transport(context, &cmd_put, optarg);
	}
	argc -= optind;
	argv += optind;
	if (argc < 1 || argc > 2)
		cmd_usage(&cmd_put, "it takes a FILE, or an ID and perhaps a FILE");
	has_id = cmd_is_id(argv[0]);
	if (argc == 2 && !has_id)
		cmd_usage(&cmd_put, "%s is no ID: that is 36 characters, as `maas alloc` prints it",
			  argv[0]);
	if (has_id && (call->wanted.owner || call->wanted.ttl_seconds))
		cmd_usage(&cmd_put, "--owner and --ttl go with a FILE alone, for new memory");
	if (!has_id && call->offset)
		cmd_usage(&cmd_put, "--offset goes with an ID");
	call->id = has_id ? argv[0] : NULL;
	call->name = has_id ? argv[1] : argv[0];
}

static int open_input(struct copy *copy, const struct put_call *call)
{
	copy->fd = STDIN_FILENO;
	copy->name = call->name ? call->name : "the input";
	if (!call->name)
		return CMD_OK;
	copy->fd = open(call->name, O_RDONLY | O_CLOEXEC);
	if (copy->fd >= 0)
		return CMD_OK;
	if (call->id || errno != ENOENT)
		return fail_file(call->name, "open");
	fprintf(stderr, "maas: there is no file %s (and an ID has 36 characters)\n", call->name);
	return CMD_FAILED;
}

static int run_put(struct cmd_context *context, int argc, char **argv)
{
	struct copy copy = {0};
	struct put_call call;
	uint64_t offset = 0;
	int status;

	parse_put(context, argc, argv, &call);
	if (call.offset)
		offset = cmd_size(&cmd_put, "--offset", call.offset);
	status = open_input(&copy, &call);
	if (status)
		return status;
	if (call.id)
		status = put_old(&copy, context, &call, offset);
	else
		status = put_new(&copy, context, &call);
	copy_end(&copy, context);
	if (call.name)
		close(copy.fd);
	return status;
}

const struct cmd cmd_put = {
	.name = "put",
	.arguments = "[OPTION...] FILE | ID [FILE]",
	.summary = "Puts a file into memory of its size, or into what ID names",
	.help = "  A FILE alone gets new memory of just its size, and the id is printed: `maas get "
		"ID`\n"
		"  gives the same file back. With an ID (36 characters; name such a file "
		"write\n"
		"  ./NAME), FILE or the input goes into that memory, which may be larger.\n\n"
		"  --owner NAME     of new memory: its owner, for `ls` and `free --owner`\n"
		"  --ttl SEC        of new memory: it ends by itself unless renewed\n"
		"  --offset N       where in the memory of ID (default 0)\n" CMD_TRANSPORT_HELP,
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

/* The output is opened once there is something to write: what fails before leaves a file as it
 * was. */
static int open_output(struct copy *copy)
{
	if (copy->fd < 0)
		copy->fd = open(copy->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return copy->fd < 0 ? fail_file(copy->name, "open") : CMD_OK;
}

static int get_pieces(struct copy *copy)
{
	while (copy->left) {
		size_t n = copy->left < PIECE ? (size_t)copy->left : PIECE;
		int error;

		error = maas_read(copy->context->maas, copy->id, copy->offset, copy->piece, n);
		if (error)
			return cmd_fail(copy->context, error, copy->id);
		if (open_output(copy))
			return CMD_FAILED;
		if (write_piece(copy->fd, copy->piece, n))
			return fail_file(copy->name, "write");
		copy->offset += n;
		copy->left -= n;
		copy->done += n;
		cmd_progress_update(&copy->progress, copy->done);
	}
	return open_output(copy); /* --length 0 */
}

static int fail_length(const struct copy *copy, uint64_t length)
{
	char asked[MAAS_SIZE_TEXT];
	char size[MAAS_SIZE_TEXT];
	char left[MAAS_SIZE_TEXT];

	fprintf(stderr, "maas: --length asks for %s, but %s has %s", maas_size_human(length, asked),
		copy->id, maas_size_human(copy->size, size));
	if (copy->offset)
		fprintf(stderr, ", of that %s from offset %" PRIu64 " on",
			maas_size_human(copy->left, left), copy->offset);
	fputc('\n', stderr);
	return CMD_FAILED;
}

static int get(struct copy *copy, uint64_t length)
{
	int status;

	if (length != UINT64_MAX && length > copy->left)
		return fail_length(copy, length);
	if (length != UINT64_MAX)
		copy->left = length;
	cmd_progress_begin(&copy->progress, "get", copy->left);
	status = get_pieces(copy);
	cmd_progress_end(&copy->progress, copy->done);
	return status;
}

static int run_get(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						CMD_TRANSPORT_OPTION,
						{"offset", required_argument, NULL, 'o'},
						{"length", required_argument, NULL, 'l'},
						{0}};
	struct copy copy = {.fd = STDOUT_FILENO, .name = "the output"};
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
	if (argc - optind == 2) {
		copy.fd = -1;
		copy.name = argv[optind + 1];
	}
	if (context->json && copy.fd >= 0)
		cmd_usage(&cmd_get, "--json takes a FILE: the output cannot hold both");
	status = copy_begin(&copy, context, argv[optind], offset);
	if (!status)
		status = get(&copy, length);
	if (argc - optind == 2 && copy.fd >= 0 && close(copy.fd))
		status = fail_file(copy.name, "write");
	if (!status && context->json)
		status = report_copy(&copy, "read_bytes");
	copy_end(&copy, context);
	return status;
}

const struct cmd cmd_get = {
	.name = "get",
	.arguments = "[--offset N] [--length N] ID [FILE]",
	.summary = "Reads the memory into a file, or to the output",
	.help = "  --offset N       where in the memory (default 0)\n"
		"  --length N       how much (default: to the end of the "
		"memory)\n" CMD_TRANSPORT_HELP,
	.run = run_get,
};
