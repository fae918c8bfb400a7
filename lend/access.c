/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a caller may do. The table of principals is replaced as a whole, under lend's lock, under
 * which every call also asks it: once it is replaced, nothing begins by the rights of before. What
 * began by them is ended: the sessions of those that lost a right, and with them their keys.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

/* ---- the table */

uint64_t maas_lend_auth_epoch(const struct maas_lend *lend)
{
	return atomic_load_explicit(&lend->principals.shown, memory_order_acquire);
}

bool maas_lend_has_auth(const struct maas_lend *lend)
{
	return atomic_load_explicit(&lend->principals.is_there, memory_order_relaxed);
}

struct maas_auth *maas_lend_auth(struct maas_lend *lend, uint64_t *ret_epoch)
{
	struct maas_auth *auth;

	pthread_mutex_lock(&lend->lock);
	auth = maas_auth_ref(lend->principals.table);
	*ret_epoch = lend->principals.epoch;
	pthread_mutex_unlock(&lend->lock);
	return auth;
}

/* What another table changes. */
struct maas_lend_change {
	const struct maas_auth *before; /* NULL: there was none */
	const struct maas_auth *now;
	bool *lost; /* by principal of `before`: it may less, or is gone */
};

/* No lock held: this compares all patterns of each. */
static int compare(struct maas_lend_change *change)
{
	static struct maas_ratelimit lost = MAAS_RATELIMIT(MAAS_LOG_WARN, "principals lost rights");
	const struct maas_auth_principal *principal;

	change->lost =
		calloc(change->before ? maas_auth_count(change->before) : 1, sizeof(*change->lost));
	if (!change->lost)
		return -ENOMEM;
	for (uint32_t i = 0; change->before && (principal = maas_auth_at(change->before, i)); i++) {
		change->lost[i] =
			!maas_auth_keeps_rights(change->before, change->now, principal->name);
		if (change->lost[i])
			log_limited(&lost, "a principal is gone, or may less than before name=%s",
				    principal->name);
	}
	return 0;
}

/* Memory stays under its owner's name, and a name that is used again has it. */
static void tell_heirs(struct maas_lend *lend, const struct maas_lend_change *change)
{
	static struct maas_ratelimit inherited =
		MAAS_RATELIMIT(MAAS_LOG_WARN, "new principals have memory");
	const struct maas_auth_principal *principal;
	struct maas_lend_usage usage;

	for (uint32_t i = 0; change->before && (principal = maas_auth_at(change->now, i)); i++) {
		if (maas_auth_by_name(change->before, principal->name) ||
		    !maas_lend_usage(lend, principal->name, &usage) ||
		    !usage.used[MAAS_AUTH_ALLOCATIONS])
			continue;
		log_limited(&inherited,
			    "a new principal has memory that was there before it name=%s "
			    "allocations=%" PRIu64 " bytes=%" PRIu64,
			    principal->name, usage.used[MAAS_AUTH_ALLOCATIONS],
			    usage.used[MAAS_AUTH_BYTES]);
	}
}

const char *maas_lend_lost(const struct maas_lend_change *change, const char *name, uint64_t proof)
{
	const struct maas_auth_principal *now = maas_auth_by_name(change->now, name);
	const struct maas_auth_principal *old =
		change->before ? maas_auth_by_name(change->before, name) : NULL;

	/* One that is new has begun by the new table; one that had no principal is nobody's now. */
	if (!now || (old && change->lost[maas_auth_index(change->before, old)]))
		return "its principal lost rights";
	return maas_auth_has_proof(change->now, now, proof) ? NULL : "its proof is gone";
}

/* Puts `auth` in the place of the table there is, which becomes the caller's. */
static struct maas_auth *replace(struct maas_lend *lend, struct maas_auth *auth,
				 struct maas_lend_draft *draft)
{
	struct maas_lend_principals *principals = &lend->principals;
	struct maas_auth *before;

	pthread_mutex_lock(&lend->lock);
	maas_lend_quotas_count(lend, auth, draft);
	before = principals->table;
	lend->owners.table->has_principals = auth != NULL;
	principals->table = maas_auth_ref(auth);
	principals->expected = auth != NULL;
	atomic_store_explicit(&principals->is_there, auth != NULL, memory_order_relaxed);
	principals->epoch++;
	atomic_store_explicit(&principals->shown, principals->epoch, memory_order_release);
	pthread_mutex_unlock(&lend->lock);
	return before;
}

int maas_lend_set_auth(struct maas_lend *lend, struct maas_auth *auth)
{
	uint64_t epoch;
	struct maas_auth *before = maas_lend_auth(lend, &epoch);
	struct maas_lend_change change = {.before = before, .now = auth};
	struct maas_lend_draft *draft = maas_lend_quotas_draft(lend, auth);
	int r = draft ? 0 : -ENOMEM;

	if (!r && auth)
		r = compare(&change);
	if (!r)
		maas_auth_unref(replace(lend, auth, draft));
	if (!r && auth) {
		maas_lend_transfers_check(lend, &change);
		maas_lend_sessions_end_if(lend, &change);
		tell_heirs(lend, &change);
	}
	free(change.lost);
	maas_lend_quotas_draft_free(draft);
	maas_auth_unref(before);
	return r;
}

