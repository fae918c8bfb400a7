/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All on two hosts, in one boot of both: maasd on host a, libmaas and the raw client on host b.
 * two_hosts MAASD [FILTER] runs on each: on a it obeys (agent.c), on b it runs the scenarios.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/maas.h"
#include "tests/rdma/agent.h"

#define MIB    ((size_t)1 << 20)
#define PIECE  (4 * MIB)
#define PIECES 16 /* 64 MiB */

static void must(int r, const char *what)
{
	require(r == 0, "%s: %s", what, maas_error());
}

/* `token_file` NULL: without a token. */
static struct maas *open_maas(uint32_t timeout_ms, uint32_t ttl_s, const char *token_file)
{
	struct maas_options options = {
		.size = sizeof(options),
		.url = server.url,
		.transport = MAAS_TRANSPORT_RDMA,
		.timeout_ms = timeout_ms,
		.ttl_seconds = ttl_s,
		.token_file = token_file,
	};
	struct maas *maas;

	must(maas_open(&options, &maas), "maas_open");
	require_equal(maas_transport(maas), MAAS_TRANSPORT_RDMA, "the transport");
	return maas;
}

/* ---- bytes: put by one process, read back by another and by host a over HTTP */

/* No process can use a device that its parent opened: the parent has HTTP alone. */
struct bytes {
	uint64_t seed;
	struct raw_key pieces[PIECES];
};

static void put_bytes(void *arg)
{
	const struct bytes *bytes = arg;
	struct maas *maas = open_maas(60000, 60, NULL);
	static uint8_t piece[PIECE];

	for (uint64_t i = 0; i < PIECES; i++) {
		agent_fill(bytes->seed + i, piece, PIECE);
		must(maas_write(maas, bytes->pieces[i].id, 0, piece, PIECE), "maas_write");
	}
	maas_close(maas);
}

static void get_bytes(void *arg)
{
	const struct bytes *bytes = arg;
	struct maas *maas = open_maas(60000, 60, NULL);
	struct maas_buffer *buffer;
	static uint8_t want[PIECE];
	static uint8_t got[PIECE];

	must(maas_buffer_register(maas, got, PIECE, &buffer), "register");
	for (uint64_t i = 0; i < PIECES; i++) {
		agent_fill(bytes->seed + i, want, PIECE);
		must(maas_read(maas, bytes->pieces[i].id, 0, got, PIECE), "maas_read");
		require(!memcmp(got, want, PIECE), "piece %llu differs", (unsigned long long)i);
	}
	maas_close(maas);
}

static void run_bytes(const char *keys)
{
	struct bytes bytes = {.seed = maas_test_seed()};
	char ids[PIECES * (RAW_ID + 1)];
	size_t len = 0;
	struct raw_http *http;
	uint64_t started_ms;

	agent_start(keys, "");
	http = raw_http_new(server.url);
	require_equal(raw_alloc_many(http, NULL, PIECE, PIECES, bytes.pieces), 200,
		      "POST /allocate");
	started_ms = maas_clock_ms();
	require_equal(scenario_wait(scenario_fork(put_bytes, &bytes)), 0, "who puts");
	note_time("put", started_ms);
	started_ms = maas_clock_ms();
	require_equal(scenario_wait(scenario_fork(get_bytes, &bytes)), 0, "who reads back");
	note_time("read back", started_ms);
	for (size_t i = 0; i < PIECES; i++)
		len += (size_t)snprintf(ids + len, sizeof(ids) - len, " %s", bytes.pieces[i].id);
	agent_ask(NULL, "check %llu%s", (unsigned long long)bytes.seed, ids);
	require_equal(raw_free_many(http, bytes.pieces, PIECES), 200, "POST /free");
	raw_http_free(http);
	agent_ask(NULL, "stop");
}

/* ---- a network that fails: what an operation may end with, and what the memory may hold */

#define BLOCK	   ((size_t)16384)
#define BLOCKS	   8
#define TIMEOUT_MS 2000
#define GRACE_MS   2000 /* a second that the library promises, another for two busy processors */

/* Each word of a block holds a stamp: of the last write that succeeded, or of one after it. */
struct model {
	struct maas *maas;
	struct maas_allocation memory;
	uint32_t known[BLOCKS];	 /* succeeded */
	uint32_t newest[BLOCKS]; /* tried */
	uint64_t random;
	uint64_t succeeded;
	uint64_t failed;
	uint64_t longest_ms;
};

