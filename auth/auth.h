/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth: who may do what. The file of principals (--auth-file) has a line for each; a line says what
 * proves that a request is the principal's, what the principal may do, and how much of the server:
 *
 *	# NAME   proofs                 rights and quotas
 *	prom-a   token=sha256:9f2c…     owner=prom-a,prom-a:* max-bytes=64GiB
 *	ops      cert=ops.example       admin
 *	local    uid=1000               read=prom-a metrics
 *	*        -                      health
 *
 * A table is one reading of the file and never changes; a reload makes another table. auth knows
 * neither lend nor HTTP: they ask it. Threading: any thread may ask a table that it has a reference
 * to.
 */
#ifndef MAAS_AUTH_AUTH_H
#define MAAS_AUTH_AUTH_H

#include <sys/types.h>

#include "base/base.h"

#define MAAS_AUTH_ERROR	     512       /* bytes of an error's text */
#define MAAS_AUTH_MAX_FILE   (1 << 20) /* bytes of the file */
#define MAAS_AUTH_MAX_OWNERS 1024      /* max-owners where a line does not say */
#define MAAS_AUTH_UNLIMITED  UINT64_MAX
/* Request ids that one principal may have known. Whoever may allocate has an even share of them
 * where its line does not say. */
#define MAAS_AUTH_MAX_REQUEST_IDS 1000000

struct maas_auth;

/* What a principal may do besides what is said by owners. */
enum maas_auth_right {
	MAAS_AUTH_HEALTH = 1,  /* /health and /ready, without figures */
	MAAS_AUTH_METRICS = 2, /* /metrics and /stats, of all principals */
	MAAS_AUTH_ADMIN = 4,   /* everything */
};

/* What a principal may do with the allocations of an owner. */
enum maas_auth_access {
	MAAS_AUTH_READ, /* read the bytes, and have keys that only read */
	MAAS_AUTH_OWN,	/* allocate, list, write, renew, free; open sessions of this name */
};

/* How much a principal may have at a time; the names in the file are max-bytes, max-allocations …
 */
enum maas_auth_quota {
	MAAS_AUTH_BYTES, /* of slabs */
	MAAS_AUTH_ALLOCATIONS,
	MAAS_AUTH_SESSIONS,
	MAAS_AUTH_OWNERS,      /* different owner names */
	MAAS_AUTH_GRANTS,      /* keys of RDMA, of its sessions */
	MAAS_AUTH_CONNECTIONS, /* of HTTP */
	MAAS_AUTH_REQUEST_IDS, /* whose answers are remembered: the oldest are forgotten beyond */
	MAAS_AUTH_NUM_QUOTAS,
};

struct maas_auth_principal {
	const char *name;    /* of the alphabet of owner names; "*" is whoever proves nothing */
	unsigned int rights; /* of enum maas_auth_right */
	unsigned int line;   /* in the file, from 1; 0: not there */
	bool owns;	     /* has owner=, and with it the owner name `name` */
	uint64_t quota[MAAS_AUTH_NUM_QUOTAS]; /* MAAS_AUTH_UNLIMITED: none */
	/* of auth alone */
	uint32_t first_pattern;
	uint32_t num_patterns;
};

/*
 * Reads a file of principals. `error` then says which line is wrong and what to do. Errors: as
 * open(2) and read(2); -EPERM others may read the file, or write it; -EINVAL a line is wrong,
 * -EFBIG, -ENOMEM.
 */
MAAS_MUST_CHECK int maas_auth_load(const char *path, char error[MAAS_AUTH_ERROR],
				   struct maas_auth **ret_auth);

/* The same of a text that is at hand. Errors: -EINVAL, -ENOMEM. */
MAAS_MUST_CHECK int maas_auth_parse(const char *text, size_t len, char error[MAAS_AUTH_ERROR],
				    struct maas_auth **ret_auth);

/* Whether both were made of the same bytes. */
bool maas_auth_same(const struct maas_auth *a, const struct maas_auth *b);

/* References; a table has one when it is made. NULL is allowed. */
struct maas_auth *maas_auth_ref(struct maas_auth *auth);
void maas_auth_unref(struct maas_auth *auth);

/*
 * What is kept of the last token that was found: enough to see that it came again, and nothing that
 * helps to make it. All zero: none was found. Another table does not know it.
 */
