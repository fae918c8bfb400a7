/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON bodies that are one small object, by call. No state: any thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/json_object.h"

enum { MAX_TTL_S = MAAS_LEND_MAX_TTL_S };

static int parse(const struct shape *shape, const char *text, size_t len, void *body,
		 struct maas_http_fault *fault)
{
	json_t *object;
	int r;

	r = maas_http_json_load(text, len, shape->example, &object, fault);
	if (r)
		return r;
	r = maas_http_json_fill(shape, object, body, fault);
	json_decref(object);
	return r;
}

#define WANT_NAME    "a name: 1 to 63 characters of A-Z a-z 0-9 . _ : / @ -"
#define WANT_ACCESS  "\"rw\", \"r\" or \"none\""
#define WANT_REQUEST "a string of 1 to 127 printable ASCII characters"

static int check_name(const char *field, const char *name, struct maas_http_fault *fault)
{
	if (*name && !maas_name_valid(name))
		return maas_http_refuse(fault, "bad_field", "\"%s\" must be " WANT_NAME, field);
	return 0;
}

#define ACCESS_BYTES 5 /* of the longest name and its NUL */

/* -1 for no access of that name. */
static int access_parse(const char *name)
{
	static const char *const names[] = {
		[MAAS_LEND_ACCESS_NONE] = "none",
		[MAAS_LEND_ACCESS_READ] = "r",
		[MAAS_LEND_ACCESS_WRITE] = "rw",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

/* ---- allocate */

struct allocate_body {
	struct maas_http_allocate_body to;
	char lifetime[8];
	char access[ACCESS_BYTES];
};

#define AT(field) offsetof(struct allocate_body, field)
static const struct field allocate_fields[] = {
	{"size_bytes", KIND_NUMBER, true, AT(to.size_bytes), 1, INT64_MAX, NULL},
	{"count", KIND_NUMBER, false, AT(to.count), 1, MAAS_SLAB_MAX_BATCH, NULL},
	{"session", KIND_STRING, false, AT(to.session), 0, MAAS_SLAB_ID_TEXT, WANT_ID},
	{"access", KIND_STRING, false, AT(access), 0, ACCESS_BYTES, WANT_ACCESS},
	{"lifetime", KIND_STRING, false, AT(lifetime), 0, 8, "\"delete\", \"ttl\" or \"session\""},
	{"ttl_seconds", KIND_NUMBER, false, AT(to.ttl_s), 1, MAX_TTL_S, NULL},
	{"owner", KIND_STRING, false, AT(to.owner), 0, MAAS_NAME_BYTES, WANT_NAME},
	{"request_id", KIND_STRING, false, AT(to.request_id), 0, MAAS_LEND_REQUEST_ID,
	 WANT_REQUEST},
};
#undef AT
static const struct shape allocate_shape = {"{\"size_bytes\": 102400}", allocate_fields,
					    MAAS_ARRAY_SIZE(allocate_fields)};

static int set_lifetime(struct allocate_body *body, struct maas_http_fault *fault)
{
	static const char *const names[] = {
		[MAAS_LEND_LIFETIME_DELETE] = "delete",
		[MAAS_LEND_LIFETIME_TTL] = "ttl",
		[MAAS_LEND_LIFETIME_SESSION] = "session",
	};
	size_t i = body->to.ttl_s ? MAAS_LEND_LIFETIME_TTL : MAAS_LEND_LIFETIME_DELETE;

	if (*body->lifetime)
		for (i = 0; i < MAAS_ARRAY_SIZE(names) && strcmp(names[i], body->lifetime) != 0;)
			i++;
	if (i == MAAS_ARRAY_SIZE(names))
		return maas_http_refuse(fault, "bad_field",
					"\"lifetime\" must be \"delete\", \"ttl\" or \"session\"");
	body->to.lifetime = (enum maas_lend_lifetime)i;
	if ((i == MAAS_LEND_LIFETIME_TTL) != (body->to.ttl_s != 0))
		return maas_http_refuse(
			fault, "bad_field",
			"\"ttl_seconds\" goes with \"lifetime\":\"ttl\", and only with it");
	if (i == MAAS_LEND_LIFETIME_SESSION && !*body->to.session)
		return maas_http_refuse(
			fault, "missing_field",
			"\"lifetime\":\"session\" needs \"session\", the id of a session");
	return 0;
}

static int set_access(struct allocate_body *body, struct maas_http_fault *fault)
{
	int access = *body->access ? access_parse(body->access) : MAAS_LEND_ACCESS_WRITE;

	if (access < 0)
		return maas_http_refuse(fault, "bad_field", "\"access\" must be " WANT_ACCESS);
	if (*body->access && !*body->to.session)
		return maas_http_refuse(
			fault, "missing_field",
			"\"access\" needs \"session\", the id of the session that gets the key");
	body->to.access = (enum maas_lend_access)access;
	return 0;
}

int maas_http_json_allocate(const char *text, size_t len, struct maas_http_allocate_body *ret_body,
			    struct maas_http_fault *fault)
{
	struct allocate_body body;
	int r;

	memset(&body, 0, sizeof(body));
	r = parse(&allocate_shape, text, len, &body, fault);
	if (!r)
		r = set_lifetime(&body, fault);
	if (!r)
		r = set_access(&body, fault);
	if (!r)
		r = check_name("owner", body.to.owner, fault);
	if (r)
		return r;
	for (const char *s = body.to.request_id; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return maas_http_refuse(fault, "bad_field",
						"\"request_id\" must be " WANT_REQUEST);
	*ret_body = body.to;
	return 0;
}

/* ---- renew, sessions, grants */

int maas_http_json_renew(const char *text, size_t len, uint64_t max_ttl_s, uint64_t *ret_ttl_s,
			 struct maas_http_fault *fault)
{
	const struct field fields[] = {
		{"ttl_seconds", KIND_NUMBER, false, 0, 1, max_ttl_s, NULL},
	};
	const struct shape shape = {"{\"ttl_seconds\": 60}", fields, 1};
	uint64_t ttl_s = 0;
	int r;

	r = len ? parse(&shape, text, len, &ttl_s, fault) : 0;
	if (!r)
		*ret_ttl_s = ttl_s;
	return r;
}

int maas_http_json_none(const char *text, size_t len, struct maas_http_fault *fault)
{
	static const struct shape shape = {"{}", NULL, 0};

	return len ? parse(&shape, text, len, NULL, fault) : 0;
}

#define AT(field) offsetof(struct maas_http_session_body, field)
static const struct field session_fields[] = {
	{"name", KIND_STRING, false, AT(name), 0, MAAS_NAME_BYTES, WANT_NAME},
	{"ttl_seconds", KIND_NUMBER, false, AT(ttl_s), 1, INT64_MAX, NULL}, /* lend limits it */
	{"exclusive", KIND_BOOL, false, AT(exclusive), 0, 0, NULL},
};
#undef AT
static const struct shape session_shape = {"{\"name\": \"web-1\", \"ttl_seconds\": 60}",
					   session_fields, MAAS_ARRAY_SIZE(session_fields)};

int maas_http_json_session(const char *text, size_t len, struct maas_http_session_body *ret_body,
			   struct maas_http_fault *fault)
{
	struct maas_http_session_body body;
	int r;

	memset(&body, 0, sizeof(body));
	r = parse(&session_shape, text, len, &body, fault);
	if (!r)
		r = check_name("name", body.name, fault);
	if (r)
		return r;
	if (body.exclusive && !*body.name)
		return maas_http_refuse(fault, "missing_field", "\"exclusive\" needs \"name\"");
	*ret_body = body;
	return 0;
}

struct grant_body {
	char session[MAAS_SLAB_ID_TEXT];
	char access[ACCESS_BYTES];
};

#define AT(field) offsetof(struct grant_body, field)
static const struct field grant_fields[] = {
	{"session", KIND_STRING, true, AT(session), 0, MAAS_SLAB_ID_TEXT, WANT_ID},
	{"access", KIND_STRING, true, AT(access), 0, ACCESS_BYTES, "\"rw\" or \"r\""},
};
#undef AT
static const struct shape grant_shape = {"{\"session\": \"ID\", \"access\": \"rw\"}", grant_fields,
					 MAAS_ARRAY_SIZE(grant_fields)};

int maas_http_json_grant(const char *text, size_t len, struct maas_http_grant_body *ret_body,
			 struct maas_http_fault *fault)
{
	struct grant_body body;
	int access;
	int r;

	memset(&body, 0, sizeof(body));
	r = parse(&grant_shape, text, len, &body, fault);
	if (r)
		return r;
	access = access_parse(body.access);
	if (access != MAAS_LEND_ACCESS_READ && access != MAAS_LEND_ACCESS_WRITE)
		return maas_http_refuse(fault, "bad_field", "\"access\" must be \"rw\" or \"r\"");
	memcpy(ret_body->session, body.session, sizeof(body.session));
	ret_body->access = (enum maas_lend_access)access;
	return 0;
}