static bool is_clear_error(int error)
{
	static const int errors[] = {ETIMEDOUT,	  ECONNRESET, ECONNREFUSED, EHOSTUNREACH,
				     ENETUNREACH, ENOTCONN,   EKEYREVOKED};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(errors); i++)
		if (error == -errors[i])
			return true;
	return false;
}

/* Counts it, and checks that it ended in time and said why. */
static bool judge(struct model *model, const char *what, int error, uint64_t started_ms)
{
	uint64_t took_ms = maas_clock_ms() - started_ms;

	require(took_ms <= TIMEOUT_MS + GRACE_MS, "%s with a timeout of %u ms took %llu ms (%d)",
		what, TIMEOUT_MS, (unsigned long long)took_ms, error);
	require(!error || (is_clear_error(error) && *maas_error()), "%s ends with %d %s", what,
		error, maas_error());
	model->longest_ms = took_ms > model->longest_ms ? took_ms : model->longest_ms;
	model->succeeded += !error;
	model->failed += error != 0;
	return !error;
}

static void write_block(struct model *model, size_t block)
{
	static uint32_t words[BLOCK / sizeof(uint32_t)];
	uint32_t stamp = ++model->newest[block];
	uint64_t started_ms = maas_clock_ms();
	int error;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(words); i++)
		words[i] = stamp << 8 | (uint32_t)block;
	error = maas_write(model->maas, model->memory.id, block * BLOCK, words, BLOCK);
	if (judge(model, "a write", error, started_ms))
		model->known[block] = stamp;
}

static void read_block(struct model *model, size_t block)
{
	static uint32_t words[BLOCK / sizeof(uint32_t)];
	uint64_t started_ms = maas_clock_ms();
	int error = maas_read(model->maas, model->memory.id, block * BLOCK, words, BLOCK);

	if (!judge(model, "a read", error, started_ms))
		return;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(words); i++) {
		uint32_t stamp = words[i] >> 8;

		if (!words[i] && !model->known[block])
			continue;
		require((words[i] & 0xff) == block && stamp >= model->known[block] &&
				stamp <= model->newest[block],
			"word %zu of block %zu is %#x: wanted stamps %u to %u", i, block, words[i],
			model->known[block], model->newest[block]);
	}
}

/* Until the time is over; says whether the last of all succeeded. */
static void work(struct model *model, uint64_t ms)
{
	uint64_t end_ms = maas_clock_ms() + ms;

	while (maas_clock_ms() < end_ms) {
		size_t block = test_random_below(&model->random, BLOCKS);

		if (test_random_below(&model->random, 2))
			write_block(model, block);
		else
			read_block(model, block);
	}
}

static void model_open(struct model *model, uint32_t ttl_s, const char *token_file)
{
	memset(model, 0, sizeof(*model));
	model->random = maas_test_seed();
	model->maas = open_maas(TIMEOUT_MS, ttl_s, token_file);
	must(maas_alloc(model->maas, BLOCK * BLOCKS, NULL, &model->memory), "maas_alloc");
}

static void model_close(struct model *model)
{
	note("%llu done, %llu failed, the longest %llu ms", (unsigned long long)model->succeeded,
	     (unsigned long long)model->failed, (unsigned long long)model->longest_ms);
	maas_close(model->maas);
}

/* Once the network is whole everything works again, on the same memory. */
static void recover(struct model *model, unsigned int limit_ms)
{
	uint64_t deadline_ms = maas_clock_ms() + limit_ms;
	uint64_t succeeded;

	do {
		require(maas_clock_ms() < deadline_ms, "it does not recover: %s", maas_error());
		succeeded = model->succeeded;
		for (size_t block = 0; block < BLOCKS; block++)
			read_block(model, block);
	} while (model->succeeded - succeeded < BLOCKS);
	for (size_t block = 0; block < BLOCKS; block++) {
		write_block(model, block);
		require_equal(model->known[block], model->newest[block], "a write after that");
		read_block(model, block);
	}
}

static void run_cable(const char *keys)
{
	unsigned int seconds = (unsigned int)count_device_cable_s();
	struct model model;
	uint64_t failed;

	agent_start(keys, "");
	model_open(&model, 600, NULL);
	work(&model, 1000);
	require_equal(model.failed, 0, "failures on a whole network");
	agent_cable("off");
	work(&model, seconds * UINT64_C(1000));
	failed = model.failed;
	agent_cable("on");
	require(failed > 0, "the cable was not pulled");
	recover(&model, 20000);
	work(&model, 1000);
	model_close(&model);
	agent_ask(NULL, "stop");
}

/*
 * The lease lapses while the cable is pulled: the server reclaims what the session owned, and the
 * client, which cannot know, says that its keys are revoked until it is told to open another.
 */
