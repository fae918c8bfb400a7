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

/* 429 is what a refused token gets when many are refused at the same address. A server that refuses
 * a certificate may end the connection instead. */
static bool is_refusal(const struct maas_request *request, int error)
{
	return request->status == 401 || request->status == 429 || error == -EACCES ||
	       error == -EKEYREJECTED || error == -EKEYEXPIRED;
}

static bool is_other(struct maas *maas, const struct maas_request *request)
{
	bool token = maas_token_is_other(&maas->token, request->reading);

	return maas_tls_is_other(&maas->tls, request->files) || token;
}

bool maas_request_again(struct maas *maas, struct maas_request *request, int error)
{
	if (is_refusal(request, error) && !request->refused) {
		request->refused = true;
		return is_other(maas, request);
	}
	return (error == -ECONNRESET || (error == -EPROTO && request->mute)) && !request->once &&
	       request->tries < MAX_TRIES;
}

/* ---- names in paths */

bool maas_id_valid(const char *id)
{
	size_t len = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

	return len && len < MAAS_ID_BYTES && !id[len];
}

bool maas_uuid_valid(const char *id)
{
	return strlen(id) == 36 && strspn(id, "0123456789abcdefABCDEF-") == 36;
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
