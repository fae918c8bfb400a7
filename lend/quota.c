/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas. Bytes and allocations are counted by owner, so that another table, and a restart, take
 * one look at each owner to know what each principal uses. Under lend's lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

int maas_lend_quotas_init(struct maas_lend_quotas *quotas)
{
	/* Resident only where they are used. */
	quotas->owner_bytes = calloc(MAAS_LEND_MAX_OWNERS + 1, sizeof(*quotas->owner_bytes));
	quotas->payers = calloc(MAAS_LEND_MAX_OWNERS + 1, sizeof(*quotas->payers));
	return quotas->owner_bytes && quotas->payers ? 0 : -ENOMEM;
}

void maas_lend_quotas_fini(struct maas_lend_quotas *quotas)
{
	free(quotas->owner_bytes);
	free(quotas->payers);
	free(quotas->usage);
}

void maas_lend_quota_keep(struct maas_lend *lend, uint32_t owner, uint64_t bytes)
{
	lend->quotas.owner_bytes[owner] += bytes;
	lend->quotas.unowned += !owner;
}

/* The usage that an owner counts in, or NULL. */
static struct maas_lend_usage *usage_of(const struct maas_lend *lend, uint32_t owner)
{
	uint32_t payer = lend->quotas.payers[owner];

	return payer ? &lend->quotas.usage[payer - 1] : NULL;
}

/* Whose usage that is. */
static const struct maas_auth_principal *principal_of(const struct maas_lend *lend,
						      const struct maas_lend_usage *usage)
{
	return maas_auth_at(lend->principals.table, (uint32_t)(usage - lend->quotas.usage));
}

static bool fits(const struct maas_lend *lend, const struct maas_lend_usage *usage,
		 enum maas_auth_quota quota, uint64_t more)
{
	uint64_t max = principal_of(lend, usage)->quota[quota];

	return !more || (usage->used[quota] <= max && more <= max - usage->used[quota]);
}

static void add(struct maas_lend_usage *usage, uint64_t count, uint64_t bytes, uint64_t owners)
{
	usage->used[MAAS_AUTH_ALLOCATIONS] += count;
	usage->used[MAAS_AUTH_BYTES] += bytes;
	usage->used[MAAS_AUTH_OWNERS] += owners;
}

static uint32_t payer_of(const struct maas_auth *table, const char *owner)
{
	const struct maas_auth_principal *payer = table ? maas_auth_payer(table, owner) : NULL;

	return payer ? maas_auth_index(table, payer) + 1 : 0;
}

/* Whether all of `more` fits; else what does not. */
static bool fits_all(const struct maas_lend *lend, const struct maas_lend_usage *usage,
		     const struct maas_lend_usage *more, struct maas_lend_refusal *ret_refusal)
{
	const struct maas_auth_principal *payer = principal_of(lend, usage);

	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++) {
		if (fits(lend, usage, (enum maas_auth_quota)i, more->used[i]))
			continue;
		*ret_refusal = (struct maas_lend_refusal){.quota = (enum maas_auth_quota)i,
							  .used = usage->used[i],
							  .max = payer->quota[i],
							  .more = more->used[i]};
		memcpy(ret_refusal->principal, payer->name, strlen(payer->name) + 1);
		return false;
	}
	return true;
}

int maas_lend_charge(struct maas_lend *lend, const char *name, uint32_t count, uint64_t bytes,
		     struct maas_lend_refusal *ret_refusal, uint32_t *ret_owner)
{
	bool is_new = !maas_lend_owner_find(&lend->owners, name);
	struct maas_lend_usage *usage, more = {0};
	int r = maas_lend_owner_get(&lend->owners, name, count, ret_owner);

	if (r)
		return r;
	if (is_new)
		lend->quotas.payers[*ret_owner] = payer_of(lend->principals.table, name);
	usage = usage_of(lend, *ret_owner);
	add(&more, count, bytes, is_new);
	if (usage && !fits_all(lend, usage, &more, ret_refusal)) {
		maas_lend_owner_put(&lend->owners, *ret_owner, count);
		return -ENOSR;
	}
	if (usage)
		add(usage, count, bytes, is_new);
	lend->quotas.owner_bytes[*ret_owner] += bytes;
	return 0;
}

