/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of principals. It holds no secrets in clear, but it says who may do what: others may not
 * even know the names. No state: any thread.
 */
#include <string.h>

#include "auth/internal.h"

static_assert(MAAS_AUTH_ERROR >= MAAS_FILE_ERROR, "one buffer for both");

int maas_auth_load(const char *path, char error[MAAS_AUTH_ERROR], struct maas_auth **ret_auth)
{
	struct maas_buf text = {0};
	int r = maas_file_read(path, MAAS_AUTH_MAX_FILE, true, error, &text);

	if (!r)
		r = maas_auth_parse(text.data, text.len, error, ret_auth);
	if (r && !*error)
		snprintf(error, MAAS_AUTH_ERROR, "%s: %s", path, strerror(-r));
	maas_buf_fini(&text);
	return r;
}
