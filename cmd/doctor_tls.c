/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of `maas doctor` about https://: the client's own certificate and key, and a handshake
 * with the server that goes on whatever is wrong, and so can tell all of it. One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cmd/doctor.h"

#define VERSIONS      "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define WAIT_S	      5
#define SOON_S	      (14 * 86400.0)
#define MAX_CHAIN     16
#define NAMES_BYTES   160
#define CLIENT_RENEWS "renew it; a program that uses libmaas takes the new file by itself"
#define SERVER_RENEWS "renew it there: maasd takes the new file by itself"

struct target {
	const char *url;
	char host[256];
	char port[8];
	const char *name; /* that the certificate has to have */
	const char *ca_file, *cert_file, *key_file;
};

/* An option, or its variable; NULL: neither. */
static const char *chosen(const char *option, const char *variable)
{
	const char *value = option ? option : getenv(variable);

	return value && *value ? value : NULL;
}

/* False: the URL has no TLS. libmaas has checked it. */
static bool find_target(const struct cmd_context *context, struct target *target)
{
	const struct maas_options *options = &context->options;
	const char *url = maas_url(context->maas);
	const char *host = url + strlen("https://");
	const char *port = strrchr(url, ':') + 1;
	bool brackets;

	if (strncmp(url, "https://", strlen("https://")) != 0)
		return false;
	brackets = *host == '[';
	target->url = url;
	snprintf(target->host, sizeof(target->host), "%.*s", (int)(port - 1 - host) - 2 * brackets,
		 host + brackets);
	snprintf(target->port, sizeof(target->port), "%s", port);
	target->name = chosen(options->server_name, "MAAS_SERVER_NAME");
	if (!target->name)
		target->name = target->host;
	target->ca_file = chosen(options->ca_file, "MAAS_CA_FILE");
	target->cert_file = chosen(options->cert_file, "MAAS_CERT_FILE");
	target->key_file = chosen(options->key_file, "MAAS_KEY_FILE");
	if (!target->key_file)
		target->key_file = target->cert_file;
	return true;
}

/* ---- one certificate */

/* As --auth-file and URLs have them. */
static const char *names_of(gnutls_x509_crt_t cert, char names[NAMES_BYTES])
{
	char text[NAMES_BYTES];
	size_t at = 0;

	names[0] = '\0';
	for (unsigned int i = 0; at < NAMES_BYTES; i++) {
		char address[INET6_ADDRSTRLEN] = "";
		size_t len = sizeof(text) - 1;
		int type = gnutls_x509_crt_get_subject_alt_name(cert, i, text, &len, NULL);

		if (type == GNUTLS_E_SHORT_MEMORY_BUFFER)
			continue; /* a long one: others may be short */
		if (type < 0)
			break;
		text[len] = '\0';
		if (type == GNUTLS_SAN_IPADDRESS)
			inet_ntop(len == 4 ? AF_INET : AF_INET6, text, address, sizeof(address));
		else if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_URI)
			continue;
		at += (size_t)snprintf(names + at, NAMES_BYTES - at, "%s%s", at ? ", " : "",
				       *address ? address : text);
	}
	return *names ? names : "no name";
}

static void check_dates(struct report *report, gnutls_x509_crt_t cert, const char *whose,
			const char *remedy)
{
	time_t ends = gnutls_x509_crt_get_expiration_time(cert);
	double left = difftime(ends, time(NULL));
	double life = difftime(ends, gnutls_x509_crt_get_activation_time(cert));
	double soon = life / 5 < SOON_S ? life / 5 : SOON_S;
	char names[NAMES_BYTES];
	char date[32];
	struct tm tm;

	strftime(date, sizeof(date), "%Y-%m-%d %H:%M", gmtime_r(&ends, &tm));
	names_of(cert, names);
	if (left > life)
		doctor_find(report, PROBLEM, "certificate", "set this machine's clock",
			    "the %s is not valid yet (names: %s)", whose, names);
	else if (left < 0)
		doctor_find(report, PROBLEM, "certificate", remedy,
			    "the %s ended at %s UTC (names: %s)", whose, date, names);
	else
		doctor_find(report, left < soon ? WARNING : FINE, "certificate",
			    left < soon ? remedy : NULL,
			    "the %s ends in %.0f %s, at %s UTC (names: %s)", whose,
			    left < 172800 ? left / 3600 : left / 86400,
			    left < 172800 ? "hours" : "days", date, names);
}

