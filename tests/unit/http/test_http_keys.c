/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: with an allocation and to one that is there; given, refused, late; and how they end. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

#define MANY 10000

static const char *allocate_body(const char *more)
{
	return http_text("{'size_bytes':100,'session':'%s'%s}", http_session, more);
}

static const char *grant_body(void)
{
	return http_text("{'session':'%s','access':'rw'}", http_session);
}

static struct maas_slab_stats slab_stats(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats;
}

/* A request that waits for its keys; returns its connection. */
static int ask_later(const char *call, const char *body)
{
	int fd = http_connect();

	fake_keys_set(&keys, mode, FAKE_KEYS_HOLD);
	http_ask_later(fd, call, body);
	fake_keys_await(&keys, 1);
	return fd;
}

static int allocate_later(const char *more)
{
	return ask_later("POST /allocate", allocate_body(more));
}

/* Frees an allocation with a key, and does not wait for the answer, which comes on the connection
 * that is returned. */
static int free_later(void)
{
	json_t *json = http_json("POST /allocate", allocate_body(""), 200);

	return ask_later(http_text("DELETE /allocate/%s", http_string(json, "id")), NULL);
}

/* Waits for the next operation of the keys, and ends it. */
static void finish(int status)
{
	fake_keys_await(&keys, 1);
	assert_true(fake_keys_finish(&keys, status));
}

/* ---- allocations */

TEST(allocate__with_key)
{
	json_t *json = http_json("POST /allocate", allocate_body(""), 200);

	assert_int_equal(json_object_size(json), 6);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 1);
	assert_int_equal(keys.keys[0].access, MAAS_LEND_ACCESS_WRITE);
	json = http_json("POST /allocate", allocate_body(",'access':'r'"), 200);
	assert_int_equal(http_rkey(json_object_get(json, "rdma"), 100), 2);
	assert_int_equal(keys.keys[1].access, MAAS_LEND_ACCESS_READ);
}

TEST(allocate__without_key)
{
	json_t *json = http_json("POST /allocate", "{'size_bytes':1}", 200);

	assert_null(json_object_get(json, "rdma"));
	fake_keys_set(&keys, unconnected, true);
	json = http_json("POST /allocate", allocate_body(",'access':'none','lifetime':'session'"),
			 200);
	assert_true(json_is_null(json_object_get(json, "rdma")));
	assert_int_equal(fake_keys_live(&keys, NULL), 0);
	http_expect_error("POST /allocate", "{'size_bytes':1,'access':'none'}", 400,
			  "missing_field");
	http_expect_error("POST /allocate", allocate_body(",'access':'w'"), 400, "bad_field");
}

/* All ids and all keys differ, and each key is of its own slab. */
TEST(allocate__batch)
{
	json_t *json = http_json("POST /allocate", allocate_body(",'count':10000"), 200);
	const json_t *all = json_object_get(json, "allocations");
	static bool seen[MANY + 1];

	memset(seen, 0, sizeof(seen));
	assert_int_equal(json_array_size(all), MANY);
	assert_int_equal(fake_keys_live(&keys, NULL), MANY);
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
	json = http_json("POST /allocate", allocate_body(",'count':1"), 200);
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
		{-EIO, 409, "not_connected"},	   {-ENOSR, 507, "quota_exhausted"},
	};

	maas_log_set_level(MAAS_LOG_ERR);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const char *id = http_allocate(1);

		fake_keys_set(&keys, start_error, cases[i].error);
		http_expect_error("POST /allocate", allocate_body(""), cases[i].status,
				  cases[i].code);
		http_expect_error("POST /allocate", allocate_body(",'count':30"), cases[i].status,
				  cases[i].code);
		http_expect_error(http_text("POST /allocate/%s/grant", id), grant_body(),
				  cases[i].status, cases[i].code);
		assert_int_equal(slab_stats().live_slabs, i + 1);
	}
	http_expect_error("POST /allocate", "{'size_bytes':1,'session':'" NO_ID "'}", 404,
			  "unknown_session");
}

TEST(allocate__all_or_none)
{
	fake_keys_set(&keys, max_keys, 20);
	http_expect_error("POST /allocate", allocate_body(",'count':21"), 507, "grants_exhausted");
	assert_int_equal(slab_stats().live_slabs, 0);
	assert_int_equal(fake_keys_live(&keys, NULL), 0);
	http_json("POST /allocate", allocate_body(",'count':20"), 200);
	http_expect_error("POST /allocate", allocate_body(""), 507, "grants_exhausted");
	http_json("POST /allocate", "{'size_bytes':1}", 200);
	assert_int_equal(slab_stats().live_slabs, 21);
}

TEST(allocate__request_id_again)
{
	const char *body = allocate_body(",'request_id':'r'");
	json_t *first = http_json("POST /allocate", body, 200);
	json_t *again = http_json("POST /allocate", body, 200);

	assert_true(json_equal(first, again));
	http_expect_error("POST /allocate", allocate_body(",'request_id':'r','access':'r'"), 409,
			  "request_id_reused");
	http_free(http_string(first, "id"));
	http_expect_error("POST /allocate", allocate_body(",'request_id':'r'"), 404, "not_found");
}

/* ---- late keys */

