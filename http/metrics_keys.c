/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keys say of themselves. Without RDMA every gauge is 0 and the histograms are empty, so
 * that a rule over many servers needs no case for those that have none.
 */
#include <inttypes.h>

#include "http/internal.h"

static void write_queue_pairs(struct maas_buf *out, const struct maas_lend_key_stats *stats)
{
	maas_http_metric_head(out, "maas_rdma_queue_pairs", "gauge",
			      "Connections of sessions, by state.");
	maas_buf_printf(out,
			"maas_rdma_queue_pairs{state=\"connecting\"} %" PRIu64 "\n"
			"maas_rdma_queue_pairs{state=\"connected\"} %" PRIu64 "\n"
			"maas_rdma_queue_pairs{state=\"ending\"} %" PRIu64 "\n",
			stats->connecting, stats->connected, stats->ending);
}

static void write_times(struct maas_buf *out, const char *op,
			const struct maas_lend_key_times *times)
{
	uint64_t count = 0;

	for (unsigned int i = 0; i < MAAS_LEND_KEY_BUCKETS; i++) {
		count += times->buckets[i];
		maas_buf_printf(out,
				"maas_rdma_key_seconds_bucket{op=\"%s\",le=\"%g\"} %" PRIu64 "\n",
				op, (double)maas_lend_key_bounds_ns[i] / 1e9, count);
	}
	count += times->buckets[MAAS_LEND_KEY_BUCKETS];
	maas_buf_printf(out,
			"maas_rdma_key_seconds_bucket{op=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
			"maas_rdma_key_seconds_sum{op=\"%s\"} %.9f\n"
			"maas_rdma_key_seconds_count{op=\"%s\"} %" PRIu64 "\n",
			op, count, op, (double)times->sum_ns / 1e9, op, count);
}

static void write_counts(struct maas_buf *out, const char *name, const char *label,
			 const struct maas_lend_key_count *counts)
{
	for (unsigned int i = 0; i < MAAS_LEND_KEY_COUNTS && counts[i].name; i++)
		maas_buf_printf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, counts[i].name,
				counts[i].count);
}

void maas_http_key_metrics(struct maas_http *http, struct maas_buf *out)
{
	struct maas_lend_key_stats stats;

	maas_http_key_stats(http, &stats);
	maas_http_metric(out, "maas_rdma_up", "gauge",
			 "1 while keys are granted; 0 without RDMA, or when its device is gone.",
			 maas_http_keys_work(http));
	maas_http_metric(out, "maas_rdma_isolated", "gauge",
			 "1 if the start found that a key opens its own bytes alone.",
			 http->options.rdma.isolated);
	write_queue_pairs(out, &stats);
	maas_http_metric(out, "maas_rdma_grants", "gauge", "Keys that are granted.", stats.grants);
	maas_http_metric(out, "maas_rdma_registered_bytes", "gauge",
			 "Bytes of the pool that are registered with the device.",
			 stats.registered_bytes);
	maas_http_metric(out, "maas_rdma_wanted_bytes", "gauge",
			 "Bytes of the pool that are to be registered.", stats.wanted_bytes);
	maas_http_metric_head(out, "maas_rdma_key_seconds", "histogram",
			      "From the order to make or kill a key to its confirmation.");
	write_times(out, "bind", &stats.bind);
	write_times(out, "revoke", &stats.revoke);
	maas_http_metric_head(out, "maas_rdma_errors_total", "counter",
			      "Work completions that failed, by status.");
	write_counts(out, "maas_rdma_errors_total", "status", stats.errors);
	maas_http_metric_head(out, "maas_rdma_rejects_total", "counter",
			      "Connections refused, by reason.");
	write_counts(out, "maas_rdma_rejects_total", "reason", stats.rejects);
}
