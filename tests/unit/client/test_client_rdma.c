/* SPDX-License-Identifier: Apache-2.0 */
/* libmaas over RDMA: which transport, and many operations at once. */
#include "client/rdma/internal.h"
#include "tests/unit/client/client_rdma.h"

/* ---- which transport */

static int try_open(enum maas_transport_type transport)
{
	int r;

	client_close(&maas);
	r = maas_open(OPTIONS(.transport = transport, .url = lan_url()), &maas);
	return r ? r : (int)maas_transport(maas);
}

TEST(open__of_a_server_without_rdma)
{
	lan_open(NULL, NULL);
	assert_int_equal(try_open(MAAS_TRANSPORT_AUTO), MAAS_TRANSPORT_HTTP);
	assert_int_equal(try_open(MAAS_TRANSPORT_RDMA), -EOPNOTSUPP);
}

TEST(open__without_a_device)
{
	struct fake_rules rules = fake_rules_default();

	rules.no_device = true;
	lan_open(&rules, NULL);
	assert_int_equal(try_open(MAAS_TRANSPORT_RDMA), -ENODEV);
	assert_int_equal(try_open(MAAS_TRANSPORT_AUTO), MAAS_TRANSPORT_HTTP);
}

/* Nobody knows the way to such an address who did not come to it. */
TEST(open__of_a_server_whose_device_does_not_route)
{
	struct fake_rules rules = fake_rules_default();

	rules.link_local = true;
	lan_open(&rules, "auto");
	assert_int_equal(try_open(MAAS_TRANSPORT_AUTO), MAAS_TRANSPORT_HTTP);
	assert_int_equal(lan_sessions(), 0);
	expect_error(try_open(MAAS_TRANSPORT_RDMA), -EOPNOTSUPP, "offers no RDMA at present");
}

/* Neither by RDMA nor, unasked, by HTTP. */
TEST(open__of_another_version_is_refused)
{
	static const enum maas_transport_type types[] = {MAAS_TRANSPORT_RDMA, MAAS_TRANSPORT_AUTO};
	struct fake_rules rules = fake_rules_default();

	rules.wire_version = 2;
	lan_open(&rules, "auto");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(types); i++) {
		expect_error(try_open(types[i]), -EPROTO,
			     "RDMA speaks version 2, this libmaas version 1: upgrade");
		assert_int_equal(lan_sessions(), 0);
	}
	assert_int_equal(try_open(MAAS_TRANSPORT_HTTP), MAAS_TRANSPORT_HTTP);
}

TEST(close__leaves_nothing_in_any_mode)
{
	static const char *const modes[] = {"window", "mr", "pool"};

	for (int i = 0; i < 3; i++) {
		print_message("%s\n", modes[i]);
		begin_with(NULL, modes[i], NULL);
		expect_bytes('a');
		assert_int_equal(maas_free(maas, memory.id), 0);
		assert_int_equal(lan_grants(), 0);
		assert_int_equal(lan_live_slabs(), 0);
		assert_int_equal(lan_sessions(), 1);
		client_close(&maas);
		assert_int_equal(lan_sessions(), 0);
		lan_close();
	}
}

TEST(data__outside_of_the_allocation)
{
	unsigned long before;

	begin();
	before = transfers();
	assert_int_equal(maas_write(maas, memory.id, LAN_LARGEST - 1, "xx", 2), -ERANGE);
	assert_int_equal(maas_write(maas, memory.id, UINT64_MAX, "xx", 2), -ERANGE);
	assert_int_equal(maas_read(maas, memory.id, 0, bytes, SIZE_MAX), -ERANGE);
	assert_int_equal(maas_read(maas, "../health", 0, bytes, 1), -EINVAL);
	assert_int_equal(transfers(), before); /* found before it is posted */
	expect_bytes('a');
}

/* ---- keys */

#define KEYS 32

/* Memory that somebody else borrowed: its keys did not come with it. */
static void borrow_elsewhere(struct maas_allocation at[KEYS])
{
	open_other();
	assert_int_equal(maas_alloc_many(other, PIECE, KEYS, NULL, at), 0);
}

