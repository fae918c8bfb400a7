/* SPDX-License-Identifier: Apache-2.0 */
/* A maasd without its main program, with a thread for its housekeeping. */
#include "tests/unit/client/rdma_lan.h"

#include <pthread.h>

#include "http/http.h"
#include "rdma/rdma.h"
#include "tests/unit/unit.h"

#define SESSIONS 8
#define GRANTS	 4096

static struct {
	struct maas_slab *slab;
	struct maas_rdma *rdma;
	struct maas_lend *lend;
	struct maas_http *http;
	pthread_t housekeeping;
	_Atomic bool stop;
} lan;

static void *keep_house(void *arg)
{
	(void)arg;
	while (!lan.stop) {
		maas_lend_tick(lan.lend);
		maas_http_tick(lan.http);
		maas_slab_reclaim(lan.slab, maas_clock_ms(), 16u << 20);
		nap_ms(20);
	}
	return NULL;
}

static enum maas_rdma_keys mode_of(const char *keys)
{
	if (strcmp(keys, "window") == 0)
		return MAAS_RDMA_KEYS_WINDOW;
	if (strcmp(keys, "mr") == 0)
		return MAAS_RDMA_KEYS_MR;
	return strcmp(keys, "pool") == 0 ? MAAS_RDMA_KEYS_POOL : MAAS_RDMA_KEYS_AUTO;
}

static void open_slab(void)
{
	static const uint64_t classes[] = {4096, 65536, LAN_LARGEST};
	const struct maas_slab_options options = {
		.max_bytes = 32u << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
	};

	assert_int_equal(maas_slab_open(&options, NULL, &lan.slab), 0);
}

static void open_rdma(const char *keys)
{
	const struct maas_rdma_options options = {
		.keys = mode_of(keys),
		.max_sessions = SESSIONS,
		.max_grants = GRANTS,
		.slab = lan.slab,
	};
	char error[MAAS_RDMA_ERROR];

	if (maas_rdma_open(&options, error, &lan.rdma))
		fail_msg("%s", error);
}

static void open_lend(void)
{
	const struct maas_lend_options options = {
		.slab = lan.slab,
		.keys = lan.rdma ? &maas_rdma_key_ops : NULL,
		.keys_ctx = lan.rdma,
		.max_sessions = SESSIONS,
	};
	char error[MAAS_RDMA_ERROR];

	assert_int_equal(maas_lend_open(&options, &lan.lend), 0);
	if (lan.rdma && maas_rdma_listen(lan.rdma, lan.lend, error))
		fail_msg("%s", error);
}

static void open_http(void)
{
	static const char *const listen[] = {"127.0.0.1:0"};
	const struct maas_http_options options = {
		.slab = lan.slab,
		.lend = lan.lend,
		.listen = listen,
		.num_listen = 1,
		.threads = 2,
		.socket_mode = 0660,
		.max_connections = 4096,
		.max_body_bytes = 1 << 20,
		.max_header_bytes = 16 << 10,
		.max_held_bytes = 256 << 20,
		.timeout_s = 30,
		.boot_id = "b007",
		.rdma = {.state = lan.rdma ? "active" : "off"},
	};
	char error[MAAS_HTTP_ERROR];

	if (maas_http_start(&options, error, &lan.http))
		fail_msg("%s", error);
}

void lan_open(const struct fake_rules *rules, const char *keys)
{
	memset(&lan, 0, sizeof(lan));
	maas_log_set_level(MAAS_LOG_ERR);
	fake_verbs_start(rules);
	open_slab();
	if (keys)
		open_rdma(keys);
	open_lend();
	open_http();
	assert_int_equal(pthread_create(&lan.housekeeping, NULL, keep_house, NULL), 0);
}

void lan_close(void)
{
	if (!lan.slab)
		return;
	lan.stop = true;
	pthread_join(lan.housekeeping, NULL);
	maas_http_stop(lan.http);
	maas_rdma_stop(lan.rdma);
	maas_lend_close(lan.lend);
	maas_rdma_close(lan.rdma);
	maas_slab_check(lan.slab);
	maas_slab_close(lan.slab);
	lan.slab = NULL;
	assert_int_equal(fake_verbs_finish(), 0);
}

void lan_principals(const char *lines)
{
	struct maas_auth *auth = NULL;
	char error[MAAS_AUTH_ERROR];

	if (maas_auth_parse(lines, strlen(lines), error, &auth))
		fail_msg("%s", error);
	assert_int_equal(maas_lend_set_auth(lan.lend, auth), 0);
	maas_auth_unref(auth);
}

const char *lan_url(void)
{
	return maas_http_url(lan.http, 0);
}

unsigned long lan_live_slabs(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(lan.slab, &stats);
	return stats.live_slabs;
}

unsigned long lan_grants(void)
{
	struct maas_lend_key_stats stats;

	maas_rdma_key_ops.stats(lan.rdma, &stats);
	return stats.grants;
}

unsigned long lan_sessions(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(lan.lend, &stats);
	return stats.sessions;
}

/* ---- what happens on the server */

static void expect_end(struct told *end, int r)
{
	assert_int_equal(r == -EINPROGRESS ? told(end) : r, 0);
}

void lan_grant_read(const char *id, const char *session)
{
	struct maas_lend_key key;
	struct told end = {0};

	expect_end(&end, maas_lend_grant(lan.lend, NULL, id, session, MAAS_LEND_ACCESS_READ, &key,
					 tell, &end));
}

void lan_ungrant(const char *id, const char *session)
{
	struct told end = {0};

	expect_end(&end, maas_lend_ungrant(lan.lend, NULL, id, session, tell, &end));
}

void lan_end_session(const char *session)
{
	struct told end = {0};

	expect_end(&end, maas_lend_session_end(lan.lend, NULL, session, tell, &end));
}
