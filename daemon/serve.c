/* SPDX-License-Identifier: Apache-2.0 */
/* The running server: what is started in which order, the wait for a signal, the drain, and the end
 * in the opposite order. All of this is the main thread's, which alone takes signals. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/internal.h"

#define DRAIN_POLL_MS 20
#define END_S	      60   /* what the end takes beside the drain, at most */
#define PROGRESS_MS   3000 /* between two lines on a long start */
/* What large bodies and answers may take, all in all; no option sets it. */
#define MAX_HELD_BYTES (256u << 20)

/* Everything that runs. Destroyed in the opposite order, from any half-built state. */
struct server {
	struct maas_slab *slab;
	struct maas_rdma *rdma; /* NULL: HTTP only */
	struct maas_lend *lend;
	struct maas_http *http;
	struct maasd_auth auth;
	struct maasd_tls tls;
	struct maas_buf isolation; /* what /health says of RDMA */
	struct maasd_housekeeping *housekeeping;
	char boot_id[MAAS_SLAB_ID_TEXT];
	const char *listen[MAASD_OPTIONS_LISTEN];
	const char *listen_metrics[MAASD_OPTIONS_LISTEN];
	const char *hosts[MAASD_OPTIONS_HOSTS];
	gid_t socket_group;
	sigset_t signals;
	int signal;	  /* that asked for the end before the start was done; 0: none */
	uint64_t said_ms; /* when the log last said how far the start is */
};

/* ---- start */

struct maas_slab_options maasd_serve_slab_options(const struct maasd_options *options, bool serving)
{
	return (struct maas_slab_options){
		.max_bytes = options->max_pool_bytes,
		.class_bytes = options->class_bytes,
		.num_classes = options->num_classes,
		.extent_bytes = options->extent_bytes,
		.prealloc = serving && options->prealloc,
		.file = serving ? options->memory_file : NULL,
	};
}

int maasd_serve_open_pool(const struct maas_slab_options *options, char error[MAASD_OPTIONS_ERROR],
			  struct maas_slab **ret_slab)
{
	char reason[MAAS_SLAB_ERROR] = "";
	int r = maas_slab_open(options, reason, ret_slab);

	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "the pool cannot be made: %s",
			 *reason ? reason : strerror(-r));
	return r;
}

static int wait_signal(struct server *server, int timeout_ms);

/* One step of the pool's opening, which can take minutes: signals are blocked, so look for them. */
static int on_pool_step(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct server *server = ctx;
	uint64_t now_ms = maas_clock_ms();
	unsigned int percent;

	server->signal = wait_signal(server, 0);
	if (server->signal)
		return -EINTR;
	if (!total_bytes || now_ms < server->said_ms + PROGRESS_MS)
		return 0;
	server->said_ms = now_ms;
	percent = (unsigned int)(100.0 * (double)done_bytes / (double)total_bytes);
	log_info("taking memory percent=%u bytes=%llu of=%llu", percent,
		 (unsigned long long)done_bytes, (unsigned long long)total_bytes);
	maas_log_flush();
	sd_notifyf(0, "STATUS=Taking memory, %u %%\nEXTEND_TIMEOUT_USEC=%d", percent,
		   20 * PROGRESS_MS * 1000);
	return 0;
}

static int open_pool(struct server *server, const struct maasd_options *options, char *error)
{
	struct maas_slab_options pool = maasd_serve_slab_options(options, true);
	int r;

	r = maasd_memory_check(options, error);
	if (r < 0)
		return r;
	server->said_ms = maas_clock_ms();
	pool.tick = on_pool_step;
	pool.tick_ctx = server;
	r = maasd_serve_open_pool(&pool, error, &server->slab);
	maas_slab_id_random(server->boot_id);
	return r;
}

static int open_lend(struct server *server, const struct maasd_options *options, char *error)
{
	const struct maas_lend_options lend = {
		.slab = server->slab,
		.max_sessions = options->max_sessions,
		.max_session_ttl_s = options->max_session_ttl_s,
		.keys = server->rdma ? &maas_rdma_key_ops : NULL,
		.keys_ctx = server->rdma,
		.has_principals = options->auth_file,
		.insecure_open = options->insecure_open,
	};
	int r = maas_lend_open(&lend, &server->lend);

	if (r == -EACCES)
		(void)maasd_memory_refuse_open(options, error);
	else if (r == -EUCLEAN)
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "--memory-file: its table is damaged; remove %s and %s.slots to begin "
			 "anew, what they hold is lost",
			 options->memory_file, options->memory_file);
	else if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "--max-sessions %u: %s", options->max_sessions,
			 strerror(-r));
	return r;
}

static int listen_rdma(struct server *server, char *error)
{
	char reason[MAAS_RDMA_ERROR] = "";
	int r;

	if (!server->rdma)
		return 0;
	maas_slab_set_remote(server->slab, true);
	r = maas_rdma_listen(server->rdma, server->lend, reason);
	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "RDMA: %s", reason);
	return r;
}

