/* SPDX-License-Identifier: Apache-2.0 */
/* What a key opens, and what it does not; how many there are. */
#include "tests/unit/rdma/rdma_fixture.h"

#define CYCLES 600 /* a window's key would come again after 256 */

static struct maas_lend_allocation many[SERVER_GRANTS + 1];

static void begin_lent(enum maas_rdma_keys keys)
{
	begin(keys);
	memory = allocate(1024);
}

static void begin_with_many(int count)
{
	begin(mode);
	for (int i = 0; i < count; i++)
		many[i] = allocate(1024);
}

/* To the first of them. */
static void get_keys(int count)
{
	for (int i = 0; i < count; i++)
		(void)get_key(peer, many[i].id);
}

TEST_MODES(key__opens_its_slab)
{
	begin_lent(mode);
	memset(peer->link.bytes, 'x', 1024);
	write_with_key(peer, memory.id);
	assert_int_equal(key.len_bytes, 1024);
	assert_int_equal(key.connection, peer->link.connection);
	check_bytes(memory.id, 'x');
	memset(peer->link.bytes, 0, 1024);
	assert_int_equal(peer_read(peer, &key), IBV_WC_SUCCESS);
	assert_int_equal(peer->link.bytes[0] + peer->link.bytes[1023], 2 * 'x');
	assert_int_equal(server_stats().grants, 1);
}

TEST_MODES(key__opens_nothing_beside_its_slab)
{
	static const struct {
		int64_t offset;
		uint32_t len;
	} trials[] = {{-1, 1}, {1024, 1}, {0, 1025}, {1, 1024}};

	begin_with_many(3);
	/* Each trial is the first operation of a live connection. */
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(trials); i++) {
		peer_redial(peer);
		(void)get_key(peer, many[1].id);
		memset(peer->link.bytes, '!', PEER_BYTES);
		assert_int_equal(peer_run(peer, IBV_WR_RDMA_WRITE,
					  key.addr + (uint64_t)trials[i].offset, key.rkey,
					  trials[i].len),
				 IBV_WC_REM_ACCESS_ERR);
	}
	for (int i = 0; i < 3; i++)
		check_bytes(many[i].id, 0);
}

TEST_MODES(key__of_another_session)
{
	struct peer *thief;

	begin_lent(mode);
	thief = peer_open("two");
	(void)get_key(peer, memory.id);
	memset(thief->link.bytes, '!', 1024);
	assert_int_equal(peer_write(thief, &key), IBV_WC_REM_ACCESS_ERR);
	peer_redial(thief);
	assert_int_equal(peer_read(thief, &key), IBV_WC_REM_ACCESS_ERR);
	check_bytes(memory.id, 0);
	assert_int_equal(peer_write(peer, &key), IBV_WC_SUCCESS);
}

TEST_MODES(key__to_read)
{
	begin_lent(mode);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_READ), 0);
	assert_int_equal(peer_read(peer, &key), IBV_WC_SUCCESS);
	memset(peer->link.bytes, '!', 1024);
	assert_int_equal(peer_write(peer, &key), IBV_WC_REM_ACCESS_ERR);
	check_bytes(memory.id, 0);
}

TEST(pool__opens_the_extent)
{
	uint32_t rkey;

	begin_lent(MAAS_RDMA_KEYS_POOL);
	rkey = get_key(peer, allocate(1024).id).rkey;
	write_with_key(peer, memory.id);
	assert_int_equal(key.rkey, rkey);
	assert_int_equal(free_it(memory.id), 0);
	assert_int_equal(server_stats().grants, 1);
}

TEST_MODES(grant__twice_is_one_key)
{
	struct maas_lend_key first;

	begin_lent(mode);
	first = get_key(peer, memory.id);
	(void)get_key(peer, memory.id);
	assert_memory_equal(&first, &key, sizeof(first));
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_READ), -EEXIST);
	assert_int_equal(server_stats().grants, 1);
}

TEST(grant__twice_at_once_is_one_key)
{
	enum { ASKERS = 3 };
	struct maas_lend_key keys[ASKERS];
	struct told granted[ASKERS] = {0};

	begin_lent(MAAS_RDMA_KEYS_WINDOW);
	fake_hold(FAKE_OP(IBV_WR_BIND_MW));
	for (int i = 0; i < ASKERS; i++)
		start_key(peer, memory.id, &keys[i], &granted[i]);
	AWAIT(fake_num_held() == 1);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_READ), -EEXIST);
	fake_release();
	for (int i = 0; i < ASKERS; i++) {
		assert_int_equal(told(&granted[i]), 0);
		assert_memory_equal(&keys[i], &keys[0], sizeof(key));
	}
	assert_int_equal(peer_write(peer, &keys[ASKERS - 1]), IBV_WC_SUCCESS);
	assert_int_equal(server_stats().grants, 1);
}

