/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the control plane, against a server in this process. */
#include <unistd.h>

#include <microhttpd.h>

#include "tests/unit/http/http_fixture.h"

TEST(health__says_all)
{
	json_t *json = http_json("GET /health", NULL, 200);

	http_expect_members(json,
			    "{'status':'healthy','service':'memory-as-a-service',"
			    "'arena_id':'%s','boot_id':'b007'}",
			    maas_slab_arena_id(server.slab));
	assert_non_null(http_string(json, "version"));
	http_number(json, "timestamp");
	http_number(json, "uptime_seconds");
	http_expect_members(json_object_get(json, "memory"), "{'max_pool_size':67108864}");
	http_expect_members(json_object_get(json, "rdma"), "{'state':'off','device':null}");
}

TEST(allocate__then_describe_then_delete)
{
	json_t *json = http_json("POST /allocate", "{'size_bytes': 102400}", 200);
	const char *id = http_string(json, "id");
	const char *get = http_text("GET /allocate/%s", id);
	const char *delete = http_text("DELETE /allocate/%s", id);

	assert_int_equal(json_object_size(json), 5);
	http_expect_members(json, "{'size_bytes':102400,'actual_size_bytes':524288,"
				  "'age_seconds':0,'size_mb':0.09765625}");
	http_expect_members(http_json(get, NULL, 200),
			    "{'id':'%s','owner':null,'ttl_seconds':null,"
			    "'lease_seconds':null,'lifetime':'delete'}",
			    id);
	http_expect_members(http_json("GET /stats", NULL, 200),
			    "{'total_allocations':1,'active_allocations':1,"
			    "'total_allocated_bytes':524288,'total_in_use_bytes':102400,"
			    "'total_allocated_mb':0.5}");
	assert_null(http_json(delete, NULL, 200));
	http_expect_error(delete, NULL, 404, "not_found");
	http_expect_error(get, NULL, 404, "not_found");
}

/* The server uses what it sent for the next answer of that length, on one connection. */
TEST(answers__of_one_length_are_each_their_own)
{
	const struct http_answer *a;
	const char *first;

	for (int i = 0; i < 3; i++) {
		http_expect_parts(http_expect_error("GET /aaa", NULL, 404, "no_such_path"), "/aaa");
		http_expect_parts(http_expect_error("GET /bbb", NULL, 404, "no_such_path"), "/bbb");
		http_expect_error("POST /bbb", "{}", 404, "no_such_path");
	}
	http_expect_error("PUT /health", "{}", 405, "method_not_allowed");
	http_expect("PUT /health", NULL, 405, "\nAllow: GET, HEAD\r");
	a = http_expect("GET /bbb", NULL, 404,
			"\nContent-Type: application/json\r*\nCache-Control: no-store\r");
	assert_null(strstr(a->headers, "Allow: GET, HEAD"));
	first = http_allocate(1024);
	assert_string_not_equal(http_allocate(1024), first);
	http_expect("GET /bbb\nConnection: close", NULL, 404, "\nConnection: close\r");
	assert_null(strstr(http_get("/bbb")->headers, "Connection: close"));
}

/* ---- answers that the library does not take */

static _Atomic bool takes_none;

/* As libmicrohttpd does while it is being stopped: yes, and nothing taken. The linker's names of
 * --wrap. NOLINTBEGIN */
typeof(MHD_queue_response) __real_MHD_queue_response, __wrap_MHD_queue_response;

enum MHD_Result __wrap_MHD_queue_response(struct MHD_Connection *connection, unsigned int status,
					  struct MHD_Response *response)
{
	return takes_none ? MHD_YES : __real_MHD_queue_response(connection, status, response);
}
/* NOLINTEND */

TEST(answer__that_the_library_does_not_take_ends_the_connection)
{
	static const char *const requests[] = {
		"GET /nothing",				 /* answered at its head */
		"GET /health",				 /* at its end */
		"POST /free\nContent-Length: 1\n\nx",	 /* behind its body */
		"POST /nowhere\nContent-Length: 1\n\nx", /* kept until then */
	};

	takes_none = true;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(requests); i++) {
		int fd = http_connect();

		assert_int_equal(http_ask(fd, http_request("%s", requests[i])), 0);
		close(fd);
	}
	takes_none = false;
	http_json("GET /health", NULL, 200);
}

