/* SPDX-License-Identifier: Apache-2.0 */
/* Which call a method and a path mean. Constant tables: any thread. */
#include <errno.h>
#include <string.h>

#include "http/internal.h"

#define COMMON(m, p, b, l, r)                                                                      \
	.method = MAAS_HTTP_##m, .pattern = (p), .body = MAAS_HTTP_BODY_##b, .log = MAAS_LOG_##l,  \
	.right = MAAS_HTTP_RIGHT_##r
#define PLAIN(m, p, b, l, r, name) {COMMON(m, p, b, l, r), .finish = maas_http_##name},
#define WAITS(m, p, b, l, r, name)                                                                 \
	{COMMON(m, p, b, l, r), .finish = maas_http_##name, .resume = maas_http_##name##_resume},
#define STREAM(m, p, l, name)                                                                      \
	{COMMON(m, p, STREAM, l, MEMORY), .begin = maas_http_##name##_begin,                       \
	 .bytes = maas_http_##name##_bytes, .finish = maas_http_##name##_finish},

static const struct maas_http_call calls[] = {MAAS_HTTP_CALLS(PLAIN, WAITS, STREAM)};

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "other"};

enum maas_http_method maas_http_method_parse(const char *text)
{
	int method = MAAS_HTTP_GET;

	while (method < MAAS_HTTP_OTHER &&
	       (*text != *method_names[method] || strcmp(text, method_names[method]) != 0))
		method++;
	return (enum maas_http_method)method;
}

const char *maas_http_method_name(enum maas_http_method method)
{
	return method_names[method];
}

static void copy_id(const char *part, size_t len, char ret_id[MAAS_SLAB_ID_TEXT])
{
	if (len >= MAAS_SLAB_ID_TEXT)
		len = 0;
	memcpy(ret_id, part, len);
	ret_id[len] = '\0';
}

static bool matches(const char *pattern, const char *path,
		    char ret_ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT])
{
	unsigned int ids = 0;

	while (*pattern) {
		size_t len;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		len = strcspn(path, "/");
		if (!len)
			return false;
		copy_id(path, len, ret_ids[ids++]);
		path += len;
		pattern = strchr(pattern, '}') + 1;
	}
	return !*path;
}

int maas_http_route_find(const char *path, char ret_ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT])
{
	for (size_t i = 0; i < MAAS_HTTP_NUM_CALLS; i++)
		if (matches(calls[i].pattern, path, ret_ids))
			return (int)i;
	return -ENOENT;
}

/* Whether the call at `index` is one of the route. */
static bool is_of(unsigned int route, unsigned int index)
{
	return index == route ||
	       (index < MAAS_HTTP_NUM_CALLS && !strcmp(calls[index].pattern, calls[route].pattern));
}

const char *maas_http_route_pattern(unsigned int route)
{
	if (route >= MAAS_HTTP_NUM_CALLS || (route && is_of(route, route - 1)))
		return NULL;
	return calls[route].pattern;
}

const struct maas_http_call *maas_http_route_call(unsigned int route, enum maas_http_method method)
{
	if (method == MAAS_HTTP_HEAD)
		method = MAAS_HTTP_GET;
	for (unsigned int i = route; is_of(route, i); i++)
		if (calls[i].method == method)
			return &calls[i];
	return NULL;
}

void maas_http_route_allow(unsigned int route, char ret_text[MAAS_HTTP_ALLOW_TEXT])
{
	size_t len = 0;

	for (unsigned int i = route; is_of(route, i); i++)
		len += (size_t)snprintf(ret_text + len, MAAS_HTTP_ALLOW_TEXT - len, "%s%s%s",
					len ? ", " : "", method_names[calls[i].method],
					calls[i].method == MAAS_HTTP_GET ? ", HEAD" : "");
}
