/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers of proofs: the same in each table that has the proof, so that what it began can be
 * held against another table, and of no use to prove anything. No state: any thread.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "auth/internal.h"

/* In the lowest bits of a number, which is never 0. */
enum kind { NONE, TOKEN, UID, GID, HOST, URI };

#define KINDS UINT64_C(7)

/*
 * 61 bits of a hash, in the order of the hashes. Whoever makes two tokens of one number gains
 * nothing: what one of them began lives on as long as the other one is on the same line.
 */
static uint64_t number_of(const uint8_t hash[MAAS_AUTH_HASH_BYTES], enum kind kind)
{
	uint64_t number;

	memcpy(&number, hash, sizeof(number));
	return (be64toh(number) & ~KINDS) | kind;
}

uint64_t maas_auth_token_proof(const struct maas_auth_token *token)
{
	return number_of(token->hash, TOKEN);
}

uint64_t maas_auth_peer_proof(const struct maas_auth_peer *peer)
{
	return (uint64_t)peer->id << 3 | (peer->group ? GID : UID);
}

uint64_t maas_auth_cert_proof(const struct maas_auth_cert *cert)
{
	uint8_t hash[MAAS_AUTH_HASH_BYTES];

	maas_auth_hash(cert->name, strlen(cert->name), hash);
	return number_of(hash, cert->is_uri ? URI : HOST);
}

static int compare_token(const void *key, const void *token)
{
	uint64_t left = *(const uint64_t *)key, right = maas_auth_token_proof(token);

	return (left > right) - (left < right);
}

static int compare_peer(const void *key, const void *peer)
{
	uint64_t proof = *(const uint64_t *)key;
	const struct maas_auth_peer wanted = {.group = (proof & KINDS) == GID,
					      .id = (uint32_t)(proof >> 3)};

	return maas_auth_compare_peers(&wanted, peer);
}

/* Whose proof it is, as an index; UINT32_MAX: nobody's. */
static uint32_t find(const struct maas_auth *auth, uint64_t proof)
{
	enum kind kind = (enum kind)(proof & KINDS);
	const struct maas_auth_token *token;
	const struct maas_auth_peer *peer;

	if (kind == TOKEN && auth->num_tokens) {
		token = bsearch(&proof, auth->tokens, auth->num_tokens, sizeof(*token),
				compare_token);
		return token ? token->principal : UINT32_MAX;
	}
	if ((kind == UID || kind == GID) && auth->num_peers) {
		peer = bsearch(&proof, auth->peers, auth->num_peers, sizeof(*peer), compare_peer);
		return peer ? peer->principal : UINT32_MAX;
	}
	for (uint32_t i = 0; i < auth->num_certs; i++)
		if (auth->certs[i].proof == proof)
			return auth->certs[i].principal;
	return UINT32_MAX;
}

bool maas_auth_has_proof(const struct maas_auth *auth, const struct maas_auth_principal *principal,
			 uint64_t proof)
{
	return !proof || find(auth, proof) == maas_auth_index(auth, principal);
}
