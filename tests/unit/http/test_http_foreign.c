/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is another principal's is as what is not there, byte for byte, wherever an id can stand: in
 * a path, in a body and in a query, of an allocation and of a session.
 */
#include <unistd.h>

#include "tests/unit/http/http_roles.h"

enum which { FOREIGN, GONE, NEVER, WHICH };

static char memory[WHICH][MAAS_SLAB_ID_TEXT];	/* of the team; freed; made up */
static char sessions[WHICH][MAAS_SLAB_ID_TEXT]; /* likewise */
static char own[MAAS_SLAB_ID_TEXT];		/* memory of the stranger that asks … */
static char own_session[MAAS_SLAB_ID_TEXT];	/* … and its session */

static void set_up(void)
{
	/* One: to ThreadSanitizer, requests in turn are not in turn. */
	const struct maas_http_options options = {.threads = 1};
	const char *allocate = "{\"size_bytes\":100,\"lifetime\":\"ttl\",\"ttl_seconds\":60}";

	http_start_keys(&options);
	make_tokens();
	use("read=team/*");
	for (int i = FOREIGN; i < NEVER; i++) {
		copy_field(ask(OWNER, "POST", "/allocate", allocate, 200), "id", memory[i]);
		copy_field(ask(OWNER, "POST", "/sessions", "{\"name\":\"team\"}", 200), "id",
			   sessions[i]);
	}
	ask(OWNER, "DELETE", http_text("/allocate/%s", memory[GONE]), NULL, 200);
	ask(OWNER, "DELETE", http_text("/sessions/%s", sessions[GONE]), NULL, 200);
	snprintf(memory[NEVER], MAAS_SLAB_ID_TEXT, NO_ID);
	snprintf(sessions[NEVER], MAAS_SLAB_ID_TEXT, NO_ID);
	copy_field(ask(OTHER, "POST", "/allocate", allocate, 200), "id", own);
	copy_field(ask(OTHER, "POST", "/sessions", "{}", 200), "id", own_session);
}

/* Head and body of an answer without what every answer has of its own, and without the id. */
static const char *normal(const struct http_answer *a, const char *id)
{
	const char *date = strstr(a->headers, "Date: ");
	size_t before = date ? (size_t)(date - a->headers) : strlen(a->headers);
	const char *at = a->body ? strstr(a->body, id) : NULL;
	size_t len = at ? (size_t)(at - a->body) : a->len;

	return http_text("%.*s%s%.*s%s%s", (int)before, a->headers,
			 date ? date + strcspn(date, "\n") : "", (int)len, a->body ? a->body : "",
			 at ? "ID" : "", at ? at + strlen(id) : "");
}

/* `text` with `id` in the place of its "#". */
static const char *put(const char *text, const char *id)
{
	size_t len = strcspn(text, "#");

	return text[len] ? http_text("%.*s%s%s", (int)len, text, id, text + len + 1) : text;
}

/* The body of a write of four bytes to the ranges of `json`. */
static size_t frame_of(const char *json, char frame[512])
{
	int len = snprintf(frame + 4, 508, "%sabcd", json) - 4;

	memcpy(frame, &(uint32_t){(uint32_t)len}, 4);
	return (size_t)len + 8;
}

/* A role asks with each of the ids. */
static void same(enum role role, const char *method, const char *path, const char *body,
		 char ids[WHICH][MAAS_SLAB_ID_TEXT], int count)
{
	const char *header = http_text("Authorization: Bearer %s", tokens[role]);
	const char *first = NULL;

	for (int i = 0; i < count; i++) {
		const char *text = body ? put(body, ids[i]) : NULL;
		size_t len = text ? strlen(text) : 0;
		const char *got;
		char frame[512];

		if (!strcmp(path, "/data/write")) {
			len = frame_of(text, frame);
			text = frame;
		}
		got = normal(http_call(method, put(path, ids[i]), text, len, header), ids[i]);
		if (!first)
			first = got;
		if (strcmp(got, first) != 0)
			fail_msg("%s %s of %s as %d:\n%s\nand not\n%s", method, path, ids[i], role,
				 got, first);
	}
}

