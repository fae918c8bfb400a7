/* SPDX-License-Identifier: Apache-2.0 */
/* Keys for another session, and the ends of keys: at once, late, never confirmed. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

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

/* ---- grants */

TEST(grant__life)
{
	const char *other = http_open_session("two");
	const char *id = http_allocate(5000);
	const char *path = http_text("/allocate/%s/grant", id);
	const char *body = http_text("{\"session\":\"%s\",\"access\":\"r\"}", other);
	json_t *json = http_json("POST", path, body, 200);
	json_int_t rkey = http_rkey(json, 5000);

	json = http_json("POST", path, body, 200);
	assert_int_equal(http_rkey(json, 5000), rkey);
	http_expect_error("POST", path, http_text("{\"session\":\"%s\",\"access\":\"rw\"}", other),
			  409, "already_granted");
	path = http_text("/allocate/%s/grant/%s", id, other);
	assert_null(http_json("DELETE", path, NULL, 200));
	assert_int_equal(fake_keys_live(&keys), 0);
	http_expect_error("DELETE", path, NULL, 404, "not_found");
}

TEST(grant__unknown)
{
	const char *path;
	const char *id = http_allocate(1);

	http_expect_error("POST", "/allocate/" NO_ID "/grant",
			  http_text("{\"session\":\"%s\",\"access\":\"r\"}", http_session), 404,
			  "not_found");
	path = http_text("/allocate/%s/grant", id);
	http_expect_error("POST", path, "{\"session\":\"" NO_ID "\",\"access\":\"r\"}", 404,
			  "unknown_session");
	http_expect_error("POST", path, "{\"session\":\"x\",\"access\":\"none\"}", 400,
			  "bad_field");
	http_expect_error("DELETE", http_text("/allocate/%s/grant/" NO_ID, id), NULL, 404,
			  "unknown_session");
	http_expect_error("DELETE", http_text("/allocate/" NO_ID "/grant/%s", http_session), NULL,
			  404, "not_found");
}

TEST(grant__late_and_failed_ends)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(""), 200);
	const char *id = http_string(json, "id");
	static const int ends[] = {-ETIMEDOUT, -EIO, 0};
	int fd;

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(ends); i++) {
		fd = http_connect();
		http_send_text(fd,
			       "DELETE /allocate/%s/grant/%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
			       id, http_session);
		fake_keys_await(&keys, 1);
		assert_true(fake_keys_finish(&keys, ends[i]));
		if (!ends[i])
			http_expect_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n");
		else
			http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	}
	assert_int_equal(live_allocations(), 1);
	assert_int_equal(fake_keys_live(&keys), 0);
}

/* ---- ends that no key confirms */

static uint64_t quarantined(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats.quarantined_bytes;
}

static void delete_later(int fd, const char *kind, const char *id)
{
	http_send_text(fd, "DELETE /%s/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", kind, id);
	fake_keys_await(&keys, 1);
}

/* Its memory is kept back until the key is dead after all. */
TEST(free__unconfirmed)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(",\"count\":2"), 200);
	const json_t *all = json_object_get(json, "allocations");
	const char *one = json_string_value(json_object_get(json_array_get(all, 0), "id"));
	const char *two = json_string_value(json_object_get(json_array_get(all, 1), "id"));
	int fd = http_connect();

	maas_log_set_level(MAAS_LOG_ERR);
	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	delete_later(fd, "allocate", one);
	assert_true(fake_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	assert_int_equal(quarantined(), 1024);
	http_expect_error("DELETE", http_text("/allocate/%s", one), NULL, 404, "not_found");
	fake_keys_set(&keys, mode, FAKE_KEYS_AT_ONCE);
	while (fake_keys_finish(&keys, 0))
		;
	while (quarantined())
		usleep(1000);

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	fd = http_connect();
	http_post_later(fd, "/free", http_text("{\"ids\":[\"" NO_ID "\",\"%s\"]}", two));
	fake_keys_await(&keys, 1);
	assert_true(fake_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
	assert_int_equal(live_allocations(), 0);
}

TEST(free__waits_for_keys)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(""), 200);
	int fd = http_connect();
	char buffer[16];

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	delete_later(fd, "allocate", http_string(json, "id"));
	assert_int_equal(http_recv(fd, buffer, sizeof(buffer) - 1, 50), 0);
	assert_true(fake_keys_finish(&keys, 0));
	http_expect_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n");
}

TEST(session__end_unconfirmed)
{
	int fd = http_connect();

	maas_log_set_level(MAAS_LOG_ERR);
	http_json("POST", "/allocate", allocate_body(",\"lifetime\":\"session\""), 200);
	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	delete_later(fd, "sessions", http_session);
	http_expect_error("DELETE", http_text("/sessions/%s", http_session), NULL, 404,
			  "unknown_session");
	assert_true(fake_keys_finish(&keys, -ETIMEDOUT));
	fake_keys_await(&keys, 1);
	assert_true(fake_keys_finish(&keys, -ETIMEDOUT));
	http_expect_answer(fd, "HTTP/1.1 503 ", "\"revoke_unconfirmed\"");
}

/* A server that stops does not say that keys are dead while they are not. */
TEST(stop__while_a_key_dies)
{
	json_t *json = http_json("POST", "/allocate", allocate_body(""), 200);
	int fd = http_connect();
	char buffer[4096];

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	delete_later(fd, "allocate", http_string(json, "id"));
	http_stop();
	if (http_recv(fd, buffer, sizeof(buffer) - 1, 1000))
		assert_non_null(strstr(buffer, "\"stopping\""));
	close(fd);
	http_setup_keys();
}

TEST_MAIN(http_setup_keys, http_teardown)
