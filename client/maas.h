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
 * Returns: 0 (or a count) on success, -errno on failure; errno itself is not set. maas_error() then
 * has a sentence for people. Out-parameters are named ret_ and written only on success.
 *
 * Options: a struct that begins with `size` is set to zero and `size` to its sizeof, so that later
 * versions can add fields; a field that is zero means its default.
 *
 * Threading: any thread may use a handle at any time, except during and after maas_close().
 *
 * Fork: a child inherits no session and no connection: every call on its parent's handle fails with
 * -ECHILD, except maas_close(), which leaves server and session alone. Open a new handle there:
 * over HTTP only, when the parent had one over RDMA, unless the child calls exec(2).
 *
 * Retries: a request whose connection broke is sent again, at most twice and within its timeout,
 * when doing it twice is the same as doing it once (allocations carry a request id). It never moves
 * to another transport. An allocation follows one redirection (307), to the same host and port;
 * nothing else follows any.
 *
 * Answers: what a server says is held against what was asked, and is no longer than that allows:
 * another answer is -EPROTO.
 *
 * RDMA: bytes go straight from and to the server's memory, by one-sided reads and writes of the
 * calling thread; everything else goes over HTTP. Payloads are not encrypted. An operation whose
 * connection broke is done again on a new one, with new keys. One that is late takes its connection
 * with it, since only then its buffer is free: set timeouts well above what a transfer takes.
 *
 * Linking: with $(pkg-config --libs libmaas), or for libmaas.a inside the program with
 * $(pkg-config --static --libs libmaas | sed s/-lmaas/-l:libmaas.a/). The libraries below libmaas
 * are shared ones either way: Debian does not have all of what they need for -static.
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

#define MAAS_ID_BYTES	 40    /* an allocation's or session's id and its NUL, with room */
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
	/* http://HOST:PORT, HOST:PORT, unix:PATH or http+unix://PATH with %2F for /; NULL: the
	 * environment's MAAS_URL, or http://localhost:3000 */
	const char *url;
	enum maas_transport_type transport;
	uint32_t timeout_ms;	     /* of a whole call; 0: 30,000 */
	uint32_t connect_timeout_ms; /* of its part until connected; 0: 5,000 */
	uint32_t max_connections;    /* 0: 8 for calls that wait and 8 for submitted ones */
	uint32_t max_submitted;	     /* operations under way at once; 0: 1,024 */
	const char *owner;	     /* of allocations that name none; NULL: none */

	/* The session, opened when it is first needed and renewed in the background. */
	const char *session_name; /* NULL: without a name */
	/* The lease to ask for (what holds is the server's answer); 0: no session; over RDMA, which
	 * needs one: 30. */
	uint32_t ttl_seconds;
	bool session_exclusive; /* refuse while another session of that name lives */
	/* Called once for each lost session, from a thread of the library; may call anything but
	 * maas_close() and maas_reopen(). NULL: look at maas_session_get(). */
	void (*session_lost)(void *arg, int error);
	void *session_lost_arg;
};

/*
 * Makes a handle and chooses its transport for good; `options` NULL: all defaults. Strings are
 * copied. HTTP, and AUTO on a host without an RDMA device, connect to nothing yet: a server that is
 * away is met by the first call. AUTO on a host with one asks the server, and is RDMA where both
 * can reach each other by it, else HTTP; a server that is away, or one that could be reached but
 * refuses, is an error: ask for HTTP to be content with it. RDMA opens the session and connects.
 * Owns: the caller, maas_close(). Errors: -EINVAL an option, -EPROTONOSUPPORT the URL's scheme,
 * -ENOMEM; with RDMA also -EOPNOTSUPP the server has none, -ENODEV no device here leads to it,
 * -ENOMEM the limit of locked memory, and those of maas_reopen() and of every call.
 */
int maas_open(const struct maas_options *options, struct maas **ret_maas);

/*
 * Ends the session (and with it the memory it owns), drops operations under way without their
 * completions, and frees the handle. Callers' buffers are theirs again when it returns. NULL is
 * allowed. In a forked child: frees nothing that threads of the parent may have held.
 * Threading: no other call may be under way.
 */
void maas_close(struct maas *maas);

/* What carries the bytes: MAAS_TRANSPORT_HTTP or MAAS_TRANSPORT_RDMA, never AUTO. */
enum maas_transport_type maas_transport(const struct maas *maas);

/* The server, as in the options or their default. Borrows: the handle. */
const char *maas_url(const struct maas *maas);

/*
 * Why the calling thread's last call failed, as a sentence without a full stop, the server's own
 * words included, with control characters as \xNN; "" when none did. Borrows: until this thread's
 * next call into the library.
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
	uint32_t lease_ms;	/* left, counted from the sending of the last renewal */
};

/* What became of the session. Does not wait. Errors: -ECHILD. */
int maas_session_get(struct maas *maas, struct maas_session *ret_session);

/*
 * Opens the session now, or a new one in the place of a lost one; does nothing while it lives. What
 * a lost session owned is gone. Until this call, whatever needs the session fails with
 * -EKEYREVOKED: over RDMA that is every access to memory. There it also connects.
 * Errors: -EINVAL the handle has no session (ttl_seconds), or asks for a longer lease than the
 * server grants, -EEXIST the name is taken, -EUSERS the
 * server has too many, and those of every call (see maas_get()).
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
	uint32_t ttl_seconds;	/* of MAAS_LIFETIME_TTL: the whole lease … */
	uint32_t lease_seconds; /* … and what was left of it */
};

