/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that are the same for everybody, and made once: the empty one and files of the source. */
#include <errno.h>

#include "http/internal.h"

/* By maas_page(): the parts of http/page, joined, and the policy that lets a browser run these
 * alone. */
extern const unsigned char maas_http_page_html[];
extern const size_t maas_http_page_html_len;
extern const char maas_http_page_policy[];
/* By maas_embed(). */
extern const unsigned char maas_http_openapi_yaml[];
extern const size_t maas_http_openapi_yaml_len;

/* A browser that is shown the file runs and loads nothing for it. */
#define POLICY "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct file {
	const unsigned char *data;
	const size_t *len;
	const char *type;
	const char *policy;
} files[MAAS_HTTP_FIXED] = {
	[MAAS_HTTP_FIXED_PAGE] = {maas_http_page_html, &maas_http_page_html_len,
				  "text/html; charset=utf-8", maas_http_page_policy},
	[MAAS_HTTP_FIXED_OPENAPI] = {maas_http_openapi_yaml, &maas_http_openapi_yaml_len,
				     "application/yaml", POLICY},
};

static size_t bytes_of(enum maas_http_fixed which)
{
	return files[which].len ? *files[which].len : 0;
}

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct MHD_Response *response, const struct file *file)
{
	return add(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") &&
	       (!file->type ||
		(add(response, MHD_HTTP_HEADER_CONTENT_TYPE, file->type) &&
		 add(response, MHD_HTTP_HEADER_CONTENT_SECURITY_POLICY, file->policy) &&
		 add(response, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff")));
}

/* NULL: out of memory. */
static struct MHD_Response *make(enum maas_http_fixed which)
{
	const struct file *file = &files[which];
	struct MHD_Response *response = MHD_create_response_from_buffer(
		bytes_of(which), (void *)(uintptr_t)file->data, MHD_RESPMEM_PERSISTENT);

	if (response && !add_headers(response, file)) {
		MHD_destroy_response(response);
		response = NULL;
	}
	return response;
}

int maas_http_fixed_init(struct maas_http *http)
{
	for (enum maas_http_fixed which = 0; which < MAAS_HTTP_FIXED; which++) {
		http->fixed[which] = make(which);
		if (!http->fixed[which])
			return -ENOMEM;
	}
	return 0;
}

void maas_http_fixed_fini(struct maas_http *http)
{
	for (enum maas_http_fixed which = 0; which < MAAS_HTTP_FIXED; which++)
		if (http->fixed[which])
			MHD_destroy_response(http->fixed[which]);
}

bool maas_http_is_fixed(const struct maas_http *http, const struct MHD_Response *response)
{
	for (enum maas_http_fixed which = 0; which < MAAS_HTTP_FIXED; which++)
		if (http->fixed[which] == response)
			return true;
	return false;
}

static int reply_fixed(struct maas_http_conn *conn, enum maas_http_fixed which)
{
	struct MHD_Response *response = conn->http->fixed[which];

	if (conn->req.close) {
		response = make(which);
		if (response && !add(response, MHD_HTTP_HEADER_CONNECTION, "close")) {
			MHD_destroy_response(response);
			response = NULL;
		}
	}
	if (!response)
		return -ENOMEM;
	return maas_http_reply_made(conn, MHD_HTTP_OK, bytes_of(which), response);
}

int maas_http_reply_empty(struct maas_http_conn *conn)
{
	return reply_fixed(conn, MAAS_HTTP_FIXED_EMPTY);
}

int maas_http_page(struct maas_http_conn *conn)
{
	return reply_fixed(conn, MAAS_HTTP_FIXED_PAGE);
}

int maas_http_openapi(struct maas_http_conn *conn)
{
	return reply_fixed(conn, MAAS_HTTP_FIXED_OPENAPI);
}
