/* SPDX-License-Identifier: Apache-2.0 */
/* Inside tls: load (files into a table), table, stream (a connection), peer (its client). */
#ifndef MAAS_TLS_INTERNAL_H
#define MAAS_TLS_INTERNAL_H

#include <stdatomic.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "tls/tls.h"

#define MAAS_TLS_HASH_BYTES 32

/* Constant once it is made, but for the references. */
struct maas_tls {
	gnutls_certificate_credentials_t credentials; /* certificate, key, and those that follow */
	gnutls_x509_trust_list_t trust;		      /* of the credentials */
	enum maas_tls_client client;
	uint64_t expiry_s;
	uint64_t crl_expiry_s; /* of the revocation list to be replaced first; 0: none is */
	uint8_t digest[MAAS_TLS_HASH_BYTES]; /* of the files */
	struct maas_buf names;		     /* of the certificate, for people */

	_Atomic uint32_t references;
};

/* Appends the names of a certificate to `out`, with commas between them. */
void maas_tls_write_names(gnutls_x509_crt_t crt, struct maas_buf *out);

/*
 * The way from the first certificate of a chain to a CA: the one behind `crt`, which is its
 * issuer's (the one that is valid longest, where the issuer has several). NULL at the end: `trust`,
 * if any, has the issuer, or the chain has none but a root, which whoever believes in it has. What
 * else the chain holds is of no consequence.
 */
gnutls_x509_crt_t maas_tls_issuer(gnutls_x509_trust_list_t trust, gnutls_x509_crt_t *chain,
				  unsigned int count, gnutls_x509_crt_t crt);

/* "2027-01-31 23:59:59 UTC" */
#define MAAS_TLS_TIME 32
const char *maas_tls_time(uint64_t time_s, char text[MAAS_TLS_TIME]);

#endif
