/* SPDX-License-Identifier: Apache-2.0 */
/* The overview as JSON: docs/openapi.yaml says what each member is. */
#include "http/internal.h"

static void write_flag(struct maas_buf *out, const char *before, bool value)
{
	maas_buf_str(out, before);
	maas_buf_str(out, value ? "true" : "false");
}

static void write_seconds(struct maas_buf *out, const char *before, uint64_t ns)
{
	maas_buf_printf(out, "%s%.9f", before, (double)ns / 1e9);
}

/* ---- the pool */

static void write_head(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	static const char *const sights[] = {
		[MAAS_HTTP_SEES_OWN] = "own",
		[MAAS_HTTP_SEES_FIGURES] = "figures",
		[MAAS_HTTP_SEES_ALL] = "all",
	};
	const struct maas_slab *slab = conn->http->options.slab;
	const struct maas_auth_principal *principal = conn->caller.lend.principal;
	struct maas_buf *out = &conn->out;
	uint64_t expiry_s;

	maas_http_write_text(out, "{\"version\":", MAAS_VERSION);
	maas_http_write_number(out, ",\"timestamp\":", maas_clock_wall_s());
	maas_http_write_number(out, ",\"uptime_seconds\":",
			       (maas_clock_ns() - conn->http->started_ns) / UINT64_C(1000000000));
	maas_http_write_text(out, ",\"boot_id\":", conn->http->options.boot_id);
	maas_http_write_text(
		out, ",\"readiness\":",
		maas_http_readiness_name(maas_http_readiness(conn->http, &overview->keys)));
	if (maas_http_tls_expiry(&conn->http->tls, &expiry_s))
		maas_http_write_number(out, ",\"certificate_expires\":", expiry_s);
	else
		maas_buf_str(out, ",\"certificate_expires\":null");
	maas_http_write_text(out, ",\"arena\":{\"id\":", maas_slab_arena_id(slab));
	maas_http_write_number(out, ",\"created\":", maas_slab_created_s(slab));
	write_flag(out, ",\"kept\":", overview->slab.has_file);
	maas_http_write_text(out, "},\"sees\":", sights[overview->sight]);
	maas_http_write_text(out, ",\"principal\":", principal ? principal->name : NULL);
	maas_http_write_number(out, ",\"memory\":{\"max_pool_size\":", overview->slab.max_bytes);
	maas_http_write_number(out, ",\"backed_bytes\":", overview->slab.backed_bytes);
	maas_http_write_number(out, ",\"allocated_bytes\":", overview->slab.live_bytes);
	maas_http_write_number(out, ",\"in_use_bytes\":", overview->slab.requested_bytes);
	maas_http_write_number(out, ",\"extent_size\":", overview->slab.extent_bytes);
	maas_buf_str(out, "}");
}

static void write_extents(struct maas_buf *out, const struct maas_http_overview *overview)
{
	const struct maas_slab_map *map = &overview->map;

	if (!overview->has_map) {
		maas_buf_str(out, ",\"extents\":null");
		return;
	}
	maas_http_write_number(out, ",\"extents\":{\"total\":", map->extents);
	maas_http_write_number(out, ",\"per_entry\":", map->per_entry);
	maas_buf_str(out, ",\"entries\":[");
	for (uint32_t i = 0; i < map->count; i++) {
		const struct maas_slab_map_entry *entry = &map->entries[i];

		maas_http_write_number(out, i ? ",[" : "[", entry->slab_bytes);
		maas_http_write_number(out, ",", entry->slabs);
		maas_http_write_number(out, ",", entry->taken);
		maas_http_write_number(out, ",", entry->taken_bytes);
		maas_buf_str(out, "]");
	}
	maas_buf_str(out, "]}");
}

static void write_classes(struct maas_buf *out, const struct maas_http_overview *overview)
{
	if (overview->sight == MAAS_HTTP_SEES_OWN) {
		maas_buf_str(out, ",\"classes\":null");
		return;
	}
	maas_buf_str(out, ",\"classes\":[");
	for (unsigned int i = 0; i < overview->slab.num_classes; i++) {
		const struct maas_slab_class_stats *class = &overview->slab.classes[i];

		maas_http_write_number(
			out, i ? ",{\"slab_size\":" : "{\"slab_size\":", class->slab_bytes);
		maas_http_write_number(out, ",\"slabs\":", class->total_slabs);
		maas_http_write_number(out, ",\"used\":", class->used_slabs);
		maas_http_write_number(out, ",\"free\":", class->free_slabs);
		maas_http_write_number(out, ",\"waiting\":", class->waiting_slabs);
		maas_http_write_number(out, ",\"quarantined\":", class->quarantined_slabs);
		maas_http_write_number(out,
				       ",\"lent_bytes\":", class->used_slabs * class->slab_bytes);
		maas_http_write_number(out, ",\"asked_bytes\":", class->requested_bytes);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]");
}

/* ---- who holds what */

