/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside http, a .c for each of these, and a .h for some:
 *
 *   server                the whole: options, sockets, the library's threads
 *   calls route           every call, and which one a method and a path mean
 *   listen library        sockets; what libmicrohttpd asks besides requests
 *   connection peers linger
 *                         who is connected, what each may take, and how connections end
 *   tls                   encrypted connections
 *   request head guard identity
 *                         a request up to its handlers, and whose it is
 *   handle_...            the handlers, by call
 *   pending heavy         replies that wait for keys; threads for what takes long
 *   reply fixed           answers
 *   metrics...            /metrics
 *   json_... path range origin
 *                         the parsers, declared in parse.h
 *
 * The library calls maas_http_on_request() several times for each request:
 *
 *     headers ──▶ body, piece by piece, [suspended] ──▶ complete ──▶ [suspended] ──▶ completed
 *
 * An answer that is made before the body has arrived is sent at once, and the connection then
 * closes; one that is made between pieces is kept until the body has arrived (the library allows
 * no other time).
 */
#ifndef MAAS_HTTP_INTERNAL_H
#define MAAS_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include <microhttpd.h>

#include "http/calls.h"
#include "http/conn.h"
#include "http/heavy.h"
#include "http/http.h"
#include "http/linger.h"
#include "http/listen.h"
#include "http/metrics.h"
#include "http/overview.h"
#include "http/parse.h"
#include "http/peers.h"
#include "http/pending.h"
#include "http/refusals.h"
#include "http/reply.h"
#include "http/tls.h"

#define MAAS_HTTP_MAX_LISTEN	32
#define MAAS_HTTP_SMALL_BODY	(8u << 10) /* of a JSON body that is no list */
#define MAAS_HTTP_RESERVE_MS	1000	   /* for a request on a connection of the reserve */
#define MAAS_HTTP_MAX_ARGUMENTS 64	   /* of a query */
#define MAAS_HTTP_NAME		256

/* The answers that are made once and live as long as the server. */
enum maas_http_fixed {
	MAAS_HTTP_FIXED_EMPTY, /* 200 without a body */
	MAAS_HTTP_FIXED_PAGE,
	MAAS_HTTP_FIXED_OPENAPI,
	MAAS_HTTP_FIXED,
};

struct maas_http {
	struct maas_http_options options; /* listen and strings are borrowed */
	struct maas_buf health_head;	  /* what /health says that never changes */
	struct MHD_Response *fixed[MAAS_HTTP_FIXED];
	uint64_t started_ns;
	bool has_keys;				     /* there is RDMA */
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES]; /* ascending */
	unsigned int num_classes;
	uint64_t extent_bytes;
	char host_name[MAAS_HTTP_NAME];	 /* the machine's own … */
	char short_name[MAAS_HTTP_NAME]; /* … and that without its domain */
	struct MHD_Daemon *daemons[MAAS_HTTP_MAX_LISTEN];
	struct maas_http_listener listeners[MAAS_HTTP_MAX_LISTEN];
	unsigned int num_daemons;
	_Atomic bool draining;
	_Atomic bool refusing;	      /* no request is carried out that begins now */
	_Atomic bool stopping;	      /* no connection is accepted */
	_Atomic bool released;	      /* and no request waits any more */
	unsigned int ticks;	      /* maas_http_tick()'s */
	_Atomic uint64_t limit_bytes; /* of memory, of the control group; UINT64_MAX: none */
	_Atomic uint64_t held_bytes;  /* by requests under way */
	struct maas_http_metrics metrics;
	struct maas_http_linger linger;
	struct maas_http_peers peers;
	struct maas_http_identity identity;
	struct maas_http_tls tls;
	struct maas_http_heavy heavy;
	struct maas_http_refusals refusals;
	struct maas_http_views views;

	pthread_mutex_t lock;
	LIST_HEAD(, maas_http_conn) conns; /* guarded by lock */
};

/* The slab that an allocation of that size takes; of one that is too large, the largest. */
static inline uint64_t maas_http_slab_bytes(const struct maas_http *http, uint64_t size_bytes)
{
	unsigned int i = 0;

	while (i + 1 < http->num_classes && http->class_bytes[i] < size_bytes)
		i++;
	return http->class_bytes[i];
}

