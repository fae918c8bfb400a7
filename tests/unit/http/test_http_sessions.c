/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, and the keys that a server without RDMA does not grant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

#define NO_ID "00000000-0000-8000-8000-000000000000"

static struct http_fixture f;

static int start(void **state)
{
	const struct maas_http_options options = {.threads = 2};

	(void)state;
	http_fixture_start(&f, &options);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	http_fixture_stop(&f);
	return 0;
}

static json_int_t number(const json_t *json, const char *name)
{
	const json_t *value = json_object_get(json, name);

	if (!json_is_integer(value))
		fail_msg("\"%s\" is not there", name);
	return json_integer_value(value);
}

static void session__life(void **state)
{
	json_t *json =
		http_json(&f, "POST", "/sessions", "{\"name\":\"w\",\"ttl_seconds\":50}", 200);
	char body[160];
	char path[80];
	char id[MAAS_SLAB_ID_TEXT];
	char ticket[MAAS_LEND_TICKET_TEXT];

	(void)state;
	assert_true(json_is_null(json_object_get(json, "rdma")));
	assert_int_equal(number(json, "ttl_seconds"), 50);
	snprintf(id, sizeof(id), "%s", json_string_value(json_object_get(json, "id")));
	snprintf(ticket, sizeof(ticket), "%s", json_string_value(json_object_get(json, "ticket")));
	assert_int_equal(strlen(ticket), 32);
	json_decref(json);

	snprintf(body, sizeof(body),
		 "{\"size_bytes\":10,\"session\":\"%s\",\"lifetime\":\"session\"}", id);
	json = http_json(&f, "POST", "/allocate", body, 200);
	assert_true(json_is_null(json_object_get(json, "rdma")));
	assert_int_equal(json_object_size(json), 6);
	snprintf(body, sizeof(body), "/allocate/%s",
		 json_string_value(json_object_get(json, "id")));
	json_decref(json);

	snprintf(path, sizeof(path), "/sessions/%s/renew", id);
	json = http_json(&f, "POST", path, "{\"ttl_seconds\":70}", 200);
	assert_int_equal(number(json, "ttl_seconds"), 70);
	json_decref(json);
	snprintf(path, sizeof(path), "/sessions/%s/ticket", id);
	json = http_json(&f, "POST", path, NULL, 200);
	assert_string_not_equal(json_string_value(json_object_get(json, "ticket")), ticket);
	json_decref(json);

	snprintf(path, sizeof(path), "/sessions/%s", id);
	json_decref(http_json(&f, "GET", body, NULL, 200));
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	http_expect_error(&f, "GET", body, NULL, 404, "not_found");
	http_expect_error(&f, "DELETE", path, NULL, 404, "unknown_session");
}

static void session__exclusive_and_limit(void **state)
{
	json_t *open[4];

	(void)state;
	open[0] = http_json(&f, "POST", "/sessions", "{\"name\":\"x\",\"exclusive\":true}", 200);
	http_expect_error(&f, "POST", "/sessions", "{\"name\":\"x\",\"exclusive\":true}", 409,
			  "name_taken");
	for (int i = 1; i < 4; i++)
		open[i] = http_json(&f, "POST", "/sessions", "{}", 200);
	http_expect_error(&f, "POST", "/sessions", "{}", 429, "too_many");
	for (int i = 0; i < 4; i++) {
		char path[80];

		snprintf(path, sizeof(path), "/sessions/%s",
			 json_string_value(json_object_get(open[i], "id")));
		assert_null(http_json(&f, "DELETE", path, NULL, 200));
		json_decref(open[i]);
	}
}

