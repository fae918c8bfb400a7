/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to http/.
 *
 * A connection's struct lives from accept to close and carries the state of its one request at a
 * time. The server library calls maas_http_on_request() several times for each request:
 *
 *     headers ──▶ [suspended] ──▶ body, piece by piece ──▶ complete ──▶ [suspended] ──▶ completed
 *
 * An answer that is made before the body has arrived is sent at once, and the connection then
 * closes; one that is made between pieces is kept until the body has arrived (the library allows
 * no other time).
 *
 * Threading: a connection's struct belongs to the thread that the library runs it in, except the
 * fields said to be otherwise.
 */
#ifndef MAAS_HTTP_INTERNAL_H
#define MAAS_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <microhttpd.h>

#include "http/calls.h"
#include "http/heavy.h"
#include "http/http.h"
#include "http/linger.h"
#include "http/parse.h"
#include "http/peers.h"

#define MAAS_HTTP_UNKNOWN	MAAS_HTTP_NUM_CALLS /* the index of no route */
#define MAAS_HTTP_CODES		20
#define MAAS_HTTP_BUCKETS	14
#define MAAS_HTTP_PATH_BYTES	160 /* of a path, for the log */
#define MAAS_HTTP_REMOTE_BYTES	64
#define MAAS_HTTP_MAX_LISTEN	16
#define MAAS_HTTP_URL		160
#define MAAS_HTTP_MIN_RATE	(64u << 10) /* bytes a second that a client must manage */
#define MAAS_HTTP_STEP_BYTES	(64u << 10) /* of a body, between two looks at its progress */
#define MAAS_HTTP_FREE_BYTES	(64u << 10) /* that a request holds without being counted */
#define MAAS_HTTP_SMALL_BODY	(8u << 10)  /* of a JSON body that is no list */
#define MAAS_HTTP_RESERVE_MS	1000	    /* … and how soon they must have sent their request */
#define MAAS_HTTP_MAX_ARGUMENTS 64	    /* of a query */
#define MAAS_HTTP_NAME		256

struct maas_http_conn;

/* The answers that are made once and live as long as the server. */
enum maas_http_fixed {
	MAAS_HTTP_FIXED_EMPTY, /* 200 without a body */
	MAAS_HTTP_FIXED_PAGE,
	MAAS_HTTP_FIXED_OPENAPI,
	MAAS_HTTP_FIXED,
};

/* ---- metrics: relaxed atomics, any thread */

enum maas_http_failure {
	MAAS_HTTP_FAIL_TOO_LARGE,
	MAAS_HTTP_FAIL_POOL_EXHAUSTED,
	MAAS_HTTP_FAIL_UNKNOWN_SESSION,
	MAAS_HTTP_FAIL_NOT_CONNECTED,
	MAAS_HTTP_FAIL_GRANTS_EXHAUSTED,
	MAAS_HTTP_FAIL_DEVICE_LIMIT,
	MAAS_HTTP_FAIL_OTHER,
	MAAS_HTTP_FAILURES,
};

struct maas_http_metrics {
	_Atomic uint64_t requests[MAAS_HTTP_NUM_CALLS + 1][MAAS_HTTP_METHODS][MAAS_HTTP_CODES];
	_Atomic uint64_t buckets[MAAS_HTTP_BUCKETS + 1];
	_Atomic uint64_t duration_ns;
	_Atomic uint64_t failures[MAAS_HTTP_FAILURES];
	_Atomic uint64_t active;
	_Atomic uint64_t connections;
	_Atomic uint64_t timeouts; /* connections that were cut for being slow */
	_Atomic uint64_t refused;  /* connections that were closed because there were too many */
};

void maas_http_metrics_request(struct maas_http_metrics *metrics, unsigned int route,
			       enum maas_http_method method, unsigned int status, uint64_t ns);
void maas_http_metric_head(struct maas_buf *out, const char *name, const char *type,
			   const char *help);
/* One without labels. */
void maas_http_metric(struct maas_buf *out, const char *name, const char *type, const char *help,
		      uint64_t value);
void maas_http_process_metrics(struct maas_buf *out);
void maas_http_key_metrics(struct maas_http *http, struct maas_buf *out);

/* ---- server */

/* All 0 where there is no RDMA; false then. */
bool maas_http_key_stats(struct maas_http *http, struct maas_lend_key_stats *ret_stats);
/* There is RDMA, and its device has not gone away. */
bool maas_http_keys_work(struct maas_http *http);
/* The part of /health that never changes; what follows it is the state of RDMA. */
void maas_http_health_head(const struct maas_http_options *options, struct maas_buf *out);