struct maas_auth_known {
	const struct maas_auth_principal *principal;
	uint64_t proof;
	uint64_t digest[2];
};

/*
 * Principals live as long as their table. These return NULL where there is none. What proved it has
 * a number, the same in each table that has it: enough to ask for it in another table, and nothing
 * that helps to make it. 0: nothing was proved.
 */

/*
 * Whose token this is: the whole of what was sent behind "Bearer ". The same token as `known` is
 * found in a tenth of the time.
 */
const struct maas_auth_principal *maas_auth_by_token(const struct maas_auth *auth,
						     const char *token, size_t len,
						     struct maas_auth_known *known);
/* Who a process of this user and group is, as the kernel says it of a Unix socket's peer: by its
 * uid, else by its gid. The ids that stand for "none of this namespace" are nobody's. */
const struct maas_auth_principal *maas_auth_by_peer(const struct maas_auth *auth, uid_t uid,
						    gid_t gid, uint64_t *ret_proof);
/*
 * Whose line has this subject alternative name of a certificate, which somebody else has verified:
 * a host's name in any case of its letters, or a URI, each exactly.
 */
const struct maas_auth_principal *maas_auth_by_cert(const struct maas_auth *auth, bool is_uri,
						    const char *name, uint64_t *ret_proof);
const struct maas_auth_principal *maas_auth_by_name(const struct maas_auth *auth, const char *name);
/* Who proves nothing: the line `*`, or a principal without rights. Never NULL. */
const struct maas_auth_principal *maas_auth_anonymous(const struct maas_auth *auth);
uint32_t maas_auth_count(const struct maas_auth *auth);
/* Whether a line has cert=; whether one has uid= or gid=. */
bool maas_auth_has_certs(const struct maas_auth *auth);
bool maas_auth_has_peers(const struct maas_auth *auth);
/* Where the principal stands: see maas_auth_at(). */
uint32_t maas_auth_index(const struct maas_auth *auth, const struct maas_auth_principal *principal);
/* Whether the line of that principal has the proof, where there is one. */
bool maas_auth_has_proof(const struct maas_auth *auth, const struct maas_auth_principal *principal,
			 uint64_t proof);
/* In the order of the file; NULL behind the last. */
const struct maas_auth_principal *maas_auth_at(const struct maas_auth *auth, uint32_t index);

/* Whether there may be memory that the principal may read. */
bool maas_auth_has_memory(const struct maas_auth_principal *principal);

/* Whether the principal may; an admin may everything. `owner` "": memory without an owner, which is
 * the admins'. */
bool maas_auth_may(const struct maas_auth *auth, const struct maas_auth_principal *principal,
		   const char *owner, enum maas_auth_access access);

/*
 * Whether the principal of that name may in `now` do with memory all that it might in `before`, as
 * far as the file says it in the same words; false where one of them does not have it.
 */
bool maas_auth_keeps_rights(const struct maas_auth *before, const struct maas_auth *now,
			    const char *name);

/* Who pays for an owner's memory: the first line with an owner= that it matches, or NULL. */
const struct maas_auth_principal *maas_auth_payer(const struct maas_auth *auth, const char *owner);

/* The patterns of a principal, in the order of its line, each as it stands there; its own name
 * comes last. NULL behind the last. */
const char *maas_auth_pattern(const struct maas_auth *auth,
			      const struct maas_auth_principal *principal, uint32_t index,
			      enum maas_auth_access *ret_access);

/* "bytes" and so on: what stands behind "max-" in the file, with _ for -. */
const char *maas_auth_quota_name(enum maas_auth_quota quota);
/* "max-bytes" and so on. */
const char *maas_auth_quota_word(enum maas_auth_quota quota);

#define MAAS_AUTH_TOKEN 47 /* "mt_", 43 letters of base64url (256 bits), and a NUL */
#define MAAS_AUTH_HASH	72 /* "sha256:", 64 digits, and a NUL */

/* Makes a token from the kernel's random bytes. Errors: -EIO there are none. */
MAAS_MUST_CHECK int maas_auth_token_make(char token[MAAS_AUTH_TOKEN]);
/* What stands for a token in the file. */
void maas_auth_token_hash(const char *token, size_t len, char hash[MAAS_AUTH_HASH]);

#endif