/*
 * Borrows `size_bytes` of zeroed memory; `options` NULL: all defaults.
 * Errors: -EINVAL, -EFBIG above the largest slab, -ENOSPC the pool is full (nothing is ever evicted
 * for you), -ENOTUNIQ the request id came with another request, -ENODATA it is that of a batch
 * whose allocations the server no longer knows (list the owner's), -EKEYREVOKED the session is
 * lost, over RDMA -EDQUOT the server or its device has no more keys, and those of every call (see
 * maas_get()).
 */
int maas_alloc(struct maas *maas, uint64_t size_bytes, const struct maas_alloc_options *options,
	       struct maas_allocation *ret_allocation);

/* As maas_alloc(), `count` (1 to MAAS_MAX_BATCH) of one size in one request, all or none. */
int maas_alloc_many(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations);

/*
 * Gives memory back; when it returns 0 no key reaches the bytes any more.
 * Errors: -ENOENT it is not there, and those of every call.
 */
int maas_free(struct maas *maas, const char *id);

/*
 * Gives back up to MAAS_MAX_BATCH allocations in one request; one that is not there is no error.
 * Returns how many were freed. `ret_missing` (`count` flags, may be NULL) tells which were not.
 * After a retry the count may be short of what the first try freed. Errors: those of every call.
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
 * One page of allocations in a stable order, of `owner` only unless that is NULL. `cursor` is ""
 * for the first page and moves with each call; it is "" again after the last. Returns how many of
 * the `max` (1 to MAAS_MAX_BATCH) were written. Errors: -EINVAL, and those of every call.
 *
 *	do n = maas_list(maas, owner, cursor, page, 100), …; while (n >= 0 && *cursor);
 */
int maas_list(struct maas *maas, const char *owner, char cursor[MAAS_ID_BYTES],
	      struct maas_allocation *ret_page, uint32_t max);

/* ---- data */

/* Bytes of an allocation, and where they come from or go to; a write only reads `buf`. */
struct maas_range {
	const char *id;
	uint64_t offset;
	void *buf;
	size_t len; /* at least 1 */
};

/*
 * Copies `len` bytes at `offset` to `buf`; 0 bytes do nothing. After an error `buf` may hold a part
 * of them. Errors: -ENOENT, -ERANGE outside of the allocation, and those of every call. Over RDMA
 * also -EKEYREVOKED the session is lost, or the server's device refused the key twice, the second
 * time a fresh one; -EDQUOT no key is to be had; -EFAULT and -ENOMEM the buffer cannot be pinned.
 */
int maas_read(struct maas *maas, const char *id, uint64_t offset, void *buf, size_t len);

/*
 * Copies `len` bytes from `buf` to `offset`. When it returns 0 every reader sees them; after an
 * error all, none or a part of them were written. Errors: as maas_read().
 */
int maas_write(struct maas *maas, const char *id, uint64_t offset, const void *buf, size_t len);

/* As maas_read(), 1 to MAAS_MAX_BATCH ranges in one request: a bad one fails all. */
int maas_readv(struct maas *maas, const struct maas_range *ranges, uint32_t count);

/* As maas_write(), 1 to MAAS_MAX_BATCH ranges in one request: a bad one is found before any is
 * written. */
int maas_writev(struct maas *maas, const struct maas_range *ranges, uint32_t count);

/* ---- data, submitted now and completed later */

struct maas_completion {
	void *user;
	int status; /* 0 or -errno, as maas_read() and maas_write() */
	char error[MAAS_ERROR_BYTES];
};

/*
 * Starts a read of `count` ranges and returns; its completion with `user` comes from maas_poll(),
 * at the latest after `timeout_ms` (0: the handle's) with -ETIMEDOUT. Operations may complete in
 * any order. Over RDMA a completion comes when the buffers are free, up to a second after that.
 * Borrows: the ranges' buffers until the completion; the ranges until it returns.
 * Errors: -EAGAIN max_submitted are under way, -EINVAL, -ENOMEM, -ECHILD; then none completes.
 */
int maas_submit_read(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		     uint32_t timeout_ms, void *user);

/* As maas_submit_read(), for a write. */
int maas_submit_write(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user);

/*
 * Takes up to `max` completions; waits for the first at most `timeout_ms` (0: not at all, -1: for
 * as long as it takes, but not when nothing is under way). Returns how many.
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
 * Prepares memory for transfers without a copy: over RDMA it is pinned once for all transfers whose
 * buffers lie within it, and must not be unmapped before it is unregistered; over HTTP it saves
 * nothing and is only checked. Memory that is not registered is copied up to 64 KiB, and pinned
 * for the one operation above that. Borrows: the memory, until it is unregistered. Owns: the
 * caller, or maas_close(). Errors: -EINVAL, -EEXIST it overlaps another, -ENOMEM (over RDMA also:
 * the limit of locked memory), -EFAULT it may not be written, -ECHILD.
 */
int maas_buffer_register(struct maas *maas, void *base, size_t len,
			 struct maas_buffer **ret_buffer);

/* Errors: -EBUSY a submitted operation uses it, -ENOENT it is not of this handle, -ECHILD. */
int maas_buffer_unregister(struct maas *maas, struct maas_buffer *buffer);

/* ---- server */

/*
 * The text of a page of the server, such as "/health", "/stats" or "/metrics", with a NUL behind it
 * that `ret_len` (may be NULL) does not count. Owns: the caller, free(3).
 * Errors of every call: -ECONNREFUSED no server there, -EHOSTUNREACH no such host, -ETIMEDOUT,
 * -ECONNRESET it broke and retries did not help, -EACCES and -EPERM not allowed (-EACCES
 * also: to write to the Unix socket), -ESHUTDOWN the server is stopping, -ENOBUFS it is short of
 * memory, -EREMOTEIO it failed, -EPROTO the answer makes no sense, -ENOMEM, -ECHILD after fork.
 * -ENOENT: no such page.
 */
int maas_get(struct maas *maas, const char *path, char **ret_text, size_t *ret_len);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
