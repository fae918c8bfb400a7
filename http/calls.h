/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call of the API, once: a new one is a line here and the handlers that the line names. The
 * calls of one path stand together; they are its route.
 *
 *   PLAIN(method, path, body, log, right, name)
 *       maas_http_NAME() answers once the request is whole
 *   WAITS(method, path, body, log, right, name)
 *       it may wait first, and maas_http_NAME_resume() goes on
 *   STREAM(method, path, log, name)
 *       maas_http_NAME_begin() sees the head, _bytes() the body as it comes, _finish() its end; it
 *       is about memory
 *
 * `method` is one of enum maas_http_method (GET serves HEAD as well), `body` one of enum
 * maas_http_body, `log` the level of the request's line in the log: INFO for what changes
 * something, unless it comes so often that it would drown the rest; `right`, one of enum
 * maas_http_right, is what the caller needs where the server has principals.
 */
#ifndef MAAS_HTTP_CALLS_H
#define MAAS_HTTP_CALLS_H

/* clang-format off */
#define MAAS_HTTP_CALLS(PLAIN, WAITS, STREAM) \
	PLAIN(GET, "/", NONE, DEBUG, NONE, page) \
	PLAIN(GET, "/openapi.yaml", NONE, DEBUG, NONE, openapi) \
	PLAIN(GET, "/health", NONE, DEBUG, HEALTH, health) \
	WAITS(POST, "/allocate", JSON, INFO, MEMORY, allocate) \
	PLAIN(GET, "/allocate/{id}", NONE, DEBUG, MEMORY, describe) \
	WAITS(DELETE, "/allocate/{id}", NONE, INFO, MEMORY, delete) \
	PLAIN(GET, "/allocate/{id}/data", NONE, DEBUG, MEMORY, data_get) \
	STREAM(PUT, "/allocate/{id}/data", DEBUG, data_put) \
	PLAIN(POST, "/allocate/{id}/renew", OPTIONAL, DEBUG, MEMORY, renew) \
	WAITS(POST, "/allocate/{id}/grant", JSON, INFO, MEMORY, grant) \
	WAITS(DELETE, "/allocate/{id}/grant/{session}", NONE, INFO, MEMORY, ungrant) \
	WAITS(POST, "/free", LIST, INFO, MEMORY, free) \
	WAITS(GET, "/allocations", NONE, DEBUG, MEMORY, list) \
	WAITS(POST, "/data/read", LIST, DEBUG, MEMORY, data_read) \
	STREAM(POST, "/data/write", DEBUG, data_write) \
	PLAIN(GET, "/sessions", NONE, DEBUG, MEMORY, sessions) \
	PLAIN(POST, "/sessions", JSON, INFO, MEMORY, session_open) \
	WAITS(DELETE, "/sessions/{id}", NONE, INFO, MEMORY, session_end) \
	PLAIN(POST, "/sessions/{id}/renew", OPTIONAL, DEBUG, MEMORY, session_renew) \
	PLAIN(POST, "/sessions/{id}/ticket", OPTIONAL, INFO, MEMORY, session_ticket) \
	PLAIN(GET, "/whoami", NONE, DEBUG, NONE, whoami) \
	PLAIN(GET, "/ready", NONE, DEBUG, HEALTH, ready) \
	PLAIN(GET, "/stats", NONE, DEBUG, METRICS, stats) \
	WAITS(GET, "/overview", NONE, DEBUG, FIGURES, overview) \
	WAITS(GET, "/figures", NONE, DEBUG, FIGURES, figures) \
	PLAIN(GET, "/metrics", NONE, DEBUG, METRICS, metrics)
/* clang-format on */

#define MAAS_HTTP_ONE(...) +1 /* NOLINT(bugprone-macro-parentheses): to be summed up */
enum { MAAS_HTTP_NUM_CALLS = 0 MAAS_HTTP_CALLS(MAAS_HTTP_ONE, MAAS_HTTP_ONE, MAAS_HTTP_ONE) };

#endif