static void write_owners(struct maas_buf *out, const struct maas_lend_survey *survey)
{
	maas_http_write_number(out, ",\"owners\":{\"total\":", survey->owners_total);
	maas_buf_str(out, ",\"items\":[");
	for (uint32_t i = 0; i < survey->num_owners; i++) {
		maas_http_write_text(out,
				     i ? ",{\"owner\":" : "{\"owner\":", survey->owners[i].name);
		maas_http_write_number(out, ",\"allocations\":", survey->owners[i].allocations);
		maas_http_write_number(out, ",\"bytes\":", survey->owners[i].bytes);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]}");
}

static void write_sessions(struct maas_buf *out, const struct maas_lend_survey *survey)
{
	maas_http_write_number(out, ",\"sessions\":{\"total\":", survey->sessions_total);
	maas_buf_str(out, ",\"items\":[");
	for (uint32_t i = 0; i < survey->num_sessions; i++) {
		const struct maas_lend_session_info *info = &survey->sessions[i].info;

		maas_http_write_text(out, i ? ",{\"name\":" : "{\"name\":", info->name);
		maas_http_write_text(out, ",\"from\":", info->from);
		write_flag(out, ",\"exclusive\":", info->exclusive);
		write_flag(out, ",\"connected\":", survey->sessions[i].connected);
		maas_http_write_number(out, ",\"allocations\":", info->allocations);
		maas_http_write_number(out, ",\"age_seconds\":", info->age_s);
		maas_http_write_number(out, ",\"ttl_seconds\":", info->ttl_s);
		maas_http_write_number(out, ",\"ends_in_seconds\":", info->lease_s);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]}");
}

static void write_leases(struct maas_buf *out, const struct maas_http_overview *overview)
{
	const struct maas_lend_survey *survey = &overview->survey;
	char id[MAAS_HTTP_SHORT_ID];

	maas_buf_str(out, ",\"leases\":{\"total\":");
	if (overview->sight == MAAS_HTTP_SEES_ALL)
		maas_buf_u64(out, survey->leases_total);
	else
		maas_buf_str(out, "null");
	maas_http_write_number(out, ",\"within_seconds\":", MAAS_LEND_SURVEY_WITHIN_S);
	write_flag(out, ",\"whole\":", survey->whole);
	maas_buf_str(out, ",\"items\":[");
	for (uint32_t i = 0; i < survey->num_leases; i++) {
		const struct maas_lend_allocation *lease = &survey->leases[i];

		maas_http_short_id(lease->id, id);
		maas_http_write_text(out, i ? ",{\"id\":" : "{\"id\":", id);
		maas_http_write_text(out, ",\"owner\":", *lease->owner ? lease->owner : NULL);
		maas_http_write_number(out, ",\"bytes\":", lease->actual_size_bytes);
		maas_http_write_number(out, ",\"ttl_seconds\":", lease->ttl_s);
		maas_http_write_number(out, ",\"ends_in_seconds\":", lease->lease_s);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]}");
}

/* ---- RDMA */

static void write_times(struct maas_buf *out, const char *before,
			const struct maas_lend_key_times *times)
{
	uint64_t count = 0;

	for (unsigned int i = 0; i <= MAAS_LEND_KEY_BUCKETS; i++)
		count += times->buckets[i];
	maas_http_write_number(out, before, count);
	write_seconds(out, ",\"sum_seconds\":", times->sum_ns);
	for (unsigned int i = 0; i <= MAAS_LEND_KEY_BUCKETS; i++)
		maas_http_write_number(out, i ? "," : ",\"buckets\":[", times->buckets[i]);
	maas_buf_str(out, "]}");
}

static void write_counts(struct maas_buf *out, const char *before,
			 const struct maas_lend_key_count *counts)
{
	bool any = false;

	maas_buf_str(out, before);
	for (unsigned int i = 0; i < MAAS_LEND_KEY_COUNTS && counts[i].name; i++) {
		if (!counts[i].count)
			continue;
		maas_http_write_text(out, any ? ",{\"name\":" : "{\"name\":", counts[i].name);
		maas_http_write_number(out, ",\"count\":", counts[i].count);
		maas_buf_str(out, "}");
		any = true;
	}
	maas_buf_str(out, "]");
}

static void write_keys(struct maas_buf *out, const struct maas_http_overview *overview)
{
	const struct maas_lend_key_stats *keys = &overview->keys;

	if (!overview->has_keys || overview->sight == MAAS_HTTP_SEES_OWN) {
		maas_buf_str(out, ",\"figures\":null}");
		return;
	}
	maas_http_write_number(out, ",\"figures\":{\"connections\":", keys->connected);
	maas_http_write_number(out, ",\"grants\":", keys->grants);
	maas_http_write_number(out, ",\"registered_bytes\":", keys->registered_bytes);
	maas_http_write_number(out, ",\"wanted_bytes\":", keys->wanted_bytes);
	for (unsigned int i = 0; i < MAAS_LEND_KEY_BUCKETS; i++)
		maas_buf_printf(out, "%s%.9g", i ? "," : ",\"bucket_seconds\":[",
				(double)maas_lend_key_bounds_ns[i] / 1e9);
	write_times(out, "],\"bind\":{\"count\":", &keys->bind);
	write_times(out, ",\"revoke\":{\"count\":", &keys->revoke);
	write_counts(out, ",\"errors\":[", keys->errors);
	write_counts(out, ",\"rejects\":[", keys->rejects);
	maas_buf_str(out, "}}");
}

