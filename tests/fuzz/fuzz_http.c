/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, to the parsers of http/. The first byte chooses the parser, the rest is its
 * text; see the corpus. Besides not crashing, each must keep what its header promises.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/parse.h"
#include "tests/fuzz/fuzz.h"

static void try_escapes(const char *text)
{
	size_t len = strlen(text);
	char word[160];
	char *copy = strdup(text);

	if (!copy)
		return;
	REQUIRE(maas_http_unescape(copy) == strlen(copy) && strlen(copy) <= len);
	maas_http_path_text(copy, word, sizeof(word));
	for (const char *at = word; *at; at++)
		REQUIRE(*at > ' ' && *at < 0x7f);
	REQUIRE(strlen(word) < sizeof(word) && (*word || !*copy));
	free(copy);
}

static void try_path(const char *text)
{
	char ids[MAAS_HTTP_PATH_IDS][MAAS_SLAB_ID_TEXT];
	int route;

	memset(ids, 0, sizeof(ids));
	route = maas_http_route_find(text, ids);
	REQUIRE(route == -ENOENT || maas_http_route_pattern((unsigned int)route));
	for (int i = 0; i < MAAS_HTTP_PATH_IDS; i++)
		REQUIRE(memchr(ids[i], '\0', MAAS_SLAB_ID_TEXT) && !strchr(ids[i], '/'));
	REQUIRE(maas_http_method_parse(text) < MAAS_HTTP_METHODS);
	try_escapes(text);
}

/* Two parts, between them a blank: an origin and the authority that it may be of. */
static void try_authority(const char *text)
{
	size_t len = strcspn(text, " ");
	const char *second = text[len] ? text + len + 1 : "";
	struct maas_http_authority authority;
	char *origin = strndup(text, len);
	size_t at;

	if (!origin)
		return;
	REQUIRE(!(len = maas_http_absolute_form(origin, &at)) || at + len <= strlen(origin));
	if (!maas_http_authority_parse(second, strlen(second), &authority)) {
		REQUIRE(authority.host == second && authority.host_len);
		REQUIRE(authority.host_len <= strlen(second));
		REQUIRE(!memchr(authority.host, '/', authority.host_len));
		/* What is on loopback is neither a name of somebody else nor a number outside. */
		if (maas_http_authority_is_loopback(&authority))
			REQUIRE(authority.host_len < 64);
		if (maas_http_same_origin(origin, &authority))
			REQUIRE(strlen(origin) >= 7 + authority.host_len);
	}
	free(origin);
}

static void try_range(const char *text)
{
	static const uint64_t sizes[] = {1, 100, 4u << 20, INT64_MAX};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		struct maas_http_range range;
		int r = maas_http_range_parse(text, sizes[i], &range);

		REQUIRE(r == 0 || r == 1 || r == -ERANGE);
		REQUIRE(r != 1 || (range.len && range.first < sizes[i] &&
				   range.len <= sizes[i] - range.first));
	}
}

static void try_content_range(const char *text)
{
	struct maas_http_range range;
	uint64_t total;

	if (maas_http_content_range_parse(text, &range, &total))
		return;
	REQUIRE(range.len && range.first + range.len > range.first);
	REQUIRE(range.first + range.len <= total);
}

static void try_number(const char *text)
{
	uint64_t value;

	if (!maas_http_u63_parse(text, &value))
		REQUIRE(value <= INT64_MAX && strspn(text, "0123456789") == strlen(text));
}

/* A refusal says something, and what it says can be sent. */
static void check_fault(int r, const struct maas_http_fault *fault)
{
	struct maas_buf out = {0};

	REQUIRE(!r || r == -EINVAL || r == -ENOMEM);
	if (r != -EINVAL)
		return;
	REQUIRE(*fault->code && *fault->text);
	maas_buf_json(&out, fault->text);
	REQUIRE(!out.error);
	maas_buf_fini(&out);
}

static void try_allocate(const char *text, size_t len)
{
	const uint32_t max_ttl_s = MAAS_LEND_MAX_TTL_S;
	struct maas_http_fault fault;
	struct maas_http_allocate_body body;
	int r = maas_http_json_allocate(text, len, &body, &fault);

	check_fault(r, &fault);
	if (r)
		return;
	REQUIRE(body.size_bytes && body.size_bytes <= INT64_MAX);
	REQUIRE(body.count <= MAAS_SLAB_MAX_BATCH && body.ttl_s <= max_ttl_s);
	REQUIRE((body.lifetime == MAAS_LEND_LIFETIME_TTL) == (body.ttl_s > 0));
	REQUIRE(body.access <= MAAS_LEND_ACCESS_WRITE);
	REQUIRE(*body.session || body.access == MAAS_LEND_ACCESS_WRITE);
	REQUIRE(!*body.owner || maas_name_valid(body.owner));
}

