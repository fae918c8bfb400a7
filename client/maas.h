/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmaas: borrow memory from a maasd server.
 *
 *	struct maas_options options = {.size = sizeof(options)};
 *	struct maas_allocation memory;
 *	struct maas *maas;
 *
 *	if (maas_open(&options, &maas) ||
 *	    maas_alloc(maas, 4096, NULL, &memory) ||
 *	    maas_write(maas, memory.id, 0, "hello", 5))
 *		errx(1, "%s", maas_error());
 *
 * Whole programs are in examples/ of the source.
 *
 * Returns: 0 (or a count) on success, -errno on failure; errno itself is not set. After a failure
 * maas_error() has a sentence for people. Out-parameters are named ret_ and written only on
 * success; of a list, any part may be written before a call fails.
 *
 * Options: set a struct that begins with `size` to zero, and `size` to its sizeof, so that later
 * versions can add fields. A field that is zero has its default.
 *
 * Threading: any thread may use a handle at any time, except during and after maas_close().
 *
 * Fork: a child inherits neither session nor connection. In the child every call on the parent's
 * handle fails with -ECHILD, except maas_close(), which leaves the server and the session alone.
 * Over RDMA a child holds the device's descriptors until it ends or calls exec(2): if the parent
 * dies before it, the parent's queue pair lives until the lease is over.
 * The child can open a handle of its own: over HTTP only if the parent had one over RDMA, unless
 * the child calls exec(2).
 *
 * Retries: when a connection breaks, the request is sent again, at most twice and within its
 * timeout, if sending it twice is the same as sending it once (allocations carry a request id). A
 * request never moves to another transport. An allocation follows one redirection (307), to the
 * same host and port; other requests follow none.
 *
 * Answers: every answer is checked against the request, its length included; one that does not fit
 * is -EPROTO.
 *
 * Tokens: a handle sends its token with each request, to the server of its URL alone. Over http://
 * whoever sees the network sees the token.
 *
 * TLS: https:// is TLS 1.2 or later. The server has to prove that it is the one of the URL, and
 * nothing switches that off. The files are read again when they change: within a second, and at
 * once when the server refuses the certificate. Requests that begin then have connections of their
 * own; those under way end as they began. What cannot be used is logged, and what was read before
 * stays in use.
 *
 * RDMA: the calling thread moves bytes straight from and to the server's memory, by one-sided
 * reads and writes; everything else goes over HTTP. Payloads are not encrypted. When a connection
 * breaks, its operations are repeated on a new one, with new keys. An operation that times out
 * ends its connection, because nothing less frees its buffer: set timeouts well above what a
 * transfer takes.
 *
 * Linking: use $(pkg-config --libs libmaas), or, to have libmaas.a inside the program,
 * $(pkg-config --static --libs libmaas | sed s/-lmaas/-l:libmaas.a/). The libraries below libmaas
 * are shared either way: Debian does not have all that they need for -static.
 */
#ifndef MAAS_H
#define MAAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define MAAS_ID_BYTES	 40    /* the id of an allocation or session, its NUL, and room */
#define MAAS_OWNER_BYTES 64    /* an owner's name and its NUL: 1 to 63 of A-Z a-z 0-9 . _ : / @ - */
#define MAAS_ERROR_BYTES 256   /* a sentence of maas_error() and its NUL */
#define MAAS_MAX_BATCH	 10000 /* allocations, ids or ranges in one call */

struct maas;

/* ---- handle */

enum maas_transport_type {
	MAAS_TRANSPORT_AUTO, /* RDMA where server and client have it, else HTTP */
	MAAS_TRANSPORT_RDMA,
	MAAS_TRANSPORT_HTTP,
};

struct maas_options {
	size_t size;
	/* https://HOST:PORT, http://HOST:PORT, HOST:PORT (which is http), unix:PATH or
	 * http+unix://PATH with %2F for /; NULL: the environment's MAAS_URL, or
	 * http://localhost:3000 */
	const char *url;
	enum maas_transport_type transport;
	uint32_t timeout_ms;	     /* of a whole call; 0: 30,000 */
	uint32_t connect_timeout_ms; /* of connecting, which is part of a call; 0: 5,000 */
	/* 0: 8 for calls that wait and 8 for submitted operations. A session has one more. */
	uint32_t max_connections;
	uint32_t max_submitted; /* operations under way at once; 0: 1,024 */
	const char *owner;	/* of allocations that name none; NULL: none */

	/* The session is opened when it is first needed, and renewed in the background. */
	const char *session_name; /* NULL: without a name */
	/* The lease to ask for; the server's answer says what was granted. 0: no session; over
	 * RDMA, which needs a session: 30. */
	uint32_t ttl_seconds;
	bool session_exclusive; /* refuse while another session of that name lives */
	/* Called once for each lost session, from a thread of the library. maas_reopen() waits
	 * until it has returned. The function may call anything but maas_close() and
	 * maas_reopen(). NULL: ask maas_session_get(). */
	void (*session_lost)(void *arg, int error);
	void *session_lost_arg;

