/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the control plane, against a server in this process. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

TEST(health__says_all)
{
	json_t *json = http_json("GET", "/health", NULL, 200);

	http_expect_members(json, http_text("{'status':'healthy','service':'memory-as-a-service',"
					    "'arena_id':'%s','boot_id':'b007'}",
					    maas_slab_arena_id(server.slab)));
	assert_non_null(http_string(json, "version"));
	http_number(json, "timestamp");
	http_number(json, "uptime_seconds");
	http_expect_members(json_object_get(json, "memory"), "{'max_pool_size':67108864}");
	http_expect_members(json_object_get(json, "rdma"), "{'state':'off','device':null}");
}

TEST(stats__all_zero_at_start)
{
	json_t *json = http_json("GET", "/stats", NULL, 200);
	json_t *pools = json_object_get(json, "pool_stats");
	json_t *pool;
	size_t i;

	http_expect_members(json, "{'total_allocations':0,'active_allocations':0,"
				  "'total_allocated_bytes':0,'total_in_use_bytes':0,"
				  "'max_pool_size':67108864}");
	assert_true(json_is_real(json_object_get(json, "total_allocated_mb")));
	assert_true(json_is_real(json_object_get(json, "total_in_use_mb")));
	assert_true(json_is_real(json_object_get(json, "utilization_percent")));
	assert_int_equal(json_array_size(pools), 7);
	json_array_foreach(pools, i, pool)
	{
		http_expect_members(pool, "{'total_slabs':0,'free_slabs':0,'used_slabs':0,"
					  "'allocated_bytes':0,'requested_bytes':0}");
	}
	assert_int_equal(http_number(json_array_get(pools, 0), "slab_size"), 1024);
	assert_int_equal(http_number(json_object_get(json, "sessions"), "active"), 0);
}

TEST(allocate__then_describe_then_delete)
{
	json_t *json = http_json("POST", "/allocate", "{'size_bytes': 102400}", 200);
	char path[80];

	assert_int_equal(json_object_size(json), 5);
	http_expect_members(json, "{'size_bytes':102400,'actual_size_bytes':524288,"
				  "'age_seconds':0,'size_mb':0.09765625}");
	snprintf(path, sizeof(path), "/allocate/%s", http_string(json, "id"));

	json = http_json("GET", path, NULL, 200);
	assert_string_equal(http_string(json, "id"), path + 10);
	http_expect_members(json, "{'owner':null,'ttl_seconds':null,'lease_seconds':null,"
				  "'lifetime':'delete'}");
	http_expect_members(http_json("GET", "/stats", NULL, 200),
			    "{'total_allocations':1,'active_allocations':1,"
			    "'total_allocated_bytes':524288,'total_in_use_bytes':102400,"
			    "'total_allocated_mb':0.5}");

	assert_null(http_json("DELETE", path, NULL, 200));
	http_expect_error("DELETE", path, NULL, 404, "not_found");
	http_expect_error("GET", path, NULL, 404, "not_found");
}

TEST(allocate__too_large_names_the_way_out)
{
	const char *text =
		http_expect_error("POST", "/allocate", "{'size_bytes':4194305}", 413, "too_large");

	assert_non_null(strstr(text, "4194304"));
	assert_non_null(strstr(text, "--slab-sizes"));
}

TEST(allocate__pool_exhausted)
{
	const char *text = http_expect_error(
		"POST", "/allocate", "{'size_bytes':4194304,'count':17}", 507, "pool_exhausted");

	assert_non_null(strstr(text, "17 x 4194304"));
	assert_non_null(strstr(text, "--max-pool-size"));
	http_wait_idle();
}

TEST(allocate__request_id_repeats_the_answer)
{
	const char *body = "{'size_bytes':10,'request_id':'once'}";
	json_t *first = http_json("POST", "/allocate", body, 200);
	json_t *again = http_json("POST", "/allocate", body, 200);

	assert_true(json_equal(json_object_get(first, "id"), json_object_get(again, "id")));
	http_expect_error("POST", "/allocate", "{'size_bytes':11,'request_id':'once'}", 409,
			  "request_id_reused");
}

