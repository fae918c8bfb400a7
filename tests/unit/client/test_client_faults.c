/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong between client and server: lost answers, silence, nonsense. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/unit/client/client_fixture.h"

static struct client_server server;

static int start(void **state)
{
	(void)state;
	client_server_start(&server, "127.0.0.1:0");
	return 0;
}

static int stop(void **state)
{
	(void)state;
	client_server_stop(&server);
	return 0;
}

/* ---- lost answers */

static void retry__an_allocation_is_made_once(void **state)
{
	struct client_wire *wire = client_wire_start(server.url, 2);
	struct maas *maas = client_open(client_wire_url(wire), NULL);
	struct maas *direct = client_open(server.url, NULL);
	struct maas_allocation at;

	(void)state;
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), 0);
	assert_int_equal(client_wire_connections(wire), 3);
	assert_int_equal(client_stat(direct, "total_allocations"), 1);
	assert_int_equal(maas_free(direct, at.id), 0);
	maas_close(maas);
	maas_close(direct);
	client_wire_stop(wire);
}

static void retry__a_free_whose_answer_was_lost_is_done(void **state)
{
	struct client_wire *wire = client_wire_start(server.url, 1);
	struct maas *maas = client_open(client_wire_url(wire), NULL);
	struct maas *direct = client_open(server.url, NULL);
	struct maas_allocation at;

	(void)state;
	assert_int_equal(maas_alloc(direct, 1, NULL, &at), 0);
	assert_int_equal(maas_free(maas, at.id), 0);
	assert_int_equal(client_wire_connections(wire), 2);
	assert_int_equal(maas_free(maas, at.id), -ENOENT);
	maas_close(maas);
	maas_close(direct);
	client_wire_stop(wire);
}

static void retry__submitted_writes_too(void **state)
{
	struct client_wire *wire = client_wire_start(server.url, 2);
	struct maas *maas = client_open(client_wire_url(wire), NULL);
	struct maas *direct = client_open(server.url, NULL);
	struct maas_completion completion;
	struct maas_allocation at;
	char bytes[] = "abc";
	char found[4] = "";
	struct maas_range range = {at.id, 0, bytes, 3};

	(void)state;
	assert_int_equal(maas_alloc(direct, 3, NULL, &at), 0);
	assert_int_equal(maas_submit_write(maas, &range, 1, 0, NULL), 0);
	assert_int_equal(maas_poll(maas, &completion, 1, -1), 1);
	assert_int_equal(completion.status, 0);
	assert_int_equal(client_wire_connections(wire), 3);
	assert_int_equal(maas_read(direct, at.id, 0, found, 3), 0);
	assert_string_equal(found, bytes);
	assert_int_equal(maas_free(direct, at.id), 0);
	maas_close(maas);
	maas_close(direct);
	client_wire_stop(wire);
}

static void retry__is_bounded(void **state)
{
	struct client_wire *wire = client_wire_start(server.url, 100);
	struct maas *maas = client_open(client_wire_url(wire), NULL);
	struct maas *direct = client_open(server.url, NULL);
	struct maas_completion completion;
	char *text;
	char byte;
	struct maas_range range = {"a", 0, &byte, 1};

	(void)state;
	assert_int_equal(maas_get(maas, "/health", &text, NULL), -ECONNRESET);
	assert_int_equal(client_wire_connections(wire), 3);
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	assert_int_equal(maas_poll(maas, &completion, 1, -1), 1);
	assert_int_equal(completion.status, -ECONNRESET);
	assert_int_equal(client_wire_connections(wire), 6);
	maas_close(maas);
	maas_close(direct);
	client_wire_stop(wire);
}

static void retry__not_for_a_session(void **state)
{
	const struct maas_options options = {.size = sizeof(options), .ttl_seconds = 2};
	struct client_wire *wire = client_wire_start(server.url, 1);
	struct maas *maas = client_open(client_wire_url(wire), &options);

	(void)state;
	assert_int_equal(maas_reopen(maas), -ECONNRESET);
	assert_int_equal(client_wire_connections(wire), 1);
	maas_close(maas);
	client_wire_stop(wire);
}

/* ---- silence and nonsense */

static void expect_get(const char *answer, const struct maas_options *options, int error,
		       const char *words)
{
	struct client_stub *stub = client_stub_start(answer);
	struct maas *maas = client_open(client_stub_url(stub), options);
	struct maas_allocation at;

	if (maas_describe(maas, "a", &at) != error || !strstr(maas_error(), words))
		fail_msg("%s: %s", answer ? answer : "(closed)", maas_error());
	maas_close(maas);
	client_stub_stop(stub);
}

static void answer__that_is_none(void **state)
{
	const struct maas_options hasty = {.size = sizeof(hasty), .timeout_ms = 200};

	(void)state;
	expect_get(NULL, NULL, -ECONNRESET, "broke");
	expect_get("", &hasty, -ETIMEDOUT, "did not answer within");
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

static void pool__waits_no_longer_than_the_timeout(void **state)
{
	const struct maas_options options = {
		.size = sizeof(options), .timeout_ms = 300, .max_connections = 1};
	struct client_stub *stub = client_stub_start("");
	struct maas *maas = client_open(client_stub_url(stub), &options);
	uint64_t start_ms = maas_clock_ms();
	char *text;

	(void)state;
	assert_int_equal(maas_get(maas, "/health", &text, NULL), -ETIMEDOUT);
	assert_in_range(maas_clock_ms() - start_ms, 290, 5000);
	maas_close(maas);
	client_stub_stop(stub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(retry__an_allocation_is_made_once, start, stop),
		cmocka_unit_test_setup_teardown(retry__a_free_whose_answer_was_lost_is_done, start,
						stop),
		cmocka_unit_test_setup_teardown(retry__submitted_writes_too, start, stop),
		cmocka_unit_test_setup_teardown(retry__is_bounded, start, stop),
		cmocka_unit_test_setup_teardown(retry__not_for_a_session, start, stop),
		cmocka_unit_test(answer__that_is_none),
		cmocka_unit_test(pool__waits_no_longer_than_the_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
