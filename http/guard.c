/* SPDX-License-Identifier: Apache-2.0 */
/* Refuses requests by what they say of the browser that sent them, and of the name that they were
 * sent to. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/internal.h"

static bool is_word(const char *value, const char *word)
{
	return value && !strcasecmp(value, word);
}

/* What a browser may open by a link from anywhere: it shows nothing that is lent. */
static bool is_page(const struct maas_http_conn *conn, const char *path)
{
	return conn->req.method == MAAS_HTTP_GET &&
	       (!strcmp(path, "/") || !strcmp(path, "/openapi.yaml")) &&
	       is_word(conn->req.fields[MAAS_HTTP_FIELD_FETCH_MODE], "navigate");
}

static int check_origin(struct maas_http_conn *conn, const char *path,
			const struct maas_http_authority *authority)
{
	const char *origin = conn->req.fields[MAAS_HTTP_FIELD_ORIGIN];
	const char *site = conn->req.fields[MAAS_HTTP_FIELD_FETCH_SITE];

	if (!is_word(site, "cross-site") && !is_word(site, "same-site") &&
	    (!origin || (authority->host_len && maas_http_same_origin(origin, authority))))
		return 0;
	if (is_page(conn, path))
		return 0;
	return maas_http_error(conn, MHD_HTTP_FORBIDDEN, "foreign_origin",
			       "a web page of another site sent this request; only pages of this "
			       "server's own address may");
}

static bool is_ours(const struct maas_http *http, const struct maas_http_authority *authority)
{
	if (maas_http_authority_is_loopback(authority) ||
	    maas_http_authority_is(authority, http->host_name) ||
	    maas_http_authority_is(authority, http->short_name))
		return true;
	for (unsigned int i = 0; i < http->options.num_hosts; i++)
		if (maas_http_authority_is(authority, http->options.hosts[i]))
			return true;
	return false;
}

static int refuse_host(struct maas_http_conn *conn)
{
	return maas_http_error(conn, MHD_HTTP_FORBIDDEN, "foreign_host",
			       "by a connection within this machine only its own names are served, "
			       "such as localhost or 127.0.0.1 (not 0.0.0.0); start maasd with "
			       "--host NAME to serve another");
}

static bool is_probe(const char *path)
{
	return !strcmp(path, "/health") || !strcmp(path, "/ready");
}

/* Only programs on this machine come by a loopback address, and they know it by its own names. */
static int check_host(struct maas_http_conn *conn, const char *path,
		      const struct maas_http_authority *host,
		      const struct maas_http_authority *target)
{
	if (!conn->loopback)
		return 0;
	/* HTTP/1.0, as simple health checks speak it. */
	if (!conn->req.fields[MAAS_HTTP_FIELD_HOST] && !target->host_len)
		return is_probe(path) ? 0 : refuse_host(conn);
	if (conn->req.fields[MAAS_HTTP_FIELD_HOST] && !is_ours(conn->http, host))
		return refuse_host(conn);
	return target->host_len && !is_ours(conn->http, target) ? refuse_host(conn) : 0;
}

int maas_http_guard(struct maas_http_conn *conn, const char **url)
{
	const char *text = conn->req.fields[MAAS_HTTP_FIELD_HOST];
	struct maas_http_authority host = {0};
	struct maas_http_authority target = {0};
	size_t at;
	size_t len;
	int r;

	if (text && maas_http_authority_parse(text, strlen(text), &host))
		host.host_len = 0;
	len = maas_http_absolute_form(*url, &at);
	if (len) {
		if (maas_http_authority_parse(*url + at, len, &target))
			return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_host",
					       "the request's URL names no host");
		*url = (*url)[at + len] ? *url + at + len : "/";
	}
	r = check_host(conn, *url, &host, &target);
	if (r)
		return r;
	return check_origin(conn, *url, target.host_len ? &target : &host);
}
