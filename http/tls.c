/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encrypted connections. Each takes the newest table of certificates as it begins. Its client's
 * certificate is looked at when the first request comes, and again when there is a newer table. In
 * the connection's thread, except the table, which has a lock.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

void maas_http_tls_init(struct maas_http_tls *tls, struct maas_tls *table)
{
	pthread_mutex_init(&tls->lock, NULL);
	tls->table = maas_tls_ref(table);
	atomic_init(&tls->epoch, 1);
}

void maas_http_tls_fini(struct maas_http_tls *tls)
{
	maas_tls_unref(tls->table);
	pthread_mutex_destroy(&tls->lock);
}

/* The newest table, a reference, and its number. */
static struct maas_tls *newest(struct maas_http_tls *tls, uint64_t *ret_epoch)
{
	struct maas_tls *table;

	pthread_mutex_lock(&tls->lock);
	table = maas_tls_ref(tls->table);
	*ret_epoch = atomic_load_explicit(&tls->epoch, memory_order_relaxed);
	pthread_mutex_unlock(&tls->lock);
	return table;
}

void maas_http_set_tls(struct maas_http *http, struct maas_tls *table)
{
	struct maas_http_tls *tls = &http->tls;
	struct maas_tls *before;

	pthread_mutex_lock(&tls->lock);
	before = tls->table;
	tls->table = maas_tls_ref(table);
	atomic_fetch_add_explicit(&tls->epoch, 1, memory_order_relaxed);
	pthread_mutex_unlock(&tls->lock);
	maas_tls_unref(before);
}

/* ---- handshakes */

static struct maas_http_conn *conn_of(struct maas_tls_stream *stream)
{
	return (struct maas_http_conn *)((char *)stream -
					 offsetof(struct maas_http_conn, tls.stream));
}

bool maas_http_tls_shaken(struct maas_http_conn *conn)
{
	bool shaking = atomic_exchange(&conn->shaking, false);

	if (shaking)
		maas_http_peers_shaken(conn->http, conn->peer);
	return shaking;
}

static void on_shaken(struct maas_tls_stream *stream)
{
	struct maas_http_conn *conn = conn_of(stream);

	if (!maas_http_tls_shaken(conn))
		return;
	if (conn->place == MAAS_HTTP_PLACE_NORMAL)
		maas_http_deadline_idle(conn, maas_clock_ns());
}

void maas_http_tls_open(struct maas_http_conn *conn)
{
	void *session =
		MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
	uint64_t epoch;

	if (maas_tls_stream_init(&conn->tls.stream, newest(&conn->http->tls, &epoch), session,
				 conn->fd, on_shaken)) {
		log_err("no memory for a connection's encryption remote=%s", conn->remote);
		shutdown(conn->fd, SHUT_RDWR);
	}
}

void maas_http_tls_close(struct maas_http_conn *conn)
{
	maas_tls_stream_fini(&conn->tls.stream);
	free(conn->tls.peer);
	conn->tls.peer = NULL;
}

static void log_failure(const struct maas_http_conn *conn, const char *reason, const char *detail)
{
	static struct maas_ratelimit failed =
		MAAS_RATELIMIT(MAAS_LOG_INFO, "TLS handshakes that failed");

	log_limited(&failed, "TLS handshake failed remote=%s reason=%s: %s", conn->remote, reason,
		    detail);
}

void maas_http_tls_failed(void)
{
	struct maas_tls_stream *stream = maas_tls_stream_shaking();
	struct maas_http_conn *conn = stream ? conn_of(stream) : NULL;
	enum maas_tls_failure failure;
	const char *detail;

	if (!conn || !atomic_load(&conn->shaking))
		return; /* it took too long, and the log has it */
	failure = maas_tls_stream_fail(stream, &detail);
	atomic_fetch_add_explicit(&conn->http->tls.failures[failure], 1, memory_order_relaxed);
	/* Whoever looks whether the port is open sends nothing. */
	if (failure != MAAS_TLS_FAIL_CLOSED || stream->seen)
		log_failure(conn, maas_tls_failure_name(failure), detail);
	/* The client may be sending, and is to read what it was told. */
	conn->linger = failure == MAAS_TLS_FAIL_PLAINTEXT || failure == MAAS_TLS_FAIL_PROPOSAL;
}