/* Who pays is named to whoever pays, and to those who may see all principals. */
void maas_lend_tell_refusal(const struct maas_lend_caller *caller,
			    const struct maas_lend_refusal *refusal,
			    struct maas_lend_refusal *ret_refusal)
{
	*ret_refusal = *refusal;
	if (caller && (caller->principal->rights & (MAAS_AUTH_ADMIN | MAAS_AUTH_METRICS) ||
		       !strcmp(caller->principal->name, refusal->principal)))
		return;
	*ret_refusal->principal = '\0';
	ret_refusal->used = 0;
	ret_refusal->max = 0;
}

void maas_lend_discharge(struct maas_lend *lend, uint32_t owner, uint32_t count, uint64_t bytes)
{
	struct maas_lend_usage *usage;

	if (!owner)
		return;
	usage = usage_of(lend, owner);
	lend->quotas.owner_bytes[owner] -= bytes;
	if (usage)
		add(usage, -(uint64_t)count, -bytes,
		    maas_lend_owner_live(&lend->owners, owner) == count ? UINT64_MAX : 0);
	maas_lend_owner_put(&lend->owners, owner, count);
}

/* ---- sessions */

static struct maas_lend_usage *usage_by_name(const struct maas_auth *table,
					     struct maas_lend_usage *usage, const char *name)
{
	const struct maas_auth_principal *principal =
		table && *name ? maas_auth_by_name(table, name) : NULL;

	return principal ? &usage[maas_auth_index(table, principal)] : NULL;
}

int maas_lend_charge_session(struct maas_lend *lend, const struct maas_lend_caller *caller)
{
	struct maas_lend_usage *usage;

	if (!caller)
		return 0;
	usage = usage_by_name(lend->principals.table, lend->quotas.usage, caller->principal->name);
	if (!usage)
		return 0;
	if (!fits(lend, usage, MAAS_AUTH_SESSIONS, 1))
		return -ENOSR;
	usage->used[MAAS_AUTH_SESSIONS]++;
	return 0;
}

void maas_lend_discharge_session(struct maas_lend *lend, const struct maas_lend_session *session)
{
	struct maas_lend_usage *usage =
		usage_by_name(lend->principals.table, lend->quotas.usage, session->principal);

	if (!usage)
		return;
	usage->used[MAAS_AUTH_SESSIONS]--;
	usage->used[MAAS_AUTH_GRANTS] -= session->keys;
}

/* Lock held. The session that a key counts for, until its end; or NULL. */
static struct maas_lend_session *key_holder(struct maas_lend *lend,
					    struct maas_lend_session_ref ref)
{
	struct maas_lend_session *session;

	if (ref.index >= lend->sessions.used)
		return NULL;
	session = &lend->sessions.records[ref.index];
	return session->generation == ref.generation && session->state != MAAS_LEND_SESSION_FREE
		       ? session
		       : NULL;
}

/* Where nobody has quotas, a key is not to pay for the registers that this needs. */
MAAS_COLD static int charge_key(struct maas_lend *lend, struct maas_lend_session_ref ref)
{
	struct maas_lend_session *session;
	struct maas_lend_usage *usage;
	int r = 0;

	pthread_mutex_lock(&lend->lock);
	session = key_holder(lend, ref);
	if (session) {
		usage = usage_by_name(lend->principals.table, lend->quotas.usage,
				      session->principal);
		if (usage && !fits(lend, usage, MAAS_AUTH_GRANTS, 1))
			r = -ENOSR;
		else if (usage)
			usage->used[MAAS_AUTH_GRANTS]++;
		session->keys += !r;
	}
	pthread_mutex_unlock(&lend->lock);
	return r;
}

int maas_lend_key_charge(struct maas_lend *lend, struct maas_lend_session_ref ref)
{
	if (!maas_lend_has_auth(lend))
		return 0;
	return charge_key(lend, ref);
}

