/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of libmaas over RDMA share: a handle with memory and a registered buffer, and the
 * server in the same process (rdma_lan.h). A program ends its cases with end().
 */
#ifndef MAAS_TESTS_UNIT_CLIENT_RDMA_H
#define MAAS_TESTS_UNIT_CLIENT_RDMA_H

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/rdma_lan.h"

#define MANY  300
#define PIECE 4096u

static struct maas_allocation memory;
static struct maas_buffer *buffer;
static char bytes[LAN_LARGEST]; /* of the buffer */
static unsigned int done[MANY]; /* the completions of each operation of hold_many() */

static inline int write_one(char value)
{
	memset(bytes, value, PIECE);
	return maas_write(maas, memory.id, 0, bytes, PIECE);
}

static inline void expect_bytes(char value)
{
	memset(bytes, ~value, PIECE);
	if (maas_read(maas, memory.id, 0, bytes, PIECE))
		fail_msg("%s", maas_error());
	for (unsigned int i = 0; i < PIECE; i++)
		assert_int_equal(bytes[i], value);
}

/* Writes a piece and reads it back. */
static inline void expect_works(char value)
{
	assert_int_equal(write_one(value), 0);
	expect_bytes(value);
}

/* The memory begins with a piece of 'a'. `options` may be NULL. */
static inline void begin_at(const char *url, const struct maas_options *options)
{
	memset(bytes, 0, sizeof(bytes));
	maas = client_open(url, options);
	memory = client_alloc(maas, LAN_LARGEST);
	assert_int_equal(maas_buffer_register(maas, bytes, LAN_LARGEST, &buffer), 0);
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_RDMA);
	assert_int_equal(write_one('a'), 0);
}

static inline void begin_with(const struct fake_rules *rules, const char *keys,
			      const struct maas_options *options)
{
	lan_open(rules, keys);
	begin_at(lan_url(), options);
}

static inline void begin(void)
{
	begin_with(NULL, "auto", NULL);
}

static inline void end(void)
{
	client_end();
	lan_close();
}

/* `other`, over HTTP. */
static inline void open_other(void)
{
	other = client_open(lan_url(), OPTIONS(.transport = MAAS_TRANSPORT_HTTP));
}

/* Reads and writes; the server's binds are left out. */
static inline unsigned long transfers(void)
{
	struct fake_counts counts = fake_counts();

	return counts.requests - counts.binds - counts.invalidations;
}

/* Submits operations, which are held back: the n-th writes the n-th KiB of the memory. */
static inline void hold_many(unsigned int count)
{
	fake_hold(FAKE_DATA);
	memset(done, 0, sizeof(done));
	for (size_t i = 0; i < count; i++) {
		char *from = bytes + i * 1024;

		memset(from, (int)i, 1024);
		submit_write(RANGE(memory.id, i * 1024, from, 1024), 0, &done[i]);
	}
}

/* Lets them go: all write what they should, and complete once. */
static inline void finish_many(unsigned int count)
{
	fake_release();
	client_take(count, 0);
	assert_int_equal(maas_read(maas, memory.id, 0, bytes, (size_t)count * 1024), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(done[i], 1);
		assert_int_equal(bytes[i * 1024], (char)i);
		assert_int_equal(bytes[i * 1024 + 1023], (char)i);
	}
}

#endif
