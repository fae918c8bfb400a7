/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: a connection, its request, and the request's waits for lend. The struct lives from accept
 * to close and carries the state of one request at a time. Threading: it belongs to the thread that
 * the library runs the connection in, except the fields that say otherwise.
 */
#ifndef MAAS_HTTP_CONN_H
#define MAAS_HTTP_CONN_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include <microhttpd.h>

#include "base/lock.h"
#include "http/identity.h"
#include "http/listen.h"
#include "http/parse.h"
#include "http/peers.h"
#include "http/tls.h"

#define MAAS_HTTP_PATH_BYTES   160 /* of a path, for the log */
#define MAAS_HTTP_REMOTE_BYTES 64
#define MAAS_HTTP_MIN_RATE     (64u << 10) /* bytes a second that a client must manage */
#define MAAS_HTTP_STEP_BYTES   (64u << 10) /* of a body or an answer, between looks at it */
#define MAAS_HTTP_FREE_BYTES   (64u << 10) /* that a request holds without being counted */

struct maas_http_conn;
struct maas_http_pending;

enum maas_http_phase {
	MAAS_HTTP_PHASE_HEADERS,
	MAAS_HTTP_PHASE_BODY,
	MAAS_HTTP_PHASE_COMPLETE,
};

struct maas_http_vector; /* of /data/read and /data/write */
struct maas_http_overview;

/*
 * A handler returns 0 when the request goes on, with its body or once a wait is over;
 * MAAS_HTTP_ANSWERED when it has made an answer, and nothing further is to be done; or -errno to
 * close the connection without one.
 */
#define MAAS_HTTP_ANSWERED 1
typedef int maas_http_handler(struct maas_http_conn *conn);
/* Those of `data` that are not used, `ret_left` of them, come again with the next turn, which
 * maas_http_yield() asks for; 0 at first. */
typedef int maas_http_bytes(struct maas_http_conn *conn, const uint8_t *data, size_t len,
			    size_t *ret_left);

enum maas_http_body {
	MAAS_HTTP_BODY_NONE,	 /* what comes is thrown away */
	MAAS_HTTP_BODY_JSON,	 /* a small object, collected in conn->in */
	MAAS_HTTP_BODY_OPTIONAL, /* that, or nothing */
	MAAS_HTTP_BODY_LIST,	 /* JSON of up to max_body_bytes, collected in conn->in */
	MAAS_HTTP_BODY_STREAM,	 /* given to `bytes` as it comes */
};

/* The headers that are looked at. */
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
	MAAS_HTTP_FIELD_AUTHORIZATION,
	MAAS_HTTP_FIELDS,
};

struct maas_http_call {
	const char *pattern;
	enum maas_http_method method;
	enum maas_http_body body;
	enum maas_log_level log;
	enum maas_http_right right;
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
	const char *fields[MAAS_HTTP_FIELDS]; /* the last header of its name, or NULL */
	uint32_t repeated;		      /* a bit for each field that came twice or more */
	bool has_body;
	bool chunked;
	bool close;		   /* the connection ends with the answer */
	uint64_t content_length;   /* bytes; 0 when chunked */
	uint64_t received;	   /* bytes of body so far */
	unsigned int status;	   /* 0: no answer yet */
	uint64_t sent_bytes;	   /* of the answer's body */
	struct MHD_Response *kept; /* an answer that waits for the body's end */
	const char *quota;	   /* that an error is about, as in /whoami, and … */
	const char *payer;	   /* … whose it is, where the caller may know; or NULL */
	unsigned int retry_s;	   /* after which a 429 tells to try again; 0: as usual */
	const char *extra_name;	   /* one more header of the answer, or NULL */
	char extra_value[72];
	struct maas_lend_transfer transfer;
	bool transferring;    /* `transfer` is under way */
	uint64_t wasted;      /* bytes of body after the answer was made */
	uint64_t step_end;    /* bytes of body that the next look at its progress expects */
	uint64_t body_end_ms; /* when the whole body, then that of the answer, has to be there */
	uint64_t write_at;    /* next byte of a PUT, in the slab */
	uint64_t write_end;
	bool exact; /* the body of a PUT must reach write_end */
	struct maas_http_page page;
	struct maas_http_vector *vector;
	struct maas_http_batch *batch;	     /* of frees */
	struct maas_http_overview *overview; /* that is being made */
	struct maas_http_pending *pending;
	uint64_t wanted_bytes; /* held by the request; they count above MAAS_HTTP_FREE_BYTES */
};

/* The library's form of an answer that stands in `out`: how long it is and where, its headers. */
struct maas_http_made {
	struct MHD_Response *response; /* owned; NULL: none */
	const char *data;	       /* that it was made for, borrowed */
	size_t len;
	const char *type; /* a constant */
};

