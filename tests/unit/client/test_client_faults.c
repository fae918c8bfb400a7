/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong between client and server: lost answers, silence, nonsense. */
#include "tests/unit/client/client_fixture.h"

/* ---- lost answers */

TEST(retry__an_allocation_is_made_once)
{
	struct maas_allocation at;

	proxy_open(2, NULL);
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), 0);
	assert_int_equal(proxy_connections(), 3);
	assert_int_equal(client_stat(other, "total_allocations"), 1);
	assert_int_equal(maas_free(other, at.id), 0);
}

TEST(retry__a_free_whose_answer_was_lost_is_done)
{
	struct maas_allocation at;

	proxy_open(1, NULL);
	at = client_alloc(other, 1);
	assert_int_equal(maas_free(maas, at.id), 0);
	assert_int_equal(proxy_connections(), 2);
	assert_int_equal(maas_free(maas, at.id), -ENOENT);
}

TEST(retry__submitted_writes_too)
{
	struct maas_allocation at;
	char bytes[] = "abc";
	char found[4] = "";
	struct maas_range range = {at.id, 0, bytes, 3};

	proxy_open(2, NULL);
	at = client_alloc(other, 3);
	assert_int_equal(maas_submit_write(maas, &range, 1, 0, NULL), 0);
	client_done(0);
	assert_int_equal(proxy_connections(), 3);
	assert_int_equal(maas_read(other, at.id, 0, found, 3), 0);
	assert_string_equal(found, bytes);
	assert_int_equal(maas_free(other, at.id), 0);
}

TEST(retry__is_bounded)
{
	char *text;
	char byte;
	struct maas_range range = {"a", 0, &byte, 1};

	proxy_open(100, NULL);
	assert_int_equal(maas_get(maas, "/health", &text, NULL), -ECONNRESET);
	assert_int_equal(proxy_connections(),
			 3 + 1); /* the last asks whether the port speaks TLS */
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	client_done(-ECONNRESET);
	assert_int_equal(proxy_connections(), 4 + 3);
}

TEST(retry__not_for_a_session)
{
	proxy_open(1, OPTIONS(.ttl_seconds = 2));
	assert_int_equal(maas_reopen(maas), -ECONNRESET);
	assert_int_equal(proxy_connections(), 1 + 1);
}

/* ---- silence and nonsense */

static void expect_get(const char *answer, const struct maas_options *options, int error,
		       const char *words)
{
	struct maas_allocation at;

	stub_open(answer, options);
	if (maas_describe(maas, "a", &at) != error || !strstr(maas_error(), words))
		fail_msg("%s: %s", answer ? answer : "(closed)", maas_error());
	client_close(&maas);
	stub_stop();
}

TEST(answer__that_is_none)
{
	expect_get(NULL, NULL, -ECONNRESET, "broke");
	expect_get("", OPTIONS(.timeout_ms = 200), -ETIMEDOUT, "did not answer within");
	expect_get("nonsense\r\n\r\n", NULL, -EPROTO, "no sense");
	expect_get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnope!", NULL, -EPROTO, "JSON");
	expect_get("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", NULL, -EPROTO, "\"id\"");
	expect_get("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", NULL, -ECONNRESET, "broke");
	expect_get(
		"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
		NULL, -EPROTO, "status 302");
	expect_get("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", NULL, -EREMOTEIO, "status 500");
}

/* ---- all connections in use */

TEST(pool__waits_no_longer_than_the_timeout)
{
	uint64_t start_ms = maas_clock_ms();
	char *text;

	stub_open("", OPTIONS(.timeout_ms = 300, .max_connections = 1));
	assert_int_equal(maas_get(maas, "/health", &text, NULL), -ETIMEDOUT);
	assert_in_range(maas_clock_ms() - start_ms, 290, 5000);
}

TEST_MAIN(server_start, client_end)
