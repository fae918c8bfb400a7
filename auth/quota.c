/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of quotas: their words in the file, their names elsewhere. Constant: any thread. */
#include "auth/internal.h"

const struct maas_auth_quota_row maas_auth_quotas[MAAS_AUTH_NUM_QUOTAS] = {
	[MAAS_AUTH_BYTES] = {"max-bytes", "bytes", UINT64_MAX},
	[MAAS_AUTH_ALLOCATIONS] = {"max-allocations", "allocations", UINT32_MAX},
	[MAAS_AUTH_SESSIONS] = {"max-sessions", "sessions", UINT32_MAX},
	[MAAS_AUTH_OWNERS] = {"max-owners", "owners", UINT32_MAX},
	[MAAS_AUTH_GRANTS] = {"max-grants", "grants", UINT32_MAX},
	[MAAS_AUTH_CONNECTIONS] = {"max-connections", "connections", UINT32_MAX},
	[MAAS_AUTH_REQUEST_IDS] = {"max-request-ids", "request_ids", MAAS_AUTH_MAX_REQUEST_IDS},
};

const char *maas_auth_quota_name(enum maas_auth_quota quota)
{
	return maas_auth_quotas[quota].name;
}

const char *maas_auth_quota_word(enum maas_auth_quota quota)
{
	return maas_auth_quotas[quota].word;
}
