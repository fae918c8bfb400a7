/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole server in this process, on a port of its own, and a client for it. There is one at a
 * time. Whatever the functions here return belongs to the fixture, until http_teardown().
 */
#ifndef MAAS_TESTS_HTTP_FIXTURE_H
#define MAAS_TESTS_HTTP_FIXTURE_H

#include <curl/curl.h>
#include <jansson.h>

#include "http/http.h"
#include "tests/fake/fake_keys.h"
#include "tests/unit/unit.h"

#define NO_ID "00000000-0000-8000-8000-000000000000"

struct http_fixture {
	struct maas_slab *slab;
	struct maas_lend *lend;
	struct maas_http *http;
	pthread_t housekeeping;
	_Atomic bool stop;
	bool has_keys;
	CURL *curl; /* one keep-alive connection */
};

extern struct http_fixture server;
extern struct fake_keys keys;	   /* of the server, where it has some: FAKE_KEYS_AT_ONCE */
extern const char *http_session;   /* "one", where it has keys */
extern uint64_t http_extent_bytes; /* of the pool of the next server; 0: its usual size */

struct http_answer {
	long status; /* 0: the connection broke */
	char *body;  /* NUL-terminated */
	size_t len;
	long new_connections;
	char *headers; /* NUL-terminated */
};

/* Gives what `options` leaves out a value, and has them serve what the server lends. */
void http_fill_options(struct maas_http_options *options);
/* `options` gives limits and addresses; 127.0.0.1:0 where it has none. A server that runs is
 * stopped first. */
void http_start(const struct maas_http_options *options, bool with_keys);
#define HTTP_START(...)	     http_start(&(const struct maas_http_options){__VA_ARGS__}, false)
#define HTTP_START_KEYS(...) http_start(&(const struct maas_http_options){__VA_ARGS__}, true)
/* Has the server go by these lines of principals from now on. */
void http_use_principals(const char *text);
/* Key operations that are still under way end after the server has. */
void http_stop(void);
/* Setups with the fixture's limits, and the teardown for all. */
void http_setup(void);
void http_setup_keys(void);
void http_teardown(void);

/* Runs the cases, each with a server of such options. */
#define HTTP_TEST_MAIN(...)                                                                        \
	static void http_start_case(void)                                                          \
	{                                                                                          \
		HTTP_START(__VA_ARGS__);                                                           \
	}                                                                                          \
	TEST_MAIN(http_start_case, http_teardown)

struct maas_lend_stats http_lend_stats(void);

/* ---- requests */

/* One request: "METHOD PATH", and then header lines; '\n' parts them. */
const struct http_answer *http_call(const char *request, const void *body, size_t len);
const struct http_answer *http_get(const char *path);
/* The same with a text as its body, in which each ' stands for a " (NULL: none). The answer must
 * have this status and, in its headers or its body, these parts. */
const struct http_answer *http_expect(const char *request, const char *body, long status,
				      const char *parts);
/* Checks the status and returns the JSON of the answer, or NULL for an empty one. */
json_t *http_json(const char *request, const char *body, long status);
/* Expects an error of this status and code; returns its message. */
const char *http_expect_error(const char *request, const char *body, long status, const char *code);
/* Waits until no request is under way: one counts until a little after its answer has come. */
void http_wait_idle(void);
/* Has all that is logged from now on, down to INFO, … */
void http_log_begin(void);
/* … which this returns, once no request is under way. */
const char *http_log_end(void);

/* The first and the last return the new id. */
const char *http_allocate(uint64_t size_bytes);
void http_free(const char *id);
const char *http_open_session(const char *name);

/* ---- text and JSON */

const char *http_text(const char *fmt, ...) MAAS_PRINTF(1, 2);
/* A copy with a " for each '; NULL for NULL. */
const char *http_quoted(const char *text);
/* Whether `text` has all of these, in any order; '*' stands between them: "Connection: x*busy". */
bool http_has(const char *text, const char *parts);
/* Fails where it has not. */
void http_expect_parts(const char *text, const char *parts);
/* The JSON of a text, which must be some. */
json_t *http_parse(const char *text);
/* Fails unless `json` has all members of that object, in which each ' stands for a ". */
void http_expect_members(const json_t *json, const char *fmt, ...) MAAS_PRINTF(2, 3);
/* A member; the second one must be there. */
const char *http_string(const json_t *json, const char *name);
json_int_t http_number(const json_t *json, const char *name);
/* Checks a key to `length` bytes, as one of struct fake_keys, and returns its rkey. */
json_int_t http_rkey(const json_t *grant, json_int_t length);
/* Adds a range to {"ranges":[…, which the caller ends with "]}". */
void http_add_range(struct maas_buf *json, const char *id, uint64_t offset, uint64_t len);
/* The beginning of the body of a /data/write: the length of such JSON, and the JSON. */
void http_add_frame(struct maas_buf *body, const struct maas_buf *json);

/* ---- plain connections */

/* The text of such a request, and behind an empty line its body: "PUT /x\nContent-Length: 1\n\na".
 * What it has of its own: a Host, and for a POST that takes JSON its Content-Type. */
const char *http_request(const char *fmt, ...) MAAS_PRINTF(1, 2);

/* What the functions below have read, NUL-terminated. */
extern char http_said[33 << 20];

int http_connect(void);
int http_connect_from(unsigned int host);		 /* 127.0.0.`host` */
int http_connect_to(unsigned int host, const char *url); /* one of the server's */
void http_close_all(const int *fds, unsigned int count);
/* False when the other side has closed. */
bool http_send(int fd, const void *data, size_t len);
void http_send_text(int fd, const char *text);
/* Sends a request with a body as http_expect() takes it, and does not wait for its answer … */
void http_ask_later(int fd, const char *request, const char *body);
/* … which has to come now, have this status and these parts; closes. */
void http_expect_answer(int fd, int status, const char *parts);
/* Reads one answer, as long as its Content-Length says, and returns its status; 0 when the other
 * side has closed, or nothing came for half a minute. */
int http_recv_answer(int fd);
/* The same of such a request as http_request() gives, which is sent first. */
int http_ask(int fd, const char *request);
/* Reads until the end or `timeout_ms` of silence; returns how many bytes. */
size_t http_recv(int fd, int timeout_ms);
/* Sends `request` on a connection of its own and reads all that comes, which has to be an answer
 * of this status and these parts: to the end of a connection that the request closes, else to a
 * silence of 300 ms. */
void http_expect_raw(const char *request, int status, const char *parts);

#endif