/* So many allocations that the lists of all batches before are no longer kept. */
static void allocate_many(void)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct maas_lend_alloc_request request = {.size_bytes = 1, .count = MAAS_SLAB_MAX_BATCH};
	struct maas_lend_allocation first;

	for (int i = 0; i < MAAS_LEND_BATCH_REFS / MAAS_SLAB_MAX_BATCH; i++) {
		request.request_id = http_text("many-%d", i);
		assert_int_equal(maas_lend_allocate(server.lend, &request, refs, &first), 0);
		for (int k = 0; k < MAAS_SLAB_MAX_BATCH; k++)
			assert_int_equal(maas_slab_free(server.slab, refs[k]), 0);
	}
}

TEST(allocate__request_id_of_an_old_batch)
{
	const char *body = "{'size_bytes':10,'count':2,'request_id':'batch'}";
	const char *text;

	http_json("POST", "/allocate", body, 200);
	http_json("POST", "/allocate", body, 200);
	allocate_many();
	text = http_expect_error("POST", "/allocate", body, 409, "answer_forgotten");
	assert_non_null(strstr(text, "/allocations?owner="));
}

TEST(allocate__lease_is_renewed)
{
	json_t *json = http_json("POST", "/allocate",
				 "{'size_bytes':10,'ttl_seconds':100,'owner':'me'}", 200);
	const char *path = http_text("/allocate/%s/renew", http_string(json, "id"));

	json = http_json("POST", path, "{'ttl_seconds':200}", 200);
	http_expect_members(json, "{'ttl_seconds':200,'lease_seconds':200,'lifetime':'ttl',"
				  "'owner':'me'}");
	json = http_json("POST", path, NULL, 200);
	http_expect_members(json, "{'ttl_seconds':200}");
	http_expect_error("POST", path, "{'ttl_seconds':0}", 400, "bad_field");
	http_expect_error("POST", "/allocate/" NO_ID "/renew", "{'ttl_seconds':1}", 404,
			  "not_found");
}

TEST(renew__without_a_lease)
{
	const char *id = http_allocate(10);

	http_expect_error("POST", http_text("/allocate/%s/renew", id), "{'ttl_seconds':200}", 409,
			  "not_renewable");
}

/* ---- batches */

TEST(batch__ten_thousand_and_free)
{
	json_t *json = http_json("POST", "/allocate", "{'size_bytes':1000,'count':10000}", 200);
	json_t *allocations = json_object_get(json, "allocations");
	json_t *ids = json_array();
	json_t *one;
	char *text;
	size_t i;

	assert_int_equal(json_array_size(allocations), 10000);
	json_array_foreach(allocations, i, one)
	{
		assert_int_equal(json_object_size(one), 5);
		http_expect_members(one, "{'size_bytes':1000,'actual_size_bytes':1024}");
		if (i < 9999)
			json_array_append(ids, json_object_get(one, "id"));
	}
	json_array_append_new(ids, json_string("nonsense"));
	json = json_pack("{s:o}", "ids", ids);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	json = http_json("POST", "/free", text, 200);
	assert_int_equal(http_number(json, "freed"), 9999);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), 1);
	json = http_json("POST", "/free", text, 200);
	assert_int_equal(http_number(json, "freed"), 0);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), 10000);
	free(text);
}

TEST(batch__of_one_is_a_batch)
{
	json_t *json = http_json("POST", "/allocate", "{'size_bytes':1,'count':1}", 200);

	assert_int_equal(json_array_size(json_object_get(json, "allocations")), 1);
}

/* ---- lists */

