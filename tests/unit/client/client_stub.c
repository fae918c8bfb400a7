/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that misbehave: one thread for each, and one for each connection of the proxy. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/client/client_fixture.h"

#define MAX_HELD 64

static void listener_start(struct listener *listener, void *(*run)(void *))
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener->fd >= 0);
	assert_int_equal(bind(listener->fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener->fd, MAX_HELD), 0);
	assert_int_equal(getsockname(listener->fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(listener->url, sizeof(listener->url), "http://127.0.0.1:%d", ntohs(addr.sin_port));
	listener->connections = 0;
	threads_start(&listener->thread, 1, run, NULL, 0);
}

void listener_stop(struct listener *listener)
{
	if (!*listener->url)
		return;
	shutdown(listener->fd, SHUT_RD); /* wakes the thread, whose next accept(2) fails */
	threads_join(&listener->thread, 1);
	close(listener->fd);
	*listener->url = '\0';
}

/* ---- stub */

struct listener stub;
char stub_seen[65536];
_Atomic(const char *) stub_token;
static _Atomic(const char *) stub_next; /* to one request; NULL: as to all others */
static _Atomic(const char *) stub_answer;

/* Reads a request, head and body. */
static void read_request(int fd)
{
	const char *end, *length;
	size_t whole = SIZE_MAX, len = 0;
	ssize_t n;

	*stub_seen = '\0';
	while (len < whole && (n = read(fd, stub_seen + len, sizeof(stub_seen) - 1 - len)) > 0) {
		len += (size_t)n;
		stub_seen[len] = '\0';
		end = strstr(stub_seen, "\r\n\r\n");
		length = strstr(stub_seen, "Content-Length: ");
		if (end)
			whole = (size_t)(end - stub_seen) + 4;
		if (end && length && length < end)
			whole += strtoul(length + strlen("Content-Length: "), NULL, 10);
	}
}

/* Until all is said, or nobody listens any more; what is not sent is not looked at, as a sanitizer
 * takes long for the whole of a long answer. */
static void say(int fd, const char *answer)
{
	ssize_t n;

	while (*answer && (n = send(fd, answer, strnlen(answer, 65536), MSG_NOSIGNAL)) > 0)
		answer += n;
}

/* Whether the request may be answered. */
static bool has_token(void)
{
	const char *token = stub_token;
	char line[256];

	if (!token)
		return true;
	snprintf(line, sizeof(line), "\r\nAuthorization: Bearer %s\r\n", token);
	return strstr(stub_seen, line);
}

static void *run_stub(void *arg)
{
	int held[MAX_HELD];
	int num_held = 0;
	int fd;

	while ((fd = accept4(stub.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		const char *next = atomic_exchange(&stub_next, NULL);
		const char *answer = next ? next : stub_answer;

		stub.connections++;
		if (answer)
			read_request(fd);
		if (answer && !has_token())
			answer = NO("401", "{\"code\":\"unauthenticated\","
					   "\"message\":\"was it replaced?\"}");
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
	return arg;
}

void stub_open(const char *answer, const struct maas_options *options)
{
	*stub_seen = '\0';
	stub_token = NULL;
	stub_next = NULL;
	stub_answer = answer;
	listener_start(&stub, run_stub);
	maas = client_open(stub.url, options);
}

void stub_say(const char *next, const char *then)
{
	stub_answer = then;
	stub_next = next;
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

/* ---- proxy */

struct listener proxy;
static struct sockaddr_in behind; /* maasd */
static unsigned int proxy_losses;
_Atomic bool proxy_loses_next;
_Atomic bool proxy_stalled;
_Atomic unsigned int proxy_stuck;

/* Copies the bytes that have come. False: the reader's side is closed. */
static bool pass(int from, int to)
{
	char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	return n > 0 && write(to, data, (size_t)n) == n;
}

struct passage {
	pthread_t thread;
	int client;
	unsigned int number;
	bool lose; /* the answer */
};

/* Until one side closes, or, on a connection that loses its answer, until that has come. */
static void pass_on(const struct passage *at, int to)
{
	struct pollfd wait[2] = {{.fd = at->client, .events = POLLIN},
				 {.fd = to, .events = POLLIN}};

	while (poll(wait, 2, -1) > 0) {
		while (proxy_stalled || at->number < proxy_stuck)
			nap();
		if (wait[0].revents && !pass(at->client, to))
			return;
		if (wait[1].revents && (at->lose || atomic_exchange(&proxy_loses_next, false) ||
					!pass(to, at->client)))
			return;
	}
}

static void *run_passage(void *arg)
{
	const struct passage *at = arg;
	int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(to, (struct sockaddr *)&behind, sizeof(behind)) == 0)
		pass_on(at, to);
	close(to);
	close(at->client);
	return NULL;
}

static void *run_proxy(void *arg)
{
	struct passage passages[MAX_HELD];
	unsigned int count = 0;
	int client;

	while (count < MAX_HELD && (client = accept4(proxy.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct passage *at = &passages[count++];

		at->client = client;
		at->number = proxy.connections++;
		at->lose = at->number < proxy_losses;
		CHECK(!pthread_create(&at->thread, NULL, run_passage, at));
	}
	proxy_stalled = false;
	proxy_stuck = 0;
	while (count)
		CHECK(!pthread_join(passages[--count].thread, NULL));
	return arg;
}

void proxy_start(const char *url, unsigned int losses)
{
	proxy_losses = losses;
	behind.sin_family = AF_INET;
	behind.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	behind.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
	listener_start(&proxy, run_proxy);
}

void proxy_open(unsigned int losses, const struct maas_options *options)
{
	server_start();
	proxy_start(server.url, losses);
	maas = client_open(proxy.url, options);
	other = client_open(server.url, NULL);
}
