/* SPDX-License-Identifier: Apache-2.0 */
/* A server in the test's process, with a thread for its housekeeping, and requests by curl. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

struct http_fixture server;
struct fake_keys keys;
const char *http_session;
uint64_t http_extent_bytes;

/* ---- what is the fixture's own */

struct owned {
	void *object;
	void (*end)(void *object);
	SLIST_ENTRY(owned) link;
};

static SLIST_HEAD(, owned) owned;

static void *own(void *object, void (*end)(void *object))
{
	struct owned *one = malloc(sizeof(*one));

	assert_true(one && object);
	*one = (struct owned){.object = object, .end = end};
	SLIST_INSERT_HEAD(&owned, one, link);
	return object;
}

static void end_owned(void)
{
	struct owned *one;

	while ((one = SLIST_FIRST(&owned))) {
		SLIST_REMOVE_HEAD(&owned, link);
		one->end(one->object);
		free(one);
	}
}

static void end_json(void *json)
{
	json_decref(json);
}

static char *text_of(const char *fmt, va_list args)
{
	char *text = NULL;

	assert_true(vasprintf(&text, fmt, args) >= 0);
	return own(text, free);
}

const char *http_text(const char *fmt, ...)
{
	const char *text;
	va_list args;

	va_start(args, fmt);
	text = text_of(fmt, args);
	va_end(args);
	return text;
}

const char *http_request(const char *fmt, ...)
{
	struct maas_buf out = {0};
	char *rest, *line;
	va_list args;

	va_start(args, fmt);
	rest = text_of(fmt, args);
	va_end(args);
	line = strsep(&rest, "\n");
	maas_buf_printf(&out, "%s HTTP/1.1\r\nHost: localhost\r\n", line);
	if (!strncmp(line, "POST ", 5) && strcmp(line, "POST /data/write") != 0)
		maas_buf_str(&out, "Content-Type: application/json\r\n");
	while ((line = strsep(&rest, "\n")) && *line)
		maas_buf_printf(&out, "%s\r\n", line);
	maas_buf_printf(&out, "\r\n%s", rest ? rest : "");
	maas_buf_add(&out, "", 1);
	return own(out.data, free);
}

const char *http_quoted(const char *text)
{
	char *copy = text ? own(strdup(text), free) : NULL;

	for (char *at = copy; at && (at = strchr(at, '\''));)
		*at = '"';
	return copy;
}

bool http_has(const char *text, const char *parts)
{
	char *rest = own(strdup(parts), free);

	for (char *part; (part = strsep(&rest, "*"));)
		if (!strstr(text, part))
			return false;
	return true;
}

void http_expect_parts(const char *text, const char *parts)
{
	if (!http_has(text, parts))
		fail_msg("no %s in %s", parts, text);
}

json_t *http_parse(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (!json)
		fail_msg("%s: %s", error.text, text);
	return own(json, end_json);
}

/* ---- the server */

static const uint64_t classes[] = {1024, 2048, 4096, 8192, 512 << 10, 1 << 20, 4 << 20};

static void *housekeeping(void *arg)
{
	(void)arg;
	while (!atomic_load(&server.stop)) {
		maas_lend_tick(server.lend);
		maas_http_tick(server.http);
		maas_slab_reclaim(server.slab, maas_clock_ms(), 64 << 20);
		nap_ms(20);
	}
	return NULL;
}

void http_fill_options(struct maas_http_options *options)
{
	static const char *const local[] = {"127.0.0.1:0"};

	options->slab = server.slab;
	options->lend = server.lend;
	options->boot_id = "b007";
	options->listen = options->listen ?: local;
	options->num_listen = options->num_listen ?: 1;
	options->threads = options->threads ?: 2;
	options->socket_mode = options->socket_mode ?: 0660;
	options->max_connections = options->max_connections ?: 4096;
	options->max_body_bytes = options->max_body_bytes ?: 1 << 20;
	options->max_header_bytes = options->max_header_bytes ?: 16 << 10;
	options->max_held_bytes = options->max_held_bytes ?: 256 << 20;
	options->timeout_s = options->timeout_s ?: 30;
}

