/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers in JSON: an object and its members, each checked, for a server may say anything. No
 * state.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

int maas_json_parse(const struct maas_buf *text, json_t **ret_object)
{
	json_error_t error;
	json_t *object;

	object = json_loadb(text->len ? text->data : "", text->len, 0, &error);
	if (!object)
		return maas_fail(-EPROTO, "the server's answer is no JSON: %s", error.text);
	if (!json_is_object(object)) {
		json_decref(object);
		return maas_fail(-EPROTO, "the server's answer is no object of JSON");
	}
	*ret_object = object;
	return 0;
}

int maas_json_u64(const json_t *object, const char *name, uint64_t *ret_value)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return maas_fail(-EPROTO, "the server's answer has no number \"%s\"", name);
	*ret_value = (uint64_t)json_integer_value(value);
	return 0;
}

int maas_json_id(const json_t *object, const char *name, char id[MAAS_ID_BYTES])
{
	const char *text = json_string_value(json_object_get(object, name));

	if (!text || !maas_uuid_valid(text))
		return maas_fail(-EPROTO, "the server's answer has no id \"%s\"", name);
	maas_copy_id(id, text);
	return 0;
}

/* A member that an answer may leave out, or have as null. */
static uint32_t small(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value < 0 || value > UINT32_MAX ? 0 : (uint32_t)value;
}

static enum maas_lifetime lifetime_of(const json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "lifetime"));

	if (text && strcmp(text, "ttl") == 0)
		return MAAS_LIFETIME_TTL;
	if (text && strcmp(text, "session") == 0)
		return MAAS_LIFETIME_SESSION;
	return text ? MAAS_LIFETIME_DELETE : MAAS_LIFETIME_DEFAULT;
}

int maas_json_allocation(const json_t *object, struct maas_allocation *ret_allocation)
{
	const char *owner = json_string_value(json_object_get(object, "owner"));
	struct maas_allocation allocation;
	int r;

	memset(&allocation, 0, sizeof(allocation));
	r = maas_json_id(object, "id", allocation.id);
	if (!r)
		r = maas_json_u64(object, "size_bytes", &allocation.size_bytes);
	if (!r)
		r = maas_json_u64(object, "actual_size_bytes", &allocation.actual_size_bytes);
	if (!r)
		r = maas_json_u64(object, "age_seconds", &allocation.age_seconds);
	if (r)
		return r;
	if (!allocation.size_bytes || allocation.actual_size_bytes < allocation.size_bytes)
		return maas_fail(-EPROTO, "the server's answer has %llu bytes in a slab of %llu",
				 (unsigned long long)allocation.size_bytes,
				 (unsigned long long)allocation.actual_size_bytes);
	if (owner && strlen(owner) < sizeof(allocation.owner))
		memcpy(allocation.owner, owner, strlen(owner));
	allocation.lifetime = lifetime_of(object);
	allocation.ttl_seconds = small(object, "ttl_seconds");
	allocation.lease_seconds = small(object, "lease_seconds");
	*ret_allocation = allocation;
	return 0;
}
