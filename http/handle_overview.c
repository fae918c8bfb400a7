/* SPDX-License-Identifier: Apache-2.0 */
/* GET /overview and GET /figures: the whole server on one page, as far as the caller may see it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

#define FRESH_MS 1000 /* an answer serves everybody for so long, … */
#define STALE_MS 3000 /* … or for so long while somebody makes the next one */
#define STEPS	 32   /* each of some microseconds, before others have their turn */

/* ---- views */

void maas_http_views_init(struct maas_http_views *views)
{
	pthread_mutex_init(&views->lock, NULL);
}

void maas_http_views_fini(struct maas_http_views *views)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(views->at); i++)
		maas_buf_fini(&views->at[i].text);
	pthread_mutex_destroy(&views->lock);
}

static const char *principal_name(const struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;

	return principal ? principal->name : "";
}

/* Where the answer to the connection's request is kept. */
static struct maas_http_view *view_of(struct maas_http_conn *conn)
{
	uint64_t client = conn->caller.lend.principal ? maas_http_client(conn) : 0;

	return &conn->http->views.at[(client + conn->req.route) % MAAS_HTTP_VIEWS];
}

static bool is_for(const struct maas_http_view *view, const struct maas_http_conn *conn)
{
	return view->route == conn->req.route && view->epoch == conn->caller.lend.epoch &&
	       !strcmp(view->principal, principal_name(conn));
}

/* Copies the answer that is kept, if it will do; else the caller is to make the next one. */
static bool take_view(struct maas_http_conn *conn)
{
	struct maas_http_views *views = &conn->http->views;
	struct maas_http_view *view = view_of(conn);
	uint64_t now_ms;
	bool found;

	pthread_mutex_lock(&views->lock);
	now_ms = maas_clock_ms();
	found = is_for(view, conn) && view->text.len;
	if (found && now_ms - view->made_ms >= FRESH_MS)
		found = now_ms - view->made_ms < STALE_MS && now_ms - view->claimed_ms < FRESH_MS;
	if (found)
		maas_buf_add(&conn->out, view->text.data, view->text.len);
	else
		view->claimed_ms = now_ms;
	pthread_mutex_unlock(&views->lock);
	return found;
}

static void keep_view(struct maas_http_conn *conn)
{
	struct maas_http_views *views = &conn->http->views;
	struct maas_http_view *view = view_of(conn);
	const char *name = principal_name(conn);

	pthread_mutex_lock(&views->lock);
	memcpy(view->principal, name, strlen(name) + 1);
	view->epoch = conn->caller.lend.epoch;
	view->route = conn->req.route;
	view->made_ms = maas_clock_ms();
	view->text.len = 0;
	maas_buf_add(&view->text, conn->out.data, conn->out.len);
	if (view->text.error) {
		maas_buf_fini(&view->text);
		view->text = (struct maas_buf){0};
	}
	pthread_mutex_unlock(&views->lock);
}

/* ---- for both forms */

struct maas_http_property maas_http_property_at(const struct maas_http_rdma *rdma,
						unsigned int index)
{
	const struct {
		const char *name;
		bool proved;
		const char *yes;
		const char *no;
	} properties[] = {
		{"bounds", rdma->bounds,
		 "An RDMA key opens the bytes of its own allocation, and no byte beside them.",
		 "It was not proved that an RDMA key ends where its allocation ends: it may open "
		 "the bytes beside."},
		{"foreign", rdma->foreign,
		 "An RDMA key is refused on every connection but that of its own session.",
		 "It was not proved that an RDMA key is refused on other connections: whoever "
		 "knows the key may be able to use it."},
		{"revocation", rdma->revocation,
		 "An RDMA key is dead once its memory is freed: the very next access is refused.",
		 "It was not proved that an RDMA key dies with its memory: it may open what was "
		 "freed."},
		{"access", rdma->access, "An RDMA key to read does not write.",
		 "It was not proved that an RDMA key to read cannot write."},
	};
	struct maas_http_property property = {0};

	/* Without a device there are no keys. */
	if (rdma->device && index < MAAS_ARRAY_SIZE(properties)) {
		property.name = properties[index].name;
		property.proved = properties[index].proved;
		property.text = property.proved ? properties[index].yes : properties[index].no;
	}
	return property;
}

const char *maas_http_rdma_state(struct maas_http *http, const struct maas_http_overview *overview)
{
	const char *state = http->options.rdma.state;

	if (overview->has_keys)
		state = overview->keys.state;
	return state ? state : "off";
}

