/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, keys and revocation lists as a test wishes them, made by GnuTLS. Whatever fails
 * ends the test. */
#ifndef MAAS_TESTS_TLS_CERTS_H
#define MAAS_TESTS_TLS_CERTS_H

#include <fcntl.h>
#include <sys/queue.h>
#include <unistd.h>

#include <gnutls/x509.h>

#include "tests/unit/unit.h"

#define DAY_S 86400L

struct cert {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	SLIST_ENTRY(cert) link; /* of all */
};

struct cert_name {
	const char *text;
	gnutls_x509_subject_alt_name_t type;
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
	const struct cert *renews;	   /* whose key and name it has, or NULL: its own */
};

static void must(int r, const char *what)
{
	if (r < 0)
		fail_msg("%s: %s", what, gnutls_strerror(r));
}
#define MUST(call) must(call, #call)

static gnutls_x509_privkey_t make_key(const struct cert_wish *wish)
{
	gnutls_x509_privkey_t key;

	MUST(gnutls_x509_privkey_init(&key));
	if (wish->renews)
		MUST(gnutls_x509_privkey_cpy(key, wish->renews->key));
	else if (wish->rsa_bits)
		MUST(gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, wish->rsa_bits, 0));
	else
		MUST(gnutls_x509_privkey_generate(
			key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	return key;
}

static void set_names(gnutls_x509_crt_t crt, const struct cert_wish *wish)
{
	for (size_t i = 0; i < wish->num_names; i++) {
		const struct cert_name *name = &wish->names[i];
		unsigned int len = name->len ? name->len : (unsigned int)strlen(name->text);

		MUST(gnutls_x509_crt_set_subject_alt_name(crt, name->type, name->text, len,
							  GNUTLS_FSAN_APPEND));
	}
}

static void set_permitted(gnutls_x509_crt_t crt, const struct cert_name *permitted)
{
	gnutls_x509_name_constraints_t constraints;
	gnutls_datum_t name = {(unsigned char *)(uintptr_t)permitted->text,
			       (unsigned int)strlen(permitted->text)};

	MUST(gnutls_x509_name_constraints_init(&constraints));
	MUST(gnutls_x509_name_constraints_add_permitted(constraints, permitted->type, &name));
	MUST(gnutls_x509_crt_set_name_constraints(crt, constraints, 1));
	gnutls_x509_name_constraints_deinit(constraints);
}

static void set_extensions(gnutls_x509_crt_t crt, const struct cert_wish *wish)
{
	if (wish->ca) {
		MUST(gnutls_x509_crt_set_basic_constraints(crt, 1, -1));
		MUST(gnutls_x509_crt_set_key_usage(crt,
						   GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
	}
	if (wish->permitted)
		set_permitted(crt, wish->permitted);
	if (wish->der)
		MUST(gnutls_x509_crt_set_extension_by_oid(crt, GNUTLS_X509EXT_OID_SAN, wish->der,
							  wish->der_len, 0));
	if (wish->purpose)
		MUST(gnutls_x509_crt_set_key_purpose_oid(crt, wish->purpose, 0));
}

static void set_dn(gnutls_x509_crt_t crt, const struct cert *renews, unsigned int serial)
{
	char name[32];
	size_t len = sizeof(name);

	if (renews)
		MUST(gnutls_x509_crt_get_dn(renews->crt, name, &len));
	else
		snprintf(name, sizeof(name), "CN=test %u", serial);
	MUST(gnutls_x509_crt_set_dn(crt, name, NULL));
}

/* Only of a certificate that was read does GnuTLS know whom it follows in a chain. */
static void reread(gnutls_x509_crt_t crt)
{
	gnutls_datum_t der;

	MUST(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der));
	MUST(gnutls_x509_crt_import(crt, &der, GNUTLS_X509_FMT_DER));
	gnutls_free(der.data);
}

static SLIST_HEAD(, cert) certs;

/* Signed by `ca`, or by itself. Lives until certs_free(). */
static const struct cert *cert_make(const struct cert *ca, const struct cert_wish *wish)
{
	static unsigned int serial;
	struct cert *cert = calloc(1, sizeof(*cert));
	unsigned char number[4];
	time_t now = time(NULL);
	bool given = wish->from_s || wish->until_s;

	assert_non_null(cert);
	SLIST_INSERT_HEAD(&certs, cert, link);
	cert->key = make_key(wish);
	serial++;
	memcpy(number, &serial, sizeof(number));
	number[3] = 0x7f;
	MUST(gnutls_x509_crt_init(&cert->crt));
	MUST(gnutls_x509_crt_set_version(cert->crt, 3));
	MUST(gnutls_x509_crt_set_serial(cert->crt, number, sizeof(number)));
	set_dn(cert->crt, wish->renews, serial);
	MUST(gnutls_x509_crt_set_activation_time(cert->crt, now + (given ? wish->from_s : -60)));
	MUST(gnutls_x509_crt_set_expiration_time(cert->crt, now + (given ? wish->until_s : DAY_S)));
	MUST(gnutls_x509_crt_set_key(cert->crt, cert->key));
	set_extensions(cert->crt, wish);
	set_names(cert->crt, wish);
	MUST(gnutls_x509_crt_sign2(cert->crt, (ca ? ca : cert)->crt, (ca ? ca : cert)->key,
				   GNUTLS_DIG_SHA256, 0));
	reread(cert->crt);
	return cert;
}

static void certs_free(void)
{
	struct cert *cert;

	while ((cert = SLIST_FIRST(&certs))) {
		SLIST_REMOVE_HEAD(&certs, link);
		gnutls_x509_crt_deinit(cert->crt);
		gnutls_x509_privkey_deinit(cert->key);
		free(cert);
	}
}

static void write_file(const char *path, int mode, gnutls_datum_t *text, int how)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | how, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text->data, text->size), text->size);
	close(fd);
	gnutls_free(text->data);
}

