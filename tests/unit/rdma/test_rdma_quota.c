/* SPDX-License-Identifier: Apache-2.0 */
/* The quota of keys of a principal: held over all its sessions, and given back by every end. */
#include "tests/unit/rdma/rdma_fixture.h"

#define LIMIT 3

static struct maas_auth *table;
static struct maas_lend_caller caller;
static struct maas_lend_allocation lent[LIMIT + 1];

static void use(const char *text)
{
	struct maas_auth *before = table;
	char error[MAAS_AUTH_ERROR];

	assert_int_equal(maas_auth_parse(text, strlen(text), error, &table), 0);
	assert_int_equal(maas_lend_set_auth(server.lend, table), 0);
	caller = (struct maas_lend_caller){table, maas_lend_auth_epoch(server.lend),
					   maas_auth_at(table, 0), 0};
	server_caller = &caller;
	maas_auth_unref(before);
}

static void close_server(void)
{
	server_close();
	server_caller = NULL;
	maas_auth_unref(table);
	table = NULL;
}

static uint64_t used(void)
{
	struct maas_lend_usage usage;

	assert_true(maas_lend_usage(server.lend, "a", &usage));
	return usage.used[MAAS_AUTH_GRANTS];
}

/* A server, and two sessions with as many keys as their principal may have. */
static void fill(void)
{
	server_open(mode);
	use("a uid=1 owner=a max-grants=3");
	for (int i = 0; i <= LIMIT; i++)
		lent[i] = allocate(1024);
	peer_open("a");
	peer_open("a");
	for (int i = 0; i < LIMIT; i++)
		(void)get_key(&peers[i % 2], lent[i].id);
	assert_int_equal(used(), LIMIT);
	for (int i = 0; i < 2; i++)
		assert_int_equal(try_key(&peers[i], lent[LIMIT].id, MAAS_LEND_ACCESS_WRITE),
				 -ENOSR);
	assert_int_equal(used(), LIMIT);
	(void)get_key(&peers[0], lent[0].id); /* again the same */
	assert_int_equal(used(), LIMIT);
}

TEST_MODES(keys__end_of_each_kind_gives_back)
{
	fill();
	assert_int_equal(ungrant(&peers[0], lent[0].id), 0);
	assert_int_equal(used(), LIMIT - 1);
	assert_int_equal(free_it(lent[1].id), 0);
	assert_int_equal(used(), LIMIT - 2);
	(void)get_key(&peers[1], lent[LIMIT].id);
	peer_hang_up(&peers[0]);
	AWAIT(used() == 1);
	assert_int_equal(end_session(&peers[1]), 0);
	assert_int_equal(used(), 0);
	(void)get_key(peer_open("a"), lent[0].id);
	assert_int_equal(used(), 1);
}

/* What is there stays, and nothing new comes. */
TEST_MODES(keys__of_another_table)
{
	fill();
	use("a uid=1 owner=a max-grants=2");
	assert_int_equal(used(), LIMIT);
	assert_int_equal(ungrant(&peers[0], lent[0].id), 0);
	assert_int_equal(try_key(&peers[0], lent[0].id, MAAS_LEND_ACCESS_WRITE), -ENOSR);
	write_with_key(&peers[1], lent[1].id);
	use("a uid=1 owner=a");
	(void)get_key(&peers[0], lent[0].id);
	assert_int_equal(used(), LIMIT);
}

int main(void)
{
	maas_log_set_level(MAAS_LOG_ERR);
	return test_run(server_defaults, close_server);
}
