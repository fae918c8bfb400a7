/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/ */
#include <inttypes.h>

#include "http/internal.h"

/* The codes that this server answers; the last row takes what is not among them. */
static const unsigned int codes[MAAS_HTTP_CODES] = {200, 206, 400, 401, 403, 404, 405, 409, 411,
						    413, 415, 416, 429, 431, 500, 503, 507};

const uint64_t maas_http_bucket_us[MAAS_HTTP_BUCKETS] = {50,	 100,	  250,	   500,	    1000,
							 2500,	 5000,	  10000,   25000,   100000,
							 250000, 1000000, 2500000, 10000000};

static const char *const failure_names[MAAS_HTTP_FAILURES] = {
	[MAAS_HTTP_FAIL_TOO_LARGE] = "too_large",
	[MAAS_HTTP_FAIL_POOL_EXHAUSTED] = "pool_exhausted",
	[MAAS_HTTP_FAIL_UNKNOWN_SESSION] = "unknown_session",
	[MAAS_HTTP_FAIL_NOT_CONNECTED] = "not_connected",
	[MAAS_HTTP_FAIL_GRANTS_EXHAUSTED] = "grants_exhausted",
	[MAAS_HTTP_FAIL_DEVICE_LIMIT] = "device_limit",
	[MAAS_HTTP_FAIL_QUOTA_EXHAUSTED] = "quota_exhausted",
	[MAAS_HTTP_FAIL_OTHER] = "other",
};

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

/* A request whose connection broke before an answer has the status 0 and is not counted. */
void maas_http_metrics_request(struct maas_http_metrics *metrics, unsigned int route,
			       enum maas_http_method method, unsigned int status, uint64_t ns)
{
	unsigned int code = 0;
	unsigned int bucket = 0;

	if (!status)
		return;
	while (code < MAAS_HTTP_CODES - 1 && codes[code] != status)
		code++;
	while (bucket < MAAS_HTTP_BUCKETS && ns > maas_http_bucket_us[bucket] * 1000u)
		bucket++;
	add(&metrics->requests[route][method][code], 1);
	add(&metrics->buckets[route][method][bucket], 1);
	add(&metrics->duration_ns[route][method], ns);
}

void maas_http_metrics_operation(const struct maas_http_metrics *metrics, unsigned int route,
				 unsigned int method, struct maas_http_operation *ret)
{
	*ret = (struct maas_http_operation){
		.duration_ns = get(&metrics->duration_ns[route][method]),
	};
	for (unsigned int i = 0; i <= MAAS_HTTP_BUCKETS; i++) {
		ret->buckets[i] = get(&metrics->buckets[route][method][i]);
		ret->count += ret->buckets[i];
	}
	for (unsigned int code = 0; code < MAAS_HTTP_CODES; code++)
		if (!codes[code] || codes[code] >= MHD_HTTP_BAD_REQUEST)
			ret->errors += get(&metrics->requests[route][method][code]);
}

