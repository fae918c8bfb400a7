/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the control plane, against a server in this process. */
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

static void health__says_all(void **state)
{
	json_t *json = http_json(&f, "GET", "/health", NULL, 200);
	json_int_t timestamp;
	json_int_t uptime;
	const char *text[5];
	json_t *memory;
	json_t *rdma;

	(void)state;
	assert_int_equal(json_unpack(json, "{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:o,s:o}", "status",
				     &text[0], "service", &text[1], "version", &text[2], "arena_id",
				     &text[3], "boot_id", &text[4], "timestamp", &timestamp,
				     "uptime_seconds", &uptime, "memory", &memory, "rdma", &rdma),
			 0);
	assert_string_equal(text[0], "healthy");
	assert_string_equal(text[1], "memory-as-a-service");
	assert_string_equal(text[3], maas_slab_arena_id(f.slab));
	assert_string_equal(text[4], "b007");
	assert_int_equal(number(memory, "max_pool_size"), 64 << 20);
	assert_string_equal(json_string_value(json_object_get(rdma, "state")), "off");
	assert_true(json_is_null(json_object_get(rdma, "device")));
	json_decref(json);
}

static void stats__all_zero_at_start(void **state)
{
	json_t *json = http_json(&f, "GET", "/stats", NULL, 200);
	json_t *pools = json_object_get(json, "pool_stats");
	json_t *pool;
	size_t i;

	(void)state;
	assert_int_equal(number(json, "total_allocations"), 0);
	assert_int_equal(number(json, "active_allocations"), 0);
	assert_int_equal(number(json, "total_allocated_bytes"), 0);
	assert_int_equal(number(json, "total_in_use_bytes"), 0);
	assert_true(json_is_real(json_object_get(json, "total_allocated_mb")));
	assert_true(json_is_real(json_object_get(json, "total_in_use_mb")));
	assert_true(json_is_real(json_object_get(json, "utilization_percent")));
	assert_int_equal(number(json, "max_pool_size"), 64 << 20);
	assert_int_equal(json_array_size(pools), 7);
	json_array_foreach(pools, i, pool)
	{
		assert_int_equal(number(pool, "total_slabs"), 0);
		assert_int_equal(number(pool, "free_slabs"), 0);
		assert_int_equal(number(pool, "used_slabs"), 0);
		assert_int_equal(number(pool, "allocated_bytes"), 0);
		assert_int_equal(number(pool, "requested_bytes"), 0);
	}
	assert_int_equal(number(json_array_get(pools, 0), "slab_size"), 1024);
	assert_int_equal(number(json_object_get(json, "sessions"), "active"), 0);
	json_decref(json);
}

static void allocate__then_describe_then_delete(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", "{\"size_bytes\": 102400}", 200);
	char path[80];

	(void)state;
	assert_int_equal(json_object_size(json), 5);
	assert_int_equal(number(json, "size_bytes"), 102400);
	assert_int_equal(number(json, "actual_size_bytes"), 512 << 10);
	assert_int_equal(number(json, "age_seconds"), 0);
	assert_true(json_real_value(json_object_get(json, "size_mb")) == 0.09765625);
	snprintf(path, sizeof(path), "/allocate/%s",
		 json_string_value(json_object_get(json, "id")));
	json_decref(json);

	json = http_json(&f, "GET", path, NULL, 200);
	assert_string_equal(json_string_value(json_object_get(json, "id")), path + 10);
	assert_true(json_is_null(json_object_get(json, "owner")));
	assert_true(json_is_null(json_object_get(json, "ttl_seconds")));
	assert_true(json_is_null(json_object_get(json, "lease_seconds")));
	assert_string_equal(json_string_value(json_object_get(json, "lifetime")), "delete");
	json_decref(json);

	json = http_json(&f, "GET", "/stats", NULL, 200);
	assert_int_equal(number(json, "total_allocations"), 1);
	assert_int_equal(number(json, "active_allocations"), 1);
	assert_int_equal(number(json, "total_allocated_bytes"), 512 << 10);
	assert_int_equal(number(json, "total_in_use_bytes"), 102400);
	assert_true(json_real_value(json_object_get(json, "total_allocated_mb")) == 0.5);
	json_decref(json);

	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	http_expect_error(&f, "DELETE", path, NULL, 404, "not_found");
	http_expect_error(&f, "GET", path, NULL, 404, "not_found");
}

