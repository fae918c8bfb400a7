/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: which transport, and many operations at once. */
#include <poll.h>

#include "tests/unit/client/client_rdma_scene.h"

/* ---- which transport */

static void open__goes_by_what_there_is(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_options options = {.size = sizeof(options)};
	struct maas *maas;

	(void)state;
	lan_open(NULL, NULL); /* a device here, none there */
	options.url = lan_url();
	assert_int_equal(maas_open(&options, &maas), 0);
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_HTTP);
	maas_close(maas);
	options.transport = MAAS_TRANSPORT_RDMA;
	assert_int_equal(maas_open(&options, &maas), -EOPNOTSUPP);
	lan_close();
	rules.no_device = true;
	lan_open(&rules, NULL);
	options.url = lan_url();
	assert_int_equal(maas_open(&options, &maas), -ENODEV);
	options.transport = MAAS_TRANSPORT_AUTO;
	assert_int_equal(maas_open(&options, &maas), 0);
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_HTTP);
	maas_close(maas);
	lan_close();
}

/* Neither by RDMA nor, unasked, by HTTP. */
static void open__of_another_version_is_refused(void **state)
{
	static const enum maas_transport_type types[] = {MAAS_TRANSPORT_RDMA, MAAS_TRANSPORT_AUTO};
	struct fake_rules rules = fake_rules_default();
	struct maas_options options = {.size = sizeof(options)};
	struct maas *maas;

	(void)state;
	rules.wire_version = 2;
	lan_open(&rules, "auto");
	options.url = lan_url();
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		options.transport = types[i];
		assert_int_equal(maas_open(&options, &maas), -EPROTO);
		if (!strstr(maas_error(), "RDMA speaks version 2, this libmaas version 1: upgrade"))
			fail_msg("%s", maas_error());
		assert_int_equal(lan_sessions(), 0);
	}
	options.transport = MAAS_TRANSPORT_HTTP;
	assert_int_equal(maas_open(&options, &maas), 0);
	maas_close(maas);
	lan_close();
}

static void close__leaves_nothing(void **state)
{
	static const char *const modes[] = {"window", "mr", "pool"};

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct scene scene;

		begin_with(&scene, NULL, modes[i], NULL);
		assert_int_equal(write_one(&scene, 'a'), 0);
		expect_bytes(&scene, 'a');
		assert_int_equal(maas_free(scene.maas, scene.memory.id), 0);
		assert_int_equal(lan_grants(), 0);
		assert_int_equal(lan_live_slabs(), 0);
		assert_int_equal(lan_sessions(), 1);
		maas_close(scene.maas);
		assert_int_equal(lan_sessions(), 0);
		free(scene.bytes);
		lan_close();
	}
}

static void data__outside_of_the_allocation(void **state)
{
	struct scene scene;
	unsigned long before;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	before = transfers();
	assert_int_equal(maas_write(scene.maas, scene.memory.id, LAN_LARGEST - 1, "xx", 2),
			 -ERANGE);
	assert_int_equal(maas_write(scene.maas, scene.memory.id, UINT64_MAX, "xx", 2), -ERANGE);
	assert_int_equal(maas_read(scene.maas, "../health", 0, scene.bytes, 1), -EINVAL);
	assert_int_equal(transfers(), before); /* found before it is posted */
	expect_bytes(&scene, 'a');
	end(&scene);
}

/* ---- keys */

#define KEYS 32

/* Memory that somebody else borrowed: its keys did not come with it. */
static void borrow_elsewhere(struct maas_allocation at[KEYS])
{
	struct maas_options options = {.size = sizeof(options), .transport = MAAS_TRANSPORT_HTTP};
	struct maas *other;

	options.url = lan_url();
	assert_int_equal(maas_open(&options, &other), 0);
	assert_int_equal(maas_alloc_many(other, PIECE, KEYS, NULL, at), 0);
	maas_close(other);
}

static void submit_read_of_all(struct scene *scene, struct maas_allocation at[KEYS])
{
	struct maas_range ranges[KEYS];

	for (size_t i = 0; i < KEYS; i++)
		ranges[i] = (struct maas_range){at[i].id, 0, scene->bytes + i * PIECE, PIECE};
	assert_int_equal(maas_submit_read(scene->maas, ranges, KEYS, 0, NULL), 0);
}

/* No answer comes before several are asked for. */
static void keys__are_asked_for_side_by_side(void **state)
{
	struct maas_allocation at[KEYS];
	struct scene scene;

	(void)state;
	begin_with(&scene, NULL, "window", NULL);
	assert_int_equal(write_one(&scene, 'a'), 0);
	borrow_elsewhere(at);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	submit_read_of_all(&scene, at);
	AWAIT(fake_num_held() > 2);
	fake_release();
	take(scene.maas, 1, 0);
	assert_int_equal(lan_grants(), KEYS + 1);
	end(&scene);
}

