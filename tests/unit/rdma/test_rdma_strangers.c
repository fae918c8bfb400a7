/* SPDX-License-Identifier: Apache-2.0 */
/* Who has no ticket, or never finishes: neither fills the log nor holds anybody up. */
#include "tests/unit/base/log_file.h"
#include "tests/unit/rdma/rdma_thread.h"

#define CALLS 200

static const char nonsense[] = "let me in";

static void refusals__are_counted_and_not_all_logged(void **state)
{
	uint64_t before_ms = maas_clock_ms();
	struct log_file file;
	struct world world;
	struct peer peer = {0};
	uint64_t seconds;
	uint64_t logged;
	uint64_t left_out;

	(void)state;
	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_INFO);
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(peer_dial_with(&world, &peer, nonsense, sizeof(nonsense)),
				 MAAS_WIRE_VERSION_UNKNOWN);
	assert_int_equal(count_of(world_stats(&world).rejects, "version"), CALLS);
	seconds = (maas_clock_ms() - before_ms) / 1000 + 1;
	clock_add_ms(1000);
	maas_ratelimit_flush();

	logged = log_file_lines(&file, "rdma: connection refused reason=", NULL);
	assert_in_range(logged, 1, seconds * MAAS_RATELIMIT_LINES);
	assert_in_range(log_file_lines(&file, "lines left out=", &left_out), 1, seconds);
	assert_int_equal(logged + left_out, CALLS);
	maas_log_set_level(MAAS_LOG_ERR);
	log_file_end(&file);
	world_close(&world);
}

static void version__of_another_client_is_told(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct log_file file;
	struct world world;
	struct peer peer;

	(void)state;
	log_file_begin(&file);
	maas_log_set_level(MAAS_LOG_INFO);
	rules.wire_version = MAAS_WIRE_VERSION + 1;
	world_open(&world, &rules, MAAS_RDMA_KEYS_AUTO);
	peer_session(&world, &peer, "newer");
	assert_int_equal(peer_dial(&world, &peer), MAAS_WIRE_VERSION_UNKNOWN);
	assert_int_equal(log_file_lines(&file, "or another protocol version", NULL), 1);
	assert_int_equal(end_session(&world, &peer), 0);
	maas_log_set_level(MAAS_LOG_ERR);
	log_file_end(&file);
	world_close(&world);
}

/* ---- the thread */

struct glance {
	struct maas_rdma_task task;
	struct maas_rdma *rdma;
	_Atomic uint64_t refused;
	_Atomic bool over;
};

static void glance(struct maas_rdma_task *task, int status)
{
	struct glance *seen = MAAS_CONTAINER_OF(task, struct glance, task);

	(void)status;
	atomic_store(&seen->refused,
		     atomic_load(&seen->rdma->figures.rejects[MAAS_WIRE_VERSION_UNKNOWN]));
	atomic_store(&seen->over, true);
}

/* A revocation, for one, comes before most of those who asked earlier. */
static void requests__do_not_hold_up_tasks(void **state)
{
	static struct peer peers[CALLS];
	struct glance seen = {.task.run = glance};
	struct world world;
	struct halt halt;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	thread_halt(&world, &halt);
	for (int i = 0; i < CALLS; i++)
		peer_ask(&world, &peers[i], nonsense, sizeof(nonsense));
	seen.rdma = world.rdma;
	assert_int_equal(maas_rdma_send(world.rdma, &seen.task), 0);
	thread_go_on(&halt);

	AWAIT(atomic_load(&seen.over));
	assert_in_range(atomic_load(&seen.refused), 1, CALLS / 2);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(peer_answer(&peers[i]), MAAS_WIRE_VERSION_UNKNOWN);
	world_close(&world);
}

static void connect__that_is_never_finished(void **state)
{
	struct world world;
	struct peer peer;
	struct halt halt;

	(void)state;
	world_open(&world, NULL, MAAS_RDMA_KEYS_AUTO);
	peer_session(&world, &peer, "one");
	peer_ask_with_ticket(&world, &peer);
	AWAIT(world_stats(&world).connecting == 1);
	thread_halt(&world, &halt); /* it has set the deadline */
	clock_add_ms(11000);
	thread_go_on(&halt);
	AWAIT(!world_stats(&world).connecting && !world_stats(&world).ending);
	peer_close(&peer);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals__are_counted_and_not_all_logged),
		cmocka_unit_test(version__of_another_client_is_told),
		cmocka_unit_test(requests__do_not_hold_up_tasks),
		cmocka_unit_test(connect__that_is_never_finished),
	};

	maas_log_set_level(MAAS_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