	/* A file whose first line is the token that says whose the handle is, for a server with
	 * --auth-file. Others may not read the file. The library reads the file again with each
	 * renewal of the session and when the server refuses the token, and then repeats the
	 * request, so that a token is replaced by replacing the file. NULL: the environment's
	 * MAAS_TOKEN_FILE; "": no token. */
	const char *token_file;

	/* For https:// alone; with another URL they are an error. NULL: the environment's variable,
	 * which other URLs leave alone; "": none. Files are PEM. */

	/* The CAs that the server's certificate may come from, and no others. NULL: MAAS_CA_FILE,
	 * or the CAs that this machine knows. */
	const char *ca_file;
	/* The certificate, with those between it and its CA, that says whose the handle is. NULL:
	 * MAAS_CERT_FILE, or none. */
	const char *cert_file;
	/* Its key, without a passphrase. Others may not read the file. NULL: MAAS_KEY_FILE, or
	 * cert_file, which then has both. */
	const char *key_file;
	/* A name that the server's certificate has, where the URL's host is not one. NULL:
	 * MAAS_SERVER_NAME, or the URL's host. */
	const char *server_name;
};

/*
 * Makes a handle and chooses its transport for good; `options` NULL: all defaults. Strings are
 * copied. HTTP, and AUTO on a host without an RDMA device, do not connect yet: if the server is
 * down, the first call fails. AUTO on a host with a device asks the server; the transport is RDMA
 * where client and server reach each other by it, else HTTP. A server that is down, or that has
 * RDMA and refuses the connection, is an error then: to do without RDMA, ask for HTTP. RDMA opens
 * the session and connects. Owns: the caller, maas_close(). Errors: -EINVAL an option,
 * -EPROTONOSUPPORT the URL's scheme, -ENOMEM; of the files those of open(2), -EPERM others may
 * read the token or key, -EINVAL what is in the file cannot be used; with RDMA also -EOPNOTSUPP the
 * server has none, -ENODEV no device here leads to the server, -ENOMEM the limit of locked memory,
 * and those of maas_reopen() and of every call.
 */
int maas_open(const struct maas_options *options, struct maas **ret_maas);

/*
 * Ends the session (and frees the memory that the session owns), drops operations under way without
 * their completions, and frees the handle. When it returns, the buffers belong to the caller again.
 * NULL is allowed. In a forked child: frees nothing that threads of the parent may have locked.
 * Threading: no other call may be under way.
 */
void maas_close(struct maas *maas);

/* The transport that carries the bytes: MAAS_TRANSPORT_HTTP or MAAS_TRANSPORT_RDMA, never AUTO. */
enum maas_transport_type maas_transport(const struct maas *maas);

/* The server's URL, from the options or their default. Borrows: the handle. */
const char *maas_url(const struct maas *maas);

/*
 * Why the calling thread's last call failed: a sentence without a full stop, which includes the
 * server's own words, with control characters as \xNN. "" when no call failed. Borrows: until this
 * thread's next call into the library.
 */
const char *maas_error(void);

/* The library's version, such as "0.1.0". */
const char *maas_version(void);

/* ---- session */

enum maas_session_state {
	MAAS_SESSION_NONE, /* not needed so far, or the handle has none */
	MAAS_SESSION_LIVE,
	MAAS_SESSION_LOST, /* its lease lapsed, or the server no longer knows it */
};

struct maas_session {
	enum maas_session_state state;
	char id[MAAS_ID_BYTES]; /* "" in MAAS_SESSION_NONE */
	/* Left, counted from the sending of the last renewal, and while the host is suspended, too.
	 */
	uint32_t lease_ms;
};

/* The state of the session. Does not wait. Errors: -ECHILD. */
int maas_session_get(struct maas *maas, struct maas_session *ret_session);

/*
 * Opens the session now, or replaces a lost session by a new one; does nothing while the session
 * lives. Over RDMA it also connects. Memory that a lost session owned is gone. After a loss, calls
 * that need the session fail with -EKEYREVOKED until maas_reopen(); over RDMA every access to
 * memory needs it. Errors: -EINVAL the handle has no session (ttl_seconds), or asks for a longer
 * lease than the server grants, -EEXIST the name is taken, -EUSERS the server has too many
 * sessions, and those of every call (see maas_get()).
 */
int maas_reopen(struct maas *maas);

/* ---- allocations */