/* Where to serve. Borrows: `server` and `options`. */
static int address_options(struct server *server, const struct maasd_options *options, char *error,
			   struct maas_http_options *ret_http)
{
	int r = maasd_machine_find_group(options, error, &server->socket_group);

	for (unsigned int i = 0; i < options->listen.num; i++)
		server->listen[i] = options->listen.text[i];
	for (unsigned int i = 0; i < options->listen_metrics.num; i++)
		server->listen_metrics[i] = options->listen_metrics.text[i];
	ret_http->listen = server->listen;
	ret_http->num_listen = options->listen.num;
	ret_http->listen_metrics = server->listen_metrics;
	ret_http->num_listen_metrics = options->listen_metrics.num;
	ret_http->socket_group = options->socket_group ? &server->socket_group : NULL;
	ret_http->socket_mode = options->socket_mode;
	return r;
}

static int start_http(struct server *server, const struct maasd_options *options, char *error)
{
	struct maas_http_options http = {
		.slab = server->slab,
		.lend = server->lend,
		.threads = options->http_threads,
		.max_connections = options->max_connections,
		.max_connections_per_address = maasd_options_per_address(options),
		.max_body_bytes = options->max_body_bytes,
		.max_header_bytes = options->max_header_bytes,
		.max_held_bytes = MAX_HELD_BYTES,
		.timeout_s = options->connection_timeout_s,
		.hosts = server->hosts,
		.num_hosts = options->num_hosts,
		.boot_id = server->boot_id,
	};
	char reason[MAAS_HTTP_ERROR] = "";
	int r;

	maasd_serve_describe_rdma(server->rdma, &server->isolation, &http.rdma);
	r = address_options(server, options, error, &http);
	if (r)
		return r;
	http.tls = server->tls.table;
	for (unsigned int i = 0; i < options->num_hosts; i++)
		server->hosts[i] = options->hosts[i];
	r = maas_http_start(&http, reason, &server->http);
	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "%s", *reason ? reason : strerror(-r));
	server->tls.http = server->http;
	return r;
}

static_assert(MAASD_OPTIONS_ERROR >= MAAS_HTTP_ERROR, "one buffer for both");

int maasd_serve_check_listen(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	struct maas_http_options http = {0};
	struct server server = {0};
	int r = address_options(&server, options, error, &http);

	return r ? r : maas_http_check(&http, error);
}

static int start_housekeeping(struct server *server, char *error)
{
	struct maasd_housekeeping_options options = {
		.slab = server->slab,
		.lend = server->lend,
		.http = server->http,
	};
	int r;

	if (sd_watchdog_enabled(0, &options.watchdog_us) <= 0)
		options.watchdog_us = 0;
	r = maasd_housekeeping_start(&options, &server->housekeeping);
	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "no housekeeping thread: %s", strerror(-r));
	return r;
}

/* Signals are blocked before the first thread starts, so that all threads inherit it and only
 * wait_signal() sees them. */
static void block_signals(struct server *server)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of the call that writes */
	sigemptyset(&server->signals);
	sigaddset(&server->signals, SIGTERM);
	sigaddset(&server->signals, SIGINT);
	sigaddset(&server->signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &server->signals, NULL);
}

static int start_log(char *error)
{
	int r = maas_log_start();

	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "no thread for the log: %s", strerror(-r));
	return r;
}

/* As maasd_options_agree(), by where the server listens: a name may stand for any address. */
static int check_plaintext(const struct server *server, const struct maasd_options *options,
			   char *error)
{
	const char *open = maasd_announce_public(server->http);

	if (!open || !options->auth_file || options->insecure_plaintext || options->tls_cert)
		return 0;
	snprintf(error, MAASD_OPTIONS_ERROR,
		 "tokens would travel in clear on %s; see --insecure-plaintext", open);
	return -EINVAL;
}

/* Now that the server listens: memory that had principals may be everybody's. */
static int open_memory(const struct server *server, const struct maasd_options *options,
		       char *error)
{
	int r = options->auth_file ? 0 : maas_lend_set_auth(server->lend, NULL);

	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "%s", strerror(-r));
	return r;
}

static int start(struct server *server, struct maasd_options *options, char *error)
{
	int r;

	block_signals(server);
	r = start_log(error);
	maasd_options_warn_environment(environ);
	if (!r)
		r = maasd_machine_raise_files(options, error);
	if (!r && maasd_options_given(options, MAASD_OPTION_NUMA_NODE))
		r = maasd_machine_bind_node(options->numa_node, error);
	if (!r)
		r = open_pool(server, options, error);
	if (!r)
		r = maasd_serve_open_rdma(options, server->slab, error, &server->rdma);
	if (!r)
		r = maasd_auth_check_rdma(options, server->rdma, error);
	if (!r)
		r = open_lend(server, options, error);
	if (!r)
		r = maasd_auth_start(&server->auth, options, server->lend, error);
	if (!r)
		r = listen_rdma(server, error);
	if (!r)
		r = maasd_tls_start(&server->tls, options, error);
	if (!r)
		r = start_http(server, options, error);
	if (!r)
		r = check_plaintext(server, options, error);
	if (!r)
		r = open_memory(server, options, error);
	if (!r)
		r = start_housekeeping(server, error);
	return r;
}

