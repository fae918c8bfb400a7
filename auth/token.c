/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens. A token is random, so that its SHA-256 says nothing of it and costs 0.3 µs to make; a
 * password would need a slow hash. No state: any thread.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "auth/internal.h"

#define RANDOM_BYTES 32
#define MARK	     "mt_"
#define LETTERS	     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static_assert(crypto_hash_sha256_BYTES == MAAS_AUTH_HASH_BYTES, "");

int maas_auth_random(void *bytes, size_t len)
{
	return getrandom(bytes, len, 0) == (ssize_t)len ? 0 : -EIO;
}

int maas_auth_token_make(char token[MAAS_AUTH_TOKEN])
{
	uint8_t random[RANDOM_BYTES];

	if (maas_auth_random(random, sizeof(random)))
		return -EIO;
	sodium_bin2base64(stpcpy(token, MARK), MAAS_AUTH_TOKEN - 3, random, sizeof(random),
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(random, sizeof(random));
	return 0;
}

bool maas_auth_has_token(const char *word)
{
	for (const char *at = word; (at = strstr(at, MARK)); at++)
		if (strspn(at, LETTERS) >= MAAS_AUTH_TOKEN - 1)
			return true;
	return false;
}

void maas_auth_hash(const char *token, size_t len, uint8_t hash[MAAS_AUTH_HASH_BYTES])
{
	crypto_hash_sha256(hash, (const unsigned char *)token, len);
}

void maas_auth_token_hash(const char *token, size_t len, char hash[MAAS_AUTH_HASH])
{
	uint8_t bytes[MAAS_AUTH_HASH_BYTES];

	maas_auth_hash(token, len, bytes);
	sodium_bin2hex(stpcpy(hash, "sha256:"), MAAS_AUTH_HASH - 7, bytes, sizeof(bytes));
}
