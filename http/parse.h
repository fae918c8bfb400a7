/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, taken apart: path, Range, JSON. No sockets, no state, no server library:
 * these can be tested and fuzzed alone. Threading: any thread.
 */
#ifndef MAAS_HTTP_PARSE_H
#define MAAS_HTTP_PARSE_H

#include <jansson.h>

#include "lend/lend.h"

#define MAAS_HTTP_MAX_RANGES 10000 /* in one /data/read or /data/write */
#define MAAS_HTTP_PATH_IDS   2	   /* at most so many ids in one path */

/* ---- routes */

enum maas_http_method {
	MAAS_HTTP_GET, /* HEAD too: the server drops the body */
	MAAS_HTTP_HEAD,
	MAAS_HTTP_POST,
	MAAS_HTTP_PUT,
	MAAS_HTTP_DELETE,
	MAAS_HTTP_OTHER,
	MAAS_HTTP_METHODS,
};

enum maas_http_method maas_http_method_parse(const char *text);
const char *maas_http_method_name(enum maas_http_method method);

struct maas_http_call; /* http/internal.h */

/*
 * Finds the route of a path (without its query) and copies what stands for each {…} to `ret_ids`;
 * a part that is too long to be an id becomes "". Returns the route's index, which is below
 * MAAS_HTTP_NUM_CALLS. Errors: -ENOENT.
 */
MAAS_MUST_CHECK int maas_http_route_find(const char *path,
					 char ret_ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT]);
/* The route's path as in the documentation, for the metrics too; NULL where no route begins. */
const char *maas_http_route_pattern(unsigned int route);
/* What the route does with that method, or NULL. */
const struct maas_http_call *maas_http_route_call(unsigned int route, enum maas_http_method method);
/* The methods of the route, as the header Allow names them: "GET, HEAD, DELETE". */
#define MAAS_HTTP_ALLOW_TEXT 40
void maas_http_route_allow(unsigned int route, char ret_text[MAAS_HTTP_ALLOW_TEXT]);

/*
 * Decodes %XX in place and returns the new length. What stands for NUL or another control character
 * stays as it is: nothing here has such a name, and the text neither ends early nor spoils a log.
 */
size_t maas_http_unescape(char *text);

/* A path as one word for people, cut off to `size` bytes, of which at least 4 are needed. Of an id
 * only its first part is shown: whoever has a whole id can use what it names. */
void maas_http_path_text(const char *path, char *ret_text, size_t size);

/* ---- who is meant, and who asks */

/* "HOST[:PORT]", as in Host (RFC 9110, 7.2). The host is borrowed from the text, as it stands
 * there. */
struct maas_http_authority {
	const char *host;
	size_t host_len; /* 0: none */
	uint16_t port;	 /* 0: none is given */
};

/* Errors: -EINVAL. */
MAAS_MUST_CHECK int maas_http_authority_parse(const char *text, size_t len,
					      struct maas_http_authority *ret_authority);
/* Host names are compared without case. */
bool maas_http_authority_is(const struct maas_http_authority *authority, const char *name);
/* localhost, 127/8, [::1] */
bool maas_http_authority_is_loopback(const struct maas_http_authority *authority);
/* Whether `origin` (RFC 6454) is of that host and port, by http or https. */
bool maas_http_same_origin(const char *origin, const struct maas_http_authority *authority);
/* The length of the authority of "http://AUTHORITY/PATH" and where it begins; 0: another form. */
size_t maas_http_absolute_form(const char *target, size_t *ret_authority_at);

/* ---- Range and Content-Range (RFC 9110, 14) */

struct maas_http_range {
	uint64_t first; /* bytes from the start */
	uint64_t len;
};

/*
 * One byte range of `size` bytes. Returns 1 with `ret_range` set; 0: send the whole (no such unit,
 * malformed, or several ranges). Errors: -ERANGE: 416.
 */
MAAS_MUST_CHECK int maas_http_range_parse(const char *text, uint64_t size,
					  struct maas_http_range *ret_range);

/*
 * "bytes a-b/N" or "bytes a-b/ *" (without the blank). `ret_total` is UINT64_MAX for the asterisk.
 * Errors: -EINVAL.
 */
MAAS_MUST_CHECK int maas_http_content_range_parse(const char *text,
						  struct maas_http_range *ret_range,
						  uint64_t *ret_total);

/* Decimal digits only. Errors: -EINVAL, -ERANGE for 2^63 and above. */
MAAS_MUST_CHECK int maas_http_u63_parse(const char *text, uint64_t *ret_value);

/* ---- JSON bodies */

/* What is wrong with a request, for the answer's `error` object. */
struct maas_http_fault {
	const char *code;
	char text[320];
};

