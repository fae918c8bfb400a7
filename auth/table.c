/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table that is made: whose proof this is, and what the principal may. Nothing changes but the
 * count of references: any thread.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "auth/internal.h"

static_assert(sizeof(((struct maas_auth_known *)0)->digest) == crypto_shorthash_siphashx24_BYTES,
	      "");
static_assert(sizeof(((struct maas_auth *)0)->known_key) == crypto_shorthash_siphashx24_KEYBYTES,
	      "");

/* RFC 1035, 2.3.4, and what names of hosts are made of, "_" included. */
#define MAX_HOST     253
#define HOST_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

struct maas_auth *maas_auth_ref(struct maas_auth *auth)
{
	if (auth)
		atomic_fetch_add_explicit(&auth->references, 1, memory_order_relaxed);
	return auth;
}

void maas_auth_unref(struct maas_auth *auth)
{
	if (!auth || atomic_fetch_sub_explicit(&auth->references, 1, memory_order_acq_rel) != 1)
		return;
	free(auth->text);
	free(auth->principals);
	free(auth->patterns);
	free(auth->tokens);
	free(auth->peers);
	free(auth->certs);
	free(auth->by_name);
	free(auth);
}

bool maas_auth_same(const struct maas_auth *a, const struct maas_auth *b)
{
	return !memcmp(a->digest, b->digest, sizeof(a->digest));
}

/* ---- who is it */

int maas_auth_compare_tokens(const void *a, const void *b)
{
	const struct maas_auth_token *left = a, *right = b;

	return memcmp(left->hash, right->hash, sizeof(left->hash));
}

static const struct maas_auth_token *find_token(const struct maas_auth *auth, const char *token,
						size_t len)
{
	struct maas_auth_token key;

	if (!auth->num_tokens)
		return NULL;
	/* What a comparison of hashes tells by its time is no help to find a token. */
	maas_auth_hash(token, len, key.hash);
	return bsearch(&key, auth->tokens, auth->num_tokens, sizeof(key), maas_auth_compare_tokens);
}

/*
 * SipHash is made for this: who does not know the key cannot make another token of the same digest,
 * and has one chance in 2^128 with each that is tried. The key is of this table alone and never
 * leaves it; who reads both key and digest in this memory still has to guess 256 random bits, as
 * with the hashes of the file.
 */
const struct maas_auth_principal *maas_auth_by_token(const struct maas_auth *auth,
						     const char *token, size_t len,
						     struct maas_auth_known *known)
{
	const struct maas_auth_token *found;
	uint64_t digest[2], difference;

	crypto_shorthash_siphashx24((unsigned char *)digest, (const unsigned char *)token, len,
				    auth->known_key);
	/* In the same time wherever they differ. */
	difference = (digest[0] ^ known->digest[0]) | (digest[1] ^ known->digest[1]);
	if (known->principal && !difference)
		return known->principal;
	found = find_token(auth, token, len);
	if (!found)
		return NULL;
	known->principal = &auth->principals[found->principal];
	known->proof = maas_auth_token_proof(found);
	memcpy(known->digest, digest, sizeof(digest));
	return known->principal;
}

int maas_auth_compare_peers(const void *a, const void *b)
{
	const struct maas_auth_peer *left = a, *right = b;

	if (left->group != right->group)
		return left->group ? 1 : -1;
	return (left->id > right->id) - (left->id < right->id);
}

static const struct maas_auth_peer *find_peer(const struct maas_auth *auth, bool group, uint32_t id)
{
	struct maas_auth_peer key = {.group = group, .id = id};

	if (!auth->num_peers)
		return NULL;
	return bsearch(&key, auth->peers, auth->num_peers, sizeof(key), maas_auth_compare_peers);
}

const struct maas_auth_principal *maas_auth_by_peer(const struct maas_auth *auth, uid_t uid,
						    gid_t gid, uint64_t *ret_proof)
{
	const struct maas_auth_peer *found = find_peer(auth, false, uid);

	if (!found)
		found = find_peer(auth, true, gid);
	*ret_proof = found ? maas_auth_peer_proof(found) : 0;
	return found ? &auth->principals[found->principal] : NULL;
}

bool maas_auth_cert_valid(const struct maas_auth_cert *cert)
{
	size_t len = strlen(cert->name);

	if (!cert->is_uri)
		return len && len <= MAX_HOST && strspn(cert->name, HOST_LETTERS) == len;
	for (size_t i = 0; i < len; i++)
		if (cert->name[i] <= ' ' || cert->name[i] > '~')
			return false;
	return true;
}

int maas_auth_compare_certs(const void *a, const void *b)
{
	const struct maas_auth_cert *left = a, *right = b;

	if (left->is_uri != right->is_uri)
		return left->is_uri ? 1 : -1;
	return left->is_uri ? strcmp(left->name, right->name) : strcasecmp(left->name, right->name);
}

