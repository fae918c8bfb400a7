/* SPDX-License-Identifier: Apache-2.0 */
/* Text from a server, which may be anything, made fit for people and terminals. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"

double cmd_json_number(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

const char *cmd_json_string(const json_t *object, const char *name)
{
	return cmd_json_text(json_object_get(object, name));
}

const char *cmd_json_text(const json_t *value)
{
	const char *text = json_string_value(value);

	return text ? text : "";
}

bool cmd_is_id(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i;

	for (i = 0; text[i] && form[i]; i++)
		if (form[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	return !text[i] && !form[i];
}

char *cmd_printable(const char *text)
{
	size_t size = 4 * strlen(text) + 1;
	char *copy = malloc(size);

	if (!copy) {
		fputs("maas: out of memory\n", stderr);
		exit(CMD_FAILED);
	}
	maas_printable(copy, size, text);
	return copy;
}

static bool clean_string(json_t *string)
{
	char *text = cmd_printable(json_string_value(string));
	int failed = 0;

	if (strcmp(text, json_string_value(string)) != 0)
		failed = json_string_set(string, text);
	free(text);
	return !failed;
}

bool cmd_json_clean(json_t *value)
{
	const char *name;
	json_t *member;
	bool clean = true;
	size_t i;

	if (json_is_string(value))
		return clean_string(value);
	if (json_is_number(value))
		return json_number_value(value) >= 0 && json_number_value(value) < 0x1p63;
	json_object_foreach(value, name, member) clean = clean && cmd_json_clean(member);
	json_array_foreach(value, i, member) clean = clean && cmd_json_clean(member);
	return clean;
}

int cmd_write_json(json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII |
					       JSON_REAL_PRECISION(15));

	json_decref(value);
	if (!text) {
		fputs("maas: out of memory\n", stderr);
		return CMD_FAILED;
	}
	/* The one control character that JSON and jansson let through. */
	for (const char *at = text; *at; at++) {
		if (*at == 0x7f)
			fputs("\\u007f", stdout);
		else
			putchar(*at);
	}
	putchar('\n');
	free(text);
	return CMD_OK;
}

int cmd_flush(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return CMD_OK;
	fprintf(stderr, "maas: cannot write the output: %s\n", strerror(errno));
	clearerr(stdout); /* said once */
	return CMD_FAILED;
}

int cmd_print_json(json_t *value)
{
	return cmd_write_json(value, JSON_INDENT(2));
}

static const char *lifetime_name(enum maas_lifetime lifetime)
{
	switch (lifetime) {
	case MAAS_LIFETIME_TTL:
		return "ttl";
	case MAAS_LIFETIME_SESSION:
		return "session";
	case MAAS_LIFETIME_DEFAULT:
	case MAAS_LIFETIME_DELETE:
		break;
	}
	return "delete";
}

json_t *cmd_allocation_json(const struct maas_allocation *allocation)
{
	bool leased = allocation->lifetime == MAAS_LIFETIME_TTL;
	json_t *json;

	json = json_pack("{s:s, s:I, s:I, s:I, s:s}", "id", allocation->id, "size_bytes",
			 (json_int_t)allocation->size_bytes, "actual_size_bytes",
			 (json_int_t)allocation->actual_size_bytes, "age_seconds",
			 (json_int_t)allocation->age_seconds, "lifetime",
			 lifetime_name(allocation->lifetime));
	json_object_set_new(json, "owner",
			    *allocation->owner ? json_string(allocation->owner) : json_null());
	json_object_set_new(json, "ttl_seconds",
			    leased ? json_integer(allocation->ttl_seconds) : json_null());
	json_object_set_new(json, "lease_seconds",
			    leased ? json_integer(allocation->lease_seconds) : json_null());
	return json;
}
