/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a certificate says and proves. libmicrohttpd asks a client for one and looks at none: any
 * self-signed certificate gets through its handshake. No state: any thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tls/internal.h"

#define MAX_CHAIN  16
#define NAME_BYTES 512
/* 112 bits: RSA of 2048 bits and better, no SHA-1. */
#define FLAGS ((unsigned int)GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM))

/* ---- names */

struct name {
	char text[NAME_BYTES];
	size_t len;
	int type; /* below 0: it is of no use */
};

/* Reads the subject alternative name number `index`. False behind the last. */
static bool name_at(gnutls_x509_crt_t crt, unsigned int index, struct name *name)
{
	name->len = sizeof(name->text) - 1;
	name->type = gnutls_x509_crt_get_subject_alt_name(crt, index, name->text, &name->len, NULL);
	if (name->type < 0)
		return name->type != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
	name->text[name->len] = '\0';
	/* Whoever reads such a name as a string sees another one. */
	if (name->type != GNUTLS_SAN_IPADDRESS && strlen(name->text) != name->len)
		name->type = GNUTLS_E_INVALID_UTF8_STRING;
	return true;
}

static bool is_identity(const struct name *name)
{
	return (name->type == GNUTLS_SAN_DNSNAME || name->type == GNUTLS_SAN_URI) && name->len;
}

void maas_tls_write_names(gnutls_x509_crt_t crt, struct maas_buf *out)
{
	char address[INET6_ADDRSTRLEN];
	struct name name;

	for (unsigned int i = 0; name_at(crt, i, &name); i++) {
		bool ip = name.type == GNUTLS_SAN_IPADDRESS;

		if (ip && !inet_ntop(name.len == 4 ? AF_INET : AF_INET6, name.text, address,
				     sizeof(address)))
			continue;
		if (ip || is_identity(&name))
			maas_buf_printf(out, "%s%s", out->len ? "," : "", ip ? address : name.text);
	}
}

/* The names in one piece of memory, behind each other in `text`, each with its type before it. */
static struct maas_tls_peer *make_peer(const struct maas_buf *text, uint32_t count)
{
	struct maas_tls_peer *peer;
	size_t head = sizeof(*peer) + count * sizeof(peer->names[0]);
	char *at;

	peer = calloc(1, head + text->len);
	if (!peer)
		return NULL;
	at = (char *)peer + head;
	if (text->len)
		memcpy(at, text->data, text->len);
	peer->num_names = count;
	for (uint32_t i = 0; i < count; i++) {
		peer->names[i].is_uri = *at++ == 'u';
		peer->names[i].text = at;
		at += strlen(at) + 1;
	}
	return peer;
}

static int take_names(gnutls_x509_crt_t crt, bool no_uris, char *error,
		      struct maas_tls_peer **ret_peer)
{
	struct maas_buf text = {0};
	uint32_t count = 0;
	struct name name;
	int r = 0;

	for (unsigned int i = 0; !r && name_at(crt, i, &name); i++) {
		if (i == MAAS_TLS_MAX_NAMES) {
			snprintf(error, MAAS_TLS_ERROR, "it has more than %d names",
				 MAAS_TLS_MAX_NAMES);
			r = -EKEYREJECTED;
		} else if (name.type == GNUTLS_SAN_URI && no_uris) {
			snprintf(error, MAAS_TLS_ERROR,
				 "it has a URI, and a CA of its chain may sign for some URIs only, "
				 "which this server cannot tell from others: use the name of a "
				 "host");
			r = -EKEYREJECTED;
		} else if (is_identity(&name)) {
			maas_buf_str(&text, name.type == GNUTLS_SAN_URI ? "u" : "d");
			maas_buf_add(&text, name.text, name.len + 1);
			count++;
		}
	}
	*ret_peer = r || text.error ? NULL : make_peer(&text, count);
	maas_buf_fini(&text);
	return r || *ret_peer ? r : -ENOMEM;
}

/* ---- whether it is valid */

