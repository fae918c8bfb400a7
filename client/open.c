/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a handle: its options, its parts, and the order in which they begin and end. One
 * thread opens a handle and one closes it, while no other uses it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/transport.h"

#define DEFAULT_URL	      "http://localhost:3000"
#define DEFAULT_TIMEOUT_MS    30000
#define DEFAULT_CONNECT_MS    5000
#define DEFAULT_CONNECTIONS   8
#define DEFAULT_SUBMITTED     1024
#define MAX_CONNECTIONS	      4096
#define MAX_SUBMITTED	      (1u << 20)
#define MAX_TIMEOUT_MS	      (24u * 3600u * 1000u)
#define DEFAULT(value, other) ((value) ? (value) : (other))

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void init_curl(void)
{
	curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

const char *maas_version(void)
{
	return MAAS_VERSION;
}

int maas_copy_options(const void *from, void *to, size_t size)
{
	size_t from_size = 0;

	memset(to, 0, size);
	if (from)
		memcpy(&from_size, from, sizeof(from_size));
	if (from && from_size < sizeof(from_size))
		return maas_fail(-EINVAL, "options.size is not set");
	for (size_t at = size; at < from_size; at++)
		if (((const char *)from)[at])
			return maas_fail(-EINVAL,
					 "an option that this library, %s, does not know yet",
					 MAAS_VERSION);
	if (from)
		memcpy(to, from, from_size < size ? from_size : size);
	memcpy(to, &size, sizeof(size));
	return 0;
}

static int check_options(const struct maas_options *options)
{
	if ((unsigned int)options->transport > MAAS_TRANSPORT_HTTP)
		return maas_fail(-EINVAL, "options.transport is none of the three");
	if (options->owner && !maas_name_valid(options->owner))
		return maas_fail(-EINVAL,
				 "\"%s\" cannot name an owner: 1 to 63 characters of "
				 "A-Z a-z 0-9 . _ : / @ -",
				 options->owner);
	if (options->session_name && !maas_name_valid(options->session_name))
		return maas_fail(-EINVAL,
				 "\"%s\" cannot name a session: 1 to 63 characters of "
				 "A-Z a-z 0-9 . _ : / @ -",
				 options->session_name);
	if (options->session_exclusive && !options->session_name)
		return maas_fail(-EINVAL, "an exclusive session needs a name");
	if (options->max_connections > MAX_CONNECTIONS || options->max_submitted > MAX_SUBMITTED ||
	    options->timeout_ms > MAX_TIMEOUT_MS || options->connect_timeout_ms > MAX_TIMEOUT_MS)
		return maas_fail(-EINVAL,
				 "at most %u connections, %u submitted operations and "
				 "a day of time",
				 MAX_CONNECTIONS, MAX_SUBMITTED);
	return 0;
}

static void set_defaults(struct maas_options *options)
{
	const char *url = getenv("MAAS_URL");
	const char *token_file = getenv("MAAS_TOKEN_FILE");

	if (!options->url)
		options->url = url && *url ? url : DEFAULT_URL;
	if (!options->token_file)
		options->token_file = token_file;
	if (options->token_file && !*options->token_file)
		options->token_file = NULL;
	options->timeout_ms = DEFAULT(options->timeout_ms, DEFAULT_TIMEOUT_MS);
	options->connect_timeout_ms = DEFAULT(options->connect_timeout_ms, DEFAULT_CONNECT_MS);
	options->max_connections = DEFAULT(options->max_connections, DEFAULT_CONNECTIONS);
	options->max_submitted = DEFAULT(options->max_submitted, DEFAULT_SUBMITTED);
}

static int copy_text(const char *from, char **ret_copy)
{
	*ret_copy = from ? strdup(from) : NULL;
	return from && !*ret_copy ? maas_fail(-ENOMEM, "out of memory") : 0;
}

static void free_strings(struct maas *maas)
{
	free(maas->owner);
	free(maas->session_name);
	maas_token_fini(&maas->token);
	maas_tls_fini(&maas->tls);
	maas_url_fini(&maas->url);
}

static int take_url(struct maas *maas)
{
	int r = maas_url_parse(maas->options.url, &maas->url);

	if (!r)
		r = maas_tls_init(&maas->tls, &maas->url, &maas->options);
	if (!r && maas->options.server_name)
		r = maas_url_set_name(&maas->url, maas->options.server_name);
	maas->options.server_name = NULL; /* the URL has it */
	return r;
}

static int copy_strings(struct maas *maas)
{
	int r = take_url(maas);

	if (!r)
		r = copy_text(maas->options.owner, &maas->owner);
	if (!r)
		r = copy_text(maas->options.session_name, &maas->session_name);
	if (!r)
		r = maas_token_init(&maas->token, maas->options.token_file);
	/* The options point to our copies from here on. */
	maas->options.url = maas->url.text;
	maas->options.owner = maas->owner;
	maas->options.session_name = maas->session_name;
	maas->options.token_file = maas->token.file;
	return r;
}

static int open_parts(struct maas *maas)
{
	int r;

	r = maas_pool_init(&maas->pool, maas->options.max_connections);
	if (r)
		return maas_fail(r, "out of memory");
	r = maas_queue_init(&maas->queue, maas->options.max_submitted);
	if (r) {
		maas_pool_fini(&maas->pool);
		return r;
	}
	maas_client_session_init(&maas->session);
	pthread_mutex_init(&maas->buffer_lock, NULL);
	LIST_INIT(&maas->buffers);
	return 0;
}

static void free_parts(struct maas *maas)
{
	maas_queue_fini(&maas->queue);
	maas_client_session_fini(&maas->session);
	maas_pool_fini(&maas->pool);
	pthread_mutex_destroy(&maas->buffer_lock);
}

static void free_buffers(struct maas *maas)
{
	struct maas_buffer *buffer;
	struct maas_buffer *next;

	for (buffer = LIST_FIRST(&maas->buffers); buffer; buffer = next) {
		/* No operation is under way any more that could use the buffer. */
		if (maas->transport->keys)
			maas->transport->unpin(maas, buffer);
		next = LIST_NEXT(buffer, link);
		free(buffer);
	}
	LIST_INIT(&maas->buffers);
}

/* The session's thread ends first: the function that is told of a loss may submit operations and
 * wait for them. The session itself ends when nothing uses its memory any more. */
static void close_parts(struct maas *maas)
{
	maas_client_session_stop(maas);
	maas->transport->stop(maas);
	maas_queue_drop(maas);
	maas_client_session_end(maas);
	free_buffers(maas);
	maas->transport->free(maas);
	free_parts(maas);
}

int maas_open(const struct maas_options *options, struct maas **ret_maas)
{
	struct maas *maas;
	int r;

	maas_error_clear();
	pthread_once(&curl_once, init_curl);
	if (curl_ready)
		return maas_fail(-ENOMEM, "libcurl: %s", curl_easy_strerror(curl_ready));
	maas = calloc(1, sizeof(*maas));
	if (!maas)
		return maas_fail(-ENOMEM, "out of memory");
	maas->pid = maas_process();
	r = maas_copy_options(options, &maas->options, sizeof(maas->options));
	if (!r)
		r = check_options(&maas->options);
	if (r)
		goto err_free;
	set_defaults(&maas->options);
	r = copy_strings(maas);
	if (!r)
		r = open_parts(maas);
	if (r)
		goto err_strings;
	r = maas_transport_choose(maas);
	if (r)
		goto err_parts;
	*ret_maas = maas;
	return 0;

err_parts:
	free_parts(maas);
err_strings:
	free_strings(maas);
err_free:
	free(maas);
	return r;
}

void maas_close(struct maas *maas)
{
	if (!maas)
		return;
	/* A child has copies of locks that threads of its parent may hold, of their curl handles
	 * and of the device's memory: those are left alone. */
	if (maas->pid == maas_process()) {
		close_parts(maas);
		free_strings(maas);
		free(maas);
	} else {
		maas_queue_fini(&maas->queue);
		maas_tls_close_fds(&maas->tls);
	}
}

enum maas_transport_type maas_transport(const struct maas *maas)
{
	return maas->transport->type;
}

const char *maas_url(const struct maas *maas)
{
	return maas->url.text;
}