static void allocate__too_large_names_the_way_out(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", "{\"size_bytes\":4194305}", 413);
	const char *text;
	const char *code;

	(void)state;
	json_unpack(json, "{s:{s:s,s:s}}", "error", "code", &code, "message", &text);
	assert_string_equal(code, "too_large");
	assert_non_null(strstr(text, "4194304"));
	assert_non_null(strstr(text, "--slab-sizes"));
	json_decref(json);
}

static void allocate__pool_exhausted(void **state)
{
	json_t *json =
		http_json(&f, "POST", "/allocate", "{\"size_bytes\":4194304,\"count\":17}", 507);
	const char *text;
	const char *code;

	(void)state;
	json_unpack(json, "{s:{s:s,s:s}}", "error", "code", &code, "message", &text);
	assert_string_equal(code, "pool_exhausted");
	assert_non_null(strstr(text, "17 x 4194304"));
	assert_non_null(strstr(text, "--max-pool-size"));
	json_decref(json);
	http_wait_idle(&f);
}

static void allocate__request_id_repeats_the_answer(void **state)
{
	const char *body = "{\"size_bytes\":10,\"request_id\":\"once\"}";
	json_t *first = http_json(&f, "POST", "/allocate", body, 200);
	json_t *again = http_json(&f, "POST", "/allocate", body, 200);

	(void)state;
	assert_true(json_equal(json_object_get(first, "id"), json_object_get(again, "id")));
	http_expect_error(&f, "POST", "/allocate", "{\"size_bytes\":11,\"request_id\":\"once\"}",
			  409, "request_id_reused");
	json_decref(first);
	json_decref(again);
}

/* So many allocations that the lists of all batches before are no longer kept. */
static void allocate_many(void)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct maas_lend_alloc_request request = {.size_bytes = 1, .count = MAAS_SLAB_MAX_BATCH};
	struct maas_lend_allocation first;
	char name[32];

	for (int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		snprintf(name, sizeof(name), "many-%d", i);
		request.request_id = name;
		assert_int_equal(maas_lend_allocate(f.lend, &request, refs, &first), 0);
		for (int k = 0; k < MAAS_SLAB_MAX_BATCH; k++)
			assert_int_equal(maas_slab_free(f.slab, refs[k]), 0);
	}
}

static void allocate__request_id_of_an_old_batch(void **state)
{
	const char *body = "{\"size_bytes\":10,\"count\":2,\"request_id\":\"batch\"}";
	json_t *json = http_json(&f, "POST", "/allocate", body, 200);
	const char *text;
	const char *code;

	(void)state;
	json_decref(json);
	json_decref(http_json(&f, "POST", "/allocate", body, 200));
	allocate_many();
	json = http_json(&f, "POST", "/allocate", body, 409);
	json_unpack(json, "{s:{s:s,s:s}}", "error", "code", &code, "message", &text);
	assert_string_equal(code, "answer_forgotten");
	assert_non_null(strstr(text, "/allocations?owner="));
	json_decref(json);
}

static void allocate__lease_is_renewed(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate",
				 "{\"size_bytes\":10,\"ttl_seconds\":100,\"owner\":\"me\"}", 200);
	char path[80];

	(void)state;
	snprintf(path, sizeof(path), "/allocate/%s/renew",
		 json_string_value(json_object_get(json, "id")));
	json_decref(json);
	json = http_json(&f, "POST", path, "{\"ttl_seconds\":200}", 200);
	assert_int_equal(number(json, "ttl_seconds"), 200);
	assert_int_equal(number(json, "lease_seconds"), 200);
	assert_string_equal(json_string_value(json_object_get(json, "lifetime")), "ttl");
	assert_string_equal(json_string_value(json_object_get(json, "owner")), "me");
	json_decref(json);
	json = http_json(&f, "POST", path, NULL, 200);
	assert_int_equal(number(json, "ttl_seconds"), 200);
	json_decref(json);
	http_expect_error(&f, "POST", path, "{\"ttl_seconds\":0}", 400, "bad_field");
	http_expect_error(&f, "POST", "/allocate/" NO_ID "/renew", "{\"ttl_seconds\":1}", 404,
			  "not_found");
}