/* ---- questions, under the lock */

/* Everybody may everything: there is no table, and none is to come. */
static bool is_open(const struct maas_lend *lend)
{
	return !lend->principals.table && !lend->principals.expected;
}

/* NULL: nobody. Who says not who calls is nobody, and so is a principal that is gone, or whose
 * proof is. */
static const struct maas_auth_principal *find(struct maas_lend *lend,
					      const struct maas_lend_caller *caller)
{
	const struct maas_auth_principal *now;

	if (!caller || !lend->principals.table)
		return NULL;
	if (caller->epoch == lend->principals.epoch)
		return caller->principal;
	now = maas_auth_by_name(lend->principals.table, caller->principal->name);
	return now && maas_auth_has_proof(lend->principals.table, now, caller->proof) ? now : NULL;
}

bool maas_lend_stands(struct maas_lend *lend, const struct maas_lend_caller *caller)
{
	bool stands;

	if (!caller || caller->epoch == maas_lend_auth_epoch(lend))
		return true;
	pthread_mutex_lock(&lend->lock);
	stands = find(lend, caller);
	pthread_mutex_unlock(&lend->lock);
	return stands;
}

int maas_lend_may(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *owner,
		  enum maas_auth_access access)
{
	const struct maas_auth *table = lend->principals.table;
	const struct maas_auth_principal *principal;

	if (is_open(lend))
		return 0;
	principal = find(lend, caller);
	if (!principal)
		return -ENOENT;
	if (maas_auth_may(table, principal, owner, access))
		return 0;
	return maas_auth_may(table, principal, owner, MAAS_AUTH_READ) ? -EACCES : -ENOENT;
}

int maas_lend_may_slab(struct maas_lend *lend, const struct maas_lend_caller *caller,
		       const struct maas_slab_info *info, enum maas_auth_access access)
{
	return maas_lend_may(lend, caller, maas_lend_owner_name(&lend->owners, info->label.owner),
			     access);
}

int maas_lend_find_slab(struct maas_lend *lend, const struct maas_lend_caller *caller,
			struct maas_slab_ref ref, enum maas_auth_access access,
			struct maas_slab_info *ret_info)
{
	int r = maas_slab_get(lend->slab, ref, ret_info);

	return r ? r : maas_lend_may_slab(lend, caller, ret_info, access);
}

bool maas_lend_may_session(struct maas_lend *lend, const struct maas_lend_caller *caller,
			   const struct maas_lend_session *session, bool or_admin)
{
	const struct maas_auth_principal *principal;

	if (is_open(lend))
		return true;
	principal = find(lend, caller);
	if (!principal)
		return false;
	return !strcmp(session->principal, principal->name) ||
	       (or_admin && principal->rights & MAAS_AUTH_ADMIN);
}

bool maas_lend_session_may_slab(struct maas_lend *lend, const struct maas_lend_session *session,
				const struct maas_slab_info *info, enum maas_auth_access access)
{
	const struct maas_auth *table = lend->principals.table;
	const struct maas_auth_principal *principal;

	if (is_open(lend))
		return true;
	principal = table ? maas_auth_by_name(table, session->principal) : NULL;
	return principal &&
	       maas_auth_may(table, principal,
			     maas_lend_owner_name(&lend->owners, info->label.owner), access);
}

/* A name is an owner's: nobody else's, not even to learn whether it is taken. */
bool maas_lend_may_open(struct maas_lend *lend, const struct maas_lend_caller *caller,
			const char *name)
{
	const struct maas_auth_principal *principal;

	if (is_open(lend))
		return true;
	principal = find(lend, caller);
	if (!principal)
		return false;
	return *name ? maas_auth_may(lend->principals.table, principal, name, MAAS_AUTH_OWN)
		     : maas_auth_has_memory(principal);
}

int maas_lend_may_allocate(struct maas_lend *lend, const struct maas_lend_caller *caller,
			   const char *owner, char ret_owner[MAAS_NAME_BYTES])
{
	const struct maas_auth *table = lend->principals.table;
	const struct maas_auth_principal *principal = NULL;

	if (!is_open(lend)) {
		principal = find(lend, caller);
		if (!principal)
			return -EACCES;
		if (!owner)
			owner = principal->name;
		if (!maas_auth_may(table, principal, owner, MAAS_AUTH_OWN))
			return -EACCES;
	}
	strncpy(ret_owner, owner ? owner : "", MAAS_NAME_BYTES);
	return 0;
}