TEST(allocate__waits_for_its_key)
{
	int fd = allocate_later(",'count':2");

	assert_int_equal(http_recv(fd, 50), 0);
	http_json("GET /health", NULL, 200);
	finish(0);
	http_expect_answer(fd, 200, "\"rkey\":2");
}

TEST(allocate__key_fails_late)
{
	int fd = allocate_later("");

	finish(-EMLINK);
	http_expect_answer(fd, 507, "\"device_limit\"");
	assert_int_equal(slab_stats().live_slabs, 0);
}

TEST(allocate__client_leaves_while_waiting)
{
	for (unsigned int i = 0; i < 8; i++) {
		close(allocate_later(",'count':100"));
		finish(i % 2 ? -EIO : 0);
	}
	http_wait_idle();
	assert_int_equal(slab_stats().live_slabs, 400);
	assert_int_equal(fake_keys_live(&keys, NULL), 400);
}

/* The keys end after the server has: the memory that they fill in must still be there. */
TEST(stop__while_keys_are_awaited)
{
	const char *id = http_allocate(1);
	const int fds[] = {allocate_later(",'count':100"), allocate_later(""),
			   ask_later(http_text("POST /allocate/%s/grant", id), grant_body())};

	fake_keys_await(&keys, 3);
	http_stop();
	http_close_all(fds, 3);
}

/* The memory of large requests is added up as long as they last. */
TEST(held__is_bounded)
{
	int fd;

	HTTP_START_KEYS(.max_held_bytes = 4 << 20);
	fd = allocate_later(",'count':10000");
	http_expect_error("POST /allocate", "{'size_bytes':1,'count':10000}", 503, "busy");
	http_expect_error("GET /allocations?limit=10000", NULL, 503, "busy");
	http_json("POST /allocate", "{'size_bytes':1,'count':100}", 200);
	http_json("GET /allocations?limit=100", NULL, 200);
	finish(0);
	http_expect_answer(fd, 200, "\"rkey\":1,");
	http_wait_idle();
	http_json("GET /allocations?limit=10000", NULL, 200);
}

/* ---- grants */

TEST(grant__late_and_failed_ends)
{
	json_t *json = http_json("POST /allocate", allocate_body(""), 200);
	const char *end =
		http_text("DELETE /allocate/%s/grant/%s", http_string(json, "id"), http_session);
	static const int ends[] = {-ETIMEDOUT, -EIO, 0};

	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(ends); i++) {
		int fd = ask_later(end, NULL);

		finish(ends[i]);
		http_expect_answer(fd, ends[i] ? 503 : 200,
				   ends[i] ? "\"revoke_unconfirmed\"" : "\r\n\r\n");
	}
	assert_int_equal(slab_stats().live_slabs, 1);
	assert_int_equal(fake_keys_live(&keys, NULL), 0);
}

/* ---- ends that no key confirms */

/* Its memory is kept back until the key is dead after all. */
TEST(free__unconfirmed)
{
	json_t *json = http_json("POST /allocate", allocate_body(",'count':2"), 200);
	const json_t *all = json_object_get(json, "allocations");
	const char *one = http_string(json_array_get(all, 0), "id");
	const char *two = http_string(json_array_get(all, 1), "id");
	int fd = ask_later(http_text("DELETE /allocate/%s", one), NULL);

	maas_log_set_level(MAAS_LOG_ERR);
	finish(-ETIMEDOUT);
	http_expect_answer(fd, 503, "\"revoke_unconfirmed\"");
	assert_int_equal(slab_stats().quarantined_bytes, 1024);
	http_expect_error(http_text("DELETE /allocate/%s", one), NULL, 404, "not_found");
	fake_keys_set(&keys, mode, FAKE_KEYS_AT_ONCE);
	while (fake_keys_finish(&keys, 0))
		;
	AWAIT(!slab_stats().quarantined_bytes);

	fd = ask_later("POST /free", http_text("{'ids':['" NO_ID "','%s']}", two));
	finish(-ETIMEDOUT);
	http_expect_answer(fd, 503, "\"revoke_unconfirmed\"");
	assert_int_equal(slab_stats().live_slabs, 0);
}

TEST(free__waits_for_keys)
{
	int fd = free_later();

	assert_int_equal(http_recv(fd, 50), 0);
	finish(0);
	http_expect_answer(fd, 200, "\r\n\r\n");
}

TEST(session__end_unconfirmed)
{
	const char *end = http_text("DELETE /sessions/%s", http_session);
	int fd;

	maas_log_set_level(MAAS_LOG_ERR);
	http_json("POST /allocate", allocate_body(",'lifetime':'session'"), 200);
	fd = ask_later(end, NULL);
	http_expect_error(end, NULL, 404, "unknown_session");
	finish(-ETIMEDOUT);
	finish(-ETIMEDOUT);
	http_expect_answer(fd, 503, "\"revoke_unconfirmed\"");
}

/* A server that stops does not say that keys are dead while they are not. */
TEST(stop__while_a_key_dies)
{
	int fd = free_later();

	http_stop();
	if (http_recv(fd, 1000))
		http_expect_parts(http_said, "\"stopping\"");
	close(fd);
}

TEST_MAIN(http_setup_keys, http_teardown)
