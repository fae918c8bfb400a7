/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations with keys: given, refused, late; and what becomes of those that waited for them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

#define NO_ID "00000000-0000-8000-8000-000000000000"
#define MANY  10000

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

/* ---- allocations */

static void allocate__with_key(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(""), 200);

	(void)state;
	assert_int_equal(json_object_size(json), 6);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 1);
	assert_int_equal(keys.keys[0].access, MAAS_LEND_ACCESS_WRITE);
	json_decref(json);
	json = http_json(&f, "POST", "/allocate", allocate_body(",\"access\":\"r\""), 200);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 2);
	assert_int_equal(keys.keys[1].access, MAAS_LEND_ACCESS_READ);
	json_decref(json);
}

static void allocate__without_key(void **state)
{
	json_t *json;

	(void)state;
	json = http_json(&f, "POST", "/allocate", "{\"size_bytes\":1}", 200);
	assert_null(json_object_get(json, "rdma"));
	json_decref(json);
	http_keys_set(&keys, unconnected, true);
	json = http_json(&f, "POST", "/allocate",
			 allocate_body(",\"access\":\"none\",\"lifetime\":\"session\""), 200);
	assert_true(json_is_null(json_object_get(json, "rdma")));
	json_decref(json);
	assert_int_equal(http_keys_live(&keys), 0);
	http_expect_error(&f, "POST", "/allocate", "{\"size_bytes\":1,\"access\":\"none\"}", 400,
			  "missing_field");
	http_expect_error(&f, "POST", "/allocate", allocate_body(",\"access\":\"w\""), 400,
			  "bad_field");
}

/* All ids and all keys differ, and each key is of its own slab. */
static void allocate__batch(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", allocate_body(",\"count\":10000"), 200);
	const json_t *all = json_object_get(json, "allocations");
	static bool seen[MANY + 1];

	(void)state;
	memset(seen, 0, sizeof(seen));
	assert_int_equal(json_array_size(all), MANY);
	assert_int_equal(http_keys_live(&keys), MANY);
	for (size_t i = 0; i < MANY; i++) {
		const json_t *one = json_array_get(all, i);
		json_int_t rkey = http_rkey(json_object_get(one, "rdma"), 100);
		char id[MAAS_SLAB_ID_TEXT];

		assert_in_range(rkey, 1, MANY);
		assert_false(seen[rkey]);
		seen[rkey] = true;
		maas_lend_id(f.lend, keys.keys[rkey - 1].ref, id);
		assert_string_equal(json_string_value(json_object_get(one, "id")), id);
	}
	json_decref(json);
	json = http_json(&f, "POST", "/allocate", allocate_body(",\"count\":1"), 200);
	all = json_object_get(json, "allocations");
	assert_int_equal(json_array_size(all), 1);
	http_rkey(json_object_get(json_array_get(all, 0), "rdma"), 100);
	json_decref(json);
}

static void allocate__refused(void **state)
{
	static const struct {
		int error;
		long status;
		const char *code;
	} cases[] = {
		{-ENOTCONN, 409, "not_connected"}, {-EDQUOT, 507, "grants_exhausted"},
		{-EMLINK, 507, "device_limit"},	   {-EEXIST, 409, "already_granted"},
		{-ENOMEM, 503, "out_of_memory"},   {-ESHUTDOWN, 503, "rdma_failed"},
		{-EIO, 409, "not_connected"},
	};

	(void)state;
	maas_log_set_level(MAAS_LOG_ERR);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		char grant[80];
		char id[MAAS_SLAB_ID_TEXT];
		char body[128];

		http_allocate(&f, 1, id);
		snprintf(grant, sizeof(grant), "/allocate/%s/grant", id);
		snprintf(body, sizeof(body), "{\"session\":\"%s\",\"access\":\"rw\"}", session);
		http_keys_set(&keys, start_error, cases[i].error);
		http_expect_error(&f, "POST", "/allocate", allocate_body(""), cases[i].status,
				  cases[i].code);
		http_expect_error(&f, "POST", "/allocate", allocate_body(",\"count\":30"),
				  cases[i].status, cases[i].code);
		http_expect_error(&f, "POST", grant, body, cases[i].status, cases[i].code);
		assert_int_equal(live_allocations(), i + 1);
	}
	http_expect_error(&f, "POST", "/allocate", "{\"size_bytes\":1,\"session\":\"" NO_ID "\"}",
			  404, "unknown_session");
}

static void allocate__all_or_none(void **state)
{
	(void)state;
	http_keys_set(&keys, max_grants, 20);
	http_expect_error(&f, "POST", "/allocate", allocate_body(",\"count\":21"), 507,
			  "grants_exhausted");
	assert_int_equal(live_allocations(), 0);
	assert_int_equal(http_keys_live(&keys), 0);
	json_decref(http_json(&f, "POST", "/allocate", allocate_body(",\"count\":20"), 200));
	http_expect_error(&f, "POST", "/allocate", allocate_body(""), 507, "grants_exhausted");
	json_decref(http_json(&f, "POST", "/allocate", "{\"size_bytes\":1}", 200));
	assert_int_equal(live_allocations(), 21);
}

