/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of the file of principals, into a table. The file is all right or all wrong: the first
 * fault ends the reading. No state: any thread.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "auth/internal.h"

#define BLANKS " \t\r"

struct parser {
	struct maas_auth *auth;
	struct maas_auth_principal *principal; /* of the line */
	unsigned int line;
	bool has_proof; /* the line has */
	uint32_t seen;	/* of words, by index */
	char *error;
};

static int refuse(struct parser *parser, const char *fmt, ...) MAAS_PRINTF(2, 3);

static int refuse(struct parser *parser, const char *fmt, ...)
{
	va_list args;
	int len = snprintf(parser->error, MAAS_AUTH_ERROR, "line %u: ", parser->line);

	va_start(args, fmt);
	vsnprintf(parser->error + len, MAAS_AUTH_ERROR - (size_t)len, fmt, args);
	va_end(args);
	return -EINVAL;
}

/* A token in clear is not written into a log as well. */
static int refuse_token(struct parser *parser)
{
	return refuse(parser, "here stands a token itself: take it out, and make another, because "
			      "whoever reads this file has it; the line of maas token new has only "
			      "its hash");
}

/* Makes room for one more of `count`: twice as much at each power of two. */
static int grow(void *array, uint32_t count, size_t size)
{
	void *grown;

	if (count & (count - 1))
		return 0;
	grown = reallocarray(*(void **)array, count ? 2u * (size_t)count : 1, size);
	if (!grown)
		return -ENOMEM;
	*(void **)array = grown;
	return 0;
}

/* ---- the words of a line */

static int take_token(struct parser *parser, const char *value)
{
	struct maas_auth *auth = parser->auth;
	struct maas_auth_token token = {.principal = auth->num_principals};
	size_t len;

	if (strncmp(value, "sha256:", 7) != 0 || strlen(value) != MAAS_AUTH_HASH - 1 ||
	    strspn(value + 7, "0123456789abcdef") != MAAS_AUTH_HASH - 8 ||
	    sodium_hex2bin(token.hash, sizeof(token.hash), value + 7, MAAS_AUTH_HASH - 8, NULL,
			   &len, NULL))
		return refuse(parser, "token= takes sha256: and 64 lower-case hex digits, as maas "
				      "token new prints them; never the token itself");
	if (grow(&auth->tokens, auth->num_tokens, sizeof(token)))
		return -ENOMEM;
	auth->tokens[auth->num_tokens++] = token;
	parser->has_proof = true;
	return 0;
}

static int take_number(struct parser *parser, const char *word, const char *value, uint64_t max,
		       uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno || *ret_number > max)
		return refuse(parser, "%s takes a number up to %" PRIu64 ", not %.40s", word, max,
			      value);
	return 0;
}

#define NOBODY 65534u /* what the kernel says where an id of another namespace has none here */

static int take_peer(struct parser *parser, const char *word, const char *value)
{
	struct maas_auth *auth = parser->auth;
	struct maas_auth_peer peer = {.group = *word == 'g', .principal = auth->num_principals};
	uint64_t id;
	int r = take_number(parser, word, value, UINT32_MAX - 1, &id);

	if (r)
		return r;
	if (id == NOBODY)
		return refuse(parser,
			      "%s=65534 stands for %s of other namespaces and proves nothing; "
			      "use a token",
			      word, peer.group ? "groups" : "users");
	peer.id = (uint32_t)id;
	if (grow(&auth->peers, auth->num_peers, sizeof(peer)))
		return -ENOMEM;
	auth->peers[auth->num_peers++] = peer;
	parser->has_proof = true;
	return 0;
}

/* Names of hosts are compared without regard to case: they are kept in lower case. */
static int take_cert(struct parser *parser, char *value)
{
	struct maas_auth *auth = parser->auth;
	struct maas_auth_cert cert = {
		.is_uri = strchr(value, ':'), .name = value, .principal = auth->num_principals};

	if (!maas_auth_cert_valid(&cert))
		return refuse(parser,
			      "cert= takes one name of a client's certificate: a host's, such as "
			      "prom-a.example, or a URI, as it stands there; not %.80s",
			      *value ? value : "nothing");
	for (char *at = value; !cert.is_uri && *at; at++)
		*at = (char)tolower((unsigned char)*at);
	cert.proof = maas_auth_cert_proof(&cert);
	if (grow(&auth->certs, auth->num_certs, sizeof(cert)))
		return -ENOMEM;
	auth->certs[auth->num_certs++] = cert;
	parser->has_proof = true;
	return 0;
}

