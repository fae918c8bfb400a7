/* SPDX-License-Identifier: Apache-2.0 */
/* The overview as plain tables, for browsers that run no script. Whatever a client has chosen is
 * escaped. */
#include <inttypes.h>

#include "http/internal.h"

static const char page_head[] =
	"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<meta name=\"color-scheme\" content=\"light dark\">\n<title>maasd: figures</title>\n"
	"</head>\n<body>\n<h1>maasd " MAAS_VERSION "</h1>\n";

/* Between tags, and in attributes with quotes. */
static void write_escaped(struct maas_buf *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			maas_buf_str(out, "&amp;");
			break;
		case '<':
			maas_buf_str(out, "&lt;");
			break;
		case '>':
			maas_buf_str(out, "&gt;");
			break;
		case '"':
			maas_buf_str(out, "&quot;");
			break;
		default:
			maas_buf_add(out, text, 1);
		}
	}
}

/* `columns`: the names, parted by '|'. */
static void open_table(struct maas_buf *out, const char *title, const char *columns)
{
	maas_buf_printf(out, "<h2>%s</h2>\n<table border=\"1\">\n<tr><th>", title);
	for (; *columns; columns++)
		maas_buf_add(out, *columns == '|' ? "</th><th>" : columns,
			     *columns == '|' ? sizeof("</th><th>") - 1 : 1);
	maas_buf_str(out, "</th></tr>\n");
}

static void write_text_cell(struct maas_buf *out, const char *text)
{
	maas_buf_str(out, "<td>");
	write_escaped(out, text);
	maas_buf_str(out, "</td>");
}

static void write_cell(struct maas_buf *out, uint64_t value)
{
	maas_buf_printf(out, "<td align=\"right\">%" PRIu64 "</td>", value);
}

static void write_row(struct maas_buf *out, const char *name, uint64_t value)
{
	maas_buf_str(out, "<tr>");
	write_text_cell(out, name);
	write_cell(out, value);
	maas_buf_str(out, "</tr>\n");
}

static void close_table(struct maas_buf *out)
{
	maas_buf_str(out, "</table>\n");
}

static void write_server(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	const struct maas_http *http = conn->http;
	uint64_t now_s = maas_clock_wall_s();
	struct maas_buf *out = &conn->out;
	uint64_t expiry_s;

	maas_buf_printf(out, "<p>%s",
			maas_http_readiness_name(maas_http_readiness(http, &overview->keys)));
	if (overview->sight != MAAS_HTTP_SEES_OWN)
		maas_buf_printf(
			out, ", %" PRIu64 " connections open, at most %u at each address",
			atomic_load_explicit(&http->metrics.connections, memory_order_relaxed),
			http->options.max_connections);
	if (maas_http_tls_expiry(&conn->http->tls, &expiry_s))
		maas_buf_printf(out, ", certificate valid for %" PRIu64 " days",
				expiry_s > now_s ? (expiry_s - now_s) / 86400 : 0);
	maas_buf_str(out, "</p>\n");
}

static void write_memory(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	const struct maas_slab_stats *slab = &overview->slab;
	struct maas_buf *out = &conn->out;

	open_table(out, "Memory", "bytes|");
	write_row(out, "of the whole pool", slab->max_bytes);
	write_row(out, "that hold memory", slab->backed_bytes);
	write_row(out, "lent", slab->live_bytes);
	write_row(out, "asked for", slab->requested_bytes);
	close_table(out);
	if (overview->sight == MAAS_HTTP_SEES_OWN)
		return;
	open_table(out, "Slab classes",
		   "slab size|used|free|waiting|quarantined|bytes lent|bytes asked for");
	for (unsigned int i = 0; i < slab->num_classes; i++) {
		const struct maas_slab_class_stats *class = &slab->classes[i];

		maas_buf_str(out, "<tr>");
		write_cell(out, class->slab_bytes);
		write_cell(out, class->used_slabs);
		write_cell(out, class->free_slabs);
		write_cell(out, class->waiting_slabs);
		write_cell(out, class->quarantined_slabs);
		write_cell(out, class->used_slabs * class->slab_bytes);
		write_cell(out, class->requested_bytes);
		maas_buf_str(out, "</tr>\n");
	}
	close_table(out);
}

static void write_owners(struct maas_buf *out, const struct maas_http_overview *overview)
{
	const struct maas_lend_survey *survey = &overview->survey;

	if (overview->sight != MAAS_HTTP_SEES_ALL)
		maas_buf_str(out, "<p>Of owners, sessions and leases, what you may see:</p>\n");
	maas_buf_printf(out, "<p>%" PRIu64 " owners; the largest:</p>\n", survey->owners_total);
	open_table(out, "Owners", "owner|allocations|bytes");
	for (uint32_t i = 0; i < survey->num_owners; i++) {
		maas_buf_str(out, "<tr>");
		write_text_cell(out, survey->owners[i].name);
		write_cell(out, survey->owners[i].allocations);
		write_cell(out, survey->owners[i].bytes);
		maas_buf_str(out, "</tr>\n");
	}
	close_table(out);
}

