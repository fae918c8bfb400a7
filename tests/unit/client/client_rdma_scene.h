/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of libmaas over RDMA share: a handle with memory and a registered buffer. */
#ifndef MAAS_TESTS_UNIT_CLIENT_RDMA_SCENE_H
#define MAAS_TESTS_UNIT_CLIENT_RDMA_SCENE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "client/maas.h"
#include "tests/unit/client/rdma_lan.h"

#define MANY  300
#define PIECE 4096u

struct scene {
	struct maas *maas;
	struct maas_allocation memory;
	struct maas_buffer *buffer;
	char *bytes;
};

static inline void nap(void)
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

static inline void open_handle(struct scene *scene, const struct maas_options *wanted)
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

static inline void begin_with(struct scene *scene, const struct fake_rules *rules, const char *keys,
			      const struct maas_options *options)
{
	lan_open(rules, keys);
	open_handle(scene, options);
	assert_int_equal(maas_transport(scene->maas), MAAS_TRANSPORT_RDMA);
}

static inline void begin(struct scene *scene)
{
	begin_with(scene, NULL, "auto", NULL);
}

static inline void end(struct scene *scene)
{
	maas_close(scene->maas);
	free(scene->bytes);
	lan_close();
}

static inline int write_one(struct scene *scene, char value)
{
	memset(scene->bytes, value, PIECE);
	return maas_write(scene->maas, scene->memory.id, 0, scene->bytes, PIECE);
}

static inline void expect_bytes(struct scene *scene, char value)
{
	memset(scene->bytes, ~value, PIECE);
	if (maas_read(scene->maas, scene->memory.id, 0, scene->bytes, PIECE))
		fail_msg("%s", maas_error());
	for (unsigned int i = 0; i < PIECE; i++)
		assert_int_equal(scene->bytes[i], value);
}

/* Reads and writes; the server's binds are left out. */
static inline unsigned long transfers(void)
{
	struct fake_counts counts;

	fake_counts(&counts);
	return counts.requests - counts.binds - counts.invalidations;
}

static inline unsigned long overflows(void)
{
	struct fake_counts counts;

	fake_counts(&counts);
	return counts.overflows;
}

static inline void take(struct maas *maas, unsigned int count, int status)
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

static inline void submit_many(struct scene *scene, unsigned int *done, unsigned int count)
{
	for (size_t i = 0; i < count; i++) {
		struct maas_range range = {scene->memory.id, i * 1024, scene->bytes + i * 1024,
					   1024};

		memset(range.buf, (int)i, 1024);
		if (maas_submit_write(scene->maas, &range, 1, 0, done ? &done[i] : NULL))
			fail_msg("%s", maas_error());
	}
}

static inline void check_many(struct scene *scene, const unsigned int *done, unsigned int count)
{
	assert_int_equal(
		maas_read(scene->maas, scene->memory.id, 0, scene->bytes, (size_t)count * 1024), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(done[i], 1);
		assert_int_equal(scene->bytes[i * 1024], (char)i);
		assert_int_equal(scene->bytes[i * 1024 + 1023], (char)i);
	}
}

#endif