const struct maas_auth_principal *maas_auth_by_cert(const struct maas_auth *auth, bool is_uri,
						    const char *name, uint64_t *ret_proof)
{
	struct maas_auth_cert key = {.is_uri = is_uri, .name = name};
	const struct maas_auth_cert *found;

	*ret_proof = 0;
	if (!auth->num_certs)
		return NULL;
	found = bsearch(&key, auth->certs, auth->num_certs, sizeof(key), maas_auth_compare_certs);
	if (found)
		*ret_proof = found->proof;
	return found ? &auth->principals[found->principal] : NULL;
}

const struct maas_auth_principal *maas_auth_by_name(const struct maas_auth *auth, const char *name)
{
	uint32_t low = 0, high = auth->num_principals;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct maas_auth_principal *at = &auth->principals[auth->by_name[middle]];
		int order = strcmp(name, at->name);

		if (!order)
			return at;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct maas_auth_principal *maas_auth_anonymous(const struct maas_auth *auth)
{
	return &auth->principals[auth->anonymous];
}

uint32_t maas_auth_count(const struct maas_auth *auth)
{
	return auth->num_principals;
}

bool maas_auth_has_certs(const struct maas_auth *auth)
{
	return auth->num_certs > 0;
}

bool maas_auth_has_peers(const struct maas_auth *auth)
{
	return auth->num_peers > 0;
}

uint32_t maas_auth_index(const struct maas_auth *auth, const struct maas_auth_principal *principal)
{
	return (uint32_t)(principal - auth->principals);
}

const struct maas_auth_principal *maas_auth_at(const struct maas_auth *auth, uint32_t index)
{
	return index < auth->num_principals ? &auth->principals[index] : NULL;
}

/* ---- what may it */

static bool matches(const struct maas_auth_pattern *pattern, const char *owner)
{
	if (pattern->prefix)
		return !strncmp(owner, pattern->text, pattern->len);
	return !strcmp(owner, pattern->text);
}

bool maas_auth_has_memory(const struct maas_auth_principal *principal)
{
	return principal->num_patterns || principal->rights & MAAS_AUTH_ADMIN;
}

bool maas_auth_may(const struct maas_auth *auth, const struct maas_auth_principal *principal,
		   const char *owner, enum maas_auth_access access)
{
	const struct maas_auth_pattern *patterns = auth->patterns + principal->first_pattern;

	if (principal->rights & MAAS_AUTH_ADMIN)
		return true;
	for (uint32_t i = 0; *owner && i < principal->num_patterns; i++)
		if (patterns[i].access >= access && matches(&patterns[i], owner))
			return true;
	return false;
}

const char *maas_auth_pattern(const struct maas_auth *auth,
			      const struct maas_auth_principal *principal, uint32_t index,
			      enum maas_auth_access *ret_access)
{
	const struct maas_auth_pattern *pattern;

	if (index >= principal->num_patterns)
		return NULL;
	pattern = &auth->patterns[principal->first_pattern + index];
	*ret_access = pattern->access;
	return pattern->text;
}

/* Whether all that `pattern` matches is matched by one of `principal`, with no less access. */
static bool covers(const struct maas_auth *auth, const struct maas_auth_principal *principal,
		   const struct maas_auth_pattern *pattern)
{
	for (uint32_t i = 0; i < principal->num_patterns; i++) {
		const struct maas_auth_pattern *at = &auth->patterns[principal->first_pattern + i];

		if (at->access < pattern->access || (pattern->prefix && !at->prefix) ||
		    at->len > pattern->len || memcmp(at->text, pattern->text, at->len) != 0)
			continue;
		if (at->prefix || at->len == pattern->len)
			return true;
	}
	return false;
}

bool maas_auth_keeps_rights(const struct maas_auth *before, const struct maas_auth *now,
			    const char *name)
{
	const struct maas_auth_principal *old = before ? maas_auth_by_name(before, name) : NULL;
	const struct maas_auth_principal *new = maas_auth_by_name(now, name);

	if (!old || !new)
		return false;
	if (new->rights & MAAS_AUTH_ADMIN)
		return true;
	if (old->rights & MAAS_AUTH_ADMIN)
		return false;
	for (uint32_t i = 0; i < old->num_patterns; i++)
		if (!covers(now, new, &before->patterns[old->first_pattern + i]))
			return false;
	return true;
}

const struct maas_auth_principal *maas_auth_payer(const struct maas_auth *auth, const char *owner)
{
	for (uint32_t i = 0; *owner && i < auth->num_principals; i++) {
		const struct maas_auth_principal *principal = &auth->principals[i];

		for (uint32_t j = 0; j < principal->num_patterns; j++) {
			const struct maas_auth_pattern *pattern =
				&auth->patterns[principal->first_pattern + j];

			if (pattern->access == MAAS_AUTH_OWN && matches(pattern, owner))
				return principal;
		}
	}
	return NULL;
}
