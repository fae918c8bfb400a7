/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

/* An answer that is one allocation. Takes what `request` owns. */
static int call_one(struct maas *maas, struct maas_request *request,
		    struct maas_allocation *ret_allocation)
{
	struct maas_allocation ignored;
	json_t *answer;
	int r;

	r = maas_call_json(maas, request, &answer);
	if (!r) {
		r = maas_json_allocation(answer, ret_allocation ? ret_allocation : &ignored);
		json_decref(answer);
	}
	maas_request_fini(request);
	return r;
}

int maas_describe(struct maas *maas, const char *id, struct maas_allocation *ret_allocation)
{
	struct maas_request request;
	int r = maas_enter(maas);

	if (!r)
		r = maas_check_id(id);
	if (r)
		return r;
	maas_request_init(&request, "GET", "/allocate/%s", id);
	return call_one(maas, &request, ret_allocation);
}

int maas_renew(struct maas *maas, const char *id, uint32_t ttl_seconds,
	       struct maas_allocation *ret_allocation)
{
	struct maas_request request;
	int r = maas_enter(maas);

	if (!r)
		r = maas_check_id(id);
	if (r)
		return r;
	maas_request_init(&request, "POST", "/allocate/%s/renew", id);
	request.json = true;
	if (ttl_seconds)
		maas_buf_printf(&request.head, "{\"ttl_seconds\":%u}", ttl_seconds);
	else
		maas_buf_str(&request.head, "{}");
	return call_one(maas, &request, ret_allocation);
}

/* ---- list */

static int read_page(const json_t *answer, uint32_t max, struct maas_allocation *ret_page,
		     char cursor[MAAS_ID_BYTES])
{
	const json_t *list = json_object_get(answer, "allocations");
	size_t count = json_array_size(list);
	int r;

	if (!json_is_array(list) || count > max)
		return maas_fail(-EPROTO, "the server's answer is no page of allocations");
	for (size_t i = 0; i < count; i++) {
		r = maas_json_allocation(json_array_get(list, i), &ret_page[i]);
		if (r)
			return r;
	}
	if (json_is_null(json_object_get(answer, "next"))) {
		cursor[0] = '\0';
	} else {
		r = maas_json_id(answer, "next", cursor);
		if (r)
			return r;
	}
	return (int)count;
}

int maas_list(struct maas *maas, const char *owner, char cursor[MAAS_ID_BYTES],
	      struct maas_allocation *ret_page, uint32_t max)
{
	struct maas_request request;
	json_t *answer;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!max || max > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d allocations in one page", MAAS_MAX_BATCH);
	if (owner && !maas_name_valid(owner))
		return maas_fail(-EINVAL, "\"%s\" cannot name an owner", owner);
	if (*cursor && !maas_id_valid(cursor))
		return maas_fail(-EINVAL, "the cursor was not made by maas_list()");
	maas_request_init(&request, "GET", "/allocations?limit=%u%s%s%s%s", max,
			  owner ? "&owner=" : "", owner ? owner : "", *cursor ? "&after=" : "",
			  cursor);
	r = maas_call_json(maas, &request, &answer);
	if (!r) {
		r = read_page(answer, max, ret_page, cursor);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

/* ---- pages of the server */

static bool path_valid(const char *path)
{
	if (!path || *path != '/')
		return false;
	for (; *path; path++)
		if (*path <= ' ' || *path > '~' || *path == '#')
			return false;
	return true;
}

int maas_get(struct maas *maas, const char *path, char **ret_text, size_t *ret_len)
{
	struct maas_request request;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!path_valid(path))
		return maas_fail(-EINVAL, "\"%s\" is no path of a page", path ? path : "");
	maas_request_init(&request, "GET", "%s", "");
	maas_buf_str(&request.path, path);
	r = maas_call(maas, &request, 0);
	if (!r) {
		maas_buf_add(&request.text, "", 1);
		if (request.text.error)
			r = maas_fail(-ENOMEM, "out of memory");
	}
	if (!r) {
		*ret_text = request.text.data;
		if (ret_len)
			*ret_len = request.text.len - 1;
		request.text = (struct maas_buf){0};
	}
	maas_request_fini(&request);
	return r;
}