TEST(list__pages_of_one_owner)
{
	char path[160] = "/allocations?owner=pager&limit=2";
	size_t seen = 0;
	int pages = 0;

	http_json("POST", "/allocate", "{'size_bytes':9,'count':5,'owner':'pager'}", 200);
	for (;;) {
		json_t *json = http_json("GET", path, NULL, 200);
		const char *next = http_string(json, "next");
		json_t *one;
		size_t i;

		json_array_foreach(json_object_get(json, "allocations"), i, one)
		{
			assert_string_equal(http_string(one, "owner"), "pager");
			seen++;
		}
		pages++;
		if (next)
			snprintf(path, sizeof(path), "/allocations?owner=pager&limit=2&after=%s",
				 next);
		if (!next)
			break;
	}
	assert_int_equal(seen, 5);
	assert_int_equal(pages, 3);
}

TEST(list__of_no_owner)
{
	const char *id = http_allocate(9);
	json_t *list;

	http_json("POST", "/allocate", "{\"size_bytes\":9,\"owner\":\"somebody\"}", 200);
	list = json_object_get(http_json("GET", "/allocations?no_owner=true", NULL, 200),
			       "allocations");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(http_string(json_array_get(list, 0), "id"), id);
	assert_true(json_is_null(json_object_get(json_array_get(list, 0), "owner")));
}

TEST(list__refuses)
{
	static const char *const bad[] = {"limit=0",  "limit=10001",	"limit=x",
					  "limit",    "owner=",		"after=x",
					  "no_owner", "no_owner=false", "no_owner=true&owner=a"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		http_expect_error("GET", http_text("/allocations?%s", bad[i]), NULL, 400,
				  "bad_field");
	http_expect_error("GET", "/allocations?ownr=x", NULL, 400, "unknown_field");
}

/* ---- what is not there */

TEST(path__unknown)
{
	http_expect_error("POST", "/healthz", "{}", 404, "no_such_path");
	http_expect_error("GET", "/allocate/x", NULL, 404, "not_found");
	http_expect_error("DELETE", "/allocate/" NO_ID, NULL, 404, "not_found");
	http_expect_error("GET", "/allocate/" NO_ID "-and-more/data", NULL, 404, "not_found");
}

TEST(method__405_with_allow)
{
	static const char *const methods[] = {"GET",	"HEAD",	   "POST", "PUT",
					      "DELETE", "OPTIONS", "PATCH"};
	const struct {
		const char *path, *allow;
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

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		for (size_t m = 0; m < MAAS_ARRAY_SIZE(methods); m++) {
			char allow[64];
			const struct http_answer *a =
				http_call(methods[m], cases[i].path, NULL, 0, NULL);

			snprintf(allow, sizeof(allow), "Allow: %s", cases[i].allow);
			if (strstr(cases[i].allow, methods[m])) {
				assert_int_not_equal(a->status, 405);
			} else {
				assert_int_equal(a->status, 405);
				assert_true(http_has_header(a, allow));
			}
		}
}

TEST(head__has_the_length_and_no_body)
{
	static const char *const paths[] = {"/health", "/ready", "/stats", "/metrics",
					    "/allocations"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(paths); i++) {
		const struct http_answer *a = http_call("HEAD", paths[i], NULL, 0, NULL);

		assert_int_equal(a->status, 200);
		assert_int_equal(a->len, 0);
		assert_non_null(strstr(a->headers, "Content-Length: "));
		assert_null(strstr(a->headers, "Content-Length: 0"));
	}
}

TEST(ready__until_it_drains)
{
	json_t *json = http_json("GET", "/ready", NULL, 200);

	assert_string_equal(http_string(json, "status"), "ready");
	maas_http_drain(server.http);
	json = http_json("GET", "/ready", NULL, 503);
	assert_string_equal(http_string(json, "status"), "draining");
	http_expect_error("GET", "/ready", NULL, 503, "draining");
	http_allocate(10);
}

TEST_MAIN(http_setup, http_teardown)
