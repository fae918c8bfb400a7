/* SPDX-License-Identifier: Apache-2.0 */
/* What works, and which starts are refused. */
#include <signal.h>
#include <stdlib.h>

#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB 8192

/* ---- start */

/* What /health says of rdma; the caller's. */
static json_t *health(void)
{
	struct raw_http *http = raw_http_new(server.url);
	json_t *rdma;

	require_equal(raw_call(http, "GET", NULL, "/health"), 200, "GET /health");
	rdma = json_incref(json_object_get(http->json, "rdma"));
	raw_http_free(http);
	return rdma;
}

/* As it must be; what the mode enforces is known of rxe 6.1. */
static void check_health(const char *keys, bool bounds, bool foreign)
{
	bool revocable = strcmp(keys, "pool") != 0;
	json_t *want =
		json_pack("{s:s, s:s+, s:s, s:{s:b, s:b, s:b, s:b}}", "state", "active", "gid",
			  "::ffff:", getenv("SOFTROCE_ADDR"), "keys", keys, "isolation", "bounds",
			  bounds, "foreign", foreign, "revocation", revocable, "access", revocable);
	json_t *got = health();
	json_t *both = json_deep_copy(got);

	require(want && !json_object_update_recursive(both, want), "what is wanted cannot be said");
	require(json_equal(got, both), "/health says of rdma: %s", json_dumps(got, 0));
	json_decref(both);
	json_decref(got);
	json_decref(want);
}

/* The self-test is over when the server listens. */
static void check_nothing_is_left(void)
{
	shell("qps=$(rdma resource show qp) && mrs=$(rdma resource show mr) && "
	      "! echo \"$qps\" | grep 'type RC' && ! echo \"$mrs\" | grep mrn");
}

static void check_mode(const char *asked, const char *keys, bool bounds, bool foreign)
{
	server_start(asked, "");
	check_nothing_is_left();
	check_health(keys, bounds, foreign);
	if (!strcmp(asked, "auto"))
		require(server_log_has("access=yes"), "the log says nothing of access");
	if (!bounds)
		require(server_log_has(" warn "), "the log does not warn of %s", asked);
	else
		require(!server_log_has("do not keep clients apart"), "warned of %s", asked);
}

/* It must end by itself, not with 0, and say `words`. */
static void check_refused(const char *words, const char *rdma, const char *option,
			  const char *value, const char *more)
{
	const char *const argv[] = {scenario_maasd, "--listen", "127.0.0.1:0", "--rdma", rdma,
				    option,	    value,	more,	       NULL};
	int status = 0;

	require(!server_try(argv, &status), "it starts");
	require(status > 0 && status < 126, "it ends with %d", status);
	require(server_log_has(words), "it does not say \"%s\"", words);
}

void basic_start(const char *keys)
{
	json_t *rdma;
	const char *state;

	(void)keys;
	check_mode("auto", "mr", true, true);
	check_mode("window", "window", false, true);
	check_mode("pool", "pool", false, false);
	check_refused("mlx5_7", "auto", "--rdma-device", "mlx5_7", NULL);
	check_refused("192.0.2.1", "required", "--rdma-addr", "192.0.2.1", NULL);
	check_refused("isolation", "required", "--rdma-keys", "window", "--require-isolation");
	check_refused("isolation", "required", "--rdma-keys", "pool", "--require-isolation");
	server_start("auto", "--require-isolation");
	check_health("mr", true, true);
	server_stop();
	server_start("auto", "--rdma off");
	rdma = health();
	state = json_string_value(json_object_get(rdma, "state"));
	require(state && !strcmp(state, "off"), "with --rdma off it is not off");
	json_decref(rdma);
}