void maas_lend_key_discharge(struct maas_lend *lend, struct maas_lend_session_ref ref)
{
	struct maas_lend_session *session;
	struct maas_lend_usage *usage;

	if (!maas_lend_has_auth(lend))
		return;
	pthread_mutex_lock(&lend->lock);
	session = key_holder(lend, ref);
	if (session && session->keys) {
		session->keys--;
		usage = usage_by_name(lend->principals.table, lend->quotas.usage,
				      session->principal);
		if (usage)
			usage->used[MAAS_AUTH_GRANTS]--;
	}
	pthread_mutex_unlock(&lend->lock);
}

/* ---- connections */

/* Lock held. */
static void do_leave(struct maas_lend *lend, struct maas_lend_connection *connection)
{
	struct maas_lend_usage *usage;

	if (!*connection->principal)
		return;
	usage = usage_by_name(lend->principals.table, lend->quotas.usage, connection->principal);
	if (usage)
		usage->used[MAAS_AUTH_CONNECTIONS]--;
	*connection->principal = '\0';
	LIST_REMOVE(connection, link);
}

int maas_lend_connection_enter(struct maas_lend *lend, const struct maas_lend_caller *caller,
			       struct maas_lend_connection *connection)
{
	const char *name = caller->principal->name;
	struct maas_lend_usage *usage;
	int r = 0;

	pthread_mutex_lock(&lend->lock);
	if (strcmp(connection->principal, name) != 0) {
		do_leave(lend, connection);
		usage = usage_by_name(lend->principals.table, lend->quotas.usage, name);
		if (usage && !fits(lend, usage, MAAS_AUTH_CONNECTIONS, 1)) {
			r = -ENOSR;
		} else if (usage) {
			usage->used[MAAS_AUTH_CONNECTIONS]++;
			memcpy(connection->principal, name, strlen(name) + 1);
			LIST_INSERT_HEAD(&lend->quotas.connections, connection, link);
		}
	}
	pthread_mutex_unlock(&lend->lock);
	return r;
}

void maas_lend_connection_leave(struct maas_lend *lend, struct maas_lend_connection *connection)
{
	if (!*connection->principal)
		return;
	pthread_mutex_lock(&lend->lock);
	do_leave(lend, connection);
	pthread_mutex_unlock(&lend->lock);
}

/* ---- another table */

/* Who would pay for each owner there is, found without the lock: that compares many patterns. */
struct maas_lend_draft {
	struct maas_lend_usage *usage;	      /* by principal of the table; NULL without one */
	struct maas_lend_requests **requests; /* likewise; afterwards those of before */
	uint32_t num_requests;
	uint32_t used;
	struct {
		char name[MAAS_NAME_BYTES]; /* "" where there was none */
		uint32_t payer;
	} owners[];
};

struct maas_lend_draft *maas_lend_quotas_draft(struct maas_lend *lend,
					       const struct maas_auth *table)
{
	struct maas_lend_draft *draft =
		calloc(1, sizeof(*draft) + (MAAS_LEND_MAX_OWNERS + 1) * sizeof(*draft->owners));

	if (!draft)
		return NULL;
	draft->num_requests = table ? maas_auth_count(table) : 1;
	draft->requests = calloc(draft->num_requests, sizeof(*draft->requests));
	if (table)
		draft->usage = calloc(maas_auth_count(table), sizeof(*draft->usage));
	if (!draft->requests || (table && !draft->usage)) {
		maas_lend_quotas_draft_free(draft);
		return NULL;
	}
	pthread_mutex_lock(&lend->lock);
	draft->used = lend->owners.table->used;
	for (uint32_t i = 1; i < draft->used; i++)
		if (maas_lend_owner_live(&lend->owners, i))
			memcpy(draft->owners[i].name, maas_lend_owner_name(&lend->owners, i),
			       MAAS_NAME_BYTES);
	pthread_mutex_unlock(&lend->lock);
	for (uint32_t i = 1; i < draft->used; i++)
		draft->owners[i].payer = payer_of(table, draft->owners[i].name);
	return draft;
}