void http_start(const struct maas_http_options *options, bool with_keys)
{
	const struct maas_slab_options slab = {
		.max_bytes = 64 << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = http_extent_bytes,
	};
	struct maas_lend_options lend = {.max_sessions = 4};
	struct maas_http_options http = *options;
	char error[MAAS_HTTP_ERROR] = "";

	http_stop();
	server = (struct http_fixture){.has_keys = with_keys};
	maas_log_set_level(MAAS_LOG_WARN);
	assert_int_equal(maas_slab_open(&slab, error, &server.slab), 0);
	lend.slab = server.slab;
	if (with_keys) {
		fake_keys_init(&keys, FAKE_KEYS_AT_ONCE);
		keys.slab = server.slab;
		lend.keys = &fake_key_ops;
		lend.keys_ctx = &keys;
	}
	assert_int_equal(maas_lend_open(&lend, &server.lend), 0);
	http_fill_options(&http);
	if (maas_http_start(&http, error, &server.http))
		fail_msg("%s", error);
	threads_start(&server.housekeeping, 1, housekeeping, NULL, 0);
	server.curl = curl_easy_init();
	assert_non_null(server.curl);
	if (with_keys)
		http_session = http_open_session("one");
}

void http_use_principals(const char *text)
{
	struct maas_auth *auth = NULL;
	char error[MAAS_AUTH_ERROR];

	if (maas_auth_parse(text, strlen(text), error, &auth))
		fail_msg("%s", error);
	assert_int_equal(maas_lend_set_auth(server.lend, auth), 0);
	maas_auth_unref(auth);
}

void http_setup(void)
{
	HTTP_START();
}

void http_setup_keys(void)
{
	HTTP_START_KEYS();
}

void http_teardown(void)
{
	http_stop();
	end_owned();
}

void http_stop(void)
{
	if (!server.curl)
		return;
	curl_easy_cleanup(server.curl);
	server.curl = NULL;
	atomic_store(&server.stop, true);
	pthread_join(server.housekeeping, NULL);
	maas_http_stop(server.http);
	while (server.has_keys && fake_keys_finish(&keys, 0))
		;
	maas_lend_close(server.lend);
	maas_slab_check(server.slab);
	maas_slab_close(server.slab);
	if (server.has_keys)
		fake_keys_fini(&keys);
}

struct maas_lend_stats http_lend_stats(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(server.lend, &stats);
	return stats;
}

/* ---- requests */

/* What curl tells of an answer goes to files, which are memory. */
static void perform(struct http_answer *a)
{
	FILE *body = open_memstream(&a->body, &a->len);
	size_t headers_len;
	FILE *headers = open_memstream(&a->headers, &headers_len);

	assert_true(body && headers);
	curl_easy_setopt(server.curl, CURLOPT_WRITEDATA, body);
	curl_easy_setopt(server.curl, CURLOPT_HEADERDATA, headers);
	if (curl_easy_perform(server.curl) == CURLE_OK)
		curl_easy_getinfo(server.curl, CURLINFO_RESPONSE_CODE, &a->status);
	curl_easy_getinfo(server.curl, CURLINFO_NUM_CONNECTS, &a->new_connections);
	fclose(body);
	fclose(headers);
	own(a->body, free);
	own(a->headers, free);
}

