/* SPDX-License-Identifier: Apache-2.0 */
/* A server in the test's process, with a thread for its housekeeping, and requests by curl. */
#include "tests/unit/http/http_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t classes[] = {1024, 2048, 4096, 8192, 512 << 10, 1 << 20, 4 << 20};

static void *housekeeping(void *arg)
{
	struct http_fixture *f = arg;

	while (!atomic_load(&f->stop)) {
		const struct timespec pause = {.tv_nsec = 20000000L};

		maas_lend_tick(f->lend);
		maas_http_tick(f->http);
		maas_slab_reclaim(f->slab, maas_clock_ms(), 64 << 20);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void http_fixture_limits(struct maas_http_options *options)
{
	if (!options->socket_mode)
		options->socket_mode = 0660;
	if (!options->max_connections)
		options->max_connections = 4096;
	if (!options->max_body_bytes)
		options->max_body_bytes = 1 << 20;
	if (!options->max_header_bytes)
		options->max_header_bytes = 16 << 10;
	if (!options->max_held_bytes)
		options->max_held_bytes = 256 << 20;
	if (!options->timeout_s)
		options->timeout_s = 30;
}

void http_fixture_start_keys(struct http_fixture *f, const struct maas_http_options *options,
			     struct http_keys *keys)
{
	static const char *const local[] = {"127.0.0.1:0"};
	const struct maas_slab_options slab = {
		.max_bytes = 64 << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.dir_fd = -1,
	};
	struct maas_http_options http = *options;
	struct maas_lend_options lend = {.max_sessions = 4};
	char error[MAAS_HTTP_ERROR] = "";

	memset(f, 0, sizeof(*f));
	maas_log_set_level(MAAS_LOG_WARN);
	assert_int_equal(maas_slab_open(&slab, error, &f->slab), 0);
	lend.slab = f->slab;
	f->keys = keys;
	if (keys) {
		keys->slab = f->slab;
		lend.keys = &http_key_ops;
		lend.keys_ctx = keys;
	}
	assert_int_equal(maas_lend_open(&lend, &f->lend), 0);
	http.slab = f->slab;
	http.lend = f->lend;
	http.boot_id = "b007";
	http_fixture_limits(&http);
	if (!http.num_listen) {
		http.listen = local;
		http.num_listen = 1;
	}
	if (maas_http_start(&http, error, &f->http))
		fail_msg("%s", error);
	assert_int_equal(pthread_create(&f->housekeeping, NULL, housekeeping, f), 0);
	f->curl = curl_easy_init();
	assert_non_null(f->curl);
}

void http_fixture_start(struct http_fixture *f, const struct maas_http_options *options)
{
	http_fixture_start_keys(f, options, NULL);
}

void http_fixture_stop(struct http_fixture *f)
{
	curl_easy_cleanup(f->curl);
	atomic_store(&f->stop, true);
	pthread_join(f->housekeeping, NULL);
	maas_http_stop(f->http);
	while (f->keys && http_keys_finish(f->keys, 0))
		;
	maas_lend_close(f->lend);
	maas_slab_check(f->slab);
	maas_slab_close(f->slab);
}

unsigned int http_fixture_port(const struct http_fixture *f)
{
	return (unsigned int)strtoul(strrchr(maas_http_url(f->http, 0), ':') + 1, NULL, 10);
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
	struct http_answer *a = arg;
	size_t len = size * count;
	char *body = realloc(a->body, a->len + len + 1);

	if (!body)
		return 0; /* an error of curl's */
	a->body = body;
	memcpy(a->body + a->len, data, len);
	a->len += len;
	a->body[a->len] = '\0';
	return len;
}

static size_t take_header(char *data, size_t size, size_t count, void *arg)
{
	struct http_answer *a = arg;
	size_t len = size * count;

	if (len > 5 && !memcmp(data, "HTTP/", 5))
		a->headers[0] = '\0';
	if (strlen(a->headers) + len < sizeof(a->headers))
		strncat(a->headers, data, len);
	return len;
}

static struct curl_slist *header_list(const char *headers)
{
	struct curl_slist *list = NULL;

	while (headers && *headers) {
		size_t len = strcspn(headers, "\n");
		char line[512];

		snprintf(line, sizeof(line), "%.*s", (int)len, headers);
		list = curl_slist_append(list, line);
		headers += len + (headers[len] != '\0');
	}
	return list;
}

void http_call(struct http_fixture *f, struct http_answer *a, const char *method, const char *path,
	       const void *body, size_t len, const char *headers)
{
	struct curl_slist *list = header_list(headers);
	char url[512];

	*a = (struct http_answer){.body = calloc(1, 1)};
	curl_easy_reset(f->curl);
	snprintf(url, sizeof(url), "%s%s", maas_http_url(f->http, 0), path);
	curl_easy_setopt(f->curl, CURLOPT_URL, url);
	if (!strncmp(url, "unix:", 5)) {
		curl_easy_setopt(f->curl, CURLOPT_UNIX_SOCKET_PATH, maas_http_url(f->http, 0) + 5);
		snprintf(url, sizeof(url), "http://localhost%s", path);
		curl_easy_setopt(f->curl, CURLOPT_URL, url);
	}
	curl_easy_setopt(f->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(f->curl, CURLOPT_NOBODY, (long)!strcmp(method, "HEAD"));
	curl_easy_setopt(f->curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(f->curl, CURLOPT_TIMEOUT, 30L);
	curl_easy_setopt(f->curl, CURLOPT_NOSIGNAL, 1L);
	if (body) {
		if (!headers || !strstr(headers, "Content-Type:"))
			list = curl_slist_append(list, "Content-Type: application/json");
		curl_easy_setopt(f->curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(f->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	}
	curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(f->curl, CURLOPT_HEADERDATA, a);
	if (curl_easy_perform(f->curl) == CURLE_OK)
		curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &a->status);
	curl_easy_getinfo(f->curl, CURLINFO_NUM_CONNECTS, &a->new_connections);
	curl_slist_free_all(list);
}

json_t *http_json(struct http_fixture *f, const char *method, const char *path, const char *body,
		  long status)
{
	struct http_answer a;
	json_error_t error;
	json_t *json = NULL;

	http_call(f, &a, method, path, body, body ? strlen(body) : 0, NULL);
	if (a.status != status)
		fail_msg("%s %s: %ld, not %ld: %s", method, path, a.status, status, a.body);
	assert_true(http_has_header(&a, "Cache-Control: no-store"));
	if (a.len) {
		assert_true(http_has_header(&a, "Content-Type: application/json"));
		json = json_loadb(a.body, a.len, JSON_REJECT_DUPLICATES, &error);
		if (!json)
			fail_msg("%s: %s", error.text, a.body);
	}
	http_answer_fini(&a);
	return json;
}

void http_expect_error(struct http_fixture *f, const char *method, const char *path,
		       const char *body, long status, const char *code)
{
	json_t *json = http_json(f, method, path, body, status);
	const char *text = NULL;
	const char *got = NULL;

	assert_int_equal(
		json_unpack(json, "{s:{s:s,s:s}}", "error", "code", &got, "message", &text), 0);
	assert_string_equal(got, code);
	assert_true(strlen(text) > 10);
	json_decref(json);
}

void http_answer_fini(struct http_answer *a)
{
	free(a->body);
	a->body = NULL;
}

bool http_has_header(const struct http_answer *a, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = a->headers; (at = strstr(at, line)); at++)
		if (at > a->headers && at[-1] == '\n' && at[len] == '\r')
			return true;
	return false;
}

void http_wait_idle(struct http_fixture *f)
{
	const struct timespec pause = {.tv_nsec = 5000000L};

	for (int i = 0; i < 2000 && maas_http_active(f->http); i++)
		nanosleep(&pause, NULL);
	assert_int_equal(maas_http_active(f->http), 0);
}

void http_allocate(struct http_fixture *f, uint64_t size_bytes, char id[MAAS_SLAB_ID_TEXT])
{
	char body[64];
	json_t *json;

	snprintf(body, sizeof(body), "{\"size_bytes\":%llu}", (unsigned long long)size_bytes);
	json = http_json(f, "POST", "/allocate", body, 200);
	snprintf(id, MAAS_SLAB_ID_TEXT, "%s", json_string_value(json_object_get(json, "id")));
	assert_int_equal(strlen(id), MAAS_SLAB_ID_TEXT - 1);
	json_decref(json);
}

void http_open_session(struct http_fixture *f, const char *name, char id[MAAS_SLAB_ID_TEXT])
{
	char body[64];
	json_t *json;

	snprintf(body, sizeof(body), "{\"name\":\"%s\"}", name);
	json = http_json(f, "POST", "/sessions", body, 200);
	snprintf(id, MAAS_SLAB_ID_TEXT, "%s", json_string_value(json_object_get(json, "id")));
	json_decref(json);
}

json_int_t http_rkey(const json_t *grant, json_int_t length)
{
	json_int_t addr = -1;
	json_int_t rkey = -1;
	json_int_t len = -1;
	json_int_t connection = -1;

	assert_int_equal(json_object_size(grant), 4);
	assert_int_equal(json_unpack((json_t *)(uintptr_t)grant, "{s:I,s:I,s:I,s:I}", "addr", &addr,
				     "rkey", &rkey, "length", &len, "connection", &connection),
			 0);
	assert_in_range(addr, 0, (64 << 20) - 1);
	assert_int_equal(len, length);
	assert_int_equal(connection, HTTP_KEYS_CONNECTION);
	return rkey;
}

int http_connect(const struct http_fixture *f)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sin_port = htons((uint16_t)http_fixture_port(f));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

bool http_send(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

void http_send_text(int fd, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	http_send(fd, text, strlen(text));
}

size_t http_recv(int fd, char *buffer, size_t max, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	size_t len = 0;

	while (len < max && poll(&wait, 1, timeout_ms) > 0) {
		ssize_t n = recv(fd, buffer + len, max - len, 0);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buffer[len] = '\0';
	return len;
}

/* Whether the answer in `buffer` is there to its end. */
static bool is_whole(const char *buffer, size_t len)
{
	const char *body = strstr(buffer, "\r\n\r\n");
	const char *length = strstr(buffer, "Content-Length: ");

	return body && length && length < body &&
	       len >= (size_t)(body + 4 - buffer) + strtoul(length + 16, NULL, 10);
}

int http_recv_answer(int fd, char *buffer, size_t max)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	size_t len = 0;

	*buffer = '\0';
	while (len < max && !is_whole(buffer, len) && poll(&wait, 1, 5000) > 0) {
		ssize_t n = recv(fd, buffer + len, max - len, 0);

		if (n <= 0)
			break;
		len += (size_t)n;
		buffer[len] = '\0';
	}
	return len > 12 ? (int)strtol(buffer + 9, NULL, 10) : 0;
}

void http_post_later(int fd, const char *path, const char *body)
{
	http_send_text(fd,
		       "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		       "application/json\r\nContent-Length: %zu\r\n\r\n%s",
		       path, strlen(body), body);
}

void http_expect_answer(int fd, const char *status, const char *text)
{
	char buffer[4096] = "";
	size_t len = 0;
	size_t n;

	do {
		n = http_recv(fd, buffer + len, 1, 30000);
		len += n;
	} while (n && len < sizeof(buffer) - 1 && !strstr(buffer, text));
	if (strncmp(buffer, status, strlen(status)) != 0 || !strstr(buffer, text))
		fail_msg("not %s %s: %s", status, text, buffer);
	close(fd);
}
