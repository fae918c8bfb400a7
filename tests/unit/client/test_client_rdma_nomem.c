/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request for memory and every call of verbs and rdma_cm fails once, in turn, through the
 * life of a handle: each call ends in time, and when the handle is closed nothing is left of it.
 */
#include "tests/fake/fail_nth.h"
#include "tests/unit/client/client_rdma.h"

#define BYTES 65536u

static void use(void)
{
	struct maas_completion completion;
	int wrote;

	buffer = NULL;
	if (maas_alloc(maas, BYTES, NULL, &memory))
		return;
	(void)maas_buffer_register(maas, bytes, BYTES, &buffer);
	memset(bytes, 'x', 2ul * BYTES);
	wrote = maas_write(maas, memory.id, 0, bytes, BYTES); /* registered, if that went well */
	(void)maas_write(maas, memory.id, 8, bytes + BYTES, 8);
	memset(bytes, 0, 2ul * BYTES);
	if (!maas_read(maas, memory.id, 0, bytes + BYTES, BYTES) && !wrote)
		assert_int_equal(bytes[BYTES] + bytes[2 * BYTES - 1], 2 * 'x');
	if (!maas_submit_read(maas, RANGE(memory.id, 0, bytes, BYTES), 1, 0, NULL))
		assert_int_equal(maas_poll(maas, &completion, 1, 10000), 1);
	if (buffer)
		assert_int_equal(maas_buffer_unregister(maas, buffer), 0);
	if (maas_free(maas, memory.id))
		(void)maas_free(maas, memory.id);
}

static void live(void)
{
	/* Sessions that could not be ended in words lapse soon. */
	const struct maas_options *options =
		OPTIONS(.url = lan_url(), .timeout_ms = 5000, .ttl_seconds = 1,
			.transport = MAAS_TRANSPORT_RDMA);

	if (maas_open(options, &maas))
		return;
	use();
	client_close(&maas);
}

/* The server comes round a little later. */
static bool is_clean(const struct fake_live *before, long blocks)
{
	for (int n = 0; n < 10000; n++) {
		struct fake_live now = fake_live();

		if (now.qps == before->qps && now.cqs == before->cqs && now.pds == before->pds &&
		    now.mws == before->mws && now.ids == before->ids &&
		    now.event_channels == before->event_channels && fail_nth_blocks() == blocks &&
		    !lan_sessions())
			return true;
		nap_ms(1);
	}
	return false;
}

static void all_fail(const char *keys, bool of_memory)
{
	struct fake_live before;
	long blocks;
	long nth = 1;

	lan_open(NULL, keys);
	live();
	AWAIT(!lan_sessions());
	before = fake_live();
	blocks = fail_nth_blocks();
	for (bool failed = true; failed; nth++) {
		if (of_memory)
			fail_nth_arm(nth);
		else
			fake_fail_nth(FAKE_MAKES, nth);
		live();
		failed = of_memory ? fail_nth_disarm() : fake_fail_disarm();
		if (!is_clean(&before, blocks))
			fail_msg("keys %s: number %ld leaves something: %ld blocks", keys, nth,
				 fail_nth_blocks() - blocks);
	}
	print_message("keys %s: %ld\n", keys, nth - 2);
	assert_true(nth > 10);
}

TEST(life__any_memory_fails)
{
	all_fail("window", true);
}

TEST(life__any_call_fails)
{
	all_fail("mr", false);
}

TEST_MAIN(NULL, end)
