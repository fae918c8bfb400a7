/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations with keys: given, refused, late; and what becomes of those that waited for them. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

#define MANY 10000

static const char *allocate_body(const char *more)
{
	static char body[256];

	snprintf(body, sizeof(body), "{\"size_bytes\":100,\"session\":\"%s\"%s}", http_session,
		 more);
	return body;
}

static uint64_t live_allocations(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats.live_slabs;
}

/* ---- allocations */

TEST(allocate__with_key)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(""), 200);

	assert_int_equal(json_object_size(json), 6);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 1);
	assert_int_equal(keys.keys[0].access, MAAS_LEND_ACCESS_WRITE);
	json = http_json("POST", "/allocate", allocate_body(",\"access\":\"r\""), 200);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 2);
	assert_int_equal(keys.keys[1].access, MAAS_LEND_ACCESS_READ);
}

TEST(allocate__without_key)
{
	json_t *json = http_json("POST", "/allocate", "{\"size_bytes\":1}", 200);

	assert_null(json_object_get(json, "rdma"));
	fake_keys_set(&keys, unconnected, true);
	json = http_json("POST", "/allocate",
			 allocate_body(",\"access\":\"none\",\"lifetime\":\"session\""), 200);
	assert_true(json_is_null(json_object_get(json, "rdma")));
	assert_int_equal(fake_keys_live(&keys), 0);
	http_expect_error("POST", "/allocate", "{\"size_bytes\":1,\"access\":\"none\"}", 400,
			  "missing_field");
	http_expect_error("POST", "/allocate", allocate_body(",\"access\":\"w\""), 400,
			  "bad_field");
}

/* All ids and all keys differ, and each key is of its own slab. */
TEST(allocate__batch)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(",\"count\":10000"), 200);
	const json_t *all = json_object_get(json, "allocations");
	static bool seen[MANY + 1];

	memset(seen, 0, sizeof(seen));
	assert_int_equal(json_array_size(all), MANY);
	assert_int_equal(fake_keys_live(&keys), MANY);
	for (size_t i = 0; i < MANY; i++) {
		const json_t *one = json_array_get(all, i);
		json_int_t rkey = http_rkey(json_object_get(one, "rdma"), 100);
		char id[MAAS_SLAB_ID_TEXT];

		assert_in_range(rkey, 1, MANY);
		assert_false(seen[rkey]);
		seen[rkey] = true;
		maas_lend_id(server.lend, keys.keys[rkey - 1].ref, id);
		assert_string_equal(http_string(one, "id"), id);
	}
	json = http_json("POST", "/allocate", allocate_body(",\"count\":1"), 200);
	all = json_object_get(json, "allocations");
	assert_int_equal(json_array_size(all), 1);
	http_rkey(json_object_get(json_array_get(all, 0), "rdma"), 100);
}

TEST(allocate__refused)
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

	maas_log_set_level(MAAS_LOG_ERR);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const char *id = http_allocate(1);

		fake_keys_set(&keys, start_error, cases[i].error);
		http_expect_error("POST", "/allocate", allocate_body(""), cases[i].status,
				  cases[i].code);
		http_expect_error("POST", "/allocate", allocate_body(",\"count\":30"),
				  cases[i].status, cases[i].code);
		http_expect_error("POST", http_text("/allocate/%s/grant", id),
				  http_text("{\"session\":\"%s\",\"access\":\"rw\"}", http_session),
				  cases[i].status, cases[i].code);
		assert_int_equal(live_allocations(), i + 1);
	}
	http_expect_error("POST", "/allocate", "{\"size_bytes\":1,\"session\":\"" NO_ID "\"}", 404,
			  "unknown_session");
}

TEST(allocate__all_or_none)
{
	fake_keys_set(&keys, max_keys, 20);
	http_expect_error("POST", "/allocate", allocate_body(",\"count\":21"), 507,
			  "grants_exhausted");
	assert_int_equal(live_allocations(), 0);
	assert_int_equal(fake_keys_live(&keys), 0);
	http_json("POST", "/allocate", allocate_body(",\"count\":20"), 200);
	http_expect_error("POST", "/allocate", allocate_body(""), 507, "grants_exhausted");
	http_json("POST", "/allocate", "{\"size_bytes\":1}", 200);
	assert_int_equal(live_allocations(), 21);
}