static int add_pattern(struct parser *parser, const char *text, size_t len,
		       enum maas_auth_access access)
{
	struct maas_auth *auth = parser->auth;
	struct maas_auth_pattern pattern = {text, len, false, access};

	if (grow(&auth->patterns, auth->num_patterns, sizeof(pattern)))
		return -ENOMEM;
	if (len && text[len - 1] == '*') {
		pattern.prefix = true;
		pattern.len--;
	}
	auth->patterns[auth->num_patterns++] = pattern;
	parser->principal->num_patterns++;
	return 0;
}

/* Whether the principal's owner= has the principal's own name, written out. */
static bool names_itself(const struct maas_auth *auth, const struct maas_auth_principal *principal)
{
	const struct maas_auth_pattern *pattern = &auth->patterns[principal->first_pattern];

	for (uint32_t i = 0; i < principal->num_patterns; i++, pattern++)
		if (pattern->access == MAAS_AUTH_OWN && !pattern->prefix &&
		    pattern->len == strlen(principal->name) &&
		    !memcmp(pattern->text, principal->name, pattern->len))
			return true;
	return false;
}

/* "*" alone, a name, or how a name begins and a "*". */
static bool pattern_valid(char *text)
{
	size_t len = strlen(text);
	bool prefix = len && text[len - 1] == '*';
	bool valid;

	if (prefix && len == 1)
		return true;
	if (prefix)
		text[len - 1] = '\0';
	valid = maas_name_valid(text);
	if (prefix)
		text[len - 1] = '*';
	return valid;
}

static int take_patterns(struct parser *parser, const char *word, char *value)
{
	enum maas_auth_access access = *word == 'o' ? MAAS_AUTH_OWN : MAAS_AUTH_READ;
	char *pattern;

	while ((pattern = strsep(&value, ","))) {
		int r;

		if (!pattern_valid(pattern))
			return refuse(parser,
				      "%s takes owner names of [A-Za-z0-9._:/@-] with commas "
				      "between them, each with one * at its end if it is to stand "
				      "for all that begin so; not '%.80s'",
				      word, pattern);
		r = add_pattern(parser, pattern, strlen(pattern), access);
		if (r)
			return r;
	}
	if (access == MAAS_AUTH_OWN)
		parser->principal->owns = true;
	return 0;
}

static int take_quota(struct parser *parser, enum maas_auth_quota quota, const char *value)
{
	uint64_t *to = &parser->principal->quota[quota];

	if (quota == MAAS_AUTH_REQUEST_IDS && !strcmp(value, "0"))
		return refuse(parser, "max-request-ids=0: no retry would be known as one; say a "
				      "number from 1");
	if (quota != MAAS_AUTH_BYTES)
		return take_number(parser, maas_auth_quotas[quota].word, value,
				   maas_auth_quotas[quota].max, to);
	if (maas_size_parse(value, to))
		return refuse(parser, "max-bytes takes a size such as 64GiB, not %.40s", value);
	return 0;
}

static const struct {
	const char *name;
	enum maas_auth_right right;
} rights[] = {
	{"health", MAAS_AUTH_HEALTH},
	{"metrics", MAAS_AUTH_METRICS},
	{"admin", MAAS_AUTH_ADMIN},
};

#define TWICE "%s stands twice on this line"

/* The proofs come first: of them a line may have several. */
#define NUM_PROOFS 4
static const char *const words[] = {
	"token",
	"cert",
	"uid",
	"gid",
	"owner",
	"read",
	"health",
	"metrics",
	"admin",
	"max-bytes",
	"max-allocations",
	"max-sessions",
	"max-owners",
	"max-grants",
	"max-connections",
	"max-request-ids",
};

