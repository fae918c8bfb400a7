/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server as a whole: its options, its sockets, and the start and the end of the library's
 * threads, one pool for each address.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"

#define MAX_THREADS 16
#define ANSWERS_MS  1000 /* at the end, for the answers of requests that waited */

/*
 * Of each connection, for its headers and for pieces of its body. Larger pieces make large uploads
 * faster, but the library zeroes all of it after each request.
 */
#define CONNECTION_BYTES ((size_t)64 << 10)

unsigned int maas_http_threads(unsigned int asked)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (asked)
		return asked;
	if (cpus < 1)
		return 1;
	return cpus > MAX_THREADS ? MAX_THREADS : (unsigned int)cpus;
}

/* The addresses: those of `listen` first, then those of `listen_metrics`. */
static unsigned int num_addresses(const struct maas_http_options *options)
{
	return options->num_listen + options->num_listen_metrics;
}

static bool is_for_metrics(const struct maas_http_options *options, unsigned int index)
{
	return index >= options->num_listen;
}

static const char *address_at(const struct maas_http_options *options, unsigned int index)
{
	return is_for_metrics(options, index) ? options->listen_metrics[index - options->num_listen]
					      : options->listen[index];
}

static int check_options(const struct maas_http_options *options, char *error)
{
	if (!options->slab || !options->lend || !options->num_listen ||
	    num_addresses(options) > MAAS_HTTP_MAX_LISTEN) {
		snprintf(error, MAAS_HTTP_ERROR, "there must be 1 to %d addresses to listen on",
			 MAAS_HTTP_MAX_LISTEN);
		return -EINVAL;
	}
	if (!options->socket_mode || !options->max_connections || !options->max_body_bytes ||
	    !options->max_header_bytes || options->max_header_bytes > MAAS_HTTP_MAX_HEADER_BYTES ||
	    !options->max_held_bytes || !options->timeout_s) {
		snprintf(error, MAAS_HTTP_ERROR, "a limit of the server is missing or too large");
		return -EINVAL;
	}
	return 0;
}

/* The strictest reading of requests that the library has; 3 would forgive blanks in chunk sizes. */
#if MHD_VERSION >= 0x00097701
#define DISCIPLINE MHD_OPTION_CLIENT_DISCIPLINE_LVL, 2
#else
#define DISCIPLINE MHD_OPTION_STRICT_FOR_CLIENT, 1
#endif

/* One thread is enough for metrics, and is theirs: long requests of clients do not hold it up. */
static void set_bounds(const struct maas_http_options *options, struct maas_http_listener *listener)
{
	listener->max_connections =
		listener->metrics ? MAAS_HTTP_METRICS_CONNECTIONS : options->max_connections;
	listener->max_per_address = listener->metrics ? MAAS_HTTP_METRICS_CONNECTIONS_PER_ADDRESS
						      : options->max_connections_per_address;
	if (listener->secure && options->max_connections_per_address)
		listener->max_handshakes = MAAS_HTTP_HANDSHAKES * options->threads;
}

static struct MHD_Daemon *start_daemon(struct maas_http *http, unsigned int index, int fd)
{
	const struct maas_http_options *options = &http->options;
	struct maas_http_listener *listener = &http->listeners[index];
	bool pool = options->threads > 1 && !is_for_metrics(options, index);
	unsigned int max;
	/* A session's certificate comes from maas_http_tls_open(); the library asks for one, too.
	 */
	const struct MHD_OptionItem more[] = {
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)maas_tls_priorities()},
		{MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, maas_tls_no_certificate()},
		{MHD_OPTION_END, 0, NULL},
	};

	listener->http = http;
	listener->metrics = is_for_metrics(options, index);
	set_bounds(options, listener);
	max = listener->max_connections + MAAS_HTTP_RESERVE;
	if (max < options->threads)
		max = options->threads; /* as the library wants it */
	return MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
			MHD_USE_ERROR_LOG | (listener->secure ? MHD_USE_TLS : 0),
		0, maas_http_on_accept, listener, maas_http_on_request, http,
		MHD_OPTION_EXTERNAL_LOGGER, maas_http_on_library_log, NULL, DISCIPLINE,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
		pool ? options->threads : 0, MHD_OPTION_CONNECTION_LIMIT, max,
		MHD_OPTION_CONNECTION_TIMEOUT, options->timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, MHD_OPTION_NOTIFY_CONNECTION,
		maas_http_on_connection, listener, MHD_OPTION_NOTIFY_COMPLETED,
		maas_http_on_completed, http, MHD_OPTION_UNESCAPE_CALLBACK, maas_http_on_unescape,
		NULL, MHD_OPTION_URI_LOG_CALLBACK, maas_http_on_line, NULL, MHD_OPTION_ARRAY,
		&more[listener->secure ? 0 : 2], MHD_OPTION_END);
}

