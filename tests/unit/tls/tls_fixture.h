/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of tls: a directory with the files of a server, and certificates for it. */
#ifndef MAAS_TESTS_UNIT_TLS_TLS_FIXTURE_H
#define MAAS_TESTS_UNIT_TLS_TLS_FIXTURE_H

#include <sys/stat.h>

#include "tests/unit/tls/certs.h"
#include "tls/tls.h"

#define NAMES(...)                                                                                 \
	.names = (const struct cert_name[]){__VA_ARGS__},                                          \
	.num_names = sizeof((const struct cert_name[]){__VA_ARGS__}) / sizeof(struct cert_name)
#define DNS(text) {text, GNUTLS_SAN_DNSNAME, 0}
#define URI(text) {text, GNUTLS_SAN_URI, 0}

static char directory[] = "/tmp/test_tls.XXXXXX";
static const struct cert *ca, *other, *server;
static struct maas_tls_files files;

static char error[MAAS_TLS_ERROR];
static char paths[16][64];
static unsigned int num_paths;

/* The path of a file of this name. */
static const char *in(const char *name)
{
	char path[sizeof(paths[0])];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	for (unsigned int i = 0; i < num_paths; i++)
		if (!strcmp(paths[i], path))
			return paths[i];
	return memcpy(paths[num_paths++], path, sizeof(path));
}

#define CERT(signer, ...) cert_make(signer, &(const struct cert_wish){__VA_ARGS__})
/* A client's, if the wish has no other purpose. */
#define CLIENT(signer, ...) client_cert(signer, (struct cert_wish){__VA_ARGS__})

static inline const struct cert *client_cert(const struct cert *signer, struct cert_wish wish)
{
	if (!wish.purpose)
		wish.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
	return cert_make(signer, &wish);
}

#define EXPIRED .from_s = -DAY_S, .until_s = -1

static inline uint64_t expiry_s(const struct cert *cert)
{
	return (uint64_t)gnutls_x509_crt_get_expiration_time(cert->crt);
}

static inline void says(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
}

static inline struct maas_tls *load(void)
{
	struct maas_tls *tls = NULL;

	if (maas_tls_load(&files, error, &tls))
		fail_msg("%s", error);
	return tls;
}

static inline void tls_files(void)
{
	files = (struct maas_tls_files){
		.cert = in("server.crt"),
		.key = in("server.key"),
		.client_ca = in("ca.crt"),
		.client = MAAS_TLS_CLIENT_OPTIONAL,
	};
	cert_write(server, in("server.crt"));
	cert_write_key(server, in("server.key"));
	cert_write(ca, in("ca.crt"));
	cert_write_key(ca, in("ca.key"));
	cert_write_key(other, in("other.key"));
}

/* Of main(): runs the tests, with these files before each and `tear_down` after it (NULL: nothing).
 */
static inline int tls_test_run(void (*set_up)(void), void (*tear_down)(void))
{
	static const char address[4] = {127, 0, 0, 1};
	int status;

	if (!mkdtemp(directory))
		return 1;
	umask(022);
	ca = CERT(NULL, .ca = true);
	other = CERT(NULL, .ca = true);
	server = CERT(ca, .purpose = GNUTLS_KP_TLS_WWW_SERVER,
		      NAMES(DNS("memory.example"), {address, GNUTLS_SAN_IPADDRESS, 4}));
	status = test_run(set_up, tear_down);
	certs_free();
	for (unsigned int i = 0; i < num_paths; i++)
		unlink(paths[i]);
	rmdir(directory);
	return status;
}

#endif
