/* SPDX-License-Identifier: Apache-2.0 */
/* A server with principals: a team that owns memory, who may read it, a stranger and an admin. */
#ifndef MAAS_TESTS_UNIT_HTTP_ROLES_H
#define MAAS_TESTS_UNIT_HTTP_ROLES_H

#include "tests/unit/http/http_fixture.h"

enum role { NOBODY, OTHER, READER, OWNER, ADMIN, ROLES };

static char tokens[ROLES][MAAS_AUTH_TOKEN];

/* The hash of a role's token, for a line of principals. */
static inline const char *hash_of(enum role role)
{
	char hash[MAAS_AUTH_HASH];

	maas_auth_token_hash(tokens[role], strlen(tokens[role]), hash);
	return http_text("%s", hash);
}

/* `reader` is what stands in the reader's line, and other lines behind it. */
static inline void use(const char *reader)
{
	http_use_principals(http_text("other token=%s owner=other/*\nreader token=%s %s\n"
				      "team token=%s owner=team/*\nops token=%s admin\n",
				      hash_of(OTHER), hash_of(READER), reader, hash_of(OWNER),
				      hash_of(ADMIN)));
}

/* The same, with new tokens. */
static inline void use_anew(const char *reader)
{
	for (int i = 0; i < ROLES; i++)
		assert_int_equal(maas_auth_token_make(tokens[i]), 0);
	use(reader);
}

/* A server whose reader may read what is the team's. */
static inline void start_roles(void)
{
	/* One thread: to ThreadSanitizer, requests in turn are not in turn. */
	HTTP_START(.threads = 1);
	use_anew("read=team/*");
}

/* The header line of a request with a token. */
static inline const char *with(const char *token)
{
	return http_text("Authorization: Bearer %s", token);
}

/* One request of a role, with a body as http_expect() takes it, which must be answered so; returns
 * the answer's text. */
static inline const char *ask(enum role role, const char *call, const char *body, long status)
{
	return http_expect(http_text("%s\n%s", call, with(tokens[role])), body, status, "")->body;
}

/* A POST that makes something; returns the id of that. */
static inline const char *make(enum role role, const char *path, const char *body)
{
	return http_string(http_parse(ask(role, http_text("POST %s", path), body, 200)), "id");
}

#endif
