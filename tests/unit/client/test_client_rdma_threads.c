/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: threads that share a handle, and how they wake each other. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/client/client_rdma_scene.h"

#define THREADS	   4
#define THREAD_OPS 200

struct poller {
	struct maas *maas;
	const char *id;
	struct maas_completion completion;
	_Atomic int count; /* what the call returned */
};

/* Longer than a thread polls before it sleeps. */
static void let_sleep(void)
{
	for (int n = 0; n < 20; n++)
		nap();
}

static void *poll_for_one(void *arg)
{
	struct poller *poller = arg;

	atomic_store(&poller->count, maas_poll(poller->maas, &poller->completion, 1, -1));
	return NULL;
}

/* While a thread sleeps in maas_poll(), another submits what is impossible. */
static void poll__hears_of_what_fails_at_once(void **state)
{
	struct maas_range range;
	struct poller poller;
	struct scene scene;
	pthread_t thread;

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	submit_many(&scene, NULL, 1);
	poller = (struct poller){.maas = scene.maas};
	assert_int_equal(pthread_create(&thread, NULL, poll_for_one, &poller), 0);
	let_sleep();
	assert_int_equal(atomic_load(&poller.count), 0);
	range = (struct maas_range){scene.memory.id, LAN_LARGEST, scene.bytes, 1};
	assert_int_equal(maas_submit_read(scene.maas, &range, 1, 0, NULL), 0);
	AWAIT(atomic_load(&poller.count));
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&poller.count), 1);
	assert_int_equal(poller.completion.status, -ERANGE);
	fake_release();
	take(scene.maas, 1, 0);
	end(&scene);
}

static void *write_first(void *arg)
{
	struct poller *poller = arg;

	atomic_store(&poller->count, maas_write(poller->maas, poller->id, 0, "x", 1));
	return NULL;
}

/* The thread that polls for all is in the middle of a call of its own. */
static void poll__hears_of_what_another_thread_completes(void **state)
{
	struct maas_range range;
	struct poller poller;
	struct poller writer;
	struct scene scene;
	pthread_t threads[2];

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	range = (struct maas_range){scene.memory.id, 0, scene.bytes, 1};
	assert_int_equal(maas_submit_read(scene.maas, &range, 1, 0, NULL), 0);
	writer = (struct poller){.maas = scene.maas, .id = scene.memory.id, .count = 1};
	assert_int_equal(pthread_create(&threads[0], NULL, write_first, &writer), 0);
	AWAIT(fake_num_held() == 2);
	let_sleep();
	poller = (struct poller){.maas = scene.maas};
	assert_int_equal(pthread_create(&threads[1], NULL, poll_for_one, &poller), 0);
	let_sleep();
	fake_hold(FAKE_OP(IBV_WR_RDMA_WRITE)); /* and lets the read go */
	AWAIT(atomic_load(&poller.count) == 1);
	assert_int_equal(poller.completion.status, 0);
	assert_int_equal(atomic_load(&writer.count), 1);
	fake_release();
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&writer.count), 0);
	end(&scene);
}

static void *read_first(void *arg)
{
	struct poller *poller = arg;
	char byte;

	atomic_store(&poller->count, maas_read(poller->maas, poller->id, 0, &byte, 1));
	return NULL;
}

/* The thread that polls for all returns; another has to go on. */
static void poll__is_taken_over(void **state)
{
	struct poller writer;
	struct poller reader;
	struct scene scene;
	pthread_t threads[2];

	(void)state;
	begin(&scene);
	assert_int_equal(write_one(&scene, 'a'), 0);
	fake_hold(FAKE_DATA);
	writer = (struct poller){.maas = scene.maas, .id = scene.memory.id, .count = 1};
	assert_int_equal(pthread_create(&threads[0], NULL, write_first, &writer), 0);
	AWAIT(fake_num_held() == 1);
	let_sleep();
	reader = writer;
	assert_int_equal(pthread_create(&threads[1], NULL, read_first, &reader), 0);
	AWAIT(fake_num_held() == 2);
	let_sleep();
	fake_hold(FAKE_OP(IBV_WR_RDMA_READ)); /* and lets the write go */
	AWAIT(!atomic_load(&writer.count));
	let_sleep();
	assert_int_equal(atomic_load(&reader.count), 1);
	fake_release();
	AWAIT(!atomic_load(&reader.count));
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	end(&scene);
}

struct writer {
	struct scene *scene;
	pthread_t thread;
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
	/* Their connection breaks under them, but no operation's third and last time. */
	for (int i = 0; i < 2; i++) {
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

struct crowd {
	struct scene *scene;
	_Atomic int left; /* completions that did not come yet */
	_Atomic int good;
};

static void *submit_each(void *arg)
{
	struct crowd *crowd = arg;
	struct scene *scene = crowd->scene;

	for (int i = 0; i < THREAD_OPS; i++) {
		struct maas_range range = {scene->memory.id, 0, scene->bytes, 64};

		while (maas_submit_write(scene->maas, &range, 1, 0, NULL))
			nap();
	}
	return NULL;
}

/* Takes few at once, so that others find what is left over, and waits for as long as it takes. */
static void *poll_few(void *arg)
{
	struct crowd *crowd = arg;
	struct maas_completion completions[2];

	while (atomic_load(&crowd->left) > 0) {
		int n = maas_poll(crowd->scene->maas, completions, 2, -1);

		for (int i = 0; i < n; i++)
			atomic_fetch_add(&crowd->good, !completions[i].status);
		atomic_fetch_sub(&crowd->left, n);
	}
	return NULL;
}

static void threads__submit_and_poll(void **state)
{
	struct maas_options options = {.size = sizeof(options), .max_submitted = 16};
	pthread_t submitters[THREADS];
	pthread_t pollers[THREADS];
	struct crowd crowd;
	struct scene scene;

	(void)state;
	begin_with(&scene, NULL, "auto", &options);
	assert_int_equal(write_one(&scene, 'a'), 0);
	for (int watched = 0; watched < 2; watched++) {
		crowd = (struct crowd){.scene = &scene, .left = THREADS * THREAD_OPS};
		if (watched)
			assert_true(maas_event_fd(scene.maas) >= 0);
		for (int i = 0; i < THREADS; i++) {
			pthread_create(&submitters[i], NULL, submit_each, &crowd);
			pthread_create(&pollers[i], NULL, poll_few, &crowd);
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(submitters[i], NULL);
			pthread_join(pollers[i], NULL);
		}
		assert_int_equal(atomic_load(&crowd.good), THREADS * THREAD_OPS);
	}
	end(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(poll__hears_of_what_fails_at_once),
		cmocka_unit_test(poll__hears_of_what_another_thread_completes),
		cmocka_unit_test(poll__is_taken_over),
		cmocka_unit_test(threads__share_a_handle),
		cmocka_unit_test(threads__submit_and_poll),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