void maas_http_operation_name(unsigned int route, enum maas_http_method method,
			      char ret_text[MAAS_HTTP_OPERATION])
{
	const char *pattern = maas_http_route_pattern(route);

	snprintf(ret_text, MAAS_HTTP_OPERATION, "%s %s", maas_http_method_name(method),
		 pattern ? pattern : "other");
}

void maas_http_short_id(const char *id, char ret_text[MAAS_HTTP_SHORT_ID])
{
	snprintf(ret_text, MAAS_HTTP_SHORT_ID, "%.8s...", id);
}

/* ---- the calls */

static enum maas_http_sight sight_of(const struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;

	if (!principal || principal->rights & MAAS_AUTH_ADMIN)
		return MAAS_HTTP_SEES_ALL;
	return principal->rights & MAAS_AUTH_METRICS ? MAAS_HTTP_SEES_FIGURES : MAAS_HTTP_SEES_OWN;
}

static int reply(struct maas_http_conn *conn)
{
	int r;

	/* To whoever is nobody now there was nothing to see. */
	if (!maas_http_stands(conn))
		return maas_http_fail_gone(conn);
	r = maas_http_hold(conn, conn->out.len);
	if (r)
		return maas_http_fail(conn, r, NULL);
	if (conn->req.call->finish != maas_http_figures)
		return maas_http_reply(conn, MHD_HTTP_OK);
	conn->req.extra_name = MHD_HTTP_HEADER_CONTENT_SECURITY_POLICY;
	snprintf(conn->req.extra_value, sizeof(conn->req.extra_value),
		 "default-src 'none'; form-action 'none'; frame-ancestors 'none'");
	return maas_http_reply_type(conn, MHD_HTTP_OK, "text/html; charset=utf-8");
}

/* Everything was looked at. */
static int complete(struct maas_http_conn *conn)
{
	struct maas_http_overview *overview = conn->req.overview;
	bool own = overview->sight == MAAS_HTTP_SEES_OWN;

	maas_slab_stats(conn->http->options.slab, &overview->slab);
	overview->has_keys = maas_http_key_stats(conn->http, &overview->keys);
	overview->num_refusals =
		maas_http_refusals_list(&conn->http->refusals, own ? principal_name(conn) : NULL,
					overview->refusals, &overview->refusals_total);
	overview->write(conn, overview);
	free(overview);
	conn->req.overview = NULL;
	maas_http_unhold(conn);
	if (!conn->out.error)
		keep_view(conn);
	return reply(conn);
}

/* False when there is no more to look at. */
static bool step(struct maas_http_conn *conn)
{
	struct maas_http_overview *overview = conn->req.overview;

	if (overview->has_map && maas_slab_map_next(conn->http->options.slab, &overview->map))
		return true;
	return maas_lend_survey_next(conn->http->options.lend, &overview->survey);
}

static int resume(struct maas_http_conn *conn)
{
	for (int i = 0; i < STEPS; i++)
		if (!step(conn))
			return complete(conn);
	return maas_http_yield(conn);
}

static int start(struct maas_http_conn *conn,
		 void (*write)(struct maas_http_conn *conn,
			       const struct maas_http_overview *overview))
{
	struct maas_http_overview *overview;
	int r;

	if (take_view(conn))
		return reply(conn);
	r = maas_http_hold(conn, sizeof(*overview));
	if (r)
		return maas_http_fail(conn, r, NULL);
	overview = calloc(1, sizeof(*overview));
	if (!overview)
		return maas_http_fail(conn, -ENOMEM, NULL);
	conn->req.overview = overview;
	overview->write = write;
	overview->sight = sight_of(conn);
	overview->has_map = overview->sight != MAAS_HTTP_SEES_OWN &&
			    !maas_slab_map_start(conn->http->options.slab, &overview->map);
	maas_lend_survey_start(&overview->survey, maas_http_caller(conn));
	return resume(conn);
}

int maas_http_overview(struct maas_http_conn *conn)
{
	return start(conn, maas_http_overview_json);
}

int maas_http_overview_resume(struct maas_http_conn *conn)
{
	return resume(conn);
}

int maas_http_figures(struct maas_http_conn *conn)
{
	return start(conn, maas_http_overview_html);
}

int maas_http_figures_resume(struct maas_http_conn *conn)
{
	return resume(conn);
}