/* Too little memory may be locked: the limit and both remedies are named, and nothing hangs. */
void basic_memlock(const char *keys)
{
	const char *const argv[] = {
		"prlimit",     "--memlock=1048576:1048576",
		"setpriv",     "--bounding-set",
		"-ipc_lock",   "--inh-caps",
		"-ipc_lock",   scenario_maasd,
		"--listen",    "127.0.0.1:0",
		"--rdma",      "required",
		"--rdma-keys", keys,
		"--prealloc",  "--max-pool-size",
		"16MiB",       "--slab-sizes",
		"4MiB",	       NULL,
	};
	struct borrower borrower;
	struct raw_key key;
	int status = 0;

	if (server_try(argv, &status)) {
		borrower_open(&borrower, SLAB);
		require(raw_alloc(borrower.http, &borrower.session, 4u << 20, NULL, NULL, &key) >=
				500,
			"a grant of more than may be locked");
		require_equal(raw_alloc(borrower.http, NULL, 4u << 20, NULL, NULL, &key), 200,
			      "memory without a key");
		borrower_end(&borrower);
		kill(server.pid, SIGTERM);
		require(scenario_wait_for(server.pid, 2000, &status), "it does not end");
		server.pid = 0;
	}
	require(server_log_has("ulimit -l"), "the log does not name the shell's remedy");
	require(server_log_has("LimitMEMLOCK"), "the log does not name systemd's remedy");
}

/* ---- a client's whole life */

static void fill_random(uint8_t *bytes, size_t len, uint64_t *random)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)test_random(random);
}

/* Each plane reads what the other one wrote. */
static void both_planes(struct borrower *borrower, const struct raw_key *key, uint64_t *random)
{
	struct maas_buf *back = &borrower->http->reply;
	uint8_t *bytes = borrower->link.bytes;
	uint8_t sent[SLAB];

	fill_random(bytes, key->len, random);
	must_write(&borrower->link, key);
	require_equal(raw_call(borrower->http, "GET", NULL, "/allocate/%s/data", key->id), 200,
		      "GET …/data");
	require(back->len == key->len && !memcmp(back->data, bytes, key->len),
		"RDMA's bytes over HTTP differ");

	fill_random(sent, key->len, random);
	require_equal(raw_put(borrower->http, key->id, sent, key->len), 200, "PUT …/data");
	must_read(&borrower->link, key);
	require(!memcmp(bytes, sent, key->len), "HTTP's bytes over RDMA differ");
}

void basic_smoke(const char *keys)
{
	static const size_t sizes[] = {1, 64, 1000, 1024, 4096, 5000, 8192};
	struct raw_key all[MAAS_ARRAY_SIZE(sizes)];
	uint64_t random = maas_test_seed();
	struct borrower borrower;

	server_start(keys, "");
	borrower_open(&borrower, SLAB);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		borrower_alloc(&borrower, sizes[i], &all[i]);
		must_hold(&borrower.link, &all[i], 0, "fresh memory");
		both_planes(&borrower, &all[i], &random);
		must_fill(&borrower.link, &all[i], (uint8_t)(i + 1));
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		must_hold(&borrower.link, &all[i], (uint8_t)(i + 1), "each its own");
		must_hold_http(borrower.http, &all[i], (uint8_t)(i + 1), "each its own");
	}
	require_equal(raw_free_many(borrower.http, all, MAAS_ARRAY_SIZE(sizes)), 200, "POST /free");
	server_await("maas_rdma_grants", 0, 1000);
	if (strcmp(keys, "pool") != 0)
		must_refuse(&borrower.link, IBV_WR_RDMA_WRITE, 64, all[4].addr, all[4].rkey);
	borrower_end(&borrower);
	server_await("maas_sessions", 0, 1000);
}

static void must_conflict(const struct raw_http *http, int status, const char *code)
{
	require(status == 409 && !strcmp(raw_error(http), code), "%d %s, not 409 %s", status,
		raw_error(http), code);
}

