/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of principals. What is accepted answers every question; what is refused comes with a
 * sentence.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "tests/fuzz/fuzz.h"

static void ask(const struct maas_auth *auth, const struct maas_auth_principal *principal)
{
	REQUIRE(maas_auth_by_name(auth, principal->name) == principal);
	(void)maas_auth_may(auth, principal, "team/x", MAAS_AUTH_READ);
	REQUIRE(!principal->owns || maas_auth_may(auth, principal, principal->name, MAAS_AUTH_OWN));
	/* Somebody pays for whatever somebody who is no admin may own. */
	if (maas_auth_may(auth, principal, "team/x", MAAS_AUTH_OWN) &&
	    !(principal->rights & MAAS_AUTH_ADMIN))
		REQUIRE(maas_auth_payer(auth, "team/x"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct maas_auth_principal *principal;
	struct maas_auth_known known = {0};
	struct maas_auth *auth = NULL;
	char error[MAAS_AUTH_ERROR];
	uint64_t proof;
	int r = maas_auth_parse((const char *)data, size, error, &auth);

	if (r) {
		REQUIRE(r == -ENOMEM || *error);
		return 0;
	}
	for (uint32_t i = 0; (principal = maas_auth_at(auth, i)); i++)
		ask(auth, principal);
	(void)maas_auth_by_token(auth, (const char *)data, size, &known);
	(void)maas_auth_by_peer(auth, 0, 0, &proof);
	REQUIRE(!(maas_auth_anonymous(auth)->rights & MAAS_AUTH_ADMIN));
	maas_auth_unref(auth);
	return 0;
}