/* ---- batches */

static void expect_freed(const char *ids, json_int_t freed, size_t unknown)
{
	json_t *json = http_json("POST /free", ids, 200);

	assert_int_equal(http_number(json, "freed"), freed);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), unknown);
}

TEST(batch__ten_thousand_and_free)
{
	json_t *json = http_json("POST /allocate", "{'size_bytes':1000,'count':10000}", 200);
	json_t *allocations = json_object_get(json, "allocations");
	struct maas_buf ids = {0};
	json_t *one;
	size_t i;

	assert_int_equal(json_array_size(allocations), 10000);
	json_array_foreach(allocations, i, one)
	{
		assert_int_equal(json_object_size(one), 5);
		http_expect_members(one, "{'size_bytes':1000,'actual_size_bytes':1024}");
		maas_buf_str(&ids, i ? "'" : "{'ids':['");
		maas_buf_str(&ids, i < 9999 ? http_string(one, "id") : "nonsense");
		maas_buf_str(&ids, i < 9999 ? "'," : "']}");
	}
	maas_buf_add(&ids, "", 1);
	expect_freed(ids.data, 9999, 1);
	expect_freed(ids.data, 0, 10000);
	maas_buf_fini(&ids);
}

TEST(batch__of_one)
{
	json_t *json = http_json("POST /allocate", "{'size_bytes':1,'count':1}", 200);

	assert_int_equal(json_array_size(json_object_get(json, "allocations")), 1);
}

/* ---- sessions */

TEST(sessions__of_a_name)
{
	const char *list = "GET /sessions?name=a/b@c:1";
	const char *session = "{'name':'a/b@c:1','ttl_seconds':50,'exclusive':true}";
	json_t *open = http_json("POST /sessions", session, 200);
	json_t *all = http_json(list, NULL, 200);
	const json_t *one = json_array_get(json_object_get(all, "sessions"), 0);

	assert_int_equal(json_array_size(json_object_get(all, "sessions")), 1);
	http_expect_members(all, "{'more':false}");
	assert_int_equal(json_object_size(one), 6);
	assert_int_equal(strncmp(http_string(one, "from"), "127.0.0.1:", 10), 0);
	http_expect_members(one, "{'exclusive':true,'ttl_seconds':50,'allocations':0}");
	assert_true(http_number(one, "lease_seconds") <= 50);
	assert_null(
		http_json(http_text("DELETE /sessions/%s", http_string(open, "id")), NULL, 200));
	http_expect_members(http_json(list, NULL, 200), "{'sessions':[]}");
	http_expect_error("GET /sessions", NULL, 400, "missing_field");
	http_expect_error("GET /sessions?name", NULL, 400, "bad_field");
	http_expect_error("GET /sessions?name=a&id=b", NULL, 400, "unknown_field");
}

/* A lease that is too long is refused by the option's name; 60 seconds where none is asked for. */
TEST(session__lease_has_a_maximum)
{
	static const char *const leases[] = {"3601", "31622401", "4294967297",
					     "9223372036854775807"};
	json_t *open = http_json("POST /sessions", "{}", 200);
	const char *renew = http_text("POST /sessions/%s/renew", http_string(open, "id"));

	http_expect_members(open, "{'ttl_seconds':60}");
	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(leases); i++)
		http_expect_parts(http_expect_error(i % 2 ? renew : "POST /sessions",
						    http_text("{'ttl_seconds':%s}", leases[i / 2]),
						    400, "bad_field"),
				  "ttl_seconds*at most 3600*--max-session-ttl");
	http_expect_members(http_json(renew, NULL, 200), "{'ttl_seconds':60}");
	http_expect_members(http_json(renew, "{'ttl_seconds':3600}", 200), "{'ttl_seconds':3600}");
}

TEST_MAIN(http_setup, http_teardown)
