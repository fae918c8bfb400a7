/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overview: what the page at / shows, as JSON for its script and as HTML for browsers that run
 * none. It is looked up in steps, between which the thread serves others, and kept: whoever sees
 * the same gets what is a second old, or three while somebody makes the next. So its cost depends
 * neither on what is lent nor, once there is one, on how many ask.
 */
#ifndef MAAS_HTTP_OVERVIEW_H
#define MAAS_HTTP_OVERVIEW_H

#include "http/refusals.h"
#include "lend/survey.h"

#define MAAS_HTTP_VIEWS 32 /* that are kept, of different principals */

struct maas_http;

enum maas_http_sight {
	MAAS_HTTP_SEES_OWN,	/* of memory what its line says, nothing of the whole server */
	MAAS_HTTP_SEES_FIGURES, /* those of the whole server, too, and all refusals */
	MAAS_HTTP_SEES_ALL,
};

struct maas_http_overview {
	void (*write)(struct maas_http_conn *conn, const struct maas_http_overview *overview);
	enum maas_http_sight sight;
	bool has_map;
	bool has_keys;
	struct maas_slab_map map;
	struct maas_lend_survey survey;
	struct maas_slab_stats slab;
	struct maas_lend_key_stats keys;
	uint64_t refusals_total;
	uint32_t num_refusals;
	struct maas_http_refusal refusals[MAAS_HTTP_REFUSALS];
};

/* An answer that was made, for whom. */
struct maas_http_view {
	char principal[MAAS_NAME_BYTES]; /* "": for everybody */
	uint64_t epoch;			 /* of the table of principals */
	unsigned int route;
	uint64_t made_ms;
	uint64_t claimed_ms; /* when somebody began to make the next one */
	struct maas_buf text;
};

struct maas_http_views {
	pthread_mutex_t lock;
	struct maas_http_view at[MAAS_HTTP_VIEWS]; /* guarded by lock */
};

void maas_http_views_init(struct maas_http_views *views);
void maas_http_views_fini(struct maas_http_views *views);

/* The two forms, into conn->out. */
void maas_http_overview_json(struct maas_http_conn *conn,
			     const struct maas_http_overview *overview);
void maas_http_overview_html(struct maas_http_conn *conn,
			     const struct maas_http_overview *overview);

/* ---- for both */

/* What the self-test of the RDMA device proved, in words. */
struct maas_http_property {
	const char *name; /* NULL behind the last */
	bool proved;
	const char *text;
};
struct maas_http_property maas_http_property_at(const struct maas_http_rdma *rdma,
						unsigned int index);
/* Its state: "off", "active" or "failed". */
const char *maas_http_rdma_state(struct maas_http *http, const struct maas_http_overview *overview);
/* "POST /allocate" and so on. */
#define MAAS_HTTP_OPERATION 64
void maas_http_operation_name(unsigned int route, enum maas_http_method method,
			      char ret_text[MAAS_HTTP_OPERATION]);
/* An id as it stands in the log. */
#define MAAS_HTTP_SHORT_ID 12
void maas_http_short_id(const char *id, char ret_text[MAAS_HTTP_SHORT_ID]);

#endif