/* Makes http->fixed. Errors: -ENOMEM; what was made is maas_http_fixed_fini()'s all the same. */
MAAS_MUST_CHECK int maas_http_fixed_init(struct maas_http *http);
void maas_http_fixed_fini(struct maas_http *http);
bool maas_http_is_fixed(const struct maas_http *http, const struct MHD_Response *response);

struct maas_http_listener {
	struct maas_http *http;
	char url[MAAS_HTTP_URL]; /* "" while it does not listen */
	/* guarded by the lock of the peers */
	unsigned int connections;
	unsigned int reserved;
	/* of the socket file */
	dev_t dev;
	ino_t ino;
};

struct maas_http {
	struct maas_http_options options; /* listen and strings are borrowed */
	struct maas_buf health_head;	  /* what /health says that never changes */
	struct MHD_Response *fixed[MAAS_HTTP_FIXED];
	uint64_t started_ns;
	bool has_keys;				     /* there is RDMA */
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES]; /* ascending */
	unsigned int num_classes;
	char host_name[MAAS_HTTP_NAME];	 /* the machine's own … */
	char short_name[MAAS_HTTP_NAME]; /* … and that without its domain */
	struct MHD_Daemon *daemons[MAAS_HTTP_MAX_LISTEN];
	struct maas_http_listener listeners[MAAS_HTTP_MAX_LISTEN];
	unsigned int num_daemons;
	_Atomic bool draining;
	_Atomic bool stopping;
	unsigned int ticks;	     /* maas_http_tick()'s */
	_Atomic uint64_t held_bytes; /* by requests under way */
	struct maas_http_metrics metrics;
	struct maas_http_linger linger;
	struct maas_http_peers peers;
	struct maas_http_heavy heavy;

	pthread_mutex_t lock;
	LIST_HEAD(, maas_http_conn) conns; /* guarded by lock */
};

/*
 * Opens a listening socket for "HOST:PORT", "[IPV6]:PORT" or "unix:PATH". `ret_listener` says where
 * it listens, with the port that was really taken. A socket file that nobody listens at is
 * replaced, nothing else; a new one has socket_mode and socket_group of `options` before anybody
 * can connect. Returns the descriptor. Errors: -EINVAL, -EEXIST the path is no socket, -EPERM the
 * group is not one of the process's, and errno of bind(2).
 */
MAAS_MUST_CHECK int maas_http_listen(const char *address, const struct maas_http_options *options,
				     struct maas_http_listener *ret_listener);
/* Whether maas_http_listen() would succeed: nobody can connect meanwhile, and no socket file is
 * left behind or removed. Errors: as there. */
MAAS_MUST_CHECK int maas_http_listen_check(const char *address,
					   const struct maas_http_options *options);
/* Removes the listener's socket file, unless another one has taken its place. */
void maas_http_unlisten(const struct maas_http_listener *listener);

/* The slab that an allocation of that size takes; of one that is too large, the largest. */
static inline uint64_t maas_http_slab_bytes(const struct maas_http *http, uint64_t size_bytes)
{
	unsigned int i = 0;

	while (i + 1 < http->num_classes && http->class_bytes[i] < size_bytes)
		i++;
	return http->class_bytes[i];
}

/* ---- a request */

enum maas_http_phase {
	MAAS_HTTP_PHASE_HEADERS,
	MAAS_HTTP_PHASE_BODY,
	MAAS_HTTP_PHASE_COMPLETE,
};

struct maas_http_vector; /* of /data/read and /data/write */

/*
 * A handler returns 0 when the request goes on, with its body or once a wait is over;
 * MAAS_HTTP_ANSWERED when it has made an answer, and nothing further is to be done; or -errno to
 * close the connection without one.
 */
#define MAAS_HTTP_ANSWERED 1
typedef int maas_http_handler(struct maas_http_conn *conn);
typedef int maas_http_bytes(struct maas_http_conn *conn, const uint8_t *data, size_t len);

enum maas_http_body {
	MAAS_HTTP_BODY_NONE,	 /* what comes is thrown away */
	MAAS_HTTP_BODY_JSON,	 /* a small object, collected in conn->in */
	MAAS_HTTP_BODY_OPTIONAL, /* that, or nothing */
	MAAS_HTTP_BODY_LIST,	 /* JSON of up to max_body_bytes, collected in conn->in */
	MAAS_HTTP_BODY_STREAM,	 /* given to `bytes` as it comes */
};