static void submit_read_of_all(struct maas_allocation at[KEYS])
{
	struct maas_range ranges[KEYS];

	for (size_t i = 0; i < KEYS; i++)
		ranges[i] = (struct maas_range){at[i].id, 0, bytes + i * PIECE, PIECE};
	assert_int_equal(maas_submit_read(maas, ranges, KEYS, 0, NULL), 0);
}

/* No answer comes before several are asked for. */
TEST(keys__are_asked_for_side_by_side)
{
	struct maas_allocation at[KEYS];

	begin_with(NULL, "window", NULL);
	borrow_elsewhere(at);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	submit_read_of_all(at);
	AWAIT(fake_num_held() > 2);
	fake_release();
	client_take(1, 0);
	assert_int_equal(lan_grants(), KEYS + 1);
}

TEST(keys__one_that_is_refused_ends_what_needs_it)
{
	struct maas_allocation at[KEYS];

	begin_with(NULL, "window", NULL);
	borrow_elsewhere(at);
	assert_int_equal(maas_free(maas, at[1].id), 0);
	submit_read_of_all(at);
	client_take(1, -ENOENT);
	at[1] = at[0];
	submit_read_of_all(at);
	client_take(1, 0);
	assert_int_equal(lan_grants(), KEYS);
}

/* Keys of memory that lapsed, or that others freed, are never used, and so never found dead. */
TEST(keys__are_not_kept_for_ever)
{
	const uint32_t most = 1u << 20;
	char id[MAAS_ID_BYTES];
	json_t *key;

	begin();
	key = json_pack("{sisisisi}", "addr", 1, "length", 1, "rkey", 1, "connection",
			(int)maas_rdma_client_number(maas->rdma));
	for (uint32_t i = 0; i < most + 2; i++) {
		snprintf(id, sizeof(id), "%08x-0000-8000-8741-8d35090dc78e", i);
		maas_rdma_client_add_grant(maas, id, key);
	}
	json_decref(key);
	assert_in_range(maas->rdma->grants.used, 1, most);
	expect_works('b');
}

/* ---- many at once */

TEST(submitted__many_in_flight)
{
	struct maas_completion none;

	begin();
	hold_many(MANY);
	assert_int_equal(fake_num_held(), MANY);
	assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
	finish_many(MANY);
}

TEST(submitted__more_than_the_queue_takes)
{
	struct fake_rules rules = fake_rules_default();
	struct maas_range ranges[64];

	rules.max_qp_wr = 16;
	begin_with(&rules, "auto", NULL);
	hold_many(MANY);
	assert_int_equal(fake_num_held(), 16);
	finish_many(MANY);
	/* One that is larger than the queue goes in parts. */
	for (unsigned int i = 0; i < 64; i++) {
		memset(&bytes[i * 1024ul], (int)(64 - i), 1024);
		ranges[i] = (struct maas_range){memory.id, i * 1024ull, &bytes[i * 1024ul], 1024};
	}
	assert_int_equal(maas_writev(maas, ranges, 64), 0);
	memset(bytes, 0, 65536);
	assert_int_equal(maas_readv(maas, ranges, 64), 0);
	for (int i = 0; i < 64 * 1024; i++)
		assert_int_equal(bytes[i], 64 - i / 1024);
	assert_int_equal(fake_counts().overflows, 0);
}

TEST(submitted__as_many_as_allowed)
{
	const struct maas_range *range = RANGE(memory.id, 0, bytes, 1024);

	begin_with(NULL, "auto", OPTIONS(.max_submitted = 4));
	hold_many(4);
	assert_int_equal(maas_submit_read(maas, range, 1, 0, NULL), -EAGAIN);
	finish_many(4);
	submit_read(range, 0, NULL);
	client_take(1, 0);
}

TEST(event_fd__tells_of_completions)
{
	struct maas_completion none;

	begin();
	assert_true(maas_event_fd(maas) >= 0);
	for (int round = 0; round < 3; round++) {
		/* It may be readable once for nothing. */
		assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
		assert_false(client_readable(0));
		hold_many(5);
		assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
		assert_false(client_readable(0));
		fake_release();
		AWAIT(client_readable(0));
		for (int i = 0; i < 5; i++) {
			AWAIT(client_readable(0));
			client_take(1, 0);
		}
	}
}

TEST_MAIN(NULL, end)
