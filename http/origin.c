/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a request says it comes from, and whom it says it means. A web page can make the browser of
 * whoever looks at it send requests to 127.0.0.1, and by DNS rebinding to any name: the browser's
 * own words about the request (Origin, Sec-Fetch-Site) and the name that it used (Host) give that
 * away.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/parse.h"

/* Printable, and what does not end an authority. */
static const bool in_host[256] = {
	['!'] = true,	      ['"'] = true,	    ['$' ... '.'] = true,
	['0' ... '>'] = true, ['A' ... '['] = true, [']' ... '~'] = true,
};

int maas_http_authority_parse(const char *text, size_t len, struct maas_http_authority *ret)
{
	struct maas_http_authority authority = {0};
	const char *colon = memrchr(text, ':', len);
	const char *end = text + len;
	uint64_t port;
	char digits[8];

	if (len && text[0] == '[') {
		const char *close = memchr(text, ']', len);

		if (!close || (close + 1 != end && close[1] != ':'))
			return -EINVAL;
		colon = close + 1 == end ? NULL : close + 1;
	}
	if (colon) {
		size_t digits_len = (size_t)(end - colon) - 1;

		if (digits_len >= sizeof(digits))
			return -EINVAL;
		memcpy(digits, colon + 1, digits_len);
		digits[digits_len] = '\0';
		if (digits_len && (maas_http_u63_parse(digits, &port) || port > UINT16_MAX))
			return -EINVAL;
		authority.port = digits_len ? (uint16_t)port : 0;
		end = colon;
	}
	authority.host_len = (size_t)(end - text);
	if (!authority.host_len)
		return -EINVAL;
	for (const char *at = text; at < end; at++)
		if (!in_host[(unsigned char)*at])
			return -EINVAL;
	authority.host = text;
	*ret = authority;
	return 0;
}

static bool same_text(const struct maas_http_authority *authority, const char *name, size_t len)
{
	return len && authority->host_len == len && !strncasecmp(authority->host, name, len);
}

bool maas_http_authority_is(const struct maas_http_authority *authority, const char *name)
{
	return same_text(authority, name, strlen(name));
}

bool maas_http_authority_is_loopback(const struct maas_http_authority *authority)
{
	char text[INET6_ADDRSTRLEN + 2];
	struct in6_addr six;
	struct in_addr four;

	if (maas_http_authority_is(authority, "localhost") ||
	    maas_http_authority_is(authority, "localhost."))
		return true;
	if (!authority->host_len || authority->host_len >= sizeof(text))
		return false;
	memcpy(text, authority->host, authority->host_len);
	text[authority->host_len] = '\0';
	if (text[0] == '[') {
		text[authority->host_len - 1] = '\0';
		return inet_pton(AF_INET6, text + 1, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
	}
	return inet_pton(AF_INET, text, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

/* "http://HOST[:PORT]" and nothing behind it; "null" is no origin that we know. */
bool maas_http_same_origin(const char *origin, const struct maas_http_authority *authority)
{
	struct maas_http_authority from;
	bool secure = !strncasecmp(origin, "https://", 8);
	const char *text = origin + (secure ? 8 : 7);
	uint16_t usual = secure ? 443 : 80;

	if (!secure && strncasecmp(origin, "http://", 7) != 0)
		return false;
	if (maas_http_authority_parse(text, strlen(text), &from))
		return false;
	/* A browser leaves the usual port out of both. Where that is 443, a proxy speaks TLS for
	 * us.
	 */
	return (from.port ? from.port : usual) == (authority->port ? authority->port : usual) &&
	       same_text(&from, authority->host, authority->host_len);
}

size_t maas_http_absolute_form(const char *target, size_t *ret_authority_at)
{
	size_t at = 0;

	if (*target == '/')
		return 0;
	if (!strncasecmp(target, "http://", 7))
		at = 7;
	else if (!strncasecmp(target, "https://", 8))
		at = 8;
	else
		return 0;
	*ret_authority_at = at;
	return strcspn(target + at, "/");
}
