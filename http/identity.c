/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who sends a request: by its token, else by its certificate, else by the user and the group behind
 * a Unix socket. Of a token no more is kept than shows that it came again. Each connection holds
 * the table of principals of its last request, and asks lend for another only when there is one. In
 * the connection's thread.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http/internal.h"

#define SCHEME "Bearer"

void maas_http_caller_init(struct maas_http_conn *conn)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct sockaddr_storage local = {0};
	socklen_t local_len = sizeof(local);

	if (getsockname(conn->fd, (struct sockaddr *)&local, &local_len) ||
	    local.ss_family != AF_UNIX ||
	    getsockopt(conn->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return;
	conn->caller.is_local = true;
	conn->caller.uid = peer.uid;
	conn->caller.gid = peer.gid;
}

/* Brings the connection's table up to date. False: there is no authentication. */
static bool refresh(struct maas_http_conn *conn)
{
	struct maas_lend *lend = conn->http->options.lend;
	struct maas_lend_caller *caller = &conn->caller.lend;

	if (caller->epoch != maas_lend_auth_epoch(lend)) {
		maas_auth_unref(caller->auth);
		caller->auth = maas_lend_auth(lend, &caller->epoch);
		conn->caller.known = (struct maas_auth_known){0};
		conn->caller.counted = NULL;
	}
	caller->principal = NULL;
	caller->proof = 0;
	return caller->auth;
}

const struct maas_lend_caller *maas_http_caller(const struct maas_http_conn *conn)
{
	return conn->caller.lend.principal ? &conn->caller.lend : NULL;
}

/* ---- failures */

static const char *const failure_names[MAAS_HTTP_AUTH_FAILURES] = {
	[MAAS_HTTP_AUTH_MISSING] = "missing",	  [MAAS_HTTP_AUTH_MALFORMED] = "malformed",
	[MAAS_HTTP_AUTH_UNKNOWN] = "unknown",	  [MAAS_HTTP_AUTH_CERTIFICATE] = "certificate",
	[MAAS_HTTP_AUTH_FORBIDDEN] = "forbidden",
};

const char *maas_http_auth_failure_name(enum maas_http_auth_failure failure)
{
	return failure_names[failure];
}

/*
 * Counts a failure of the request's address, and returns how many there were in this minute. Two
 * addresses may share a count: they then share what a failing request is answered with, and nothing
 * else.
 */
static uint32_t count_failure(struct maas_http_conn *conn)
{
	struct maas_http_identity *identity = &conn->http->identity;
	uint64_t minute = conn->req.start_ns / UINT64_C(60000000000);
	uint32_t slot = conn->peer ? maas_http_peer_hash(&conn->http->peers, conn->peer) : 0;
	_Atomic uint64_t *at = &identity->failures[slot % MAAS_HTTP_FAILURE_SLOTS];
	uint64_t before = atomic_load_explicit(at, memory_order_relaxed);
	uint64_t now;

	do {
		bool same = before >> 32 == minute;

		if (same && (uint32_t)before == UINT32_MAX)
			return UINT32_MAX;
		now = same ? before + 1 : minute << 32 | 1;
	} while (!atomic_compare_exchange_weak_explicit(at, &before, now, memory_order_relaxed,
							memory_order_relaxed));
	return (uint32_t)now;
}

static void note_failure(const struct maas_http_conn *conn, enum maas_http_auth_failure failure,
			 const char *text)
{
	static struct maas_ratelimit failed =
		MAAS_RATELIMIT(MAAS_LOG_WARN, "requests without a right");
	const struct maas_auth_principal *principal = conn->caller.lend.principal;
	bool detailed = failure == MAAS_HTTP_AUTH_CERTIFICATE;

	atomic_fetch_add_explicit(&conn->http->metrics.auth_failures[failure], 1,
				  memory_order_relaxed);
	log_limited(&failed, "no right remote=%s path=%s reason=%s principal=%s%s%s", conn->remote,
		    conn->path, failure_names[failure], principal ? principal->name : "-",
		    detailed ? ": " : "", detailed ? text : "");
}

void maas_http_note_forbidden(const struct maas_http_conn *conn)
{
	note_failure(conn, MAAS_HTTP_AUTH_FORBIDDEN, NULL);
}

/* A valid proof always passes, however often others at the same address fail. */
static int fail(struct maas_http_conn *conn, enum maas_http_auth_failure failure, const char *text)
{
	note_failure(conn, failure, text);
	if (failure == MAAS_HTTP_AUTH_FORBIDDEN)
		return maas_http_error(conn, MHD_HTTP_FORBIDDEN, "forbidden",
				       "the principal %s may not make this call: its line in "
				       "--auth-file needs %s",
				       conn->caller.lend.principal->name, text);
	/* Of all answers with 429, this header marks those to which a token is the remedy. */
	conn->req.extra_name = MHD_HTTP_HEADER_WWW_AUTHENTICATE;
	snprintf(conn->req.extra_value, sizeof(conn->req.extra_value), SCHEME " realm=\"maas\"");
	if (count_failure(conn) > MAAS_HTTP_MAX_FAILURES) {
		/* Failures are counted by the minute. */
		conn->req.retry_s =
			60 - (unsigned int)(conn->req.start_ns / UINT64_C(1000000000) % 60);
		return maas_http_error(conn, MHD_HTTP_TOO_MANY_REQUESTS, "too_many",
				       "too many requests from this address proved nothing; a "
				       "valid token works at any time");
	}
	return maas_http_error(conn, MHD_HTTP_UNAUTHORIZED, "unauthenticated", "%s", text);
}

/* ---- who it is */

/* The token of "Bearer TOKEN" (RFC 6750, 2.1), or NULL. */
static const char *token_of(const char *header)
{
	size_t len = strlen(SCHEME);

	if (strncasecmp(header, SCHEME, len) != 0 || header[len] != ' ')
		return NULL;
	header += len + strspn(header + len, " ");
	return *header && !header[strcspn(header, " \t")] ? header : NULL;
}

/* A new certificate needs a new connection. */
static int fail_certificate(struct maas_http_conn *conn, const char *text)
{
	conn->req.close = true;
	return fail(conn, MAAS_HTTP_AUTH_CERTIFICATE, text);
}

/*
 * Where certificates are asked for. One that is bad is never passed over, unless a token says who
 * it is and none is required.
 */
static int check_certificate(struct maas_http_conn *conn)
{
	enum maas_tls_client wanted = maas_http_tls_wanted(conn);
	bool token = conn->req.fields[MAAS_HTTP_FIELD_AUTHORIZATION];
	char error[MAAS_TLS_ERROR], text[MAAS_TLS_ERROR];
	int r;

	if (wanted == MAAS_TLS_CLIENT_NONE || (wanted == MAAS_TLS_CLIENT_OPTIONAL && token))
		return 0;
	r = maas_http_tls_look(conn, error);
	if (!r || (wanted == MAAS_TLS_CLIENT_OPTIONAL && r == -ENODATA))
		return 0;
	if (r == -ENODATA)
		return fail_certificate(conn, "this server takes requests only of clients that "
					      "show a certificate (the maas command and libmaas: "
					      "MAAS_CERT_FILE and MAAS_KEY_FILE)");
	snprintf(text, sizeof(text), "the client's certificate is not taken: %.400s", error);
	return fail_certificate(conn, text);
}

/* By the names of its certificate, of which no two may be of different lines. */
static int find_by_certificate(struct maas_http_conn *conn)
{
	const struct maas_tls_peer *peer = conn->tls.peer;
	struct maas_lend_caller *caller = &conn->caller.lend;

	for (uint32_t i = 0; peer && i < peer->num_names; i++) {
		uint64_t proof;
		const struct maas_auth_principal *found = maas_auth_by_cert(
			caller->auth, peer->names[i].is_uri, peer->names[i].text, &proof);

		if (found && caller->principal && found != caller->principal) {
			caller->principal = NULL;
			return fail_certificate(conn, "the client's certificate has names of two "
						      "lines of --auth-file, and is nobody's");
		}
		if (found) {
			caller->principal = found;
			caller->proof = proof;
		}
	}
	return 0;
}

static int find_principal(struct maas_http_conn *conn)
{
	struct maas_lend_caller *caller = &conn->caller.lend;
	const struct maas_http_caller *peer = &conn->caller;
	const char *header = conn->req.fields[MAAS_HTTP_FIELD_AUTHORIZATION];
	const char *token;
	int r;

	if (!header) {
		r = find_by_certificate(conn);
		if (r)
			return r;
		if (!caller->principal && peer->is_local)
			caller->principal = maas_auth_by_peer(caller->auth, peer->uid, peer->gid,
							      &caller->proof);
		if (!caller->principal)
			caller->principal = maas_auth_anonymous(caller->auth);
		return 0;
	}
	token = maas_http_is_repeated(&conn->req, MAAS_HTTP_FIELD_AUTHORIZATION) ? NULL
										 : token_of(header);
	if (!token)
		return fail(conn, MAAS_HTTP_AUTH_MALFORMED,
			    "there must be one Authorization header: Bearer, a blank, and the "
			    "token");
	caller->principal =
		maas_auth_by_token(caller->auth, token, strlen(token), &conn->caller.known);
	caller->proof = conn->caller.known.proof;
	return caller->principal
		       ? 0
		       : fail(conn, MAAS_HTTP_AUTH_UNKNOWN,
			      "no principal of this server has this token; was it replaced?");
}

/* More than whether the server works. */
static bool sees_figures(const struct maas_auth_principal *principal)
{
	return principal->rights & ~(unsigned int)MAAS_AUTH_HEALTH ||
	       maas_auth_has_memory(principal);
}

static bool has_right(const struct maas_auth_principal *principal, enum maas_http_right right)
{
	unsigned int rights = principal->rights;

	if (right == MAAS_HTTP_RIGHT_NONE || rights & MAAS_AUTH_ADMIN)
		return true;
	if (right == MAAS_HTTP_RIGHT_METRICS)
		return rights & MAAS_AUTH_METRICS;
	if (right == MAAS_HTTP_RIGHT_MEMORY)
		return maas_auth_has_memory(principal);
	if (right == MAAS_HTTP_RIGHT_FIGURES)
		return sees_figures(principal);
	return rights || maas_auth_has_memory(principal);
}

/* A connection is that of whoever made its last request. Those of the reserve are few anyway. */
static int count_connection(struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;

	if (principal == conn->caller.counted || conn->place != MAAS_HTTP_PLACE_NORMAL)
		return 0;
	if (!maas_lend_connection_enter(conn->http->options.lend, &conn->caller.lend,
					&conn->caller.connection)) {
		conn->caller.counted = principal;
		return 0;
	}
	conn->caller.counted = NULL;
	conn->req.close = true;
	return maas_http_too_many(conn, MAAS_AUTH_CONNECTIONS, "close some");
}

int maas_http_identify(struct maas_http_conn *conn)
{
	int r;

	/* At an address for metrics no proof is asked for, and none is looked at: a token that a
	 * scraper sends in clear is not even known to be one. */
	if (conn->listener->metrics)
		return 0;
	r = check_certificate(conn);
	if (r || !refresh(conn))
		return r;
	return find_principal(conn);
}

static const char *const needed[] = {
	[MAAS_HTTP_RIGHT_HEALTH] = "the word health",
	[MAAS_HTTP_RIGHT_METRICS] = "the word metrics",
	[MAAS_HTTP_RIGHT_FIGURES] = "the word metrics, owner= or read=",
	[MAAS_HTTP_RIGHT_MEMORY] = "owner= or read=",
};

int maas_http_authorize(struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;
	enum maas_http_right right = conn->req.call->right;

	/* There is no authentication, or none at this address. */
	if (!principal)
		return 0;
	if (has_right(principal, right))
		return count_connection(conn);
	if (principal != maas_auth_anonymous(conn->caller.lend.auth))
		return fail(conn, MAAS_HTTP_AUTH_FORBIDDEN, needed[right]);
	if (conn->tls.peer)
		return fail(conn, MAAS_HTTP_AUTH_UNKNOWN,
			    "no principal of this server has a name of the client's certificate "
			    "(cert= in --auth-file)");
	return fail(conn, MAAS_HTTP_AUTH_MISSING,
		    "say who you are: send the header Authorization: Bearer TOKEN (the "
		    "maas command and libmaas: MAAS_TOKEN_FILE)");
}

int maas_http_reauthorize(struct maas_http_conn *conn)
{
	const struct maas_lend_caller *caller = &conn->caller.lend;
	struct maas_lend *lend = conn->http->options.lend;
	const struct maas_auth_principal *now;
	struct maas_auth *auth;
	uint64_t epoch;
	int r = 0;

	if (!caller->principal || caller->epoch == maas_lend_auth_epoch(lend))
		return 0;
	auth = maas_lend_auth(lend, &epoch);
	now = auth ? maas_auth_by_name(auth, caller->principal->name) : NULL;
	if (!now || !maas_auth_has_proof(auth, now, caller->proof))
		r = maas_http_fail_gone(conn);
	else if (!has_right(now, conn->req.call->right))
		r = fail(conn, MAAS_HTTP_AUTH_FORBIDDEN, needed[conn->req.call->right]);
	maas_auth_unref(auth);
	return r;
}

bool maas_http_stands(const struct maas_http_conn *conn)
{
	return maas_lend_stands(conn->http->options.lend, maas_http_caller(conn));
}

int maas_http_fail_gone(struct maas_http_conn *conn)
{
	return fail(conn, MAAS_HTTP_AUTH_UNKNOWN,
		    "what proves who you are was taken out of --auth-file while this request was "
		    "under way; was it replaced?");
}

bool maas_http_is_stranger(const struct maas_http_conn *conn)
{
	const struct maas_lend_caller *caller = &conn->caller.lend;

	if (caller->principal)
		return caller->principal == maas_auth_anonymous(caller->auth);
	return conn->listener->metrics || maas_lend_has_auth(conn->http->options.lend) ||
	       (maas_http_tls_wanted(conn) == MAAS_TLS_CLIENT_REQUIRED && !conn->tls.peer);
}

bool maas_http_may_look(const struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;

	if (!conn->caller.lend.auth)
		return true;
	return principal && sees_figures(principal);
}
