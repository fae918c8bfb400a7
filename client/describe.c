/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about allocations and the server: describe, renew, list, and pages as text. Any
 * thread; no lock.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "client/internal.h"

/* Sends `request`, whose answer must be the allocation `id`, and frees what the request owns. */
static int call_one(struct maas *maas, struct maas_request *request, const char *id,
		    struct maas_allocation *ret_allocation)
{
	struct maas_allocation allocation;
	json_t *answer;
	int r;

	r = maas_call_json(maas, request, maas_deadline_ms(maas), &answer);
	if (!r) {
		r = maas_json_allocation(answer, &allocation);
		json_decref(answer);
	}
	maas_request_fini(request);
	if (!r && strcasecmp(allocation.id, id) != 0)
		r = maas_fail(-EPROTO, "the server's answer is about another allocation, %s",
			      allocation.id);
	if (!r && ret_allocation)
		*ret_allocation = allocation;
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
	return call_one(maas, &request, id, ret_allocation);
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
	return call_one(maas, &request, id, ret_allocation);
}

/* ---- list */

struct page {
	struct maas_allocation *allocations;
	size_t max;
};

static int read_entry(void *arg, size_t index, const json_t *entry)
{
	const struct page *page = arg;

	if (index == page->max)
		return maas_fail(-EPROTO,
				 "the server's page has more than the %zu allocations "
				 "asked for",
				 page->max);
	return maas_json_allocation(entry, &page->allocations[index]);
}

/* The cursor of the next page. A list whose next page begins where this one did would never end. */
static int read_next(const json_t *answer, int count, char cursor[MAAS_ID_BYTES])
{
	char next[MAAS_ID_BYTES] = "";
	int r;

	if (!json_is_null(json_object_get(answer, "next"))) {
		r = maas_json_id(answer, "next", next);
		if (r)
			return r;
		if (!count || strcmp(next, cursor) == 0)
			return maas_fail(-EPROTO, "the server's pages do not end");
	}
	maas_copy_id(cursor, next);
	return 0;
}

static int read_page(const struct maas_buf *text, uint32_t max, struct maas_allocation *ret_page,
		     char cursor[MAAS_ID_BYTES])
{
	struct page page = {ret_page, max};
	json_t *rest;
	int count = maas_json_list(text, "allocations", read_entry, &page, &rest);
	int r;

	if (count < 0)
		return count;
	r = read_next(rest, count, cursor);
	json_decref(rest);
	return r ? r : count;
}

int maas_list(struct maas *maas, const char *owner, char cursor[MAAS_ID_BYTES],
	      struct maas_allocation *ret_page, uint32_t max)
{
	bool none = owner && !strcmp(owner, MAAS_NO_OWNER);
	const char *filter = none ? "&no_owner=true" : owner ? "&owner=" : "";
	const char *value = none || !owner ? "" : owner;
	struct maas_request request;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!max || max > MAAS_MAX_BATCH)
		return maas_fail(-EINVAL, "1 to %d allocations in one page", MAAS_MAX_BATCH);
	if (owner && !none && !maas_name_valid(owner))
		return maas_fail(-EINVAL, "\"%s\" cannot name an owner", owner);
	if (*cursor && !maas_id_valid(cursor))
		return maas_fail(-EINVAL, "the cursor was not made by maas_list()");
	maas_request_init(&request, "GET", "/allocations?limit=%u%s%s%s%s", max, filter, value,
			  *cursor ? "&after=" : "", cursor);
	request.max_text = MAAS_SMALL_ANSWER + max * MAAS_ENTRY_ANSWER;
	r = maas_call(maas, &request, maas_deadline_ms(maas));
	if (!r)
		r = read_page(&request.text, max, ret_page, cursor);
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

/* Pages that programs parse in one piece are small; how long the others are is up to the server. */
static size_t page_limit(const char *path)
{
	static const char sessions[] = "/sessions?"; /* 100 at most */

	if (strcmp(path, "/health") == 0 || strcmp(path, "/ready") == 0)
		return 2 * MAAS_SMALL_ANSWER;
	if (strncmp(path, sessions, strlen(sessions)) == 0 || strcmp(path, "/stats") == 0)
		return 4 * MAAS_SMALL_ANSWER;
	/* 500 bytes for each principal, of which 1 MiB has 60,000. */
	return (size_t)(strcmp(path, "/metrics") == 0 ? 32 : 4) << 20;
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
	request.max_text = page_limit(path);
	r = maas_call(maas, &request, maas_deadline_ms(maas));
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
