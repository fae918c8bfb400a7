/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong between client and server: lost answers, silence. */
#include <dlfcn.h>
#include <netdb.h>

#include "client/internal.h"
#include "tests/unit/client/client_fixture.h"

static atomic_bool resolver_silent;
static atomic_uint resolver_calls;
static atomic_bool resolver_gave_up;

/* That of libcurl, too. */
__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
						       const struct addrinfo *wanted,
						       struct addrinfo **ret_list)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (strcmp(name, "silent.invalid") == 0) {
		resolver_calls++;
		for (int ms = 0; resolver_silent && ms < 10000; ms++)
			usleep(1000);
		resolver_gave_up = resolver_silent;
		resolver_calls--;
		return EAI_AGAIN;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	return real(name, service, wanted, ret_list);
}

TEST(retry__an_allocation_is_made_once)
{
	struct maas_allocation at;

	proxy_open(2, NULL);
	at = client_alloc(maas, 1);
	assert_string_equal(maas_error(), "");
	assert_int_equal(proxy.connections, 3);
	assert_int_equal(client_stat(other, "total_allocations"), 1);
	assert_int_equal(maas_free(other, at.id), 0);
}

TEST(retry__a_free_whose_answer_was_lost_is_done)
{
	struct maas_allocation at;

	proxy_open(1, NULL);
	at = client_alloc(other, 1);
	assert_int_equal(maas_free(maas, at.id), 0);
	assert_string_equal(maas_error(), "");
	assert_int_equal(proxy.connections, 2);
	assert_int_equal(maas_free(maas, at.id), -ENOENT);
}

/* On a kept connection curl itself sends again. */
TEST(retry__a_free_on_a_kept_connection)
{
	struct maas_allocation at[3];
	const char *ids[] = {at[1].id, at[2].id};
	bool missing[] = {true, true};

	proxy_open(0, NULL);
	assert_int_equal(maas_alloc_many(maas, 1, 3, NULL, at), 0);
	proxy_loses_next = true;
	assert_int_equal(maas_free(maas, at[0].id), 0);
	proxy_loses_next = true;
	assert_int_equal(maas_free_many(maas, ids, 2, missing), 2);
	assert_false(missing[0] || missing[1]);
	assert_int_equal(maas_free_many(maas, ids, 2, missing), 0);
	assert_int_equal(maas_free(maas, at[0].id), -ENOENT);
}

TEST(retry__a_free_of_many_whose_answer_was_lost_is_done)
{
	struct maas_allocation at[2];
	const char *ids[] = {at[0].id, at[1].id};
	bool missing[] = {true, true};

	proxy_open(1, NULL);
	assert_int_equal(maas_alloc_many(other, 1, 2, NULL, at), 0);
	assert_int_equal(maas_free_many(maas, ids, 2, missing), 2);
	assert_false(missing[0] || missing[1]);
	assert_int_equal(maas_free_many(maas, ids, 2, missing), 0);
	assert_true(missing[0] && missing[1]);
}

TEST(retry__submitted_writes_too)
{
	struct maas_allocation at;
	char bytes[] = "abc";
	char found[4] = "";

	proxy_open(2, NULL);
	at = client_alloc(other, 3);
	submit_write(RANGE(at.id, 0, bytes, 3), 0, NULL);
	client_done(0);
	assert_int_equal(proxy.connections, 3);
	assert_int_equal(maas_read(other, at.id, 0, found, 3), 0);
	assert_string_equal(found, bytes);
	assert_int_equal(maas_free(other, at.id), 0);
}

TEST(retry__is_bounded)
{
	char byte;

	proxy_open(100, NULL);
	assert_int_equal(client_get("/health"), -ECONNRESET);
	/* The last asks whether the port speaks TLS. */
	assert_int_equal(proxy.connections, 3 + 1);
	submit_read(RANGE("a", 0, &byte, 1), 0, NULL);
	client_done(-ECONNRESET);
	assert_int_equal(proxy.connections, 4 + 3);
}

TEST(retry__not_for_a_session)
{
	proxy_open(1, OPTIONS(.ttl_seconds = 2));
	assert_int_equal(maas_reopen(maas), -ECONNRESET);
	assert_int_equal(proxy.connections, 1 + 1);
}

/* ---- renewals of a session of three seconds, of which the first is sent after one */

static void open_session(const struct maas_options *options)
{
	stub_open(SESSION("3"), options);
	assert_int_equal(maas_reopen(maas), 0);
	stub_say("", SESSION("3")); /* the next request has no answer, those behind it have */
}

TEST(renewal__without_an_answer_is_sent_again)
{
	open_session(OPTIONS(.ttl_seconds = 3));
	AWAIT(stub.connections == 3);
	AWAIT(client_session().lease_ms > 1500);
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
}

TEST(renewal__is_not_waited_for_at_close)
{
	uint64_t start_ms;

	open_session(OPTIONS(.ttl_seconds = 9));
	AWAIT(stub.connections == 2);
	start_ms = maas_clock_ms();
	client_close(&maas);
	assert_in_range(maas_clock_ms() - start_ms, 0, 2000);
	assert_non_null(strstr(stub_seen, "DELETE /sessions/"));
}

TEST(renewal__needs_no_connection_of_a_call)
{
	open_session(OPTIONS(.ttl_seconds = 3, .timeout_ms = 3500, .max_connections = 1));
	assert_int_equal(client_get("/health"), -ETIMEDOUT);
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
}

TEST(pool__waits_no_longer_than_the_timeout)
{
	uint64_t start_ms = maas_clock_ms();

	stub_open("", OPTIONS(.timeout_ms = 300, .max_connections = 1));
	expect_error(client_get("/health"), -ETIMEDOUT, "did not answer within");
	assert_in_range(maas_clock_ms() - start_ms, 290, 5000);
}

TEST(timeout__holds_where_no_name_server_answers)
{
	char byte;

	resolver_silent = true;
	maas = client_open("http://silent.invalid:3000", OPTIONS(.timeout_ms = 300));
	expect_error(client_get("/health"), -ETIMEDOUT, "did not answer within");
	submit_read(RANGE(SOME_ID, 0, &byte, 1), 300, NULL);
	client_done(-ETIMEDOUT);
	client_close(&maas);
	assert_int_equal(resolver_calls, 2);
	assert_false(resolver_gave_up);
	resolver_silent = false;
	AWAIT(resolver_calls == 0);
}

/* A request that is sent again in another call. */
TEST(call__without_time_for_a_second_round)
{
	struct maas_request request;

	stub_open(OK("{}"), NULL);
	maas_request_init(&request, "GET", "/health");
	assert_int_equal(maas_call(maas, &request, maas_deadline_ms(maas)), 0);
	expect_error(maas_call(maas, &request, maas_clock_ms()), -ETIMEDOUT, "no time was left");
	maas_request_fini(&request);
}

TEST_MAIN(NULL, client_end)
