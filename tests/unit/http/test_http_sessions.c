/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, and the keys that a server without RDMA does not grant. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

TEST(session__life)
{
	json_t *json = http_json("POST", "/sessions", "{'name':'w','ttl_seconds':50}", 200);
	const char *id = http_string(json, "id"), *ticket = http_string(json, "ticket");
	const char *path = http_text("/sessions/%s", id), *memory;

	http_expect_members(json, "{'rdma':null,'ttl_seconds':50}");
	assert_int_equal(strlen(ticket), 32);

	json = http_json("POST", "/allocate",
			 http_text("{'size_bytes':10,'session':'%s','lifetime':'session'}", id),
			 200);
	http_expect_members(json, "{'rdma':null}");
	assert_int_equal(json_object_size(json), 6);
	memory = http_text("/allocate/%s", http_string(json, "id"));

	json = http_json("POST", http_text("/sessions/%s/renew", id), "{'ttl_seconds':70}", 200);
	http_expect_members(json, "{'ttl_seconds':70}");
	json = http_json("POST", http_text("/sessions/%s/ticket", id), NULL, 200);
	assert_string_not_equal(http_string(json, "ticket"), ticket);

	http_json("GET", memory, NULL, 200);
	assert_null(http_json("DELETE", path, NULL, 200));
	http_expect_error("GET", memory, NULL, 404, "not_found");
	http_expect_error("DELETE", path, NULL, 404, "unknown_session");
}

TEST(session__exclusive_and_limit)
{
	json_t *open[4];

	open[0] = http_json("POST", "/sessions", "{'name':'x','exclusive':true}", 200);
	http_expect_error("POST", "/sessions", "{'name':'x','exclusive':true}", 409, "name_taken");
	for (int i = 1; i < 4; i++)
		open[i] = http_json("POST", "/sessions", "{}", 200);
	http_expect_error("POST", "/sessions", "{}", 429, "too_many");
	for (int i = 0; i < 4; i++) {
		const char *path = http_text("/sessions/%s", http_string(open[i], "id"));

		assert_null(http_json("DELETE", path, NULL, 200));
	}
}

TEST(sessions__of_a_name)
{
	json_t *open = http_json("POST", "/sessions",
				 "{'name':'a/b@c:1','ttl_seconds':50,'exclusive':true}", 200);
	json_t *all = http_json("GET", "/sessions?name=a/b@c:1", NULL, 200);
	const json_t *one = json_array_get(json_object_get(all, "sessions"), 0);

	assert_int_equal(json_array_size(json_object_get(all, "sessions")), 1);
	http_expect_members(all, "{'more':false}");
	assert_int_equal(json_object_size(one), 6);
	assert_int_equal(strncmp(http_string(one, "from"), "127.0.0.1:", 10), 0);
	http_expect_members(one, "{'exclusive':true,'ttl_seconds':50,'allocations':0}");
	assert_true(http_number(one, "lease_seconds") <= 50);
	assert_null(
		http_json("DELETE", http_text("/sessions/%s", http_string(open, "id")), NULL, 200));
	all = http_json("GET", "/sessions?name=a/b@c:1", NULL, 200);
	http_expect_members(all, "{'sessions':[]}");
	http_expect_error("GET", "/sessions", NULL, 400, "missing_field");
	http_expect_error("GET", "/sessions?name", NULL, 400, "bad_field");
	http_expect_error("GET", "/sessions?name=a&id=b", NULL, 400, "unknown_field");
}

/* A lease that is too long is refused by the option's name; 60 seconds where none is asked for. */
TEST(session__lease_has_a_maximum)
{
	static const char *const bodies[] = {
		"{'ttl_seconds':3601}",
		"{'ttl_seconds':31622401}",
		"{'ttl_seconds':4294967297}",
		"{'ttl_seconds':9223372036854775807}",
	};
	json_t *open = http_json("POST", "/sessions", "{}", 200);
	const char *renew = http_text("/sessions/%s/renew", http_string(open, "id"));

	http_expect_members(open, "{'ttl_seconds':60}");
	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(bodies); i++) {
		const char *text = http_expect_error("POST", i % 2 ? renew : "/sessions",
						     bodies[i / 2], 400, "bad_field");

		assert_non_null(strstr(text, "ttl_seconds"));
		assert_non_null(strstr(text, "at most 3600"));
		assert_non_null(strstr(text, "--max-session-ttl"));
	}
	open = http_json("POST", renew, NULL, 200);
	http_expect_members(open, "{'ttl_seconds':60}");
	open = http_json("POST", renew, "{'ttl_seconds':3600}", 200);
	http_expect_members(open, "{'ttl_seconds':3600}");
}

TEST(session__unknown)
{
	http_expect_error("POST", "/allocate", "{'size_bytes':1,'session':'" NO_ID "'}", 404,
			  "unknown_session");
	http_expect_error("POST", "/sessions/" NO_ID "/renew", NULL, 404, "unknown_session");
	http_expect_error("POST", "/sessions/x/ticket", NULL, 404, "unknown_session");
	http_expect_error("DELETE", "/sessions/x", NULL, 404, "unknown_session");
}

TEST(grant__says_that_rdma_is_off)
{
	const char *id = http_allocate(10);
	const char *path = http_text("/allocate/%s/grant", id);

	http_expect_error("POST", path, "{'session':'" NO_ID "','access':'rw'}", 503, "rdma_off");
	http_expect_error("POST", path, "{'session':'" NO_ID "'}", 400, "missing_field");
	http_expect_error("DELETE", http_text("/allocate/%s/grant/" NO_ID, id), NULL, 503,
			  "rdma_off");
}

TEST_MAIN(http_setup, http_teardown)
