/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to the server: opening the handle, fetching pages, and messages about failures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"

bool cmd_is_unreachable(int error)
{
	return error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH ||
	       error == -ETIMEDOUT || error == -ECONNRESET;
}

void cmd_transport(struct cmd_context *context, const struct cmd *cmd, const char *way)
{
	if (!strcmp(way, "auto"))
		context->options.transport = MAAS_TRANSPORT_AUTO;
	else if (!strcmp(way, "rdma"))
		context->options.transport = MAAS_TRANSPORT_RDMA;
	else if (!strcmp(way, "http"))
		context->options.transport = MAAS_TRANSPORT_HTTP;
	else
		cmd_usage(cmd, "--transport: %s is none of auto, rdma, http", way);
}

const char *cmd_transport_name(const struct cmd_context *context)
{
	return maas_transport(context->maas) == MAAS_TRANSPORT_RDMA ? "rdma" : "http";
}

void *cmd_buffer(struct cmd_context *context, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct maas_buffer *buffer;
	void *memory = NULL;

	len += page - 1;
	len -= len % page;
	if (posix_memalign(&memory, page, len)) {
		fputs("maas: out of memory\n", stderr);
		return NULL;
	}
	if (!maas_buffer_register(context->maas, memory, len, &buffer))
		return memory;
	fprintf(stderr, "maas: %s\n", maas_error());
	free(memory);
	return NULL;
}

int cmd_connect(struct cmd_context *context)
{
	context->options.transport = MAAS_TRANSPORT_HTTP;
	return cmd_connect_data(context);
}

int cmd_connect_data(struct cmd_context *context)
{
	int error = maas_open(&context->options, &context->maas);

	if (!error)
		return CMD_OK;
	fprintf(stderr, "maas: %s\n", *maas_error() ? maas_error() : strerror(-error));
	if (cmd_is_unreachable(error))
		return CMD_UNREACHABLE;
	return error == -EINVAL || error == -EPROTONOSUPPORT ? CMD_USAGE : CMD_FAILED;
}

int cmd_fail(const struct cmd_context *context, int error, const char *what)
{
	const char *why = *maas_error() ? maas_error() : strerror(-error);

	if (!cmd_is_unreachable(error)) {
		fprintf(stderr, "maas: %s: %s\n", what, why);
		return CMD_FAILED;
	}
	fprintf(stderr, "maas: no answer from %s: %s\n", maas_url(context->maas), why);
	if (error != -ECONNRESET) /* there is a server, or was */
		fputs("maas: start a server with `maasd`, or name one: --url http://HOST:PORT or "
		      "MAAS_URL\n",
		      stderr);
	return CMD_UNREACHABLE;
}

void cmd_tell_lent(int error)
{
	if (error == -ETIMEDOUT || error == -ECONNRESET || error == -EPROTO)
		fputs("maas: memory may be lent all the same, and nobody has its id: look in "
		      "`maas ls` for its size and age\n",
		      stderr);
}

int cmd_fetch_raw(const struct cmd_context *context, const char *path, json_t **ret_json)
{
	json_error_t fault;
	json_t *json;
	char *text;
	size_t len;
	int error = maas_get(context->maas, path, &text, &len);

	if (error)
		return cmd_fail(context, error, path);
	json = json_loadb(text, len, 0, &fault);
	free(text);
	if (!json_is_object(json)) {
		fprintf(stderr, "maas: %s%s is not a JSON object: is that a maasd?\n",
			maas_url(context->maas), path);
		json_decref(json);
		return CMD_FAILED;
	}
	*ret_json = json;
	return CMD_OK;
}

int cmd_fetch(const struct cmd_context *context, const char *path, json_t **ret_json)
{
	json_t *json;
	int status = cmd_fetch_raw(context, path, &json);

	if (status)
		return status;
	if (!cmd_json_clean(json)) {
		fprintf(stderr, "maas: %s%s has numbers that make no sense: is that a maasd?\n",
			maas_url(context->maas), path);
		json_decref(json);
		return CMD_FAILED;
	}
	*ret_json = json;
	return CMD_OK;
}

int cmd_print_page(const struct cmd_context *context, const char *path)
{
	json_t *json;
	int status = cmd_fetch_raw(context, path, &json);

	return status ? status : cmd_print_json(json);
}
