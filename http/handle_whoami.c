/* SPDX-License-Identifier: Apache-2.0 */
/* GET /whoami: the caller's principal, its rights, its quota and what it uses. */
#include <string.h>

#include "http/internal.h"

static void write_rights(struct maas_buf *out, unsigned int rights)
{
	static const struct {
		enum maas_auth_right right;
		const char *name;
	} words[] = {
		{MAAS_AUTH_HEALTH, "health"},
		{MAAS_AUTH_METRICS, "metrics"},
		{MAAS_AUTH_ADMIN, "admin"},
	};
	bool any = false;

	maas_buf_str(out, ",\"rights\":[");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(words); i++) {
		if (!(rights & words[i].right))
			continue;
		maas_buf_str(out, any ? "," : "");
		maas_buf_json(out, words[i].name);
		any = true;
	}
	maas_buf_str(out, "]");
}

static void write_patterns(struct maas_buf *out, const struct maas_lend_caller *caller,
			   enum maas_auth_access which, const char *before)
{
	enum maas_auth_access access;
	const char *pattern;
	bool any = false;

	maas_buf_str(out, before);
	for (uint32_t i = 0;
	     (pattern = maas_auth_pattern(caller->auth, caller->principal, i, &access)); i++) {
		if (access != which)
			continue;
		maas_buf_str(out, any ? "," : "");
		maas_buf_json(out, pattern);
		any = true;
	}
	maas_buf_str(out, "]");
}

static void write_quotas(struct maas_buf *out, const uint64_t *values, const char *before)
{
	maas_buf_str(out, before);
	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++) {
		maas_buf_str(out, i ? "," : "");
		maas_buf_json(out, maas_auth_quota_name((enum maas_auth_quota)i));
		maas_buf_str(out, ":");
		if (values[i] == MAAS_AUTH_UNLIMITED)
			maas_buf_str(out, "null");
		else
			maas_buf_u64(out, values[i]);
	}
	maas_buf_str(out, "}");
}

int maas_http_whoami(struct maas_http_conn *conn)
{
	const struct maas_lend_caller *caller = maas_http_caller(conn);
	struct maas_buf *out = &conn->out;
	struct maas_lend_usage usage;

	if (!caller) {
		maas_buf_str(out, "{\"name\":null}\n");
		return maas_http_reply(conn, MHD_HTTP_OK);
	}
	(void)maas_lend_usage(conn->http->options.lend, caller->principal->name, &usage);
	maas_buf_str(out, "{\"name\":");
	maas_buf_json(out, caller->principal->name);
	write_rights(out, caller->principal->rights);
	write_patterns(out, caller, MAAS_AUTH_OWN, ",\"owner\":[");
	write_patterns(out, caller, MAAS_AUTH_READ, ",\"read\":[");
	write_quotas(out, caller->principal->quota, ",\"quota\":{");
	write_quotas(out, usage.used, ",\"usage\":{");
	maas_buf_str(out, "}\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}
