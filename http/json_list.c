/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies that are one list, {"ids":[…]} or {"ranges":[…]}, an element at a time. The JSON library
 * makes a tree of what it reads, and a tree of small values takes a hundred times the memory of its
 * text: so the outer object and its array are walked here, and only one element after the other is
 * given to the library.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/json_object.h"

static int refuse_syntax(const struct maas_http_list *list, const char *expected,
			 struct maas_http_fault *fault)
{
	return maas_http_refuse(fault, "bad_json",
				"the body is not valid JSON: %s expected at byte %zu", expected,
				(size_t)(list->at - list->text) + 1);
}

static int refuse_count(const struct maas_http_list *list, struct maas_http_fault *fault)
{
	return maas_http_refuse(fault, "bad_field", "\"%s\" must be an array of 1 to %u %s",
				list->shape->name, list->shape->max, list->shape->name);
}

/* The next byte that is no white space (RFC 8259, 2), or NUL at the end. */
static char peek(struct maas_http_list *list)
{
	while (list->at < list->end && *list->at && strchr(" \t\r\n", *list->at))
		list->at++;
	if (list->at == list->end)
		return '\0';
	return *list->at;
}

static bool take(struct maas_http_list *list, char wanted)
{
	if (peek(list) != wanted)
		return false;
	list->at++;
	return true;
}

/*
 * The string, object or array that begins at `list->at`, to its matching end. Only what the JSON
 * library is not asked about must be right here: where a string ends, and how deep one is. Errors:
 * -EINVAL without an end, -EFBIG too long.
 */
static int take_element(struct maas_http_list *list, struct maas_http_element *ret_element)
{
	const char *from = list->at;
	bool quoted = false;
	int depth = 0;

	for (const char *at = from; at < list->end; at++) {
		if (at - from >= MAAS_HTTP_ELEMENT_BYTES)
			return -EFBIG;
		if (quoted && *at == '\\')
			at++;
		else if (*at == '"')
			quoted = !quoted;
		else if (!quoted && (*at == '{' || *at == '['))
			depth++;
		else if (!quoted && (*at == '}' || *at == ']'))
			depth--;
		if (quoted || depth)
			continue;
		list->at = at + 1;
		*ret_element = (struct maas_http_element){from, (size_t)(list->at - from)};
		return 0;
	}
	return -EINVAL;
}

/* A string that says what it is: nothing in it has to be decoded. */
static bool is_plain(const struct maas_http_element *element)
{
	for (size_t i = 1; i + 1 < element->len; i++) {
		unsigned char byte = (unsigned char)element->text[i];

		if (byte < 0x20 || byte > 0x7e || byte == '\\')
			return false;
	}
	return element->len >= 2;
}

/* The element as jansson reads it, owned by the caller; NULL: not valid, or out of memory. */
static json_t *load(const struct maas_http_element *element, json_error_t *error)
{
	return json_loadb(element->text, element->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES,
			  error);
}

/* Copies the text of a JSON string; one that does not fit becomes "". False: not a valid string. */
static bool decode(const struct maas_http_element *element, char *ret_text, size_t size)
{
	json_error_t error;
	const char *text = element->text + 1;
	size_t len = element->len - 2;
	json_t *value = NULL;
	bool valid = is_plain(element);

	if (!valid) {
		value = load(element, &error);
		valid = json_is_string(value);
		text = json_string_value(value);
		len = json_string_length(value);
	}
	if (!valid || len >= size || memchr(text, '\0', len))
		len = 0;
	if (len)
		memcpy(ret_text, text, len);
	ret_text[len] = '\0';
	json_decref(value);
	return valid;
}

/* The key at `list->at` and its colon. */
static int take_name(struct maas_http_list *list, struct maas_http_fault *fault)
{
	struct maas_http_element key;
	char name[64];
	int r;

	if (peek(list) != '"')
		return refuse_syntax(list, "a field's name", fault);
	r = take_element(list, &key);
	if (r || !decode(&key, name, sizeof(name)))
		return refuse_syntax(list, "a field's name", fault);
	if (!take(list, ':'))
		return refuse_syntax(list, "':'", fault);
	if (strcmp(name, list->shape->name) != 0)
		return maas_http_refuse(fault, "unknown_field",
					"unknown field \"%s\"; the fields are: %s", name,
					list->shape->name);
	return 0;
}

int maas_http_list_open(struct maas_http_list *list, const struct maas_http_list_shape *shape,
			const char *text, size_t len, struct maas_http_fault *fault)
{
	int r;

	*list = (struct maas_http_list){
		.shape = shape, .text = text, .at = text, .end = text + len};
	if (!len)
		return maas_http_refuse(fault, "bad_json", "the body is empty; send for example %s",
					shape->example);
	if (!take(list, '{'))
		return maas_http_refuse(fault, "bad_json",
					"the body must be a JSON object, for example %s",
					shape->example);
	if (peek(list) == '}')
		return maas_http_refuse(fault, "missing_field",
					"\"%s\" is missing; send for example %s", shape->name,
					shape->example);
	r = take_name(list, fault);
	if (r)
		return r;
	return take(list, '[') ? 0 : refuse_count(list, fault);
}

/* Behind the array: nothing else may come. */
static int close_list(struct maas_http_list *list, struct maas_http_fault *fault)
{
	int r;

	if (!list->count)
		return refuse_count(list, fault);
	if (take(list, ',')) {
		r = take_name(list, fault);
		return r ? r
			 : maas_http_refuse(fault, "bad_json", "\"%s\" is there twice",
					    list->shape->name);
	}
	if (!take(list, '}'))
		return refuse_syntax(list, "'}'", fault);
	if (peek(list) || list->at < list->end)
		return refuse_syntax(list, "the end", fault);
	return 0;
}