/* The headers that matter here. */
enum maas_http_field {
	MAAS_HTTP_FIELD_HOST,
	MAAS_HTTP_FIELD_ORIGIN,
	MAAS_HTTP_FIELD_FETCH_SITE,
	MAAS_HTTP_FIELD_FETCH_MODE,
	MAAS_HTTP_FIELD_CONTENT_LENGTH,
	MAAS_HTTP_FIELD_TRANSFER_ENCODING,
	MAAS_HTTP_FIELD_CONTENT_TYPE,
	MAAS_HTTP_FIELD_RANGE,
	MAAS_HTTP_FIELD_IF_RANGE,
	MAAS_HTTP_FIELD_CONTENT_RANGE,
	MAAS_HTTP_FIELDS,
};

struct maas_http_call {
	enum maas_http_method method;
	const char *pattern;
	enum maas_http_body body;
	enum maas_log_level log;
	maas_http_handler *begin;  /* of a stream: the headers are here */
	maas_http_bytes *bytes;	   /* of a stream: a part of the body is here */
	maas_http_handler *finish; /* the whole request is here */
	maas_http_handler *resume; /* the wait that `finish` began is over */
};

/* A page of allocations that is being written. */
struct maas_http_page {
	struct maas_lend_page from;
	char last[MAAS_SLAB_ID_TEXT]; /* "" while it is empty */
};

struct maas_http_request {
	enum maas_http_phase phase;
	enum maas_http_method method;
	unsigned int route;
	const struct maas_http_call *call; /* NULL: its body is thrown away */
	uint64_t start_ns;
	const char *fields[MAAS_HTTP_FIELDS]; /* the last of its name, or NULL */
	uint32_t repeated;		      /* a bit for each field that came twice or more */
	bool has_body;
	bool chunked;
	bool close;		   /* the connection ends with the answer */
	uint64_t content_length;   /* bytes; 0 when chunked */
	uint64_t received;	   /* bytes of body so far */
	unsigned int status;	   /* 0: no answer yet */
	uint64_t sent_bytes;	   /* of the answer's body */
	struct MHD_Response *kept; /* an answer that waits for the body's end */
	const char *extra_name;	   /* one more header of the answer, or NULL */
	char extra_value[72];
	struct maas_lend_transfer transfer;
	bool transferring;
	uint64_t wasted;      /* bytes of body after the answer was made */
	uint64_t step_end;    /* bytes of body that the next look at its progress expects */
	uint64_t body_end_ms; /* when the whole body has to be there */
	uint64_t write_at;    /* next byte of a PUT, in the slab */
	uint64_t write_end;
	bool exact; /* the body must reach write_end */
	struct maas_http_page page;
	struct maas_http_vector *vector;
	struct maas_http_pending *pending;
	uint64_t wanted_bytes; /* that the request holds; above MAAS_HTTP_FREE_BYTES they count */
};

/* What a suspended request waits for. */
struct maas_http_wait {
	pthread_mutex_t lock;
	/* guarded by lock */
	unsigned int pending; /* ends that have not come */
	bool suspended;
	bool abandoned; /* the server stops: wait for nothing */
	bool closed;	/* the connection is gone; the last end frees the struct */
	int status;	/* the first end that failed */
};

struct maas_http_conn {
	struct maas_http *http;
	struct maas_http_listener *listener;
	struct MHD_Connection *mhd;
	int fd;
	enum maas_http_place place;
	struct maas_http_peer *peer; /* NULL where it is not counted by address */
	_Atomic bool incomplete;     /* no request, or one that is not whole yet */
	bool eof;		     /* maas_http_tick() has seen that the client closed */
	bool loopback;		     /* it came to an address that only this machine reaches */
	bool many_arguments;	     /* of the request whose line has come */
	bool linger;		     /* an answer was sent before its request's body came */
	bool head_open;		     /* in its thread's list of heads under way */
	LIST_ENTRY(maas_http_conn) head_link;
	LIST_ENTRY(maas_http_conn) link; /* guarded by http->lock */
	_Atomic uint64_t deadline_ms;	 /* when maas_http_tick() cuts it */
	_Atomic bool aborted;		 /* … or at its next call: a free waits; any thread */
	bool cut;			 /* by maas_http_tick() */
	struct maas_http_wait wait;	 /* any thread */
	struct maas_buf in;		 /* a JSON body */
	struct maas_buf out;		 /* the answer; stays until it is sent */
	struct maas_http_request req;
	char ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT];
	char path[MAAS_HTTP_PATH_BYTES];
	char remote[MAAS_HTTP_REMOTE_BYTES];
};