void maas_http_metric_head(struct maas_buf *out, const char *name, const char *type,
			   const char *help)
{
	maas_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void maas_http_metric(struct maas_buf *out, const char *name, const char *type, const char *help,
		      uint64_t value)
{
	maas_http_metric_head(out, name, type, help);
	maas_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

/* ---- the pool */

static void write_classes(struct maas_buf *out, const struct maas_slab_stats *stats)
{
	maas_http_metric_head(out, "maas_allocation_size_bytes", "gauge",
			      "Bytes of slabs lent, by slab class.");
	for (unsigned int i = 0; i < stats->num_classes; i++)
		maas_buf_printf(
			out, "maas_allocation_size_bytes{slab_size=\"%" PRIu64 "\"} %" PRIu64 "\n",
			stats->classes[i].slab_bytes,
			stats->classes[i].used_slabs * stats->classes[i].slab_bytes);
	maas_http_metric_head(out, "maas_pool_size_bytes", "gauge",
			      "Bytes carved for a slab class, lent or not.");
	for (unsigned int i = 0; i < stats->num_classes; i++)
		maas_buf_printf(out,
				"maas_pool_size_bytes{slab_size=\"%" PRIu64 "\"} %" PRIu64 "\n",
				stats->classes[i].slab_bytes, stats->classes[i].pool_bytes);
	maas_http_metric_head(out, "maas_pool_slabs", "gauge", "Slabs of a class, by state.");
	for (unsigned int i = 0; i < stats->num_classes; i++) {
		const struct maas_slab_class_stats *class = &stats->classes[i];
		const struct {
			const char *state;
			uint64_t slabs;
		} states[] = {{"used", class->used_slabs},
			      {"free", class->free_slabs},
			      {"waiting", class->waiting_slabs},
			      {"quarantined", class->quarantined_slabs}};

		for (size_t j = 0; j < MAAS_ARRAY_SIZE(states); j++)
			maas_buf_printf(out,
					"maas_pool_slabs{slab_size=\"%" PRIu64
					"\",state=\"%s\"} %" PRIu64 "\n",
					class->slab_bytes, states[j].state, states[j].slabs);
	}
}

static void write_pool(struct maas_buf *out, const struct maas_slab_stats *stats,
		       uint64_t created_s)
{
	maas_http_metric(out, "maas_active_allocations", "gauge", "Allocations that are lent now.",
			 stats->live_slabs);
	maas_http_metric(out, "maas_allocations_total", "counter", "Allocations since the start.",
			 stats->allocations);
	maas_http_metric(out, "maas_frees_total", "counter", "Allocations freed since the start.",
			 stats->frees);
	write_classes(out, stats);
	maas_http_metric(out, "maas_pool_max_bytes", "gauge", "Bytes that the pool may grow to.",
			 stats->max_bytes);
	maas_http_metric(out, "maas_pool_backed_bytes", "gauge",
			 "Bytes of the pool that hold memory.", stats->backed_bytes);
	maas_http_metric(
		out, "maas_arena_created_seconds", "gauge",
		"When the memory was made, since 1970; a restart that keeps it leaves this as "
		"it was. 0: an earlier version made it.",
		created_s);
	maas_http_metric_head(out, "maas_utilization_percent", "gauge",
			      "Lent bytes of slabs in the whole pool.");
	maas_buf_printf(out, "maas_utilization_percent %.4f\n",
			100.0 * (double)stats->live_bytes / (double)stats->max_bytes);
	maas_http_metric(out, "maas_quarantined_bytes", "gauge",
			 "Bytes kept out of use because a key to them could not be confirmed dead.",
			 stats->quarantined_bytes);
}

static void write_lend(struct maas_buf *out, const struct maas_lend_stats *stats)
{
	maas_http_metric(out, "maas_sessions", "gauge", "Sessions that are open.", stats->sessions);
	maas_http_metric(out, "maas_sessions_lapsed_total", "counter",
			 "Sessions ended by their lease.", stats->lapsed_sessions);
	maas_http_metric(out, "maas_allocations_lapsed_total", "counter",
			 "Allocations freed by their lease.", stats->lapsed_allocations);
	maas_http_metric(out, "maas_owners", "gauge", "Different owners of allocations.",
			 stats->owners);
	maas_http_metric(out, "maas_transfers", "gauge", "Reads and writes of data under way.",
			 stats->transfers);
	maas_http_metric(out, "maas_transfers_forced_total", "counter",
			 "Transfers that a free ended by closing their connection.",
			 stats->forced_transfers);
	maas_http_metric(out, "maas_pending_frees", "gauge",
			 "Frees that wait for a key or a transfer.", stats->pending_frees);
}

/* ---- the control plane */

/* Codes that somebody should look at. They begin at 0, as rate() does not see what a series begins
 * with. */
static bool is_watched(unsigned int status)
{
	return status >= MHD_HTTP_INTERNAL_SERVER_ERROR || status == MHD_HTTP_UNAUTHORIZED ||
	       status == MHD_HTTP_FORBIDDEN || status == MHD_HTTP_TOO_MANY_REQUESTS;
}

static void write_code(struct maas_buf *out, const struct maas_http_metrics *metrics,
		       unsigned int route, unsigned int method, unsigned int code)
{
	const char *pattern = maas_http_route_pattern(route);
	uint64_t count = get(&metrics->requests[route][method][code]);

	if (!count && !is_watched(codes[code]))
		return;
	maas_buf_printf(out, "maas_http_requests_total{method=\"%s\",route=\"%s\",",
			maas_http_method_name((enum maas_http_method)method),
			pattern ? pattern : "other");
	if (codes[code])
		maas_buf_printf(out, "code=\"%u\"} %" PRIu64 "\n", codes[code], count);
	else
		maas_buf_printf(out, "code=\"other\"} %" PRIu64 "\n", count);
}

static void write_requests(struct maas_buf *out, const struct maas_http_metrics *metrics)
{
	struct maas_http_operation operation;

	maas_http_metric_head(out, "maas_http_requests_total", "counter", "Requests answered.");
	for (unsigned int route = 0; route <= MAAS_HTTP_UNKNOWN; route++)
		for (unsigned int method = 0; method < MAAS_HTTP_METHODS; method++) {
			maas_http_metrics_operation(metrics, route, method, &operation);
			for (unsigned int code = 0; operation.count && code < MAAS_HTTP_CODES;
			     code++)
				write_code(out, metrics, route, method, code);
		}
}

/* Those of all operations. */
static void sum_operations(const struct maas_http_metrics *metrics, struct maas_http_operation *ret)
{
	struct maas_http_operation one;

	*ret = (struct maas_http_operation){0};
	for (unsigned int route = 0; route <= MAAS_HTTP_UNKNOWN; route++)
		for (unsigned int method = 0; method < MAAS_HTTP_METHODS; method++) {
			maas_http_metrics_operation(metrics, route, method, &one);
			ret->duration_ns += one.duration_ns;
			for (unsigned int i = 0; i <= MAAS_HTTP_BUCKETS; i++)
				ret->buckets[i] += one.buckets[i];
		}
}

static void write_durations(struct maas_buf *out, const struct maas_http_metrics *metrics)
{
	struct maas_http_operation all;
	uint64_t count = 0;

	sum_operations(metrics, &all);
	maas_http_metric_head(out, "maas_http_request_duration_seconds", "histogram",
			      "From a request's headers to the end of its answer.");
	for (unsigned int i = 0; i < MAAS_HTTP_BUCKETS; i++) {
		count += all.buckets[i];
		maas_buf_printf(
			out, "maas_http_request_duration_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
			(double)maas_http_bucket_us[i] / 1e6, count);
	}
	count += all.buckets[MAAS_HTTP_BUCKETS];
	maas_buf_printf(out,
			"maas_http_request_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
			"maas_http_request_duration_seconds_sum %.9f\n"
			"maas_http_request_duration_seconds_count %" PRIu64 "\n",
			count, (double)all.duration_ns / 1e9, count);
}

static void write_server(struct maas_buf *out, const struct maas_http_metrics *metrics,
			 unsigned int max_connections)
{
	maas_http_metric_head(out, "maas_allocation_failures_total", "counter",
			      "Allocations, and keys to them, that were refused.");
	for (unsigned int i = 0; i < MAAS_HTTP_FAILURES; i++)
		maas_buf_printf(out, "maas_allocation_failures_total{reason=\"%s\"} %" PRIu64 "\n",
				failure_names[i], get(&metrics->failures[i]));
	maas_http_metric_head(out, "maas_auth_failures_total", "counter",
			      "Requests that were refused for want of a proof or a right.");
	for (int i = 0; i < MAAS_HTTP_AUTH_FAILURES; i++)
		maas_buf_printf(out, "maas_auth_failures_total{reason=\"%s\"} %" PRIu64 "\n",
				maas_http_auth_failure_name((enum maas_http_auth_failure)i),
				get(&metrics->auth_failures[i]));
	write_requests(out, metrics);
	write_durations(out, metrics);
	maas_http_metric(out, "maas_config_last_reload_successful", "gauge",
			 "1 if the configuration could be read the last time.",
			 !get(&metrics->reload_failed));
	maas_http_metric(out, "maas_config_last_reload_success_timestamp_seconds", "gauge",
			 "When the configuration was read last.", get(&metrics->reloaded_s));
	maas_http_metric(out, "maas_http_active_requests", "gauge", "Requests under way.",
			 get(&metrics->active));
	maas_http_metric(out, "maas_http_connections", "gauge", "Open connections.",
			 get(&metrics->connections));
	maas_http_metric(out, "maas_http_max_connections", "gauge",
			 "Connections that each address of --listen takes.", max_connections);
	maas_http_metric(out, "maas_http_refused_connections_total", "counter",
			 "Connections closed at once, and requests refused, because there were too "
			 "many connections.",
			 get(&metrics->refused));
	maas_http_metric(out, "maas_http_slow_connections_total", "counter",
			 "Connections closed because they took too long.", get(&metrics->timeouts));
	maas_http_metric(out, "maas_log_dropped_total", "counter",
			 "Log lines dropped because the log did not take them.",
			 maas_log_dropped());
	maas_http_metric_head(out, "maas_build_info", "gauge", "The version that runs; always 1.");
	maas_buf_str(out, "maas_build_info{version=\"" MAAS_VERSION "\"} 1\n");
}

/* What principals use, or may at most where there is a limit: `max` is "" or "max_". */
static void write_quota(struct maas_lend *lend, const struct maas_auth *auth, struct maas_buf *out,
			enum maas_auth_quota quota, const char *max)
{
	const char *what = maas_auth_quota_name(quota);
	const struct maas_auth_principal *principal;
	struct maas_lend_usage usage;

	maas_buf_printf(
		out, "# HELP maas_principal_%s%s %s: %s.\n# TYPE maas_principal_%s%s gauge\n", max,
		what, *max ? "What a principal may use" : "What a principal uses", what, max, what);
	for (uint32_t i = 0; (principal = maas_auth_at(auth, i)); i++) {
		uint64_t value = principal->quota[quota];

		if (*max && value == MAAS_AUTH_UNLIMITED)
			continue;
		if (!*max && !maas_lend_usage(lend, principal->name, &usage))
			continue;
		maas_buf_printf(out, "maas_principal_%s%s{principal=\"%s\"} %" PRIu64 "\n", max,
				what, principal->name, *max ? value : usage.used[quota]);
	}
}

static void write_principals(struct maas_lend *lend, struct maas_buf *out)
{
	uint64_t epoch;
	struct maas_auth *auth = maas_lend_auth(lend, &epoch);

	for (int quota = 0; auth && quota < MAAS_AUTH_NUM_QUOTAS; quota++)
		for (int max = 0; max < 2; max++)
			write_quota(lend, auth, out, (enum maas_auth_quota)quota,
				    max ? "max_" : "");
	maas_auth_unref(auth);
}

void maas_http_reloaded(struct maas_http *http, bool ok)
{
	atomic_store_explicit(&http->metrics.reload_failed, !ok, memory_order_relaxed);
	if (ok)
		atomic_store_explicit(&http->metrics.reloaded_s, maas_clock_wall_s(),
				      memory_order_relaxed);
}

int maas_http_metrics(struct maas_http_conn *conn)
{
	struct maas_http *http = conn->http;
	struct maas_buf *out = &conn->out;
	struct maas_slab_stats slab;
	struct maas_lend_stats lend;

	maas_slab_stats(http->options.slab, &slab);
	maas_lend_stats(http->options.lend, &lend);
	write_pool(out, &slab, maas_slab_created_s(http->options.slab));
	write_lend(out, &lend);
	write_principals(http->options.lend, out);
	maas_http_key_metrics(http, out);
	maas_http_tls_metrics(&http->tls, out);
	write_server(out, &http->metrics, http->options.max_connections);
	maas_http_process_metrics(out);
	return maas_http_reply_type(conn, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
}
