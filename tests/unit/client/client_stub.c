/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that misbehave: one thread for each, one connection at a time. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/client/client_fixture.h"

#define MAX_HELD 64

/* What both kinds share. */
struct listener {
	int fd;
	atomic_bool stop;
	atomic_uint count;
	char url[64];
	pthread_t thread;
};

static void listener_start(struct listener *listener, void *(*run)(void *))
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	*listener = (struct listener){0};
	listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener->fd >= 0);
	assert_int_equal(bind(listener->fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener->fd, MAX_HELD), 0);
	assert_int_equal(getsockname(listener->fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(listener->url, sizeof(listener->url), "http://127.0.0.1:%d", ntohs(addr.sin_port));
	assert_int_equal(pthread_create(&listener->thread, NULL, run, NULL), 0);
}

static void listener_stop(struct listener *listener)
{
	if (!*listener->url)
		return;
	listener->stop = true;
	pthread_join(listener->thread, NULL);
	close(listener->fd);
	*listener->url = '\0';
}

/* The next connection, or -1 at the end. */
static int next_connection(struct listener *listener)
{
	struct pollfd wait = {.fd = listener->fd, .events = POLLIN};

	while (!listener->stop)
		if (poll(&wait, 1, 20) == 1)
			return accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	return -1;
}

/* ---- stub */

#define MAX_ANSWERS 4

static struct stub {
	struct listener listener;
	const char *answers[MAX_ANSWERS]; /* in turn, the last for ever */
	unsigned int num_answers;
	_Atomic(const char *) token; /* NULL: no request needs one */
	char seen[65536];	     /* the last request */
} stub;

/* Where the request ends whose head is in `text`; 0: the head does not yet. */
static size_t request_len(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *length = strstr(text, "Content-Length: ");
	size_t body = 0;

	if (!end)
		return 0;
	if (length && length < end)
		body = strtoul(length + strlen("Content-Length: "), NULL, 10);
	return (size_t)(end - text) + 4 + body;
}

static void read_request(int fd, char *text, size_t size)
{
	size_t len = 0;
	size_t whole;
	ssize_t n;

	do {
		n = read(fd, text + len, size - 1 - len);
		len += n > 0 ? (size_t)n : 0;
		text[len] = '\0';
		whole = request_len(text);
	} while (n > 0 && (!whole || len < whole));
}

static bool has_token(const char *request, const char *token)
{
	char line[256];

	snprintf(line, sizeof(line), "\r\nAuthorization: Bearer %s\r\n", token);
	return strstr(request, line);
}

/* Until all is said, or nobody listens any more. */
static void say(int fd, const char *answer)
{
	size_t len = strlen(answer);
	ssize_t n = 1;

	for (size_t at = 0; at < len && n > 0; at += (size_t)n)
		n = send(fd, answer + at, len - at, MSG_NOSIGNAL);
}

static void *run_stub(void *arg)
{
	int held[MAX_HELD];
	int num_held = 0;
	int fd;

	(void)arg;
	while ((fd = next_connection(&stub.listener)) >= 0) {
		unsigned int before = stub.listener.count++;
		const char *answer =
			stub.answers[before < stub.num_answers ? before : stub.num_answers - 1];

		if (answer)
			read_request(fd, stub.seen, sizeof(stub.seen));
		if (answer && stub.token && !has_token(stub.seen, stub.token))
			answer = "HTTP/1.1 401 No\r\n\r\n{\"error\":{\"code\":\"unauthenticated\","
				 "\"message\":\"was it replaced?\"}}";
		if (answer && !*answer && num_held < MAX_HELD) {
			held[num_held++] = fd;
			continue;
		}
		if (answer)
			say(fd, answer);
		close(fd);
	}
	while (num_held)
		close(held[--num_held]);
	return NULL;
}

void stub_start(const char *answer)
{
	*stub.seen = '\0';
	stub.token = NULL;
	stub_say(&answer, 1);
	listener_start(&stub.listener, run_stub);
}

void stub_open(const char *answer, const struct maas_options *options)
{
	stub_start(answer);
	maas = client_open(stub_url(), options);
}

void stub_say(const char *const *answers, unsigned int count)
{
	assert_in_range(count, 1, MAX_ANSWERS);
	memcpy(stub.answers, answers, count * sizeof(*answers));
	stub.num_answers = count;
}

const char *stub_redirect(const char *status, const char *location, ...)
{
	static char answer[256];
	int len = snprintf(answer, sizeof(answer), "HTTP/1.1 %s There\r\nLocation: ", status);
	va_list args;

	va_start(args, location);
	vsnprintf(answer + len, sizeof(answer) - (size_t)len, location, args);
	va_end(args);
	return strncat(answer, "\r\n\r\n", 5);
}

void stub_want(const char *token)
{
	stub.token = token;
}

const char *stub_seen(void)
{
	return stub.seen;
}

const char *stub_url(void)
{
	return stub.listener.url;
}

unsigned int stub_requests(void)
{
	return stub.listener.count;
}

void stub_stop(void)
{
	listener_stop(&stub.listener);
}

/* ---- proxy */

static struct {
	struct listener listener;
	struct sockaddr_in server;
	unsigned int losses;
} proxy;

/* Copies the bytes that have come. False: the reader's side is closed. */
static bool pass(int from, int to)
{
	char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	return n > 0 && write(to, data, (size_t)n) == n;
}

/* Until one side closes, or, on a connection that loses its answer, until that has come. */
static void pass_on(int client, int to, bool lose)
{
	struct pollfd wait[2] = {{.fd = client, .events = POLLIN}, {.fd = to, .events = POLLIN}};

	while (!proxy.listener.stop) {
		if (poll(wait, 2, 20) < 1)
			continue;
		if (wait[0].revents && !pass(client, to))
			return;
		if (wait[1].revents && (lose || !pass(to, client)))
			return;
	}
}

static void *run_proxy(void *arg)
{
	int client;

	(void)arg;
	while ((client = next_connection(&proxy.listener)) >= 0) {
		int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		unsigned int before = proxy.listener.count++;

		if (connect(to, (struct sockaddr *)&proxy.server, sizeof(proxy.server)) == 0)
			pass_on(client, to, before < proxy.losses);
		close(to);
		close(client);
	}
	return NULL;
}

void proxy_open(unsigned int losses, const struct maas_options *options)
{
	const char *port = strrchr(server.url, ':');

	assert_non_null(port);
	proxy.losses = losses;
	proxy.server.sin_family = AF_INET;
	proxy.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	proxy.server.sin_port = htons((uint16_t)strtoul(port + 1, NULL, 10));
	listener_start(&proxy.listener, run_proxy);
	maas = client_open(proxy.listener.url, options);
	other = client_open(server.url, NULL);
}

unsigned int proxy_connections(void)
{
	return proxy.listener.count;
}

void proxy_stop(void)
{
	listener_stop(&proxy.listener);
}
