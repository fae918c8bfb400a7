/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw: a client of maasd that shares no code with libmaas: HTTP by libcurl, JSON by jansson, RDMA
 * by raw_link.h. What a hostile client could send can be sent with it.
 *
 * Errors: -errno, unless said otherwise. Threading: each object one thread at a time.
 */
#ifndef MAAS_TESTS_RAW_H
#define MAAS_TESTS_RAW_H

#include <jansson.h>

#include "tests/rdma/raw_link.h"

/* ---- HTTP: one kept-alive connection */

#define RAW_URL 80

struct raw_http;

/* NULL: out of memory. `url` as "http://10.0.0.1:3000". */
struct raw_http *raw_http_new(const char *url);
void raw_http_free(struct raw_http *http);
/* From now on, all has this token. Errors: -ENOMEM. */
int raw_http_token(struct raw_http *http, const char *token);

/*
 * Sends `body` as JSON (stolen; NULL: none). Returns the status, or -EIO when no answer came.
 * `ret_reply` (may be NULL): the answer's JSON, the caller's; NULL where it was none.
 */
int raw_call(struct raw_http *http, const char *method, const char *path, json_t *body,
	     json_t **ret_reply);

/* The answer's bytes, at most `max` of them, to `bytes`. Returns the status, or -EIO. */
int raw_get(struct raw_http *http, const char *path, void *bytes, size_t max, size_t *ret_len);
int raw_put(struct raw_http *http, const char *path, const void *bytes, size_t len);

/* The "code" in the last answer's "error"; "" where there was none. Until the next call. */
const char *raw_error(const struct raw_http *http);

/* ---- sessions and allocations */

/* One allocation and the key to it. */
struct raw_key {
	char id[RAW_ID];
	uint64_t addr;
	uint64_t len;
	uint32_t rkey;
	uint32_t connection;
};

/* These return the status of the answer, and -EPROTO where a 200 does not say what it must. */
int raw_session_open(struct raw_http *http, const char *name, unsigned int ttl_s,
		     struct raw_session *ret_session);
int raw_session_ticket(struct raw_http *http, struct raw_session *session);
int raw_session_renew(struct raw_http *http, const struct raw_session *session);
int raw_session_end(struct raw_http *http, const struct raw_session *session);
/* `lifetime`, `access`: NULL for the server's default. */
int raw_alloc(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
	      const char *lifetime, const char *access, struct raw_key *ret_key);
/* All or none. */
int raw_alloc_many(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
		   uint32_t count, struct raw_key *ret_keys);
int raw_free(struct raw_http *http, const char *id);
int raw_free_many(struct raw_http *http, const struct raw_key *keys, uint32_t count);
int raw_grant(struct raw_http *http, const char *id, const struct raw_session *session,
	      const char *access, struct raw_key *ret_key);
int raw_ungrant(struct raw_http *http, const char *id, const struct raw_session *session);

#endif