static void sessions__of_a_name(void **state)
{
	json_t *open =
		http_json(&f, "POST", "/sessions",
			  "{\"name\":\"a/b@c:1\",\"ttl_seconds\":50,\"exclusive\":true}", 200);
	json_t *all = http_json(&f, "GET", "/sessions?name=a/b@c:1", NULL, 200);
	const json_t *one = json_array_get(json_object_get(all, "sessions"), 0);
	char path[80];

	(void)state;
	assert_int_equal(json_array_size(json_object_get(all, "sessions")), 1);
	assert_true(json_is_false(json_object_get(all, "more")));
	assert_int_equal(json_object_size(one), 6);
	assert_int_equal(strncmp(json_string_value(json_object_get(one, "from")), "127.0.0.1:", 10),
			 0);
	assert_true(json_is_true(json_object_get(one, "exclusive")));
	assert_int_equal(number(one, "ttl_seconds"), 50);
	assert_true(number(one, "lease_seconds") <= 50);
	assert_int_equal(number(one, "allocations"), 0);
	json_decref(all);
	snprintf(path, sizeof(path), "/sessions/%s",
		 json_string_value(json_object_get(open, "id")));
	json_decref(open);
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	all = http_json(&f, "GET", "/sessions?name=a/b@c:1", NULL, 200);
	assert_int_equal(json_array_size(json_object_get(all, "sessions")), 0);
	json_decref(all);
	http_expect_error(&f, "GET", "/sessions", NULL, 400, "missing_field");
	http_expect_error(&f, "GET", "/sessions?name", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/sessions?name=a&id=b", NULL, 400, "unknown_field");
}

/* A lease that is too long is refused by the option's name; 60 seconds where none is asked for. */
static void session__lease_has_a_maximum(void **state)
{
	static const char *const bodies[] = {
		"{\"ttl_seconds\":3601}",
		"{\"ttl_seconds\":31622401}",
		"{\"ttl_seconds\":4294967297}",
		"{\"ttl_seconds\":9223372036854775807}",
	};
	json_t *open = http_json(&f, "POST", "/sessions", "{}", 200);
	const char *text;
	const char *code;
	char renew[80];

	(void)state;
	assert_int_equal(number(open, "ttl_seconds"), 60);
	snprintf(renew, sizeof(renew), "/sessions/%s/renew",
		 json_string_value(json_object_get(open, "id")));
	json_decref(open);
	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(bodies); i++) {
		json_t *json =
			http_json(&f, "POST", i % 2 ? renew : "/sessions", bodies[i / 2], 400);

		json_unpack(json, "{s:{s:s,s:s}}", "error", "code", &code, "message", &text);
		assert_string_equal(code, "bad_field");
		assert_non_null(strstr(text, "ttl_seconds"));
		assert_non_null(strstr(text, "at most 3600"));
		assert_non_null(strstr(text, "--max-session-ttl"));
		json_decref(json);
	}
	open = http_json(&f, "POST", renew, NULL, 200);
	assert_int_equal(number(open, "ttl_seconds"), 60);
	json_decref(open);
	open = http_json(&f, "POST", renew, "{\"ttl_seconds\":3600}", 200);
	assert_int_equal(number(open, "ttl_seconds"), 3600);
	json_decref(open);
}

static void session__unknown(void **state)
{
	(void)state;
	http_expect_error(&f, "POST", "/allocate", "{\"size_bytes\":1,\"session\":\"" NO_ID "\"}",
			  404, "unknown_session");
	http_expect_error(&f, "POST", "/sessions/" NO_ID "/renew", NULL, 404, "unknown_session");
	http_expect_error(&f, "POST", "/sessions/x/ticket", NULL, 404, "unknown_session");
	http_expect_error(&f, "DELETE", "/sessions/x", NULL, 404, "unknown_session");
}

static void grant__says_that_rdma_is_off(void **state)
{
	char id[MAAS_SLAB_ID_TEXT];
	char path[120];

	(void)state;
	http_allocate(&f, 10, id);
	snprintf(path, sizeof(path), "/allocate/%s/grant", id);
	http_expect_error(&f, "POST", path, "{\"session\":\"" NO_ID "\",\"access\":\"rw\"}", 503,
			  "rdma_off");
	http_expect_error(&f, "POST", path, "{\"session\":\"" NO_ID "\"}", 400, "missing_field");
	snprintf(path, sizeof(path), "/allocate/%s/grant/" NO_ID, id);
	http_expect_error(&f, "DELETE", path, NULL, 503, "rdma_off");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(session__life),	   TEST(session__exclusive_and_limit),
		TEST(sessions__of_a_name), TEST(session__lease_has_a_maximum),
		TEST(session__unknown),	   TEST(grant__says_that_rdma_is_off),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
