/* SPDX-License-Identifier: Apache-2.0 */
/* What the next process waits for: the queue pairs of the one before, and nothing else. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/slab/slab_file.h"

/* The process before: `header` is what it signed. */
static struct maas_slab_slot_header *header;
static pid_t child;

/* Calls of the tick, and what is done at the third. */
struct waiting {
	unsigned int ticks;
	bool kill_child;
	int result;
};

static void reap(void)
{
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void start_child(enum maas_slab_slot_writers writers)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		maas_slab_guard_sign(header);
		header->guard.writers = writers;
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
}

static void end_child(void)
{
	assert_int_equal(kill(child, SIGKILL), 0);
	reap();
}

static int on_tick(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct waiting *waiting = ctx;

	assert_int_equal(done_bytes, 0);
	assert_int_equal(total_bytes, 0);
	if (++waiting->ticks < 3)
		return 0;
	if (waiting->kill_child) {
		end_child();
		waiting->kill_child = false;
	}
	return waiting->result;
}

static int wait_for_it(struct waiting *waiting)
{
	const struct maas_slab_options options = {.tick = on_tick, .tick_ctx = waiting};
	char error[MAAS_SLAB_ERROR] = "";

	return maas_slab_guard_wait(header, &options, error);
}

/* It would have waited longer. */
static void expect_waits(void)
{
	struct waiting waiting = {.result = -EINTR};

	assert_int_equal(wait_for_it(&waiting), -EINTR);
	assert_int_equal(waiting.ticks, 3);
}

static void expect_no_wait(void)
{
	struct waiting waiting = {.result = -EINTR};

	assert_int_equal(wait_for_it(&waiting), 0);
	assert_int_equal(waiting.ticks, 0);
}

TEST(wait__not_without_a_device)
{
	start_child(MAAS_SLAB_WRITERS_NONE);
	expect_no_wait();
	header->guard.pid_ns++;
	expect_no_wait();
	end_child();
	expect_no_wait();
	memset(header, 0, sizeof(*header));
	expect_no_wait(); /* nobody signed it */
}

TEST(wait__until_the_process_is_gone)
{
	struct waiting waiting = {.kill_child = true};

	start_child(MAAS_SLAB_WRITERS_DEVICE);
	expect_waits();
	assert_int_equal(wait_for_it(&waiting), 0);
	assert_int_equal(waiting.ticks, 3);
	expect_no_wait();
}

TEST(wait__not_for_a_zombie)
{
	siginfo_t info;

	start_child(MAAS_SLAB_WRITERS_DEVICE);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	expect_no_wait();
	reap();
}

TEST(wait__not_for_a_number_that_came_again)
{
	start_child(MAAS_SLAB_WRITERS_DEVICE);
	header->pid_start--;
	header->guard.pid_start--;
	expect_no_wait();
	end_child();
	maas_slab_guard_sign(header);
	header->pid_start--;
	header->guard.pid_start--;
	header->guard.writers = MAAS_SLAB_WRITERS_DEVICE;
	expect_no_wait(); /* our own number: the process that had it before is gone */
}

/* In a container every server has the same number, and nobody sees the one before. */
TEST(wait__where_the_process_cannot_be_looked_up)
{
	start_child(MAAS_SLAB_WRITERS_DEVICE);
	end_child();
	header->guard.pid_ns++;
	expect_waits();
	header->pid = getpid();
	header->guard.pid = getpid();
	expect_waits();
	header->guard.pid_ns = 0;
	expect_waits();
}

/* A container that is started again: its namespace has the same number as before. */
TEST(wait__where_the_number_of_the_namespace_came_again)
{
	void (*expect)(void) = expect_waits;

	maas_slab_guard_sign(header);
	header->guard.writers = MAAS_SLAB_WRITERS_DEVICE;
	expect_no_wait(); /* our own number: the process that had it before is gone */
	if (header->guard.pid_ns == 0xeffffffc)
		expect = expect_no_wait; /* there is one first namespace; scripts/debian has another
					  */
	header->guard.init_start++;
	expect();
	header->guard.init_start = 0;
	expect();
}

TEST(wait__where_the_table_does_not_say)
{
	start_child(MAAS_SLAB_WRITERS_NONE);
	end_child();
	/* A version that knows no guard signed it later; none has that start, as another process of
	 * this number could have it in the same tick. */
	header->pid++;
	header->pid_start = UINT64_MAX;
	expect_waits();
	header->pid--;
	header->pid_start = header->guard.pid_start;
	expect_no_wait();
	header->guard = (struct maas_slab_slot_guard){0};
	expect_waits();
}

TEST(set_remote__is_noted_in_the_file)
{
	const off_t guard_at = offsetof(struct maas_slab_slot_header, guard);
	struct maas_slab *slab = open_pool();
	struct maas_slab_slot_guard guard;

	read_at(table, guard_at, &guard, sizeof(guard));
	assert_int_equal(guard.writers, MAAS_SLAB_WRITERS_NONE);
	assert_int_equal(guard.pid, getpid());
	assert_true(guard.pid_ns && guard.pid_start);
	maas_slab_set_remote(slab, true);
	read_at(table, guard_at, &guard, sizeof(guard));
	assert_int_equal(guard.writers, MAAS_SLAB_WRITERS_DEVICE);
	maas_slab_set_remote(slab, false);
	read_at(table, guard_at, &guard, sizeof(guard));
	assert_int_equal(guard.writers, MAAS_SLAB_WRITERS_NONE);
}

int main(void)
{
	header = mmap(NULL, sizeof(*header), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	return header == MAP_FAILED ? 1 : file_test_run();
}
