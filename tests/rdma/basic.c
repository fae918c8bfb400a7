/* SPDX-License-Identifier: Apache-2.0 */
/* What works, and which starts are refused. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB 8192

/* ---- start */

static json_t *health(void)
{
	struct raw_http *http = raw_http_new(server.url);
	json_t *reply = NULL;

	require(http, "out of memory");
	require_equal(raw_call(http, "GET", "/health", NULL, &reply), 200, "GET /health");
	raw_http_free(http);
	return reply;
}

/* As they must be; what the mode enforces is known of rxe 6.1. */
static void check_health(const char *keys, bool bounds, bool foreign)
{
	const char *state = NULL;
	const char *got = NULL;
	const char *gid = NULL;
	char want_gid[64];
	int got_bounds = -1;
	int got_foreign = -1;
	int revocation = -1;
	int access = -1;
	json_t *reply = health();

	require(json_unpack(reply, "{s:{s:s, s:s, s:s, s:{s:b, s:b, s:b, s:b}}}", "rdma", "state",
			    &state, "gid", &gid, "keys", &got, "isolation", "bounds", &got_bounds,
			    "foreign", &got_foreign, "revocation", &revocation, "access",
			    &access) == 0,
		"/health says too little of rdma");
	snprintf(want_gid, sizeof(want_gid), "::ffff:%s", getenv("SOFTROCE_ADDR"));
	require(!strcmp(gid, want_gid), "gid is %s, not %s", gid, want_gid);
	require(!strcmp(state, "active"), "state is %s", state);
	require(!strcmp(got, keys), "keys is %s, not %s", got, keys);
	require_equal(got_bounds, bounds, "isolation.bounds");
	require_equal(got_foreign, foreign, "isolation.foreign");
	require_equal(revocation, strcmp(keys, "pool") != 0, "isolation.revocation");
	require_equal(access, strcmp(keys, "pool") != 0, "isolation.access");
	json_decref(reply);
}

/* The self-test is over when the server listens. */
static void check_nothing_is_left(void)
{
	static const char command[] =
		"qps=$(rdma resource show qp) && mrs=$(rdma resource show mr) && "
		"! echo \"$qps\" | grep 'type RC' && ! echo \"$mrs\" | grep mrn";

	/* NOLINTNEXTLINE(cert-env33-c): a constant */
	require(system(command) == 0, "the self-test left something, or rdma(8) failed");
}