static const char *listen_error(const struct maas_http_options *options, int error)
{
	if (error == -EPERM && options->socket_group)
		return "this process may give its socket to a group of its own only";
	if (error == -EINVAL)
		return "it must be HOST:PORT, [IPV6]:PORT or unix:PATH, and the host must have an "
		       "address";
	if (error == -EEXIST)
		return "there is something of this name that is no socket";
	if (error == -EADDRINUSE)
		return "Address already in use: another program, perhaps another maasd, listens "
		       "there, or this one at another of its addresses; choose another address";
	if (error == -EADDRNOTAVAIL)
		return "Cannot assign requested address: no interface of this host has it; "
		       "choose another";
	return strerror(-error);
}

static int fail_listen(const struct maas_http_options *options, unsigned int index, int r,
		       char *error)
{
	snprintf(error, MAAS_HTTP_ERROR, "--listen%s: cannot listen on %s: %s",
		 is_for_metrics(options, index) ? "-metrics" : "", address_at(options, index),
		 listen_error(options, r));
	return r;
}

int maas_http_check(const struct maas_http_options *options, char *error)
{
	struct maas_http_listener listeners[MAAS_HTTP_MAX_LISTEN] = {0};
	int fds[MAAS_HTTP_MAX_LISTEN];
	unsigned int num;
	int r = 0;

	/* All at once, as two of them may be the same. */
	for (num = 0; !r && num < num_addresses(options); num++) {
		r = maas_http_listen_check(address_at(options, num), options, &listeners[num],
					   &fds[num]);
		if (r)
			fail_listen(options, num, r, error);
	}
	while (num-- > 0) {
		maas_http_unlisten(&listeners[num]);
		if (fds[num] >= 0)
			close(fds[num]);
	}
	return r;
}

static int open_sockets(struct maas_http *http, int *fds, char *error)
{
	const struct maas_http_options *options = &http->options;

	for (unsigned int i = 0; i < num_addresses(options); i++) {
		http->listeners[i].secure = options->tls && !is_for_metrics(options, i);
		fds[i] = maas_http_listen(address_at(options, i), options, &http->listeners[i]);
		if (fds[i] < 0)
			return fail_listen(options, i, fds[i], error);
	}
	return 0;
}

static int serve(struct maas_http *http, const int *fds, char *error)
{
	for (unsigned int i = 0; i < num_addresses(&http->options); i++) {
		http->daemons[i] = start_daemon(http, i, fds[i]);
		if (!http->daemons[i]) {
			snprintf(error, MAAS_HTTP_ERROR,
				 "cannot serve %s: libmicrohttpd does not start (--http-threads "
				 "%u, --max-connections %u)",
				 http->listeners[i].url, http->options.threads,
				 http->options.max_connections);
			return -EIO;
		}
		http->num_daemons++;
	}
	return 0;
}

static void learn_names(struct maas_http *http)
{
	if (gethostname(http->host_name, sizeof(http->host_name) - 1))
		http->host_name[0] = '\0';
	memcpy(http->short_name, http->host_name, sizeof(http->short_name));
	http->short_name[strcspn(http->short_name, ".")] = '\0';
}

static void learn_slabs(struct maas_http *http)
{
	struct maas_slab_stats stats;

	maas_slab_stats(http->options.slab, &stats);
	http->extent_bytes = stats.extent_bytes;
	http->num_classes = stats.num_classes;
	for (unsigned int i = 0; i < stats.num_classes; i++)
		http->class_bytes[i] = stats.classes[i].slab_bytes;
}

static struct maas_http *http_new(const struct maas_http_options *options)
{
	struct maas_http *http = calloc(1, sizeof(*http));
	struct maas_lend_key_stats keys;

	if (!http)
		return NULL;
	http->options = *options;
	http->options.threads = maas_http_threads(http->options.threads);
	http->started_ns = maas_clock_ns();
	maas_http_tls_init(&http->tls, options->tls);
	maas_http_refusals_init(&http->refusals);
	maas_http_views_init(&http->views);
	maas_http_reloaded(http, true);
	LIST_INIT(&http->conns);
	pthread_mutex_init(&http->lock, NULL);
	pthread_mutex_init(&http->heavy.lock, NULL);
	pthread_cond_init(&http->heavy.wake, NULL);
	http->has_keys = maas_lend_key_stats(options->lend, &keys);
	learn_names(http);
	learn_slabs(http);
	maas_http_read_limit(http);
	maas_http_health_head(options, &http->health_head);
	if (!http->health_head.error && !maas_http_fixed_init(http) &&
	    !maas_http_peers_init(&http->peers) && !maas_http_heavy_start(&http->heavy) &&
	    !maas_http_linger_start(&http->linger, http))
		return http;
	maas_http_stop(http);
	return NULL;
}

