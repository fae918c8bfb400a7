/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URL of a server, taken apart once when a handle is opened and constant from then on, and the
 * question whether a redirection stays with that server.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "client/internal.h"

#define HTTP	  "http://"
#define HTTPS	  "https://"
#define HTTP_UNIX "http+unix://"
#define UNIX	  "unix:"

/* The text before an @ or after a ? may be a secret: no error, and so no log, shows that part. */
static int fail_url(int error, const char *text, const char *why)
{
	const char *at = strrchr(text, '@');
	const char *shown = at ? at : text;

	return maas_fail(error, "\"%s%.*s\" is no URL of a server: %s", at ? "..." : "",
			 (int)strcspn(shown, "?"), shown, why);
}

static const char *skip(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

void maas_url_fini(struct maas_url *url)
{
	free(url->text);
	free(url->base);
	free(url->unix_path);
	curl_slist_free_all(url->connect_to);
	free(url->host_header);
	memset(url, 0, sizeof(*url));
}

/* `before` and `text` in one string, or NULL. */
static char *join(const char *before, const char *text)
{
	size_t size = strlen(before) + strlen(text) + 1;
	char *joined = malloc(size);

	if (joined)
		snprintf(joined, size, "%s%s", before, text);
	return joined;
}

static int make_unix(const char *text, const char *path, struct maas_url *ret_url)
{
	struct maas_url url = {0};
	struct sockaddr_un addr;

	if (!*path || strlen(path) >= sizeof(addr.sun_path))
		return fail_url(-EINVAL, text, "a socket's path has 1 to 107 bytes");
	url.unix_path = strdup(path);
	url.base = strdup("http://localhost");
	url.text = join(UNIX, path);
	if (!url.unix_path || !url.base || !url.text) {
		maas_url_fini(&url);
		return maas_fail(-ENOMEM, "out of memory");
	}
	*ret_url = url;
	return 0;
}

static int hex(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* "%2Frun%2Fmaas.sock", with or without a "/" behind it. */
static bool unescape(const char *text, char *to, size_t size)
{
	for (; *text && size > 1; size--) {
		if (*text == '/')
			break;
		if (*text != '%') {
			*to++ = *text++;
			continue;
		}
		if (hex(text[1]) < 0 || hex(text[2]) < 0)
			return false;
		*to++ = (char)(hex(text[1]) * 16 + hex(text[2]));
		text += 3;
	}
	*to = '\0';
	return !*text || strcmp(text, "/") == 0;
}

/* The length of HOST or [IPV6] at the start of `text`, or 0. */
static size_t host_len(const char *text)
{
	size_t len;

	if (*text == '[') {
		for (len = 1; isalnum((unsigned char)text[len]) ||
			      (text[len] && strchr(":.%-_", text[len]));)
			len++;
		return len > 2 && text[len] == ']' ? len + 1 : 0;
	}
	for (len = 0; isalnum((unsigned char)text[len]) || (text[len] && strchr(".-_", text[len]));)
		len++;
	return len;
}

/* Without a port, `ret_port` stays as it is. */
static int parse_port(const char **text, unsigned long *ret_port)
{
	const char *s = *text;
	unsigned long port = 0;

	if (*s != ':')
		return 0;
	for (s++; isdigit((unsigned char)*s) && port <= 65535; s++)
		port = port * 10 + (unsigned long)(*s - '0');
	if (!port || port > 65535)
		return -EINVAL;
	*text = s;
	*ret_port = port;
	return 0;
}

static int make_http(const char *text, const char *host, bool tls, struct maas_url *ret_url)
{
	struct maas_url url = {.tls = tls};
	size_t len = host_len(host);
	const char *rest = host + len;
	char at[320]; /* a host's name has at most 253 bytes */
	unsigned long port = tls ? 443 : 80;

	if (strchr(text, '@'))
		return fail_url(-EINVAL, text,
				"it has a user's name or a password, and the server asks for none");
	if (!len)
		return fail_url(-EINVAL, text, "there is no host in it");
	if (parse_port(&rest, &port))
		return fail_url(-EINVAL, text, "a port is a number from 1 to 65535");
	if (*rest && strcmp(rest, "/") != 0)
		return fail_url(-EINVAL, text,
				"it is http://HOST:PORT or https://HOST:PORT, without a path");
	if (snprintf(at, sizeof(at), "%.*s:%lu", (int)len, host, port) >= (int)sizeof(at))
		return fail_url(-EINVAL, text, "its host is too long");
	url.base = join(tls ? HTTPS : HTTP, at);
	url.text = join(tls ? HTTPS : HTTP, at);
	if (!url.base || !url.text) {
		maas_url_fini(&url);
		return maas_fail(-ENOMEM, "out of memory");
	}
	*ret_url = url;
	return 0;
}

int maas_url_parse(const char *text, struct maas_url *ret_url)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
	const char *rest;

	rest = skip(text, UNIX);
	if (rest)
		return make_unix(text, rest, ret_url);
	rest = skip(text, HTTP_UNIX);
	if (rest) {
		if (!unescape(rest, path, sizeof(path)))
			return fail_url(-EINVAL, text,
					"a socket's path is written with %2F for each /");
		return make_unix(text, path, ret_url);
	}
	rest = skip(text, HTTPS);
	if (rest)
		return make_http(text, rest, true, ret_url);
	rest = skip(text, HTTP);
	if (!rest && strstr(text, "://"))
		return fail_url(
			-EPROTONOSUPPORT, text,
			"this version knows http://HOST:PORT, https://HOST:PORT and unix:PATH");
	return make_http(text, rest ? rest : text, false,
			 ret_url); /* HOST:PORT alone, as curl has it */
}

int maas_url_set_name(struct maas_url *url, const char *name)
{
	const char *at = skip(url->text, HTTPS);
	char base[640];
	char *connect_to;

	if (!*name || host_len(name) != strlen(name) || strlen(name) > 255)
		return maas_fail(-EINVAL, "server_name \"%s\" is no name of a host", name);
	snprintf(base, sizeof(base), HTTPS "%s%s", name, strrchr(at, ':'));
	connect_to = join("::", at);
	url->connect_to = connect_to ? curl_slist_append(NULL, connect_to) : NULL;
	free(connect_to);
	free(url->base);
	url->base = strdup(base);
	url->host_header = join("Host: ", at);
	if (!url->connect_to || !url->base || !url->host_header)
		return maas_fail(-ENOMEM, "out of memory");
	return 0;
}

/* ---- redirections */

/* NULL where there is none. Owns: the caller, curl_free(). */
static char *part_of(CURLU *url, CURLUPart part)
{
	char *text = NULL;

	curl_url_get(url, part, &text, part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0);
	return text;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *of_a = part_of(a, part);
	char *of_b = part_of(b, part);
	bool same = (!of_a && !of_b) || (of_a && of_b && strcasecmp(of_a, of_b) == 0);

	curl_free(of_a);
	curl_free(of_b);
	return same;
}

static bool add_part(CURLU *url, CURLUPart part, const char *before, struct maas_buf *to)
{
	char *text = part_of(url, part);

	if (text) {
		maas_buf_str(to, before);
		maas_buf_str(to, text);
	}
	curl_free(text);
	return !to->error;
}

static bool same_server(const char *url, const char *to, struct maas_buf *ret_path)
{
	static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_ZONEID,
					  CURLUPART_PORT,   CURLUPART_USER, CURLUPART_PASSWORD,
					  CURLUPART_OPTIONS};
	CURLU *ours = curl_url();
	CURLU *theirs = curl_url();
	bool same;

	same = ours && theirs && !curl_url_set(ours, CURLUPART_URL, url, 0) &&
	       !curl_url_set(theirs, CURLUPART_URL, to, 0);
	for (size_t i = 0; same && i < MAAS_ARRAY_SIZE(parts); i++)
		same = same_part(ours, theirs, parts[i]);
	same = same && add_part(theirs, CURLUPART_PATH, "", ret_path) &&
	       add_part(theirs, CURLUPART_QUERY, "?", ret_path);
	curl_url_cleanup(ours);
	curl_url_cleanup(theirs);
	return same;
}

bool maas_url_same(const struct maas_url *url, const char *to, struct maas_buf *ret_path)
{
	return same_server(url->base, to, ret_path) ||
	       (url->connect_to && same_server(url->text, to, ret_path));
}
