/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's life: who it is, its deadlines, and its requests' waits for lend. A connection
 * belongs to the library's thread that serves it; its wait has a lock, because lend ends waits from
 * any thread, and the server's lock guards the list of connections.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

#define TICKS_A_LOOK  10
#define TICKS_A_LIMIT 100
#define TURN_NS	      250000u /* short, as thousands of connections may have one before the next */
/* Without progress, for a request that holds a share of what all requests may hold. */
#define HOLDER_MS 5000

static void describe_remote(const struct sockaddr *addr, char text[MAAS_HTTP_REMOTE_BYTES])
{
	char host[INET6_ADDRSTRLEN];

	if (addr && addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)addr;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, MAAS_HTTP_REMOTE_BYTES, "%s:%u", host, ntohs(in->sin_port));
	} else if (addr && addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const void *)addr;

		inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
		snprintf(text, MAAS_HTTP_REMOTE_BYTES, "[%s]:%u", host, ntohs(in->sin6_port));
	} else {
		snprintf(text, MAAS_HTTP_REMOTE_BYTES, "unix");
	}
}

/* Whether the connection came to an address that only this machine reaches. */
static bool is_loopback(int fd)
{
	struct sockaddr_storage local = {0};
	socklen_t len = sizeof(local);
	const struct sockaddr_in6 *six = (const void *)&local;
	const struct sockaddr_in *four = (const void *)&local;

	if (getsockname(fd, (struct sockaddr *)&local, &len))
		return false;
	if (local.ss_family == AF_INET)
		return ntohl(four->sin_addr.s_addr) >> 24 == 127;
	return local.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static void set_deadline(struct maas_http_conn *conn, uint64_t ms)
{
	atomic_store_explicit(&conn->deadline_ms, ms, memory_order_relaxed);
}

static struct maas_http_conn *conn_new(struct maas_http_listener *listener,
				       struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info;
	const struct sockaddr *addr;
	struct maas_http_conn *conn;

	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->http = listener->http;
	conn->listener = listener;
	conn->mhd = mhd;
	conn->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	atomic_init(&conn->incomplete, true);
	conn->loopback = is_loopback(conn->fd);
	maas_http_caller_init(conn);
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	addr = info ? info->client_addr : NULL;
	describe_remote(addr, conn->remote);
	conn->place = maas_http_peers_enter(conn->http, listener, addr, &conn->peer);
	maas_http_deadline_idle(conn, maas_clock_ns());
	if (listener->secure) {
		atomic_init(&conn->shaking, true);
		set_deadline(conn, maas_clock_ms() + MAAS_HTTP_HANDSHAKE_MS);
		maas_http_tls_open(conn);
	}
	if (conn->place == MAAS_HTTP_PLACE_RESERVE)
		set_deadline(conn, maas_clock_ms() + MAAS_HTTP_RESERVE_MS);
	if (conn->place == MAAS_HTTP_PLACE_NONE) {
		atomic_fetch_add_explicit(&conn->http->metrics.refused, 1, memory_order_relaxed);
		shutdown(conn->fd, SHUT_RDWR);
	}
	return conn;
}

enum MHD_Result maas_http_on_accept(void *cls, const struct sockaddr *addr, socklen_t len)
{
	const struct maas_http_listener *listener = cls;

	(void)len;
	if (atomic_load(&listener->http->stopping))
		return MHD_NO;
	return maas_http_peers_admit(listener->http, listener, addr) ? MHD_YES : MHD_NO;
}

static void conn_free(struct maas_http_conn *conn)
{
	if (conn->made.response)
		MHD_destroy_response(conn->made.response);
	maas_buf_fini(&conn->in);
	maas_buf_fini(&conn->out);
	maas_auth_unref(conn->caller.lend.auth);
	free(conn);
}

void maas_http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			     enum MHD_ConnectionNotificationCode code)
{
	struct maas_http_listener *listener = cls;
	struct maas_http *http = listener->http;
	struct maas_http_conn *conn = *context;
	bool last;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		conn = conn_new(listener, mhd);
		*context = conn;
		if (!conn)
			return; /* its first request closes it */
		pthread_mutex_lock(&http->lock);
		LIST_INSERT_HEAD(&http->conns, conn, link);
		pthread_mutex_unlock(&http->lock);
		atomic_fetch_add_explicit(&http->metrics.connections, 1, memory_order_relaxed);
		return;
	}
	if (!conn)
		return;
	maas_http_head_closed(conn);
	maas_lend_connection_leave(http->options.lend, &conn->caller.connection);
	(void)maas_http_tls_shaken(conn);
	maas_http_tls_close(conn);
	/* Off the list before the descriptor is closed: nobody shuts down its successor. */
	pthread_mutex_lock(&http->lock);
	LIST_REMOVE(conn, link);
	pthread_mutex_unlock(&http->lock);
	if (!conn->linger ||
	    !maas_http_linger_add(&http->linger, conn->fd, listener, conn->place, conn->peer))
		maas_http_peers_leave(http, listener, conn->place, conn->peer);
	atomic_fetch_sub_explicit(&http->metrics.connections, 1, memory_order_relaxed);
	maas_lock_take(&conn->wait.lock);
	conn->wait.closed = true;
	last = !conn->wait.pending;
	maas_lock_release(&conn->wait.lock);
	if (last)
		conn_free(conn);
}

