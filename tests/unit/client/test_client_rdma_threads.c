/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: threads that share a handle, and how they wake each other. */
#include "tests/unit/client/client_crowd.h"
#include "tests/unit/client/client_rdma.h"

#define THREADS	   4
#define THREAD_OPS 200

/* What a thread calls once. */
struct poller {
	struct maas_completion completion;
	_Atomic int count; /* what the call returned */
};

/* Longer than a thread polls before it sleeps. */
static void let_sleep(void)
{
	nap_ms(20);
}

static void *poll_for_one(void *arg)
{
	struct poller *poller = arg;

	poller->count = maas_poll(maas, &poller->completion, 1, -1);
	return NULL;
}

/* While a thread sleeps in maas_poll(), another one submits an impossible transfer. */
TEST(poll__hears_of_what_fails_at_once)
{
	struct maas_range range;
	struct poller poller = {0};
	pthread_t thread;

	begin();
	fake_hold(FAKE_DATA);
	submit_many(NULL, 1);
	assert_int_equal(pthread_create(&thread, NULL, poll_for_one, &poller), 0);
	let_sleep();
	assert_int_equal(poller.count, 0);
	range = (struct maas_range){memory.id, LAN_LARGEST, bytes, 1};
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	AWAIT(poller.count);
	pthread_join(thread, NULL);
	assert_int_equal(poller.count, 1);
	assert_int_equal(poller.completion.status, -ERANGE);
	fake_release();
	take(1, 0);
}

static void *write_first(void *arg)
{
	struct poller *poller = arg;

	poller->count = maas_write(maas, memory.id, 0, "x", 1);
	return NULL;
}

/* The thread that polls for all is in the middle of a call of its own. */
TEST(poll__hears_of_what_another_thread_completes)
{
	struct maas_range range;
	struct poller poller = {0};
	struct poller writer = {.count = 1};
	pthread_t threads[2];

	begin();
	fake_hold(FAKE_DATA);
	range = (struct maas_range){memory.id, 0, bytes, 1};
	assert_int_equal(maas_submit_read(maas, &range, 1, 0, NULL), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, write_first, &writer), 0);
	AWAIT(fake_num_held() == 2);
	let_sleep();
	assert_int_equal(pthread_create(&threads[1], NULL, poll_for_one, &poller), 0);
	let_sleep();
	fake_hold(FAKE_OP(IBV_WR_RDMA_WRITE)); /* and lets the read go */
	AWAIT(poller.count == 1);
	assert_int_equal(poller.completion.status, 0);
	assert_int_equal(writer.count, 1);
	fake_release();
	threads_join(threads, 2);
	assert_int_equal(writer.count, 0);
}

static void *read_first(void *arg)
{
	struct poller *poller = arg;
	char byte;

	poller->count = maas_read(maas, memory.id, 0, &byte, 1);
	return NULL;
}

/* The thread that polls for all returns; another has to go on. */
TEST(poll__is_taken_over)
{
	struct poller writer = {.count = 1};
	struct poller reader = {.count = 1};
	pthread_t threads[2];

	begin();
	fake_hold(FAKE_DATA);
	assert_int_equal(pthread_create(&threads[0], NULL, write_first, &writer), 0);
	AWAIT(fake_num_held() == 1);
	let_sleep();
	assert_int_equal(pthread_create(&threads[1], NULL, read_first, &reader), 0);
	AWAIT(fake_num_held() == 2);
	let_sleep();
	fake_hold(FAKE_OP(IBV_WR_RDMA_READ)); /* and lets the write go */
	AWAIT(!writer.count);
	let_sleep();
	assert_int_equal(reader.count, 1);
	fake_release();
	AWAIT(!reader.count);
	threads_join(threads, 2);
}

struct writer {
	unsigned int number;
	_Atomic int status;
};

static void *write_and_read(void *arg)
{
	struct writer *writer = arg;
	uint64_t at = writer->number * 8192ull;
	char out[1024];
	char in[1024];
	int r = 0;

	for (int i = 0; i < THREAD_OPS && !r; i++) {
		memset(out, (int)writer->number + i, sizeof(out));
		r = maas_write(maas, memory.id, at, out, sizeof(out));
		if (!r)
			r = maas_read(maas, memory.id, at, in, sizeof(in));
		if (!r && memcmp(in, out, sizeof(in)) != 0)
			r = -EBADMSG;
	}
	writer->status = r;
	return NULL;
}

TEST(threads__share_a_handle)
{
	struct writer writers[THREADS];
	pthread_t threads[THREADS];

	begin();
	for (unsigned int i = 0; i < THREADS; i++)
		writers[i].number = i;
	threads_start(threads, THREADS, write_and_read, writers, sizeof(*writers));
	/* Their connection breaks under them, but no operation's third and last time. */
	for (int i = 0; i < 2; i++) {
		nap_ms(5);
		fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	}
	threads_join(threads, THREADS);
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(writers[i].status, 0);
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_SUCCESS, 0);
}

/* More calls wait than have operations: the others have their turn when some of these end. */
TEST(threads__more_than_have_operations)
{
	enum { AT_ONCE = 256, CALLS = AT_ONCE + 8 };
	static struct poller pollers[CALLS];
	static pthread_t threads[CALLS];

	begin();
	fake_hold(FAKE_DATA);
	for (int i = 0; i < CALLS; i++)
		pollers[i].count = -1;
	threads_start(threads, CALLS, write_first, pollers, sizeof(*pollers));
	AWAIT(fake_num_held() == AT_ONCE);
	let_sleep();
	assert_int_equal(fake_num_held(), AT_ONCE);
	fake_release();
	threads_join(threads, CALLS);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(pollers[i].count, 0);
}

TEST(threads__submit_and_poll)
{
	struct maas_range range = {memory.id, 0, bytes, 64};

	begin_with(NULL, "auto", OPTIONS(.max_submitted = 16));
	assert_int_equal(write_one('a'), 0);
	crowd_run(maas, &range);
	assert_true(maas_event_fd(maas) >= 0); /* others wait from now on */
	crowd_run(maas, &range);
}

TEST_MAIN(NULL, end)
