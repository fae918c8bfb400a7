/* SPDX-License-Identifier: Apache-2.0 */
/* The session and its lease, against a real maasd that is stopped, killed and started again. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/unit/client/client_fixture.h"

static const struct maas_alloc_options of_session = {.size = sizeof(of_session),
						     .lifetime = MAAS_LIFETIME_SESSION};
static struct client_server server;
static atomic_int lost;

static int start(void **state)
{
	(void)state;
	atomic_store(&lost, 0);
	client_server_start(&server, "127.0.0.1:0");
	return 0;
}

static int stop(void **state)
{
	(void)state;
	client_server_stop(&server);
	return 0;
}

static void note_lost(void *arg, int error)
{
	(void)arg;
	atomic_store(&lost, error);
}

static struct maas *open_with_lease(uint32_t ttl_seconds, const char *exclusive_name)
{
	const struct maas_options options = {
		.size = sizeof(options),
		.ttl_seconds = ttl_seconds,
		.session_name = exclusive_name,
		.session_exclusive = exclusive_name != NULL,
		.session_lost = note_lost,
	};

	return client_open(server.url, &options);
}

static struct maas_session get(struct maas *maas)
{
	struct maas_session session;

	assert_int_equal(maas_session_get(maas, &session), 0);
	return session;
}

static void session__opened_when_needed_and_ended_at_close(void **state)
{
	struct maas *maas = open_with_lease(30, "web/1");
	struct maas *other = client_open(server.url, NULL);
	struct maas_allocation at;

	(void)state;
	assert_int_equal(get(maas).state, MAAS_SESSION_NONE);
	assert_string_equal(get(maas).id, "");
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), 0);
	assert_int_equal(get(maas).state, MAAS_SESSION_NONE);
	assert_int_equal(maas_free(maas, at.id), 0);

	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	assert_int_equal(at.lifetime, MAAS_LIFETIME_SESSION);
	assert_int_equal(get(maas).state, MAAS_SESSION_LIVE);
	assert_in_range(get(maas).lease_ms, 20000, 30000);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(client_stat(other, "active_allocations"), 1);
	maas_close(maas);
	assert_int_equal(client_stat(other, "active_allocations"), 0);
	maas_close(other);
}

static void session__renewed_in_the_background(void **state)
{
	struct maas *maas = open_with_lease(1, NULL);
	struct maas_allocation at;

	(void)state;
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	client_nap_ms(3500);
	assert_int_equal(get(maas).state, MAAS_SESSION_LIVE);
	assert_int_equal(maas_describe(maas, at.id, &at), 0);
	assert_int_equal(at.lifetime, MAAS_LIFETIME_SESSION);
	assert_int_equal(atomic_load(&lost), 0);
	maas_close(maas);
}

static void session__exclusive_name(void **state)
{
	struct maas *first = open_with_lease(30, "one");
	struct maas *second = open_with_lease(30, "one");

	(void)state;
	assert_int_equal(maas_reopen(first), 0);
	assert_int_equal(maas_reopen(second), -EEXIST);
	maas_close(first);
	assert_int_equal(maas_reopen(second), 0);
	maas_close(second);
}

static void session__none_without_a_lease(void **state)
{
	struct maas *maas = client_open(server.url, NULL);

	(void)state;
	assert_int_equal(maas_reopen(maas), -EINVAL);
	assert_int_equal(get(maas).state, MAAS_SESSION_NONE);
	maas_close(maas);
}

static void session__lost_while_the_server_does_not_answer(void **state)
{
	struct maas *maas = open_with_lease(1, "one");
	struct maas_allocation at;
	char before[MAAS_ID_BYTES];

	(void)state;
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	memcpy(before, get(maas).id, sizeof(before));
	kill(server.pid, SIGSTOP);
	CLIENT_WAIT(atomic_load(&lost) == -ETIMEDOUT);
	assert_int_equal(get(maas).state, MAAS_SESSION_LOST);
	kill(server.pid, SIGCONT);
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), -EKEYREVOKED);
	assert_non_null(strstr(maas_error(), "maas_reopen"));
	/* The rest of the handle works on. */
	assert_int_equal(maas_alloc(maas, 1, NULL, &at), 0);
	assert_int_equal(maas_free(maas, at.id), 0);
	/* The server's session may live still, and has the name: it is ended first. */
	assert_int_equal(maas_reopen(maas), 0);
	assert_string_not_equal(get(maas).id, before);
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	assert_int_equal(client_stat(maas, "active_allocations"), 1);
	maas_close(maas);
}

static void session__lost_with_the_server(void **state)
{
	struct maas *maas = open_with_lease(3, NULL);
	char listen[128];
	struct maas_allocation at;

	(void)state;
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	snprintf(listen, sizeof(listen), "%.100s", server.url + strlen("http://"));
	client_server_stop(&server);
	client_server_start(&server, listen);
	CLIENT_WAIT(atomic_load(&lost) == -EKEYREVOKED);
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), -EKEYREVOKED);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(maas_alloc(maas, 1, &of_session, &at), 0);
	maas_close(maas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(session__opened_when_needed_and_ended_at_close,
						start, stop),
		cmocka_unit_test_setup_teardown(session__renewed_in_the_background, start, stop),
		cmocka_unit_test_setup_teardown(session__exclusive_name, start, stop),
		cmocka_unit_test_setup_teardown(session__none_without_a_lease, start, stop),
		cmocka_unit_test_setup_teardown(session__lost_while_the_server_does_not_answer,
						start, stop),
		cmocka_unit_test_setup_teardown(session__lost_with_the_server, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