/* ---- deadlines */

static uint64_t timeout_ms(const struct maas_http_conn *conn)
{
	return conn->http->options.timeout_s * UINT64_C(1000);
}

/* How long `bytes` may take. */
static uint64_t transfer_ms(uint64_t bytes)
{
	return bytes / (MAAS_HTTP_MIN_RATE / 1000u);
}

/* Whoever holds what others could use must go on soon. */
static uint64_t patience_ms(const struct maas_http_conn *conn)
{
	uint64_t ms = timeout_ms(conn);

	return maas_http_counts(conn) && ms > HOLDER_MS ? HOLDER_MS : ms;
}

/* In a part of the body, of which `bytes` are allowed for. */
static void set_part_deadline(struct maas_http_conn *conn, uint64_t now_ms, uint64_t bytes)
{
	uint64_t end_ms = now_ms + patience_ms(conn) + transfer_ms(bytes);

	set_deadline(conn, end_ms < conn->req.body_end_ms ? end_ms : conn->req.body_end_ms);
}

void maas_http_deadline(struct maas_http_conn *conn, uint64_t now_ns, uint64_t bytes)
{
	uint64_t now_ms = now_ns / 1000000u;

	conn->req.body_end_ms = now_ms + timeout_ms(conn) + transfer_ms(bytes);
	if (maas_http_counts(conn) && bytes > MAAS_HTTP_STEP_BYTES)
		bytes = MAAS_HTTP_STEP_BYTES;
	set_part_deadline(conn, now_ms, bytes);
}

void maas_http_deadline_block(struct maas_http_conn *conn, uint64_t bytes)
{
	set_part_deadline(conn, maas_clock_ms(), bytes);
}

void maas_http_deadline_step(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	uint64_t now_ms = req->received ? maas_clock_ms() : req->start_ns / 1000000u;

	req->step_end = req->received + MAAS_HTTP_STEP_BYTES;
	set_part_deadline(conn, now_ms, MAAS_HTTP_STEP_BYTES);
}

void maas_http_deadline_body(struct maas_http_conn *conn, uint64_t bytes)
{
	conn->req.body_end_ms =
		conn->req.start_ns / 1000000u + timeout_ms(conn) + transfer_ms(bytes);
	maas_http_deadline_step(conn);
}

/* Twice the timeout, because the library itself closes a client that merely sends nothing, after
 * one. */
void maas_http_deadline_idle(struct maas_http_conn *conn, uint64_t now_ns)
{
	set_deadline(conn, now_ns / 1000000u + conn->http->options.timeout_s * UINT64_C(2000));
}

/*
 * A client that closes in the middle of a request, right behind its last bytes: the library waits
 * for an event that is past. So once a second the connections without a whole request are looked
 * at. The second time that nothing but the end is there, no event was on its way either.
 */
static void look_for_end(struct maas_http_conn *conn)
{
	char byte;
	bool eof = atomic_load_explicit(&conn->incomplete, memory_order_relaxed) &&
		   !recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (eof && conn->eof)
		shutdown(conn->fd, SHUT_RDWR);
	conn->eof = eof;
}

