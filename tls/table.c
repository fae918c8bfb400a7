/* SPDX-License-Identifier: Apache-2.0 */
/* A table that is made, and what is said of it. Nothing changes but the count of references: any
 * thread. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/internal.h"

/*
 * TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption. AES-128-GCM comes
 * first because it costs least. No finite-field groups: the largest cost the server much more than
 * the client that asks for one.
 */
const char *maas_tls_priorities(void)
{
	return "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"
	       "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:-MAC-ALL:+AEAD:"
	       "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
	       "-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:-SIGN-DSA-SHA1:%SERVER_PRECEDENCE";
}

struct maas_tls *maas_tls_ref(struct maas_tls *tls)
{
	if (tls)
		atomic_fetch_add_explicit(&tls->references, 1, memory_order_relaxed);
	return tls;
}

void maas_tls_unref(struct maas_tls *tls)
{
	if (!tls || atomic_fetch_sub_explicit(&tls->references, 1, memory_order_acq_rel) != 1)
		return;
	if (tls->credentials)
		gnutls_certificate_free_credentials(tls->credentials);
	maas_buf_fini(&tls->names);
	free(tls);
}

bool maas_tls_same(const struct maas_tls *a, const struct maas_tls *b)
{
	return !memcmp(a->digest, b->digest, sizeof(a->digest));
}

enum maas_tls_client maas_tls_client(const struct maas_tls *tls)
{
	return tls->client;
}

uint64_t maas_tls_expiry_s(const struct maas_tls *tls)
{
	return tls->expiry_s;
}

uint64_t maas_tls_crl_expiry_s(const struct maas_tls *tls)
{
	return tls->crl_expiry_s;
}

const char *maas_tls_time(uint64_t time_s, char text[MAAS_TLS_TIME])
{
	time_t time = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&time, &tm) || !strftime(text, MAAS_TLS_TIME, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(text, MAAS_TLS_TIME, "%llu", (unsigned long long)time_s);
	return text;
}

void maas_tls_describe(const struct maas_tls *tls, struct maas_buf *out)
{
	char text[MAAS_TLS_TIME];

	maas_buf_printf(out, "names=%.*s until=\"%s\"", (int)tls->names.len,
			tls->names.len ? tls->names.data : "", maas_tls_time(tls->expiry_s, text));
}

void maas_tls_print(const struct maas_tls *tls, struct maas_buf *out)
{
	static const char *const clients[] = {"not asked for", "asked for", "required"};
	char text[MAAS_TLS_TIME];

	maas_buf_printf(out, "certificate names = %.*s\n", (int)tls->names.len,
			tls->names.len ? tls->names.data : "");
	maas_buf_printf(out, "certificate valid until = %s\n", maas_tls_time(tls->expiry_s, text));
	maas_buf_printf(out, "certificates of clients = %s\n", clients[tls->client]);
	if (tls->crl_expiry_s)
		maas_buf_printf(out, "revocation list valid until = %s\n",
				maas_tls_time(tls->crl_expiry_s, text));
}
