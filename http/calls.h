/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call of the API, once: a new one is a line here and the handlers that the line names. The
 * calls of one path stand together; they are its route.
 *
 *   PLAIN(method, path, body, log, name)   maas_http_NAME() answers once the request is whole
 *   WAITS(method, path, body, log, name)   it may wait first, and maas_http_NAME_resume() goes on
 *   STREAM(method, path, log, name)        maas_http_NAME_begin() sees the head, _bytes() the body
 *                                          as it comes, _finish() its end
 *
 * `method` is one of enum maas_http_method (GET serves HEAD as well), `body` one of enum
 * maas_http_body, `log` the level of the request's line in the log: INFO for what changes
 * something, unless it comes so often that it would drown the rest.
 */
#ifndef MAAS_HTTP_CALLS_H
#define MAAS_HTTP_CALLS_H

/* clang-format off */
#define MAAS_HTTP_CALLS(PLAIN, WAITS, STREAM) \
	PLAIN(GET, "/", NONE, DEBUG, page) \
	PLAIN(GET, "/openapi.yaml", NONE, DEBUG, openapi) \
	PLAIN(GET, "/health", NONE, DEBUG, health) \
	WAITS(POST, "/allocate", JSON, INFO, allocate) \
	PLAIN(GET, "/allocate/{id}", NONE, DEBUG, describe) \
	WAITS(DELETE, "/allocate/{id}", NONE, INFO, delete) \
	PLAIN(GET, "/allocate/{id}/data", NONE, DEBUG, data_get) \
	STREAM(PUT, "/allocate/{id}/data", DEBUG, data_put) \
	PLAIN(POST, "/allocate/{id}/renew", OPTIONAL, DEBUG, renew) \
	WAITS(POST, "/allocate/{id}/grant", JSON, INFO, grant) \
	WAITS(DELETE, "/allocate/{id}/grant/{session}", NONE, INFO, ungrant) \
	WAITS(POST, "/free", LIST, INFO, free) \
	WAITS(GET, "/allocations", NONE, DEBUG, list) \
	PLAIN(POST, "/data/read", LIST, DEBUG, data_read) \
	STREAM(POST, "/data/write", DEBUG, data_write) \
	PLAIN(GET, "/sessions", NONE, DEBUG, sessions) \
	PLAIN(POST, "/sessions", JSON, INFO, session_open) \
	WAITS(DELETE, "/sessions/{id}", NONE, INFO, session_end) \
	PLAIN(POST, "/sessions/{id}/renew", OPTIONAL, DEBUG, session_renew) \
	PLAIN(POST, "/sessions/{id}/ticket", OPTIONAL, INFO, session_ticket) \
	PLAIN(GET, "/ready", NONE, DEBUG, ready) \
	PLAIN(GET, "/stats", NONE, DEBUG, stats) \
	PLAIN(GET, "/metrics", NONE, DEBUG, metrics)
/* clang-format on */

#define MAAS_HTTP_ONE(...) +1 /* NOLINT(bugprone-macro-parentheses): to be summed up */
enum { MAAS_HTTP_NUM_CALLS = 0 MAAS_HTTP_CALLS(MAAS_HTTP_ONE, MAAS_HTTP_ONE, MAAS_HTTP_ONE) };

#endif
