/* SPDX-License-Identifier: Apache-2.0 */
/* reply: making answers. All return as handlers do, and all take what stands in conn->out. */
#ifndef MAAS_HTTP_REPLY_H
#define MAAS_HTTP_REPLY_H

#include "http/conn.h"

/* Answers with conn->out as JSON, or as `type`. */
MAAS_MUST_CHECK int maas_http_reply(struct maas_http_conn *conn, unsigned int status);
MAAS_MUST_CHECK int maas_http_reply_type(struct maas_http_conn *conn, unsigned int status,
					 const char *type);
/* Answers 200, without a body. */
MAAS_MUST_CHECK int maas_http_reply_empty(struct maas_http_conn *conn);
/* Takes `response`, whose headers are complete. `bytes`: of its body. */
MAAS_MUST_CHECK int maas_http_reply_made(struct maas_http_conn *conn, unsigned int status,
					 uint64_t bytes, struct MHD_Response *response);
/* Takes `response`, which may be NULL for out of memory. `bytes`: of its body. */
MAAS_MUST_CHECK int maas_http_reply_response(struct maas_http_conn *conn, unsigned int status,
					     struct MHD_Response *response, const char *type,
					     uint64_t bytes);
/* An error is about this quota; `payer` NULL: of whom is not said. Both are borrowed. */
void maas_http_blame(struct maas_http_conn *conn, enum maas_auth_quota quota, const char *payer);
/* Answers 429: the caller has reached that quota of its own. */
MAAS_MUST_CHECK int maas_http_too_many(struct maas_http_conn *conn, enum maas_auth_quota quota,
				       const char *remedy);
/* Gives a response back, unless it is a fixed one. */
void maas_http_response_put(struct maas_http_conn *conn, struct MHD_Response *response);
/* Sends the answer that was kept for the body's end. */
MAAS_MUST_CHECK int maas_http_reply_kept(struct maas_http_conn *conn);
/*
 * Sends what stands in conn->out as an answer of `status` past the library, which does not take one
 * in the middle of a body; the connection has to be closed then. Never waits.
 */
void maas_http_reply_by_hand(struct maas_http_conn *conn, unsigned int status);
/* Answers with an error object; what stands in conn->out is dropped. */
MAAS_MUST_CHECK int maas_http_error(struct maas_http_conn *conn, unsigned int status,
				    const char *code, const char *fmt, ...) MAAS_PRINTF(4, 5);
/* The same with the status and code that stand for -errno; `fmt` NULL: its usual sentence. */
MAAS_MUST_CHECK int maas_http_fail(struct maas_http_conn *conn, int error, const char *fmt, ...)
	MAAS_PRINTF(3, 4);
/* The same for a body that could not be read. */
MAAS_MUST_CHECK int maas_http_fail_fault(struct maas_http_conn *conn, int error,
					 const struct maas_http_fault *fault);

/* The same for an error of a call that has to do with keys. */
MAAS_MUST_CHECK int maas_http_fail_key(struct maas_http_conn *conn, int error);
/* Counts an allocation or a key that failed so, by its reason. */
void maas_http_count_failure(struct maas_http_conn *conn, int error);

/* ---- parts of answers */

/* Append `before` and then a number, or a JSON string; NULL: null. */
void maas_http_write_number(struct maas_buf *out, const char *before, uint64_t value);
void maas_http_write_text(struct maas_buf *out, const char *before, const char *text);

/* The object of an allocation, without its closing brace. */
void maas_http_write_allocation(struct maas_buf *out,
				const struct maas_lend_allocation *allocation);
void maas_http_write_key(struct maas_buf *out, const struct maas_lend_key *key);
/* `bytes` / 2^20, exact, as a JSON number with a point. */
void maas_http_write_mib(struct maas_buf *out, uint64_t bytes);

#endif