/* In PEM; the key has the mode 0600. */
static void cert_write(const struct cert *cert, const char *path)
{
	gnutls_datum_t text;

	MUST(gnutls_x509_crt_export2(cert->crt, GNUTLS_X509_FMT_PEM, &text));
	write_file(path, 0644, &text, O_TRUNC);
}

/* Behind what is there. */
static inline void cert_add(const struct cert *cert, const char *path)
{
	gnutls_datum_t text;

	MUST(gnutls_x509_crt_export2(cert->crt, GNUTLS_X509_FMT_PEM, &text));
	write_file(path, 0644, &text, O_APPEND);
}

static void cert_write_key(const struct cert *cert, const char *path)
{
	gnutls_datum_t text;

	MUST(gnutls_x509_privkey_export2(cert->key, GNUTLS_X509_FMT_PEM, &text));
	write_file(path, 0600, &text, O_TRUNC);
}

/* The list of `ca`, on which `revoked` stands; NULL: nobody. To be replaced `until_s` from now. */
static void cert_write_crl(const struct cert *ca, const struct cert *revoked, long until_s,
			   const char *path)
{
	gnutls_x509_crl_t crl;
	gnutls_datum_t text;
	time_t now = time(NULL);

	MUST(gnutls_x509_crl_init(&crl));
	MUST(gnutls_x509_crl_set_version(crl, 2));
	MUST(gnutls_x509_crl_set_this_update(crl, now - 2 * DAY_S));
	MUST(gnutls_x509_crl_set_next_update(crl, now + until_s));
	MUST(gnutls_x509_crl_set_number(crl, "\1", 1));
	if (revoked)
		MUST(gnutls_x509_crl_set_crt(crl, revoked->crt, now - DAY_S));
	MUST(gnutls_x509_crl_sign2(crl, ca->crt, ca->key, GNUTLS_DIG_SHA256, 0));
	MUST(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &text));
	write_file(path, 0644, &text, O_TRUNC);
	gnutls_x509_crl_deinit(crl);
}

#endif