static void run_lapse(const char *keys)
{
	struct maas_alloc_options owned = {.size = sizeof(owned),
					   .lifetime = MAAS_LIFETIME_SESSION};
	struct maas_allocation memory;
	struct model model;
	uint32_t word = 0;

	agent_start(keys, "");
	model_open(&model, 2, NULL);
	must(maas_alloc(model.maas, 4096, &owned, &memory), "maas_alloc");
	work(&model, 500);
	agent_cable("off");
	require_soon(agent_metric("maas_sessions") == 0 && agent_metric("maas_rdma_grants") == 0 &&
			     agent_metric("maas_active_allocations") == 1,
		     6000, "the server does not reclaim");
	work(&model, 500);
	agent_cable("on");
	require_soon(maas_reopen(model.maas) == 0, 20000, "maas_reopen: %s", maas_error());
	recover(&model, 20000);
	require_equal(maas_read(model.maas, memory.id, 0, &word, sizeof(word)), -ENOENT,
		      "memory of the session that was lost");
	model_close(&model);
	agent_ask(NULL, "stop");
}

static void run_loss(const char *keys)
{
	unsigned int percent = (unsigned int)count_device_loss_percent();
	struct model model;

	agent_start(keys, "");
	model_open(&model, 60, NULL);
	agent_lose(percent);
	work(&model, count_device_loss_s() * 1000);
	agent_lose(0);
	require(model.succeeded > 0, "nothing succeeded");
	/* A packet is sent again long before the operation's time is over. */
	require(model.failed <= model.succeeded / 50, "%llu of %llu operations failed",
		(unsigned long long)model.failed,
		(unsigned long long)(model.failed + model.succeeded));
	recover(&model, 20000);
	model_close(&model);
	agent_ask(NULL, "stop");
}

/* ---- principals: a right ends even in the middle of writes, and nobody else notices */

#define ANYBODY "* - health\n"

static void run_principals(const char *keys)
{
	struct principal principals[2];
	struct model goes;
	struct model stays;
	uint32_t word = 1;
	uint64_t removed_ms;

	principal_make("goes", &principals[0]);
	principal_make("stays", &principals[1]);
	agent_ask(NULL, "principals " ANYBODY "%s%s", principals[0].line, principals[1].line);
	agent_start_known(keys);
	model_open(&goes, 60, "goes");
	model_open(&stays, 60, "stays");
	work(&goes, 500);
	work(&stays, 500);
	require(!goes.failed && !stays.failed, "an operation failed");
	require_equal(maas_read(goes.maas, stays.memory.id, 0, &word, sizeof(word)), -ENOENT,
		      "reading the memory of another principal");
	require_equal(maas_write(goes.maas, stays.memory.id, 0, &word, sizeof(word)), -ENOENT,
		      "writing the memory of another principal");

	agent_ask(NULL, "principals " ANYBODY "%s", principals[1].line);
	removed_ms = maas_clock_ms();
	while (maas_write(goes.maas, goes.memory.id, 0, &word, sizeof(word)) == 0)
		require(maas_clock_ms() - removed_ms <= 1000, "a write a second after its right");
	note("the first write that failed: %llu ms after the file, %s",
	     (unsigned long long)(maas_clock_ms() - removed_ms), maas_error());
	work(&stays, 1000);
	require(!stays.failed, "another principal noticed");
	require(maas_write(goes.maas, goes.memory.id, 0, &word, sizeof(word)) < 0,
		"a write after its right");
	model_close(&goes);
	model_close(&stays);
	agent_ask(NULL, "stop");
}

static const struct scenario scenarios[] = {
	{"bytes", run_bytes, 90, "mr", "window"},
	{"cpu", run_cpu, 180, "mr", "window"},
	{"cable", run_cable, 60, "mr", "window"},
	{"lapse", run_lapse, 60, "mr", "window"},
	{"loss", run_loss, 60, "mr", "window"},
	{"principals", run_principals, 60, "mr window", ""},
	{"strangers", run_strangers, 60, "mr window", ""},
};

int main(int argc, char **argv)
{
	const char *peer = getenv("SOFTROCE_PEER");
	int status;

	if (peer && argc > 1 && !strcmp(getenv("SOFTROCE_HOST"), "a")) {
		scenario_maasd = argv[1];
		return agent_serve();
	}
	scenario_on_failure = agent_show_log;
	status = scenario_main(argc, argv, "SOFTROCE_PEER", scenarios, MAAS_ARRAY_SIZE(scenarios));
	if (peer)
		agent_ask(NULL, "end");
	return status;
}