static bool is_valid_now(gnutls_x509_crt_t cert)
{
	time_t now = time(NULL);

	return gnutls_x509_crt_get_activation_time(cert) <= now &&
	       now <= gnutls_x509_crt_get_expiration_time(cert);
}

static bool is_for(gnutls_x509_crt_t cert, const char *purpose)
{
	return gnutls_x509_crt_check_key_purpose(cert, purpose, 0) != 0;
}

/* ---- this side */

static void check_key(struct report *report, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		doctor_find(report, PROBLEM, "key", NULL, "%.160s: %s", path, strerror(errno));
	else /* libmaas would not have opened one that others can read */
		doctor_find(report, FINE, "key", NULL, "%.160s has the mode %03o, and fits", path,
			    (unsigned int)(st.st_mode & 0777));
}

static void check_own(struct report *report, const struct target *target)
{
	gnutls_x509_crt_t chain[MAX_CHAIN];
	unsigned int count = MAX_CHAIN;
	gnutls_datum_t text;

	if (!target->cert_file) {
		doctor_find(report, FINE, "certificate", NULL,
			    "of this side: none (--cert-file, MAAS_CERT_FILE)");
		return;
	}
	check_key(report, target->key_file);
	if (gnutls_load_file(target->cert_file, &text))
		return; /* libmaas has just read it: somebody replaces it */
	if (gnutls_x509_crt_list_import(chain, &count, &text, GNUTLS_X509_FMT_PEM, 0) > 0) {
		check_dates(report, chain[0], "certificate of this side", CLIENT_RENEWS);
		if (!is_for(chain[0], GNUTLS_KP_TLS_WWW_CLIENT))
			doctor_find(report, PROBLEM, "certificate",
				    "issue it with the extended key usage clientAuth",
				    "the certificate of this side is not for clients");
		for (unsigned int i = 0; i < count; i++) {
			if (i && !is_valid_now(chain[i]))
				check_dates(report, chain[i],
					    "CA behind the certificate of this side",
					    CLIENT_RENEWS);
			gnutls_x509_crt_deinit(chain[i]);
		}
	}
	gnutls_free(text.data);
}

/* ---- the server */