/* The reader has a key of its own to the writer's memory, which can read and not write. */
static void check_reader(struct borrower *writer, struct borrower *reader)
{
	struct raw_key key;
	struct raw_key read_key;
	struct raw_key again;

	borrower_alloc(writer, SLAB, &key);
	must_fill(&writer->link, &key, 0x31);
	borrower_grant(reader, key.id, "r", &read_key);
	borrower_grant(reader, key.id, "r", &again);
	require_equal(again.rkey, read_key.rkey, "the same key again");
	must_conflict(reader->http, raw_grant(reader->http, key.id, &reader->session, "rw", &again),
		      "already_granted");
	must_hold(&reader->link, &read_key, 0x31, "what the reader sees");
	must_refuse(&reader->link, IBV_WR_RDMA_WRITE, 8, read_key.addr, read_key.rkey);
	must_hold(&writer->link, &key, 0x31, "after the reader's write");

	borrower_reconnect(reader);
	borrower_grant(reader, key.id, "r", &read_key);
	require_equal(raw_ungrant(reader->http, key.id, &reader->session), 200, "the grant's end");
	require_equal(raw_ungrant(reader->http, key.id, &reader->session), 404, "its end again");
	must_refuse(&reader->link, IBV_WR_RDMA_READ, 8, read_key.addr, read_key.rkey);
	must_hold(&writer->link, &key, 0x31, "the writer goes on");

	borrower_reconnect(reader);
	borrower_grant(reader, key.id, "rw", &read_key);
	borrower_free(writer, &key);
	must_refuse(&reader->link, IBV_WR_RDMA_READ, 8, read_key.addr, read_key.rkey);
	must_refuse(&writer->link, IBV_WR_RDMA_WRITE, 8, key.addr, key.rkey);
}

void basic_access(const char *keys)
{
	struct raw_session session;
	struct borrower writer;
	struct borrower reader;
	struct raw_key key;

	server_start(keys, "");
	borrower_open(&writer, SLAB);
	borrower_open(&reader, SLAB);
	check_reader(&writer, &reader);
	require_equal(raw_session_open(writer.http, "", 60, &session), 200, "POST /sessions");
	must_conflict(writer.http, raw_alloc(writer.http, &session, SLAB, NULL, NULL, &key),
		      "not_connected");
	require_equal(raw_alloc(writer.http, &session, SLAB, NULL, "none", &key), 200,
		      "memory for a session that is not connected");
	require_equal(key.rkey, 0, "its key");
	must_conflict(writer.http, raw_grant(writer.http, key.id, &session, "rw", &key),
		      "not_connected");
	borrower_end(&writer);
	borrower_end(&reader);
}

/* Connections come and go; the session and its memory stay, and each connection has its own keys.
 */
void basic_reconnect(const char *keys)
{
	bool isolated = strcmp(keys, "pool") != 0;
	struct borrower borrower;
	struct raw_key kept;
	struct raw_key key;
	struct raw_key old;

	server_start(keys, "");
	borrower_open(&borrower, SLAB);
	borrower_alloc(&borrower, SLAB, &kept);
	borrower_alloc_owned(&borrower, SLAB, &key);
	must_fill(&borrower.link, &key, 0x41);
	for (unsigned int i = 0; i < count_device_reconnects(); i++) {
		old = key;
		if (i % 2) /* this kills the queue pair */
			must_refuse(&borrower.link, IBV_WR_RDMA_WRITE, 8, key.addr, ~key.rkey);
		borrower_reconnect(&borrower);
		require(borrower.link.connection != old.connection, "the same connection again");
		borrower_grant(&borrower, key.id, "rw", &key);
		must_hold(&borrower.link, &key, 0x41, "after a reconnect");
		if (isolated && i % 4 == 3 && old.rkey != key.rkey)
			must_refuse(&borrower.link, IBV_WR_RDMA_WRITE, 8, old.addr, old.rkey);
	}
	require_equal(raw_session_end(borrower.http, &borrower.session), 200, "the session's end");
	require_equal(raw_free(borrower.http, key.id), 404, "memory of a session that ended");
	require_equal(raw_free(borrower.http, kept.id), 200, "memory of its own");
	require(raw_run(&borrower.link, IBV_WR_RDMA_READ, 0, 8, key.addr, key.rkey) !=
			IBV_WC_SUCCESS,
		"a read after the session's end succeeds");
	borrower_close(&borrower);
}
