/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity: who sends a request, and whether that principal may make this call at all. What it may
 * do with which allocation is lend's to say.
 */
#ifndef MAAS_HTTP_IDENTITY_H
#define MAAS_HTTP_IDENTITY_H

#include <stdatomic.h>

#include "lend/lend.h"

struct maas_http_conn;

#define MAAS_HTTP_FAILURE_SLOTS 4096 /* of addresses that failed to prove who they are */
#define MAAS_HTTP_MAX_FAILURES	20   /* that an address may have in a minute, before it gets 429 */

/* What a call needs. */
enum maas_http_right {
	MAAS_HTTP_RIGHT_NONE,	 /* nothing: it is about the server's interface alone */
	MAAS_HTTP_RIGHT_HEALTH,	 /* the word health, or any other right */
	MAAS_HTTP_RIGHT_METRICS, /* the word metrics */
	MAAS_HTTP_RIGHT_FIGURES, /* any right but health; which one decides what is shown */
	MAAS_HTTP_RIGHT_MEMORY,	 /* owner= or read=; which memory, lend says */
};

/* Why a request was not taken for anybody's. */
enum maas_http_auth_failure {
	MAAS_HTTP_AUTH_MISSING,	    /* it proves nothing, and the call needs a right */
	MAAS_HTTP_AUTH_MALFORMED,   /* its Authorization is no Bearer token */
	MAAS_HTTP_AUTH_UNKNOWN,	    /* its token is in no line */
	MAAS_HTTP_AUTH_CERTIFICATE, /* its certificate is bad, or it has none and needs one */
	MAAS_HTTP_AUTH_FORBIDDEN,   /* its principal may not do this */
	MAAS_HTTP_AUTH_FAILURES,
};

struct maas_http_identity {
	/* Failures by address: the minute in the upper half, their number in the lower one. */
	_Atomic uint64_t failures[MAAS_HTTP_FAILURE_SLOTS];
};

/* On whose behalf a connection's request is made. In the connection's thread. */
struct maas_http_caller {
	struct maas_lend_caller lend; /* its table is a reference; NULL: without authentication */
	struct maas_auth_known known; /* in that table, of this connection */
	struct maas_lend_connection connection;	   /* as it counts for … */
	const struct maas_auth_principal *counted; /* … this one of the table */
	bool is_local;				   /* by a Unix socket, from a process of … */
	uid_t uid;
	gid_t gid;
};

/* Learns what the connection's socket says of its peer. */
void maas_http_caller_init(struct maas_http_conn *conn);

/* Finds the principal of the request whose head was read, even where it is for no call. Returns as
 * a handler does: where the request proves something wrong, it is answered. */
MAAS_MUST_CHECK int maas_http_identify(struct maas_http_conn *conn);
/* Answers a call that the principal may not make; it may be one who proves nothing. */
MAAS_MUST_CHECK int maas_http_authorize(struct maas_http_conn *conn);
/* Counts and logs that the principal was forbidden something within a call that it may make. */
void maas_http_note_forbidden(const struct maas_http_conn *conn);

/* Whether nobody answers for the request, where a proof is asked for or none is looked at: it
 * proves nothing, or was answered before that was known. */
bool maas_http_is_stranger(const struct maas_http_conn *conn);

const char *maas_http_auth_failure_name(enum maas_http_auth_failure failure);

/* For calls of lend: NULL where there are no principals, and in a request whose principal was not
 * asked for, which then may nothing. */
const struct maas_lend_caller *maas_http_caller(const struct maas_http_conn *conn);

/*
 * Whether the request's principal is still somebody, who may have been taken out of the file since
 * the head was read. Asked before an answer says that something is not there: whoever is nobody
 * learns that instead, and does not take memory for lost that is there.
 */
bool maas_http_stands(const struct maas_http_conn *conn);
/* As maas_http_authorize(), once the body is there: the table may be another one by then. */
MAAS_MUST_CHECK int maas_http_reauthorize(struct maas_http_conn *conn);
/* Says that it is not. */
MAAS_MUST_CHECK int maas_http_fail_gone(struct maas_http_conn *conn);

/* Whether the caller may see figures and identities of the server, not only whether it works. */
bool maas_http_may_look(const struct maas_http_conn *conn);

#endif