static void check_mode(const char *asked, const char *keys, bool bounds, bool foreign)
{
	server_start("--rdma-keys %s", asked);
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
static void check_refused(const char *words, const char *const *options)
{
	const char *argv[16] = {scenario_maasd, "--listen", "127.0.0.1:0"};
	int status = 0;

	for (size_t i = 0; options[i]; i++)
		argv[3 + i] = options[i];
	require(!server_try(argv, &status), "it starts");
	require(status > 0 && status < 126, "it ends with %d", status);
	require(server_log_has(words), "it does not say \"%s\"", words);
}

void basic_start(const char *keys)
{
	static const char *const device[] = {"--rdma-device", "mlx5_7", NULL};
	static const char *const addr[] = {"--rdma", "required", "--rdma-addr", "192.0.2.1", NULL};
	static const char *const isolation[] = {
		"--rdma", "required", "--rdma-keys", "window", "--require-isolation", NULL};
	static const char *const pool[] = {
		"--rdma", "required", "--rdma-keys", "pool", "--require-isolation", NULL};
	json_t *reply;
	const char *state = NULL;

	(void)keys;
	check_mode("auto", "mr", true, true);
	check_mode("window", "window", false, true);
	check_mode("pool", "pool", false, false);
	check_refused("mlx5_7", device);
	check_refused("192.0.2.1", addr);
	check_refused("isolation", isolation);
	check_refused("isolation", pool);
	server_start("--rdma-keys auto --require-isolation");
	check_health("mr", true, true);
	server_stop();
	server_start("--rdma off");
	reply = health();
	require(json_unpack(reply, "{s:{s:s}}", "rdma", "state", &state) == 0 &&
			!strcmp(state, "off"),
		"with --rdma off it is %s", state ? state : "not said");
	json_decref(reply);
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

/* Each plane reads what the other one wrote. */
static void both_planes(struct borrower *borrower, const struct raw_key *key, uint64_t *random)
{
	static uint8_t bytes[SLAB];
	static uint8_t back[SLAB];
	char path[96];
	size_t len = 0;

	snprintf(path, sizeof(path), "/allocate/%s/data", key->id);
	for (size_t i = 0; i < key->len; i++)
		borrower->link.bytes[i] = bytes[i] = (uint8_t)test_random(random);
	must_run(&borrower->link, IBV_WR_RDMA_WRITE, 0, key->len, key->addr, key->rkey,
		 IBV_WC_SUCCESS);
	require_equal(raw_get(borrower->http, path, back, key->len, &len), 200, "GET …/data");
	require(len == key->len && !memcmp(back, bytes, len), "RDMA's bytes over HTTP differ");

	for (size_t i = 0; i < key->len; i++)
		bytes[i] = (uint8_t)test_random(random);
	require_equal(raw_put(borrower->http, path, bytes, key->len), 200, "PUT …/data");
	must_run(&borrower->link, IBV_WR_RDMA_READ, 0, key->len, key->addr, key->rkey,
		 IBV_WC_SUCCESS);
	require(!memcmp(borrower->link.bytes, bytes, key->len), "HTTP's bytes over RDMA differ");
}

void basic_smoke(const char *keys)
{
	static const size_t sizes[] = {1, 64, 1000, 1024, 4096, 5000, 8192};
	struct raw_key all[MAAS_ARRAY_SIZE(sizes)];
	uint64_t random = maas_test_seed();
	struct borrower borrower;

	server_start("--rdma-keys %s", keys);
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
		must_run(&borrower.link, IBV_WR_RDMA_WRITE, 0, 64, all[4].addr, all[4].rkey,
			 IBV_WC_REM_ACCESS_ERR);
	borrower_end(&borrower);
	server_await("maas_sessions", 0, 1000);
}

static void refused_call(int status, int want, const struct raw_http *http, const char *code)
{
	require(status == want && !strcmp(raw_error(http), code), "%d %s, not %d %s", status,
		raw_error(http), want, code);
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
	refused_call(raw_grant(reader->http, key.id, &reader->session, "rw", &again), 409,
		     reader->http, "already_granted");
	must_hold(&reader->link, &read_key, 0x31, "what the reader sees");
	must_run(&reader->link, IBV_WR_RDMA_WRITE, 0, 8, read_key.addr, read_key.rkey,
		 IBV_WC_REM_ACCESS_ERR);
	must_hold(&writer->link, &key, 0x31, "after the reader's write");

	borrower_reconnect(reader);
	borrower_grant(reader, key.id, "r", &read_key);
	require_equal(raw_ungrant(reader->http, key.id, &reader->session), 200, "the grant's end");
	require_equal(raw_ungrant(reader->http, key.id, &reader->session), 404, "its end again");
	must_run(&reader->link, IBV_WR_RDMA_READ, 0, 8, read_key.addr, read_key.rkey,
		 IBV_WC_REM_ACCESS_ERR);
	must_hold(&writer->link, &key, 0x31, "the writer goes on");

	borrower_reconnect(reader);
	borrower_grant(reader, key.id, "rw", &read_key);
	borrower_free(writer, &key);
	must_run(&reader->link, IBV_WR_RDMA_READ, 0, 8, read_key.addr, read_key.rkey,
		 IBV_WC_REM_ACCESS_ERR);
	must_run(&writer->link, IBV_WR_RDMA_WRITE, 0, 8, key.addr, key.rkey, IBV_WC_REM_ACCESS_ERR);
}

void basic_access(const char *keys)
{
	struct raw_session session;
	struct borrower writer;
	struct borrower reader;
	struct raw_key key;

	server_start("--rdma-keys %s", keys);
	borrower_open(&writer, SLAB);
	borrower_open(&reader, SLAB);
	check_reader(&writer, &reader);
	require_equal(raw_session_open(writer.http, "", 60, &session), 200, "POST /sessions");
	refused_call(raw_alloc(writer.http, &session, SLAB, NULL, NULL, &key), 409, writer.http,
		     "not_connected");
	require_equal(raw_alloc(writer.http, &session, SLAB, NULL, "none", &key), 200,
		      "memory for a session that is not connected");
	require_equal(key.rkey, 0, "its key");
	refused_call(raw_grant(writer.http, key.id, &session, "rw", &key), 409, writer.http,
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

	server_start("--rdma-keys %s", keys);
	borrower_open(&borrower, SLAB);
	borrower_alloc(&borrower, SLAB, &kept);
	require_equal(raw_alloc(borrower.http, &borrower.session, SLAB, "session", NULL, &key), 200,
		      "memory as long as the session");
	must_fill(&borrower.link, &key, 0x41);
	for (unsigned int i = 0; i < count_device_reconnects(); i++) {
		old = key;
		if (i % 2) /* this kills the queue pair */
			must_run(&borrower.link, IBV_WR_RDMA_WRITE, 0, 8, key.addr, ~key.rkey,
				 IBV_WC_REM_ACCESS_ERR);
		borrower_reconnect(&borrower);
		require(borrower.link.connection != old.connection, "the same connection again");
		borrower_grant(&borrower, key.id, "rw", &key);
		must_hold(&borrower.link, &key, 0x41, "after a reconnect");
		if (isolated && i % 4 == 3 && old.rkey != key.rkey)
			must_run(&borrower.link, IBV_WR_RDMA_WRITE, 0, 8, old.addr, old.rkey,
				 IBV_WC_REM_ACCESS_ERR);
	}
	require_equal(raw_session_end(borrower.http, &borrower.session), 200, "the session's end");
	require_equal(raw_free(borrower.http, key.id), 404, "memory of a session that ended");
	require_equal(raw_free(borrower.http, kept.id), 200, "memory of its own");
	require_equal(raw_run(&borrower.link, IBV_WR_RDMA_READ, 0, 8, key.addr, key.rkey) ==
			      IBV_WC_SUCCESS,
		      false, "a read after the session's end");
	borrower_close(&borrower);
}
