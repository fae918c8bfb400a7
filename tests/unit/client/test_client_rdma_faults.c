/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: connections that break, deadlines, keys that die, sessions that are lost. */
#include "tests/unit/client/client_rdma_scene.h"

#define SHORT_MS 100

/* ---- what breaks */

static void connection__breaks_under_one(void **state)
{
	struct scene scene;
	unsigned long before;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	before = transfers();
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	assert_int_equal(write_one(&scene, 'b'), 0);
	assert_int_equal(transfers(), before + 2); /* the key of before is not tried again */
	expect_bytes(&scene, 'b');
	end(&scene);
}

static void connection__breaks_again_and_again(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR, 3);
	assert_int_equal(write_one(&scene, 'b'), -ECONNRESET);
	/* The next one is another story. */
	assert_int_equal(write_one(&scene, 'c'), 0);
	expect_bytes(&scene, 'c');
	end(&scene);
}

static void connection__breaks_under_many(void **state)
{
	static unsigned int done[MANY];
	struct scene scene;

	(void)state;
	memset(done, 0, sizeof(done));
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, done, MANY);
	fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	fake_release();
	take(scene.maas, MANY, 0);
	check_many(&scene, done, MANY);
	end(&scene);
}

static void timeout__gives_the_buffer_back(void **state)
{
	struct maas_options options = {.size = sizeof(options), .timeout_ms = 1000};
	struct maas_range range;
	struct scene scene;
	struct fake_live live;

	(void)state;
	begin_with(&scene, NULL, "auto", &options);
	assert_int_equal(write_one(&scene, 'a'), 0);
	range = (struct maas_range){scene.memory.id, 0, scene.bytes, PIECE};
	fake_hold(FAKE_DATA);
	assert_int_equal(maas_submit_write(scene.maas, &range, 1, SHORT_MS, NULL), 0);
	take(scene.maas, 1, -ETIMEDOUT);
	assert_int_equal(fake_num_held(), 0); /* it is not written later */
	fake_release();
	assert_int_equal(maas_buffer_unregister(scene.maas, scene.buffer), 0);
	expect_bytes(&scene, 'a');
	fake_hold(FAKE_DATA);
	assert_int_equal(write_one(&scene, 'b'), -ETIMEDOUT);
	fake_release();
	assert_int_equal(write_one(&scene, 'c'), 0);
	expect_bytes(&scene, 'c');
	AWAIT((fake_live(&live), live.qps) == 2);
	end(&scene);
}

static void close__with_work_under_way(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, NULL, 20);
	end(&scene);
}

/* ---- keys */

static const char *session_of(struct scene *scene, struct maas_session *session)
{
	assert_int_equal(maas_session_get(scene->maas, session), 0);
	assert_int_equal(session->state, MAAS_SESSION_LIVE);
	return session->id;
}

static void key__that_died_is_asked_for_again(void **state)
{
	static const char *const modes[] = {"window", "mr"};
	struct maas_session session;

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct scene scene;

		begin_with(&scene, NULL, modes[i], NULL);
		assert_int_equal(write_one(&scene, 'a'), 0);
		lan_ungrant(scene.memory.id, session_of(&scene, &session));
		assert_int_equal(write_one(&scene, 'b'), 0);
		expect_bytes(&scene, 'b');
		end(&scene);
	}
}

static void key__that_is_refused_when_fresh(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, 2);
	assert_int_equal(write_one(&scene, 'b'), -EKEYREVOKED);
	assert_int_equal(write_one(&scene, 'c'), 0);
	expect_bytes(&scene, 'c');
	end(&scene);
}

static void memory__that_somebody_else_freed(void **state)
{
	struct maas_options options = {.size = sizeof(options), .transport = MAAS_TRANSPORT_HTTP};
	struct scene scene;
	struct maas *other;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	options.url = lan_url();
	assert_int_equal(maas_open(&options, &other), 0);
	assert_int_equal(maas_free(other, scene.memory.id), 0);
	assert_int_equal(write_one(&scene, 'b'), -ENOENT);
	/* Its slab is somebody else's now. */
	assert_int_equal(maas_alloc(other, LAN_LARGEST, NULL, &scene.memory), 0);
	expect_bytes(&scene, 0);
	maas_close(other);
	end(&scene);
}

static void session__is_lost(void **state)
{
	struct maas_session session;
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	lan_end_session(session_of(&scene, &session));
	assert_int_equal(write_one(&scene, 'b'), -EKEYREVOKED);
	AWAIT(maas_session_get(scene.maas, &session) == 0 && session.state == MAAS_SESSION_LOST);
	assert_int_equal(write_one(&scene, 'b'), -EKEYREVOKED);
	assert_int_equal(maas_reopen(scene.maas), 0);
	/* What was not the session's own is there still. */
	expect_bytes(&scene, 'a');
	assert_int_equal(write_one(&scene, 'c'), 0);
	expect_bytes(&scene, 'c');
	end(&scene);
}

static void buffer__in_use_cannot_go(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, NULL, 1);
	assert_int_equal(maas_buffer_unregister(scene.maas, scene.buffer), -EBUSY);
	fake_release();
	take(scene.maas, 1, 0);
	assert_int_equal(maas_buffer_unregister(scene.maas, scene.buffer), 0);
	end(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connection__breaks_under_one),
		cmocka_unit_test(connection__breaks_again_and_again),
		cmocka_unit_test(connection__breaks_under_many),
		cmocka_unit_test(timeout__gives_the_buffer_back),
		cmocka_unit_test(close__with_work_under_way),
		cmocka_unit_test(key__that_died_is_asked_for_again),
		cmocka_unit_test(key__that_is_refused_when_fresh),
		cmocka_unit_test(memory__that_somebody_else_freed),
		cmocka_unit_test(session__is_lost),
		cmocka_unit_test(buffer__in_use_cannot_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
