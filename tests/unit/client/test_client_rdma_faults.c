/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: connections that break, deadlines, keys that die, sessions that are lost. */
#include "base/wire.h"
#include "client/rdma/internal.h"
#include "tests/unit/client/client_rdma.h"

#define SHORT_MS 100
#define LARGE	 (100u << 10) /* pinned, not copied */

/* ---- what breaks */

TEST(connection__breaks_under_one)
{
	unsigned long before;

	begin();
	before = transfers();
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	assert_int_equal(write_one('b'), 0);
	assert_int_equal(transfers(), before + 2); /* the key of before is not tried again */
	expect_bytes('b');
}

/* A packet that is lost costs that time, at both ends. */
TEST(connection__does_not_wait_long_for_an_answer)
{
	begin();
	assert_int_equal(fake_num_qps(MAAS_WIRE_ACK_TIMEOUT), 2);
}

TEST(connection__of_a_kernel_that_has_no_such_choice)
{
	struct fake_rules old = fake_rules_default();

	old.no_ack_timeout = true;
	begin_with(&old, "auto", NULL);
	assert_int_equal(fake_num_qps(FAKE_ACK_TIMEOUT), 2);
	expect_works('b');
}

TEST(connection__breaks_again_and_again)
{
	begin();
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR, 3);
	assert_int_equal(write_one('b'), -ECONNRESET);
	/* The next one is another story. */
	expect_works('c');
}

/* As when the device's link goes down under a request: its buffer is as good as it was. */
TEST(connection__breaks_on_this_side)
{
	begin();
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_LOC_QP_OP_ERR);
	expect_works('b');
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_LOC_QP_OP_ERR, 3);
	expect_error(write_one('c'), -ECONNRESET, "local QP operation error");
	expect_works('d');
}

TEST(connection__breaks_under_many)
{
	begin();
	hold_many(MANY);
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	finish_many(MANY);
}

TEST(timeout__gives_the_buffer_back)
{
	begin_with(NULL, "auto", OPTIONS(.timeout_ms = 1000));
	fake_hold(FAKE_DATA);
	submit_write(RANGE(memory.id, 0, bytes, PIECE), SHORT_MS, NULL);
	client_take(1, -ETIMEDOUT);
	assert_int_equal(fake_num_held(), 0); /* it is not written later */
	fake_release();
	assert_int_equal(maas_buffer_unregister(maas, buffer), 0);
	expect_bytes('a');
	fake_hold(FAKE_DATA);
	assert_int_equal(write_one('b'), -ETIMEDOUT);
	fake_release();
	expect_works('c');
	AWAIT(fake_live().qps == 2);
}

/* `maas` by the proxy, and memory that `other` borrowed. */
static struct maas_allocation begin_stalled(const struct maas_options *options)
{
	struct maas_allocation at;

	lan_open(NULL, "auto");
	proxy_start(lan_url(), 0);
	begin_at(proxy.url, options);
	open_other();
	at = client_alloc(other, 1);
	proxy_stalled = true;
	return at;
}

/* The transport's thread waits for the answer to a request, which has more time than the write. */
static void expect_timeout_beside(void (*act)(const struct maas_allocation *at),
				  const struct maas_allocation *at)
{
	uint64_t start_ms;

	act(at);
	nap_ms(50); /* the request is under way */
	start_ms = maas_clock_ms();
	submit_write(RANGE(memory.id, 0, bytes, PIECE), SHORT_MS, NULL);
	AWAIT(client_readable(0));
	assert_in_range(maas_clock_ms() - start_ms, SHORT_MS, 3000);
	client_done(-ETIMEDOUT);
}

static void need_key(const struct maas_allocation *at)
{
	fake_hold(FAKE_DATA);
	submit_read(RANGE(at->id, 0, bytes, 1), 0, NULL);
}

TEST(timeout__while_a_key_is_asked_for)
{
	struct maas_allocation at = begin_stalled(NULL);

	expect_timeout_beside(need_key, &at);
	proxy_stalled = false;
	fake_release();
	client_done(0);
}

static void break_connection(const struct maas_allocation *at)
{
	fake_fail_next(IBV_WR_RDMA_READ, IBV_WC_RETRY_EXC_ERR);
	submit_read(RANGE(memory.id, 0, bytes, 1), 0, NULL);
	(void)at;
	(void)client_readable(0); /* polls */
}

TEST(timeout__while_a_ticket_is_asked_for)
{
	struct maas_allocation at = begin_stalled(NULL);

	expect_timeout_beside(break_connection, &at);
	proxy_stalled = false;
	client_done(0);
}