/* Callbacks of the server library. */
void maas_http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			     enum MHD_ConnectionNotificationCode code);
enum MHD_Result maas_http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
				     const char *method, const char *version, const char *data,
				     size_t *data_len, void **context);
void maas_http_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			    enum MHD_RequestTerminationCode code);

/* Whether a connection is accepted at all. */
enum MHD_Result maas_http_on_accept(void *cls, const struct sockaddr *addr, socklen_t len);
/* Keeps queries short; called before the library takes the request's line apart. */
void *maas_http_on_line(void *cls, const char *line, struct MHD_Connection *mhd);
size_t maas_http_on_unescape(void *cls, struct MHD_Connection *mhd, char *text);
void maas_http_on_library_log(void *cls, const char *fmt, va_list args) MAAS_PRINTF(2, 0);

/* The connection's request has a line, and not yet a head; from the connection's thread. */
void maas_http_head_opened(struct maas_http_conn *conn);
void maas_http_head_closed(struct maas_http_conn *conn);

/* The client must have taken an answer of `bytes` by then. */
void maas_http_deadline(struct maas_http_conn *conn, uint64_t now_ns, uint64_t bytes);
void maas_http_deadline_idle(struct maas_http_conn *conn, uint64_t now_ns);
/*
 * The client must have sent `bytes` of body in all, at MAAS_HTTP_MIN_RATE and never without
 * progress for long; to be said anew when more becomes allowed.
 */
void maas_http_deadline_body(struct maas_http_conn *conn, uint64_t bytes);
/* A step of the body has come: the next one has its time. */
void maas_http_deadline_step(struct maas_http_conn *conn);
/* `bytes` of the answer are about to be sent, before others are asked for. */
void maas_http_deadline_block(struct maas_http_conn *conn, uint64_t bytes);

/*
 * Counts `bytes` more that the request holds until maas_http_unhold(), for what a small request may
 * make large, or a slow client keep long. 0, or -EBUSY when the requests of this address, or of
 * all, hold too much: to be answered by maas_http_fail().
 */
MAAS_MUST_CHECK int maas_http_hold(struct maas_http_conn *conn, uint64_t bytes);
void maas_http_unhold(struct maas_http_conn *conn);
/* Of them, `bytes` are held no more. */
void maas_http_give_back(struct maas_http_conn *conn, uint64_t bytes);

/* Whether the request holds so much that it counts. */
static inline bool maas_http_counts(const struct maas_http_conn *conn)
{
	return conn->req.wanted_bytes > MAAS_HTTP_FREE_BYTES;
}

/*
 * Reads the head of a request into conn->req: its fields, and how its body is framed. `method` and
 * `version` are the library's. An answer has been made when something is wrong with it.
 */
MAAS_MUST_CHECK int maas_http_head_read(struct maas_http_conn *conn, const char *method,
					const char *version);

/* Answers what a browser was made to send, or was meant for another host. Moves `*url` to the path
 * of an absolute URL (RFC 9112, 3.2.2). */
MAAS_MUST_CHECK int maas_http_guard(struct maas_http_conn *conn, const char **url);

/* ---- waiting for lend: begin before the call that may give -EINPROGRESS, … */
void maas_http_wait_begin(struct maas_http_conn *conn);
/* … which calls this at its end, from any thread; the handler calls it when there was no wait. */
void maas_http_wait_done(void *conn, int status);
/* Suspends the request until every end has come, then goes on with call->resume. */
MAAS_MUST_CHECK int maas_http_wait(struct maas_http_conn *conn);
/* Lets other connections of this thread have their turn, then goes on with call->resume. */
MAAS_MUST_CHECK int maas_http_yield(struct maas_http_conn *conn);
/* The first end that failed, or 0. */
int maas_http_wait_status(struct maas_http_conn *conn);
/* Ends the wait now, for a server that stops. */
void maas_http_wait_abandon(struct maas_http_conn *conn);

/*
 * What lend fills while a request waits for keys, and may go on filling when that request has been
 * abandoned: so it has two holders, the request and lend; the last one frees it.
 */
struct maas_http_pending {
	struct maas_http_conn *conn;
	TAILQ_ENTRY(maas_http_pending) link; /* of the heavy ones; guarded by their lock */
	int (*work)(struct maas_http_pending *pending);
	_Atomic unsigned int holders;
	bool keyed; /* each allocation has a grant */
	struct maas_http_allocate_body body;
	struct maas_lend_alloc_request request; /* its strings are in `body` */
	struct maas_lend_allocation first;
	uint32_t count;
	struct maas_slab_ref *refs; /* behind the grants */
	struct maas_lend_key keys[];
};

