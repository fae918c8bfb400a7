/* SPDX-License-Identifier: Apache-2.0 */
/* GET /health, /ready and /stats: how the server is. */
#include <string.h>

#include "http/internal.h"

/* ---- GET /health */

static void write_rdma(struct maas_buf *out, const struct maas_http_rdma *rdma)
{
	maas_http_write_text(out, "{\"device\":", rdma->device);
	maas_http_write_text(out, ",\"gid\":", rdma->gid);
	maas_buf_str(out, ",\"port\":");
	if (rdma->port)
		maas_buf_u64(out, rdma->port);
	else
		maas_buf_str(out, "null");
	maas_http_write_text(out, ",\"keys\":", rdma->keys);
	maas_buf_str(out, ",\"isolation\":");
	maas_buf_str(out, rdma->isolation_json ? rdma->isolation_json : "null");
	maas_buf_str(out, ",\"state\":");
}

/* The classes, so that a client knows what a request takes and how large one may be. */
static void write_slab_sizes(struct maas_buf *out, struct maas_slab *slab)
{
	struct maas_slab_stats stats;

	maas_slab_stats(slab, &stats);
	for (unsigned int i = 0; i < stats.num_classes; i++) {
		maas_buf_str(out, i ? "," : ",\"slab_sizes\":[");
		maas_buf_u64(out, stats.classes[i].slab_bytes);
	}
	maas_buf_str(out, "]");
}

void maas_http_health_head(const struct maas_http_options *options, struct maas_buf *out)
{
	maas_buf_str(out, "{\"status\":\"healthy\",\"service\":\"memory-as-a-service\","
			  "\"version\":\"" MAAS_VERSION "\",\"arena_id\":");
	maas_buf_json(out, maas_slab_arena_id(options->slab));
	maas_buf_str(out, ",\"boot_id\":");
	maas_buf_json(out, options->boot_id ? options->boot_id : "");
	write_slab_sizes(out, options->slab);
	maas_buf_str(out, ",\"rdma\":");
	write_rdma(out, &options->rdma);
}

bool maas_http_key_stats(struct maas_http *http, struct maas_lend_key_stats *ret_stats)
{
	if (http->has_keys && maas_lend_key_stats(http->options.lend, ret_stats))
		return true;
	memset(ret_stats, 0, sizeof(*ret_stats));
	return false;
}

bool maas_http_keys_work(struct maas_http *http)
{
	struct maas_lend_key_stats keys;

	return maas_http_key_stats(http, &keys) && !strcmp(keys.state, "active");
}

static void write_state(struct maas_http *http, struct maas_buf *out)
{
	const char *state = http->options.rdma.state;
	struct maas_lend_key_stats keys;

	if (maas_http_key_stats(http, &keys))
		state = keys.state;
	maas_buf_str(out, "\"");
	maas_buf_str(out, state ? state : "off"); /* a word of ours */
	maas_buf_str(out, "\"");
}