static void write_rdma(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	const struct maas_http_rdma *rdma = &conn->http->options.rdma;
	struct maas_http_property property;
	struct maas_buf *out = &conn->out;

	maas_http_write_text(out,
			     ",\"rdma\":{\"state\":", maas_http_rdma_state(conn->http, overview));
	maas_http_write_text(out, ",\"device\":", rdma->device);
	maas_http_write_text(out, ",\"keys\":", rdma->keys);
	write_flag(out, ",\"isolated\":", rdma->isolated);
	maas_buf_str(out, ",\"properties\":[");
	for (unsigned int i = 0; (property = maas_http_property_at(rdma, i)).name; i++) {
		maas_http_write_text(out, i ? ",{\"name\":" : "{\"name\":", property.name);
		write_flag(out, ",\"proved\":", property.proved);
		maas_http_write_text(out, ",\"text\":", property.text);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]");
	write_keys(out, overview);
}

/* ---- requests */

static void write_operation(struct maas_buf *out, const char *before,
			    const struct maas_http_operation *operation, const char *name)
{
	maas_http_write_text(out, before, name);
	maas_http_write_number(out, ",\"count\":", operation->count);
	maas_http_write_number(out, ",\"errors\":", operation->errors);
	write_seconds(out, ",\"sum_seconds\":", operation->duration_ns);
	for (unsigned int i = 0; i <= MAAS_HTTP_BUCKETS; i++)
		maas_http_write_number(out, i ? "," : ",\"buckets\":[", operation->buckets[i]);
	maas_buf_str(out, "]}");
}

static void write_operations(struct maas_buf *out, const struct maas_http_metrics *metrics)
{
	struct maas_http_operation operation;
	char name[MAAS_HTTP_OPERATION];
	bool any = false;

	for (unsigned int route = 0; route <= MAAS_HTTP_UNKNOWN; route++)
		for (unsigned int method = 0; method < MAAS_HTTP_METHODS; method++) {
			maas_http_metrics_operation(metrics, route, method, &operation);
			if (!operation.count)
				continue;
			maas_http_operation_name(route, (enum maas_http_method)method, name);
			write_operation(out,
					any ? ",{\"operation\":" : "{\"operation\":", &operation,
					name);
			any = true;
		}
}

static void write_requests(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	const struct maas_http_metrics *metrics = &conn->http->metrics;
	struct maas_buf *out = &conn->out;

	if (overview->sight == MAAS_HTTP_SEES_OWN) {
		maas_buf_str(out, ",\"requests\":null");
		return;
	}
	maas_http_write_number(out, ",\"requests\":{\"active\":", metrics->active);
	maas_http_write_number(out, ",\"connections\":", metrics->connections);
	maas_http_write_number(out, ",\"max_connections\":", conn->http->options.max_connections);
	for (unsigned int i = 0; i < MAAS_HTTP_BUCKETS; i++)
		maas_buf_printf(out, "%s%g", i ? "," : ",\"bucket_seconds\":[",
				(double)maas_http_bucket_us[i] / 1e6);
	maas_buf_str(out, "],\"operations\":[");
	write_operations(out, metrics);
	maas_buf_str(out, "]}");
}

static void write_refusals(struct maas_buf *out, const struct maas_http_overview *overview)
{
	char operation[MAAS_HTTP_OPERATION];

	maas_buf_str(out, ",\"refusals\":{\"total\":");
	if (overview->sight == MAAS_HTTP_SEES_OWN)
		maas_buf_str(out, "null");
	else
		maas_buf_u64(out, overview->refusals_total);
	maas_buf_str(out, ",\"items\":[");
	for (uint32_t i = 0; i < overview->num_refusals; i++) {
		const struct maas_http_refusal *refusal = &overview->refusals[i];

		maas_http_operation_name(refusal->route, refusal->method, operation);
		maas_http_write_number(out,
				       i ? ",{\"timestamp\":" : "{\"timestamp\":", refusal->time_s);
		maas_http_write_number(out, ",\"count\":", refusal->count);
		maas_http_write_number(out, ",\"status\":", refusal->status);
		maas_http_write_text(out, ",\"code\":", refusal->code);
		maas_http_write_text(out, ",\"operation\":", operation);
		maas_http_write_text(out, ",\"quota\":", refusal->quota);
		maas_http_write_text(
			out, ",\"principal\":", *refusal->principal ? refusal->principal : NULL);
		maas_http_write_text(out, ",\"from\":", refusal->from);
		maas_buf_str(out, "}");
	}
	maas_buf_str(out, "]}");
}

void maas_http_overview_json(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	struct maas_buf *out = &conn->out;

	write_head(conn, overview);
	write_extents(out, overview);
	write_classes(out, overview);
	write_owners(out, &overview->survey);
	write_sessions(out, &overview->survey);
	write_leases(out, overview);
	write_rdma(conn, overview);
	write_requests(conn, overview);
	write_refusals(out, overview);
	maas_buf_str(out, "}\n");
}
