/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "client/internal.h"

#define REQUEST_ID_BYTES 33

static const char *const lifetime_names[] = {
	[MAAS_LIFETIME_DEFAULT] = NULL,
	[MAAS_LIFETIME_DELETE] = "delete",
	[MAAS_LIFETIME_TTL] = "ttl",
	[MAAS_LIFETIME_SESSION] = "session",
};

static int copy_options(const struct maas *maas, const struct maas_alloc_options *from,
			struct maas_alloc_options *ret_options)
{
	struct maas_alloc_options options = {.size = sizeof(options)};

	if (from) {
		const char *rest = (const char *)from + sizeof(options);

		if (from->size < sizeof(from->size))
			return maas_fail(-EINVAL, "options.size is not set");
		for (size_t at = sizeof(options); at < from->size; at++)
			if (*rest++)
				return maas_fail(-EINVAL,
						 "an option that this library, %s, does "
						 "not know yet",
						 MAAS_VERSION);
		memcpy(&options, from, from->size < sizeof(options) ? from->size : sizeof(options));
	}
	if (!options.owner)
		options.owner = maas->owner;
	if (options.owner && !maas_name_valid(options.owner))
		return maas_fail(-EINVAL,
				 "\"%s\" cannot name an owner: 1 to 63 characters of "
				 "A-Z a-z 0-9 . _ : / @ -",
				 options.owner);
	if ((unsigned int)options.lifetime >= MAAS_ARRAY_SIZE(lifetime_names))
		return maas_fail(-EINVAL, "options.lifetime is none of the four");
	if (options.lifetime == MAAS_LIFETIME_DEFAULT)
		options.lifetime = options.ttl_seconds ? MAAS_LIFETIME_TTL : MAAS_LIFETIME_DELETE;
	if ((options.lifetime == MAAS_LIFETIME_TTL) != (options.ttl_seconds != 0))
		return maas_fail(-EINVAL, "ttl_seconds goes with MAAS_LIFETIME_TTL");
	*ret_options = options;
	return 0;
}

/* 128 random bits: the same answer for a retry, another for every call. */
static int make_request_id(char text[REQUEST_ID_BYTES])
{
	unsigned char bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return maas_fail(-EIO, "no random bytes for a request id");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* `count` 0: one, in the form for one. */
static int write_body(struct maas *maas, uint64_t size_bytes, uint32_t count,
		      const struct maas_alloc_options *options, struct maas_buf *out)
{
	char session[MAAS_ID_BYTES];
	char request_id[REQUEST_ID_BYTES];
	int r = 0;

	maas_buf_printf(out, "{\"size_bytes\":%llu,\"lifetime\":\"%s\"",
			(unsigned long long)size_bytes, lifetime_names[options->lifetime]);
	if (count)
		maas_buf_printf(out, ",\"count\":%u", count);
	if (options->ttl_seconds)
		maas_buf_printf(out, ",\"ttl_seconds\":%u", options->ttl_seconds);
	if (options->owner)
		maas_buf_printf(out, ",\"owner\":\"%s\"", options->owner);
	if (options->lifetime == MAAS_LIFETIME_SESSION) {
		r = maas_keeper_need(maas, session);
		if (r)
			return r;
		maas_buf_printf(out, ",\"session\":\"%s\"", session);
	}
	if (!options->request_id)
		r = make_request_id(request_id);
	if (r)
		return r;
	maas_buf_str(out, ",\"request_id\":");
	maas_buf_json(out, options->request_id ? options->request_id : request_id);
	maas_buf_str(out, "}");
	return 0;
}

/* What the answer does not repeat is as it was asked for. */
static void add_asked(const struct maas_alloc_options *options, struct maas_allocation *allocation)
{
	allocation->lifetime = options->lifetime;
	allocation->ttl_seconds = options->ttl_seconds;
	allocation->lease_seconds = options->ttl_seconds;
	if (options->owner)
		snprintf(allocation->owner, sizeof(allocation->owner), "%s", options->owner);
}

static int read_many(const json_t *answer, uint32_t count, const struct maas_alloc_options *options,
		     struct maas_allocation *ret_allocations)
{
	const json_t *list = json_object_get(answer, "allocations");

	if (json_array_size(list) != count)
		return maas_fail(-EPROTO, "%u allocations were asked for, %zu are in the answer",
				 count, json_array_size(list));
	for (uint32_t i = 0; i < count; i++) {
		int r = maas_json_allocation(json_array_get(list, i), &ret_allocations[i]);

		if (r)
			return r;
		add_asked(options, &ret_allocations[i]);
	}
	return 0;
}

static int allocate(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/allocate");
	request.json = true;
	request.follow = true;
	r = write_body(maas, size_bytes, count, options, &request.head);
	if (!r)
		r = maas_call_json(maas, &request, &answer);
	if (r)
		goto out;
	if (count) {
		r = read_many(answer, count, options, ret_allocations);
	} else {
		r = maas_json_allocation(answer, ret_allocations);
		if (!r)
			add_asked(options, ret_allocations);
	}
	json_decref(answer);
out:
	maas_request_fini(&request);
	return r;
}

int maas_alloc(struct maas *maas, uint64_t size_bytes, const struct maas_alloc_options *options,
	       struct maas_allocation *ret_allocation)
{
	struct maas_alloc_options copy;
	int r = maas_enter(maas);

	if (!r)
		r = copy_options(maas, options, &copy);
	return r ? r : allocate(maas, size_bytes, 0, &copy, ret_allocation);
}

int maas_alloc_many(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations)
{
	struct maas_alloc_options copy;
	int r = maas_enter(maas);

	if (!r && (!count || count > MAAS_MAX_BATCH))
		r = maas_fail(-EINVAL, "1 to %d allocations in one call", MAAS_MAX_BATCH);
	if (!r)
		r = copy_options(maas, options, &copy);
	return r ? r : allocate(maas, size_bytes, count, &copy, ret_allocations);
}
