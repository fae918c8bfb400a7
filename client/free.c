/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"
#include "client/rdma.h"

int maas_free(struct maas *maas, const char *id)
{
	struct maas_request request;
	int r = maas_enter(maas);

	if (!r)
		r = maas_check_id(id);
	if (r)
		return r;
	if (maas->verbs)
		maas_verbs_drop_grant(maas->verbs, id);
	maas_request_init(&request, "DELETE", "/allocate/%s", id);
	r = maas_call(maas, &request, 0);
	/* The try before may have freed it, and only its answer was lost. */
	if (r == -ENOENT && request.tries > 1)
		r = 0;
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

/* The answer names the missing ones in the order of the request. */
static int mark_missing(const json_t *unknown, const char *const *ids, uint32_t count,
			bool *ret_missing)
{
	size_t next = 0;

	for (uint32_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(unknown, next));

		ret_missing[i] = name && strcmp(name, ids[i]) == 0;
		next += ret_missing[i];
	}
	if (next != json_array_size(unknown))
		return maas_fail(-EPROTO, "the server names an id as missing that was not asked "
					  "for");
	return 0;
}

static int read_freed(const json_t *answer, const char *const *ids, uint32_t count,
		      bool *ret_missing)
{
	uint64_t freed;
	int r;

	r = maas_json_u64(answer, "freed", &freed);
	if (r)
		return r;
	if (freed > count)
		return maas_fail(-EPROTO, "the server freed more than was asked for");
	if (ret_missing)
		r = mark_missing(json_object_get(answer, "unknown"), ids, count, ret_missing);
	return r ? r : (int)freed;
}

int maas_free_many(struct maas *maas, const char *const *ids, uint32_t count, bool *ret_missing)
{
	struct maas_request request;
	json_t *answer;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!count || count > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d ids in one call", MAAS_MAX_BATCH);
	maas_request_init(&request, "POST", "/free");
	request.json = true;
	r = write_ids(&request.head, ids, count);
	for (uint32_t i = 0; !r && maas->verbs && i < count; i++)
		maas_verbs_drop_grant(maas->verbs, ids[i]);
	if (!r)
		r = maas_call_json(maas, &request, &answer);
	if (!r) {
		r = read_freed(answer, ids, count, ret_missing);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}
