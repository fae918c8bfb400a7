/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: the connections that are encrypted: their handshakes, and the certificates that their
 * clients have shown.
 */
#ifndef MAAS_HTTP_TLS_H
#define MAAS_HTTP_TLS_H

#include <pthread.h>
#include <stdatomic.h>

#include "tls/tls.h"

struct maas_http_conn;

#define MAAS_HTTP_HANDSHAKE_MS 10000
/* Under way from one address at a time, for each thread of the server: each takes milliseconds of a
 * CPU, which the others at that thread wait for. */
#define MAAS_HTTP_HANDSHAKES 64
/* Before its client's certificate expires, a connection ends with its next answer: who has a new
 * certificate then shows it, and loses no request. */
#define MAAS_HTTP_RENEW_S 60

struct maas_http_tls {
	_Atomic uint64_t failures[MAAS_TLS_FAILURES];
	_Atomic uint64_t timeouts; /* handshakes that took too long */
	_Atomic uint64_t epoch;	   /* grows with each table */
	pthread_mutex_t lock;
	struct maas_tls *table; /* guarded by lock; NULL: nothing is encrypted */
};

/* Of a connection, in its thread. All 0: it is not encrypted. */
struct maas_http_conn_tls {
	struct maas_tls_stream stream;
	struct maas_tls_peer *peer; /* what its client proved, or NULL … */
	uint64_t epoch;		    /* … to this table; 0: nobody has looked yet */
};

void maas_http_tls_init(struct maas_http_tls *tls, struct maas_tls *table);
void maas_http_tls_fini(struct maas_http_tls *tls);

/* Begins the encryption of a connection that was just accepted; one that fails is shut down. */
void maas_http_tls_open(struct maas_http_conn *conn);
/* When the connection's session is gone. */
void maas_http_tls_close(struct maas_http_conn *conn);
/* The handshake is over, with success or without. False: it was over before. Any thread, while the
 * connection is there. */
bool maas_http_tls_shaken(struct maas_http_conn *conn);
/* Whether the connection's client was asked for a certificate. */
enum maas_tls_client maas_http_tls_wanted(const struct maas_http_conn *conn);
/*
 * Looks at the certificate of a client that was asked for one; conn->tls.peer then says whose it
 * is. Errors, with `error`: as maas_tls_peer_verify().
 */
MAAS_MUST_CHECK int maas_http_tls_look(struct maas_http_conn *conn, char error[MAAS_TLS_ERROR]);
/* Until when the server's certificates are valid, in seconds since 1970. False: there is no TLS. */
bool maas_http_tls_expiry(struct maas_http_tls *tls, uint64_t *ret_expiry_s);
/* Writes the metrics of TLS, if there is some. */
void maas_http_tls_metrics(struct maas_http_tls *tls, struct maas_buf *out);
/* The library says that a handshake failed, in this thread. */
void maas_http_tls_failed(void);
/* The handshake took too long. Called by maas_http_tick(). */
void maas_http_tls_timeout(struct maas_http_conn *conn);

#endif
