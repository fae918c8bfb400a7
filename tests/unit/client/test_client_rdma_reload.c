/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmaas over RDMA for principals. One that may only read has keys that only read. Other
 * principals again and again, beside requests and RDMA of two of them: one that is always there
 * loses nothing, and one that comes and goes reads no wrong byte. A thread each.
 */
#include <unistd.h>

#include "auth/auth.h"
#include "tests/unit/client/client_rdma.h"

#define TABLES 100

struct client {
	const char *file; /* with the token */
	char hash[MAAS_AUTH_HASH];
	pthread_t thread;
	_Atomic unsigned int turns;
	_Atomic unsigned int failures;
	char error[256]; /* the first one */
};

static struct client stays = {.file = "client-reload-stays"};
static struct client comes = {.file = "client-reload-comes"};
static _Atomic bool stop;

static void make_token(struct client *client)
{
	char token[MAAS_AUTH_TOKEN];

	assert_int_equal(maas_auth_token_make(token), 0);
	maas_auth_token_hash(token, strlen(token), client->hash);
	put_file(client->file, token, 0600);
}

/* Borrows, writes, reads and gives back, by RDMA. */
static int turn(struct maas *handle, char value)
{
	struct maas_allocation at;
	char out[PIECE], in[PIECE];
	int r = maas_alloc(handle, PIECE, NULL, &at);

	memset(out, value, sizeof(out));
	r = r ? r : maas_write(handle, at.id, 0, out, sizeof(out));
	r = r ? r : maas_read(handle, at.id, 0, in, sizeof(in));
	CHECK(r || !memcmp(in, out, sizeof(in)));
	return r ? r : maas_free(handle, at.id);
}

/* With a new handle after each failure. */
static void *work(void *arg)
{
	struct client *client = arg;
	const struct maas_options *options = OPTIONS(.url = lan_url(), .token_file = client->file);
	struct maas *mine = NULL;

	while (!stop) {
		int r = mine ? 0 : maas_open(options, &mine);

		if (!r)
			r = turn(mine, (char)client->turns);
		if (!r) {
			client->turns++;
			continue;
		}
		if (!client->failures++)
			snprintf(client->error, sizeof(client->error), "%d %s", r, maas_error());
		client_close(&mine);
	}
	client_close(&mine);
	return NULL;
}

static void start(struct client *client)
{
	client->turns = client->failures = 0;
	threads_start(&client->thread, 1, work, client, 0);
}

/* It goes on. */
static void expect_turn(struct client *client)
{
	unsigned int before = client->turns;

	AWAIT(client->turns > before);
}

/* `comes` has its line only with `both`: otherwise the line is a comment. */
static void set_table(bool both, unsigned int number)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "stays token=%s owner=stays max-allocations=%u\n%s token=%s owner=comes\n",
		 stays.hash, 1000 + number, both ? "comes" : "#", comes.hash);
	lan_principals(text);
}

static void reload_beside_work(const char *keys)
{
	lan_open(NULL, keys);
	make_token(&stays);
	make_token(&comes);
	set_table(true, 0);
	stop = false;
	start(&stays);
	start(&comes);
	for (unsigned int i = 1; i <= TABLES; i++) {
		nap_ms(3);
		set_table(i % 2 == 0, i);
	}
	set_table(false, TABLES);
	AWAIT(comes.failures);
	set_table(true, TABLES);
	expect_turn(&stays);
	expect_turn(&comes);
	stop = true;
	threads_join(&stays.thread, 1);
	threads_join(&comes.thread, 1);
	if (stays.failures)
		fail_msg("%u failed: %s", stays.failures, stays.error);
}

/* `maas`, by AUTO, for a principal that may read what `other`, by RDMA too, has just written. */
static void open_reader(void)
{
	char text[512];

	lan_open(NULL, "auto");
	make_token(&stays);
	make_token(&comes);
	snprintf(text, sizeof(text), "stays token=%s owner=stays\ncomes token=%s read=stays\n",
		 stays.hash, comes.hash);
	lan_principals(text);
	other = client_open(lan_url(), OPTIONS(.token_file = stays.file));
	memory = client_alloc(other, PIECE);
	assert_int_equal(maas_write(other, memory.id, 0, "a", 1), 0);
	maas = client_open(lan_url(), OPTIONS(.token_file = comes.file));
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_RDMA);
}

TEST(reader__reads_and_does_not_write)
{
	char at[4] = "";

	open_reader();
	assert_int_equal(maas_read(maas, memory.id, 0, at, 1), 0);
	assert_int_equal(*at, 'a');
	expect_error(maas_write(maas, memory.id, 0, "b", 1), -EPERM, "only read");
	assert_int_equal(maas_read(maas, memory.id, PIECE - 1, at, 2), -ERANGE);
	assert_int_equal(maas_read(maas, memory.id, 0, at, 1), 0);
	assert_int_equal(*at, 'a');
	submit_write(RANGE(memory.id, 0, at, 1), 0, NULL);
	client_done(-EPERM);
}

/* Somebody asked for the key by HTTP, in the name of the session. */
TEST(reader__has_the_key_that_its_session_has)
{
	char at[4] = "";

	begin();
	open_other();
	memory = client_alloc(other, 1);
	assert_int_equal(maas_write(other, memory.id, 0, "b", 1), 0);
	lan_grant_read(memory.id, client_session().id);
	assert_int_equal(maas_read(maas, memory.id, 0, at, 1), 0);
	assert_int_equal(*at, 'b');
	assert_int_equal(maas_write(maas, memory.id, 0, "c", 1), -EPERM);
}

TEST(reload__beside_requests_and_windows)
{
	reload_beside_work("window");
}

TEST(reload__beside_requests_and_regions)
{
	reload_beside_work("mr");
}

static void tear_down(void)
{
	end();
	unlink(stays.file);
	unlink(comes.file);
}

TEST_MAIN(NULL, tear_down)
