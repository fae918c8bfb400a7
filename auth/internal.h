/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside auth: file (its bytes), parse (its lines), sort, table (who is it, and who may), proof
 * (what a number stands for), token.
 */
#ifndef MAAS_AUTH_INTERNAL_H
#define MAAS_AUTH_INTERNAL_H

#include <assert.h>
#include <stdatomic.h>

#include "auth/auth.h"

#define MAAS_AUTH_HASH_BYTES 32 /* of SHA-256 */

/* A name, or, with `prefix`, how names begin. */
struct maas_auth_pattern {
	const char *text; /* in struct maas_auth.text */
	size_t len;
	bool prefix;
	enum maas_auth_access access;
};

struct maas_auth_token {
	uint8_t hash[MAAS_AUTH_HASH_BYTES];
	uint32_t principal;
};

struct maas_auth_peer {
	bool group;
	uint32_t id;
	uint32_t principal;
};

/* A subject alternative name. */
struct maas_auth_cert {
	bool is_uri;	  /* else a host's, in lower case */
	const char *name; /* in struct maas_auth.text */
	uint64_t proof;
	uint32_t principal;
};

struct maas_auth {
	/* constant once it is made */
	uint8_t digest[MAAS_AUTH_HASH_BYTES]; /* of the file */
	uint8_t known_key[16];		      /* random, of the digests of struct maas_auth_known */
	char *text;			      /* the file; names point into it */
	struct maas_auth_principal *principals;
	struct maas_auth_pattern *patterns; /* those of one principal stand together */
	struct maas_auth_token *tokens;	    /* sorted by hash */
	struct maas_auth_peer *peers;	    /* sorted */
	struct maas_auth_cert *certs;	    /* sorted */
	uint32_t *by_name;		    /* principals, sorted by name */
	uint32_t num_principals;
	uint32_t num_patterns;
	uint32_t num_tokens;
	uint32_t num_peers;
	uint32_t num_certs;
	uint32_t anonymous; /* of principals */

	_Atomic uint32_t references;
};

void maas_auth_hash(const char *token, size_t len, uint8_t hash[MAAS_AUTH_HASH_BYTES]);
/* Up to 256 random bytes of the kernel. Errors: -EIO. */
MAAS_MUST_CHECK int maas_auth_random(void *bytes, size_t len);

/* Whether a token stands in `word`, whatever is around it: a quotation mark, a comma, a name. */
bool maas_auth_has_token(const char *word);

/* Whether a certificate may have such a name, and its line it alone. */
bool maas_auth_cert_valid(const struct maas_auth_cert *cert);

/* Two principals, and what they both have. */
struct maas_auth_twice {
	uint32_t a, b;
	const char *what;
};

struct maas_auth_quota_row {
	const char *word;
	const char *name;
	uint64_t max; /* that a line may say */
};
extern const struct maas_auth_quota_row maas_auth_quotas[MAAS_AUTH_NUM_QUOTAS];

/* Sorts all that is looked for. Errors: -EEXIST, -ENOMEM. */
MAAS_MUST_CHECK int maas_auth_sort(struct maas_auth *auth, struct maas_auth_twice *ret_twice);

/* The number of each. */
uint64_t maas_auth_token_proof(const struct maas_auth_token *token);
uint64_t maas_auth_peer_proof(const struct maas_auth_peer *peer);
uint64_t maas_auth_cert_proof(const struct maas_auth_cert *cert);

/* The orders of the sorted arrays; `by_name` by maas_auth_by_name() alone. */
int maas_auth_compare_tokens(const void *a, const void *b);
int maas_auth_compare_peers(const void *a, const void *b);
int maas_auth_compare_certs(const void *a, const void *b);

#endif