int maas_http_list_next(struct maas_http_list *list, struct maas_http_element *ret_element,
			struct maas_http_fault *fault)
{
	int r;

	if (list->count ? !take(list, ',') : peek(list) == ']')
		return take(list, ']') ? close_list(list, fault)
				       : refuse_syntax(list, "',' or ']'", fault);
	if (list->count == list->shape->max)
		return refuse_count(list, fault);
	if (peek(list) != list->shape->opens)
		return maas_http_refuse(fault, "bad_field", "%s[%u] must be %s", list->shape->name,
					list->count, list->shape->wanted);
	r = take_element(list, ret_element);
	if (r == -EFBIG)
		return maas_http_refuse(fault, "bad_field", "%s[%u] is longer than %d bytes",
					list->shape->name, list->count, MAAS_HTTP_ELEMENT_BYTES);
	if (r)
		return maas_http_refuse(fault, "bad_json",
					"the body is not valid JSON: %s[%u] has no end",
					list->shape->name, list->count);
	list->count++;
	return 1;
}

/* ---- {"ids":[…]} */

static const struct maas_http_list_shape ids_shape = {
	.name = "ids",
	.example = "{\"ids\": [\"ID\", \"ID\"]}",
	.wanted = WANT_ID,
	.opens = '"',
	.max = MAAS_SLAB_MAX_BATCH,
};

int maas_http_ids_open(struct maas_http_list *list, const char *text, size_t len,
		       struct maas_http_fault *fault)
{
	return maas_http_list_open(list, &ids_shape, text, len, fault);
}

int maas_http_ids_next(struct maas_http_list *list, char ret_id[MAAS_SLAB_ID_TEXT],
		       struct maas_http_element *ret_element, struct maas_http_fault *fault)
{
	int r = maas_http_list_next(list, ret_element, fault);

	if (r == 1 && !decode(ret_element, ret_id, MAAS_SLAB_ID_TEXT))
		return maas_http_refuse(fault, "bad_json",
					"the body is not valid JSON: ids[%u] is no string",
					list->count - 1);
	return r;
}

/* ---- {"ranges":[…]} */

#define AT(field) offsetof(struct maas_http_piece, field)
static const struct field piece_fields[] = {
	{"id", KIND_STRING, true, AT(id), 0, MAAS_SLAB_ID_TEXT, WANT_ID},
	{"offset", KIND_NUMBER, true, AT(offset), 0, INT64_MAX, NULL},
	{"length", KIND_NUMBER, true, AT(len), 1, INT64_MAX, NULL},
};
#undef AT
#define EXAMPLE "{\"id\": \"ID\", \"offset\": 0, \"length\": 16}"
static const struct shape piece_shape = {EXAMPLE, piece_fields, MAAS_ARRAY_SIZE(piece_fields)};
static const struct maas_http_list_shape pieces_shape = {
	.name = "ranges",
	.example = "{\"ranges\": [" EXAMPLE "]}",
	.wanted = "an object such as " EXAMPLE,
	.opens = '{',
	.max = MAAS_HTTP_MAX_RANGES,
};

/* Returns 1. */
static int fill_piece(struct maas_http_pieces *pieces, const struct maas_http_element *element,
		      struct maas_http_fault *fault)
{
	struct maas_http_piece *piece = &pieces->at[pieces->count];
	struct maas_http_fault inner;
	json_t *object = NULL;
	int r;

	assert(pieces->count < pieces->room);
	r = maas_http_json_load(element->text, element->len, EXAMPLE, &object, &inner);
	if (!r)
		r = maas_http_json_fill(&piece_shape, object, piece, &inner);
	json_decref(object);
	if (r == -EINVAL)
		return maas_http_refuse(fault, inner.code, "ranges[%u]: %.280s", pieces->count,
					inner.text);
	if (r)
		return r;
	/* The sum of offsets and lengths below 2^63 each fits 64 bits; their total need not. */
	if (__builtin_add_overflow(pieces->total, piece->len, &pieces->total) ||
	    pieces->total > INT64_MAX)
		return maas_http_refuse(fault, "bad_field",
					"the ranges' lengths add up to 2^63 or more");
	pieces->count++;
	return 1;
}

/* How many ranges there may be at most: each has a brace. */
static uint32_t count_braces(const char *text, size_t len)
{
	const char *end = text + len;
	uint32_t count = 0;

	while (count <= MAAS_HTTP_MAX_RANGES && (text = memchr(text, '{', (size_t)(end - text)))) {
		text++;
		count++;
	}
	return count;
}

int maas_http_pieces_open(struct maas_http_pieces *pieces, const char *text, size_t len,
			  struct maas_http_fault *fault)
{
	int r;

	*pieces = (struct maas_http_pieces){0};
	r = maas_http_list_open(&pieces->list, &pieces_shape, text, len, fault);
	if (r)
		return r;
	pieces->room = count_braces(pieces->list.at, (size_t)(pieces->list.end - pieces->list.at));
	/* One more, because nothing may be given for none. */
	pieces->at = calloc((size_t)pieces->room + 1, sizeof(*pieces->at));
	return pieces->at ? 0 : -ENOMEM;
}

int maas_http_pieces_read(struct maas_http_pieces *pieces, uint32_t max,
			  struct maas_http_fault *fault)
{
	struct maas_http_element element = {0};
	int r = 1;

	for (uint32_t i = 0; r == 1 && i < max; i++) {
		r = maas_http_list_next(&pieces->list, &element, fault);
		if (r == 1)
			r = fill_piece(pieces, &element, fault);
	}
	return r;
}
