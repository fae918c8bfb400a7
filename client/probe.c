/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a server has not a word to say: a port that speaks TLS and a client that does not, or the
 * reverse, do not understand each other's first bytes. After a request has failed so, the port is
 * asked in the other way, on a connection of its own and without token or certificate. The thread
 * that waits for the request does it; no lock.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

#define PROBE_MS 1000

static size_t forget(char *data, size_t size, size_t count, void *arg)
{
	(void)data;
	(void)arg;
	return size * count;
}

/* Whether a handshake comes to its end. Nothing is asked. */
static bool speaks_tls(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	return curl_easy_perform(easy) == CURLE_OK;
}

static bool speaks_plainly(CURL *easy)
{
	CURLcode code;
	long status = 0;

	curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, forget);
	code = curl_easy_perform(easy);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	return code == CURLE_OK && status > 0;
}

/* The URL of the same port with the other scheme. */
static void other_url(const struct maas_url *url, struct maas_buf *text)
{
	maas_buf_str(text, url->tls ? "http" : "https");
	maas_buf_str(text, strstr(url->text, "://"));
	maas_buf_add(text, "", 1);
}

static bool speaks_other(const struct maas_url *url, const char *text, uint64_t left_ms)
{
	CURL *easy = curl_easy_init();
	bool speaks = false;

	if (easy && !curl_easy_setopt(easy, CURLOPT_URL, text)) {
		curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		maas_client_quick_exit(easy);
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
		curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
				 (long)(left_ms < PROBE_MS ? left_ms : PROBE_MS));
		speaks = url->tls ? speaks_plainly(easy) : speaks_tls(easy);
	}
	curl_easy_cleanup(easy);
	return speaks;
}

int maas_probe(struct maas *maas, int error, uint64_t deadline_ms)
{
	const struct maas_url *url = &maas->url;
	uint64_t now_ms = maas_clock_ms();
	struct maas_buf text = {0};

	if (url->unix_path || now_ms >= deadline_ms)
		return error;
	other_url(url, &text);
	if (!text.error && speaks_other(url, text.data, deadline_ms - now_ms)) {
		error = -EPROTO;
		if (url->tls)
			maas_error_set("%s does not speak TLS: give the server --tls-cert and "
				       "--tls-key, or, on a network that nobody else can read, use "
				       "%s",
				       url->text, text.data);
		else
			maas_error_set("%s speaks TLS: use %s", url->text, text.data);
	}
	maas_buf_fini(&text);
	return error;
}