static void renew__without_a_lease(void **state)
{
	char id[MAAS_SLAB_ID_TEXT];
	char path[80];

	(void)state;
	http_allocate(&f, 10, id);
	snprintf(path, sizeof(path), "/allocate/%s/renew", id);
	http_expect_error(&f, "POST", path, "{\"ttl_seconds\":200}", 409, "not_renewable");
}

/* ---- batches */

static void batch__ten_thousand_and_free(void **state)
{
	json_t *json =
		http_json(&f, "POST", "/allocate", "{\"size_bytes\":1000,\"count\":10000}", 200);
	json_t *allocations = json_object_get(json, "allocations");
	json_t *ids = json_array();
	json_t *one;
	char *text;
	size_t i;

	(void)state;
	assert_int_equal(json_array_size(allocations), 10000);
	json_array_foreach(allocations, i, one)
	{
		assert_int_equal(json_object_size(one), 5);
		assert_int_equal(number(one, "size_bytes"), 1000);
		assert_int_equal(number(one, "actual_size_bytes"), 1024);
		if (i < 9999)
			json_array_append(ids, json_object_get(one, "id"));
	}
	json_array_append_new(ids, json_string("nonsense"));
	json_decref(json);
	json = json_pack("{s:o}", "ids", ids);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	json = http_json(&f, "POST", "/free", text, 200);
	assert_int_equal(number(json, "freed"), 9999);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), 1);
	json_decref(json);
	json = http_json(&f, "POST", "/free", text, 200);
	assert_int_equal(number(json, "freed"), 0);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), 10000);
	json_decref(json);
	free(text);
}

static void batch__of_one_is_a_batch(void **state)
{
	json_t *json = http_json(&f, "POST", "/allocate", "{\"size_bytes\":1,\"count\":1}", 200);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(json, "allocations")), 1);
	json_decref(json);
}

/* ---- lists */

static void list__pages_of_one_owner(void **state)
{
	char path[160] = "/allocations?owner=pager&limit=2";
	size_t seen = 0;
	int pages = 0;

	(void)state;
	json_decref(http_json(&f, "POST", "/allocate",
			      "{\"size_bytes\":9,\"count\":5,\"owner\":\"pager\"}", 200));
	for (;;) {
		json_t *json = http_json(&f, "GET", path, NULL, 200);
		const char *next = json_string_value(json_object_get(json, "next"));
		json_t *one;
		size_t i;

		json_array_foreach(json_object_get(json, "allocations"), i, one)
		{
			assert_string_equal(json_string_value(json_object_get(one, "owner")),
					    "pager");
			seen++;
		}
		pages++;
		if (next)
			snprintf(path, sizeof(path), "/allocations?owner=pager&limit=2&after=%s",
				 next);
		json_decref(json);
		if (!next)
			break;
	}
	assert_int_equal(seen, 5);
	assert_int_equal(pages, 3);
}

