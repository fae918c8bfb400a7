/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, and the keys that a server without RDMA does not grant. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

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

TEST_MAIN(http_setup, http_teardown)
