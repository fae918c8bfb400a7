/* SPDX-License-Identifier: Apache-2.0 */
/* The client when the n-th request for memory fails, for every n. */
#include <unistd.h>

#include "tests/fake/fail_nth.h"
#include "tests/unit/client/client_fixture.h"

/* One use of everything; the first error ends it. */
static int use_all(void)
{
	static char bytes[2][64];
	struct maas_allocation at[2];
	struct maas_range ranges[2] = {{at[0].id, 0, bytes[0], 64}, {at[1].id, 0, bytes[1], 64}};
	const char *ids[2] = {at[0].id, at[1].id};
	struct maas_completion completion;
	struct maas_buffer *buffer;
	char cursor[MAAS_ID_BYTES] = "";
	struct maas_allocation page[4];
	int r = maas_alloc_many(maas, 64, 2, NULL, at);

	r = r ? r : maas_writev(maas, ranges, 2);
	r = r ? r : maas_readv(maas, ranges, 2);
	r = r ? r : maas_write(maas, at[0].id, 0, bytes[0], 64);
	r = r ? r : maas_buffer_register(maas, bytes, sizeof(bytes), &buffer);
	r = r ? r : maas_submit_read(maas, ranges, 2, 0, NULL);
	if (!r && maas_poll(maas, &completion, 1, -1) == 1)
		r = completion.status;
	if (!r && maas_list(maas, NULL, cursor, page, 4) < 0)
		r = -ENOMEM;
	if (!r && maas_free_many(maas, ids, 2, NULL) != 2)
		r = -ENOMEM;
	return r ? r : maas_reopen(maas);
}

static const char token_file[] = "client-nomem-token";

static int open_and_use(void)
{
	const struct maas_options *options =
		OPTIONS(.url = server.url, .owner = "me", .session_name = "me", .ttl_seconds = 30,
			.token_file = token_file, .timeout_ms = 10000);
	int r = maas_open(options, &maas);

	if (r)
		return r;
	r = use_all();
	client_close(&maas);
	return r;
}

TEST(all__each_request_for_memory_fails)
{
	bool fired = true;
	long blocks;

	assert_int_equal(open_and_use(), 0);
	blocks = fail_nth_blocks();
	for (long n = 1; fired; n++) {
		int r;

		fail_nth_arm(n);
		r = open_and_use();
		fired = fail_nth_disarm();
		/* A failure at close has no one to tell. */
		if (fired && r != -ENOMEM && r != 0)
			fail_msg("request %ld: %d %s", n, r, maas_error());
		assert_true(fired || !r);
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_true(n < 1000);
	}
}

static void set_up(void)
{
	put_file(token_file, "mt_some", 0600);
	server_start();
}

static void tear_down(void)
{
	unlink(token_file);
	client_end();
}

TEST_MAIN(set_up, tear_down)