struct maas_http_allocate_body {
	uint64_t size_bytes;
	uint64_t count; /* 0: not given */
	uint64_t ttl_s; /* 0: not given */
	enum maas_lend_lifetime lifetime;
	enum maas_lend_access access;	 /* MAAS_LEND_ACCESS_WRITE where not given */
	char session[MAAS_SLAB_ID_TEXT]; /* "" where not given, as the others */
	char owner[MAAS_NAME_BYTES];
	char request_id[MAAS_LEND_REQUEST_ID];
};

struct maas_http_session_body {
	char name[MAAS_NAME_BYTES]; /* "" where not given */
	uint64_t ttl_s;		    /* 0: not given */
	bool exclusive;
};

struct maas_http_grant_body {
	char session[MAAS_SLAB_ID_TEXT];
	enum maas_lend_access access; /* not MAAS_LEND_ACCESS_NONE */
};

struct maas_http_piece {
	char id[MAAS_SLAB_ID_TEXT];
	uint64_t offset;
	uint64_t len; /* at least 1 */
};

/* All: -EINVAL with `fault` filled, -ENOMEM. Nothing is kept of `text`. */
MAAS_MUST_CHECK int maas_http_json_allocate(const char *text, size_t len,
					    struct maas_http_allocate_body *ret_body,
					    struct maas_http_fault *fault);
/* `ret_ttl_s`: 0 where not given. */
MAAS_MUST_CHECK int maas_http_json_renew(const char *text, size_t len, uint64_t max_ttl_s,
					 uint64_t *ret_ttl_s, struct maas_http_fault *fault);
MAAS_MUST_CHECK int maas_http_json_session(const char *text, size_t len,
					   struct maas_http_session_body *ret_body,
					   struct maas_http_fault *fault);
MAAS_MUST_CHECK int maas_http_json_grant(const char *text, size_t len,
					 struct maas_http_grant_body *ret_body,
					 struct maas_http_fault *fault);
/* For a call that takes no fields: an empty body or {}. */
MAAS_MUST_CHECK int maas_http_json_none(const char *text, size_t len,
					struct maas_http_fault *fault);

/* ---- JSON bodies that are one list, an element at a time */

#define MAAS_HTTP_ELEMENT_BYTES 4096 /* of one element's text, at most */

/* The JSON text of one element; borrowed from the body. */
struct maas_http_element {
	const char *text;
	size_t len;
};

struct maas_http_list_shape {
	const char *name; /* of the field that holds the array */
	const char *example;
	const char *wanted; /* what an element should be, in words */
	char opens;	    /* the first byte of an element */
	uint32_t max;	    /* elements */
};

/* A walk through the elements; the fields are the walk's own. Owner thread only. */
struct maas_http_list {
	const struct maas_http_list_shape *shape;
	const char *text;
	const char *at;
	const char *end;
	uint32_t count; /* elements so far */
};

/* Borrows `text` until the walk ends. Errors: -EINVAL with `fault` filled. */
MAAS_MUST_CHECK int maas_http_list_open(struct maas_http_list *list,
					const struct maas_http_list_shape *shape, const char *text,
					size_t len, struct maas_http_fault *fault);
/* 1: the next element; 0: there is none, and the whole body was well-formed. Errors: -EINVAL. */
MAAS_MUST_CHECK int maas_http_list_next(struct maas_http_list *list,
					struct maas_http_element *ret_element,
					struct maas_http_fault *fault);

/* {"ids":[…]}, as above. `ret_id` is "" for a string that is too long to be an id. */
MAAS_MUST_CHECK int maas_http_ids_open(struct maas_http_list *list, const char *text, size_t len,
				       struct maas_http_fault *fault);
MAAS_MUST_CHECK int maas_http_ids_next(struct maas_http_list *list, char ret_id[MAAS_SLAB_ID_TEXT],
				       struct maas_http_element *ret_element,
				       struct maas_http_fault *fault);

/* {"ranges":[…]}, some at a time: a body has thousands, and each takes microseconds. */
struct maas_http_pieces {
	struct maas_http_piece *at; /* owned; free() */
	uint32_t count;		    /* that are read */
	uint32_t room;		    /* for so many; there are no more */
	uint64_t total;		    /* bytes */
	struct maas_http_list list;
};

/* Borrows `text` until all are read. Both: -EINVAL with `fault` filled, -ENOMEM; `at` is the
 * caller's also then. */
MAAS_MUST_CHECK int maas_http_pieces_open(struct maas_http_pieces *pieces, const char *text,
					  size_t len, struct maas_http_fault *fault);
/* Reads up to `max` ranges more. Returns 1; or 0, when those were all and the body is good. */
MAAS_MUST_CHECK int maas_http_pieces_read(struct maas_http_pieces *pieces, uint32_t max,
					  struct maas_http_fault *fault);

#endif
