/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside libmaas:
 *
 *   open                    the handle
 *   data                    what to do with bytes: read, write, submit
 *   queue                   submitted operations that ended: poll, event fd
 *   alloc free describe     what to ask: they make a request and read its answer
 *   session                 the lease and the thread that renews it
 *   buffer                  the caller's registered memory
 *   transport               the table of operations of what carries the bytes …
 *   http/ rdma/             … and the two that there are
 *   call                    one request and the caller's wait for it, with retries
 *   request transfer        what is asked; how curl sends it
 *   token tls               whose the handle is; whom it trusts
 *   probe                   why a server has not a word to say
 *   url error json          text
 *   process                 which process this is
 */
#ifndef MAAS_CLIENT_INTERNAL_H
#define MAAS_CLIENT_INTERNAL_H

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/thread.h"
#include "base/wire.h"
#include "client/maas.h"
#include "client/queue.h"

/* ---- url */

struct maas_url {
	char *text;	 /* for people, such as "http://localhost:3000" or "unix:/run/maas.sock" */
	char *base;	 /* what a path is appended to */
	char *unix_path; /* NULL: TCP */
	bool tls;
	/* NULL, or, for a server whose certificate has another name than the URL: `base` has the
	 * certificate's name, and these have the URL's. */
	struct curl_slist *connect_to;
	char *host_header;
};

/* Owns: the caller, maas_url_fini(). Errors: -EINVAL, -EPROTONOSUPPORT, -ENOMEM. */
MAAS_MUST_CHECK int maas_url_parse(const char *text, struct maas_url *ret_url);
void maas_url_fini(struct maas_url *url);

/* The name that the certificate of a server of https:// has, other than the URL's. Errors: -EINVAL,
 * -ENOMEM. */
MAAS_MUST_CHECK int maas_url_set_name(struct maas_url *url, const char *name);

/* Whether the absolute URL `to` leads to the same server, by the same host, port and scheme and
 * without a user; then appends its path and query to `ret_path`. */
MAAS_MUST_CHECK bool maas_url_same(const struct maas_url *url, const char *to,
				   struct maas_buf *ret_path);

/* ---- error: the calling thread's sentence */

MAAS_COLD void maas_error_set(const char *fmt, ...) MAAS_PRINTF(1, 2);
/* Whether the thread has a sentence. One byte, reached without a call: a library that is opened
 * late (dlopen(3)) finds little room of that kind. */
extern _Thread_local bool maas_failed __attribute__((tls_model("initial-exec")));

static inline void maas_error_clear(void)
{
	maas_failed = false;
}

/* Keeps the sentence; its value is `error`. */
#define maas_fail(error, ...) (maas_error_set(__VA_ARGS__), (error))

/* The -errno of an HTTP status and of the code in its body ("" when there is none). */
MAAS_MUST_CHECK int maas_error_of_status(long status, const char *code);

/* Keeps the server's own words. Returns the -errno. */
int maas_fail_status(long status, const char *body, size_t len);

/* The same for a request that had no answer, on the curl handle that it was sent with; `mute`: not
 * a word of one. */
int maas_fail_curl(const struct maas *maas, CURL *easy, CURLcode code, uint32_t timeout_ms,
		   bool mute);

/* ---- token */

#define MAAS_TOKEN_BYTES  256 /* and its NUL; maasd's own have 46 */
#define MAAS_TOKEN_HEADER (MAAS_TOKEN_BYTES + 32)

struct maas_token {
	char *file; /* NULL: there is no token */
	pthread_mutex_t lock;
	unsigned int reading; /* how often the token was another */
	char text[MAAS_TOKEN_BYTES];
	char before[MAAS_TOKEN_BYTES]; /* "", or the one that maas_token_look() replaced */
};

/* Reads the token of `file`; NULL: there is none. `token` is all zero before. Errors: as open(2);
 * -EPERM others may read the file, -EINVAL there is no token in it. */
MAAS_MUST_CHECK int maas_token_init(struct maas_token *token, const char *file);
void maas_token_fini(struct maas_token *token); /* after a failed maas_token_init(), too */

/* The header line to send, and which reading of the file it is. False: none. */
MAAS_MUST_CHECK bool maas_token_header(struct maas_token *token, char header[MAAS_TOKEN_HEADER],
				       unsigned int *ret_reading);

/* Looks whether the file has another token by now. */
void maas_token_look(struct maas_token *token);

/* Whether there is another token than the one of `reading`, which the server refused; looks into
 * the file. When the file cannot be read, the thread's sentence says why. */
MAAS_MUST_CHECK bool maas_token_is_other(struct maas_token *token, unsigned int reading);

/* ---- tls: the files of https:// */

