/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: what a server shows of itself, whom it believes, and what its clients proved. Of the server,
 * it alone knows GnuTLS; it knows neither HTTP nor the principals. The bytes of a connection are
 * libmicrohttpd's to move.
 *
 * A table is one reading of the files (certificate, key, CA, CRL) and never changes; a reload makes
 * another. Each connection keeps the table that it began with, because its session uses it, and is
 * held to the newest one by maas_tls_peer_verify(). Threading: any thread may use a table that it
 * has a reference to; a stream is its connection's thread's.
 */
#ifndef MAAS_TLS_TLS_H
#define MAAS_TLS_TLS_H

#include "base/base.h"

#define MAAS_TLS_ERROR	   512	     /* bytes of an error's text */
#define MAAS_TLS_MAX_FILE  (4 << 20) /* bytes of a file: CRLs can be long */
#define MAAS_TLS_MAX_NAMES 64	     /* of a client's certificate */

/* ---- the table */

struct maas_tls;

/* Whether a client shows a certificate. In the words' order of --tls-client-cert. */
enum maas_tls_client {
	MAAS_TLS_CLIENT_NONE,	  /* it is not asked to */
	MAAS_TLS_CLIENT_OPTIONAL, /* it may */
	MAAS_TLS_CLIENT_REQUIRED, /* it must */
};

/* All in PEM. */
struct maas_tls_files {
	const char *cert;	/* the server's, and those of intermediate CAs behind it */
	const char *key;	/* of that certificate, not encrypted */
	const char *client_ca;	/* whose certificates of clients are believed; NULL: nobody's */
	const char *client_crl; /* what these have revoked, or NULL */
	enum maas_tls_client client;
};

/*
 * Reads the files, and checks that they fit each other and are of use now. `error` says which one
 * is wrong and what to do. Errors: as maas_file_read(); -EINVAL a file is wrong, or does not fit
 * another, -EKEYEXPIRED its time is over or has not come.
 */
MAAS_MUST_CHECK int maas_tls_load(const struct maas_tls_files *files, char error[MAAS_TLS_ERROR],
				  struct maas_tls **ret_tls);

/* References; a table has one when it is made. NULL is allowed. */
struct maas_tls *maas_tls_ref(struct maas_tls *tls);
void maas_tls_unref(struct maas_tls *tls);

/* Whether both were made of the same bytes. */
bool maas_tls_same(const struct maas_tls *a, const struct maas_tls *b);
enum maas_tls_client maas_tls_client(const struct maas_tls *tls);
/* Until when the server's certificate, and those on its way to a CA, are valid, in seconds since
 * 1970. */
uint64_t maas_tls_expiry_s(const struct maas_tls *tls);
/* When the first of the revocation lists is out of date, in seconds since 1970: from then on, no
 * client's certificate is taken. 0: never, or there is no list. */
uint64_t maas_tls_crl_expiry_s(const struct maas_tls *tls);
/* For the log: appends `name=value` words. */
void maas_tls_describe(const struct maas_tls *tls, struct maas_buf *out);
/* For --check: appends `name = value` lines. */
void maas_tls_print(const struct maas_tls *tls, struct maas_buf *out);

/* The versions and ciphers of a server, in the words of gnutls_priority_init(3). */
const char *maas_tls_priorities(void);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK2: a function that finds no certificate. A session that no
 * maas_tls_stream_init() was called for comes to nothing. */
void *maas_tls_no_certificate(void);

/* ---- a connection */

/* Why a handshake came to nothing. */
enum maas_tls_failure {
	MAAS_TLS_FAIL_CLOSED,	 /* the client went away */
	MAAS_TLS_FAIL_PLAINTEXT, /* it does not speak TLS */
	MAAS_TLS_FAIL_PROPOSAL,	 /* it offers no version or cipher that the server takes */
	MAAS_TLS_FAIL_ALERT,	 /* it says that it refuses the server */
	MAAS_TLS_FAIL_PROTOCOL,	 /* something else is wrong with what it sends */
	MAAS_TLS_FAILURES,
};

/* What a request with its head and a small body takes. */
#define MAAS_TLS_AHEAD 2048

/* Storage of a connection, which stays where it is. */
struct maas_tls_stream {
	void *session;	      /* libmicrohttpd's, a gnutls_session_t */
	struct maas_tls *tls; /* a reference: the session uses its credentials */
	int fd;
	void (*on_shaken)(struct maas_tls_stream *stream);
	bool shaken;		/* the handshake is done */
	bool closed;		/* by the client, during the handshake */
	bool more;		/* the next bytes to send are followed by others at once */
	unsigned char *ahead;	/* read, and not yet asked for: MAAS_TLS_AHEAD bytes */
	unsigned int ahead_at;	/* where they begin, … */
	unsigned int ahead_end; /* … and end */
	unsigned int seen;	/* bytes of the client's first ones */
	unsigned char first[8];
	unsigned char last[7];
};

/*
 * Makes a session that did not begin yet show what `tls` has. Takes the reference, also on failure.
 * `on_shaken` is called when the handshake is done. Errors: -EIO, -ENOMEM, and the session cannot
 * be used.
 */
MAAS_MUST_CHECK int maas_tls_stream_init(struct maas_tls_stream *stream, struct maas_tls *tls,
					 void *session, int fd,
					 void (*on_shaken)(struct maas_tls_stream *stream));
/* When the session is gone. Accepts one that is all zero. */
void maas_tls_stream_fini(struct maas_tls_stream *stream);

/* The stream whose handshake this thread worked at last, or NULL: the library does not say. */
struct maas_tls_stream *maas_tls_stream_shaking(void);
/*
 * The handshake of the stream failed, just now. Tells the client, as far as it understands, and
 * returns why, with `ret_detail` for the log; the socket is still to be closed.
 */
enum maas_tls_failure maas_tls_stream_fail(struct maas_tls_stream *stream, const char **ret_detail);
const char *maas_tls_failure_name(enum maas_tls_failure failure);

/* Sends `len` bytes as one record or more, or gives up when the socket takes no more. */
void maas_tls_stream_send(struct maas_tls_stream *stream, const void *data, size_t len);

/* What is sent next is the head of an answer, and its body follows at once. */
static inline void maas_tls_stream_more(struct maas_tls_stream *stream)
{
	stream->more = true;
}

/* ---- who the client is */

/* A subject alternative name of a certificate. */
struct maas_tls_name {
	bool is_uri;
	const char *text;
};

/* What a client proved. */
struct maas_tls_peer {
	/* of the certificate, a CA's on its way or a revocation list, in seconds since 1970 */
	uint64_t expiry_s;
	uint32_t num_names;
	struct maas_tls_name names[]; /* and their text behind them: one piece of memory */
};

/*
 * Holds the certificate that the stream's client has shown to `tls`: to its CAs, its CRL, the time,
 * and the purpose "TLS client". `error` then says what is wrong. The caller frees `ret_peer`.
 * Errors: -ENODATA there is none; -EKEYREJECTED, -EKEYEXPIRED, -EKEYREVOKED, -ENOMEM.
 */
MAAS_MUST_CHECK int maas_tls_peer_verify(const struct maas_tls *tls,
					 const struct maas_tls_stream *stream,
					 char error[MAAS_TLS_ERROR],
					 struct maas_tls_peer **ret_peer);

#endif
