/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP by hand on a blocking socket: each byte that the server gets is the caller's. No state, and
 * no thread of its own; an error that no well-behaved client could meet ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/http_client.h"

#define ANSWER_MS 20000

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "FAILED: ");
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

int http_connect(uint16_t port, int receive_bytes)
{
	const struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	if (receive_bytes)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		die("connect: %s", strerror(errno));
	return fd;
}

bool http_send(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

bool http_text(int fd, const char *text)
{
	return http_send(fd, text, strlen(text));
}

void http_reset(int fd)
{
	const struct linger now = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* More bytes into `text`: 1, 0 at the end, -errno; -ETIMEDOUT when nothing came. */
static int read_some(int fd, unsigned int timeout_ms, struct maas_buf *text)
{
	struct pollfd poll_fd = {fd, POLLIN, 0};
	char *to = maas_buf_reserve(text, 65536);
	ssize_t n;

	if (!to)
		die("out of memory");
	if (poll(&poll_fd, 1, (int)timeout_ms) <= 0)
		return -ETIMEDOUT;
	n = recv(fd, to, 65536, 0);
	if (n < 0)
		return -errno;
	text->len += (size_t)n;
	return n > 0;
}

enum http_end http_read_all(int fd, unsigned int timeout_ms, struct maas_buf *text)
{
	int r;

	do {
		r = read_some(fd, timeout_ms, text);
	} while (r > 0);
	if (!r)
		return HTTP_CLOSED;
	return r == -ETIMEDOUT ? HTTP_SILENT : HTTP_RESET;
}

/* The head's length, with the blank line; 0 while it is not complete. */
static size_t head_len(struct maas_buf *text)
{
	const char *end = memmem(text->data, text->len, "\r\n\r\n", 4);

	return end ? (size_t)(end - text->data) + 4 : 0;
}

int http_status(const char *text)
{
	static const char version[] = "HTTP/1.";
	const size_t at = sizeof(version) + 1;

	if (strncmp(text, version, sizeof(version) - 1) != 0 || strlen(text) < at)
		return 0;
	return (int)strtol(text + at, NULL, 10);
}

int http_answer(int fd, unsigned int timeout_ms, struct maas_buf *body)
{
	static const char field[] = "\r\ncontent-length:";
	struct maas_buf text = {0};
	const char *length;
	size_t head = 0;
	size_t len;
	int status = 0;

	while (!head && read_some(fd, timeout_ms, &text) > 0)
		head = head_len(&text);
	if (!head)
		goto out;
	text.data[head - 2] = '\0';
	length = strcasestr(text.data, field);
	len = length ? strtoul(length + sizeof(field) - 1, NULL, 10) : 0;
	while (text.len < head + len && read_some(fd, timeout_ms, &text) > 0)
		;
	if (text.len == head + len)
		status = http_status(text.data);
	if (status && body)
		maas_buf_add(body, text.data + head, len);
out:
	maas_buf_fini(&text);
	return status;
}

int http_request(uint16_t port, const char *method, const char *path, const void *data, size_t len,
		 struct maas_buf *body)
{
	int fd = http_connect(port, 0);
	char head[512];
	int status = 0;

	snprintf(head, sizeof(head),
		 "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		 "application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		 method, path, len);
	if (http_text(fd, head) && http_send(fd, data, len))
		status = http_answer(fd, ANSWER_MS, body);
	close(fd);
	return status;
}

double http_metric(uint16_t port, const char *name)
{
	struct maas_buf text = {0};
	char line[128];
	const char *at;
	double value;

	if (http_request(port, "GET", "/metrics", NULL, 0, &text) != 200)
		die("GET /metrics fails");
	maas_buf_add(&text, "", 1);
	snprintf(line, sizeof(line), "\n%s ", name);
	at = strstr(text.data, line);
	if (!at)
		die("there is no metric %s", name);
	value = strtod(at + strlen(line), NULL);
	maas_buf_fini(&text);
	return value;
}