enum maas_tls_file {
	MAAS_TLS_CA,
	MAAS_TLS_CERT,
	MAAS_TLS_KEY,
	MAAS_TLS_FILES,
};

/* What the files had at one reading, in memory, so that a connection has a key and a certificate
 * that go together while others replace the files. */
struct maas_tls_reading {
	unsigned int number;
	unsigned int users;
	int fd[MAAS_TLS_FILES];	       /* -1: there is no such file */
	char path[MAAS_TLS_FILES][96]; /* of fd, for curl */
};

/* By which a file is told from its successor. All zero: there is none. */
struct maas_file_state {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct maas_tls {
	char *file[MAAS_TLS_FILES]; /* NULL: there is none */

	pthread_mutex_t lock;
	struct maas_tls_reading *reading;	     /* NULL: there are no files */
	struct maas_file_state seen[MAAS_TLS_FILES]; /* of what was read last, or refused */
	bool refused;				     /* that is not `reading` */
	uint64_t look_ms;			     /* when to look again */
};

/* Reads the files that the options and, for https:// alone, the environment name, and proves that
 * they can be used; then the options have copies of the names. `tls` is all zero before. Errors:
 * as maas_open() has them. */
MAAS_MUST_CHECK int maas_tls_init(struct maas_tls *tls, const struct maas_url *url,
				  struct maas_options *options);
void maas_tls_fini(struct maas_tls *tls); /* after a failed maas_tls_init(), too */
void maas_tls_close_fds(struct maas_tls *tls);

/* What the files have now, NULL when there are none. Looks at the files once in a while; of files
 * that are no good nothing is taken. Owns: the caller, maas_tls_put(). */
MAAS_MUST_CHECK struct maas_tls_reading *maas_tls_get(struct maas_tls *tls);
void maas_tls_put(struct maas_tls *tls, struct maas_tls_reading *reading); /* NULL is allowed */

/* Tells curl. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_tls_set(const struct maas_tls_reading *reading, CURL *easy);

/* Whether there are other files than those of a reading's number, with which the server was not
 * content. When they cannot be used, the thread's sentence says why. */
MAAS_MUST_CHECK bool maas_tls_is_other(struct maas_tls *tls, unsigned int number);

/* ---- request: what is asked, and the answer */

struct maas_request {
	const char *method;	/* "GET", "POST", "PUT", "DELETE" */
	struct maas_buf path;	/* owned */
	struct maas_buf head;	/* owned: the body, or what of it precedes the ranges' bytes */
	bool json;		/* what the body is */
	bool follow;		/* one 307, to the same server */
	bool once;		/* twice would not be the same */
	bool counted;		/* what it finds depends on whether it was sent before */
	struct maas_line *line; /* to be sent on it; NULL: on a curl handle of the pool */
	char range[64];		/* of a GET: "0-99" */
	char content_range[80];
	const struct maas_range *out; /* borrowed: bytes sent behind the head */
	const struct maas_range *in;  /* borrowed: where a good answer's bytes go */
	uint32_t num_out;
	uint32_t num_in;
	uint64_t out_len; /* sums */
	uint64_t in_len;
	size_t max_text; /* of an answer that goes nowhere else; 0: MAAS_SMALL_ANSWER */

