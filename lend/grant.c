/* SPDX-License-Identifier: Apache-2.0 */
/* Keys for allocations that are there already, and what the keys say of themselves. */
#include <errno.h>
#include <stdlib.h>

#include "lend/internal.h"

const uint64_t maas_lend_key_bounds_ns[MAAS_LEND_KEY_BUCKETS] = {
	1000,	5000,	 10000,	   25000,     50000,	  100000,
	500000, 1000000, 10000000, 100000000, 1000000000, 5000000000,
};

struct target {
	struct maas_slab_ref ref;
	struct maas_lend_session_ref session;
};

/* Errors: -EOPNOTSUPP, -ENOENT, -ESRCH. */
static int decode_target(struct maas_lend *lend, const char *id, const char *session,
			 struct target *ret)
{
	if (!lend->keys)
		return -EOPNOTSUPP;
	if (maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ret->ref.slot,
				&ret->ref.generation))
		return -ENOENT;
	if (maas_slab_id_decode(&lend->sessions.id_key, session, &ret->session.index,
				&ret->session.generation))
		return -ESRCH;
	return 0;
}

/*
 * Lock held. The caller may have the key, and so may the session's principal: whoever may write
 * cannot give others more than the file does. Errors: -ENOENT, -ESRCH, -EACCES.
 */
static int check_target(struct maas_lend *lend, const struct maas_lend_caller *caller,
			const struct target *target, enum maas_auth_access access)
{
	const struct maas_lend_session *session;
	struct maas_slab_info info;
	int r = maas_slab_get(lend->slab, target->ref, &info);

	if (!r)
		r = maas_lend_may_slab(lend, caller, &info, access);
	if (r)
		return r;
	session = maas_lend_session_find(lend, target->session.index, target->session.generation);
	if (!session)
		return -ESRCH;
	return maas_lend_session_may_slab(lend, session, &info, access) ? 0 : -EACCES;
}

static int find_target(struct maas_lend *lend, const struct maas_lend_caller *caller,
		       const char *id, const char *session, enum maas_auth_access access,
		       struct target *ret)
{
	int r = decode_target(lend, id, session, ret);

	if (r)
		return r;
	pthread_mutex_lock(&lend->lock);
	r = check_target(lend, caller, ret, access);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

/* A key is ended by whoever owns the memory, or the session. */
static int check_ungrant(struct maas_lend *lend, const struct maas_lend_caller *caller,
			 const struct target *target)
{
	const struct maas_lend_session *session;
	struct maas_slab_info info;
	int r;

	pthread_mutex_lock(&lend->lock);
	r = maas_slab_get(lend->slab, target->ref, &info);
	if (!r)
		r = maas_lend_may_slab(lend, caller, &info, MAAS_AUTH_OWN);
	session = maas_lend_session_find(lend, target->session.index, target->session.generation);
	if (r == -EACCES && session && maas_lend_may_session(lend, caller, session, false))
		r = 0;
	pthread_mutex_unlock(&lend->lock);
	return r;
}

struct pending_grant {
	struct maas_slab_ref ref; /* borrowed by the operation */
	maas_lend_key_done *done;
	void *arg;
};

static void granted(void *arg, int status)
{
	struct pending_grant *pending = arg;

	pending->done(pending->arg, status);
	free(pending);
}

int maas_lend_grant(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		    const char *session, enum maas_lend_access access,
		    struct maas_lend_key *ret_key, maas_lend_key_done *done, void *arg)
{
	struct pending_grant *pending;
	struct target target;
	int r;

	if (access == MAAS_LEND_ACCESS_NONE)
		return -EINVAL;
	r = find_target(lend, caller, id, session,
			access == MAAS_LEND_ACCESS_WRITE ? MAAS_AUTH_OWN : MAAS_AUTH_READ, &target);
	if (r)
		return r;
	pending = malloc(sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	*pending = (struct pending_grant){.ref = target.ref, .done = done, .arg = arg};
	r = lend->keys->grant(lend->keys_ctx, target.session, &pending->ref, 1, access, ret_key,
			      granted, pending);
	if (!r)
		return -EINPROGRESS;
	free(pending);
	return r;
}

int maas_lend_ungrant(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		      const char *session, maas_lend_key_done *done, void *arg)
{
	struct target target;
	int r = find_target(lend, caller, id, session, MAAS_AUTH_READ, &target);

	if (!r)
		r = check_ungrant(lend, caller, &target);
	if (r)
		return r;
	r = lend->keys->ungrant(lend->keys_ctx, target.session, target.ref, done, arg);
	if (!r)
		return -EINPROGRESS;
	return r == -EALREADY ? -ENOENT : r;
}

bool maas_lend_key_stats(struct maas_lend *lend, struct maas_lend_key_stats *ret_stats)
{
	if (lend->keys)
		lend->keys->stats(lend->keys_ctx, ret_stats);
	return lend->keys != NULL;
}

bool maas_lend_key_address(struct maas_lend *lend, const void *local,
			   struct maas_lend_key_address *ret_address)
{
	if (lend->keys)
		lend->keys->address(lend->keys_ctx, local, ret_address);
	return lend->keys != NULL;
}
