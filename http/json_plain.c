/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The usual small object, read where it stands: its strings have nothing to be decoded, its numbers
 * are whole. The JSON library makes a tree of any object, which costs ten times the rest of an
 * allocation's request. Here only what is right is read: whatever is not, or not plain, is left to
 * that library, which knows what to say of it. No state: any thread.
 */
#include <string.h>

#include "http/json_object.h"

#define MAX_DIGITS 18 /* no number of so many overflows */

struct text {
	const char *at;
	const char *end;
};

/* White space (RFC 8259, 2). */
static void skip_space(struct text *text)
{
	while (text->at < text->end &&
	       (*text->at == ' ' || *text->at == '\t' || *text->at == '\r' || *text->at == '\n'))
		text->at++;
}

static bool take(struct text *text, char wanted)
{
	skip_space(text);
	if (text->at == text->end || *text->at != wanted)
		return false;
	text->at++;
	return true;
}

static bool take_word(struct text *text, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(text->end - text->at) < len || memcmp(text->at, word, len) != 0)
		return false;
	text->at += len;
	return true;
}

static bool take_string(struct text *text, const char **ret_string, size_t *ret_len)
{
	const char *from;

	if (!take(text, '"'))
		return false;
	for (from = text->at; text->at < text->end && *text->at != '"'; text->at++)
		if (*text->at < ' ' || *text->at > '~' || *text->at == '\\')
			return false;
	*ret_string = from;
	*ret_len = (size_t)(text->at - from);
	return take(text, '"');
}

static bool take_number(struct text *text, uint64_t *ret_value)
{
	const char *from = text->at;
	uint64_t value = 0;
	ptrdiff_t digits;

	while (text->at < text->end && *text->at >= '0' && *text->at <= '9' &&
	       text->at - from <= MAX_DIGITS)
		value = value * 10 + (uint64_t)(*text->at++ - '0');
	digits = text->at - from;
	if (!digits || digits > MAX_DIGITS || (*from == '0' && digits > 1))
		return false;
	*ret_value = value;
	return true;
}

static bool read_number(struct text *text, const struct field *field, uint64_t *at)
{
	uint64_t value;

	if (!take_number(text, &value) || value < field->min || value > field->max)
		return false;
	*at = value;
	return true;
}

static bool read_string(struct text *text, const struct field *field, char *at)
{
	const char *string;
	size_t len;

	if (!take_string(text, &string, &len) || !len || len >= field->max)
		return false;
	memcpy(at, string, len);
	at[len] = '\0';
	return true;
}

static bool read_bool(struct text *text, bool *at)
{
	*at = take_word(text, "true");
	return *at || take_word(text, "false");
}

static bool read_value(struct text *text, const struct field *field, void *body)
{
	void *at = (char *)body + field->offset;

	skip_space(text);
	switch (field->kind) {
	case KIND_NUMBER:
		return read_number(text, field, at);
	case KIND_STRING:
		return read_string(text, field, at);
	case KIND_BOOL:
		return read_bool(text, at);
	}
	return false;
}

/* NULL: no field has this name. */
static const struct field *find_field(const struct shape *shape, const char *name, size_t len)
{
	for (size_t i = 0; i < shape->num_fields; i++)
		if (!strncmp(shape->fields[i].name, name, len) && !shape->fields[i].name[len])
			return &shape->fields[i];
	return NULL;
}

/* A name and its value. Sets the field's bit in `given`, where it must not be yet. */
static bool read_field(struct text *text, const struct shape *shape, void *body, uint32_t *given)
{
	const struct field *field;
	const char *name;
	uint32_t bit;
	size_t len;

	if (!take_string(text, &name, &len) || !take(text, ':'))
		return false;
	field = find_field(shape, name, len);
	if (!field)
		return false;
	bit = 1u << (field - shape->fields);
	if (*given & bit || !read_value(text, field, body))
		return false;
	*given |= bit;
	return true;
}

bool maas_http_json_plain(const struct shape *shape, const char *text, size_t len, void *body)
{
	struct text rest = {text, text + len};
	uint32_t given = 0;

	if (!take(&rest, '{'))
		return false;
	do
		if (!read_field(&rest, shape, body, &given))
			return false;
	while (take(&rest, ','));
	if (!take(&rest, '}'))
		return false;
	skip_space(&rest);
	for (size_t i = 0; i < shape->num_fields; i++)
		if (shape->fields[i].required && !(given & 1u << i))
			return false;
	return rest.at == rest.end;
}