enum maas_lifetime {
	MAAS_LIFETIME_DEFAULT, /* TTL where a ttl is given, else DELETE */
	MAAS_LIFETIME_DELETE,  /* until it is freed */
	MAAS_LIFETIME_TTL,     /* until its lease ends; maas_renew() */
	MAAS_LIFETIME_SESSION, /* as long as the handle's session */
};

struct maas_alloc_options {
	size_t size;
	enum maas_lifetime lifetime;
	uint32_t ttl_seconds;
	const char *owner;	/* NULL: the handle's */
	const char *request_id; /* NULL: one is made; yours: the same id gives the same answer */
};

struct maas_allocation {
	char id[MAAS_ID_BYTES];
	char owner[MAAS_OWNER_BYTES]; /* "" where there is none */
	uint64_t size_bytes;	      /* asked for: what can be read and written */
	uint64_t actual_size_bytes;   /* taken from the pool */
	uint64_t age_seconds;
	enum maas_lifetime lifetime;
	uint32_t ttl_seconds; /* of MAAS_LIFETIME_TTL: the whole lease */
	/* Of MAAS_LIFETIME_TTL: the rest of the lease. The answer that a request id gets once more
	 * has this and the age as they were. */
	uint32_t lease_seconds;
};

/*
 * Borrows `size_bytes` of zeroed memory; `options` NULL: all defaults. After -ETIMEDOUT,
 * -ECONNRESET or -EPROTO the server may have lent it all the same: a call with the same request_id
 * gives it, and maas_list() finds it by its owner.
 * Errors: -EINVAL, -EFBIG above the largest slab, -ENOSPC the pool is full (nothing is ever evicted
 * for you), -ENOTUNIQ the request id came with another request, -ENODATA the request id belongs to
 * a batch whose allocations the server no longer knows (list the owner's), -EKEYREVOKED the session
 * is lost, over RDMA -EDQUOT the server or its device has no more keys, and those of every call
 * (see maas_get()).
 */
int maas_alloc(struct maas *maas, uint64_t size_bytes, const struct maas_alloc_options *options,
	       struct maas_allocation *ret_allocation);

/* As maas_alloc(), for `count` (1 to MAAS_MAX_BATCH) of one size in one request: all or none. */
int maas_alloc_many(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations);

/*
 * Gives memory back. When it returns 0, no key reaches the bytes any more. Where the connection
 * broke meanwhile, and the request was sent again, that may take another second: the server may
 * still be at the first one, and the id is unknown to the second.
 * Errors: -ENOENT no such allocation, and those of every call.
 */
int maas_free(struct maas *maas, const char *id);

/*
 * Gives back up to MAAS_MAX_BATCH allocations in one request; an unknown id is no error. Returns
 * how many were freed. `ret_missing` (`count` flags, may be NULL) tells which ids were unknown.
 * After a retry because the connection broke, ids that are unknown count as freed: an earlier try
 * may have freed them, and only its answer was lost. Errors: those of every call.
 */
int maas_free_many(struct maas *maas, const char *const *ids, uint32_t count, bool *ret_missing);

/*
 * Starts the lease of a MAAS_LIFETIME_TTL allocation anew; `ttl_seconds` 0: as long as before.
 * `ret_allocation` may be NULL.
 * Errors: -ENOENT, -EINVAL, -EMEDIUMTYPE it has no lease, and those of every call.
 */
int maas_renew(struct maas *maas, const char *id, uint32_t ttl_seconds,
	       struct maas_allocation *ret_allocation);

/* Errors: -ENOENT, and those of every call. */
int maas_describe(struct maas *maas, const char *id, struct maas_allocation *ret_allocation);

/*
 * One page of allocations in a stable order; those of `owner`, all if `owner` is NULL, or those
 * that have none if it is MAAS_NO_OWNER. Set `cursor` to "" for the first page; each call moves it,
 * and it is "" again after the last page. Returns how many of the `max` (1 to MAAS_MAX_BATCH) were
 * written. Errors: -EINVAL, and those of every call.
 *
 *	do n = maas_list(maas, owner, cursor, page, 100), …; while (n >= 0 && *cursor);
 */
#define MAAS_NO_OWNER "?" /* not a name: an owner that was left empty is an error */
int maas_list(struct maas *maas, const char *owner, char cursor[MAAS_ID_BYTES],
	      struct maas_allocation *ret_page, uint32_t max);

/* ---- data */

/* Bytes of an allocation, and the buffer that they come from or go to; a write only reads `buf`. */
struct maas_range {
	const char *id;
	uint64_t offset;
	void *buf;
	size_t len; /* at least 1 */
};

