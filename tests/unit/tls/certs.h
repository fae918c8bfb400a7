/* SPDX-License-Identifier: Apache-2.0 */
/* certs: certificates, keys and revocation lists as a test wishes them. Whatever fails ends it. */
#ifndef MAAS_TESTS_TLS_CERTS_H
#define MAAS_TESTS_TLS_CERTS_H

#include <stdbool.h>
#include <stddef.h>

#include <sys/queue.h>

#include <gnutls/x509.h>

struct cert {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	SLIST_ENTRY(cert) link; /* of all */
};

struct cert_name {
	gnutls_x509_subject_alt_name_t type;
	const char *text;
	unsigned int len; /* 0: that of the text */
};

/* All zero: a certificate for a day, without names and purposes. */
struct cert_wish {
	bool ca;
	const char *purpose;  /* an OID, or NULL */
	long from_s, until_s; /* from now; 0, 0: since a minute, for a day */
	const struct cert_name *names;
	size_t num_names;
	const char *der; /* the names' extension as it is, or NULL: for names that GnuTLS does not
			    make */
	size_t der_len;
	const struct cert_name *permitted; /* the only names that a CA may sign for, or NULL */
	unsigned int rsa_bits;		   /* 0: an elliptic curve */
};

/* Signed by `ca`, or by itself. Lives until certs_free(). */
const struct cert *cert_make(const struct cert *ca, const struct cert_wish *wish);
void certs_free(void);
/* In PEM; the key has the mode 0600. */
void cert_write(const struct cert *cert, const char *path);
void cert_write_key(const struct cert *cert, const char *path);
/* The list of `ca`, on which `revoked` stands; NULL: nobody. To be replaced `until_s` from now. */
void cert_write_crl(const struct cert *ca, const struct cert *revoked, long until_s,
		    const char *path);

#endif
