/* SPDX-License-Identifier: Apache-2.0 */
/* The names that users give: of owners, sessions and principals. No state: any thread. */
#include <string.h>

#include "base/base.h"

bool maas_name_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				  "._:/@-");

	return len && len < MAAS_NAME_BYTES && !name[len];
}