	/* the answer */
	long status;
	unsigned int tries;
	unsigned int sent;    /* at least as often as that: curl may send it twice in one try */
	bool refused;	      /* with the token before */
	unsigned int reading; /* of the token sent */
	unsigned int files;   /* the number of the reading of the files of TLS */
	bool mute;	      /* the connection ended before a word of an answer */
	uint64_t received;    /* bytes that went to `in` */
	char span[80];	      /* its Content-Range */
	struct maas_buf text; /* owned: any other body */
};

/* What is read of an answer: of one whose length is known by its kind, or that is an error; of the
 * entries of a list, each; and of a head. A tree of JSON takes up to 80 times its text (of "{},"),
 * so only what is small is parsed in one piece. */
#define MAAS_SMALL_ANSWER ((size_t)8 << 10)
#define MAAS_ENTRY_ANSWER ((size_t)400)
#define MAAS_HEAD_ANSWER  ((size_t)16 << 10)

/* An empty request; `fmt` makes its path. */
void maas_request_init(struct maas_request *request, const char *method, const char *fmt, ...)
	MAAS_PRINTF(3, 4);
void maas_request_fini(struct maas_request *request);

/* ---- transfer: a request on a curl handle */

struct maas_client_transfer {
	struct maas_request *request;
	struct maas *maas;
	CURL *easy;
	struct maas_tls_reading *files;
	struct curl_slist *headers;
	size_t head_at; /* how far the body was sent … */
	uint32_t out_index;
	size_t out_at;
	uint32_t in_index; /* … and the answer taken */
	size_t in_at;
	int fault; /* why a callback stopped it */
	uint32_t timeout_ms;
	uint64_t deadline_ms;
	size_t head_bytes;  /* of the answer, trailers included */
	bool followed;	    /* a redirection */
	char location[128]; /* of the answer, as far as it fits: for people */
};

/* Makes ready for curl_easy_perform() or a multi handle. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_client_transfer_begin(struct maas_client_transfer *transfer, CURL *easy,
					       struct maas *maas, struct maas_request *request,
					       uint32_t timeout_ms);

/* Turns an answer 307 into the request that follows the redirection, to the same server whatever
 * the answer says. False: the answer is no redirection to follow; maas_client_transfer_end() says
 * why. */
MAAS_MUST_CHECK bool maas_client_transfer_follow(struct maas_client_transfer *transfer);

/* Reads the outcome and frees what maas_client_transfer_begin() made. Returns 0 for the status that
 * was due: 200, of a range 206. */
MAAS_MUST_CHECK int maas_client_transfer_end(struct maas_client_transfer *transfer, CURLcode code);

/* Only frees, for an outcome that nobody asks for. */
void maas_client_transfer_drop(struct maas_client_transfer *transfer);
/* Lets a transfer end in time where a name server is silent: curl does not wait for a resolver. */
void maas_client_quick_exit(CURL *easy);

/* Whether a `counted` request may have been carried out before the last time that it was sent, and
 * only its answer was lost: not when it was refused. */
static inline bool maas_request_repeated(const struct maas_request *request)
{
	return request->sent - request->refused > 1;
}

/* True when a request that failed with `error` may be sent again. */
MAAS_MUST_CHECK bool maas_request_again(struct maas *maas, struct maas_request *request, int error);

/* ---- the handle */

/* Curl handles, each with a connection, for calls that wait. */
struct maas_pool {
	uint32_t max;
	pthread_mutex_t lock;
	pthread_cond_t freed;
	CURL **idle; /* the last used is taken first */
	uint32_t num_idle;
	uint32_t num_open;
};

/* A connection of its own for one thread, whose requests wait for nobody's and can be cut short. */
struct maas_line {
	CURL *easy;
	CURLM *multi; /* NULL: it was not needed so far */
	_Atomic bool cut;
};

/* A right to connect over RDMA, once, and where to. */
struct maas_ticket {
	char text[2 * MAAS_WIRE_TICKET + 1]; /* "": used */
	char addr[46];			     /* numeric */
	uint16_t port;			     /* 0: the server has no RDMA */
};

struct maas_client_session {
	pthread_mutex_t open_lock; /* one opening at a time; taken before `lock` */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum maas_session_state state;
	char id[MAAS_ID_BYTES];
	uint64_t ttl_ms;    /* the lease, as the server's last answer has it */
	uint64_t lapses_ms; /* counted from the sending of the last renewal */
	struct maas_ticket ticket;
	struct maas_line line; /* of the thread, or, while there is none, of who has open_lock */
	bool running;	       /* the thread */
	bool stop;
	pthread_t thread;
};

struct maas_http_client;
struct maas_transport;
struct maas_rdma_client;
struct ibv_mr;

struct maas_buffer {
	LIST_ENTRY(maas_buffer) link;
	uintptr_t base;
	size_t len;
	uint32_t users;	   /* over HTTP: ranges of operations within it */
	struct ibv_mr *mr; /* over RDMA: it is pinned */
};

struct maas {
	pid_t pid;
	struct maas_url url;
	struct maas_options options; /* defaults filled in */
	struct maas_token token;
	struct maas_tls tls;
	char *owner;
	char *session_name;
	struct maas_pool pool;
	struct maas_client_session session;
	const struct maas_transport *transport;
	struct maas_http_client *http; /* of the two, that of the transport */
	struct maas_rdma_client *rdma;
	struct maas_queue queue;

