/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a table: read, held to each other and to the clock, and made credentials of GnuTLS.
 * They are all right or all wrong. No state: any thread.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>

#include "tls/internal.h"

static_assert(MAAS_TLS_ERROR >= MAAS_FILE_ERROR, "one buffer for both");

/* What the reading of the files goes through. */
struct loader {
	struct maas_tls *tls;
	const struct maas_tls_files *files;
	gnutls_hash_hd_t hash; /* of all files */
	char *error;
};

static int refuse(struct loader *loader, int r, const char *fmt, ...) MAAS_PRINTF(3, 4);

static int refuse(struct loader *loader, int r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(loader->error, MAAS_TLS_ERROR, fmt, args);
	va_end(args);
	return r;
}

static int read_file(struct loader *loader, const char *path, bool secret, struct maas_buf *text)
{
	uint64_t len;
	int r = maas_file_read(path, MAAS_TLS_MAX_FILE, secret, loader->error, text);

	if (r)
		return r;
	len = text->len;
	if (gnutls_hash(loader->hash, &len, sizeof(len)) ||
	    gnutls_hash(loader->hash, text->data, text->len))
		return -EIO;
	return 0;
}

static void forget(struct maas_buf *text)
{
	if (text->data)
		explicit_bzero(text->data, text->cap);
	maas_buf_fini(text);
}

static gnutls_datum_t datum_of(const struct maas_buf *text)
{
	return (gnutls_datum_t){(unsigned char *)text->data, (unsigned int)text->len};
}

/* ---- the certificate and its key */

static int explain_pair(struct loader *loader, int r)
{
	const char *cert = loader->files->cert, *key = loader->files->key;

	if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return refuse(loader, -EINVAL,
			      "the key %.150s is not that of the certificate %.150s: give the two "
			      "that were made together",
			      key, cert);
	if (r == GNUTLS_E_DECRYPTION_FAILED)
		return refuse(loader, -EINVAL,
			      "the key %.200s is encrypted: take the password off with openssl "
			      "pkey, and keep others out by the file's mode",
			      key);
	return refuse(loader, -EINVAL,
		      "%.150s and %.150s are no certificate and its key in PEM: %s", cert, key,
		      gnutls_strerror(r));
}

static int load_pair(struct loader *loader)
{
	struct maas_buf cert = {0}, key = {0};
	gnutls_datum_t cert_pem, key_pem;
	int r;

	r = read_file(loader, loader->files->cert, false, &cert);
	if (!r)
		r = read_file(loader, loader->files->key, true, &key);
	if (!r) {
		cert_pem = datum_of(&cert);
		key_pem = datum_of(&key);
		r = gnutls_certificate_set_x509_key_mem2(loader->tls->credentials, &cert_pem,
							 &key_pem, GNUTLS_X509_FMT_PEM, NULL, 0);
		r = r < 0 ? explain_pair(loader, r) : 0;
	}
	forget(&key);
	maas_buf_fini(&cert);
	return r;
}

static int check_time(struct loader *loader, gnutls_x509_crt_t crt)
{
	uint64_t now_s = maas_clock_wall_s();
	time_t from = gnutls_x509_crt_get_activation_time(crt);
	time_t until = gnutls_x509_crt_get_expiration_time(crt);
	char text[MAAS_TLS_TIME];

	if (from == (time_t)-1 || until == (time_t)-1)
		return refuse(loader, -EINVAL, "%.200s has a certificate without dates",
			      loader->files->cert);
	if (now_s < (uint64_t)from)
		return refuse(loader, -EKEYEXPIRED,
			      "%.200s is valid from %s on: is this machine's clock right?",
			      loader->files->cert, maas_tls_time((uint64_t)from, text));
	if (now_s >= (uint64_t)until)
		return refuse(loader, -EKEYEXPIRED,
			      "%.200s expired at %s: get a new certificate for the key, or new "
			      "ones of both",
			      loader->files->cert, maas_tls_time((uint64_t)until, text));
	if (!loader->tls->expiry_s || (uint64_t)until < loader->tls->expiry_s)
		loader->tls->expiry_s = (uint64_t)until;
	return 0;
}

/* What every client would refuse is found here, where somebody reads it. */
static int check_certificate(struct loader *loader)
{
	gnutls_x509_crt_t *chain, crt;
	unsigned int count;
	int r;

	if (gnutls_certificate_get_x509_crt(loader->tls->credentials, 0, &chain, &count) || !count)
		return -ENOMEM;
	crt = chain[0];
	r = 0;
	/* Certificates may go round in a circle. */
	for (unsigned int i = 0; crt && i < count && !r; i++) {
		r = check_time(loader, crt);
		crt = maas_tls_issuer(NULL, chain, count, crt);
	}
	if (!r && !gnutls_x509_crt_check_key_purpose(chain[0], GNUTLS_KP_TLS_WWW_SERVER, 0))
		r = refuse(loader, -EINVAL,
			   "%.200s is not for servers: its extended key usage must have "
			   "serverAuth, or be left out",
			   loader->files->cert);
	if (!r)
		maas_tls_write_names(chain[0], &loader->tls->names);
	if (!r && !loader->tls->names.len)
		r = refuse(loader, -EINVAL,
			   "%.200s names no host that a client looks at: it needs a subject "
			   "alternative name (DNS or IP)",
			   loader->files->cert);
	for (unsigned int i = 0; i < count; i++)
		gnutls_x509_crt_deinit(chain[i]);
	gnutls_free(chain);
	return r ? r : loader->tls->names.error;
}