TEST(allocate__request_id_again)
{
	const char *body = allocate_body(",\"request_id\":\"r\"");
	json_t *first = http_json("POST", "/allocate", body, 200);
	json_t *again = http_json("POST", "/allocate", body, 200);

	assert_true(json_equal(first, again));
	http_expect_error("POST", "/allocate",
			  allocate_body(",\"request_id\":\"r\",\"access\":\"r\""), 409,
			  "request_id_reused");
	assert_null(http_json("DELETE", http_text("/allocate/%s", http_string(first, "id")), NULL,
			      200));
	http_expect_error("POST", "/allocate", allocate_body(",\"request_id\":\"r\""), 404,
			  "not_found");
}

/* ---- late keys */

TEST(allocate__waits_for_its_key)
{
	int fd = http_connect();
	char buffer[16];

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	http_post_later(fd, "/allocate", allocate_body(",\"count\":2"));
	fake_keys_await(&keys, 1);
	assert_int_equal(http_recv(fd, buffer, sizeof(buffer) - 1, 50), 0);
	http_json("GET", "/health", NULL, 200);
	assert_true(fake_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\"rkey\":2");
}

TEST(allocate__key_fails_late)
{
	int fd = http_connect();

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	http_post_later(fd, "/allocate", allocate_body(""));
	fake_keys_await(&keys, 1);
	assert_true(fake_keys_finish(&keys, -EMLINK));
	http_expect_answer(fd, "HTTP/1.1 507 ", "\"device_limit\"");
	assert_int_equal(live_allocations(), 0);
}

TEST(allocate__client_leaves_while_waiting)
{
	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	for (unsigned int i = 0; i < 8; i++) {
		int fd = http_connect();

		http_post_later(fd, "/allocate", allocate_body(",\"count\":100"));
		fake_keys_await(&keys, 1);
		close(fd);
		assert_true(fake_keys_finish(&keys, i % 2 ? -EIO : 0));
	}
	http_wait_idle();
	assert_int_equal(live_allocations(), 400);
	assert_int_equal(fake_keys_live(&keys), 400);
}

/* The keys end after the server has: what they fill in must still be there. */
TEST(stop__while_keys_are_awaited)
{
	int fds[3];
	const char *id = http_allocate(1);

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	for (unsigned int i = 0; i < 3; i++)
		fds[i] = http_connect();
	http_post_later(fds[0], "/allocate", allocate_body(",\"count\":100"));
	http_post_later(fds[1], "/allocate", allocate_body(""));
	http_post_later(fds[2], http_text("/allocate/%s/grant", id),
			http_text("{\"session\":\"%s\",\"access\":\"rw\"}", http_session));
	fake_keys_await(&keys, 3);
	http_stop();
	for (unsigned int i = 0; i < 3; i++)
		close(fds[i]);
	http_setup_keys();
}

/* What large requests hold is counted together while they last. */
TEST(held__is_bounded)
{
	const struct maas_http_options options = {.threads = 2, .max_held_bytes = 4 << 20};
	int fd;

	http_start_keys(&options);
	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	fd = http_connect();
	http_post_later(fd, "/allocate", allocate_body(",\"count\":10000"));
	fake_keys_await(&keys, 1);
	http_expect_error("POST", "/allocate", "{\"size_bytes\":1,\"count\":10000}", 503, "busy");
	http_expect_error("GET", "/allocations?limit=10000", NULL, 503, "busy");
	http_json("POST", "/allocate", "{\"size_bytes\":1,\"count\":100}", 200);
	http_json("GET", "/allocations?limit=100", NULL, 200);
	assert_true(fake_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\"rkey\":1,");
	http_wait_idle();
	http_json("GET", "/allocations?limit=10000", NULL, 200);
}

TEST_MAIN(http_setup_keys, http_teardown)