/* Any but that there are no more of them: a constraint that cannot be read is one. */
static bool names_uris(int (*get)(gnutls_x509_name_constraints_t constraints, unsigned int index,
				  unsigned int *type, gnutls_datum_t *name),
		       gnutls_x509_name_constraints_t constraints)
{
	gnutls_datum_t name;
	unsigned int type;
	int r = 0;

	for (unsigned int i = 0; !r; i++) {
		r = get(constraints, i, &type, &name);
		if (!r && type == GNUTLS_SAN_URI)
			return true;
	}
	return r != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
}

static bool constrains_uris(gnutls_x509_crt_t crt)
{
	gnutls_x509_name_constraints_t constraints;
	unsigned int critical;
	bool found;
	int r;

	if (gnutls_x509_name_constraints_init(&constraints))
		return true;
	r = gnutls_x509_crt_get_name_constraints(crt, constraints, 0, &critical);
	found = r ? r != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE
		  : names_uris(gnutls_x509_name_constraints_get_permitted, constraints) ||
				names_uris(gnutls_x509_name_constraints_get_excluded, constraints);
	gnutls_x509_name_constraints_deinit(constraints);
	return found;
}

/* Whether a CA of the chain may sign for some URIs only (RFC 5280, 4.2.1.10). GnuTLS holds the
 * names of hosts to that, and lets any URI pass. */
static bool chain_constrains_uris(const struct maas_tls *tls, gnutls_x509_crt_t *chain,
				  unsigned int count)
{
	bool found = false;

	for (unsigned int i = 0; !found && i < count; i++) {
		gnutls_x509_crt_t issuer;

		found = i && constrains_uris(chain[i]);
		if (gnutls_x509_trust_list_get_issuer(tls->trust, chain[i], &issuer,
						      GNUTLS_TL_GET_COPY))
			continue;
		found = found || constrains_uris(issuer);
		gnutls_x509_crt_deinit(issuer);
	}
	return found;
}