TEST(grant__to_who_is_not_there)
{
	server_open(MAAS_RDMA_KEYS_AUTO);
	memory = allocate(1024);
	peer = peer_new("one");
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE), -ENOTCONN);
	assert_int_equal(peer_dial(peer), 0);
	assert_int_equal(free_it(memory.id), 0);
	assert_int_equal(try_key(peer, memory.id, MAAS_LEND_ACCESS_WRITE), -ENOENT);
}

/* One ends, the others live. Their ends come in any order: the first, the last and one between
 * them, then the rest. */
TEST_MODES(ungrant__in_any_order)
{
	enum { SESSIONS = 6 };
	static const int order[] = {SESSIONS - 1, 0, 2, 4};
	struct maas_lend_key keys[SESSIONS];

	server_open(mode);
	memory = allocate(1024);
	for (int i = 0; i < SESSIONS; i++)
		keys[i] = get_key(peer_open("many"), memory.id);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(order); i++) {
		const int n = order[i];

		assert_int_equal(ungrant(&peers[n], memory.id), 0);
		assert_int_equal(server_stats().grants, SESSIONS - 1 - i);
		assert_int_equal(peer_write(&peers[n], &keys[n]), IBV_WC_REM_ACCESS_ERR);
	}
	for (int i = 1; i <= 3; i += 2)
		assert_int_equal(peer_write(&peers[i], &keys[i]), IBV_WC_SUCCESS);
	assert_int_equal(free_it(memory.id), 0);
	assert_int_equal(server_stats().grants, 0);
	for (int i = 1; i <= 3; i += 2)
		assert_int_equal(peer_write(&peers[i], &keys[i]), IBV_WC_REM_ACCESS_ERR);
}

/* ---- limits */

TEST_MODES(grants__as_many_as_allowed)
{
	const char *last = many[SERVER_GRANTS].id;

	begin_with_many(SERVER_GRANTS + 1);
	get_keys(SERVER_GRANTS);
	assert_int_equal(try_key(peer, last, MAAS_LEND_ACCESS_WRITE), -EDQUOT);
	/* All else goes on. */
	write_with_key(peer, many[0].id);
	assert_int_equal(free_it(many[0].id), 0);
	write_with_key(peer, last);
}

TEST_MODES(grants__as_many_as_the_device_has)
{
	rules.max_mw = 3;
	rules.max_mr = mode == MAAS_RDMA_KEYS_MR ? 4 : 8; /* one is the client's */
	begin_with_many(4);
	get_keys(3);
	assert_int_equal(try_key(peer, many[3].id, MAAS_LEND_ACCESS_WRITE), -EMLINK);
	assert_int_equal(server_stats().grants, 3);
	assert_int_equal(server_stats().connected, 1);
	assert_int_equal(free_it(many[1].id), 0);
	write_with_key(peer, many[3].id);
}

/* The device has room for no more: said so, and tried again when there is. */
TEST_MODES(grants__when_nothing_can_be_pinned)
{
	/* The client's, and one extent of the server's. */
	rules.max_pinned = PEER_BYTES + 65536 + 1024;
	begin(mode);
	memory = allocate(65536);
	(void)get_key(peer, memory.id);
	assert_int_equal(try_key(peer, allocate(65536).id, MAAS_LEND_ACCESS_WRITE), -EMLINK);
	write_with_key(peer, memory.id);
}

/* Otherwise a client that once had many keys would keep others from theirs, invisibly. */
TEST(windows__are_not_hoarded)
{
	enum { MANY = SERVER_GRANTS };
	struct peer *other;

	rules.max_mw = MANY;
	mode = MAAS_RDMA_KEYS_WINDOW;
	begin_with_many(MANY);
	other = peer_open("two");
	get_keys(MANY);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(free_it(many[i].id), 0);
	assert_in_range(fake_live().mws, 1, MANY / 8);
	for (int i = 0; i < MANY / 2; i++)
		write_with_key(other, allocate(1024).id);
}

TEST(window__is_retired_before_its_key_comes_again)
{
	begin(MAAS_RDMA_KEYS_WINDOW);
	for (int i = 0; i < CYCLES; i++) {
		memory = allocate(1024);
		(void)get_key(peer, memory.id);
		assert_int_equal(free_it(memory.id), 0);
	}
	assert_int_equal(fake_faults(), 0);
	assert_int_equal(peer_write(peer, &key), IBV_WC_REM_ACCESS_ERR);
}

RDMA_TEST_MAIN()
