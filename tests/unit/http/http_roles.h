/* SPDX-License-Identifier: Apache-2.0 */
/* A server with principals: a team that owns memory, who may read it, a stranger and an admin. */
#ifndef MAAS_TESTS_UNIT_HTTP_ROLES_H
#define MAAS_TESTS_UNIT_HTTP_ROLES_H

#include "tests/unit/http/http_fixture.h"

enum role { NOBODY, OTHER, READER, OWNER, ADMIN, ROLES };

static char tokens[ROLES][MAAS_AUTH_TOKEN];

static inline void make_tokens(void)
{
	for (int i = 0; i < ROLES; i++)
		assert_int_equal(maas_auth_token_make(tokens[i]), 0);
}

/* `reader` is what stands in the reader's line. */
static inline void use(const char *reader)
{
	char hashes[ROLES][MAAS_AUTH_HASH], text[1024];

	for (int i = 0; i < ROLES; i++)
		maas_auth_token_hash(tokens[i], strlen(tokens[i]), hashes[i]);
	snprintf(text, sizeof(text),
		 "other token=%s owner=other/*\nreader token=%s %s\nteam token=%s owner=team/*\n"
		 "ops token=%s admin\n",
		 hashes[OTHER], hashes[READER], reader, hashes[OWNER], hashes[ADMIN]);
	http_use_principals(text);
}

/* One request of a role, which must be answered so; returns the answer's text. */
static inline const char *ask(enum role role, const char *method, const char *path,
			      const char *body, long status)
{
	const char *header = http_text("Authorization: Bearer %s", tokens[role]);
	const struct http_answer *a =
		http_call(method, path, body, body ? strlen(body) : 0, header);

	if (a->status != status)
		fail_msg("%d: %s %s: %ld %s, not %ld", role, method, path, a->status, a->body,
			 status);
	return a->body;
}

static inline void copy_field(const char *json, const char *name, char to[MAAS_SLAB_ID_TEXT])
{
	json_t *object = json_loads(json, 0, NULL);

	snprintf(to, MAAS_SLAB_ID_TEXT, "%s", http_string(object, name));
	json_decref(object);
}

#endif