static void allocate__request_id_again(void **state)
{
	const char *body = allocate_body(",\"request_id\":\"r\"");
	json_t *first = http_json(&f, "POST", "/allocate", body, 200);
	json_t *again = http_json(&f, "POST", "/allocate", body, 200);
	char path[80];

	(void)state;
	assert_true(json_equal(first, again));
	json_decref(again);
	http_expect_error(&f, "POST", "/allocate",
			  allocate_body(",\"request_id\":\"r\",\"access\":\"r\""), 409,
			  "request_id_reused");
	snprintf(path, sizeof(path), "/allocate/%s",
		 json_string_value(json_object_get(first, "id")));
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	http_expect_error(&f, "POST", "/allocate", allocate_body(",\"request_id\":\"r\""), 404,
			  "not_found");
	json_decref(first);
}

/* ---- late keys */

static void allocate__waits_for_its_key(void **state)
{
	int fd = http_connect(&f);
	char buffer[16];

	(void)state;
	http_keys_set(&keys, hold, true);
	http_post_later(fd, "/allocate", allocate_body(",\"count\":2"));
	http_keys_await(&keys, 1);
	assert_int_equal(http_recv(fd, buffer, sizeof(buffer) - 1, 50), 0);
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
	assert_true(http_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\"rkey\":2");
}

static void allocate__key_fails_late(void **state)
{
	int fd = http_connect(&f);

	(void)state;
	http_keys_set(&keys, hold, true);
	http_post_later(fd, "/allocate", allocate_body(""));
	http_keys_await(&keys, 1);
	assert_true(http_keys_finish(&keys, -EMLINK));
	http_expect_answer(fd, "HTTP/1.1 507 ", "\"device_limit\"");
	assert_int_equal(live_allocations(), 0);
}

static void allocate__client_leaves_while_waiting(void **state)
{
	(void)state;
	http_keys_set(&keys, hold, true);
	for (unsigned int i = 0; i < 8; i++) {
		int fd = http_connect(&f);

		http_post_later(fd, "/allocate", allocate_body(",\"count\":100"));
		http_keys_await(&keys, 1);
		close(fd);
		assert_true(http_keys_finish(&keys, i % 2 ? -EIO : 0));
	}
	http_wait_idle(&f);
	assert_int_equal(live_allocations(), 400);
	assert_int_equal(http_keys_live(&keys), 400);
}

/* The keys end after the server has: what they fill in must still be there. */
static void stop__while_keys_are_awaited(void **state)
{
	char id[MAAS_SLAB_ID_TEXT];
	char path[80];
	char body[128];
	int fds[3];

	(void)state;
	http_allocate(&f, 1, id);
	snprintf(path, sizeof(path), "/allocate/%s/grant", id);
	snprintf(body, sizeof(body), "{\"session\":\"%s\",\"access\":\"rw\"}", session);
	http_keys_set(&keys, hold, true);
	for (unsigned int i = 0; i < 3; i++)
		fds[i] = http_connect(&f);
	http_post_later(fds[0], "/allocate", allocate_body(",\"count\":100"));
	http_post_later(fds[1], "/allocate", allocate_body(""));
	http_post_later(fds[2], path, body);
	http_keys_await(&keys, 3);
	stop(NULL);
	for (unsigned int i = 0; i < 3; i++)
		close(fds[i]);
	start(NULL);
}

/* What large requests hold is counted together while they last. */
static void held__is_bounded(void **state)
{
	const struct maas_http_options options = {.threads = 2, .max_held_bytes = 4 << 20};
	int fd;

	(void)state;
	stop(NULL);
	http_keys_init(&keys);
	http_fixture_start_keys(&f, &options, &keys);
	http_open_session(&f, "one", session);
	http_keys_set(&keys, hold, true);
	fd = http_connect(&f);
	http_post_later(fd, "/allocate", allocate_body(",\"count\":10000"));
	http_keys_await(&keys, 1);
	http_expect_error(&f, "POST", "/allocate", "{\"size_bytes\":1,\"count\":10000}", 503,
			  "busy");
	http_expect_error(&f, "GET", "/allocations?limit=10000", NULL, 503, "busy");
	json_decref(http_json(&f, "POST", "/allocate", "{\"size_bytes\":1,\"count\":100}", 200));
	json_decref(http_json(&f, "GET", "/allocations?limit=100", NULL, 200));
	assert_true(http_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\"rkey\":1,");
	http_wait_idle(&f);
	json_decref(http_json(&f, "GET", "/allocations?limit=10000", NULL, 200));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(allocate__with_key),
		TEST(allocate__without_key),
		TEST(allocate__batch),
		TEST(allocate__refused),
		TEST(allocate__all_or_none),
		TEST(allocate__request_id_again),
		TEST(allocate__waits_for_its_key),
		TEST(allocate__key_fails_late),
		TEST(allocate__client_leaves_while_waiting),
		TEST(stop__while_keys_are_awaited),
		TEST(held__is_bounded),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
