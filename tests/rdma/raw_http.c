/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP of a raw client. */
#include <curl/curl.h>
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rdma/raw.h"

#define TIMEOUT_S 30
#define PATH_TEXT 256

struct raw_http *raw_http_new(const char *url)
{
	struct raw_http *http = calloc(1, sizeof(*http));

	if (http)
		http->curl = curl_easy_init();
	if (!http || !http->curl)
		errx(EXIT_FAILURE, "no memory for a client");
	snprintf(http->url, sizeof(http->url), "%s", url);
	return http;
}

void raw_http_free(struct raw_http *http)
{
	curl_easy_cleanup(http->curl);
	json_decref(http->json);
	maas_buf_fini(&http->reply);
	free(http);
}

static size_t take(char *data, size_t size, size_t count, void *arg)
{
	maas_buf_add(arg, data, size * count);
	return size * count;
}

static int perform(struct raw_http *http, const char *method, const char *path, const void *body,
		   size_t len)
{
	bool json = strcmp(method, "PUT") != 0;
	struct curl_slist *type = NULL;
	char url[RAW_URL + PATH_TEXT];
	CURL *curl = http->curl;
	long status = 0;
	CURLcode code;

	snprintf(url, sizeof(url), "%s%s", http->url, path);
	http->reply.len = 0;
	json_decref(http->json);
	http->json = NULL;
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &http->reply);
	if (http->token) {
		curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
		curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, http->token);
	}
	if (body) {
		type = curl_slist_append(NULL, json ? "Content-Type: application/json"
						    : "Content-Type: application/octet-stream");
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, type);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	code = curl_easy_perform(curl);
	curl_slist_free_all(type);
	if (code != CURLE_OK || http->reply.error) {
		fprintf(stderr, "%s %s: %s\n", method, url, curl_easy_strerror(code));
		return -EIO;
	}
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	http->json = json_loadb(http->reply.data, http->reply.len, 0, NULL);
	return (int)status;
}

int raw_call(struct raw_http *http, const char *method, json_t *body, const char *path, ...)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *sent = text ? text : !strcmp(method, "POST") ? "{}" : NULL;
	char full[PATH_TEXT];
	va_list args;
	int status;

	json_decref(body);
	va_start(args, path);
	vsnprintf(full, sizeof(full), path, args);
	va_end(args);
	status = perform(http, method, full, sent, sent ? strlen(sent) : 0);
	free(text);
	return status;
}

int raw_put(struct raw_http *http, const char *id, const void *bytes, size_t len)
{
	char path[PATH_TEXT];

	snprintf(path, sizeof(path), "/allocate/%s/data", id);
	return perform(http, "PUT", path, bytes, len);
}

const char *raw_error(const struct raw_http *http)
{
	const char *code = "";

	json_unpack(http->json, "{s:{s:s}}", "error", "code", &code);
	return code;
}

/* ---- sessions and allocations */

static int take_session(const struct raw_http *http, int status, struct raw_session *session)
{
	const char *id, *ticket, *addr;
	int port;

	if (status != 200)
		return status;
	if (json_unpack(http->json, "{s:s, s:s, s:{s:s, s:i}}", "id", &id, "ticket", &ticket,
			"rdma", "addr", &addr, "port", &port))
		return -EPROTO;
	snprintf(session->id, sizeof(session->id), "%s", id);
	snprintf(session->ticket, sizeof(session->ticket), "%s", ticket);
	snprintf(session->addr, sizeof(session->addr), "%s", addr);
	session->port = (uint16_t)port;
	return status;
}

int raw_session_open(struct raw_http *http, const char *name, unsigned int ttl_s,
		     struct raw_session *ret_session)
{
	json_t *body =
		json_pack("{s:i, s:s*}", "ttl_seconds", (int)ttl_s, "name", *name ? name : NULL);

	return take_session(http, raw_call(http, "POST", body, "/sessions"), ret_session);
}