static int take_right(struct parser *parser, const char *word)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(rights); i++)
		if (!strcmp(word, rights[i].name)) {
			parser->principal->rights |= rights[i].right;
			return 0;
		}
	return -ENOENT;
}

static int unknown(struct parser *parser, const char *word, bool has_value)
{
	size_t guess = maas_guess(word, words, MAAS_ARRAY_SIZE(words));
	bool known = guess < MAAS_ARRAY_SIZE(words);

	if (known && !strcmp(word, words[guess]))
		return has_value ? refuse(parser, "%s takes no value", word)
				 : refuse(parser, "%s needs a value: %s=…", word, word);
	return refuse(parser, "unknown word '%.40s'%s%s%s", word, known ? "; is it " : "",
		      known ? words[guess] : "", known ? "?" : "");
}

/* Of two, one would count and look like both. */
static bool is_twice(struct parser *parser, const char *word)
{
	for (uint32_t i = NUM_PROOFS; i < MAAS_ARRAY_SIZE(words); i++) {
		uint32_t bit = UINT32_C(1) << i;
		bool twice = parser->seen & bit;

		if (strcmp(word, words[i]) != 0)
			continue;
		parser->seen |= bit;
		return twice;
	}
	return false;
}

static int take_word(struct parser *parser, char *word)
{
	char *value = strchr(word, '=');

	if (maas_auth_has_token(word))
		return refuse_token(parser);
	if (!strcmp(word, "-"))
		return 0; /* where there are no proofs, or no rights */
	if (!value && is_twice(parser, word))
		return refuse(parser, TWICE, word);
	if (!value)
		return take_right(parser, word) ? unknown(parser, word, false) : 0;
	*value++ = '\0';
	if (is_twice(parser, word))
		return refuse(parser, TWICE, word);
	if (!strcmp(word, "token"))
		return take_token(parser, value);
	if (!strcmp(word, "uid") || !strcmp(word, "gid"))
		return take_peer(parser, word, value);
	if (!strcmp(word, "cert"))
		return take_cert(parser, value);
	if (!strcmp(word, "owner") || !strcmp(word, "read"))
		return take_patterns(parser, word, value);
	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++)
		if (!strcmp(word, maas_auth_quotas[i].word))
			return take_quota(parser, (enum maas_auth_quota)i, value);
	return unknown(parser, word, true);
}

/* ---- the lines */

static int begin_principal(struct parser *parser, const char *name)
{
	struct maas_auth *auth = parser->auth;
	struct maas_auth_principal *principal;
	bool anonymous = !strcmp(name, "*");

	if (maas_auth_has_token(name))
		return refuse_token(parser);
	if (!anonymous && !maas_name_valid(name))
		return refuse(parser,
			      "'%.80s' is no name: 1 to 63 letters of [A-Za-z0-9._:/@-], or * for "
			      "whoever proves nothing",
			      name);
	if (grow(&auth->principals, auth->num_principals, sizeof(*principal)))
		return -ENOMEM;
	principal = &auth->principals[auth->num_principals];
	*principal = (struct maas_auth_principal){
		.name = name, .line = parser->line, .first_pattern = auth->num_patterns};
	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++)
		principal->quota[i] = MAAS_AUTH_UNLIMITED;
	principal->quota[MAAS_AUTH_OWNERS] = MAAS_AUTH_MAX_OWNERS;
	/* There are as many of those who prove nothing as they like. */
	if (anonymous)
		principal->quota[MAAS_AUTH_SESSIONS] = 0;
	parser->principal = principal;
	parser->has_proof = anonymous;
	parser->seen = 0;
	return 0;
}

static int end_principal(struct parser *parser)
{
	struct maas_auth_principal *principal = parser->principal;
	bool anonymous = !strcmp(principal->name, "*");

	if (anonymous && (principal->owns || principal->rights & MAAS_AUTH_ADMIN))
		return refuse(parser,
			      "* is whoever proves nothing: give what needs %s a line and "
			      "a token of its own",
			      principal->owns ? "owner=" : "admin");
	if (!parser->has_proof)
		return refuse(parser,
			      "nothing proves who '%s' is: add token=, cert=, uid= or gid= "
			      "(maas token new '%s' makes a token and its line)",
			      principal->name, principal->name);
	/* One's own name needs no pattern. */
	if (principal->owns && !names_itself(parser->auth, principal) &&
	    add_pattern(parser, principal->name, strlen(principal->name), MAAS_AUTH_OWN))
		return -ENOMEM;
	if (anonymous)
		parser->auth->anonymous = parser->auth->num_principals;
	parser->auth->num_principals++;
	return 0;
}