static void stop(struct server *server, bool served)
{
	maasd_housekeeping_stop(server->housekeeping);
	maas_http_stop(server->http);
	maasd_tls_stop(&server->tls);
	maas_rdma_stop(server->rdma);
	if (served)
		maas_lend_close(server->lend);
	else
		maas_lend_discard(server->lend);
	if (server->rdma && !maas_rdma_close(server->rdma))
		maas_slab_set_remote(server->slab, false);
	if (served)
		maas_slab_close(server->slab);
	else
		maas_slab_discard(server->slab);
	maas_buf_fini(&server->isolation);
	maas_log_stop();
}

/* ---- signals */

static unsigned int reload(struct server *server, bool always)
{
	struct maasd_reload *const parts[] = {&server->auth.reload, &server->tls.reload};

	return maasd_reload(parts, MAAS_ARRAY_SIZE(parts), always, server->http);
}

static void on_hangup(struct server *server)
{
	maas_log_reopen();
	if (server->http)
		(void)reload(server, true);
}

/* The signal that asks for the end, or 0 after `timeout_ms`. */
static int wait_signal(struct server *server, int timeout_ms)
{
	const uint64_t end_ms = maas_clock_ms() + (uint64_t)timeout_ms;
	int signal;

	for (;;) {
		uint64_t now_ms = maas_clock_ms();
		uint64_t left_ms = now_ms < end_ms ? end_ms - now_ms : 0;
		struct timespec timeout = {(time_t)(left_ms / 1000),
					   (long)(left_ms % 1000) * 1000000L};

		signal = sigtimedwait(&server->signals, NULL, &timeout);
		if (signal == SIGHUP)
			on_hangup(server);
		else if (signal > 0)
			return signal;
		else if (errno == EAGAIN)
			return 0;
	}
}

/* Waits, and ends the program at once when a second signal asks for it. */
static void wait_impatient(struct server *server, int timeout_ms)
{
	int signal = wait_signal(server, timeout_ms);

	if (!signal)
		return;
	log_warn("second signal, ending at once signal=%s", strsignal(signal));
	maas_log_flush();
	_exit(128 + signal);
}

/* The end of what the drain has left, which can take a while: a second signal does not wait. */
static void end_by_signals(const struct server *server)
{
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	pthread_sigmask(SIG_UNBLOCK, &server->signals, NULL);
}

static void drain(struct server *server, const struct maasd_options *options)
{
	uint64_t end_ms;

	maas_http_drain(server->http);
	if (options->drain_delay_s)
		wait_impatient(server, (int)options->drain_delay_s * 1000);
	maas_http_close(server->http);
	end_ms = maas_clock_ms() + options->drain_timeout_s * UINT64_C(1000);
	while (maas_http_active(server->http)) {
		if (maas_clock_ms() >= end_ms) {
			log_warn("requests cut off at the end count=%llu --drain-timeout=%u",
				 (unsigned long long)maas_http_active(server->http),
				 options->drain_timeout_s);
			return;
		}
		wait_impatient(server, DRAIN_POLL_MS);
	}
}

/* The start failed, or was asked to end. Returns the program's exit code. */
static int give_up(struct server *server, const struct maasd_options *options, const char *error)
{
	if (server->signal) {
		log_info("ending before the start was done signal=%s", strsignal(server->signal));
	} else {
		maas_log_say("maasd: %s", error);
		if (options->log_file)
			log_err("cannot start: %s", error);
	}
	stop(server, false);
	return server->signal ? EXIT_SUCCESS : MAASD_EXIT_FAILURE;
}

int maasd_serve(struct maasd_options *options)
{
	char error[MAASD_OPTIONS_ERROR] = "no random numbers from the kernel";
	struct server server = {0};
	unsigned int look_ms;
	int signal;

	if (start(&server, options, error))
		return give_up(&server, options, error);
	maasd_announce(options, server.http, server.rdma);
	look_ms = reload(&server, false);
	do {
		signal = wait_signal(&server, (int)look_ms);
		look_ms = reload(&server, false);
		maasd_tls_look(&server.tls);
	} while (!signal);
	sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
		   (options->drain_delay_s + options->drain_timeout_s + END_S) * 1000000ull);
	log_info("ending signal=%s requests=%llu", strsignal(signal),
		 (unsigned long long)maas_http_active(server.http));
	drain(&server, options);
	end_by_signals(&server);
	stop(&server, true);
	return EXIT_SUCCESS;
}
