/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: connections that break, deadlines, keys that die, sessions that are lost. */
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

TEST(connection__breaks_again_and_again)
{
	begin();
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR, 3);
	assert_int_equal(write_one('b'), -ECONNRESET);
	/* The next one is another story. */
	assert_int_equal(write_one('c'), 0);
	expect_bytes('c');
}

TEST(connection__breaks_under_many)
{
	static unsigned int done[MANY];

	memset(done, 0, sizeof(done));
	begin();
	fake_hold(FAKE_DATA);
	submit_many(done, MANY);
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	fake_release();
	take(MANY, 0);
	check_many(done, MANY);
}

TEST(timeout__gives_the_buffer_back)
{
	struct maas_range range;

	begin_with(NULL, "auto", OPTIONS(.timeout_ms = 1000));
	assert_int_equal(write_one('a'), 0);
	range = (struct maas_range){memory.id, 0, bytes, PIECE};
	fake_hold(FAKE_DATA);
	assert_int_equal(maas_submit_write(maas, &range, 1, SHORT_MS, NULL), 0);
	take(1, -ETIMEDOUT);
	assert_int_equal(fake_num_held(), 0); /* it is not written later */
	fake_release();
	assert_int_equal(maas_buffer_unregister(maas, buffer), 0);
	expect_bytes('a');
	fake_hold(FAKE_DATA);
	assert_int_equal(write_one('b'), -ETIMEDOUT);
	fake_release();
	assert_int_equal(write_one('c'), 0);
	expect_bytes('c');
	AWAIT(fake_live().qps == 2);
}

TEST(close__with_work_under_way)
{
	begin();
	fake_hold(FAKE_DATA);
	submit_many(NULL, 20);
}

/* ---- keys */

static const char *session_of(struct maas_session *session)
{
	assert_int_equal(maas_session_get(maas, session), 0);
	assert_int_equal(session->state, MAAS_SESSION_LIVE);
	return session->id;
}

TEST(key__that_died_is_asked_for_again)
{
	static const char *const modes[] = {"window", "mr"};
	struct maas_session session;

	for (int i = 0; i < 2; i++) {
		print_message("%s\n", modes[i]);
		begin_with(NULL, modes[i], NULL);
		assert_int_equal(write_one('a'), 0);
		lan_ungrant(memory.id, session_of(&session));
		assert_int_equal(write_one('b'), 0);
		expect_bytes('b');
		end();
	}
}

/* What the record of an earlier operation had pinned is not unpinned again. */
TEST(id__is_none_behind_large_ranges)
{
	static char large[2 * LARGE];
	struct maas_range ranges[2];

	begin();
	ranges[0] = (struct maas_range){memory.id, 0, large, LARGE};
	ranges[1] = (struct maas_range){memory.id, LARGE, large + LARGE, LARGE};
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
	assert_int_equal(write_one('c'), 0);
	expect_bytes('c');
}

TEST(memory__that_somebody_else_freed)
{
	struct maas *other;

	begin();
	other = open_other();
	assert_int_equal(maas_free(other, memory.id), 0);
	assert_int_equal(write_one('b'), -ENOENT);
	/* Its slab is somebody else's now. */
	assert_int_equal(maas_alloc(other, LAN_LARGEST, NULL, &memory), 0);
	expect_bytes(0);
	maas_close(other);
}

TEST(session__is_lost)
{
	struct maas_session session;

	begin();
	lan_end_session(session_of(&session));
	assert_int_equal(write_one('b'), -EKEYREVOKED);
	AWAIT(maas_session_get(maas, &session) == 0 && session.state == MAAS_SESSION_LOST);
	assert_int_equal(write_one('b'), -EKEYREVOKED);
	assert_int_equal(maas_reopen(maas), 0);
	/* Memory that did not belong to the session is still there. */
	expect_bytes('a');
	assert_int_equal(write_one('c'), 0);
	expect_bytes('c');
}

TEST(buffer__in_use_cannot_go)
{
	begin();
	fake_hold(FAKE_DATA);
	submit_many(NULL, 1);
	assert_int_equal(maas_buffer_unregister(maas, buffer), -EBUSY);
	fake_release();
	take(1, 0);
	assert_int_equal(maas_buffer_unregister(maas, buffer), 0);
}

TEST_MAIN(NULL, end)