	pthread_mutex_t buffer_lock;
	LIST_HEAD(, maas_buffer) buffers;
};

/* This process, without a system call, however it was forked. */
pid_t maas_process(void);
/* Holds the pid, or 0: then only maas_process() knows. */
extern _Atomic pid_t *maas_process_page;
int maas_fail_process(void); /* -ECHILD */

/* Clears the thread's sentence. Errors: -ECHILD. */
MAAS_MUST_CHECK static inline int maas_enter(const struct maas *maas)
{
	maas_error_clear();
	if (atomic_load_explicit(maas_process_page, memory_order_relaxed) == maas->pid ||
	    maas_process() == maas->pid)
		return 0;
	return maas_fail_process();
}

/* Copies options that begin with their size: an older program's struct is shorter, the rest is zero
 * then; a newer one's is longer, and what this library does not know must be zero. `from` NULL: all
 * is. Errors: -EINVAL. */
MAAS_MUST_CHECK int maas_copy_options(const void *from, void *to, size_t size);

/* Names and ids become parts of paths: nothing but their own letters. What a server says is an id
 * has to look like one of its own. */
bool maas_id_valid(const char *id);
bool maas_uuid_valid(const char *id);
MAAS_MUST_CHECK int maas_check_id(const char *id); /* -EINVAL, with a sentence */
void maas_copy_id(char to[MAAS_ID_BYTES], const char *from);

/* ---- call */

MAAS_MUST_CHECK int maas_pool_init(struct maas_pool *pool, uint32_t max);
void maas_pool_fini(struct maas_pool *pool);

/* Makes what the line needs, if it is not there yet. `line` is all zero before. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_line_need(struct maas_line *line);
void maas_line_fini(struct maas_line *line);
/* Any thread. The request under way, and those that follow, end at once, until `cut` is false. */
void maas_line_cut(struct maas_line *line);

/* When a call that begins now has to be over, with all of its requests. */
static inline uint64_t maas_deadline_ms(const struct maas *maas)
{
	return maas_clock_ms() + maas->options.timeout_ms;
}

/* Sends `request` and waits. Returns 0 for the status due. */
MAAS_MUST_CHECK int maas_call(struct maas *maas, struct maas_request *request,
			      uint64_t deadline_ms);

/* As maas_call(), and the answer, an object of JSON. Owns: the caller, json_decref(). Errors:
 * -EPROTO. */
MAAS_MUST_CHECK int maas_call_json(struct maas *maas, struct maas_request *request,
				   uint64_t deadline_ms, json_t **ret_answer);

/* ---- probe */

/* The sentence for a request that had no word of an answer by `error`: asks the port whether it
 * speaks TLS, when the URL says that it does not, and the reverse. Returns the -errno. */
MAAS_MUST_CHECK int maas_probe(struct maas *maas, int error, uint64_t deadline_ms);

/* ---- json */

/* An object. Owns: the caller, json_decref(). Errors: -EPROTO, with a sentence. */
MAAS_MUST_CHECK int maas_json_parse(const struct maas_buf *text, json_t **ret_object);

/*
 * An object with a list `name` among a few small members: `each` has the list's elements in turn
 * (index from 0; an error ends it), so that no more than one is in memory as a tree. Returns how
 * many there were; then `ret_rest` is the object with null for the list. Owns: the caller,
 * json_decref(). Errors: -EPROTO, of `each`.
 */
MAAS_MUST_CHECK int maas_json_list(const struct maas_buf *text, const char *name,
				   int (*each)(void *arg, size_t index, const json_t *element),
				   void *arg, json_t **ret_rest);

/* Members of an answer. Errors: -EPROTO, with a sentence. */
MAAS_MUST_CHECK int maas_json_u64(const json_t *object, const char *name, uint64_t *ret_value);
MAAS_MUST_CHECK int maas_json_id(const json_t *object, const char *name, char id[MAAS_ID_BYTES]);
MAAS_MUST_CHECK int maas_json_allocation(const json_t *object,
					 struct maas_allocation *ret_allocation);

/* ---- session */

void maas_client_session_init(struct maas_client_session *session);
void maas_client_session_fini(struct maas_client_session *session);

/* Ends the thread. The function that is told of a loss has returned then, and is not called again.
 */
void maas_client_session_stop(struct maas *maas);
/* Ends the session at the server; the thread has ended. */
void maas_client_session_end(struct maas *maas);

/* The session's id; opens it when there is none yet. Errors: -EKEYREVOKED, as maas_reopen(). */
MAAS_MUST_CHECK int maas_client_session_need(struct maas *maas, uint64_t deadline_ms,
					     char id[MAAS_ID_BYTES]);

/* A ticket of the session. Errors: as maas_client_session_need(). */
MAAS_MUST_CHECK int maas_client_session_ticket(struct maas *maas, uint64_t deadline_ms,
					       struct maas_ticket *ret_ticket);

/* Returns -EKEYREVOKED, with the sentence for a lost session. */
MAAS_MUST_CHECK int maas_client_session_fail_lost(void);

/* The server does not know the session `id` any more. */
void maas_client_session_unknown(struct maas *maas, const char *id);

/* Ends the session as if there had been none; nobody else uses the handle. */
void maas_client_session_forget(struct maas *maas);

/* ---- buffers */

/* The registered buffer that holds these bytes, counted as used, or NULL. */
MAAS_MUST_CHECK struct maas_buffer *maas_buffer_get(struct maas *maas, const void *at, size_t len);
void maas_buffer_put(struct maas *maas, struct maas_buffer *buffer); /* NULL is allowed */

#endif