static void list__refuses(void **state)
{
	(void)state;
	http_expect_error(&f, "GET", "/allocations?limit=0", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?limit=10001", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?limit=x", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?limit", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?owner=", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?after=x", NULL, 400, "bad_field");
	http_expect_error(&f, "GET", "/allocations?ownr=x", NULL, 400, "unknown_field");
}

/* ---- what is not there */

static void path__unknown(void **state)
{
	(void)state;
	http_expect_error(&f, "POST", "/healthz", "{}", 404, "no_such_path");
	http_expect_error(&f, "GET", "/allocate/x", NULL, 404, "not_found");
	http_expect_error(&f, "DELETE", "/allocate/" NO_ID, NULL, 404, "not_found");
	http_expect_error(&f, "GET", "/allocate/" NO_ID "-and-more/data", NULL, 404, "not_found");
}

static void method__405_with_allow(void **state)
{
	static const char *const methods[] = {"GET",	"HEAD",	   "POST", "PUT",
					      "DELETE", "OPTIONS", "PATCH"};
	const struct {
		const char *path;
		const char *allow;
	} cases[] = {
		{"/", "GET, HEAD"},
		{"/openapi.yaml", "GET, HEAD"},
		{"/health", "GET, HEAD"},
		{"/ready", "GET, HEAD"},
		{"/stats", "GET, HEAD"},
		{"/metrics", "GET, HEAD"},
		{"/allocate", "POST"},
		{"/allocate/x", "GET, HEAD, DELETE"},
		{"/allocate/x/data", "GET, HEAD, PUT"},
		{"/allocate/x/renew", "POST"},
		{"/allocate/x/grant", "POST"},
		{"/allocate/x/grant/y", "DELETE"},
		{"/free", "POST"},
		{"/allocations", "GET, HEAD"},
		{"/data/read", "POST"},
		{"/data/write", "POST"},
		{"/sessions", "GET, HEAD, POST"},
		{"/sessions/x", "DELETE"},
		{"/sessions/x/renew", "POST"},
		{"/sessions/x/ticket", "POST"},
	};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		for (size_t m = 0; m < MAAS_ARRAY_SIZE(methods); m++) {
			struct http_answer a;
			char allow[64];

			http_call(&f, &a, methods[m], cases[i].path, NULL, 0, NULL);
			snprintf(allow, sizeof(allow), "Allow: %s", cases[i].allow);
			if (strstr(cases[i].allow, methods[m])) {
				assert_int_not_equal(a.status, 405);
			} else {
				assert_int_equal(a.status, 405);
				assert_true(http_has_header(&a, allow));
			}
			http_answer_fini(&a);
		}
}

static void head__has_the_length_and_no_body(void **state)
{
	static const char *const paths[] = {"/health", "/ready", "/stats", "/metrics",
					    "/allocations"};

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(paths); i++) {
		struct http_answer a;

		http_call(&f, &a, "HEAD", paths[i], NULL, 0, NULL);
		assert_int_equal(a.status, 200);
		assert_int_equal(a.len, 0);
		assert_non_null(strstr(a.headers, "Content-Length: "));
		assert_null(strstr(a.headers, "Content-Length: 0"));
		http_answer_fini(&a);
	}
}

static void ready__until_it_drains(void **state)
{
	json_t *json = http_json(&f, "GET", "/ready", NULL, 200);
	char id[MAAS_SLAB_ID_TEXT];

	(void)state;
	assert_string_equal(json_string_value(json_object_get(json, "status")), "ready");
	json_decref(json);
	maas_http_drain(f.http);
	json = http_json(&f, "GET", "/ready", NULL, 503);
	assert_string_equal(json_string_value(json_object_get(json, "status")), "draining");
	json_decref(json);
	http_expect_error(&f, "GET", "/ready", NULL, 503, "draining");
	http_allocate(&f, 10, id);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(health__says_all),
		TEST(stats__all_zero_at_start),
		TEST(allocate__then_describe_then_delete),
		TEST(allocate__too_large_names_the_way_out),
		TEST(allocate__pool_exhausted),
		TEST(allocate__request_id_repeats_the_answer),
		TEST(allocate__request_id_of_an_old_batch),
		TEST(allocate__lease_is_renewed),
		TEST(renew__without_a_lease),
		TEST(batch__ten_thousand_and_free),
		TEST(batch__of_one_is_a_batch),
		TEST(list__pages_of_one_owner),
		TEST(list__refuses),
		TEST(path__unknown),
		TEST(method__405_with_allow),
		TEST(head__has_the_length_and_no_body),
		TEST(ready__until_it_drains),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