int maas_http_health(struct maas_http_conn *conn)
{
	struct maas_http *http = conn->http;
	struct maas_buf *out = &conn->out;
	struct maas_slab_stats stats;

	if (!maas_http_may_look(conn)) {
		maas_buf_str(out, "{\"status\":\"healthy\","
				  "\"service\":\"memory-as-a-service\"}\n");
		return maas_http_reply(conn, MHD_HTTP_OK);
	}
	maas_slab_stats(http->options.slab, &stats);
	maas_buf_add(out, http->health_head.data, http->health_head.len);
	write_state(http, out);
	maas_http_write_number(out, "},\"timestamp\":", maas_clock_wall_s());
	maas_http_write_number(out, ",\"uptime_seconds\":",
			       (conn->req.start_ns - http->started_ns) / UINT64_C(1000000000));
	maas_http_write_number(out, ",\"memory\":{\"max_pool_size\":", stats.max_bytes);
	maas_http_write_number(out, ",\"backed_bytes\":", stats.backed_bytes);
	maas_http_write_number(out, ",\"allocated_bytes\":", stats.live_bytes);
	maas_http_write_number(out, ",\"in_use_bytes\":", stats.requested_bytes);
	maas_buf_str(out, "}}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* ---- GET /ready */

static int not_ready(struct maas_http_conn *conn, const struct maas_lend_key_stats *keys,
		     const char *status, const char *message)
{
	struct maas_buf *out = &conn->out;

	maas_buf_str(out, "{\"status\":\"");
	maas_buf_str(out, status);
	maas_http_write_number(out, "\",\"bytes_registered\":", keys->registered_bytes);
	maas_http_write_number(out, ",\"bytes_total\":", keys->wanted_bytes);
	maas_buf_str(out, ",\"error\":{\"code\":\"");
	maas_buf_str(out, status);
	maas_buf_str(out, "\",\"message\":\"");
	maas_buf_str(out, message);
	maas_buf_str(out, "\"}}\n");
	return maas_http_reply(conn, MHD_HTTP_SERVICE_UNAVAILABLE);
}

enum maas_http_readiness maas_http_readiness(const struct maas_http *http,
					     const struct maas_lend_key_stats *keys)
{
	if (atomic_load_explicit(&http->draining, memory_order_relaxed))
		return MAAS_HTTP_DRAINING;
	return keys->registered_bytes < keys->wanted_bytes ? MAAS_HTTP_REGISTERING
							   : MAAS_HTTP_READY;
}

const char *maas_http_readiness_name(enum maas_http_readiness readiness)
{
	static const char *const names[] = {
		[MAAS_HTTP_READY] = "ready",
		[MAAS_HTTP_REGISTERING] = "registering",
		[MAAS_HTTP_DRAINING] = "draining",
	};

	return names[readiness];
}

int maas_http_ready(struct maas_http_conn *conn)
{
	struct maas_lend_key_stats keys;
	enum maas_http_readiness readiness;

	maas_http_key_stats(conn->http, &keys);
	readiness = maas_http_readiness(conn->http, &keys);
	if (!maas_http_may_look(conn))
		keys.registered_bytes = keys.wanted_bytes = 0;
	if (readiness == MAAS_HTTP_DRAINING)
		return not_ready(conn, &keys, maas_http_readiness_name(readiness),
				 "the server is ending; go to another");
	if (readiness == MAAS_HTTP_REGISTERING)
		return not_ready(conn, &keys, maas_http_readiness_name(readiness),
				 "the pool is being registered with the RDMA device; wait");
	maas_buf_str(&conn->out, "{\"status\":\"ready\"}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* ---- GET /stats */

static void write_class(struct maas_buf *out, const struct maas_slab_class_stats *class)
{
	maas_http_write_number(out, "{\"slab_size\":", class->slab_bytes);
	maas_http_write_number(out, ",\"total_slabs\":", class->total_slabs);
	maas_http_write_number(out, ",\"free_slabs\":", class->free_slabs);
	maas_http_write_number(out, ",\"used_slabs\":", class->used_slabs);
	maas_http_write_number(out, ",\"waiting_slabs\":", class->waiting_slabs);
	maas_http_write_number(out, ",\"quarantined_slabs\":", class->quarantined_slabs);
	maas_http_write_number(out, ",\"allocated_bytes\":", class->used_slabs * class->slab_bytes);
	maas_http_write_number(out, ",\"requested_bytes\":", class->requested_bytes);
	maas_buf_str(out, "}");
}

static void write_sessions(struct maas_buf *out, const struct maas_lend_stats *stats)
{
	maas_http_write_number(out, "],\"sessions\":{\"active\":", stats->sessions);
	maas_http_write_number(out, ",\"lapsed\":", stats->lapsed_sessions);
	maas_http_write_number(out,
			       "},\"leases\":{\"lapsed_allocations\":", stats->lapsed_allocations);
	maas_http_write_number(out, "},\"owners\":", stats->owners);
	maas_http_write_number(out, ",\"request_ids\":", stats->request_ids);
	maas_http_write_number(out, ",\"transfers\":{\"active\":", stats->transfers);
	maas_http_write_number(out, ",\"forced\":", stats->forced_transfers);
	maas_http_write_number(out, ",\"pending_frees\":", stats->pending_frees);
	maas_buf_str(out, "}");
}

static void write_keys(struct maas_http *http, struct maas_buf *out)
{
	struct maas_lend_key_stats keys;

	if (!maas_http_key_stats(http, &keys)) {
		maas_buf_str(out, ",\"rdma\":null}\n");
		return;
	}
	maas_http_write_number(out, ",\"rdma\":{\"connections\":", keys.connected);
	maas_http_write_number(out, ",\"grants\":", keys.grants);
	maas_http_write_number(out, ",\"registered_bytes\":", keys.registered_bytes);
	maas_buf_str(out, "}}\n");
}

static void write_u64_or_null(struct maas_buf *out, const char *key, bool known, uint64_t value)
{
	if (known)
		maas_http_write_number(out, key, value);
	else
		maas_buf_printf(out, "%snull", key);
}

void maas_http_read_limit(struct maas_http *http)
{
	uint64_t limit_bytes;

	if (!maas_slab_in_memory(http->options.slab) ||
	    maas_cgroup_memory("/proc/self", &limit_bytes))
		limit_bytes = UINT64_MAX;
	atomic_store_explicit(&http->limit_bytes, limit_bytes, memory_order_relaxed);
}

static void write_room(struct maas_http *http, struct maas_buf *out)
{
	uint64_t room_bytes = maas_slab_room_left(http->options.slab);
	uint64_t limit_bytes = atomic_load_explicit(&http->limit_bytes, memory_order_relaxed);

	write_u64_or_null(out, ",\"room_bytes\":", room_bytes != UINT64_MAX, room_bytes);
	write_u64_or_null(out, ",\"memory_limit_bytes\":", limit_bytes != UINT64_MAX, limit_bytes);
}

int maas_http_stats(struct maas_http_conn *conn)
{
	struct maas_buf *out = &conn->out;
	struct maas_slab_stats slab;
	struct maas_lend_stats lend;

	maas_slab_stats(conn->http->options.slab, &slab);
	maas_lend_stats(conn->http->options.lend, &lend);
	maas_http_write_number(out, "{\"total_allocations\":", slab.allocations);
	maas_http_write_number(out, ",\"active_allocations\":", slab.live_slabs);
	maas_http_write_number(out, ",\"total_allocated_bytes\":", slab.live_bytes);
	maas_http_write_number(out, ",\"total_in_use_bytes\":", slab.requested_bytes);
	maas_buf_str(out, ",\"total_allocated_mb\":");
	maas_http_write_mib(out, slab.live_bytes);
	maas_buf_str(out, ",\"total_in_use_mb\":");
	maas_http_write_mib(out, slab.requested_bytes);
	maas_http_write_number(out, ",\"max_pool_size\":", slab.max_bytes);
	maas_http_write_number(out, ",\"backed_bytes\":", slab.backed_bytes);
	write_room(conn->http, out);
	maas_http_write_number(out, ",\"quarantined_bytes\":", slab.quarantined_bytes);
	maas_buf_printf(out, ",\"utilization_percent\":%.2f,\"pool_stats\":[",
			100.0 * (double)slab.live_bytes / (double)slab.max_bytes);
	for (unsigned int i = 0; i < slab.num_classes; i++) {
		if (i)
			maas_buf_str(out, ",");
		write_class(out, &slab.classes[i]);
	}
	write_sessions(out, &lend);
	write_keys(conn->http, out);
	return maas_http_reply(conn, MHD_HTTP_OK);
}