static int explain(unsigned int status, char *error)
{
	static const struct {
		unsigned int bit;
		int error;
		const char *text;
	} reasons[] = {
		{GNUTLS_CERT_REVOKED, -EKEYREVOKED, "its CA has revoked it"},
		{GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE, -EKEYREJECTED,
		 "the server's --tls-client-crl is of the future: is its clock right?"},
		{GNUTLS_CERT_SIGNER_NOT_FOUND, -EKEYREJECTED,
		 "no CA of --tls-client-ca has signed it"},
		{GNUTLS_CERT_SIGNER_NOT_CA, -EKEYREJECTED,
		 "whoever signed it may not: that is no CA's certificate"},
		{GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, -EKEYREJECTED,
		 "a CA of its chain may not sign for such a name, or not for a CA below it"},
		{GNUTLS_CERT_EXPIRED, -EKEYEXPIRED, "it has expired"},
		{GNUTLS_CERT_NOT_ACTIVATED, -EKEYEXPIRED,
		 "it is not valid yet: are both clocks right?"},
		{GNUTLS_CERT_PURPOSE_MISMATCH, -EKEYREJECTED,
		 "it is not for clients: its extended key usage must have clientAuth"},
		{GNUTLS_CERT_INSECURE_ALGORITHM, -EKEYREJECTED,
		 "its key or a signature is too weak: RSA needs 2048 bits, and SHA-1 is no use"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(reasons); i++)
		if (status & reasons[i].bit) {
			snprintf(error, MAAS_TLS_ERROR, "%s", reasons[i].text);
			return reasons[i].error;
		}
	snprintf(error, MAAS_TLS_ERROR, "it cannot be verified (status %#x)", status);
	return -EKEYREJECTED;
}

/* GnuTLS looks at the date of a list when it takes the list, and never again. */
static bool has_old_crl(const struct maas_tls *tls)
{
	return tls->crl_expiry_s && maas_clock_wall_s() >= tls->crl_expiry_s;
}

static int verify(const struct maas_tls *tls, gnutls_x509_crt_t *chain, unsigned int count,
		  char *error)
{
	gnutls_typed_vdata_st purpose = {
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT,
	};
	unsigned int status = 0;

	if (has_old_crl(tls)) {
		snprintf(error, MAAS_TLS_ERROR,
			 "the server's --tls-client-crl is out of date: it must be replaced");
		return -EKEYREJECTED;
	}
	if (gnutls_x509_trust_list_verify_crt2(tls->trust, chain, count, &purpose, 1, FLAGS,
					       &status, NULL)) {
		snprintf(error, MAAS_TLS_ERROR, "it cannot be verified");
		return -EKEYREJECTED;
	}
	return status ? explain(status, error) : 0;
}

static bool trusts_issuer(gnutls_x509_trust_list_t trust, gnutls_x509_crt_t crt)
{
	gnutls_x509_crt_t issuer;

	if (!trust || gnutls_x509_trust_list_get_issuer(trust, crt, &issuer, GNUTLS_TL_GET_COPY))
		return false;
	gnutls_x509_crt_deinit(issuer);
	return true;
}

gnutls_x509_crt_t maas_tls_issuer(gnutls_x509_trust_list_t trust, gnutls_x509_crt_t *chain,
				  unsigned int count, gnutls_x509_crt_t crt)
{
	gnutls_x509_crt_t best = NULL;

	if (trusts_issuer(trust, crt))
		return NULL;
	for (unsigned int i = 0; i < count; i++) {
		if (!gnutls_x509_crt_check_issuer(crt, chain[i]) ||
		    gnutls_x509_crt_check_issuer(chain[i], chain[i]))
			continue;
		if (!best || gnutls_x509_crt_get_expiration_time(chain[i]) >
				     gnutls_x509_crt_get_expiration_time(best))
			best = chain[i];
	}
	return best;
}

/* Of a chain that is good, which is also why the dates are there. */
static uint64_t chain_expiry(const struct maas_tls *tls, gnutls_x509_crt_t *chain,
			     unsigned int count)
{
	gnutls_x509_crt_t crt = chain[0];
	uint64_t first = tls->crl_expiry_s ? tls->crl_expiry_s : UINT64_MAX;

	/* Certificates may go round in a circle. */
	for (unsigned int i = 0; crt && i < count; i++) {
		uint64_t until = (uint64_t)gnutls_x509_crt_get_expiration_time(crt);

		first = until < first ? until : first;
		crt = maas_tls_issuer(tls->trust, chain, count, crt);
	}
	return first;
}

/* Makes the chain that the client has shown. Returns how many there are. Errors: -EKEYREJECTED,
 * -ENOMEM. */
static int import_chain(const gnutls_datum_t *shown, unsigned int count, gnutls_x509_crt_t *chain,
			char *error)
{
	int r = 0;

	if (count > MAX_CHAIN) {
		snprintf(error, MAAS_TLS_ERROR, "it comes with more than %d others", MAX_CHAIN - 1);
		return -EKEYREJECTED;
	}
	for (unsigned int i = 0; i < count; i++) {
		if (gnutls_x509_crt_init(&chain[i])) {
			chain[i] = NULL;
			return -ENOMEM;
		}
		r = gnutls_x509_crt_import(chain[i], &shown[i], GNUTLS_X509_FMT_DER);
		if (r) {
			snprintf(error, MAAS_TLS_ERROR, "it cannot be read: %s",
				 gnutls_strerror(r));
			return -EKEYREJECTED;
		}
	}
	return 0;
}

int maas_tls_peer_verify(const struct maas_tls *tls, const struct maas_tls_stream *stream,
			 char error[MAAS_TLS_ERROR], struct maas_tls_peer **ret_peer)
{
	gnutls_x509_crt_t chain[MAX_CHAIN] = {NULL};
	const gnutls_datum_t *shown;
	struct maas_tls_peer *peer = NULL;
	unsigned int count = 0;
	int r;

	*error = '\0';
	shown = gnutls_certificate_get_peers(stream->session, &count);
	if (!shown || !count)
		return -ENODATA;
	r = import_chain(shown, count, chain, error);
	if (!r)
		r = verify(tls, chain, count, error);
	if (!r)
		r = take_names(chain[0], chain_constrains_uris(tls, chain, count), error, &peer);
	if (!r) {
		peer->expiry_s = chain_expiry(tls, chain, count);
		*ret_peer = peer;
	}
	for (unsigned int i = 0; i < MAX_CHAIN && chain[i]; i++)
		gnutls_x509_crt_deinit(chain[i]);
	return r;
}
