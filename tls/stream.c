/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's session, which libmicrohttpd makes and moves. Of a handshake that fails the
 * library says nothing but that one did, so what the client sends is watched on its way. In the
 * connection's thread.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <gnutls/abstract.h>

#include "tls/internal.h"

/* Of a client's message, which for a certificate and its chain stays with the connection. A chain
 * of RSA has some 6 KiB; GnuTLS would take 128. */
#define MAX_HANDSHAKE (32u << 10)

static _Thread_local struct maas_tls_stream *shaking;

/* Keeps the first and the last bytes that the client sends. */
static void watch(struct maas_tls_stream *stream, const unsigned char *data, size_t len)
{
	size_t size = sizeof(stream->last), kept;

	for (size_t i = 0; i < len && stream->seen < sizeof(stream->first); i++)
		stream->first[stream->seen++] = data[i];
	if (len > size) {
		data += len - size;
		len = size;
	}
	kept = size - len;
	memmove(stream->last, stream->last + len, kept);
	memcpy(stream->last + kept, data, len);
}

static ssize_t take_ahead(struct maas_tls_stream *stream, void *data, size_t len)
{
	size_t held = stream->ahead_end - stream->ahead_at;

	len = len < held ? len : held;
	memcpy(data, stream->ahead + stream->ahead_at, len);
	stream->ahead_at += (unsigned int)len;
	return (ssize_t)len;
}

/*
 * GnuTLS asks for the five bytes of a record's head, and then for the record. So what comes behind
 * the bytes that it asks for is read with them. That there is nothing more is asked of the kernel
 * each time: the library then waits for the next event. (After a KeyUpdate of TLS 1.3 GnuTLS says
 * so by itself: a request in the same segment waits for what comes next.)
 */
static ssize_t read_ahead(struct maas_tls_stream *stream, void *data, size_t len)
{
	struct iovec parts[] = {{data, len}, {stream->ahead, MAAS_TLS_AHEAD}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	ssize_t got;

	if (stream->ahead_at < stream->ahead_end)
		return take_ahead(stream, data, len);
	got = recvmsg(stream->fd, &message, 0);
	if (got <= (ssize_t)len)
		return got;
	stream->ahead_at = 0;
	stream->ahead_end = (unsigned int)((size_t)got - len);
	return (ssize_t)len;
}

static ssize_t on_pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
	struct maas_tls_stream *stream = arg;
	ssize_t got;

	if (stream->shaken)
		return read_ahead(stream, data, len);
	got = recv(stream->fd, data, len, 0);
	shaking = stream;
	stream->closed = !got || (got < 0 && errno != EAGAIN && errno != EINTR);
	if (got > 0)
		watch(stream, data, (size_t)got);
	return got;
}

/* The library sends the head of an answer and its body in two records: in one segment, if the
 * kernel knows of the second. */
static ssize_t on_push(gnutls_transport_ptr_t arg, const giovec_t *parts, int count)
{
	struct maas_tls_stream *stream = arg;
	const struct msghdr message = {
		.msg_iov = (struct iovec *)(uintptr_t)parts,
		.msg_iovlen = (size_t)count,
	};
	int flags = MSG_NOSIGNAL | (stream->more ? MSG_MORE : 0);

	stream->more = false;
	return sendmsg(stream->fd, &message, flags);
}

static int on_wait(gnutls_transport_ptr_t arg, unsigned int ms)
{
	const struct maas_tls_stream *stream = arg;
	struct pollfd event = {.fd = stream->fd, .events = POLLIN};

	if (stream->ahead_at < stream->ahead_end)
		return 1;
	return poll(&event, 1, ms > INT32_MAX ? -1 : (int)ms);
}

/* The client's last message of the handshake is here. */
static int on_finished(gnutls_session_t session, unsigned int type, unsigned int when,
		       unsigned int incoming, const gnutls_datum_t *message)
{
	struct maas_tls_stream *stream = gnutls_transport_get_ptr(session);

	(void)type;
	(void)when;
	(void)message;
	if (!incoming)
		return 0;
	stream->shaken = true;
	stream->on_shaken(stream);
	return 0;
}

int maas_tls_stream_init(struct maas_tls_stream *stream, struct maas_tls *tls, void *session,
			 int fd, void (*on_shaken)(struct maas_tls_stream *stream))
{
	*stream = (struct maas_tls_stream){
		.session = session,
		.tls = tls,
		.fd = fd,
		.on_shaken = on_shaken,
	};
	stream->ahead = malloc(MAAS_TLS_AHEAD);
	if (!stream->ahead)
		return -ENOMEM;
	if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials))
		return -EIO;
	gnutls_certificate_server_set_request(session, tls->client == MAAS_TLS_CLIENT_NONE
							       ? GNUTLS_CERT_IGNORE
							       : GNUTLS_CERT_REQUEST);
	gnutls_handshake_set_max_packet_length(session, MAX_HANDSHAKE);
	gnutls_transport_set_ptr(session, stream);
	gnutls_transport_set_pull_function(session, on_pull);
	gnutls_transport_set_vec_push_function(session, on_push);
	gnutls_transport_set_pull_timeout_function(session, on_wait);
	gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST,
					   on_finished);
	return 0;
}

