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

struct raw_http {
	void *curl;
	const char *token;     /* goes with all that is sent; borrowed; NULL: none */
	struct maas_buf reply; /* of the last answer: its bytes */
	json_t *json;	       /* the same as JSON; NULL where it was none */
	char url[RAW_URL];
};

/* `url` as "http://10.0.0.1:3000". Out of memory ends the program. */
struct raw_http *raw_http_new(const char *url);
void raw_http_free(struct raw_http *http);

/* Sends `body` as JSON (stolen; NULL: none). Returns the status, or -EIO when no answer came. */
int raw_call(struct raw_http *http, const char *method, json_t *body, const char *path, ...)
	MAAS_PRINTF(4, 5);

/* Writes the bytes of an allocation. Returns as raw_call(). */
int raw_put(struct raw_http *http, const char *id, const void *bytes, size_t len);

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
