/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane as it is where there is RDMA, with keys that no device makes: for tests of what
 * it answers. Says "Listening on URL" on stderr as maasd does. Then each line of its standard input
 * is an order, answered by "ok" on standard output:
 *
 *     connected 0|1     whether sessions have a connection
 *     error N           making and killing keys gives -N
 *     wanted BYTES      how many bytes are to be registered
 *
 * Its end is the end of the input.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/http.h"
#include "tests/fake/fake_keys.h"

#define GRADE	  "\"bounds\":true,\"foreign\":true,\"revocation\":true,\"access\":true"
#define TRIED	  "{" GRADE ",\"works\":true}"
#define ISOLATION "{" GRADE ",\"selftest\":{\"window\":" TRIED ",\"mr\":" TRIED "}}"

struct server {
	struct maas_slab *slab;
	struct maas_lend *lend;
	struct maas_http *http;
	struct fake_keys keys;
	_Atomic bool stop;
};

static void *housekeeping(void *arg)
{
	struct server *s = arg;

	while (!atomic_load(&s->stop)) {
		const struct timespec pause = {.tv_nsec = 20000000L};

		maas_lend_tick(s->lend);
		maas_http_tick(s->http);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static bool obey(struct server *s, const char *line)
{
	size_t len = strcspn(line, " ");
	unsigned long value = strtoul(line + len, NULL, 10);

	if (!strncmp(line, "connected", len))
		fake_keys_set(&s->keys, unconnected, !value);
	else if (!strncmp(line, "error", len))
		fake_keys_set(&s->keys, start_error, -(int)value);
	else if (!strncmp(line, "wanted", len))
		fake_keys_set(&s->keys, stats.wanted_bytes, value);
	else
		return false;
	return true;
}

static void take_orders(struct server *s)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		puts(obey(s, line) ? "ok" : "what?");
		fflush(stdout);
	}
}

static int start(struct server *s, char *error)
{
	static const uint64_t classes[] = {1024, 4096};
	static const char *const listen[] = {"127.0.0.1:0"};
	const struct maas_slab_options slab = {
		.max_bytes = 1 << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
	};
	struct maas_lend_options lend = {
		.keys = &fake_key_ops,
		.keys_ctx = &s->keys,
		.max_sessions = 8,
	};
	struct maas_http_options http = {
		.listen = listen,
		.num_listen = 1,
		.threads = 2,
		.socket_mode = 0660,
		.max_connections = 4096,
		.max_body_bytes = 128 << 10,
		.max_header_bytes = 16 << 10,
		.max_held_bytes = 256 << 20,
		.timeout_s = 30,
		.boot_id = "00000000-0000-4000-8000-000000000000",
		.rdma = {.state = "active",
			 .device = "rxe0",
			 .gid = "::ffff:127.0.0.1",
			 .port = FAKE_KEYS_PORT,
			 .keys = "mr",
			 .isolated = true,
			 .isolation_json = ISOLATION},
	};
	int r;

	fake_keys_init(&s->keys, FAKE_KEYS_AT_ONCE);
	r = maas_slab_open(&slab, error, &s->slab);
	if (r)
		return r;
	s->keys.slab = lend.slab = http.slab = s->slab;
	r = maas_lend_open(&lend, &s->lend);
	if (r)
		return r;
	http.lend = s->lend;
	return maas_http_start(&http, error, &s->http);
}

int main(void)
{
	static struct server s;
	char error[MAAS_HTTP_ERROR] = "";
	pthread_t thread;
	int r;

	maas_log_set_level(MAAS_LOG_ERR);
	r = start(&s, error);
	if (!r)
		r = -pthread_create(&thread, NULL, housekeeping, &s);
	if (r) {
		fprintf(stderr, "cannot start: %s (%s)\n", error, strerror(-r));
		return 1;
	}
	fprintf(stderr, "Listening on %s\n", maas_http_url(s.http, 0));
	take_orders(&s);
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	maas_http_stop(s.http);
	maas_lend_close(s.lend);
	maas_slab_close(s.slab);
	fake_keys_fini(&s.keys);
	return 0;
}
