/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long lists in answers. A tree of JSON takes many times its text, of a hostile shape 80 times: so
 * the list is cut out of its object, and parsed one element after another. What is found here are
 * the ends of values only; whether they make sense is for the parser to say.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

/* A piece of the text. */
struct piece {
	const char *at;
	const char *end;
};

static int fail_list(const char *name)
{
	return maas_fail(-EPROTO, "the server's answer has no sensible list \"%s\"", name);
}

static const char *skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* Returns the end of the string that begins at `at`, or NULL if the string has none. */
static const char *skip_string(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '\\')
			at++;
		else if (*at == '"')
			return at + 1;
	}
	return NULL;
}

/* Returns the end of the value that begins at `at`, or NULL if the value has none. */
static const char *skip_value(const char *at, const char *end)
{
	size_t depth = 0;

	while (at && at < end) {
		if (*at == '"') {
			at = skip_string(at, end);
		} else if (*at == '[' || *at == '{') {
			depth++;
			at++;
		} else if (*at == ']' || *at == '}') {
			if (!depth)
				return at;
			depth--;
			at++;
		} else if (!depth && (*at == ',' || skip_space(at, end) != at)) {
			return at;
		} else {
			at++;
			continue;
		}
		if (!depth)
			return at;
	}
	return NULL;
}

/* The value of the member `name` of the object `text`, which is an array. */
static bool find_list(struct piece text, const char *name, struct piece *ret_list)
{
	const char *at = skip_space(text.at, text.end);
	size_t len = strlen(name);

	if (at == text.end || *at != '{')
		return false;
	do {
		const char *key = skip_space(at + 1, text.end);
		const char *value;
		bool found;

		if (key == text.end || *key != '"')
			return false;
		value = skip_string(key, text.end);
		if (!value)
			return false;
		found = (size_t)(value - key) == len + 2 && !memcmp(key + 1, name, len);
		value = skip_space(value, text.end);
		if (value == text.end || *value != ':')
			return false;
		value = skip_space(value + 1, text.end);
		at = skip_value(value, text.end);
		if (at && found) {
			*ret_list = (struct piece){value, at};
			return *value == '[' && at[-1] == ']';
		}
		at = at ? skip_space(at, text.end) : text.end;
	} while (at < text.end && *at == ',');
	return false;
}

static int parse_element(struct piece element, const char *name, json_t **ret_element)
{
	size_t len = (size_t)(element.end - element.at);

	if (len > MAAS_SMALL_ANSWER)
		return maas_fail(-EPROTO, "the server's answer has too long an entry in \"%s\"",
				 name);
	*ret_element = json_loadb(element.at, len, JSON_DECODE_ANY, NULL);
	return *ret_element ? 0 : fail_list(name);
}

/* Returns how many elements there were. */
static int walk(struct piece list, const char *name,
		int (*each)(void *arg, size_t index, const json_t *element), void *arg)
{
	const char *last = list.end - 1; /* its "]" */
	const char *at = skip_space(list.at + 1, last);
	int count = 0;

	while (at < last) {
		struct piece element = {.at = at, .end = skip_value(at, list.end)};
		json_t *value;
		int r;

		if (!element.end)
			return fail_list(name);
		r = parse_element(element, name, &value);
		if (r)
			return r;
		r = each(arg, (size_t)count++, value);
		json_decref(value);
		if (r)
			return r;
		at = skip_space(element.end, last);
		if (at == last)
			break;
		at = *at == ',' ? skip_space(at + 1, last) : last;
		if (at == last)
			return fail_list(name); /* "[1,]", "[1 2]" */
	}
	return count;
}

/* The object without its list. */
static int parse_rest(struct piece text, struct piece list, json_t **ret_rest)
{
	struct maas_buf rest = {0};
	int r;

	maas_buf_add(&rest, text.at, (size_t)(list.at - text.at));
	maas_buf_str(&rest, "null");
	maas_buf_add(&rest, list.end, (size_t)(text.end - list.end));
	if (rest.error)
		r = maas_fail(-ENOMEM, "out of memory");
	else if (rest.len > MAAS_SMALL_ANSWER)
		r = maas_fail(-EPROTO, "the server's answer has too much beside its list");
	else
		r = maas_json_parse(&rest, ret_rest);
	maas_buf_fini(&rest);
	return r;
}

int maas_json_list(const struct maas_buf *text, const char *name,
		   int (*each)(void *arg, size_t index, const json_t *element), void *arg,
		   json_t **ret_rest)
{
	struct piece whole = {text->data, text->data + text->len};
	struct piece list;
	json_t *rest;
	int count;
	int r;

	if (!text->len || !find_list(whole, name, &list))
		return fail_list(name);
	r = parse_rest(whole, list, &rest);
	if (r)
		return r;
	count = walk(list, name, each, arg);
	if (count < 0)
		json_decref(rest);
	else
		*ret_rest = rest;
	return count;
}