static void count_owner(struct maas_lend *lend, const struct maas_auth *table,
			const struct maas_lend_draft *draft, uint32_t owner)
{
	uint32_t live = maas_lend_owner_live(&lend->owners, owner);
	const char *name = maas_lend_owner_name(&lend->owners, owner);
	struct maas_lend_usage *usage;

	lend->quotas.payers[owner] = 0;
	if (!live)
		return;
	/* A name may have come meanwhile. */
	if (owner < draft->used && !strcmp(draft->owners[owner].name, name))
		lend->quotas.payers[owner] = draft->owners[owner].payer;
	else
		lend->quotas.payers[owner] = payer_of(table, name);
	usage = usage_of(lend, owner);
	if (usage)
		add(usage, live, lend->quotas.owner_bytes[owner], 1);
}

static void count_connections(struct maas_lend *lend, const struct maas_auth *table)
{
	const struct maas_lend_connection *connection;

	LIST_FOREACH (connection, &lend->quotas.connections, link) {
		struct maas_lend_usage *of =
			usage_by_name(table, lend->quotas.usage, connection->principal);

		if (of)
			of->used[MAAS_AUTH_CONNECTIONS]++;
	}
}

void maas_lend_quotas_count(struct maas_lend *lend, const struct maas_auth *table,
			    struct maas_lend_draft *draft)
{
	struct maas_lend_quotas *quotas = &lend->quotas;

	free(quotas->usage);
	quotas->usage = draft->usage;
	draft->usage = NULL;
	maas_lend_request_queues_take(lend, table, &draft->requests, &draft->num_requests);
	for (uint32_t i = 1; i < lend->owners.table->used; i++)
		count_owner(lend, table, draft, i);
	count_connections(lend, table);
	for (uint32_t i = 0; i < lend->sessions.used; i++) {
		const struct maas_lend_session *session = &lend->sessions.records[i];
		struct maas_lend_usage *of =
			usage_by_name(table, quotas->usage, session->principal);

		if (!of || session->state == MAAS_LEND_SESSION_FREE)
			continue;
		of->used[MAAS_AUTH_SESSIONS]++;
		of->used[MAAS_AUTH_GRANTS] += session->keys;
	}
}

void maas_lend_quotas_draft_free(struct maas_lend_draft *draft)
{
	if (draft) {
		free(draft->usage);
		if (draft->requests)
			maas_lend_request_queues_free(draft->requests, draft->num_requests);
	}
	free(draft);
}

static bool is_read(const struct maas_auth *table, const char *owner)
{
	const struct maas_auth_principal *principal;

	for (uint32_t i = 0; (principal = maas_auth_at(table, i)); i++)
		if (!(principal->rights & MAAS_AUTH_ADMIN) &&
		    maas_auth_may(table, principal, owner, MAAS_AUTH_READ))
			return true;
	return false;
}

void maas_lend_unreached(struct maas_lend *lend, struct maas_lend_usage *ret)
{
	const struct maas_auth *table;

	pthread_mutex_lock(&lend->lock);
	table = lend->principals.table;
	memset(ret, 0, sizeof(*ret));
	add(ret, lend->quotas.unowned, lend->quotas.owner_bytes[0], 0);
	for (uint32_t i = 1; table && i < lend->owners.table->used; i++) {
		uint32_t live = maas_lend_owner_live(&lend->owners, i);

		if (live && !is_read(table, maas_lend_owner_name(&lend->owners, i)))
			add(ret, live, lend->quotas.owner_bytes[i], 1);
	}
	pthread_mutex_unlock(&lend->lock);
}

bool maas_lend_usage(struct maas_lend *lend, const char *principal, struct maas_lend_usage *ret)
{
	const struct maas_lend_requests *requests;
	const struct maas_lend_usage *usage;

	memset(ret, 0, sizeof(*ret));
	pthread_mutex_lock(&lend->lock);
	usage = usage_by_name(lend->principals.table, lend->quotas.usage, principal);
	if (usage) {
		requests = lend->requests.at[usage - lend->quotas.usage];
		*ret = *usage;
		ret->used[MAAS_AUTH_REQUEST_IDS] = requests ? requests->count : 0;
	}
	pthread_mutex_unlock(&lend->lock);
	return usage;
}
