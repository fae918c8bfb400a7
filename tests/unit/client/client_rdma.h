/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of libmaas over RDMA share: a handle with memory and a registered buffer, and the
 * server in the same process (rdma_lan.h). A program ends its cases with end().
 */
#ifndef MAAS_TESTS_UNIT_CLIENT_RDMA_H
#define MAAS_TESTS_UNIT_CLIENT_RDMA_H

#include "tests/unit/client/client_options.h"
#include "tests/unit/client/rdma_lan.h"
#include "tests/unit/unit.h"

#define MANY  300
#define PIECE 4096u

static struct maas *maas;
static struct maas_allocation memory;
static struct maas_buffer *buffer;
static char bytes[LAN_LARGEST]; /* of the buffer */

static inline int write_one(char value)
{
	memset(bytes, value, PIECE);
	return maas_write(maas, memory.id, 0, bytes, PIECE);
}

/* `options` may be NULL. */
static inline void begin_with(const struct fake_rules *rules, const char *keys,
			      const struct maas_options *options)
{
	struct maas_options copy = {.size = sizeof(copy)};

	lan_open(rules, keys);
	if (options)
		copy = *options;
	copy.url = lan_url();
	memset(bytes, 0, sizeof(bytes));
	if (maas_open(&copy, &maas) || maas_alloc(maas, LAN_LARGEST, NULL, &memory) ||
	    maas_buffer_register(maas, bytes, LAN_LARGEST, &buffer))
		fail_msg("%s", maas_error());
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_RDMA);
}

/* The memory begins with a piece of 'a'. */
static inline void begin(void)
{
	begin_with(NULL, "auto", NULL);
	assert_int_equal(write_one('a'), 0);
}

static inline void end(void)
{
	maas_close(maas);
	maas = NULL;
	lan_close();
}

static inline void expect_bytes(char value)
{
	memset(bytes, ~value, PIECE);
	if (maas_read(maas, memory.id, 0, bytes, PIECE))
		fail_msg("%s", maas_error());
	for (unsigned int i = 0; i < PIECE; i++)
		assert_int_equal(bytes[i], value);
}

/* Another handle, over HTTP. */
static inline struct maas *open_other(void)
{
	struct maas *other;

	assert_int_equal(
		maas_open(OPTIONS(.transport = MAAS_TRANSPORT_HTTP, .url = lan_url()), &other), 0);
	return other;
}

/* Reads and writes; the server's binds are left out. */
static inline unsigned long transfers(void)
{
	struct fake_counts counts = fake_counts();

	return counts.requests - counts.binds - counts.invalidations;
}

static inline void take(unsigned int count, int status)
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

static inline void submit_many(unsigned int *done, unsigned int count)
{
	for (size_t i = 0; i < count; i++) {
		struct maas_range range = {memory.id, i * 1024, bytes + i * 1024, 1024};

		memset(range.buf, (int)i, 1024);
		if (maas_submit_write(maas, &range, 1, 0, done ? &done[i] : NULL))
			fail_msg("%s", maas_error());
	}
}

static inline void check_many(const unsigned int *done, unsigned int count)
{
	assert_int_equal(maas_read(maas, memory.id, 0, bytes, (size_t)count * 1024), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(done[i], 1);
		assert_int_equal(bytes[i * 1024], (char)i);
		assert_int_equal(bytes[i * 1024 + 1023], (char)i);
	}
}

#endif
