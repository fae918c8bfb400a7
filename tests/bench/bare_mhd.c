/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_mhd: the least that libmicrohttpd can be asked to do: it answers maasd's methods and paths
 * with constant bodies, whose sizes it is told, made once at its start. It runs with maasd's flags,
 * threads, and buffers as large as it is told, so that the difference to maasd is maasd's own work.
 *
 *     bare_mhd THREADS BUFFER_KIB /health=BYTES /stats=BYTES /metrics=BYTES /allocate=BYTES
 */
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include "tests/bench/bench.h"

#define MAX_ROUTES 8

struct route {
	const char *method;
	const char *path;
	size_t path_len;
	bool below; /* anything that begins with `path` */
	struct MHD_Response *response;
};

static struct route routes[MAX_ROUTES];
static unsigned int num_routes;

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *upload,
			      size_t *upload_len, void **context)
{
	static int begun;

	(void)cls, (void)version, (void)upload;
	if (!*context) {
		*context = &begun;
		return MHD_YES;
	}
	if (*upload_len > 0) {
		*upload_len = 0;
		return MHD_YES;
	}
	for (unsigned int i = 0; i < num_routes; i++) {
		const struct route *r = &routes[i];

		if (strcmp(method, r->method) == 0 && strncmp(url, r->path, r->path_len) == 0 &&
		    (r->below || url[r->path_len] == '\0'))
			return MHD_queue_response(connection, MHD_HTTP_OK, r->response);
	}
	return MHD_NO;
}

/* A body that holds an id, as far as its size allows. */
static struct MHD_Response *make_response(size_t body_len)
{
	static const char text[] = "{\"id\":\"00000000-0000-8000-8000-000000000000\",\"";
	size_t text_len = body_len < sizeof(text) - 1 ? body_len : sizeof(text) - 1;
	struct MHD_Response *response;
	char *body = malloc(body_len + 1);

	need(body, "a body");
	memset(body, 'x', body_len);
	memcpy(body, text, text_len);
	response = MHD_create_response_from_buffer(body_len, body, MHD_RESPMEM_MUST_FREE);
	need(response && MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
						 "application/json") == MHD_YES,
	     "a response");
	return response;
}

static void add_route(const char *method, const char *path, size_t path_len, bool below,
		      size_t body_len)
{
	need_0(num_routes == MAX_ROUTES ? ENOMEM : 0, "a route");
	routes[num_routes++] =
		(struct route){method, path, path_len, below, make_response(body_len)};
}

/* "/health=123" */
static void parse_route(const char *text)
{
	const char *equals = strchr(text, '=');
	const char *method = strncmp(text, "/allocate", 9) == 0 ? "POST" : "GET";
	char *end = NULL;
	size_t body_len = equals ? strtoul(equals + 1, &end, 10) : 0;

	if (!equals || *end || end == equals + 1)
		errx(2, "cannot use %s", text);
	add_route(method, text, (size_t)(equals - text), false, body_len);
}

static struct MHD_Daemon *start(unsigned int threads, size_t buffer_bytes)
{
	/* Flags and sizes as in http/server.c. */
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					MHD_USE_ITC | MHD_USE_ERROR_LOG,
				0, NULL, NULL, answer, NULL, MHD_OPTION_SOCK_ADDR, &address,
				MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0,
				MHD_OPTION_CONNECTION_LIMIT, 4096u, MHD_OPTION_CONNECTION_TIMEOUT,
				30u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, buffer_bytes,
				MHD_OPTION_END);
}

int main(int argc, char **argv)
{
	unsigned int threads = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 0;
	unsigned int buffer_kib = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 0;
	struct MHD_Daemon *daemon;
	sigset_t signals;
	int number;

	for (int i = 3; i < argc; i++)
		parse_route(argv[i]);
	add_route("DELETE", "/allocate/", 10, true, 0);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	daemon = start(threads, (size_t)buffer_kib << 10);
	need(daemon, "MHD_start_daemon");
	fprintf(stderr, "Listening on http://127.0.0.1:%u\n",
		MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	sigwait(&signals, &number);
	MHD_stop_daemon(daemon);
	for (unsigned int i = 0; i < num_routes; i++)
		MHD_destroy_response(routes[i].response);
	return EXIT_SUCCESS;
}
