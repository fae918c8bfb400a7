/* SPDX-License-Identifier: Apache-2.0 */
/* The session and its lease, against a real maasd that is stopped, killed and started again. */
#include <signal.h>
#include <sys/syscall.h>

#include "tests/unit/client/client_fixture.h"

static atomic_int slept_s; /* how long the host was suspended */

/* In the place of libc's: of all clocks, this one goes on meanwhile. */
int clock_gettime(clockid_t clock, struct timespec *at)
{
	long r = syscall(SYS_clock_gettime, clock, at);

	if (!r && clock == CLOCK_BOOTTIME)
		at->tv_sec += slept_s;
	return (int)r;
}

static atomic_int lost;
static atomic_int num_lost;

static void start(void)
{
	lost = num_lost = 0;
	slept_s = 0;
	server_start();
}

static void note_lost(void *arg, int error)
{
	(void)arg;
	num_lost++;
	lost = error;
}

static struct maas *open_with_lease(uint32_t ttl_seconds, const char *exclusive_name)
{
	return client_open(server.url,
			   OPTIONS(.ttl_seconds = ttl_seconds, .session_name = exclusive_name,
				   .session_exclusive = exclusive_name != NULL,
				   .session_lost = note_lost));
}

/* Memory of the session. */
static int alloc(struct maas_allocation *ret_allocation)
{
	return maas_alloc(maas, 1, ALLOC_OPTIONS(.lifetime = MAAS_LIFETIME_SESSION),
			  ret_allocation);
}

TEST(session__opened_when_needed_and_ended_at_close)
{
	struct maas_allocation at;

	maas = open_with_lease(30, "web/1");
	other = client_open(server.url, NULL);
	assert_int_equal(client_session().state, MAAS_SESSION_NONE);
	assert_string_equal(client_session().id, "");
	at = client_alloc(maas, 1);
	assert_int_equal(client_session().state, MAAS_SESSION_NONE);
	client_free(&at, 1);

	assert_int_equal(alloc(&at), 0);
	assert_int_equal(at.lifetime, MAAS_LIFETIME_SESSION);
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
	assert_in_range(client_session().lease_ms, 20000, 30000);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(client_stat(other, "active_allocations"), 1);
	client_close(&maas);
	assert_int_equal(client_stat(other, "active_allocations"), 0);
}

TEST(session__renewed_in_the_background)
{
	struct maas_allocation at;

	maas = open_with_lease(1, NULL);
	assert_int_equal(alloc(&at), 0);
	nap_ms(3500);
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
	assert_int_equal(maas_describe(maas, at.id, &at), 0);
	assert_int_equal(at.lifetime, MAAS_LIFETIME_SESSION);
	assert_int_equal(lost, 0);
}

TEST(session__exclusive_name)
{
	maas = open_with_lease(30, "one");
	other = open_with_lease(30, "one");
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(maas_reopen(other), -EEXIST);
	client_close(&maas);
	assert_int_equal(maas_reopen(other), 0);
}

TEST(session__none_without_a_lease)
{
	maas = client_open(server.url, NULL);
	assert_int_equal(maas_reopen(maas), -EINVAL);
	assert_int_equal(client_session().state, MAAS_SESSION_NONE);
}

TEST(session__lost_while_the_server_does_not_answer)
{
	struct maas_allocation at;
	char before[MAAS_ID_BYTES];

	maas = open_with_lease(1, "one");
	assert_int_equal(alloc(&at), 0);
	memcpy(before, client_session().id, sizeof(before));
	kill(server.pid, SIGSTOP);
	AWAIT(lost == -ETIMEDOUT);
	assert_int_equal(client_session().state, MAAS_SESSION_LOST);
	kill(server.pid, SIGCONT);
	expect_error(alloc(&at), -EKEYREVOKED, "maas_reopen");
	/* The rest of the handle works on. */
	at = client_alloc(maas, 1);
	client_free(&at, 1);
	/* The server's session may live still, and has the name: it is ended first. */
	assert_int_equal(maas_reopen(maas), 0);
	assert_string_not_equal(client_session().id, before);
	assert_int_equal(alloc(&at), 0);
	assert_int_equal(client_stat(maas, "active_allocations"), 1);
}

static void restart_server(void)
{
	char listen[128];

	snprintf(listen, sizeof(listen), "%.100s", server.url + strlen("http://"));
	server_stop();
	server_start_at(listen);
}

