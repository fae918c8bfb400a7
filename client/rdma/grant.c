/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of allocations, by id, and the requests for them. `lock` guards the table. Keys are
 * asked for side by side, in threads of a moment: the server has no request for many, and one after
 * the other they take as many round trips as there are allocations.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/rdma/internal.h"

#define FIRST_SLOTS 64
#define MAX_SLOTS   ((size_t)2 << 20) /* for as many keys as a server gives by default, and more */

bool maas_rdma_client_id_set(struct maas_rdma_client_id *id, const char *text)
{
	size_t len = text ? strnlen(text, MAAS_ID_BYTES) : 0;

	if (!len || len == MAAS_ID_BYTES)
		return false;
	memset(id, 0, sizeof(*id));
	memcpy(id->text, text, len);
	return true;
}

static bool is_none(const struct maas_rdma_client_grant *grant)
{
	return !grant->id.words[0];
}

/* The server makes ids that look random: any mixing will do. */
static size_t home(const struct maas_rdma_client_grants *grants,
		   const struct maas_rdma_client_id *id)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(id->words); i++) {
		hash = (hash ^ id->words[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
	}
	return (size_t)hash & (grants->num_slots - 1);
}

static size_t next(const struct maas_rdma_client_grants *grants, size_t at)
{
	return (at + 1) & (grants->num_slots - 1);
}

/* The slot of `id`, or the empty one where it belongs. */
static size_t seek(const struct maas_rdma_client_grants *grants,
		   const struct maas_rdma_client_id *id)
{
	size_t at = home(grants, id);

	while (!is_none(&grants->slots[at]) && !maas_rdma_client_id_is(&grants->slots[at].id, id))
		at = next(grants, at);
	return at;
}

const struct maas_rdma_client_grant *
maas_rdma_client_grant_find(struct maas_rdma_client_grants *grants,
			    const struct maas_rdma_client_id *id)
{
	const struct maas_rdma_client_grant *grant;

	if (!grants->num_slots)
		return NULL;
	grant = &grants->slots[seek(grants, id)];
	if (is_none(grant))
		return NULL;
	grants->last = grant;
	return grant;
}

static int grow(struct maas_rdma_client_grants *grants)
{
	struct maas_rdma_client_grants larger = {
		.num_slots = grants->num_slots ? 2 * grants->num_slots : FIRST_SLOTS,
		.used = grants->used,
	};

	larger.slots = calloc(larger.num_slots, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < grants->num_slots; i++) {
		const struct maas_rdma_client_grant *grant = &grants->slots[i];

		if (!is_none(grant))
			larger.slots[seek(&larger, &grant->id)] = *grant;
	}
	free(grants->slots);
	*grants = larger;
	return 0;
}

/* Adds or replaces a key. Nobody tells of memory that lapsed, or that others freed, so most keys of
 * a table that is full are dead: it is begun anew, and keys are asked for again. Errors: -ENOMEM.
 */
static int put(struct maas_rdma_client_grants *grants, const struct maas_rdma_client_grant *grant)
{
	struct maas_rdma_client_grant *slot;

	if (2 * (grants->used + 1) > grants->num_slots) {
		int r;

		if (grants->num_slots == MAX_SLOTS)
			maas_rdma_client_grants_fini(grants);
		r = grow(grants);
		if (r)
			return r;
	}
	slot = &grants->slots[seek(grants, &grant->id)];
	grants->used += is_none(slot);
	*slot = *grant;
	return 0;
}

/* Later entries move into the gap, so that no search ends there too early. */
void maas_rdma_client_grant_remove(struct maas_rdma_client_grants *grants,
				   const struct maas_rdma_client_id *id)
{
	size_t gap;
	size_t mask = grants->num_slots - 1;

	if (!grants->num_slots)
		return;
	grants->last = NULL;
	gap = seek(grants, id);
	if (is_none(&grants->slots[gap]))
		return;
	for (size_t at = next(grants, gap); !is_none(&grants->slots[at]); at = next(grants, at)) {
		size_t from = home(grants, &grants->slots[at].id);

		if (((at - from) & mask) >= ((at - gap) & mask)) {
			grants->slots[gap] = grants->slots[at];
			gap = at;
		}
	}
	memset(&grants->slots[gap], 0, sizeof(grants->slots[gap]));
	grants->used--;
}

void maas_rdma_client_grants_fini(struct maas_rdma_client_grants *grants)
{
	free(grants->slots);
	*grants = (struct maas_rdma_client_grants){0};
}

/* ---- the server's answers */

/* And the connection that the key is good on. */
static int read_grant(const json_t *rdma, struct maas_rdma_client_grant *grant,
		      uint64_t *ret_connection)
{
	uint64_t rkey;
	int r;

	r = maas_json_u64(rdma, "addr", &grant->addr);
	if (!r)
		r = maas_json_u64(rdma, "length", &grant->len);
	if (!r)
		r = maas_json_u64(rdma, "rkey", &rkey);
	if (!r)
		r = maas_json_u64(rdma, "connection", ret_connection);
	if (r)
		return r;
	if (rkey > UINT32_MAX || *ret_connection > UINT32_MAX ||
	    grant->addr > UINT64_MAX - grant->len)
		return maas_fail(-EPROTO, "the server's answer has no sensible key");
	grant->rkey = (uint32_t)rkey;
	return 0;
}

static int keep(struct maas_rdma_client *rdma, const struct maas_rdma_client_grant *grant,
		uint64_t connection)
{
	int r = 0;

	maas_lock_take(&rdma->lock);
	/* A key of another connection is void already. */
	if (maas_rdma_client_up(rdma) && connection == rdma->conn.number)
		r = put(&rdma->grants, grant);
	maas_lock_release(&rdma->lock);
	return r ? maas_fail(r, "out of memory") : 0;
}

void maas_rdma_client_add_grant(struct maas *maas, const char *id, const json_t *rdma)
{
	struct maas_rdma_client_grant grant = {0};
	uint64_t connection;

	if (!json_is_object(rdma) || !maas_rdma_client_id_set(&grant.id, id))
		return;
	if (read_grant(rdma, &grant, &connection) || keep(maas->rdma, &grant, connection))
		maas_error_clear();
}

void maas_rdma_client_drop_grant(struct maas *maas, const char *text)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct maas_rdma_client_id id;

	if (!maas_rdma_client_id_set(&id, text))
		return;
	maas_lock_take(&rdma->lock);
	maas_rdma_client_grant_remove(&rdma->grants, &id);
	maas_lock_release(&rdma->lock);
}