static void write_endings(struct maas_buf *out, const struct maas_lend_survey *survey)
{
	char id[MAAS_HTTP_SHORT_ID];

	maas_buf_printf(out, "<p>%" PRIu64 " sessions; those that end first:</p>\n",
			survey->sessions_total);
	open_table(out, "Sessions", "name|from|allocations|RDMA|ends in seconds");
	for (uint32_t i = 0; i < survey->num_sessions; i++) {
		const struct maas_lend_survey_session *session = &survey->sessions[i];

		maas_buf_str(out, "<tr>");
		write_text_cell(out, session->info.name);
		write_text_cell(out, session->info.from);
		write_cell(out, session->info.allocations);
		write_text_cell(out, session->connected ? "connected" : "-");
		write_cell(out, session->info.lease_s);
		maas_buf_str(out, "</tr>\n");
	}
	close_table(out);
	open_table(out, "Leases that end soon", "allocation|owner|bytes|ends in seconds");
	for (uint32_t i = 0; i < survey->num_leases; i++) {
		const struct maas_lend_allocation *lease = &survey->leases[i];

		maas_http_short_id(lease->id, id);
		maas_buf_str(out, "<tr>");
		write_text_cell(out, id);
		write_text_cell(out, lease->owner);
		write_cell(out, lease->actual_size_bytes);
		write_cell(out, lease->lease_s);
		maas_buf_str(out, "</tr>\n");
	}
	close_table(out);
	if (!survey->whole)
		maas_buf_str(out, "<p>Not all leases were looked at.</p>\n");
}

static void write_rdma(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	const struct maas_http_rdma *rdma = &conn->http->options.rdma;
	struct maas_http_property property;
	struct maas_buf *out = &conn->out;

	maas_buf_str(out, "<h2>RDMA</h2>\n<p>");
	write_escaped(out, maas_http_rdma_state(conn->http, overview));
	if (rdma->device) {
		maas_buf_str(out, ", ");
		write_escaped(out, rdma->device);
	}
	maas_buf_str(out, "</p>\n<ul>\n");
	for (unsigned int i = 0; (property = maas_http_property_at(rdma, i)).name; i++)
		maas_buf_printf(out, "<li>%s</li>\n", property.text);
	maas_buf_str(out, "</ul>\n");
}

static void write_requests(struct maas_buf *out, const struct maas_http_metrics *metrics)
{
	struct maas_http_operation operation;
	char name[MAAS_HTTP_OPERATION];

	open_table(out, "Requests", "operation|answered|with an error|microseconds on average");
	for (unsigned int route = 0; route <= MAAS_HTTP_UNKNOWN; route++)
		for (unsigned int method = 0; method < MAAS_HTTP_METHODS; method++) {
			maas_http_metrics_operation(metrics, route, method, &operation);
			if (!operation.count)
				continue;
			maas_http_operation_name(route, (enum maas_http_method)method, name);
			maas_buf_str(out, "<tr>");
			write_text_cell(out, name);
			write_cell(out, operation.count);
			write_cell(out, operation.errors);
			write_cell(out, operation.duration_ns / operation.count / 1000);
			maas_buf_str(out, "</tr>\n");
		}
	close_table(out);
}

static void write_refusals(struct maas_buf *out, const struct maas_http_overview *overview)
{
	char operation[MAAS_HTTP_OPERATION];
	uint64_t now_s = maas_clock_wall_s();

	open_table(out, "Recent refusals", "seconds ago|times|operation|status|reason|whose|from");
	for (uint32_t i = 0; i < overview->num_refusals; i++) {
		const struct maas_http_refusal *refusal = &overview->refusals[i];

		maas_http_operation_name(refusal->route, refusal->method, operation);
		maas_buf_str(out, "<tr>");
		write_cell(out, now_s > refusal->time_s ? now_s - refusal->time_s : 0);
		write_cell(out, refusal->count);
		write_text_cell(out, operation);
		write_cell(out, refusal->status);
		write_text_cell(out, refusal->code);
		write_text_cell(out, refusal->principal);
		write_text_cell(out, refusal->from);
		maas_buf_str(out, "</tr>\n");
	}
	close_table(out);
}

void maas_http_overview_html(struct maas_http_conn *conn, const struct maas_http_overview *overview)
{
	struct maas_buf *out = &conn->out;

	maas_buf_str(out, page_head);
	write_server(conn, overview);
	write_memory(conn, overview);
	write_owners(out, overview);
	write_endings(out, &overview->survey);
	write_rdma(conn, overview);
	if (overview->sight != MAAS_HTTP_SEES_OWN)
		write_requests(out, &conn->http->metrics);
	write_refusals(out, overview);
	maas_buf_str(out, "</body>\n</html>\n");
}