const struct http_answer *http_call(const char *request, const void *body, size_t len)
{
	struct http_answer *a = own(calloc(1, sizeof(*a)), free);
	char *rest = own(strdup(request), free);
	char *path = strsep(&rest, "\n"), *method = strsep(&path, " ");
	const char *url = maas_http_url(server.http, 0);
	struct curl_slist *lines = NULL;

	curl_easy_reset(server.curl);
	if (!strncmp(url, "unix:", 5)) {
		curl_easy_setopt(server.curl, CURLOPT_UNIX_SOCKET_PATH, url + 5);
		url = "http://localhost";
	}
	curl_easy_setopt(server.curl, CURLOPT_URL, http_text("%s%s", url, path));
	curl_easy_setopt(server.curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(server.curl, CURLOPT_NOBODY, (long)!strcmp(method, "HEAD"));
	curl_easy_setopt(server.curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(server.curl, CURLOPT_TIMEOUT, 30L);
	curl_easy_setopt(server.curl, CURLOPT_NOSIGNAL, 1L);
	if (body) {
		if (!strstr(request, "Content-Type:"))
			lines = curl_slist_append(lines, "Content-Type: application/json");
		curl_easy_setopt(server.curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(server.curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	}
	for (char *line; (line = strsep(&rest, "\n"));)
		lines = curl_slist_append(lines, line);
	curl_easy_setopt(server.curl, CURLOPT_HTTPHEADER, lines);
	perform(a);
	curl_slist_free_all(lines);
	return a;
}

const struct http_answer *http_get(const char *path)
{
	return http_call(http_text("GET %s", path), NULL, 0);
}

const struct http_answer *http_expect(const char *request, const char *body, long status,
				      const char *parts)
{
	const char *sent = http_quoted(body);
	const struct http_answer *a = http_call(request, sent, sent ? strlen(sent) : 0);

	if (a->status != status || !http_has(http_text("%s%s", a->headers, a->body), parts))
		fail_msg("%s: %ld %s%s, not %ld %s", request, a->status, a->headers, a->body,
			 status, parts);
	return a;
}

json_t *http_json(const char *request, const char *body, long status)
{
	const struct http_answer *a =
		http_expect(request, body, status, "\nCache-Control: no-store\r");

	if (!a->len)
		return NULL;
	http_expect_parts(a->headers, "\nContent-Type: application/json\r");
	assert_int_equal(strlen(a->body), a->len);
	return http_parse(a->body);
}

const char *http_expect_error(const char *request, const char *body, long status, const char *code)
{
	const json_t *error = json_object_get(http_json(request, body, status), "error");

	assert_string_equal(http_string(error, "code"), code);
	assert_true(strlen(http_string(error, "message")) > 10);
	return http_string(error, "message");
}

void http_wait_idle(void)
{
	AWAIT(!maas_http_active(server.http));
}

static int log_fd = -1;

void http_log_begin(void)
{
	char name[] = "/tmp/maas-log-XXXXXX";

	log_fd = mkstemp(name);
	assert_true(log_fd >= 0);
	assert_int_equal(maas_log_open(name), 0);
	unlink(name);
	maas_log_set_level(MAAS_LOG_INFO);
}

const char *http_log_end(void)
{
	off_t len;
	char *text;

	http_wait_idle();
	maas_log_set_level(MAAS_LOG_WARN);
	assert_int_equal(maas_log_open(NULL), 0);
	len = lseek(log_fd, 0, SEEK_END);
	text = own(calloc(1, (size_t)len + 1), free);
	assert_int_equal(pread(log_fd, text, (size_t)len, 0), len);
	close(log_fd);
	return text;
}

const char *http_allocate(uint64_t size_bytes)
{
	const char *body = http_text("{'size_bytes':%llu}", (unsigned long long)size_bytes);
	const char *id = http_string(http_json("POST /allocate", body, 200), "id");

	assert_int_equal(strlen(id), MAAS_SLAB_ID_TEXT - 1);
	return id;
}

void http_free(const char *id)
{
	assert_null(http_json(http_text("DELETE /allocate/%s", id), NULL, 200));
}

const char *http_open_session(const char *name)
{
	const char *body = http_text("{'name':'%s'}", name);

	return http_string(http_json("POST /sessions", body, 200), "id");
}

const char *http_string(const json_t *json, const char *name)
{
	return json_string_value(json_object_get(json, name));
}

json_int_t http_number(const json_t *json, const char *name)
{
	const json_t *value = json_object_get(json, name);

	if (!json_is_integer(value))
		fail_msg("\"%s\" is not there", name);
	return json_integer_value(value);
}

void http_expect_members(const json_t *json, const char *fmt, ...)
{
	const char *name, *members;
	json_t *wanted, *value;
	va_list args;

	va_start(args, fmt);
	members = text_of(fmt, args);
	va_end(args);
	wanted = http_parse(http_quoted(members));
	json_object_foreach(wanted, name, value)
	{
		const json_t *found = json_object_get(json, name);

		if (!found || !json_equal(found, value))
			fail_msg("\"%s\" is not as in %s", name, members);
	}
}

json_int_t http_rkey(const json_t *grant, json_int_t length)
{
	assert_int_equal(json_object_size(grant), 4);
	assert_in_range(http_number(grant, "addr"), 0, (64 << 20) - 1);
	assert_int_equal(http_number(grant, "length"), length);
	assert_int_equal(http_number(grant, "connection"), FAKE_KEYS_CONNECTION);
	return http_number(grant, "rkey");
}

void http_add_range(struct maas_buf *json, const char *id, uint64_t offset, uint64_t len)
{
	maas_buf_str(json, json->len ? "," : "{\"ranges\":[");
	maas_buf_printf(json, "{\"id\":\"%s\",\"offset\":%llu,\"length\":%llu}", id,
			(unsigned long long)offset, (unsigned long long)len);
}

void http_add_frame(struct maas_buf *body, const struct maas_buf *json)
{
	for (int i = 0; i < 4; i++)
		maas_buf_add(body, &(unsigned char){(unsigned char)(json->len >> (8 * i))}, 1);
	maas_buf_add(body, json->data, json->len);
}
