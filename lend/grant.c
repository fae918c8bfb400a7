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

/* Lock held. As maas_lend_find_slab(), by the id. */
static int find_slab(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		     enum maas_auth_access access, struct maas_slab_info *ret_info)
{
	struct maas_slab_ref ref;
	int r = maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);

	return r ? r : maas_lend_find_slab(lend, caller, ref, access, ret_info);
}

static void set_target(const struct maas_slab_info *info, const struct maas_lend_session *session,
		       struct target *ret)
{
	ret->ref = info->ref;
	ret->session.index = maas_lend_session_index(session);
	ret->session.generation = session->generation;
}

/*
 * Lock held. The caller may have the key, and so may the session's principal: whoever may write
 * cannot give others more than the file does. A session that may not is to the caller as one that
 * is not there. Errors: -ENOENT, -EACCES, -ESRCH.
 */
static int find_grant(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		      const char *session_id, enum maas_auth_access access, struct target *ret)
{
	const struct maas_lend_session *session;
	struct maas_slab_info info;
	int r = find_slab(lend, caller, id, access, &info);

	if (r)
		return r;
	session = maas_lend_session_by_id(lend, session_id);
	if (!session || !maas_lend_session_may_slab(lend, session, &info, access))
		return -ESRCH;
	set_target(&info, session, ret);
	return 0;
}

/* Lock held. A key is ended by whoever owns the memory, or the session. Errors: as find_grant(). */
static int find_ungrant(struct maas_lend *lend, const struct maas_lend_caller *caller,
			const char *id, const char *session_id, struct target *ret)
{
	const struct maas_lend_session *session;
	struct maas_slab_info info;
	int r = find_slab(lend, caller, id, MAAS_AUTH_READ, &info);

	if (r)
		return r;
	session = maas_lend_session_by_id(lend, session_id);
	if (!session || (maas_lend_may_slab(lend, caller, &info, MAAS_AUTH_OWN) &&
			 !maas_lend_may_session(lend, caller, session, false)))
		return -ESRCH;
	set_target(&info, session, ret);
	return 0;
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
	if (!lend->keys)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&lend->lock);
	r = find_grant(lend, caller, id, session,
		       access == MAAS_LEND_ACCESS_WRITE ? MAAS_AUTH_OWN : MAAS_AUTH_READ, &target);
	pthread_mutex_unlock(&lend->lock);
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
	int r;

	if (!lend->keys)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&lend->lock);
	r = find_ungrant(lend, caller, id, session, &target);
	pthread_mutex_unlock(&lend->lock);
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
	return lend->keys && lend->keys->address(lend->keys_ctx, local, ret_address);
}
