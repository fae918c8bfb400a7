/* SPDX-License-Identifier: Apache-2.0 */
/* Plain connections to the fixture's server, for requests that curl would not send. */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

char http_said[33 << 20];

int http_connect_to(unsigned int host, const char *url)
{
	struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
	assert_true(fd >= 0);
	/* The port is chosen by connect(2), which can take more of them. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

int http_connect_from(unsigned int host)
{
	return http_connect_to(host, maas_http_url(server.http, 0));
}

int http_connect(void)
{
	return http_connect_from(1);
}

bool http_send(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

void http_send_text(int fd, const char *text)
{
	http_send(fd, text, strlen(text));
}

/* Adds what comes within `timeout_ms` to the `*len` bytes there; false when nothing does. */
static bool recv_some(int fd, size_t *len, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	ssize_t n;

	http_said[*len] = '\0';
	if (poll(&wait, 1, timeout_ms) <= 0)
		return false;
	n = recv(fd, http_said + *len, sizeof(http_said) - 1 - *len, 0);
	if (n <= 0)
		return false;
	*len += (size_t)n;
	http_said[*len] = '\0';
	return true;
}

size_t http_recv(int fd, int timeout_ms)
{
	size_t len = 0;

	while (recv_some(fd, &len, timeout_ms))
		;
	return len;
}

/* Whether http_said begins with an answer of this status. */
static bool is_answer(int status)
{
	return !strncmp(http_said, "HTTP/1.1 ", 9) && strtol(http_said + 9, NULL, 10) == status;
}

/* Whether the answer is there to its end. */
static bool is_whole(size_t len)
{
	const char *body = strstr(http_said, "\r\n\r\n");
	const char *length = strstr(http_said, "Content-Length: ");

	if (is_answer(100))
		return body;
	return body && length && length < body &&
	       len >= (size_t)(body + 4 - http_said) + strtoul(length + 16, NULL, 10);
}

int http_recv_answer(int fd)
{
	size_t len = 0;

	while (recv_some(fd, &len, 30000) && !is_whole(len))
		;
	return len > 12 ? (int)strtol(http_said + 9, NULL, 10) : 0;
}

int http_ask(int fd, const char *request)
{
	http_send_text(fd, request);
	return http_recv_answer(fd);
}

void http_ask_later(int fd, const char *request, const char *body)
{
	const char *head = request;

	if (body)
		head = http_text("%s\nContent-Length: %zu\n\n", request, strlen(body));
	http_send_text(fd, http_request("%s%s", head, body ? http_quoted(body) : ""));
}

void http_expect_answer(int fd, int status, const char *parts)
{
	if (http_recv_answer(fd) != status || !http_has(http_said, parts))
		fail_msg("not %d %s: %s", status, parts, http_said);
	close(fd);
}

void http_expect_raw(const char *request, int status, const char *parts)
{
	int silence_ms = strstr(request, "Connection: close") ? 10000 : 300;
	int fd = http_connect();
	size_t len = 0;

	http_send_text(fd, request);
	for (int wait_ms = 10000; recv_some(fd, &len, wait_ms); wait_ms = silence_ms)
		;
	if (!is_answer(status) || !http_has(http_said, parts))
		fail_msg("%s: not %d %s: %s", request, status, parts, http_said);
	close(fd);
}

void http_close_all(const int *fds, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
}
