/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: what is counted, and how it is written. Relaxed atomics: any thread. */
#ifndef MAAS_HTTP_METRICS_H
#define MAAS_HTTP_METRICS_H

#include <stdatomic.h>

#include "http/calls.h"
#include "http/identity.h"
#include "http/parse.h"

struct maas_http;

#define MAAS_HTTP_CODES	  18
#define MAAS_HTTP_BUCKETS 14
#define MAAS_HTTP_UNKNOWN MAAS_HTTP_NUM_CALLS /* the index of no route */

enum maas_http_failure {
	MAAS_HTTP_FAIL_TOO_LARGE,
	MAAS_HTTP_FAIL_POOL_EXHAUSTED,
	MAAS_HTTP_FAIL_UNKNOWN_SESSION,
	MAAS_HTTP_FAIL_NOT_CONNECTED,
	MAAS_HTTP_FAIL_GRANTS_EXHAUSTED,
	MAAS_HTTP_FAIL_DEVICE_LIMIT,
	MAAS_HTTP_FAIL_QUOTA_EXHAUSTED,
	MAAS_HTTP_FAIL_OTHER,
	MAAS_HTTP_FAILURES,
};

struct maas_http_metrics {
	_Atomic uint64_t requests[MAAS_HTTP_NUM_CALLS + 1][MAAS_HTTP_METHODS][MAAS_HTTP_CODES];
	_Atomic uint64_t buckets[MAAS_HTTP_NUM_CALLS + 1][MAAS_HTTP_METHODS][MAAS_HTTP_BUCKETS + 1];
	_Atomic uint64_t duration_ns[MAAS_HTTP_NUM_CALLS + 1][MAAS_HTTP_METHODS];
	_Atomic uint64_t failures[MAAS_HTTP_FAILURES];
	_Atomic uint64_t auth_failures[MAAS_HTTP_AUTH_FAILURES];
	_Atomic uint64_t reload_failed; /* the last reading of the configuration */
	_Atomic uint64_t reloaded_s;	/* when the last one that did not fail was */
	_Atomic uint64_t active;
	_Atomic uint64_t connections;
	_Atomic uint64_t timeouts; /* connections that were cut for being slow */
	_Atomic uint64_t refused;  /* connections that were closed because there were too many */
};

/* What one method of one route was asked for since the start. */
struct maas_http_operation {
	uint64_t count;	 /* answered */
	uint64_t errors; /* of them, with 400 or more */
	uint64_t duration_ns;
	uint64_t buckets[MAAS_HTTP_BUCKETS + 1]; /* not cumulative */
};

/* The upper bounds of the buckets; the last bucket has none. */
extern const uint64_t maas_http_bucket_us[MAAS_HTTP_BUCKETS];

void maas_http_metrics_operation(const struct maas_http_metrics *metrics, unsigned int route,
				 unsigned int method, struct maas_http_operation *ret);

/* Counts one request. */
void maas_http_metrics_request(struct maas_http_metrics *metrics, unsigned int route,
			       enum maas_http_method method, unsigned int status, uint64_t ns);
/* Writes # HELP and # TYPE. */
void maas_http_metric_head(struct maas_buf *out, const char *name, const char *type,
			   const char *help);
/* Writes a metric without labels, with its head. */
void maas_http_metric(struct maas_buf *out, const char *name, const char *type, const char *help,
		      uint64_t value);
/* Write the metrics of the process, and those of RDMA. */
void maas_http_process_metrics(struct maas_buf *out);
void maas_http_key_metrics(struct maas_http *http, struct maas_buf *out);

#endif
