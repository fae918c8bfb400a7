/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is another principal's is as what is not there, byte for byte, wherever an id can stand: in
 * a path, in a body and in a query, of an allocation and of a session.
 */
#include "tests/unit/http/http_roles.h"

enum which { FOREIGN, GONE, NEVER, WHICH };

static const char *memory[WHICH];   /* of the team; freed; made up */
static const char *sessions[WHICH]; /* likewise */
static const char *own;		    /* memory of the stranger that asks … */
static const char *own_session;	    /* … and its session */

static void set_up(void)
{
	const char *allocate = "{'size_bytes':100,'lifetime':'ttl','ttl_seconds':60}";

	HTTP_START_KEYS(.threads = 1);
	use_anew("read=team/*");
	for (int i = FOREIGN; i < NEVER; i++) {
		memory[i] = make(OWNER, "/allocate", allocate);
		sessions[i] = make(OWNER, "/sessions", "{'name':'team'}");
	}
	ask(OWNER, http_text("DELETE /allocate/%s", memory[GONE]), NULL, 200);
	ask(OWNER, http_text("DELETE /sessions/%s", sessions[GONE]), NULL, 200);
	memory[NEVER] = sessions[NEVER] = NO_ID;
	own = make(OTHER, "/allocate", allocate);
	own_session = make(OTHER, "/sessions", "{}");
}

/* Head and body of an answer without what every answer has of its own, and without the id. */
static const char *normal(const struct http_answer *a, const char *id)
{
	const char *date = strstr(a->headers, "Date: ");
	const char *at = strstr(a->body, id);

	date = date ? date : strchr(a->headers, '\0');
	return http_text("%.*s%s%.*s%s%s", (int)(date - a->headers), a->headers,
			 date + strcspn(date, "\n"), at ? (int)(at - a->body) : -1, a->body,
			 at ? "ID" : "", at ? at + strlen(id) : "");
}

/* `text` with `id` in the place of its "#". */
static const char *put(const char *text, const char *id)
{
	size_t len = strcspn(text, "#");

	return text[len] ? http_text("%.*s%s%s", (int)len, text, id, text + len + 1) : text;
}

/* A role asks with each of the ids. */
static void same(enum role role, const char *call, const char *body, const char *const ids[WHICH],
		 int count)
{
	const char *first = NULL;

	for (int i = 0; i < count; i++) {
		const char *text = body ? http_quoted(put(body, ids[i])) : "";
		struct maas_buf sent = {.data = (char *)(uintptr_t)text, .len = strlen(text)};
		struct maas_buf frame = {0};
		const char *got;

		if (strstr(call, "/data/write")) {
			http_add_frame(&frame, &sent);
			maas_buf_str(&frame, "abcd");
			sent = frame;
		}
		got = normal(http_call(http_text("%s\n%s", put(call, ids[i]), with(tokens[role])),
				       body ? sent.data : NULL, sent.len),
			     ids[i]);
		if (!first)
			first = got;
		if (strcmp(got, first) != 0)
			fail_msg("%s of %s as %d:\n%s\nand not\n%s", call, ids[i], role, got,
				 first);
		maas_buf_fini(&frame);
	}
}

TEST(allocation__wherever_its_id_stands)
{
	static const struct {
		const char *call, *body;
	} calls[] = {
		{"GET /allocate/#", NULL},
		{"GET /allocate/#/data", NULL},
		{"PUT /allocate/#/data", "x"},
		{"POST /allocate/#/renew", "{}"},
		{"POST /data/read", "{'ranges':[{'id':'#','offset':0,'length':4}]}"},
		{"POST /data/read", "{'ranges':[{'id':'#','offset':99,'length':4}]}"},
		{"POST /data/write", "{'ranges':[{'id':'#','offset':0,'length':4}]}"},
		{"POST /free", "{'ids':['#']}"},
		{"DELETE /allocate/#", NULL},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++)
		same(OTHER, calls[i].call, calls[i].body, memory, WHICH);
}

/* Whether the session in the call is one's own, another's or nobody's. */
TEST(allocation__of_a_grant)
{
	const char *theirs[] = {own_session, sessions[FOREIGN], sessions[GONE], NO_ID};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(theirs); i++) {
		same(OTHER, "POST /allocate/#/grant",
		     http_text("{'session':'%s','access':'rw'}", theirs[i]), memory, WHICH);
		same(OTHER, http_text("DELETE /allocate/#/grant/%s", theirs[i]), NULL, memory,
		     WHICH);
	}
}

/* An id that was never one is an error of the query, whoever asks. */
TEST(allocation__that_a_page_begins_behind)
{
	same(OTHER, "GET /allocations?owner=other&after=#", NULL, memory, NEVER);
	same(OTHER, "GET /allocations?owner=team&after=#", NULL, memory, NEVER);
}

TEST(session__wherever_its_id_stands)
{
	static const struct {
		const char *call, *body;
	} calls[] = {
		{"POST /sessions/#/renew", "{}"},
		{"POST /sessions/#/ticket", "{}"},
		{"DELETE /sessions/#", NULL},
		{"POST /allocate", "{'size_bytes':1,'session':'#'}"},
		{"POST /allocate", "{'size_bytes':1,'session':'#','access':'none'}"},
		{"POST /allocate", "{'size_bytes':1,'session':'#','lifetime':'session'}"},
		{"POST /allocate", "{'size_bytes':1,'session':'#','owner':'team/x'}"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++)
		for (enum role role = OTHER; role <= READER; role++)
			same(role, calls[i].call, calls[i].body, sessions, WHICH);
}

/* One's own memory for another's session, which may not have it; and somebody else's, to read. */
TEST(session__that_a_grant_is_for)
{
	static const char *const access[] = {"r", "rw"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(access); i++)
		same(OTHER, http_text("POST /allocate/%s/grant", own),
		     http_text("{'session':'#','access':'%s'}", access[i]), sessions, WHICH);
	same(OTHER, http_text("DELETE /allocate/%s/grant/#", own), NULL, sessions, WHICH);
	same(READER, http_text("DELETE /allocate/%s/grant/#", memory[FOREIGN]), NULL, sessions,
	     WHICH);
	/* With a key of another session to it. */
	ask(OTHER, http_text("POST /allocate/%s/grant", own),
	    http_text("{'session':'%s','access':'r'}", own_session), 200);
	same(OTHER, http_text("DELETE /allocate/%s/grant/#", own), NULL, sessions, WHICH);
}

TEST_MAIN(set_up, http_teardown)
