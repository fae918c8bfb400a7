/* SPDX-License-Identifier: Apache-2.0 */
/* What is said when the server has started: warnings first, and where it listens last. In the main
 * thread. */
#include <string.h>
#include <systemd/sd-daemon.h>

#include "daemon/internal.h"

bool maasd_announce_is_public(const char *address)
{
	static const char *const local[] = {"unix:", "127.", "[::1]:", "localhost:"};

	if (strstr(address, "://"))
		address = strstr(address, "://") + strlen("://");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(local); i++)
		if (!strncmp(address, local[i], strlen(local[i])))
			return false;
	return true;
}

const char *maasd_announce_public(const struct maas_http *http)
{
	const char *url;

	for (unsigned int i = 0; (url = maas_http_url(http, i)); i++)
		if (maasd_announce_is_public(url))
			return url;
	return NULL;
}

static void announce_rdma(const struct maasd_options *options, const struct maas_rdma *rdma)
{
	struct maas_rdma_info info;

	maas_rdma_info(rdma, &info);
	log_info("rdma: serving device=%s gid=%s port=%u keys=%s bounds=%d foreign=%d "
		 "revocation=%d access=%d",
		 info.device, info.gid, info.port, info.keys, info.isolation.bounds,
		 info.isolation.foreign, info.isolation.revocation, info.isolation.access);
	if (options->tls_cert)
		log_warn("TLS encrypts HTTP alone: what travels by RDMA is in clear, tickets of "
			 "sessions included; give RDMA a network of its own");
}

static void announce_metrics(const struct maasd_options *options, const struct maas_http *http)
{
	const char *url;

	for (unsigned int i = 0; (url = maas_http_metrics_url(http, i)); i++) {
		if (options->auth_file && maasd_announce_is_public(url))
			log_warn(
				"no authentication on %s: whoever reaches it sees the names of all "
				"principals, and what they use; keep strangers off with a firewall "
				"or --listen-metrics 127.0.0.1%s",
				url, strrchr(url, ':'));
		if (options->log_file)
			log_info("serving metrics on %s", url);
		maas_log_say("Serving metrics on %s", url);
	}
}

static bool requires_certificates(const struct maasd_options *options)
{
	return options->tls_client_cert == MAAS_TLS_CLIENT_REQUIRED;
}

/* "Listening" comes last: whoever waits for that line has then read every warning. */
void maasd_announce(const struct maasd_options *options, const struct maas_http *http,
		    const struct maas_rdma *rdma)
{
	const char *open = maasd_announce_public(http);
	const char *url;

	if (rdma)
		announce_rdma(options, rdma);
	if (open && options->auth_file && !options->tls_cert)
		log_warn("tokens travel in clear on %s: whoever sees one has it", open);
	else if (open && !options->auth_file && !requires_certificates(options))
		log_warn(
			"no authentication on %s: whoever reaches it can allocate, read, write and "
			"free; keep strangers off with a firewall or --listen 127.0.0.1%s",
			open, strrchr(open, ':'));
	if (options->insecure_open && !options->auth_file && options->memory_file)
		log_warn("what principals kept in %s is everybody's now (--insecure-open)",
			 options->memory_file);
	announce_metrics(options, http);
	for (unsigned int i = 0; (url = maas_http_url(http, i)); i++) {
		if (options->log_file)
			log_info("listening on %s", url);
		/* In these words: programs wait for them. */
		maas_log_say("Listening on %s", url);
	}
	sd_notifyf(0, "READY=1\nSTATUS=Serving %u address%s", options->listen.num,
		   options->listen.num == 1 ? "" : "es");
}
