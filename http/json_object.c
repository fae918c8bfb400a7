/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a JSON object into a struct, as a table of its fields says, and words what is wrong with
 * it. No state: any thread.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "http/json_object.h"

int maas_http_refuse(struct maas_http_fault *fault, const char *code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(fault->text, sizeof(fault->text), fmt, args);
	va_end(args);
	fault->code = code;
	return -EINVAL;
}

static const char *type_name(const json_t *value)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object",
		[JSON_ARRAY] = "an array",
		[JSON_STRING] = "a string",
		[JSON_INTEGER] = "out of that range",
		[JSON_REAL] = "with a point or exponent",
		[JSON_TRUE] = "true",
		[JSON_FALSE] = "false",
		[JSON_NULL] = "null",
	};

	return names[json_typeof(value)];
}

static int set_number(const struct field *field, const json_t *value, void *at,
		      struct maas_http_fault *fault)
{
	json_int_t number = json_integer_value(value); /* 0 for another type */

	if (!json_is_integer(value) || number < 0 || (uint64_t)number < field->min ||
	    (uint64_t)number > field->max)
		return maas_http_refuse(fault, "bad_field",
					"\"%s\" must be a whole number from %" PRIu64 " to %" PRIu64
					"; it is %s",
					field->name, field->min, field->max, type_name(value));
	*(uint64_t *)at = (uint64_t)number;
	return 0;
}

static int set_string(const struct field *field, const json_t *value, void *at,
		      struct maas_http_fault *fault)
{
	size_t len = json_string_length(value); /* 0 for another type */

	if (!len || len >= field->max)
		return maas_http_refuse(fault, "bad_field", "\"%s\" must be %s", field->name,
					field->wanted);
	memcpy(at, json_string_value(value), len + 1);
	return 0;
}

static int set_bool(const struct field *field, const json_t *value, void *at,
		    struct maas_http_fault *fault)
{
	if (!json_is_boolean(value))
		return maas_http_refuse(fault, "bad_field", "\"%s\" must be true or false",
					field->name);
	*(bool *)at = json_is_true(value);
	return 0;
}

static int set_field(const struct field *field, json_t *value, void *body,
		     struct maas_http_fault *fault)
{
	void *at = (char *)body + field->offset;

	switch (field->kind) {
	case KIND_NUMBER:
		return set_number(field, value, at, fault);
	case KIND_STRING:
		return set_string(field, value, at, fault);
	case KIND_BOOL:
		return set_bool(field, value, at, fault);
	}
	return -EINVAL;
}

static int refuse_unknown(const struct shape *shape, const char *name,
			  struct maas_http_fault *fault)
{
	char known[160] = "none";
	size_t used = 0;

	for (size_t i = 0; i < shape->num_fields && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 shape->fields[i].name);
	return maas_http_refuse(fault, "unknown_field",
				"unknown field \"%.64s\"; the fields are: %s", name, known);
}

int maas_http_json_fill(const struct shape *shape, json_t *object, void *body,
			struct maas_http_fault *fault)
{
	uint32_t given = 0;
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value)
	{
		size_t i = 0;
		int r;

		while (i < shape->num_fields && strcmp(shape->fields[i].name, name) != 0)
			i++;
		if (i == shape->num_fields)
			return refuse_unknown(shape, name, fault);
		r = set_field(&shape->fields[i], value, body, fault);
		if (r)
			return r;
		given |= 1u << i;
	}
	for (size_t i = 0; i < shape->num_fields; i++)
		if (shape->fields[i].required && !(given & 1u << i))
			return maas_http_refuse(fault, "missing_field",
						"\"%s\" is missing; send for example %s",
						shape->fields[i].name, shape->example);
	return 0;
}

/*
 * The name of the field whose value ends at `end`, into `name`; false when there is none to be
 * seen. The JSON library stops at a number that it cannot hold and does not say whose it is.
 */
static bool field_before(const char *text, size_t end, char *name, size_t size)
{
	size_t from;

	while (end && strchr("+-.0123456789eE \t\r\n", text[end - 1]))
		end--;
	if (!end || text[--end] != ':')
		return false;
	while (end && isspace((unsigned char)text[end - 1]))
		end--;
	if (!end || text[--end] != '"')
		return false;
	for (from = end; from && (isalnum((unsigned char)text[from - 1]) || text[from - 1] == '_');)
		from--;
	if (!from || text[from - 1] != '"' || from == end || end - from >= size)
		return false;
	memcpy(name, text + from, end - from);
	name[end - from] = '\0';
	return true;
}

static int refuse_json(const char *text, size_t len, const json_error_t *error,
		       struct maas_http_fault *fault)
{
	size_t at = error->position < 0 ? 0 : (size_t)error->position;
	char name[40];

	if (json_error_code(error) == json_error_out_of_memory)
		return -ENOMEM;
	if (json_error_code(error) == json_error_numeric_overflow &&
	    field_before(text, at < len ? at : len, name, sizeof(name)))
		return maas_http_refuse(fault, "bad_field",
					"\"%s\" must be a whole number below 9223372036854775808",
					name);
	return maas_http_refuse(fault, "bad_json",
				"the body is not valid JSON: %s (line %d, column %d)", error->text,
				error->line, error->column);
}

int maas_http_json_load(const char *text, size_t len, const char *example, json_t **ret_object,
			struct maas_http_fault *fault)
{
	json_error_t error;
	json_t *root;

	if (!len)
		return maas_http_refuse(fault, "bad_json", "the body is empty; send for example %s",
					example);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return refuse_json(text, len, &error, fault);
	if (!json_is_object(root)) {
		json_decref(root);
		return maas_http_refuse(fault, "bad_json",
					"the body must be a JSON object, for example %s", example);
	}
	*ret_object = root;
	return 0;
}