TEST(allocation__wherever_its_id_stands)
{
	static const struct {
		const char *method, *path, *body;
	} calls[] = {
		{"GET", "/allocate/#", NULL},
		{"GET", "/allocate/#/data", NULL},
		{"PUT", "/allocate/#/data", "x"},
		{"POST", "/allocate/#/renew", "{}"},
		{"POST", "/data/read", "{\"ranges\":[{\"id\":\"#\",\"offset\":0,\"length\":4}]}"},
		{"POST", "/data/read", "{\"ranges\":[{\"id\":\"#\",\"offset\":99,\"length\":4}]}"},
		{"POST", "/data/write", "{\"ranges\":[{\"id\":\"#\",\"offset\":0,\"length\":4}]}"},
		{"POST", "/free", "{\"ids\":[\"#\"]}"},
		{"DELETE", "/allocate/#", NULL},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++)
		same(OTHER, calls[i].method, calls[i].path, calls[i].body, memory, WHICH);
}

/* Whether the session in the call is one's own, another's or nobody's. */
TEST(allocation__of_a_grant)
{
	const char *theirs[] = {own_session, sessions[FOREIGN], sessions[GONE], NO_ID};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(theirs); i++) {
		same(OTHER, "POST", "/allocate/#/grant",
		     http_text("{\"session\":\"%s\",\"access\":\"rw\"}", theirs[i]), memory, WHICH);
		same(OTHER, "DELETE", http_text("/allocate/#/grant/%s", theirs[i]), NULL, memory,
		     WHICH);
	}
}

/* An id that was never one is an error of the query, whoever asks. */
TEST(allocation__that_a_page_begins_behind)
{
	same(OTHER, "GET", "/allocations?owner=other&after=#", NULL, memory, NEVER);
	same(OTHER, "GET", "/allocations?owner=team&after=#", NULL, memory, NEVER);
}

TEST(session__wherever_its_id_stands)
{
	static const struct {
		const char *method, *path, *body;
	} calls[] = {
		{"POST", "/sessions/#/renew", "{}"},
		{"POST", "/sessions/#/ticket", "{}"},
		{"DELETE", "/sessions/#", NULL},
		{"POST", "/allocate", "{\"size_bytes\":1,\"session\":\"#\"}"},
		{"POST", "/allocate", "{\"size_bytes\":1,\"session\":\"#\",\"access\":\"none\"}"},
		{"POST", "/allocate",
		 "{\"size_bytes\":1,\"session\":\"#\",\"lifetime\":\"session\"}"},
		{"POST", "/allocate", "{\"size_bytes\":1,\"session\":\"#\",\"owner\":\"team/x\"}"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(calls); i++)
		for (int role = OTHER; role <= READER; role++)
			same((enum role)role, calls[i].method, calls[i].path, calls[i].body,
			     sessions, WHICH);
}

/* One's own memory for another's session, which may not have it; and somebody else's, to read. */
TEST(session__that_a_grant_is_for)
{
	static const char *const access[] = {"r", "rw"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(access); i++)
		same(OTHER, "POST", http_text("/allocate/%s/grant", own),
		     http_text("{\"session\":\"#\",\"access\":\"%s\"}", access[i]), sessions,
		     WHICH);
	same(OTHER, "DELETE", http_text("/allocate/%s/grant/#", own), NULL, sessions, WHICH);
	same(READER, "DELETE", http_text("/allocate/%s/grant/#", memory[FOREIGN]), NULL, sessions,
	     WHICH);
	/* With a key of another session to it. */
	ask(OTHER, "POST", http_text("/allocate/%s/grant", own),
	    http_text("{\"session\":\"%s\",\"access\":\"r\"}", own_session), 200);
	same(OTHER, "DELETE", http_text("/allocate/%s/grant/#", own), NULL, sessions, WHICH);
}

TEST_MAIN(set_up, http_teardown)
