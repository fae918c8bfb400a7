/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP of a raw client. */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rdma/raw.h"

#define TIMEOUT_S  30
#define ERROR_TEXT 64
#define PATH_TEXT  256

struct raw_http {
	CURL *curl;
	/* of requests without a body, with JSON, and with bytes */
	struct curl_slist *bare_headers;
	struct curl_slist *json_headers;
	struct curl_slist *bytes_headers;
	char url[RAW_URL];
	char error[ERROR_TEXT];
	struct maas_buf reply;
};

struct raw_http *raw_http_new(const char *url)
{
	struct raw_http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	snprintf(http->url, sizeof(http->url), "%s", url);
	http->curl = curl_easy_init();
	http->json_headers = curl_slist_append(NULL, "Content-Type: application/json");
	http->bytes_headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
	if (!http->curl || !http->json_headers || !http->bytes_headers) {
		raw_http_free(http);
		return NULL;
	}
	return http;
}

void raw_http_free(struct raw_http *http)
{
	if (!http)
		return;
	curl_slist_free_all(http->bare_headers);
	curl_slist_free_all(http->json_headers);
	curl_slist_free_all(http->bytes_headers);
	curl_easy_cleanup(http->curl);
	maas_buf_fini(&http->reply);
	free(http);
}

int raw_http_token(struct raw_http *http, const char *token)
{
	struct curl_slist **lists[] = {&http->bare_headers, &http->json_headers,
				       &http->bytes_headers};
	char header[128];

	snprintf(header, sizeof(header), "Authorization: Bearer %s", token);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lists); i++) {
		struct curl_slist *longer = curl_slist_append(*lists[i], header);

		if (!longer)
			return -ENOMEM;
		*lists[i] = longer;
	}
	return 0;
}

static size_t take(char *data, size_t size, size_t count, void *arg)
{
	maas_buf_add(arg, data, size * count);
	return size * count;
}

static int perform(struct raw_http *http, const char *method, const char *path, const void *body,
		   size_t len)
{
	char url[RAW_URL + PATH_TEXT];
	CURL *curl = http->curl;
	long status = 0;
	CURLcode code;

	snprintf(url, sizeof(url), "%s%s", http->url, path);
	http->reply.len = 0;
	http->error[0] = '\0';
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &http->reply);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, http->bare_headers);
	if (body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER,
				 strcmp(method, "PUT") ? http->json_headers : http->bytes_headers);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	code = curl_easy_perform(curl);
	if (code != CURLE_OK || http->reply.error) {
		fprintf(stderr, "%s %s: %s\n", method, url, curl_easy_strerror(code));
		return -EIO;
	}
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

static void take_error(struct raw_http *http, json_t *reply)
{
	const char *code = NULL;

	if (json_unpack(reply, "{s:{s:s}}", "error", "code", &code) == 0)
		snprintf(http->error, sizeof(http->error), "%s", code);
}

int raw_call(struct raw_http *http, const char *method, const char *path, json_t *body,
	     json_t **ret_reply)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_t *reply;
	int status;

	json_decref(body);
	status = perform(http, method, path,
			 text			   ? text
			 : !strcmp(method, "POST") ? "{}"
						   : NULL,
			 text ? strlen(text) : 2);
	free(text);
	reply = status < 0 ? NULL : json_loadb(http->reply.data, http->reply.len, 0, NULL);
	if (reply && status != 200)
		take_error(http, reply);
	if (ret_reply)
		*ret_reply = reply;
	else
		json_decref(reply);
	return status;
}

int raw_get(struct raw_http *http, const char *path, void *bytes, size_t max, size_t *ret_len)
{
	int status = perform(http, "GET", path, NULL, 0);

	if (status < 0)
		return status;
	*ret_len = http->reply.len < max ? http->reply.len : max;
	memcpy(bytes, http->reply.data, *ret_len);
	return status;
}

int raw_put(struct raw_http *http, const char *path, const void *bytes, size_t len)
{
	return perform(http, "PUT", path, bytes, len);
}

const char *raw_error(const struct raw_http *http)
{
	return http->error;
}

/* ---- sessions and allocations */

/* raw_call() with a path that is put together. */
static int MAAS_PRINTF(5, 6) call(struct raw_http *http, json_t *body, json_t **ret_reply,
				  const char *method, const char *path, ...)
{
	char text[PATH_TEXT];
	va_list args;

	va_start(args, path);
	vsnprintf(text, sizeof(text), path, args);
	va_end(args);
	return raw_call(http, method, text, body, ret_reply);
}

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static int take_session(json_t *reply, struct raw_session *session)
{
	const char *id = NULL;
	const char *ticket = NULL;
	const char *addr = NULL;
	int port = 0;

	if (json_unpack(reply, "{s:s, s:s, s:{s:s, s:i}}", "id", &id, "ticket", &ticket, "rdma",
			"addr", &addr, "port", &port))
		return -EPROTO;
	copy(session->id, sizeof(session->id), id);
	copy(session->ticket, sizeof(session->ticket), ticket);
	copy(session->addr, sizeof(session->addr), addr);
	session->port = (uint16_t)port;
	return 200;
}