/*
 * What the JSON library says of the whole text: how many elements the one array of the object has,
 * or -1. A list that is taken is one that the library takes, and one that is no valid JSON in our
 * eyes is none in the library's, either.
 */
static int count_elements(const char *text, size_t len, const char *name)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *array = json_object_get(root, name);
	int count = -1;

	if (json_is_array(array) && json_object_size(root) == 1)
		count = (int)json_array_size(array);
	json_decref(root);
	return count;
}

static void compare(int r, const struct maas_http_fault *fault, uint32_t count, const char *text,
		    size_t len, const char *name)
{
	int expected = count_elements(text, len, name);

	REQUIRE(r || (expected >= 0 && (uint32_t)expected == count));
	REQUIRE(r != -EINVAL || expected <= 0 || strcmp(fault->code, "bad_json") != 0);
}

static void try_pieces(const char *text, size_t len)
{
	struct maas_http_fault fault;
	struct maas_http_pieces pieces;
	uint64_t total = 0;
	int r = maas_http_pieces_open(&pieces, text, len, &fault);

	for (int more = !r; more; more = r == 1)
		r = maas_http_pieces_read(&pieces, 3, &fault);
	check_fault(r, &fault);
	compare(r, &fault, r ? 0 : pieces.count, text, len, "ranges");
	if (r) {
		free(pieces.at);
		return;
	}
	REQUIRE(pieces.count && pieces.count <= MAAS_HTTP_MAX_RANGES);
	for (uint32_t i = 0; i < pieces.count; i++) {
		REQUIRE(pieces.at[i].len && pieces.at[i].offset <= INT64_MAX);
		total += pieces.at[i].len;
	}
	REQUIRE(total == pieces.total && total <= INT64_MAX);
	free(pieces.at);
}

static void try_lists(const char *text, size_t len)
{
	struct maas_http_element element;
	struct maas_http_fault fault;
	struct maas_http_list list;
	char id[MAAS_SLAB_ID_TEXT];
	int r = maas_http_ids_open(&list, text, len, &fault);

	if (!r) {
		do {
			r = maas_http_ids_next(&list, id, &element, &fault);
			REQUIRE(r != 1 || (element.text > text && element.len >= 2 &&
					   element.text + element.len <= text + len));
		} while (r == 1);
	}
	check_fault(r, &fault);
	compare(r, &fault, list.count, text, len, "ids");
	REQUIRE(list.count <= MAAS_SLAB_MAX_BATCH);
}

static void try_small(const char *text, size_t len)
{
	struct maas_http_fault fault;
	struct maas_http_session_body session;
	struct maas_http_grant_body grant;
	uint64_t ttl_s;
	int r;

	check_fault(maas_http_json_session(text, len, &session, &fault), &fault);
	r = maas_http_json_grant(text, len, &grant, &fault);
	check_fault(r, &fault);
	REQUIRE(r || grant.access == MAAS_LEND_ACCESS_READ ||
		grant.access == MAAS_LEND_ACCESS_WRITE);
	check_fault(maas_http_json_renew(text, len, MAAS_LEND_MAX_TTL_S, &ttl_s, &fault), &fault);
	check_fault(maas_http_json_none(text, len, &fault), &fault);
}

static void try_one(uint8_t parser, const char *text, size_t len)
{
	static void (*const of_text[256])(const char *) = {['p'] = try_path,
							   ['h'] = try_authority,
							   ['r'] = try_range,
							   ['c'] = try_content_range,
							   ['u'] = try_number};
	static void (*const of_body[256])(const char *, size_t) = {
		['a'] = try_allocate, ['v'] = try_pieces, ['f'] = try_lists};

	if (of_text[parser])
		of_text[parser](text);
	else if (of_body[parser])
		of_body[parser](text, len);
	else
		try_small(text, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size)
		return 0;
	/* Of exactly its length, so that AddressSanitizer sees a step beyond. */
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	try_one(data[0], text, size - 1);
	free(text);
	return 0;
}