/* The next allocation needs a connection first. */
static int alloc_disconnected(void)
{
	struct maas_allocation at;

	maas_rdma_client_broken(maas->rdma, maas_rdma_client_number(maas->rdma));
	return maas_alloc(maas, 1, NULL, &at);
}

TEST(timeout__is_none_of_an_earlier_failure)
{
	lan_open(NULL, "auto");
	proxy_start(lan_url(), 0);
	begin_at(proxy.url, OPTIONS(.timeout_ms = 2000));
	fake_fail_nth(FAKE_MAKES, 1);
	assert_int_not_equal(alloc_disconnected(), 0);
	assert_true(fake_fail_disarm());
	assert_int_equal(alloc_disconnected(), 0);
	proxy_stalled = true;
	expect_error(alloc_disconnected(), -ETIMEDOUT, "no RDMA connection in time");
	proxy_stalled = false;
}

TEST(close__with_work_under_way)
{
	begin();
	hold_many(20);
}

/* ---- keys */

TEST(key__that_died_is_asked_for_again)
{
	static const char *const modes[] = {"window", "mr"};

	for (int i = 0; i < 2; i++) {
		print_message("%s\n", modes[i]);
		begin_with(NULL, modes[i], NULL);
		assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
		lan_ungrant(memory.id, client_session().id);
		expect_works('b');
		end();
	}
}

/* What the record of an earlier operation had pinned is not unpinned again. */
TEST(id__is_none_behind_large_ranges)
{
	static char large[2 * LARGE];
	struct maas_range ranges[] = {{memory.id, 0, large, LARGE},
				      {memory.id, LARGE, large + LARGE, LARGE}};

	begin();
	assert_int_equal(maas_writev(maas, ranges, 2), 0);
	ranges[1].id = "";
	assert_int_equal(maas_writev(maas, ranges, 2), -EINVAL);
	ranges[1].id = memory.id;
	assert_int_equal(maas_writev(maas, ranges, 2), 0);
}

TEST(key__that_is_refused_when_fresh)
{
	begin();
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, 2);
	assert_int_equal(write_one('b'), -EKEYREVOKED);
	expect_works('c');
}

TEST(memory__that_somebody_else_freed)
{
	begin();
	open_other();
	assert_int_equal(maas_free(other, memory.id), 0);
	assert_int_equal(write_one('b'), -ENOENT);
	/* Its slab is somebody else's now. */
	assert_int_equal(maas_alloc(other, LAN_LARGEST, NULL, &memory), 0);
	expect_bytes(0);
}

TEST(session__is_lost)
{
	begin();
	assert_int_equal(client_session().state, MAAS_SESSION_LIVE);
	lan_end_session(client_session().id);
	assert_int_equal(write_one('b'), -EKEYREVOKED);
	AWAIT(client_session().state == MAAS_SESSION_LOST);
	assert_int_equal(write_one('b'), -EKEYREVOKED);
	assert_int_equal(maas_reopen(maas), 0);
	/* Memory that did not belong to the session is still there. */
	expect_bytes('a');
	expect_works('c');
}

static void *reopen(void *arg)
{
	*(int *)arg = maas_reopen(maas);
	return NULL;
}

/* The answer to a request of the session before comes once there is the next session. */
static void answer_after_reopen(void (*act)(const struct maas_allocation *at))
{
	struct maas_allocation at = begin_stalled(OPTIONS(.ttl_seconds = 1));
	pthread_t thread;
	int r;

	act(&at);
	AWAIT(client_session().state == MAAS_SESSION_LOST);
	proxy_stuck = proxy.connections;
	proxy_stalled = false;
	threads_start(&thread, 1, reopen, &r, 0);
	AWAIT(client_session().state == MAAS_SESSION_LIVE);
	fake_release();
	proxy_stuck = 0;
	threads_join(&thread, 1);
	assert_int_equal(r, 0);
	client_done(0);
}

TEST(session__is_reopened_while_a_ticket_is_asked_for)
{
	answer_after_reopen(break_connection);
}

TEST(session__is_reopened_while_a_key_is_asked_for)
{
	answer_after_reopen(need_key);
}

TEST(buffer__in_use_cannot_go)
{
	begin();
	hold_many(1);
	assert_int_equal(maas_buffer_unregister(maas, buffer), -EBUSY);
	finish_many(1);
	assert_int_equal(maas_buffer_unregister(maas, buffer), 0);
}

TEST_MAIN(NULL, end)
