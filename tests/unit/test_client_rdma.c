/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA when all is well, and when something is not. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "client/maas.h"
#include "tests/unit/rdma_lan.h"

#define MANY	   300
#define PIECE	   4096u
#define SHORT_MS   100
#define THREADS	   4
#define THREAD_OPS 200

struct scene {
	struct maas *maas;
	struct maas_allocation memory;
	struct maas_buffer *buffer;
	char *bytes;
};

static void nap(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	nanosleep(&pause, NULL);
}

#define AWAIT(condition)                                                                           \
	do {                                                                                       \
		for (unsigned int await_ = 0; !(condition); await_++) {                            \
			assert_true(await_ < 10000);                                               \
			nap();                                                                     \
		}                                                                                  \
	} while (0)

static void open_handle(struct scene *scene, const struct maas_options *wanted)
{
	struct maas_options options = {.size = sizeof(options)};

	memset(scene, 0, sizeof(*scene));
	if (wanted)
		options = *wanted;
	options.url = lan_url();
	if (maas_open(&options, &scene->maas) ||
	    maas_alloc(scene->maas, LAN_LARGEST, NULL, &scene->memory))
		fail_msg("%s", maas_error());
	scene->bytes = calloc(1, LAN_LARGEST);
	if (maas_buffer_register(scene->maas, scene->bytes, LAN_LARGEST, &scene->buffer))
		fail_msg("%s", maas_error());
}

static void begin_with(struct scene *scene, const struct fake_rules *rules, const char *keys,
		       const struct maas_options *options)
{
	lan_open(rules, keys);
	open_handle(scene, options);
	assert_int_equal(maas_transport(scene->maas), MAAS_TRANSPORT_RDMA);
}

static void begin(struct scene *scene)
{
	begin_with(scene, NULL, "auto", NULL);
}

static void end(struct scene *scene)
{
	maas_close(scene->maas);
	free(scene->bytes);
	lan_close();
}

static int write_one(struct scene *scene, char value)
{
	memset(scene->bytes, value, PIECE);
	return maas_write(scene->maas, scene->memory.id, 0, scene->bytes, PIECE);
}

static void expect_bytes(struct scene *scene, char value)
{
	memset(scene->bytes, ~value, PIECE);
	if (maas_read(scene->maas, scene->memory.id, 0, scene->bytes, PIECE))
		fail_msg("%s", maas_error());
	for (unsigned int i = 0; i < PIECE; i++)
		assert_int_equal(scene->bytes[i], value);
}

/* Reads and writes; the server's binds are left out. */
static unsigned long transfers(void)
{
	struct fake_counts counts;

	fake_counts(&counts);
	return counts.requests - counts.binds - counts.invalidations;
}

static unsigned long overflows(void)
{
	struct fake_counts counts;

	fake_counts(&counts);
	return counts.overflows;
}

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

/* ---- many at once */

static void take(struct maas *maas, unsigned int count, int status)
{
	struct maas_completion completions[16];

	while (count) {
		int n = maas_poll(maas, completions, count < 16 ? count : 16, 10000);

		assert_true(n > 0);
		for (int i = 0; i < n; i++) {
			if (completions[i].status != status)
				fail_msg("%d: %s", completions[i].status, completions[i].error);
			if (completions[i].user)
				++*(unsigned int *)completions[i].user;
		}
		assert_true((unsigned int)n <= count);
		count -= (unsigned int)n;
	}
}

static void submit_many(struct scene *scene, unsigned int *done, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct maas_range range = {scene->memory.id, i * 1024, scene->bytes + i * 1024,
					   1024};

		memset(range.buf, (int)i, 1024);
		if (maas_submit_write(scene->maas, &range, 1, 0, done ? &done[i] : NULL))
			fail_msg("%s", maas_error());
	}
}

static void check_many(struct scene *scene, const unsigned int *done, unsigned int count)
{
	assert_int_equal(maas_read(scene->maas, scene->memory.id, 0, scene->bytes, count * 1024),
			 0);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(done[i], 1);
		assert_int_equal(scene->bytes[i * 1024], (char)i);
		assert_int_equal(scene->bytes[i * 1024 + 1023], (char)i);
	}
}

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
	for (int i = 0; i < 64; i++) {
		memset(scene.bytes + i * 1024, 64 - i, 1024);
		ranges[i] = (struct maas_range){scene.memory.id, (uint64_t)i * 1024,
						scene.bytes + i * 1024, 1024};
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

struct writer {
	struct scene *scene;
	unsigned int number;
	pthread_t thread;
	_Atomic int status;
};

static void *write_and_read(void *arg)
{
	struct writer *writer = arg;
	uint64_t at = writer->number * 8192u;
	char out[1024];
	char in[1024];
	int r = 0;

	for (int i = 0; i < THREAD_OPS && !r; i++) {
		memset(out, (int)writer->number + i, sizeof(out));
		r = maas_write(writer->scene->maas, writer->scene->memory.id, at, out, sizeof(out));
		if (!r)
			r = maas_read(writer->scene->maas, writer->scene->memory.id, at, in,
				      sizeof(in));
		if (!r && memcmp(in, out, sizeof(in)) != 0)
			r = -EBADMSG;
	}
	atomic_store(&writer->status, r);
	return NULL;
}

static void threads__share_a_handle(void **state)
{
	struct writer writers[THREADS];
	struct scene scene;

	(void)state;
	begin(&scene);
	for (unsigned int i = 0; i < THREADS; i++) {
		writers[i].scene = &scene;
		writers[i].number = i;
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_and_read, &writers[i]), 0);
	}
	/* Their connection breaks under them now and then. */
	for (int i = 0; i < 3; i++) {
		for (int n = 0; n < 5; n++)
			nap();
		fake_fail_next(IBV_WR_RDMA_WRITE, IBV_WC_RETRY_EXC_ERR);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(writers[i].thread, NULL);
		assert_int_equal(atomic_load(&writers[i].status), 0);
	}
	fake_fail_few(IBV_WR_RDMA_WRITE, IBV_WC_SUCCESS, 0);
	end(&scene);
}

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
		cmocka_unit_test(open__goes_by_what_there_is),
		cmocka_unit_test(close__leaves_nothing),
		cmocka_unit_test(data__outside_of_the_allocation),
		cmocka_unit_test(submitted__many_in_flight),
		cmocka_unit_test(submitted__more_than_the_queue_takes),
		cmocka_unit_test(submitted__as_many_as_allowed),
		cmocka_unit_test(event_fd__tells_of_completions),
		cmocka_unit_test(threads__share_a_handle),
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