/* Becomes conn->req.pending. NULL: out of memory. */
struct maas_http_pending *maas_http_pending_new(struct maas_http_conn *conn, uint32_t count);
void maas_http_pending_put(struct maas_http_pending *pending);
/* As maas_http_wait_begin(), for a call of lend that ends with maas_http_pending_done(). */
void maas_http_pending_begin(struct maas_http_pending *pending);
void maas_http_pending_done(void *pending, int status);
/* Waits for the end of such a call, which has returned `started`. */
MAAS_MUST_CHECK int maas_http_pending_wait(struct maas_http_pending *pending, int started);

/* ---- answers; all take what stands in conn->out. Return as handlers do. */

/* conn->out as JSON. */
MAAS_MUST_CHECK int maas_http_reply(struct maas_http_conn *conn, unsigned int status);
MAAS_MUST_CHECK int maas_http_reply_type(struct maas_http_conn *conn, unsigned int status,
					 const char *type);
MAAS_MUST_CHECK int maas_http_reply_empty(struct maas_http_conn *conn);
/* Takes `response`, whose headers are complete. `bytes`: of its body. */
MAAS_MUST_CHECK int maas_http_reply_made(struct maas_http_conn *conn, unsigned int status,
					 uint64_t bytes, struct MHD_Response *response);
/* Takes `response`, which may be NULL for out of memory. `bytes`: of its body. */
MAAS_MUST_CHECK int maas_http_reply_response(struct maas_http_conn *conn, unsigned int status,
					     struct MHD_Response *response, const char *type,
					     uint64_t bytes);
MAAS_MUST_CHECK int maas_http_error(struct maas_http_conn *conn, unsigned int status,
				    const char *code, const char *fmt, ...) MAAS_PRINTF(4, 5);
/* Gives a response back, unless it is a fixed one. */
void maas_http_response_put(struct maas_http_conn *conn, struct MHD_Response *response);
/* Sends the answer that was kept for the body's end. */
MAAS_MUST_CHECK int maas_http_reply_kept(struct maas_http_conn *conn);
/*
 * Sends what stands in conn->out as an answer of `status` past the library, which does not take one
 * in the middle of a body; the connection has to be closed then. Never waits.
 */
void maas_http_reply_by_hand(struct maas_http_conn *conn, unsigned int status);
/* The status and code that stand for an error; `fmt` NULL: its usual sentence. */
MAAS_MUST_CHECK int maas_http_fail(struct maas_http_conn *conn, int error, const char *fmt, ...)
	MAAS_PRINTF(3, 4);
MAAS_MUST_CHECK int maas_http_fail_fault(struct maas_http_conn *conn, int error,
					 const struct maas_http_fault *fault);

/* For an error that keys may have, too. */
MAAS_MUST_CHECK int maas_http_fail_key(struct maas_http_conn *conn, int error);

/* ---- parts of answers */

/* An object without its end. */
void maas_http_write_allocation(struct maas_buf *out,
				const struct maas_lend_allocation *allocation);
void maas_http_write_key(struct maas_buf *out, const struct maas_lend_key *key);
/* `bytes` / 2^20, exact, as a JSON number with a point. */
void maas_http_write_mib(struct maas_buf *out, uint64_t bytes);

/* ---- transfers */
MAAS_MUST_CHECK int maas_http_transfer_begin(struct maas_http_conn *conn, const char *id,
					     struct maas_lend_transfer *transfer);
/* All that the request has. */
void maas_http_transfers_end(struct maas_http_conn *conn, struct maas_lend_transfer *transfers,
			     uint32_t count);
void maas_http_vector_free(struct maas_http_conn *conn, struct maas_http_vector *vector);

/* ---- the handlers that http/calls.h names */
#define MAAS_HTTP_PLAIN(method, pattern, body, log, name) maas_http_handler maas_http_##name;
#define MAAS_HTTP_WAITS(method, pattern, body, log, name)                                          \
	maas_http_handler maas_http_##name, maas_http_##name##_resume;
#define MAAS_HTTP_STREAM(method, pattern, log, name)                                               \
	maas_http_handler maas_http_##name##_begin, maas_http_##name##_finish;                     \
	maas_http_bytes maas_http_##name##_bytes;
MAAS_HTTP_CALLS(MAAS_HTTP_PLAIN, MAAS_HTTP_WAITS, MAAS_HTTP_STREAM)

#endif
