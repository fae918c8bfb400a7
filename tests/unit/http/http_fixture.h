/* SPDX-License-Identifier: Apache-2.0 */
/* A whole server in this process, on a port of its own, and a client for it. */
#ifndef MAAS_TESTS_HTTP_FIXTURE_H
#define MAAS_TESTS_HTTP_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include <curl/curl.h>
#include <jansson.h>

#include "http/http.h"
#include "tests/unit/http/http_keys.h"

struct http_fixture {
	struct maas_slab *slab;
	struct maas_lend *lend;
	struct maas_http *http;
	pthread_t housekeeping;
	_Atomic bool stop;
	struct http_keys *keys; /* or NULL */
	CURL *curl;		/* one keep-alive connection */
};

struct http_answer {
	long status; /* 0: the connection broke */
	char *body;  /* NUL-terminated */
	size_t len;
	long new_connections;
	char headers[4096];
};

/* Gives each limit that `options` leaves out a value. */
void http_fixture_limits(struct maas_http_options *options);
/* `options` gives limits and addresses; 127.0.0.1:0 where it has none. */
void http_fixture_start(struct http_fixture *f, const struct maas_http_options *options);
/* The same with RDMA; `keys` is initialised and borrowed. */
void http_fixture_start_keys(struct http_fixture *f, const struct maas_http_options *options,
			     struct http_keys *keys);
/* Key operations that are still under way end after the server has. */
void http_fixture_stop(struct http_fixture *f);
unsigned int http_fixture_port(const struct http_fixture *f);

/* One request; `headers` are lines parted by '\n', or NULL. The answer is http_answer_fini()'s. */
void http_call(struct http_fixture *f, struct http_answer *a, const char *method, const char *path,
	       const void *body, size_t len, const char *headers);
/* The same with a text body (NULL: none); checks the status and returns the JSON of the answer, or
 * NULL for an empty one. */
json_t *http_json(struct http_fixture *f, const char *method, const char *path, const char *body,
		  long status);
/* Expects an error of this status and code. */
void http_expect_error(struct http_fixture *f, const char *method, const char *path,
		       const char *body, long status, const char *code);
void http_answer_fini(struct http_answer *a);
/* True when the headers have the line `line`. */
bool http_has_header(const struct http_answer *a, const char *line);

/* Waits until no request is under way: one counts until a little after its answer has come. */
void http_wait_idle(struct http_fixture *f);

/* Allocates and copies the id. */
void http_allocate(struct http_fixture *f, uint64_t size_bytes, char id[MAAS_SLAB_ID_TEXT]);

/* Opens a session of that name and copies its id. */
void http_open_session(struct http_fixture *f, const char *name, char id[MAAS_SLAB_ID_TEXT]);
/* Checks a key to `length` bytes, as one of struct http_keys, and returns its rkey. */
json_int_t http_rkey(const json_t *grant, json_int_t length);

/* A plain connection. */
int http_connect(const struct http_fixture *f);
/* False when the other side has closed. */
bool http_send(int fd, const void *data, size_t len);
void http_send_text(int fd, const char *fmt, ...) MAAS_PRINTF(2, 3);
/* Sends a request, and does not wait for its answer … */
void http_post_later(int fd, const char *path, const char *body);
/* … which has to come now and be of this status line and hold `text`; closes. */
void http_expect_answer(int fd, const char *status, const char *text);
/* Reads one answer, as long as its Content-Length says, and returns its status; 0 when the other
 * side has closed, or nothing came for five seconds. */
int http_recv_answer(int fd, char *buffer, size_t max);
/* Reads until the end, `max` bytes or `timeout_ms` of silence; returns how many. NUL-terminates. */
size_t http_recv(int fd, char *buffer, size_t max, int timeout_ms);

#endif
