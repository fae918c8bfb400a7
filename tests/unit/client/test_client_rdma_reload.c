/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other principals again and again, beside requests and RDMA of two of them: one that is always
 * there loses nothing, and one that comes and goes reads no wrong byte. A thread each.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "auth/auth.h"
#include "tests/unit/client/client_options.h"
#include "tests/unit/client/rdma_lan.h"
#include "tests/unit/unit.h"

#define TABLES 100
#define PIECE  4096u

struct client {
	const char *name;
	char file[48];
	char hash[MAAS_AUTH_HASH];
	pthread_t thread;
	_Atomic unsigned int turns;
	_Atomic unsigned int failures;
	char error[256]; /* the first one */
};

static struct client stays = {.name = "stays"}, comes = {.name = "comes"};
static _Atomic bool stop;

static void make_token(struct client *client)
{
	char token[MAAS_AUTH_TOKEN];
	FILE *file;

	assert_int_equal(maas_auth_token_make(token), 0);
	maas_auth_token_hash(token, strlen(token), client->hash);
	snprintf(client->file, sizeof(client->file), "client-reload-%d-%s", (int)getpid(),
		 client->name);
	unlink(client->file);
	file = fopen(client->file, "we");
	assert_non_null(file);
	assert_int_equal(chmod(client->file, 0600), 0);
	assert_true(fprintf(file, "%s\n", token) > 0);
	assert_int_equal(fclose(file), 0);
}

/* Borrows, writes, reads and gives back, by RDMA. */
static int turn(struct maas *maas, char value)
{
	struct maas_allocation memory;
	char out[PIECE], in[PIECE];
	int r = maas_alloc(maas, PIECE, NULL, &memory);

	if (r)
		return r;
	memset(out, value, sizeof(out));
	r = maas_write(maas, memory.id, 0, out, sizeof(out));
	if (!r)
		r = maas_read(maas, memory.id, 0, in, sizeof(in));
	CHECK(r || !memcmp(in, out, sizeof(in)));
	return r ? r : maas_free(maas, memory.id);
}

/* With a new handle after each failure. */
static void *work(void *arg)
{
	struct client *client = arg;
	const struct maas_options *options = OPTIONS(.url = lan_url(), .token_file = client->file);
	struct maas *maas = NULL;

	while (!stop) {
		int r = maas ? 0 : maas_open(options, &maas);

		if (!r)
			r = turn(maas, (char)client->turns);
		if (!r) {
			client->turns++;
			continue;
		}
		if (!client->failures++)
			snprintf(client->error, sizeof(client->error), "%d %s", r, maas_error());
		maas_close(maas);
		maas = NULL;
	}
	maas_close(maas);
	return NULL;
}

static void start(struct client *client)
{
	client->turns = client->failures = 0;
	assert_int_equal(pthread_create(&client->thread, NULL, work, client), 0);
}

static void set_table(bool both, unsigned int number)
{
	char text[512];
	int len = snprintf(text, sizeof(text), "stays token=%s owner=stays max-allocations=%u\n",
			   stays.hash, 1000 + number);

	if (both)
		snprintf(text + len, sizeof(text) - (size_t)len, "comes token=%s owner=comes\n",
			 comes.hash);
	lan_principals(text);
}

static void reload_beside_work(const char *keys)
{
	unsigned int before;

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
	/* Both go on. */
	before = stays.turns;
	AWAIT(stays.turns > before);
	before = comes.turns;
	AWAIT(comes.turns > before);
	stop = true;
	pthread_join(stays.thread, NULL);
	pthread_join(comes.thread, NULL);
	if (stays.failures)
		fail_msg("%u failed: %s", stays.failures, stays.error);
}

TEST(reload__beside_requests_and_windows)
{
	reload_beside_work("window");
}

TEST(reload__beside_requests_and_regions)
{
	reload_beside_work("mr");
}

static void end(void)
{
	lan_close();
	unlink(stays.file);
	unlink(comes.file);
}

TEST_MAIN(NULL, end)
