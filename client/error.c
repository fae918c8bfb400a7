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
	{503, "too_many_connections", -EUSERS},
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

/* ---- TLS: by codes, because each library below curl has its own words */

static int fail_expired(const char *url)
{
	return maas_fail(-EKEYEXPIRED,
			 "the certificate of %s has expired: renew it there, or set this machine's "
			 "clock (`maas doctor`)",
			 url);
}

static int fail_early(const char *url)
{
	return maas_fail(-EKEYEXPIRED,
			 "the certificate of %s is not valid yet: is this machine's clock right "
			 "(`maas doctor`)?",
			 url);
}

static int fail_unknown_ca(const struct maas *maas)
{
	const char *file = maas->tls.file[MAAS_TLS_CA];

	if (file)
		return maas_fail(-EKEYREJECTED,
				 "the certificate of %s is not from a CA in %s: get the CA file "
				 "that belongs to the server",
				 maas->url.text, file);
	return maas_fail(-EKEYREJECTED,
			 "the certificate of %s is from a CA that this machine does not know: give "
			 "the CA file of the server (--ca-file, MAAS_CA_FILE)",
			 maas->url.text);
}

static int fail_name(const struct maas *maas)
{
	const char *name = strstr(maas->url.base, "://") + 3;

	return maas_fail(
		-EKEYREJECTED,
		"the certificate of %s is not for %.*s: use a name in the URL that it has, "
		"or say it (--server-name, MAAS_SERVER_NAME); `maas doctor` lists them",
		maas->url.text, (int)(strrchr(name, ':') - name), name);
}

/* Values of X509_verify_cert_error_string(3), and flags of gnutls_certificate_status_t. */
enum {
	X509_ERR_NOT_YET_VALID = 9,
	X509_ERR_HAS_EXPIRED = 10,
	X509_ERR_SELF_SIGNED = 18,
	X509_ERR_SELF_SIGNED_IN_CHAIN = 19,
	X509_ERR_NO_LOCAL_ISSUER = 20,
	X509_ERR_NO_FIRST_SIGNATURE = 21,
	GNUTLS_NO_SIGNER = 1 << 6,
	GNUTLS_NOT_ACTIVATED = 1 << 9,
	GNUTLS_EXPIRED = 1 << 10,
};

static int fail_verify_openssl(const struct maas *maas, long result)
{
	switch (result) {
	case 0: /* all is well with the certificate, or it was not said: only the name is left */
	case 1:
		return fail_name(maas);
	case X509_ERR_NOT_YET_VALID:
		return fail_early(maas->url.text);
	case X509_ERR_HAS_EXPIRED:
		return fail_expired(maas->url.text);
	case 2:
	case X509_ERR_SELF_SIGNED:
	case X509_ERR_SELF_SIGNED_IN_CHAIN:
	case X509_ERR_NO_LOCAL_ISSUER:
	case X509_ERR_NO_FIRST_SIGNATURE:
		return fail_unknown_ca(maas);
	default:
		return -EPROTO;
	}
}

static int fail_verify_gnutls(const struct maas *maas, long result)
{
	if (result & GNUTLS_NO_SIGNER)
		return fail_unknown_ca(maas);
	if (result & GNUTLS_EXPIRED)
		return fail_expired(maas->url.text);
	if (result & GNUTLS_NOT_ACTIVATED)
		return fail_early(maas->url.text);
	return result ? -EPROTO : fail_name(maas);
}

static int fail_verify(const struct maas *maas, CURL *easy)
{
	struct curl_tlssessioninfo *session = NULL;
	long result = 0;
	int r = -EPROTO;

	curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &result);
	curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &session);
	if (session && session->backend == CURLSSLBACKEND_OPENSSL)
		r = fail_verify_openssl(maas, result);
	else if (session && session->backend == CURLSSLBACKEND_GNUTLS)
		r = fail_verify_gnutls(maas, result);
	if (r != -EPROTO)
		return r;
	return maas_fail(-EKEYREJECTED,
			 "the certificate of %s does not prove that it is the server (result %ld): "
			 "see its purpose, names, dates and CA with `maas doctor`",
			 maas->url.text, result);
}

static int fail_bad_ca(const struct maas *maas)
{
	const char *file = maas->tls.file[MAAS_TLS_CA];

	return maas_fail(-EINVAL, "%s %s: no certificate in it can be used",
			 file ? "CA file" : "this machine's CAs, for",
			 file ? file : maas->url.text);
}

/* A server that refuses a client's certificate may do so without a word. */
static int fail_broken(const struct maas *maas, bool mute)
{
	const char *cert = maas->tls.file[MAAS_TLS_CERT];
	const char *url = maas->url.text;

	if (!mute || !maas->url.tls)
		return maas_fail(-ECONNRESET, "the connection to %s broke", url);
	if (cert)
		return maas_fail(-ECONNRESET,
				 "%s ended the connection before it answered: it may refuse the "
				 "certificate in %s (`maas doctor` looks at it)",
				 url, cert);
	return maas_fail(-ECONNRESET,
			 "%s ended the connection before it answered: it may want a certificate "
			 "(--cert-file, MAAS_CERT_FILE)",
			 url);
}

/* Too late, or never begun: nothing was asked yet. */
static int fail_handshake(const struct maas *maas, int error, const char *what)
{
	const char *cert = maas->tls.file[MAAS_TLS_CERT];

	return maas_fail(
		error,
		"the TLS handshake with %s %s: does it speak TLS 1.2 or 1.3, and accept %s%s? "
		"`maas doctor` tells more",
		maas->url.text, what,
		cert ? "the certificate in " : "a client without a certificate", cert ? cert : "");
}

/* ---- curl's codes */

int maas_fail_curl(const struct maas *maas, CURL *easy, CURLcode code, uint32_t timeout_ms,
		   bool mute)
{
	const char *url = maas->url.text;
	long os_error = 0;

	switch (code) {
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
		return fail_connect(&maas->url, os_error);
	case CURLE_COULDNT_RESOLVE_HOST:
		return maas_fail(-EHOSTUNREACH, "no server at %s: no such host", url);
	case CURLE_OPERATION_TIMEDOUT:
		if (mute)
			return fail_handshake(maas, -ETIMEDOUT, "did not end in time");
		return maas_fail(-ETIMEDOUT, "%s did not answer within %u ms", url, timeout_ms);
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
		return fail_broken(maas, mute);
	case CURLE_SSL_CONNECT_ERROR:
		return fail_handshake(maas, -EPROTO, "failed");
	case CURLE_SSL_CACERT_BADFILE:
		return fail_bad_ca(maas);
	case CURLE_PEER_FAILED_VERIFICATION:
		return fail_verify(maas, easy);
	case CURLE_SSL_CLIENTCERT:
		return maas_fail(
			-EACCES,
			"%s wants a certificate of the client: --cert-file, MAAS_CERT_FILE", url);
	case CURLE_OUT_OF_MEMORY:
		return maas_fail(-ENOMEM, "out of memory");
	default:
		return maas_fail(-EPROTO, "no sense in the answer of %s: %s", url,
				 curl_easy_strerror(code));
	}
}