/* What a suspended request waits for. */
struct maas_http_wait {
	struct maas_lock lock;
	/* guarded by lock */
	unsigned int pending; /* ends that have not come */
	bool suspended;
	bool closed; /* the connection is gone; the last end frees its struct */
	int status;  /* the first end that failed */
};

struct maas_http_conn {
	struct maas_http *http;
	struct maas_http_listener *listener;
	struct MHD_Connection *mhd;
	int fd;
	enum maas_http_place place;
	struct maas_http_peer *peer; /* NULL where it is not counted by address */
	_Atomic bool incomplete;     /* no request, or one that is not whole yet */
	bool eof;		     /* maas_http_tick() saw that the client has closed */
	bool loopback;		     /* it came to an address that only this machine reaches */
	const char *target_end;	     /* in the line that has come; NULL: it is malformed */
	bool many_arguments;	     /* of the request whose line has come */
	bool linger;		     /* an answer was sent before its request's body came */
	bool head_open;		     /* in its thread's list of heads under way, or trailers */
	LIST_ENTRY(maas_http_conn) head_link;
	LIST_ENTRY(maas_http_conn) link; /* guarded by http->lock */
	_Atomic uint64_t deadline_ms;	 /* when maas_http_tick() cuts it */
	_Atomic bool aborted;		 /* it is to be cut at once: a free waits; any thread */
	_Atomic bool shaking;		 /* its TLS handshake is under way; any thread */
	struct maas_http_wait wait;	 /* any thread */
	struct maas_http_caller caller;
	struct maas_http_conn_tls tls;
	struct maas_buf in;  /* a JSON body */
	struct maas_buf out; /* the answer; stays until it is sent */
	struct maas_http_made made;
	struct maas_http_request req;
	char ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT];
	char path[MAAS_HTTP_PATH_BYTES];
	char remote[MAAS_HTTP_REMOTE_BYTES];
};

/* Deadlines, at which maas_http_tick() cuts the connection. The client must take an answer of
 * `bytes`; where the request counts, a first step of them soon. */
void maas_http_deadline(struct maas_http_conn *conn, uint64_t now_ns, uint64_t bytes);
/* The client must send a request. */
void maas_http_deadline_idle(struct maas_http_conn *conn, uint64_t now_ns);
/*
 * The client must send `bytes` of body in all, at MAAS_HTTP_MIN_RATE and never without progress for
 * long. Called again when more becomes allowed.
 */
void maas_http_deadline_body(struct maas_http_conn *conn, uint64_t bytes);
/* A step of the body has come: the time of the next one begins. */
void maas_http_deadline_step(struct maas_http_conn *conn);
/* `bytes` of the answer are about to be sent, before others are asked for. */
void maas_http_deadline_block(struct maas_http_conn *conn, uint64_t bytes);

/*
 * Counts `bytes` more that the request holds until maas_http_unhold(): what a small request may
 * make large, or a slow client keep long. Errors: -EBUSY the requests of this address, or all
 * requests, hold too much; maas_http_fail() answers that.
 */
MAAS_MUST_CHECK int maas_http_hold(struct maas_http_conn *conn, uint64_t bytes);
void maas_http_unhold(struct maas_http_conn *conn);
/* Of the bytes that the request holds, gives `bytes` back. */
void maas_http_give_back(struct maas_http_conn *conn, uint64_t bytes);

/* Whether the request holds so much that it counts. */
static inline bool maas_http_counts(const struct maas_http_conn *conn)
{
	return conn->req.wanted_bytes > MAAS_HTTP_FREE_BYTES;
}

/* ---- waiting for lend */

/* Before a call of lend that may return -EINPROGRESS. */
void maas_http_wait_begin(struct maas_http_conn *conn);
/* The end of that call: the callback of lend, from any thread; the handler itself calls it where
 * the call did not return -EINPROGRESS. */
void maas_http_wait_done(void *conn, int status);
/* Suspends the request until every end has come, then goes on with call->resume. */
MAAS_MUST_CHECK int maas_http_wait(struct maas_http_conn *conn);
/* Whether a handler that has much to do, and went on with it at `start_ns`, gives others their turn
 * now, by … */
bool maas_http_turn_over(uint64_t start_ns);
/* … this: afterwards it goes on with call->resume; in the middle of a body, with the bytes of it
 * that are left, unless the client has closed its side: then the connection is closed. */
MAAS_MUST_CHECK int maas_http_yield(struct maas_http_conn *conn);
/* The first end that failed, or 0. */
int maas_http_wait_status(struct maas_http_conn *conn);
/* Whether the request waits now. Any thread. */
bool maas_http_is_waiting(struct maas_http_conn *conn);
/* Ends the wait now, for a server that stops. */
void maas_http_wait_abandon(struct maas_http_conn *conn);

#endif
