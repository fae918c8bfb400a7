/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calling thread's sentence, and the -errno of statuses, codes and curl's results. Each
 * thread has a sentence of its own; no lock.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "client/internal.h"

_Thread_local bool maas_failed;
static _Thread_local char sentence[MAAS_ERROR_BYTES];

const char *maas_error(void)
{
	return maas_failed ? sentence : "";
}

/* The server's own words go into sentences, and sentences to terminals and logs. */
void maas_error_set(const char *fmt, ...)
{
	char raw[MAAS_ERROR_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	maas_printable(sentence, sizeof(sentence), raw);
	maas_failed = true;
}

/* ---- answers */

static const struct status_row {
	long status;
	const char *code; /* "": any other */
	int error;
} status_table[] = {
	{400, "", -EINVAL},
	{401, "", -EACCES},
	{403, "", -EPERM},
	{404, "unknown_session", -EKEYREVOKED},
	{404, "", -ENOENT},
	{405, "", -ENOSYS},
	{408, "", -ETIMEDOUT},
	{409, "name_taken", -EEXIST},
	{409, "request_id_reused", -ENOTUNIQ},
	{409, "answer_forgotten", -ENODATA},
	{409, "not_renewable", -EMEDIUMTYPE},
	{409, "not_connected", -ENOTCONN},
	{409, "", -EEXIST},
	{413, "body_too_large", -EMSGSIZE},
	{413, "", -EFBIG},
	{416, "", -ERANGE},
	{429, "", -EUSERS},
	{431, "", -EMSGSIZE},
	{500, "", -EREMOTEIO},
	{503, "rdma_off", -EOPNOTSUPP},
	{503, "rdma_failed", -EOPNOTSUPP},
	{503, "stopping", -ESHUTDOWN},
	{503, "draining", -ESHUTDOWN},
	{503, "revoke_unconfirmed", -EREMOTEIO},
	{503, "", -ENOBUFS},
	{507, "grants_exhausted", -EDQUOT},
	{507, "device_limit", -EDQUOT},
	{507, "quota_exhausted", -ENOSR},
	{507, "", -ENOSPC},
};

int maas_error_of_status(long status, const char *code)
{
	if (status >= 200 && status < 300)
		return 0;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(status_table); i++) {
		const struct status_row *row = &status_table[i];

		if (row->status == status && (!*row->code || strcmp(row->code, code) == 0))
			return row->error;
	}
	return -EPROTO;
}

int maas_fail_status(long status, const char *body, size_t len)
{
	const char *code = "";
	const char *message = NULL;
	json_t *answer = len ? json_loadb(body, len, 0, NULL) : NULL;
	json_t *error = json_object_get(answer, "error");
	int r;

	if (json_is_object(error)) {
		code = json_string_value(json_object_get(error, "code"));
		message = json_string_value(json_object_get(error, "message"));
	}
	r = maas_error_of_status(status, code ? code : "");
	if (message)
		maas_error_set("%s", message);
	else
		maas_error_set("the server answered with status %ld; is it maasd?", status);
	json_decref(answer);
	return r;
}

/* ---- no answer */

static int fail_connect(const struct maas_url *url, long os_error)
{
	if (os_error == EACCES && url->unix_path)
		return maas_fail(
			-EACCES,
			"%s: permission denied: this user may not write to the socket, or "
			"not search its directory; maasd's --socket-mode and --socket-group "
			"say who may",
			url->text);
	/* Without a file at the socket's path there is no server. */
	int error = os_error == ENOENT || !os_error ? ECONNREFUSED : (int)os_error;

	return maas_fail(-error, "no server at %s: %s", url->text,
			 strerror(os_error ? (int)os_error : error));
}

int maas_fail_curl(const struct maas_url *url, CURLcode code, long os_error, uint32_t timeout_ms)
{
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return fail_connect(url, os_error);
	case CURLE_COULDNT_RESOLVE_HOST:
		return maas_fail(-EHOSTUNREACH, "no server at %s: no such host", url->text);
	case CURLE_OPERATION_TIMEDOUT:
		return maas_fail(-ETIMEDOUT, "%s did not answer within %u ms", url->text,
				 timeout_ms);
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
		return maas_fail(-ECONNRESET, "the connection to %s broke", url->text);
	case CURLE_OUT_OF_MEMORY:
		return maas_fail(-ENOMEM, "out of memory");
	default:
		return maas_fail(-EPROTO, "no sense in the answer of %s: %s", url->text,
				 curl_easy_strerror(code));
	}
}
