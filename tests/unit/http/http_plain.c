/* SPDX-License-Identifier: Apache-2.0 */
/* Plain connections to the fixture's server, for requests that curl would not send. No state. */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

int http_connect_to(const char *url)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

int http_connect(void)
{
	return http_connect_to(maas_http_url(server.http, 0));
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

void http_send_text(int fd, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	http_send(fd, text, strlen(text));
}

/* Adds what comes within `timeout_ms` to the text of `*len` bytes; false when nothing does. */
static bool recv_some(int fd, char *buffer, size_t max, size_t *len, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	ssize_t n;

	if (*len >= max || poll(&wait, 1, timeout_ms) <= 0)
		return false;
	n = recv(fd, buffer + *len, max - *len, 0);
	if (n <= 0)
		return false;
	*len += (size_t)n;
	buffer[*len] = '\0';
	return true;
}

size_t http_recv(int fd, char *buffer, size_t max, int timeout_ms)
{
	size_t len = 0;

	*buffer = '\0';
	while (recv_some(fd, buffer, max, &len, timeout_ms))
		;
	return len;
}

/* Whether the answer in `buffer` is there to its end. */
static bool is_whole(const char *buffer, size_t len)
{
	const char *body = strstr(buffer, "\r\n\r\n");
	const char *length = strstr(buffer, "Content-Length: ");

	return body && length && length < body &&
	       len >= (size_t)(body + 4 - buffer) + strtoul(length + 16, NULL, 10);
}

int http_recv_answer(int fd, char *buffer, size_t max)
{
	size_t len = 0;

	*buffer = '\0';
	while (!is_whole(buffer, len) && recv_some(fd, buffer, max, &len, 30000))
		;
	return len > 12 ? (int)strtol(buffer + 9, NULL, 10) : 0;
}

void http_post_later(int fd, const char *path, const char *body)
{
	http_send_text(fd, HTTP_REQUEST("POST %s", HTTP_JSON "Content-Length: %zu\r\n", "%s"), path,
		       strlen(body), http_quoted(body));
}

bool http_is_answer(const char *text, int status)
{
	return !strncmp(text, "HTTP/1.1 ", 9) && strtol(text + 9, NULL, 10) == status;
}

void http_expect_answer(int fd, int status, const char *text)
{
	char buffer[4096];

	if (http_recv_answer(fd, buffer, sizeof(buffer) - 1) != status || !strstr(buffer, text))
		fail_msg("not %d %s: %s", status, text, buffer);
	close(fd);
}

const char *http_expect_raw(const char *request, int status)
{
	int silence_ms = strstr(request, "Connection: close") ? 10000 : 300;
	static char buffer[65536];
	int fd = http_connect();
	size_t len;

	http_send(fd, request, strlen(request));
	len = http_recv(fd, buffer, 1, 10000);
	http_recv(fd, buffer + len, sizeof(buffer) - 1 - len, silence_ms);
	if (!http_is_answer(buffer, status))
		fail_msg("%s: %s", request, buffer);
	close(fd);
	return http_text("%s", buffer);
}

void http_close_all(const int *fds, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
}