int raw_session_ticket(struct raw_http *http, struct raw_session *session)
{
	return take_session(http, raw_call(http, "POST", NULL, "/sessions/%s/ticket", session->id),
			    session);
}

int raw_session_renew(struct raw_http *http, const struct raw_session *session)
{
	return raw_call(http, "POST", NULL, "/sessions/%s/renew", session->id);
}

int raw_session_end(struct raw_http *http, const struct raw_session *session)
{
	return raw_call(http, "DELETE", NULL, "/sessions/%s", session->id);
}

static int take_key(json_t *key, struct raw_key *ret_key)
{
	json_int_t addr, rkey, len, connection;

	if (json_unpack(key, "{s:I, s:I, s:I, s:I}", "addr", &addr, "rkey", &rkey, "length", &len,
			"connection", &connection))
		return -EPROTO;
	ret_key->addr = (uint64_t)addr;
	ret_key->rkey = (uint32_t)rkey;
	ret_key->len = (uint64_t)len;
	ret_key->connection = (uint32_t)connection;
	return 200;
}

static int take_allocation(json_t *reply, struct raw_key *ret_key)
{
	json_t *key = json_object_get(reply, "rdma");
	const char *id;

	memset(ret_key, 0, sizeof(*ret_key));
	if (json_unpack(reply, "{s:s}", "id", &id))
		return -EPROTO;
	snprintf(ret_key->id, sizeof(ret_key->id), "%s", id);
	return key && !json_is_null(key) ? take_key(key, ret_key) : 200;
}

int raw_alloc(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
	      const char *lifetime, const char *access, struct raw_key *ret_key)
{
	json_t *body = json_pack("{s:I, s:s*, s:s*, s:s*}", "size_bytes", (json_int_t)size_bytes,
				 "session", session ? session->id : NULL, "lifetime", lifetime,
				 "access", access);
	int status = raw_call(http, "POST", body, "/allocate");

	return status == 200 ? take_allocation(http->json, ret_key) : status;
}

int raw_alloc_many(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
		   uint32_t count, struct raw_key *ret_keys)
{
	json_t *body = json_pack("{s:I, s:I, s:s*}", "size_bytes", (json_int_t)size_bytes, "count",
				 (json_int_t)count, "session", session ? session->id : NULL);
	int status = raw_call(http, "POST", body, "/allocate");
	json_t *list = json_object_get(http->json, "allocations");

	if (status == 200 && json_array_size(list) != count)
		return -EPROTO;
	for (uint32_t i = 0; i < count && status == 200; i++)
		status = take_allocation(json_array_get(list, i), &ret_keys[i]);
	return status;
}

int raw_free(struct raw_http *http, const char *id)
{
	return raw_call(http, "DELETE", NULL, "/allocate/%s", id);
}

int raw_free_many(struct raw_http *http, const struct raw_key *keys, uint32_t count)
{
	json_t *ids = json_array();
	int freed = 0;
	int status;

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(ids, json_string(keys[i].id));
	status = raw_call(http, "POST", json_pack("{s:o}", "ids", ids), "/free");
	if (status == 200 &&
	    (json_unpack(http->json, "{s:i}", "freed", &freed) || freed != (int)count))
		return -EPROTO;
	return status;
}

int raw_grant(struct raw_http *http, const char *id, const struct raw_session *session,
	      const char *access, struct raw_key *ret_key)
{
	json_t *body = json_pack("{s:s, s:s}", "session", session->id, "access", access);
	int status = raw_call(http, "POST", body, "/allocate/%s/grant", id);

	if (status != 200)
		return status;
	if (id != ret_key->id)
		snprintf(ret_key->id, sizeof(ret_key->id), "%s", id);
	return take_key(http->json, ret_key);
}

int raw_ungrant(struct raw_http *http, const char *id, const struct raw_session *session)
{
	return raw_call(http, "DELETE", NULL, "/allocate/%s/grant/%s", id, session->id);
}
