/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations are given back here, one or many. Over RDMA their keys are forgotten before the
 * server is asked. Any thread; no lock.
 */
#include <errno.h>
#include <string.h>

#include "client/transport.h"

int maas_free(struct maas *maas, const char *id)
{
	struct maas_request request;
	int r = maas_enter(maas);

	if (!r)
		r = maas_check_id(id);
	if (r)
		return r;
	if (maas->transport->keys)
		maas->transport->drop_key(maas, id);
	maas_request_init(&request, "DELETE", "/allocate/%s", id);
	request.counted = true;
	r = maas_call(maas, &request, maas_deadline_ms(maas));
	/* The request may have freed the allocation when it was sent before. */
	if (r == -ENOENT && maas_request_repeated(&request)) {
		maas_error_clear();
		r = 0;
	}
	maas_request_fini(&request);
	return r;
}

static int write_ids(struct maas_buf *out, const char *const *ids, uint32_t count)
{
	maas_buf_str(out, "{\"ids\":[");
	for (uint32_t i = 0; i < count; i++) {
		int r = maas_check_id(ids[i]);

		if (r)
			return r;
		maas_buf_printf(out, "%s\"%s\"", i ? "," : "", ids[i]);
	}
	maas_buf_str(out, "]}");
	return 0;
}

struct asked {
	const char *const *ids;
	uint32_t count;
	uint32_t next; /* of the ids, to compare with */
	bool *missing; /* may be NULL */
};

/* The answer names the missing ones in the order of the request. */
static int mark_missing(void *arg, size_t index, const json_t *element)
{
	const char *name = json_string_value(element);
	struct asked *asked = arg;

	(void)index;
	while (asked->next < asked->count) {
		uint32_t i = asked->next++;

		if (name && strcmp(name, asked->ids[i]) == 0) {
			if (asked->missing)
				asked->missing[i] = true;
			return 0;
		}
	}
	return maas_fail(-EPROTO, "the server names an id as missing that was not asked for");
}

static int read_freed(const struct maas_buf *text, struct asked *asked)
{
	uint64_t freed;
	json_t *rest;
	int unknown;
	int r;

	if (asked->missing)
		memset(asked->missing, 0, asked->count * sizeof(*asked->missing));
	unknown = maas_json_list(text, "unknown", mark_missing, asked, &rest);
	if (unknown < 0)
		return unknown;
	r = maas_json_u64(rest, "freed", &freed);
	json_decref(rest);
	if (r)
		return r;
	if (freed != asked->count - (uint32_t)unknown)
		return maas_fail(-EPROTO,
				 "of %u allocations the server freed %llu, and did not know %d",
				 asked->count, (unsigned long long)freed, unknown);
	return (int)freed;
}

int maas_free_many(struct maas *maas, const char *const *ids, uint32_t count, bool *ret_missing)
{
	struct asked asked = {.ids = ids, .count = count, .missing = ret_missing};
	struct maas_request request;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!count || count > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d ids in one call", MAAS_MAX_BATCH);
	maas_request_init(&request, "POST", "/free");
	request.json = true;
	request.counted = true;
	r = write_ids(&request.head, ids, count);
	for (uint32_t i = 0; !r && maas->transport->keys && i < count; i++)
		maas->transport->drop_key(maas, ids[i]);
	request.max_text = MAAS_SMALL_ANSWER + count * (size_t)MAAS_ID_BYTES * 2;
	if (!r)
		r = maas_call(maas, &request, maas_deadline_ms(maas));
	if (!r)
		r = read_freed(&request.text, &asked);
	/* As in maas_free(). */
	if (r >= 0 && maas_request_repeated(&request)) {
		if (ret_missing)
			memset(ret_missing, 0, count * sizeof(*ret_missing));
		r = (int)count;
	}
	maas_request_fini(&request);
	return r;
}
