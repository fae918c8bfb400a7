/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "http/parse.h"

#define GET(call)    [MAAS_HTTP_GET] = (call), [MAAS_HTTP_HEAD] = (call)
#define POST(call)   [MAAS_HTTP_POST] = (call)
#define PUT(call)    [MAAS_HTTP_PUT] = (call)
#define DELETE(call) [MAAS_HTTP_DELETE] = (call)

static const struct maas_http_route routes[] = {
	{"/", "GET, HEAD", {GET(MAAS_HTTP_CALL_PAGE)}},
	{"/openapi.yaml", "GET, HEAD", {GET(MAAS_HTTP_CALL_OPENAPI)}},
	{"/health", "GET, HEAD", {GET(MAAS_HTTP_CALL_HEALTH)}},
	{"/allocate", "POST", {POST(MAAS_HTTP_CALL_ALLOCATE)}},
	{"/allocate/{id}",
	 "GET, HEAD, DELETE",
	 {GET(MAAS_HTTP_CALL_DESCRIBE), DELETE(MAAS_HTTP_CALL_DELETE)}},
	{"/allocate/{id}/data",
	 "GET, HEAD, PUT",
	 {GET(MAAS_HTTP_CALL_DATA_GET), PUT(MAAS_HTTP_CALL_DATA_PUT)}},
	{"/allocate/{id}/renew", "POST", {POST(MAAS_HTTP_CALL_RENEW)}},
	{"/allocate/{id}/grant", "POST", {POST(MAAS_HTTP_CALL_GRANT)}},
	{"/allocate/{id}/grant/{session}", "DELETE", {DELETE(MAAS_HTTP_CALL_UNGRANT)}},
	{"/free", "POST", {POST(MAAS_HTTP_CALL_FREE)}},
	{"/allocations", "GET, HEAD", {GET(MAAS_HTTP_CALL_LIST)}},
	{"/data/read", "POST", {POST(MAAS_HTTP_CALL_DATA_READ)}},
	{"/data/write", "POST", {POST(MAAS_HTTP_CALL_DATA_WRITE)}},
	{"/sessions",
	 "GET, HEAD, POST",
	 {GET(MAAS_HTTP_CALL_SESSIONS), POST(MAAS_HTTP_CALL_SESSION_OPEN)}},
	{"/sessions/{id}", "DELETE", {DELETE(MAAS_HTTP_CALL_SESSION_END)}},
	{"/sessions/{id}/renew", "POST", {POST(MAAS_HTTP_CALL_SESSION_RENEW)}},
	{"/sessions/{id}/ticket", "POST", {POST(MAAS_HTTP_CALL_SESSION_TICKET)}},
	{"/ready", "GET, HEAD", {GET(MAAS_HTTP_CALL_READY)}},
	{"/stats", "GET, HEAD", {GET(MAAS_HTTP_CALL_STATS)}},
	{"/metrics", "GET, HEAD", {GET(MAAS_HTTP_CALL_METRICS)}},
};

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "other"};

const struct maas_http_route *maas_http_route_at(unsigned int index)
{
	return index < MAAS_ARRAY_SIZE(routes) ? &routes[index] : NULL;
}

enum maas_http_method maas_http_method_parse(const char *text)
{
	int method = MAAS_HTTP_GET;

	while (method < MAAS_HTTP_OTHER && strcmp(text, method_names[method]) != 0)
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
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(routes); i++)
		if (matches(routes[i].pattern, path, ret_ids))
			return (int)i;
	return -ENOENT;
}