/* ---- requests for keys */

static int request_key(struct maas_rdma_client *rdma, const char *session, const char *access,
		       uint64_t deadline_ms, struct maas_rdma_client_grant *grant,
		       uint64_t *ret_connection)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/allocate/%s/grant", grant->id.text);
	request.json = true;
	maas_buf_printf(&request.head, "{\"session\":\"%s\",\"access\":\"%s\"}", session, access);
	r = maas_call_json(rdma->maas, &request, deadline_ms, &answer);
	if (!r) {
		const json_t *member = json_object_get(answer, "rdma");

		r = read_grant(member ? member : answer, grant, ret_connection);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

/* Asks the server for a key and keeps the key. */
static int ask(void *arg)
{
	const struct maas_rdma_client_ask *one = arg;
	struct maas_rdma_client_grant grant = {.id = one->id};
	struct maas_rdma_client *rdma = one->rdma;
	uint64_t deadline_ms = one->deadline_ms;
	char session[MAAS_ID_BYTES];
	uint64_t connection;
	int r;

	r = maas_client_session_need(rdma->maas, deadline_ms, session);
	if (r)
		return r;
	r = request_key(rdma, session, "rw", deadline_ms, &grant, &connection);
	/* Whoever may only read, or has been given such a key, is told so when writing. */
	if (r == -EPERM || r == -EEXIST) {
		r = request_key(rdma, session, "r", deadline_ms, &grant, &connection);
		grant.read_len = grant.len;
		grant.len = 0;
	}
	if (r == -EKEYREVOKED)
		maas_client_session_unknown(rdma->maas, session);
	return r ? r : keep(rdma, &grant, connection);
}

/* The first range, from `from` on, without a key, or NULL. */
static const struct maas_rdma_client_range *missing(struct maas_rdma_client *rdma,
						    const struct maas_rdma_client_op *op,
						    const struct maas_rdma_client_range *from)
{
	for (; from < op->end; from++)
		if (!maas_rdma_client_grant_find(&rdma->grants, &from->id))
			return from;
	return NULL;
}

static bool is_among(const struct maas_rdma_client_ask *asks, uint32_t count,
		     const struct maas_rdma_client_id *id)
{
	for (uint32_t i = 0; i < count; i++)
		if (maas_rdma_client_id_is(&asks[i].id, id))
			return true;
	return false;
}

uint32_t maas_rdma_client_asks_find(struct maas_rdma_client *rdma,
				    const struct maas_rdma_client_op *op,
				    struct maas_rdma_client_ask asks[MAAS_RDMA_ASKS])
{
	/* Others want a connection, too. */
	uint32_t spare = rdma->maas->options.max_connections;
	uint32_t most = spare > 3 ? spare - 2 : 1;
	const struct maas_rdma_client_range *range = missing(rdma, op, op->ranges);
	uint32_t count = 0;

	if (most > MAAS_RDMA_ASKS)
		most = MAAS_RDMA_ASKS;
	while (range) {
		if (!is_among(asks, count, &range->id)) {
			asks[count] = (struct maas_rdma_client_ask){.rdma = rdma, .id = range->id};
			if (++count >= most)
				break;
		}
		range = missing(rdma, op, range + 1);
	}
	return count;
}

void maas_rdma_client_asks_run(struct maas_rdma_client_ask *asks, uint32_t count,
			       uint64_t deadline_ms)
{
	for (uint32_t i = 0; i < count; i++) {
		asks[i].deadline_ms = deadline_ms;
		maas_rdma_client_task_start(asks[i].rdma, &asks[i].task, ask, &asks[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		maas_rdma_client_task_join(&asks[i].task);
}
