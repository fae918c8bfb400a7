/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw: a client of maasd that shares no code with libmaas: HTTP by libcurl, JSON by jansson,
 * connections by librdmacm, work requests by hand with any address and any key. What a hostile
 * client could send can be sent with it.
 *
 * Errors: -errno, unless said otherwise. Threading: each object one thread at a time.
 */
#ifndef MAAS_TESTS_RAW_H
#define MAAS_TESTS_RAW_H

#include <infiniband/verbs.h>
#include <jansson.h>
#include <rdma/rdma_cma.h>

#include "base/base.h"
#include "base/wire.h"

/* ---- HTTP: one kept-alive connection */

#define RAW_URL 80

struct raw_http;

/* NULL: out of memory. `url` as "http://10.0.0.1:3000". */
struct raw_http *raw_http_new(const char *url);
void raw_http_free(struct raw_http *http);

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

#define RAW_ID 40

struct raw_session {
	char id[RAW_ID];
	char ticket[2 * MAAS_WIRE_TICKET + 1];
	char addr[46];
	uint16_t port;
};

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

/* ---- connections */

#define RAW_DEPTH 64

struct raw_link {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint8_t *bytes; /* of ours, registered */
	size_t len;
	uint32_t connection; /* as the server said when it accepted */
	uint16_t reason;     /* as it said when it refused */
};

/* Fills the private data with the session's ticket. Errors: -EINVAL it is no hex text. */
int raw_hello(const struct raw_session *session, struct maas_wire_connect *ret_hello);

/*
 * Connects with `hello_len` bytes of private data, and `len` bytes of our own to read to and write
 * from. Errors: -ECONNREFUSED with link->reason (0: nobody gave one), -ETIMEDOUT, -EHOSTUNREACH,
 * those of the calls. The link is then closed.
 */
int raw_connect_with(struct raw_link *link, const struct raw_session *session, const void *hello,
		     uint8_t hello_len, size_t len);
int raw_connect(struct raw_link *link, const struct raw_session *session, size_t len);

/* Asks for a connection, takes the answer and never says that it came. */
int raw_connect_halfway(struct raw_link *link, const struct raw_session *session);

/* A closed and a half-built one are allowed. */
void raw_close(struct raw_link *link);

/*
 * One read or write of `len` bytes between link->bytes + at and `addr`, and its completion.
 * Returns its status (enum ibv_wc_status) or -ETIMEDOUT after ten seconds.
 */
int raw_run(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	    uint32_t rkey);

/* Posts without waiting; `id` comes with the completion. Errors: -ENOMEM the queue is full. */
int raw_post(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	     uint32_t rkey, uint64_t id);

/* Waits for one completion. Returns 1, or 0 when none came in time. */
int raw_poll(struct raw_link *link, struct ibv_wc *ret_wc, unsigned int timeout_ms);

/* Sets the queue pair to ERR: what is under way completes, flushed. */
void raw_break(struct raw_link *link);

#endif