/* What the keys say. False where there is no RDMA: all is 0 then. */
bool maas_http_key_stats(struct maas_http *http, struct maas_lend_key_stats *ret_stats);
/* True where there is RDMA and its device has not gone away. */
bool maas_http_keys_work(struct maas_http *http);
/* What /ready says; `keys` are those of maas_http_key_stats(). */
enum maas_http_readiness { MAAS_HTTP_READY, MAAS_HTTP_REGISTERING, MAAS_HTTP_DRAINING };
enum maas_http_readiness maas_http_readiness(const struct maas_http *http,
					     const struct maas_lend_key_stats *keys);
const char *maas_http_readiness_name(enum maas_http_readiness readiness);
/* Reads limit_bytes anew; that takes longer the more mounts there are. */
void maas_http_read_limit(struct maas_http *http);
/* Writes the part of /health that never changes; what follows is the state of RDMA. */
void maas_http_health_head(const struct maas_http_options *options, struct maas_buf *out);

/* Makes http->fixed; maas_http_fixed_fini() accepts a half-made one. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_http_fixed_init(struct maas_http *http);
void maas_http_fixed_fini(struct maas_http *http);
bool maas_http_is_fixed(const struct maas_http *http, const struct MHD_Response *response);

/* ---- what the library calls */

void maas_http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			     enum MHD_ConnectionNotificationCode code);
enum MHD_Result maas_http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
				     const char *method, const char *version, const char *data,
				     size_t *data_len, void **context);
void maas_http_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			    enum MHD_RequestTerminationCode code);

/* Decides whether a connection is accepted at all. */
enum MHD_Result maas_http_on_accept(void *cls, const struct sockaddr *addr, socklen_t len);
/* Keeps queries short, before the library takes the request's line apart. */
void *maas_http_on_line(void *cls, const char *line, struct MHD_Connection *mhd);
size_t maas_http_on_unescape(void *cls, struct MHD_Connection *mhd, char *text);
void maas_http_on_library_log(void *cls, const char *fmt, va_list args) MAAS_PRINTF(2, 0);

/* The connection's request has a line, and not yet all its headers: behind a body in chunks some
 * may come. In the connection's thread. */
void maas_http_head_opened(struct maas_http_conn *conn);
void maas_http_head_closed(struct maas_http_conn *conn);

/* ---- a request */

/*
 * Reads the head of a request into conn->req: its fields, and how its body is framed. `method`,
 * `url` and `version` are the library's. Returns as a handler does: a bad head is answered.
 */
MAAS_MUST_CHECK int maas_http_head_read(struct maas_http_conn *conn, const char *method,
					const char *url, const char *version);

/* Answers a request that a foreign web page made a browser send, or that was meant for another
 * host. Moves `*url` to the path of an absolute URL (RFC 9112, 3.2.2). */
MAAS_MUST_CHECK int maas_http_guard(struct maas_http_conn *conn, const char **url);

bool maas_http_is_repeated(const struct maas_http_request *req, enum maas_http_field field);

/* ---- transfers */

/* Begins a transfer that the end of the connection ends. Errors: -ENOENT, -ENOMEM. */
MAAS_MUST_CHECK int maas_http_transfer_begin(struct maas_http_conn *conn, const char *id,
					     struct maas_lend_transfer *transfer);
/* Ends the transfers of the request, which must be all that it has. */
void maas_http_transfers_end(struct maas_http_conn *conn, struct maas_lend_transfer *transfers,
			     uint32_t count);
void maas_http_vector_free(struct maas_http_conn *conn, struct maas_http_vector *vector);

/* ---- frees */

void maas_http_batch_free(struct maas_http_conn *conn, struct maas_http_batch *batch);

/* ---- the handlers that http/calls.h names */

#define MAAS_HTTP_PLAIN(method, pattern, body, log, right, name) maas_http_handler maas_http_##name;
#define MAAS_HTTP_WAITS(method, pattern, body, log, right, name)                                   \
	maas_http_handler maas_http_##name, maas_http_##name##_resume;
#define MAAS_HTTP_STREAM(method, pattern, log, name)                                               \
	maas_http_handler maas_http_##name##_begin, maas_http_##name##_finish;                     \
	maas_http_bytes maas_http_##name##_bytes;
MAAS_HTTP_CALLS(MAAS_HTTP_PLAIN, MAAS_HTTP_WAITS, MAAS_HTTP_STREAM)

#endif