TEST(session__lost_with_the_server)
{
	struct maas_allocation at;

	maas = open_with_lease(3, NULL);
	assert_int_equal(alloc(&at), 0);
	restart_server();
	AWAIT(lost == -EKEYREVOKED);
	assert_int_equal(alloc(&at), -EKEYREVOKED);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(alloc(&at), 0);
}

/* Long before a renewal would. */
TEST(session__lost_to_the_call_that_the_server_refuses)
{
	struct maas_allocation at;

	maas = open_with_lease(30, NULL);
	assert_int_equal(alloc(&at), 0);
	restart_server();
	assert_int_equal(alloc(&at), -EKEYREVOKED);
	assert_int_equal(client_session().state, MAAS_SESSION_LOST);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(alloc(&at), 0);
	assert_int_equal(num_lost, 1);
}

TEST(session__lost_while_the_host_is_suspended)
{
	maas = open_with_lease(30, NULL);
	assert_int_equal(maas_reopen(maas), 0);
	slept_s = 20;
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
	assert_in_range(client_session().lease_ms, 0, 10000);
	slept_s = 30;
	assert_int_equal(client_session().state, MAAS_SESSION_LOST);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(lost, -ETIMEDOUT);
}

/* maas_reopen() sees the end of the lease before the thread that renews does. */
TEST(session__each_loss_is_told_once)
{
	maas = open_with_lease(1, NULL);
	assert_int_equal(maas_reopen(maas), 0);
	for (int losses = 1; losses <= 3; losses++) {
		kill(server.pid, SIGSTOP);
		while (client_session().state != MAAS_SESSION_LOST)
			;
		kill(server.pid, SIGCONT);
		assert_int_equal(maas_reopen(maas), 0);
		assert_int_equal(num_lost, losses);
	}
}

/* What maas_reopen() asks first, the end of the old session, has a part of its time. */
TEST(session__is_reopened_within_the_timeout)
{
	uint64_t start_ms;

	maas = client_open(server.url,
			   OPTIONS(.ttl_seconds = 1, .timeout_ms = 600, .session_lost = note_lost));
	assert_int_equal(maas_reopen(maas), 0);
	kill(server.pid, SIGSTOP);
	AWAIT(lost);
	start_ms = maas_clock_ms();
	assert_int_equal(maas_reopen(maas), -ETIMEDOUT);
	assert_in_range(maas_clock_ms() - start_ms, 600, 1500);
	kill(server.pid, SIGCONT);
	assert_int_equal(maas_reopen(maas), 0);
}

static void alloc_when_lost(void *arg, int error)
{
	struct maas_allocation at;

	lost = error;
	nap_ms(200); /* maas_reopen() waits for this function by then */
	*(int *)arg = alloc(&at);
}

TEST(session__may_be_needed_while_its_loss_is_told)
{
	int told = 0;

	maas = client_open(server.url, OPTIONS(.ttl_seconds = 1, .session_lost = alloc_when_lost,
					       .session_lost_arg = &told));
	assert_int_equal(maas_reopen(maas), 0);
	restart_server();
	AWAIT(lost);
	assert_int_equal(maas_reopen(maas), 0);
	assert_int_equal(told, -EKEYREVOKED);
}

/* Until maas_close() is under way, and on. */
static void read_when_lost(void *arg, int error)
{
	struct maas_completion completion;
	char byte;

	lost = error;
	nap_ms(200);
	submit_read(RANGE(SOME_ID, 0, &byte, 1), 0, NULL);
	*(int *)arg = maas_poll(maas, &completion, 1, 5000);
}

TEST(session__close_waits_for_who_is_told_of_the_loss)
{
	for (int before = 0; before <= 1; before++) {
		int told = -1;
		char byte;

		lost = 0;
		maas = client_open(server.url,
				   OPTIONS(.ttl_seconds = 1, .session_lost = read_when_lost,
					   .session_lost_arg = &told));
		assert_int_equal(maas_reopen(maas), 0);
		if (before) {
			submit_read(RANGE(SOME_ID, 0, &byte, 1), 0, NULL);
			client_done(-ENOENT);
		}
		restart_server();
		AWAIT(lost);
		maas_close(maas);
		maas = NULL;
		assert_int_equal(told, 1);
	}
}

TEST_MAIN(start, client_end)
