/* SPDX-License-Identifier: Apache-2.0 */
/* Clients without a ticket, or that never finish, neither fill the log nor hold anybody up. */
#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_thread.h"

#define CALLS 200

static const char nonsense[] = "let me in";

TEST(refusals__are_counted_and_not_all_logged)
{
	uint64_t before_ms = maas_clock_ms();
	struct log_file file;
	uint64_t seconds;
	uint64_t logged;
	uint64_t left_out;

	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_INFO);
	server_open(MAAS_RDMA_KEYS_AUTO);
	peer = peer_new(NULL);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(peer_dial_with(peer, nonsense, sizeof(nonsense)),
				 MAAS_WIRE_VERSION_UNKNOWN);
	assert_int_equal(count_of(server_stats().rejects, "version"), CALLS);
	seconds = (maas_clock_ms() - before_ms) / 1000 + 1;
	ahead_ms += 1000;
	maas_ratelimit_flush();

	logged = log_file_lines(&file, "rdma: connection refused reason=", NULL);
	assert_in_range(logged, 1, seconds * MAAS_RATELIMIT_LINES);
	assert_in_range(log_file_lines(&file, "lines left out=", &left_out), 1, seconds);
	assert_int_equal(logged + left_out, CALLS);
	maas_log_set_level(MAAS_LOG_ERR);
	log_file_end(&file);
}

TEST(version__of_another_client_is_told)
{
	struct log_file file;

	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_INFO);
	rules.wire_version = MAAS_WIRE_VERSION + 1;
	server_open(MAAS_RDMA_KEYS_AUTO);
	peer = peer_new("newer");
	assert_int_equal(peer_dial(peer), MAAS_WIRE_VERSION_UNKNOWN);
	assert_int_equal(log_file_lines(&file, "or another protocol version", NULL), 1);
	assert_int_equal(end_session(peer), 0);
	maas_log_set_level(MAAS_LOG_ERR);
	log_file_end(&file);
}

/* ---- the thread */

struct glance {
	struct maas_rdma_task task;
	_Atomic uint64_t refused;
	_Atomic bool over;
};

static void glance(struct maas_rdma_task *task, int status)
{
	struct glance *seen = MAAS_CONTAINER_OF(task, struct glance, task);

	(void)status;
	atomic_store(&seen->refused,
		     atomic_load(&server.rdma->figures.rejects[MAAS_WIRE_VERSION_UNKNOWN]));
	atomic_store(&seen->over, true);
}

/* A revocation comes before most of the requests that came earlier. */
TEST(requests__do_not_hold_up_tasks)
{
	struct glance seen = {.task.run = glance};
	struct halt halt;

	server_open(MAAS_RDMA_KEYS_AUTO);
	thread_halt(&halt);
	for (int i = 0; i < CALLS; i++)
		peer_ask(peer_new(NULL), nonsense, sizeof(nonsense));
	assert_int_equal(maas_rdma_send(server.rdma, &seen.task), 0);
	thread_go_on(&halt);

	AWAIT(atomic_load(&seen.over));
	assert_in_range(atomic_load(&seen.refused), 1, CALLS / 2);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(peer_answer(&peers[i]), MAAS_WIRE_VERSION_UNKNOWN);
}

TEST(connect__that_is_never_finished)
{
	struct halt halt;

	server_open(MAAS_RDMA_KEYS_AUTO);
	peer = peer_new("one");
	peer_ask_with_ticket(peer);
	AWAIT(server_stats().connecting == 1);
	thread_halt(&halt); /* it has set the deadline */
	ahead_ms += 11000;
	thread_go_on(&halt);
	AWAIT(is_idle());
}

RDMA_TEST_MAIN()