int maas_http_start(const struct maas_http_options *options, char *error,
		    struct maas_http **ret_http)
{
	int fds[MAAS_HTTP_MAX_LISTEN];
	struct maas_http *http;
	int r;

	r = check_options(options, error);
	if (r)
		return r;
	http = http_new(options);
	if (!http) {
		snprintf(error, MAAS_HTTP_ERROR, "out of memory, threads or descriptors");
		return -ENOMEM;
	}
	memset(fds, -1, sizeof(fds));
	r = open_sockets(http, fds, error);
	if (!r)
		r = serve(http, fds, error);
	if (r) {
		for (unsigned int i = http->num_daemons; i < num_addresses(options); i++)
			if (fds[i] >= 0)
				close(fds[i]);
		maas_http_stop(http);
		return r;
	}
	*ret_http = http;
	return 0;
}

const char *maas_http_url(const struct maas_http *http, unsigned int index)
{
	return index < http->options.num_listen ? http->listeners[index].url : NULL;
}

const char *maas_http_metrics_url(const struct maas_http *http, unsigned int index)
{
	const struct maas_http_options *options = &http->options;

	return index < options->num_listen_metrics
		       ? http->listeners[options->num_listen + index].url
		       : NULL;
}

void maas_http_drain(struct maas_http *http)
{
	atomic_store_explicit(&http->draining, true, memory_order_relaxed);
}

void maas_http_close(struct maas_http *http)
{
	atomic_store(&http->refusing, true);
}

uint64_t maas_http_active(struct maas_http *http)
{
	return atomic_load(&http->metrics.active);
}

/* The library cannot stop while requests are suspended. */
static void release_connections(struct maas_http *http)
{
	struct maas_http_conn *conn;

	pthread_mutex_lock(&http->lock);
	atomic_store(&http->released, true);
	LIST_FOREACH (conn, &http->conns, link)
		maas_http_wait_abandon(conn);
	pthread_mutex_unlock(&http->lock);
}

static bool has_waiting(struct maas_http *http)
{
	struct maas_http_conn *conn;
	bool waiting = false;

	pthread_mutex_lock(&http->lock);
	LIST_FOREACH (conn, &http->conns, link)
		waiting = waiting || maas_http_is_waiting(conn);
	pthread_mutex_unlock(&http->lock);
	return waiting;
}

/*
 * Heavy requests are done, or given up, before the rest is, and keys have a moment to come: none is
 * told that the server stops whose memory stays lent. Then their answers go out; the library ends
 * connections as they are.
 */
static void end_requests(struct maas_http *http)
{
	bool waited = has_waiting(http);

	maas_slab_stop(http->options.slab);
	maas_http_heavy_stop(&http->heavy);
	for (int i = 0; i < ANSWERS_MS && has_waiting(http); i++)
		usleep(1000);
	release_connections(http);
	for (int i = 0; waited && i < ANSWERS_MS && maas_http_active(http); i++)
		usleep(1000);
}

void maas_http_stop(struct maas_http *http)
{
	if (!http)
		return;
	/* From here on maas_http_on_accept() takes no connection. Not MHD_quiesce_daemon(): when
	 * one comes at that moment, two threads take the socket out of an epoll set, and the
	 * library aborts the process. */
	atomic_store(&http->stopping, true);
	for (unsigned int i = 0; i < MAAS_HTTP_MAX_LISTEN; i++)
		maas_http_unlisten(&http->listeners[i]);
	end_requests(http);
	for (unsigned int i = 0; i < http->num_daemons; i++)
		MHD_stop_daemon(http->daemons[i]);
	maas_http_linger_stop(&http->linger);
	maas_http_fixed_fini(http);
	maas_http_peers_fini(&http->peers);
	maas_http_tls_fini(&http->tls);
	maas_http_refusals_fini(&http->refusals);
	maas_http_views_fini(&http->views);
	maas_buf_fini(&http->health_head);
	pthread_cond_destroy(&http->heavy.wake);
	pthread_mutex_destroy(&http->heavy.lock);
	pthread_mutex_destroy(&http->lock);
	free(http);
}
