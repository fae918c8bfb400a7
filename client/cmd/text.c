/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "client/cmd/cmd.h"

const char *cmd_human(double bytes, char text[CMD_TEXT])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit + 1 < MAAS_ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	if (bytes == (double)(int)bytes)
		snprintf(text, CMD_TEXT, "%d %s", (int)bytes, units[unit]);
	else
		snprintf(text, CMD_TEXT, "%.1f %s", bytes, units[unit]);
	return text;
}

double cmd_json_number(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

const char *cmd_json_string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

int cmd_print_json(json_t *value)
{
	int failed = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);

	json_decref(value);
	putchar('\n');
	return failed ? CMD_FAILED : CMD_OK;
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