void maas_http_tls_timeout(struct maas_http_conn *conn)
{
	atomic_fetch_add_explicit(&conn->http->tls.timeouts, 1, memory_order_relaxed);
	log_failure(conn, "timeout", "it took too long");
}

/* ---- certificates of clients */

enum maas_tls_client maas_http_tls_wanted(const struct maas_http_conn *conn)
{
	const struct maas_tls *table = conn->tls.stream.tls;

	return table ? maas_tls_client(table) : MAAS_TLS_CLIENT_NONE;
}

/* Holds the certificate to the newest table, if that was not done before. */
static int look(struct maas_http_conn *conn, char *error)
{
	struct maas_http_tls *tls = &conn->http->tls;
	struct maas_http_conn_tls *mine = &conn->tls;
	struct maas_tls *table;
	uint64_t epoch;
	int r;

	if (mine->epoch == atomic_load_explicit(&tls->epoch, memory_order_relaxed))
		return mine->peer ? 0 : -ENODATA;
	free(mine->peer);
	mine->peer = NULL;
	table = newest(tls, &epoch);
	r = maas_tls_peer_verify(table, &mine->stream, error, &mine->peer);
	maas_tls_unref(table);
	/* Of one that is bad nothing is kept: its connection ends. */
	mine->epoch = !r || r == -ENODATA ? epoch : 0;
	return r;
}

int maas_http_tls_look(struct maas_http_conn *conn, char error[MAAS_TLS_ERROR])
{
	uint64_t now_s = maas_clock_wall_s();
	int r = look(conn, error);

	/* Something of it has expired: what, is seen anew. */
	if (!r && now_s >= conn->tls.peer->expiry_s) {
		conn->tls.epoch = 0;
		r = look(conn, error);
	}
	if (!r && now_s + MAAS_HTTP_RENEW_S >= conn->tls.peer->expiry_s)
		conn->req.close = true;
	return r;
}

/* ---- for people, and metrics */

bool maas_http_tls_expiry(struct maas_http_tls *tls, uint64_t *ret_expiry_s)
{
	uint64_t epoch;
	struct maas_tls *table = newest(tls, &epoch);

	if (!table)
		return false;
	*ret_expiry_s = maas_tls_expiry_s(table);
	maas_tls_unref(table);
	return true;
}

void maas_http_tls_metrics(struct maas_http_tls *tls, struct maas_buf *out)
{
	uint64_t epoch;
	struct maas_tls *table = newest(tls, &epoch);

	if (!table)
		return;
	maas_http_metric(out, "maas_tls_certificate_expiry_seconds", "gauge",
			 "When the server's certificate expires, in seconds since 1970.",
			 maas_tls_expiry_s(table));
	if (maas_tls_crl_expiry_s(table))
		maas_http_metric(out, "maas_tls_crl_expiry_seconds", "gauge",
				 "When the list of revoked certificates is out of date, in seconds "
				 "since 1970.",
				 maas_tls_crl_expiry_s(table));
	maas_tls_unref(table);
	maas_http_metric_head(out, "maas_tls_handshake_failures_total", "counter",
			      "TLS handshakes that came to nothing.");
	for (int i = 0; i < MAAS_TLS_FAILURES; i++)
		maas_buf_printf(out, "maas_tls_handshake_failures_total{reason=\"%s\"} %llu\n",
				maas_tls_failure_name((enum maas_tls_failure)i),
				(unsigned long long)atomic_load_explicit(&tls->failures[i],
									 memory_order_relaxed));
	maas_buf_printf(
		out, "maas_tls_handshake_failures_total{reason=\"timeout\"} %llu\n",
		(unsigned long long)atomic_load_explicit(&tls->timeouts, memory_order_relaxed));
}
