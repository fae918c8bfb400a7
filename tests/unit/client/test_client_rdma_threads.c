/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: threads that share a handle, and how they wake each other. */
#include "tests/unit/client/client_rdma.h"

#define THREADS	   4
#define THREAD_OPS 200
#define UNDER_WAY  77 /* what no call returns */

/* What a thread calls once. */
struct call {
	struct maas_completion completion;
	_Atomic int r;
	pthread_t thread;
};

static void *poll_for_one(void *arg)
{
	struct call *call = arg;

	call->r = maas_poll(maas, &call->completion, 1, -1);
	return NULL;
}

static void *write_first(void *arg)
{
	((struct call *)arg)->r = maas_write(maas, memory.id, 0, "x", 1);
	return NULL;
}

static void *read_first(void *arg)
{
	char byte;

	((struct call *)arg)->r = maas_read(maas, memory.id, 0, &byte, 1);
	return NULL;
}

/* Longer than a thread polls before it sleeps. */
static void let_sleep(void)
{
	nap_ms(20);
}

static void launch(struct call *call, void *(*run)(void *))
{
	call->r = UNDER_WAY;
	threads_start(&call->thread, 1, run, call, 0);
}

/* Another thread calls, until `held` operations are held back, and sleeps then. */
static void start(struct call *call, void *(*run)(void *), unsigned int held)
{
	launch(call, run);
	AWAIT(fake_num_held() == held);
	let_sleep();
	assert_int_equal(call->r, UNDER_WAY);
}

static void expect_end(struct call *call, int r)
{
	AWAIT(call->r != UNDER_WAY);
	assert_int_equal(call->r, r);
	threads_join(&call->thread, 1);
}

/* While a thread sleeps in maas_poll(), another one submits an impossible transfer. */
TEST(poll__hears_of_what_fails_at_once)
{
	struct call poll;

	begin();
	hold_many(1);
	start(&poll, poll_for_one, 1);
	submit_read(RANGE(memory.id, LAN_LARGEST, bytes, 1), 0, NULL);
	expect_end(&poll, 1);
	assert_int_equal(poll.completion.status, -ERANGE);
	finish_many(1);
}

/* The thread that polls for all is in the middle of a call of its own. */
TEST(poll__hears_of_what_another_thread_completes)
{
	struct call poll, write;

	begin();
	fake_hold(FAKE_DATA);
	submit_read(RANGE(memory.id, 0, bytes, 1), 0, NULL);
	start(&write, write_first, 2);
	start(&poll, poll_for_one, 2);
	fake_hold(FAKE_OP(IBV_WR_RDMA_WRITE)); /* and lets the read go */
	expect_end(&poll, 1);
	assert_int_equal(poll.completion.status, 0);
	assert_int_equal(write.r, UNDER_WAY);
	fake_release();
	expect_end(&write, 0);
}

/* The thread that polls for all returns; another has to go on. */
TEST(poll__is_taken_over)
{
	struct call write, read;

	begin();
	fake_hold(FAKE_DATA);
	start(&write, write_first, 1);
	start(&read, read_first, 2);
	fake_hold(FAKE_OP(IBV_WR_RDMA_READ)); /* and lets the write go */
	expect_end(&write, 0);
	let_sleep();
	assert_int_equal(read.r, UNDER_WAY);
	fake_release();
	expect_end(&read, 0);
}

/* Each thread has a place of its own, and the bytes of its number. */
static void *write_and_read(void *arg)
{
	unsigned int number = *(unsigned int *)arg;
	char out[1024], in[1024];

	for (unsigned int i = 0; i < THREAD_OPS; i++) {
		memset(out, (int)(number + i), sizeof(out));
		CHECK(!maas_write(maas, memory.id, number * 8192ull, out, sizeof(out)));
		CHECK(!maas_read(maas, memory.id, number * 8192ull, in, sizeof(in)));
		CHECK(memcmp(in, out, sizeof(in)) == 0);
	}
	return NULL;
}

TEST(threads__share_a_handle)
{
	unsigned int numbers[THREADS] = {0, 1, 2, 3};
	pthread_t threads[THREADS];

	begin();
	threads_start(threads, THREADS, write_and_read, numbers, sizeof(*numbers));
	/* Their connection breaks under them, but no operation's third and last time. */
	for (int i = 0; i < 2; i++) {
		nap_ms(5);
		fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	}
	threads_join(threads, THREADS);
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_SUCCESS, 0);
}

/* More calls wait than have operations: the others have their turn when some of these end. */
TEST(threads__more_than_have_operations)
{
	enum { AT_ONCE = 256, CALLS = AT_ONCE + 8 };
	static struct call calls[CALLS];

	begin();
	fake_hold(FAKE_DATA);
	for (int i = 0; i < CALLS; i++)
		launch(&calls[i], write_first);
	AWAIT(fake_num_held() == AT_ONCE);
	let_sleep();
	assert_int_equal(fake_num_held(), AT_ONCE);
	fake_release();
	for (int i = 0; i < CALLS; i++)
		expect_end(&calls[i], 0);
}

TEST(threads__submit_and_poll)
{
	const struct maas_range *range = RANGE(memory.id, 0, bytes, 64);

	begin_with(NULL, "auto", OPTIONS(.max_submitted = 16));
	crowd_run(range);
	assert_true(maas_event_fd(maas) >= 0); /* others wait from now on */
	crowd_run(range);
}

TEST_MAIN(NULL, end)