static int connect_to(const struct target *target)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	const struct timeval wait = {.tv_sec = WAIT_S};
	struct addrinfo *all;
	int fd = -1;

	if (getaddrinfo(target->host, target->port, &hints, &all))
		return -1;
	for (const struct addrinfo *one = all; fd < 0 && one; one = one->ai_next) {
		fd = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
		if (connect(fd, one->ai_addr, one->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(all);
	return fd;
}

/* What GnuTLS says of a certificate for which there are no words here. */
static void find_untrusted(struct report *report, gnutls_session_t session, unsigned int status)
{
	gnutls_datum_t text;

	if (gnutls_certificate_verification_status_print(
		    status, gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS), &text, 0))
		return;
	doctor_find(report, PROBLEM, "CA", "issue the server's certificate anew", "%.*s",
		    (int)text.size - 1, text.data); /* it ends with a blank */
	gnutls_free(text.data);
}

/* `dates_said`: those of the server's certificate are wrong, and that was said. */
static void check_issuer(struct report *report, const struct target *target,
			 gnutls_session_t session, bool dates_said)
{
	const char *cas = target->ca_file ? target->ca_file : "those that this machine knows";
	unsigned int dates = GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED;
	unsigned int status;
	int r = gnutls_certificate_verify_peers2(session, &status);

	if (r)
		doctor_find(report, PROBLEM, "CA", "issue the server's certificate anew",
			    "the server's certificate cannot be verified: %s", gnutls_strerror(r));
	else if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
		doctor_find(report, PROBLEM, "CA",
			    target->ca_file
				    ? "get the CA file that belongs to the server"
				    : "give the CA file of the server: --ca-file, MAAS_CA_FILE",
			    "the server's certificate is not from a CA in %.128s", cas);
	else if (status & GNUTLS_CERT_SIGNER_NOT_CA || status & GNUTLS_CERT_SIGNATURE_FAILURE ||
		 status & GNUTLS_CERT_INSECURE_ALGORITHM)
		doctor_find(report, PROBLEM, "CA", "issue the server's certificate anew",
			    "the server's certificate has a signature that proves nothing");
	else if (status & dates && !dates_said)
		doctor_find(report, PROBLEM, "CA",
			    "renew that CA, there and in the CA file of this side",
			    "between the server's certificate and %.128s, a CA has expired or is "
			    "not valid yet",
			    cas);
	else if (status & ~(dates | GNUTLS_CERT_INVALID))
		find_untrusted(report, session, status);
	else
		doctor_find(report, FINE, "CA", NULL,
			    "the server's certificate is from a CA in %.128s", cas);
}

static void check_certificate(struct report *report, const struct target *target,
			      gnutls_session_t session)
{
	unsigned int count = 0;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t cert;
	bool dates_said = false;

	if (!count || gnutls_x509_crt_init(&cert))
		return;
	if (!gnutls_x509_crt_import(cert, &list[0], GNUTLS_X509_FMT_DER)) {
		check_dates(report, cert, "server's certificate", SERVER_RENEWS);
		dates_said = !is_valid_now(cert);
		if (!gnutls_x509_crt_check_hostname(cert, target->name))
			doctor_find(
				report, PROBLEM, "name",
				"use a name that it has, in the URL or as --server-name, or issue "
				"it anew",
				"the server's certificate is not for %.128s", target->name);
		if (!is_for(cert, GNUTLS_KP_TLS_WWW_SERVER))
			doctor_find(report, PROBLEM, "certificate",
				    "issue it with the extended key usage serverAuth",
				    "the server's certificate is not for servers");
	}
	gnutls_x509_crt_deinit(cert);
	check_issuer(report, target, session, dates_said);
}

static void check_handshake(struct report *report, const struct target *target,
			    gnutls_session_t session)
{
	int r;

	gnutls_handshake_set_timeout(session, WAIT_S * 1000);
	do
		r = gnutls_handshake(session);
	while (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED);
	if (r) {
		doctor_find(report, PROBLEM, "tls",
			    "see whether maasd there has --tls-cert, and its log, which says why",
			    "no handshake of TLS 1.2 or 1.3 with %.128s", target->url);
		return;
	}
	doctor_find(report, FINE, "tls", NULL, "the server speaks %s (%s)",
		    gnutls_protocol_get_name(gnutls_protocol_get_version(session)),
		    gnutls_cipher_get_name(gnutls_cipher_get(session)));
	check_certificate(report, target, session);
	gnutls_bye(session, GNUTLS_SHUT_WR);
}

static int load_files(gnutls_certificate_credentials_t files, const struct target *target)
{
	int r = target->ca_file ? gnutls_certificate_set_x509_trust_file(files, target->ca_file,
									 GNUTLS_X509_FMT_PEM)
				: gnutls_certificate_set_x509_system_trust(files);

	if (r >= 0 && target->cert_file)
		r = gnutls_certificate_set_x509_key_file(files, target->cert_file, target->key_file,
							 GNUTLS_X509_FMT_PEM);
	return r;
}

static void ask_server(struct report *report, const struct target *target, int fd)
{
	gnutls_certificate_credentials_t files = NULL;
	gnutls_session_t session = NULL;
	unsigned char address[16];
	bool numeric = inet_pton(AF_INET, target->name, address) == 1 ||
		       inet_pton(AF_INET6, target->name, address) == 1;

	if (!gnutls_certificate_allocate_credentials(&files) && load_files(files, target) >= 0 &&
	    !gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL) &&
	    !gnutls_priority_set_direct(session, VERSIONS, NULL) &&
	    !gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, files) &&
	    (numeric || !gnutls_server_name_set(session, GNUTLS_NAME_DNS, target->name,
						strlen(target->name)))) {
		gnutls_transport_set_int(session, fd);
		check_handshake(report, target, session);
	} else {
		doctor_find(report, PROBLEM, "tls", NULL, "the files of TLS cannot be used here");
	}
	if (session)
		gnutls_deinit(session);
	if (files)
		gnutls_certificate_free_credentials(files);
}

void doctor_check_tls(struct report *report, const struct cmd_context *context)
{
	struct target target;
	int fd;

	if (!find_target(context, &target))
		return;
	check_own(report, &target);
	fd = connect_to(&target);
	if (fd < 0)
		return; /* the check of the server says so */
	ask_server(report, &target, fd);
	close(fd);
}