int raw_session_open(struct raw_http *http, const char *name, unsigned int ttl_s,
		     struct raw_session *ret_session)
{
	json_t *reply;
	json_t *body = json_pack("{s:i}", "ttl_seconds", (int)ttl_s);
	int status;

	if (*name)
		json_object_set_new(body, "name", json_string(name));
	status = raw_call(http, "POST", "/sessions", body, &reply);
	if (status == 200)
		status = take_session(reply, ret_session);
	json_decref(reply);
	return status;
}

int raw_session_ticket(struct raw_http *http, struct raw_session *session)
{
	json_t *reply;
	int status = call(http, NULL, &reply, "POST", "/sessions/%s/ticket", session->id);

	if (status == 200)
		status = take_session(reply, session);
	json_decref(reply);
	return status;
}

int raw_session_renew(struct raw_http *http, const struct raw_session *session)
{
	return call(http, NULL, NULL, "POST", "/sessions/%s/renew", session->id);
}

int raw_session_end(struct raw_http *http, const struct raw_session *session)
{
	return call(http, NULL, NULL, "DELETE", "/sessions/%s", session->id);
}

static int take_key(json_t *key, struct raw_key *ret_key)
{
	json_int_t addr;
	json_int_t rkey;
	json_int_t len;
	json_int_t connection;

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
	const char *id = NULL;
	json_t *key = json_object_get(reply, "rdma");

	memset(ret_key, 0, sizeof(*ret_key));
	if (json_unpack(reply, "{s:s}", "id", &id))
		return -EPROTO;
	copy(ret_key->id, sizeof(ret_key->id), id);
	return key && !json_is_null(key) ? take_key(key, ret_key) : 200;
}

static json_t *alloc_body(const struct raw_session *session, size_t size_bytes)
{
	json_t *body = json_pack("{s:I}", "size_bytes", (json_int_t)size_bytes);

	if (session)
		json_object_set_new(body, "session", json_string(session->id));
	return body;
}

int raw_alloc(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
	      const char *lifetime, const char *access, struct raw_key *ret_key)
{
	json_t *body = alloc_body(session, size_bytes);
	json_t *reply;
	int status;

	if (lifetime)
		json_object_set_new(body, "lifetime", json_string(lifetime));
	if (access)
		json_object_set_new(body, "access", json_string(access));
	status = raw_call(http, "POST", "/allocate", body, &reply);
	if (status == 200)
		status = take_allocation(reply, ret_key);
	json_decref(reply);
	return status;
}

int raw_alloc_many(struct raw_http *http, const struct raw_session *session, size_t size_bytes,
		   uint32_t count, struct raw_key *ret_keys)
{
	json_t *body = alloc_body(session, size_bytes);
	json_t *reply;
	json_t *list;
	int status;

	json_object_set_new(body, "count", json_integer(count));
	status = raw_call(http, "POST", "/allocate", body, &reply);
	list = json_object_get(reply, "allocations");
	if (status == 200 && json_array_size(list) != count)
		status = -EPROTO;
	for (uint32_t i = 0; i < count && status == 200; i++)
		status = take_allocation(json_array_get(list, i), &ret_keys[i]);
	json_decref(reply);
	return status;
}

int raw_free(struct raw_http *http, const char *id)
{
	return call(http, NULL, NULL, "DELETE", "/allocate/%s", id);
}

int raw_free_many(struct raw_http *http, const struct raw_key *keys, uint32_t count)
{
	json_t *ids = json_array();
	json_t *reply;
	int freed = 0;
	int status;

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(ids, json_string(keys[i].id));
	status = raw_call(http, "POST", "/free", json_pack("{s:o}", "ids", ids), &reply);
	if (status == 200 && (json_unpack(reply, "{s:i}", "freed", &freed) || freed != (int)count))
		status = -EPROTO;
	json_decref(reply);
	return status;
}

int raw_grant(struct raw_http *http, const char *id, const struct raw_session *session,
	      const char *access, struct raw_key *ret_key)
{
	json_t *body = json_pack("{s:s, s:s}", "session", session->id, "access", access);
	json_t *reply;
	int status = call(http, body, &reply, "POST", "/allocate/%s/grant", id);

	if (status == 200) {
		if (id != ret_key->id)
			copy(ret_key->id, sizeof(ret_key->id), id);
		status = take_key(reply, ret_key);
	}
	json_decref(reply);
	return status;
}

int raw_ungrant(struct raw_http *http, const char *id, const struct raw_session *session)
{
	return call(http, NULL, NULL, "DELETE", "/allocate/%s/grant/%s", id, session->id);
}
