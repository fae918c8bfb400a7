/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that misbehave: one thread, one connection at a time. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/client/client_fixture.h"

#define MAX_HELD 64

/* What both kinds stand on. */
struct listener {
	int fd;
	atomic_bool stop;
	atomic_uint count;
	char url[64];
	pthread_t thread;
};

static void listener_open(struct listener *listener)
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
}

static void listener_close(struct listener *listener)
{
	atomic_store(&listener->stop, true);
	pthread_join(listener->thread, NULL);
	close(listener->fd);
}

/* The next connection, or -1 at the end. */
static int next_connection(struct listener *listener)
{
	struct pollfd wait = {.fd = listener->fd, .events = POLLIN};

	while (!atomic_load(&listener->stop))
		if (poll(&wait, 1, 20) == 1)
			return accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	return -1;
}

/* ---- stub */

#define MAX_ANSWERS 4

struct client_stub {
	struct listener listener;
	const char *answers[MAX_ANSWERS]; /* in turn, the last for ever */
	unsigned int num_answers;
	char seen[65536]; /* the last request */
};

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
	struct client_stub *stub = arg;
	int held[MAX_HELD];
	int num_held = 0;
	int fd;

	while ((fd = next_connection(&stub->listener)) >= 0) {
		unsigned int before = atomic_fetch_add(&stub->listener.count, 1);
		const char *answer =
			stub->answers[before < stub->num_answers ? before : stub->num_answers - 1];

		if (answer)
			read_request(fd, stub->seen, sizeof(stub->seen));
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

struct client_stub *client_stub_start(const char *answer)
{
	struct client_stub *stub = calloc(1, sizeof(*stub));

	assert_non_null(stub);
	client_stub_say(stub, &answer, 1);
	listener_open(&stub->listener);
	assert_int_equal(pthread_create(&stub->listener.thread, NULL, run_stub, stub), 0);
	return stub;
}

void client_stub_say(struct client_stub *stub, const char *const *answers, unsigned int count)
{
	assert_in_range(count, 1, MAX_ANSWERS);
	memcpy(stub->answers, answers, count * sizeof(*answers));
	stub->num_answers = count;
}

const char *client_stub_seen(const struct client_stub *stub)
{
	return stub->seen;
}

const char *client_stub_url(const struct client_stub *stub)
{
	return stub->listener.url;
}

unsigned int client_stub_requests(struct client_stub *stub)
{
	return atomic_load(&stub->listener.count);
}

void client_stub_stop(struct client_stub *stub)
{
	listener_close(&stub->listener);
	free(stub);
}

/* ---- wire */

struct client_wire {
	struct listener listener;
	struct sockaddr_in server;
	unsigned int losses;
};

/* Copies what there is to read. False: the reader's side is closed. */
static bool pass(int from, int to)
{
	char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	return n > 0 && write(to, data, (size_t)n) == n;
}

/* Until one side closes, or, on a connection that loses its answer, until that has come. */
static void pass_on(struct client_wire *wire, int client, int server, bool lose)
{
	struct pollfd wait[2] = {{.fd = client, .events = POLLIN},
				 {.fd = server, .events = POLLIN}};

	while (!atomic_load(&wire->listener.stop)) {
		if (poll(wait, 2, 20) < 1)
			continue;
		if (wait[0].revents && !pass(client, server))
			return;
		if (wait[1].revents && (lose || !pass(server, client)))
			return;
	}
}

static void *run_wire(void *arg)
{
	struct client_wire *wire = arg;
	int client;

	while ((client = next_connection(&wire->listener)) >= 0) {
		int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		unsigned int before = atomic_fetch_add(&wire->listener.count, 1);

		if (connect(server, (struct sockaddr *)&wire->server, sizeof(wire->server)) == 0)
			pass_on(wire, client, server, before < wire->losses);
		close(server);
		close(client);
	}
	return NULL;
}

struct client_wire *client_wire_start(const char *url, unsigned int losses)
{
	struct client_wire *wire = calloc(1, sizeof(*wire));
	const char *port = strrchr(url, ':');

	assert_non_null(wire);
	assert_non_null(port);
	wire->losses = losses;
	wire->server.sin_family = AF_INET;
	wire->server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	wire->server.sin_port = htons((uint16_t)strtoul(port + 1, NULL, 10));
	listener_open(&wire->listener);
	assert_int_equal(pthread_create(&wire->listener.thread, NULL, run_wire, wire), 0);
	return wire;
}

const char *client_wire_url(const struct client_wire *wire)
{
	return wire->listener.url;
}

unsigned int client_wire_connections(struct client_wire *wire)
{
	return atomic_load(&wire->listener.count);
}

void client_wire_stop(struct client_wire *wire)
{
	listener_close(&wire->listener);
	free(wire);
}
