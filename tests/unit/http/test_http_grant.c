/* SPDX-License-Identifier: Apache-2.0 */
/* Keys for another session, and the ends of keys: at once, late, never confirmed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

#define NO_ID "00000000-0000-8000-8000-000000000000"

static struct http_fixture f;
static struct http_keys keys;
static char session[MAAS_SLAB_ID_TEXT];

static int start(void **state)
{
	const struct maas_http_options options = {.threads = 2};

	(void)state;
	http_keys_init(&keys);
	http_fixture_start_keys(&f, &options, &keys);
	http_open_session(&f, "one", session);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	http_fixture_stop(&f);
	http_keys_fini(&keys);
	return 0;
}

static const char *allocate_body(const char *more)
{
	static char body[256];

	snprintf(body, sizeof(body), "{\"size_bytes\":100,\"session\":\"%s\"%s}", session, more);
	return body;
}

static uint64_t live_allocations(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f.slab, &stats);
	return stats.live_slabs;
}

/* ---- grants */

static void grant__life(void **state)
{
	char other[MAAS_SLAB_ID_TEXT];
	char body[128];
	char path[160];
	char id[MAAS_SLAB_ID_TEXT];
	json_t *json;
	json_int_t rkey;

	(void)state;
	http_open_session(&f, "two", other);
	http_allocate(&f, 5000, id);
	snprintf(path, sizeof(path), "/allocate/%s/grant", id);
	snprintf(body, sizeof(body), "{\"session\":\"%s\",\"access\":\"r\"}", other);
	json = http_json(&f, "POST", path, body, 200);
	rkey = http_rkey(json, 5000);
	json_decref(json);
	json = http_json(&f, "POST", path, body, 200);
	assert_int_equal(http_rkey(json, 5000), rkey);
	json_decref(json);
	snprintf(body, sizeof(body), "{\"session\":\"%s\",\"access\":\"rw\"}", other);
	http_expect_error(&f, "POST", path, body, 409, "already_granted");
	snprintf(path, sizeof(path), "/allocate/%s/grant/%s", id, other);
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	assert_int_equal(http_keys_live(&keys), 0);
	http_expect_error(&f, "DELETE", path, NULL, 404, "not_found");
}

static void grant__unknown(void **state)
{
	char body[128];
	char path[160];
	char id[MAAS_SLAB_ID_TEXT];

	(void)state;
	http_allocate(&f, 1, id);
	snprintf(body, sizeof(body), "{\"session\":\"%s\",\"access\":\"r\"}", session);
	http_expect_error(&f, "POST", "/allocate/" NO_ID "/grant", body, 404, "not_found");
	snprintf(path, sizeof(path), "/allocate/%s/grant", id);
	http_expect_error(&f, "POST", path, "{\"session\":\"" NO_ID "\",\"access\":\"r\"}", 404,
			  "unknown_session");
	http_expect_error(&f, "POST", path, "{\"session\":\"x\",\"access\":\"none\"}", 400,
			  "bad_field");
	snprintf(path, sizeof(path), "/allocate/%s/grant/" NO_ID, id);
	http_expect_error(&f, "DELETE", path, NULL, 404, "unknown_session");
	snprintf(path, sizeof(path), "/allocate/" NO_ID "/grant/%s", session);
	http_expect_error(&f, "DELETE", path, NULL, 404, "not_found");
}

static void grant__late_and_failed_ends(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(""), 200);
	const char *id = json_string_value(json_object_get(json, "id"));
	static const int ends[] = {-ETIMEDOUT, -EIO, 0};
	int fd;

	(void)state;
	http_keys_set(&keys, hold, true);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(ends); i++) {
		fd = http_connect(&f);
		http_send_text(fd,
			       "DELETE /allocate/%s/grant/%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
			       id, session);
		http_keys_await(&keys, 1);
		assert_true(http_keys_finish(&keys, ends[i]));
		if (!ends[i])
			http_expect_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n");
		else
			http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	}
	assert_int_equal(live_allocations(), 1);
	assert_int_equal(http_keys_live(&keys), 0);
	json_decref(json);
}

/* ---- ends that no key confirms */

static uint64_t quarantined(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(f.slab, &stats);
	return stats.quarantined_bytes;
}

static void delete_later(int fd, const char *kind, const char *id)
{
	http_send_text(fd, "DELETE /%s/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", kind, id);
	http_keys_await(&keys, 1);
}

/* Its memory is kept back until the key is dead after all. */
static void free__unconfirmed(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(",\"count\":2"), 200);
	const json_t *all = json_object_get(json, "allocations");
	const char *one = json_string_value(json_object_get(json_array_get(all, 0), "id"));
	const char *two = json_string_value(json_object_get(json_array_get(all, 1), "id"));
	char text[160];
	int fd = http_connect(&f);

	(void)state;
	maas_log_set_level(MAAS_LOG_ERR);
	http_keys_set(&keys, hold, true);
	delete_later(fd, "allocate", one);
	assert_true(http_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	assert_int_equal(quarantined(), 1024);
	snprintf(text, sizeof(text), "/allocate/%s", one);
	http_expect_error(&f, "DELETE", text, NULL, 404, "not_found");
	http_keys_set(&keys, hold, false);
	while (http_keys_finish(&keys, 0))
		;
	while (quarantined())
		usleep(1000);

	http_keys_set(&keys, hold, true);
	fd = http_connect(&f);
	snprintf(text, sizeof(text), "{\"ids\":[\"" NO_ID "\",\"%s\"]}", two);
	http_post_later(fd, "/free", text);
	http_keys_await(&keys, 1);
	assert_true(http_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	assert_int_equal(live_allocations(), 0);
	json_decref(json);
}

static void free__waits_for_keys(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(""), 200);
	int fd = http_connect(&f);
	char buffer[16];

	(void)state;
	http_keys_set(&keys, hold, true);
	delete_later(fd, "allocate", json_string_value(json_object_get(json, "id")));
	assert_int_equal(http_recv(fd, buffer, sizeof(buffer) - 1, 50), 0);
	assert_true(http_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n");
	json_decref(json);
}

static void session__end_unconfirmed(void **state)
{
	int fd = http_connect(&f);
	char path[80];

	(void)state;
	maas_log_set_level(MAAS_LOG_ERR);
	json_decref(http_json(&f, "POST", "/allocate", allocate_body(",\"lifetime\":\"session\""),
			      200));
	http_keys_set(&keys, hold, true);
	delete_later(fd, "sessions", session);
	snprintf(path, sizeof(path), "/sessions/%s", session);
	http_expect_error(&f, "DELETE", path, NULL, 404, "unknown_session");
	assert_true(http_keys_finish(&keys, -ETIMEDOUT));
	http_keys_await(&keys, 1);
	assert_true(http_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
}

/* A server that stops does not say that keys are dead while they are not. */
static void stop__while_a_key_dies(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(""), 200);
	int fd = http_connect(&f);
	char buffer[4096];

	(void)state;
	http_keys_set(&keys, hold, true);
	delete_later(fd, "allocate", json_string_value(json_object_get(json, "id")));
	json_decref(json);
	stop(NULL);
	if (http_recv(fd, buffer, sizeof(buffer) - 1, 1000))
		assert_non_null(strstr(buffer, "\"stopping\""));
	close(fd);
	start(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(grant__life),
		TEST(grant__unknown),
		TEST(grant__late_and_failed_ends),
		TEST(free__unconfirmed),
		TEST(free__waits_for_keys),
		TEST(session__end_unconfirmed),
		TEST(stop__while_a_key_dies),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
