/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as data, before curl sees it, and the names and ids that become parts of its path. Each
 * request belongs to one thread.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

#define MAX_TRIES 3

void maas_request_init(struct maas_request *request, const char *method, const char *fmt, ...)
{
	char path[512];
	va_list args;

	memset(request, 0, sizeof(*request));
	request->method = method;
	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	maas_buf_str(&request->path, path);
}

void maas_request_fini(struct maas_request *request)
{
	maas_buf_fini(&request->path);
	maas_buf_fini(&request->head);
	maas_buf_fini(&request->text);
}

bool maas_request_again(const struct maas_request *request, int error)
{
	return error == -ECONNRESET && !request->once && request->tries < MAX_TRIES;
}

/* ---- names in paths */

static bool only(const char *text, size_t max, const char *others)
{
	size_t len = 0;

	for (; text[len]; len++) {
		char c = text[len];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') && !strchr(others, c))
			return false;
	}
	return len >= 1 && len <= max;
}

bool maas_id_valid(const char *id)
{
	return only(id, MAAS_ID_BYTES - 1, "-");
}

bool maas_uuid_valid(const char *id)
{
	return strlen(id) == 36 && strspn(id, "0123456789abcdefABCDEF-") == 36;
}

bool maas_name_valid(const char *name)
{
	return only(name, MAAS_OWNER_BYTES - 1, "._:/@-");
}

void maas_copy_id(char to[MAAS_ID_BYTES], const char *from)
{
	snprintf(to, MAAS_ID_BYTES, "%s", from);
}

int maas_check_id(const char *id)
{
	if (id && maas_id_valid(id))
		return 0;
	return maas_fail(-EINVAL, "\"%s\" is no id of an allocation", id ? id : "");
}