static void keys__one_that_is_refused_ends_what_needs_it(void **state)
{
	struct maas_allocation at[KEYS];
	struct scene scene;

	(void)state;
	begin_with(&scene, NULL, "window", NULL);
	borrow_elsewhere(at);
	assert_int_equal(maas_free(scene.maas, at[1].id), 0);
	submit_read_of_all(&scene, at);
	take(scene.maas, 1, -ENOENT);
	at[1] = at[0];
	submit_read_of_all(&scene, at);
	take(scene.maas, 1, 0);
	assert_int_equal(lan_grants(), KEYS);
	end(&scene);
}

/* ---- many at once */

static void submitted__many_in_flight(void **state)
{
	static unsigned int done[MANY];
	struct maas_completion none;
	struct scene scene;

	(void)state;
	memset(done, 0, sizeof(done));
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, done, MANY);
	assert_int_equal(fake_num_held(), MANY);
	assert_int_equal(maas_poll(scene.maas, &none, 1, 0), 0);
	fake_release();
	take(scene.maas, MANY, 0);
	check_many(&scene, done, MANY);
	end(&scene);
}

static void submitted__more_than_the_queue_takes(void **state)
{
	static unsigned int done[MANY];
	struct fake_rules rules = fake_rules_default();
	struct maas_range ranges[64];
	struct scene scene;

	(void)state;
	memset(done, 0, sizeof(done));
	rules.max_qp_wr = 16;
	begin_with(&scene, &rules, "auto", NULL);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, done, MANY);
	assert_int_equal(fake_num_held(), 16);
	fake_release();
	take(scene.maas, MANY, 0);
	check_many(&scene, done, MANY);
	/* One that is larger than the queue goes in parts. */
	for (unsigned int i = 0; i < 64; i++) {
		memset(&scene.bytes[i * 1024ul], (int)(64 - i), 1024);
		ranges[i] = (struct maas_range){scene.memory.id, i * 1024ull,
						&scene.bytes[i * 1024ul], 1024};
	}
	assert_int_equal(maas_writev(scene.maas, ranges, 64), 0);
	memset(scene.bytes, 0, 65536);
	assert_int_equal(maas_readv(scene.maas, ranges, 64), 0);
	for (int i = 0; i < 64 * 1024; i++)
		assert_int_equal(scene.bytes[i], 64 - i / 1024);
	assert_int_equal(overflows(), 0);
	end(&scene);
}

static void submitted__as_many_as_allowed(void **state)
{
	struct maas_options options = {.size = sizeof(options), .max_submitted = 4};
	struct maas_range range;
	struct scene scene;

	(void)state;
	begin_with(&scene, NULL, "auto", &options);
	assert_int_equal(write_one(&scene, 'a'), 0);
	range = (struct maas_range){scene.memory.id, 0, scene.bytes, 1024};
	fake_hold(FAKE_DATA);
	submit_many(&scene, NULL, 4);
	assert_int_equal(maas_submit_read(scene.maas, &range, 1, 0, NULL), -EAGAIN);
	fake_release();
	take(scene.maas, 4, 0);
	assert_int_equal(maas_submit_read(scene.maas, &range, 1, 0, NULL), 0);
	take(scene.maas, 1, 0);
	end(&scene);
}

static bool readable(struct maas *maas)
{
	struct pollfd fd = {.fd = maas_event_fd(maas), .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

static void event_fd__tells_of_completions(void **state)
{
	struct maas_completion none;
	struct scene scene;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	assert_true(maas_event_fd(scene.maas) >= 0);
	for (int round = 0; round < 3; round++) {
		/* It may be readable once for nothing. */
		assert_int_equal(maas_poll(scene.maas, &none, 1, 0), 0);
		assert_false(readable(scene.maas));
		fake_hold(FAKE_DATA);
		submit_many(&scene, NULL, 5);
		assert_int_equal(maas_poll(scene.maas, &none, 1, 0), 0);
		assert_false(readable(scene.maas));
		fake_release();
		AWAIT(readable(scene.maas));
		for (int i = 0; i < 5; i++) {
			AWAIT(readable(scene.maas));
			take(scene.maas, 1, 0);
		}
	}
	end(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open__goes_by_what_there_is),
		cmocka_unit_test(open__of_another_version_is_refused),
		cmocka_unit_test(close__leaves_nothing),
		cmocka_unit_test(data__outside_of_the_allocation),
		cmocka_unit_test(keys__are_asked_for_side_by_side),
		cmocka_unit_test(keys__one_that_is_refused_ends_what_needs_it),
		cmocka_unit_test(submitted__many_in_flight),
		cmocka_unit_test(submitted__more_than_the_queue_takes),
		cmocka_unit_test(submitted__as_many_as_allowed),
		cmocka_unit_test(event_fd__tells_of_completions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