static int parse_line(struct parser *parser, char *line)
{
	char *word, *rest = NULL;
	bool proofs = false;
	int r;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, BLANKS, &rest);
	if (!word)
		return 0;
	r = begin_principal(parser, word);
	while (!r && (word = strtok_r(NULL, BLANKS, &rest))) {
		proofs = true;
		r = take_word(parser, word);
	}
	if (!r && !proofs)
		return refuse(parser,
			      "'%s' stands alone: its proofs and rights follow on the same "
			      "line",
			      parser->principal->name);
	return r ? r : end_principal(parser);
}

static int parse_lines(struct parser *parser)
{
	char *rest = parser->auth->text, *line;

	while ((line = strsep(&rest, "\n"))) {
		int r;

		parser->line++;
		r = parse_line(parser, line);
		if (r)
			return r;
	}
	return 0;
}

/* ---- the table */

/* Two lines may not have the same: says so of the later one. */
static int sort(struct parser *parser)
{
	const struct maas_auth_principal *all = parser->auth->principals;
	struct maas_auth_twice twice;
	int r = maas_auth_sort(parser->auth, &twice);

	if (r != -EEXIST)
		return r;
	parser->line = all[twice.a > twice.b ? twice.a : twice.b].line;
	return refuse(parser, "the %s of line %u once more: each is of one principal", twice.what,
		      all[twice.a > twice.b ? twice.b : twice.a].line);
}

/* Where no line is of whoever proves nothing, such a one may do nothing. */
static int add_anonymous(struct parser *parser)
{
	int r;

	if (parser->auth->anonymous != UINT32_MAX)
		return 0;
	parser->line = 0;
	r = begin_principal(parser, "*");
	return r ? r : end_principal(parser);
}

static bool may_allocate(const struct maas_auth_principal *principal)
{
	return principal->owns || principal->rights & MAAS_AUTH_ADMIN;
}

/* Where no line says another number, no principal can make the server forget another's. */
static void share_request_ids(struct maas_auth *auth)
{
	uint32_t sharers = 0;

	for (uint32_t i = 0; i < auth->num_principals; i++)
		sharers += may_allocate(&auth->principals[i]);
	for (uint32_t i = 0; i < auth->num_principals; i++) {
		uint64_t *quota = &auth->principals[i].quota[MAAS_AUTH_REQUEST_IDS];

		if (*quota == MAAS_AUTH_UNLIMITED && may_allocate(&auth->principals[i]))
			*quota = MAAS_AUTH_MAX_REQUEST_IDS / sharers;
	}
}

int maas_auth_parse(const char *text, size_t len, char error[MAAS_AUTH_ERROR],
		    struct maas_auth **ret_auth)
{
	struct maas_auth *auth = calloc(1, sizeof(*auth));
	struct parser parser = {.auth = auth, .error = error};
	int r = -ENOMEM;

	*error = '\0';
	if (!auth)
		return r;
	atomic_init(&auth->references, 1);
	auth->anonymous = UINT32_MAX;
	maas_auth_hash(text ? text : "", len, auth->digest);
	auth->text = strndup(text ? text : "", len);
	if (auth->text && strlen(auth->text) != len) {
		snprintf(error, MAAS_AUTH_ERROR, "a NUL stands in the file, which is to be text");
		r = -EINVAL;
	} else if (auth->text) {
		r = parse_lines(&parser);
	}
	if (!r)
		r = add_anonymous(&parser);
	if (!r)
		r = sort(&parser);
	if (!r)
		r = maas_auth_random(auth->known_key, sizeof(auth->known_key));
	if (!r)
		share_request_ids(auth);
	if (r)
		maas_auth_unref(auth);
	else
		*ret_auth = auth;
	return r;
}