void maas_http_tick(struct maas_http *http)
{
	bool look = http->ticks++ % TICKS_A_LOOK == 0;
	static struct maas_ratelimit slow = MAAS_RATELIMIT(MAAS_LOG_INFO, "slow connections");
	uint64_t now_ms = maas_clock_ms();
	struct maas_http_conn *conn;

	if (http->ticks % TICKS_A_LIMIT == 0)
		maas_http_read_limit(http);
	pthread_mutex_lock(&http->lock);
	LIST_FOREACH (conn, &http->conns, link) {
		if (look)
			look_for_end(conn);
		if (atomic_load_explicit(&conn->aborted, memory_order_relaxed) &&
		    atomic_exchange_explicit(&conn->aborted, false, memory_order_relaxed))
			shutdown(conn->fd, SHUT_RDWR);
		if (atomic_load_explicit(&conn->deadline_ms, memory_order_relaxed) > now_ms)
			continue;
		set_deadline(conn, UINT64_MAX);
		if (maas_http_tls_shaken(conn))
			maas_http_tls_timeout(conn);
		shutdown(conn->fd, SHUT_RDWR);
		atomic_fetch_add_explicit(&http->metrics.timeouts, 1, memory_order_relaxed);
		log_limited(&slow, "too slow, closed remote=%s", conn->remote);
	}
	pthread_mutex_unlock(&http->lock);
}

/* ---- waiting */

void maas_http_wait_begin(struct maas_http_conn *conn)
{
	maas_lock_take(&conn->wait.lock);
	conn->wait.pending++;
	maas_lock_release(&conn->wait.lock);
}

void maas_http_wait_done(void *arg, int status)
{
	struct maas_http_conn *conn = arg;
	struct maas_http_wait *wait = &conn->wait;
	bool last;

	maas_lock_take(&wait->lock);
	wait->pending--;
	if (status && !wait->status)
		wait->status = status;
	if (!wait->pending && wait->suspended) {
		wait->suspended = false;
		MHD_resume_connection(conn->mhd);
	}
	last = !wait->pending && wait->closed;
	maas_lock_release(&wait->lock);
	if (last)
		conn_free(conn);
}

/*
 * The end may come before this: so the question whether to suspend, and the act, are one step
 * under the lock that the end takes too.
 */
int maas_http_wait(struct maas_http_conn *conn)
{
	struct maas_http_wait *wait = &conn->wait;

	maas_lock_take(&wait->lock);
	if (wait->pending && !atomic_load(&conn->http->released)) {
		set_deadline(conn, UINT64_MAX);
		wait->suspended = true;
		MHD_suspend_connection(conn->mhd);
		maas_lock_release(&wait->lock);
		return 0;
	}
	if (wait->pending && !wait->status)
		wait->status = -ECANCELED;
	maas_lock_release(&wait->lock);
	return conn->req.call->resume(conn);
}

bool maas_http_turn_over(uint64_t start_ns)
{
	return maas_clock_ns() - start_ns > TURN_NS;
}

int maas_http_yield(struct maas_http_conn *conn)
{
	if (atomic_load(&conn->http->stopping))
		return maas_http_fail(conn, -ECANCELED, NULL);
	/* This time is not the client's. */
	set_deadline(conn, maas_clock_ms() + timeout_ms(conn));
	/* A whole request without an answer is called again, and until then nothing is read. Of one
	 * that was suspended the library first reads what has come: it would find the end of a
	 * client that sends no more, and fill its buffer with the next requests. */
	if (conn->req.phase != MAAS_HTTP_PHASE_COMPLETE) {
		MHD_suspend_connection(conn->mhd);
		MHD_resume_connection(conn->mhd);
	}
	return 0;
}

bool maas_http_is_waiting(struct maas_http_conn *conn)
{
	bool waiting;

	maas_lock_take(&conn->wait.lock);
	waiting = conn->wait.suspended;
	maas_lock_release(&conn->wait.lock);
	return waiting;
}

int maas_http_wait_status(struct maas_http_conn *conn)
{
	int status;

	maas_lock_take(&conn->wait.lock);
	status = conn->wait.status;
	maas_lock_release(&conn->wait.lock);
	return status;
}

void maas_http_wait_abandon(struct maas_http_conn *conn)
{
	struct maas_http_wait *wait = &conn->wait;

	maas_lock_take(&wait->lock);
	if (wait->suspended) {
		wait->suspended = false;
		wait->status = -ECANCELED;
		MHD_resume_connection(conn->mhd);
	}
	maas_lock_release(&wait->lock);
}
