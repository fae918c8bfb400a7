/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP client of a server on 127.0.0.1 that can send any bytes, to behave badly with. */
#ifndef MAAS_TESTS_E2E_HTTP_CLIENT_H
#define MAAS_TESTS_E2E_HTTP_CLIENT_H

#include "base/base.h"

/* Prints and ends the program with 1. */
_Noreturn void die(const char *fmt, ...) MAAS_PRINTF(1, 2);

/* A connected socket; `receive_bytes` of receive buffer, 0: the system's. Dies on failure. */
int http_connect(uint16_t port, int receive_bytes);

/* Sends as much as the server takes; returns false when it has closed the connection. */
bool http_send(int fd, const void *data, size_t len);
bool http_text(int fd, const char *text);

/* Closes with a reset. */
void http_reset(int fd);

enum http_end {
	HTTP_CLOSED,
	HTTP_RESET,
	HTTP_SILENT, /* nothing came for `timeout_ms` */
};

/* Reads what comes into `text` until the connection ends. */
enum http_end http_read_all(int fd, unsigned int timeout_ms, struct maas_buf *text);

/* The status in the first line of an answer; 0 when it is none. `text` ends with a NUL. */
int http_status(const char *text);

/* Reads one answer with Content-Length; returns its status, 0 when there is none. Its body (may be
 * NULL) goes to `body`. */
int http_answer(int fd, unsigned int timeout_ms, struct maas_buf *body);

/* A request on a connection of its own; returns as http_answer(). */
int http_request(uint16_t port, const char *method, const char *path, const void *data, size_t len,
		 struct maas_buf *body);

/* The value of a metric without labels. Dies when there is none. */
double http_metric(uint16_t port, const char *name);

#endif