static int find_no_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
			       gnutls_pcert_st **certs, unsigned int *num_certs,
			       gnutls_ocsp_data_st **ocsp, unsigned int *num_ocsp,
			       gnutls_privkey_t *key, unsigned int *flags)
{
	(void)session;
	(void)info;
	(void)certs;
	(void)num_certs;
	(void)ocsp;
	(void)num_ocsp;
	(void)key;
	(void)flags;
	return -1;
}

void *maas_tls_no_certificate(void)
{
	gnutls_certificate_retrieve_function3 *function = find_no_certificate;

	return (void *)(uintptr_t)function;
}

void maas_tls_stream_fini(struct maas_tls_stream *stream)
{
	if (shaking == stream)
		shaking = NULL;
	maas_tls_unref(stream->tls);
	free(stream->ahead);
	stream->ahead = NULL;
	stream->tls = NULL;
	stream->session = NULL;
}

struct maas_tls_stream *maas_tls_stream_shaking(void)
{
	return shaking;
}

void maas_tls_stream_send(struct maas_tls_stream *stream, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t sent = gnutls_record_send(stream->session, at, len);

		if (sent <= 0)
			return;
		at += sent;
		len -= (size_t)sent;
	}
}

/* ---- a handshake that failed */

/* A record of TLS begins with its type and its version. */
static bool is_record(const struct maas_tls_stream *stream)
{
	return stream->seen >= 2 && stream->first[0] >= 20 && stream->first[0] <= 24 &&
	       stream->first[1] == 3;
}

static bool is_http(const struct maas_tls_stream *stream)
{
	static const char *const methods[] = {"GET ",	 "HEAD ",    "POST ",  "PUT ",
					      "DELETE ", "OPTIONS ", "PATCH ", "PRI "};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(methods); i++) {
		size_t len = strlen(methods[i]);

		/* What was read is a record's head, of five bytes. */
		len = len < stream->seen ? len : stream->seen;
		if (len >= 3 && !memcmp(stream->first, methods[i], len))
			return true;
	}
	return false;
}

/* Past the library and GnuTLS, which have nothing more to say. */
static void say(const struct maas_tls_stream *stream, const void *data, size_t len)
{
	(void)!send(stream->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void answer_http(const struct maas_tls_stream *stream)
{
	static const char body[] =
		"{\"error\":{\"code\":\"tls_required\",\"message\":\"this port speaks TLS: use "
		"https:// instead of http://\"}}\n";
	char text[512];
	int len = snprintf(text, sizeof(text),
			   "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
			   "Cache-Control: no-store\r\nConnection: close\r\nContent-Length: %zu"
			   "\r\n\r\n%s",
			   sizeof(body) - 1, body);

	say(stream, text, (size_t)len);
}

/*
 * The fatal alert that came last; close_notify: there was none. GnuTLS does not understand one that
 * is not encrypted any more when it could be, as OpenSSL sends it who refuses the certificate.
 */
static gnutls_alert_description_t last_alert(const struct maas_tls_stream *stream)
{
	static const unsigned char head[] = {21, 3, 3, 0, 2, GNUTLS_AL_FATAL};

	if (!memcmp(stream->last, head, sizeof(head)))
		return (gnutls_alert_description_t)stream->last[sizeof(head)];
	return gnutls_alert_get(stream->session);
}

enum maas_tls_failure maas_tls_stream_fail(struct maas_tls_stream *stream, const char **ret_detail)
{
	static const unsigned char refusal[] = {
		21, 3, 3, 0, 2, GNUTLS_AL_FATAL, GNUTLS_A_HANDSHAKE_FAILURE,
	};
	gnutls_alert_description_t alert = last_alert(stream);

	shaking = NULL;
	if (stream->seen && !is_record(stream)) {
		*ret_detail = "what it sends is not TLS";
		if (is_http(stream)) {
			*ret_detail = "it sends HTTP without TLS: the URL must begin with https://";
			answer_http(stream);
		}
		return MAAS_TLS_FAIL_PLAINTEXT;
	}
	if (alert != GNUTLS_A_CLOSE_NOTIFY) {
		*ret_detail = gnutls_alert_get_name(alert);
		if (!*ret_detail)
			*ret_detail = "an unknown alert";
		return MAAS_TLS_FAIL_ALERT;
	}
	if (stream->closed) {
		*ret_detail = "the client closed the connection";
		return MAAS_TLS_FAIL_CLOSED;
	}
	if ((int)gnutls_handshake_get_last_out(stream->session) < 0) { /* the server said nothing */
		say(stream, refusal, sizeof(refusal));
		*ret_detail = "no version and cipher of both; it takes TLS 1.3, or 1.2 with ECDHE "
			      "and AES-GCM or ChaCha20-Poly1305";
		return MAAS_TLS_FAIL_PROPOSAL;
	}
	*ret_detail = "the client breaks the protocol";
	return MAAS_TLS_FAIL_PROTOCOL;
}

const char *maas_tls_failure_name(enum maas_tls_failure failure)
{
	static const char *const names[MAAS_TLS_FAILURES] = {
		[MAAS_TLS_FAIL_CLOSED] = "closed",     [MAAS_TLS_FAIL_PLAINTEXT] = "plaintext",
		[MAAS_TLS_FAIL_PROPOSAL] = "proposal", [MAAS_TLS_FAIL_ALERT] = "alert",
		[MAAS_TLS_FAIL_PROTOCOL] = "protocol",
	};

	return names[failure];
}