/*
 * Copies `len` bytes at `offset` to `buf`; 0 bytes do nothing. After an error `buf` may hold a part
 * of the bytes. Errors: -ENOENT, -ERANGE outside of the allocation, and those of every call; over
 * RDMA also -EKEYREVOKED the session is lost, or the server's device refused the key and then a
 * fresh one, -EDQUOT the server gives no key, -EFAULT and -ENOMEM the buffer cannot be pinned. Over
 * RDMA whoever may only read has a key that only reads, for as long as the connection lives.
 */
int maas_read(struct maas *maas, const char *id, uint64_t offset, void *buf, size_t len);

/*
 * Copies `len` bytes from `buf` to `offset`. When it returns 0, every reader sees the bytes; after
 * an error all, some or none of them were written. Errors: as maas_read().
 */
int maas_write(struct maas *maas, const char *id, uint64_t offset, const void *buf, size_t len);

/* As maas_read(), for 1 to MAAS_MAX_BATCH ranges in one request: a bad range fails all. */
int maas_readv(struct maas *maas, const struct maas_range *ranges, uint32_t count);

/* As maas_write(), for 1 to MAAS_MAX_BATCH ranges in one request: if a range is bad, nothing is
 * written. */
int maas_writev(struct maas *maas, const struct maas_range *ranges, uint32_t count);

/* ---- data, submitted now and completed later */

struct maas_completion {
	void *user;
	int status; /* 0 or -errno, as maas_read() and maas_write() */
	char error[MAAS_ERROR_BYTES];
};

/*
 * Starts a read of `count` ranges and returns. maas_poll() gives the completion, which carries
 * `user`, at the latest after `timeout_ms` (0: the handle's) with -ETIMEDOUT; over RDMA, where the
 * buffers have to be free first, up to a second later. Operations may complete in any order.
 * Borrows: the ranges' buffers until the completion; the ranges until the function returns.
 * Errors: -EAGAIN max_submitted are under way, -EINVAL, -ENOMEM, -ECHILD; then there is no
 * completion.
 */
int maas_submit_read(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		     uint32_t timeout_ms, void *user);

/* As maas_submit_read(), for a write. */
int maas_submit_write(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user);

/*
 * Takes up to `max` completions. Waits for the first for at most `timeout_ms` (0: not at all, -1:
 * for ever, unless nothing is under way). Returns how many were taken.
 * Errors: -EINVAL, -ECHILD.
 */
int maas_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
	      int timeout_ms);

/*
 * A file descriptor that poll(2) finds readable while maas_poll() has completions to give (and
 * perhaps once when it has none). Do not read it. Borrows: the handle. Errors: -ECHILD.
 */
int maas_event_fd(struct maas *maas);

/* ---- buffers */

struct maas_buffer;

/*
 * Prepares memory for transfers without a copy. Over RDMA the memory is pinned once, for all
 * transfers whose buffers lie within it; do not unmap it before you unregister it. Over HTTP this
 * saves nothing, and the memory is only checked. Buffers that are not registered are copied up to
 * 64 KiB, and above that pinned for the one operation. Borrows: the memory, until it is
 * unregistered. Owns: the caller, or maas_close(). Errors: -EINVAL, -EEXIST it overlaps another
 * buffer, -ENOMEM (over RDMA also: the limit of locked memory), -EFAULT it may not be written,
 * -ECHILD.
 */
int maas_buffer_register(struct maas *maas, void *base, size_t len,
			 struct maas_buffer **ret_buffer);

/* Errors: -EBUSY a submitted operation uses it, -ENOENT not a buffer of this handle, -ECHILD. */
int maas_buffer_unregister(struct maas *maas, struct maas_buffer *buffer);

/* ---- server */

/*
 * The text of a page of the server, such as "/health", "/stats" or "/metrics", followed by a NUL
 * that `ret_len` (may be NULL) does not count. Owns: the caller, free(3).
 * Errors of every call: -ECONNREFUSED no server there, -EHOSTUNREACH no such host, -ETIMEDOUT,
 * -ECONNRESET the connection broke and retries did not help, -EACCES the server asks for a token or
 * does not know the handle's, or a certificate (also: this user may not write to the Unix socket),
 * -EKEYEXPIRED the server's certificate is not valid now, -EKEYREJECTED the certificate does not
 * prove that it is the server, -EPERM the principal may not do that, -ENOSR the principal's quota
 * is exhausted, -EUSERS a limit of the server is reached, or too many requests of this address had
 * a wrong token, -EMSGSIZE the request is longer than the server takes, -ENOSYS the server has no
 * such call, -ESHUTDOWN the server is stopping, -ENOBUFS the server is short of memory, -EREMOTEIO
 * the server failed, -EPROTO the answer makes no sense, -EINVAL the server speaks TLS and the URL
 * is http://, -ENOMEM, -ECHILD after fork. Also: -ENOENT no such page.
 */
int maas_get(struct maas *maas, const char *path, char **ret_text, size_t *ret_len);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