/* ---- whom to believe */

static int load_ca(struct loader *loader)
{
	struct maas_buf text = {0};
	gnutls_datum_t pem;
	int r;

	r = read_file(loader, loader->files->client_ca, false, &text);
	if (!r) {
		pem = datum_of(&text);
		r = gnutls_certificate_set_x509_trust_mem(loader->tls->credentials, &pem,
							  GNUTLS_X509_FMT_PEM);
		if (r <= 0)
			r = refuse(loader, -EINVAL, "%.200s has no CA's certificate in PEM: %s",
				   loader->files->client_ca,
				   r ? gnutls_strerror(r) : "it is empty");
		else
			r = 0;
	}
	maas_buf_fini(&text);
	return r;
}

static int check_crl(struct loader *loader, gnutls_x509_crl_t crl)
{
	time_t until = gnutls_x509_crl_get_next_update(crl);
	uint64_t *first = &loader->tls->crl_expiry_s;
	char text[MAAS_TLS_TIME];

	if (until == (time_t)-1)
		return 0; /* it has no such time */
	if (!*first || (uint64_t)until < *first)
		*first = (uint64_t)until;
	if (maas_clock_wall_s() >= (uint64_t)until)
		return refuse(loader, -EKEYEXPIRED,
			      "%.200s was to be replaced at %s: get the CA's new list",
			      loader->files->client_crl, maas_tls_time((uint64_t)until, text));
	return 0;
}

static int add_crls(struct loader *loader, const gnutls_datum_t *pem)
{
	gnutls_x509_crl_t *crls = NULL;
	unsigned int count = 0;
	int r, added;

	r = gnutls_x509_crl_list_import2(&crls, &count, pem, GNUTLS_X509_FMT_PEM, 0);
	if (r < 0 || !count)
		return refuse(loader, -EINVAL, "%.200s has no revocation list in PEM: %s",
			      loader->files->client_crl,
			      r < 0 ? gnutls_strerror(r) : "it is empty");
	r = 0;
	for (unsigned int i = 0; i < count && !r; i++)
		r = check_crl(loader, crls[i]);
	added = r ? 0
		  : gnutls_x509_trust_list_add_crls(loader->tls->trust, crls, count,
						    GNUTLS_TL_VERIFY_CRL, 0);
	if (!r && added < (int)count)
		r = refuse(loader, -EINVAL, "%.150s has a list that no CA of %.150s has signed",
			   loader->files->client_crl, loader->files->client_ca);
	/* The trust list frees what it was given, and what it did not take. */
	for (unsigned int i = 0; i < count && added <= 0; i++)
		gnutls_x509_crl_deinit(crls[i]);
	gnutls_free(crls);
	return r;
}

static int load_crl(struct loader *loader)
{
	struct maas_buf text = {0};
	gnutls_datum_t pem;
	int r;

	r = read_file(loader, loader->files->client_crl, false, &text);
	if (!r) {
		pem = datum_of(&text);
		r = add_crls(loader, &pem);
	}
	maas_buf_fini(&text);
	return r;
}

/* ---- the whole */

static int load(struct loader *loader)
{
	struct maas_tls *tls = loader->tls;
	int r;

	if (gnutls_certificate_allocate_credentials(&tls->credentials))
		return -ENOMEM;
	gnutls_certificate_get_trust_list(tls->credentials, &tls->trust);
	r = load_pair(loader);
	if (!r)
		r = check_certificate(loader);
	if (!r && loader->files->client_ca)
		r = load_ca(loader);
	if (!r && loader->files->client_crl)
		r = load_crl(loader);
	return r;
}

int maas_tls_load(const struct maas_tls_files *files, char error[MAAS_TLS_ERROR],
		  struct maas_tls **ret_tls)
{
	struct maas_tls *tls = calloc(1, sizeof(*tls));
	struct loader loader = {.tls = tls, .files = files, .error = error};
	int r;

	*error = '\0';
	if (!tls || gnutls_hash_init(&loader.hash, GNUTLS_DIG_SHA256)) {
		free(tls);
		snprintf(error, MAAS_TLS_ERROR, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	atomic_init(&tls->references, 1);
	tls->client = files->client_ca ? files->client : MAAS_TLS_CLIENT_NONE;
	r = load(&loader);
	gnutls_hash_deinit(loader.hash, tls->digest);
	if (r && !*error)
		snprintf(error, MAAS_TLS_ERROR, "%s", strerror(-r));
	if (r)
		maas_tls_unref(tls);
	else
		*ret_tls = tls;
	return r;
}
