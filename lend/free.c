/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frees, in the order of revocation: the slab is revoking, its keys die, its transfers end, and
 * only then is it dirty and can be used again. A free that has to wait is a pending one, in a list
 * under lend's lock; its callback runs without the lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "lend/internal.h"

void maas_lend_calls_add(struct maas_lend_calls *calls, maas_lend_free_done *done, void *arg,
			 int status)
{
	if (!done)
		return;
	assert(calls->count < MAAS_ARRAY_SIZE(calls->call));
	calls->call[calls->count].done = done;
	calls->call[calls->count].arg = arg;
	calls->call[calls->count].status = status;
	calls->count++;
}

void maas_lend_calls_run(const struct maas_lend_calls *calls)
{
	for (unsigned int i = 0; i < calls->count; i++)
		calls->call[i].done(calls->call[i].arg, calls->call[i].status);
}

/* The slab has just ceased to be live: its lease goes with it. */
static struct maas_lend_session *forget(struct maas_lend *lend, const struct maas_slab_info *info)
{
	struct maas_lend_session *session;
	uint32_t value;

	if (info->label.lifetime == MAAS_LEND_LIFETIME_DELETE ||
	    !maas_lend_lease_remove(&lend->leases, info->ref,
				    info->label.lifetime == MAAS_LEND_LIFETIME_TTL, &value) ||
	    info->label.lifetime != MAAS_LEND_LIFETIME_SESSION)
		return NULL;
	session = &lend->sessions.records[value];
	session->allocations--;
	return session;
}

static int free_at_once(struct maas_lend *lend, const struct maas_slab_info *info)
{
	int r = maas_slab_free(lend->slab, info->ref);

	if (r)
		return r;
	forget(lend, info);
	maas_lend_discharge(lend, info->label.owner, 1, info->slab_bytes);
	return 0;
}

static int revoke(struct maas_lend *lend, const struct maas_slab_info *info,
		  struct maas_lend_use *use, struct maas_lend_pending *pending)
{
	int r = maas_slab_revoke(lend->slab, info->ref);

	if (r)
		return r;
	pending->lend = lend;
	pending->ref = info->ref;
	pending->owner = info->label.owner;
	pending->slab_bytes = info->slab_bytes;
	pending->use = use;
	pending->since_ms = lend->clock_ms();
	pending->keys_dead = !lend->keys;
	pending->session = forget(lend, info);
	if (pending->session)
		pending->session->pending++;
	use->pending = pending;
	TAILQ_INSERT_TAIL(&lend->waiting, pending, link);
	lend->stats.pending_frees++;
	return 0;
}

int maas_lend_free_locked(struct maas_lend *lend, struct maas_slab_ref ref,
			  maas_lend_free_done *done, void *arg,
			  struct maas_lend_pending **ret_pending)
{
	struct maas_lend_use *use = maas_lend_slots_find(&lend->uses, ref.slot);
	struct maas_slab_info info;
	struct maas_lend_pending *pending;
	int r;

	*ret_pending = NULL;
	lend->steps++;
	r = maas_slab_get(lend->slab, ref, &info);
	if (r)
		return r;
	if (!lend->keys && !(use && maas_lend_use_in_transfer(use)))
		return free_at_once(lend, &info);
	/* What can fail for want of memory comes before anything has changed. */
	use = maas_lend_slots_make(&lend->uses, ref.slot);
	pending = use ? calloc(1, sizeof(*pending)) : NULL;
	if (!pending)
		return -ENOMEM;
	r = revoke(lend, &info, use, pending);
	if (r) {
		free(pending);
		return r;
	}
	pending->done = done;
	pending->arg = arg;
	*ret_pending = pending;
	return -EINPROGRESS;
}

static void quarantine(struct maas_lend *lend, struct maas_lend_pending *pending)
{
	int r = maas_slab_quarantine(lend->slab, pending->ref);

	assert(!r);
	(void)r;
	TAILQ_INSERT_TAIL(&lend->quarantined, pending, link);
}

static void release(struct maas_lend *lend, struct maas_lend_pending *pending)
{
	int r = maas_slab_release(lend->slab, pending->ref);

	assert(!r);
	(void)r;
	maas_lend_discharge(lend, pending->owner, 1, pending->slab_bytes);
	free(pending);
}

/* Lock held. Ends the free when nothing holds it up any more; `pending` may then be gone. */
static bool settle(struct maas_lend_pending *pending, struct maas_lend_calls *calls)
{
	struct maas_lend *lend = pending->lend;
	struct maas_lend_session *session = pending->session;

	if (!pending->keys_dead || maas_lend_use_in_transfer(pending->use))
		return false;
	pending->use->pending = NULL;
	TAILQ_REMOVE(pending->forced ? &lend->forced : &lend->waiting, pending, link);
	lend->stats.pending_frees--;
	maas_lend_calls_add(calls, pending->done, pending->arg, pending->status);
	if (session) {
		session->pending--;
		if (pending->status)
			session->status = pending->status;
	}
	if (pending->status)
		quarantine(lend, pending);
	else
		release(lend, pending);
	if (session)
		maas_lend_session_settle(session, calls);
	return true;
}

static void keys_done(void *arg, int status)
{
	struct maas_lend_pending *pending = arg;
	struct maas_lend *lend = pending->lend;
	struct maas_lend_calls calls = {0};

	if (status)
		log_warn("a key was not revoked, its slab is quarantined slot=%u generation=%u "
			 "error=%d",
			 pending->ref.slot, pending->ref.generation, -status);
	pthread_mutex_lock(&lend->lock);
	pending->keys_dead = true;
	pending->status = status ? -ETIMEDOUT : 0;
	settle(pending, &calls);
	pthread_mutex_unlock(&lend->lock);
	maas_lend_calls_run(&calls);
}

int maas_lend_pending_start(struct maas_lend *lend, struct maas_lend_pending *pending)
{
	struct maas_lend_calls calls = {0};
	int r;

	/* Without keys the last transfer's end frees `pending`: it may be gone by now. */
	if (!lend->keys)
		return -EINPROGRESS;
	r = lend->keys->revoke(lend->keys_ctx, pending->ref, pending->revocation, keys_done,
			       pending);
	if (!r)
		return -EINPROGRESS;
	if (r != -EALREADY) {
		keys_done(pending, r);
		return -EINPROGRESS;
	}
	pthread_mutex_lock(&lend->lock);
	pending->keys_dead = true;
	if (maas_lend_use_in_transfer(pending->use)) {
		r = -EINPROGRESS;
	} else {
		/* The caller learns of the end from the return value. */
		pending->done = NULL;
		settle(pending, &calls);
		r = 0;
	}
	pthread_mutex_unlock(&lend->lock);
	maas_lend_calls_run(&calls);
	return r;
}

void maas_lend_free_resume(const struct maas_lend_use *use, struct maas_lend_calls *calls)
{
	if (use->pending)
		settle(use->pending, calls);
}

int maas_lend_free(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *id,
		   maas_lend_free_done *done, void *arg)
{
	struct maas_lend_pending *pending = NULL;
	struct maas_slab_info info;
	struct maas_slab_ref ref;
	int r;

	r = maas_slab_id_decode(maas_slab_id_key(lend->slab), id, &ref.slot, &ref.generation);
	if (r)
		return r;
	pthread_mutex_lock(&lend->lock);
	r = maas_lend_find_slab(lend, caller, ref, MAAS_AUTH_OWN, &info);
	if (!r)
		r = maas_lend_free_locked(lend, ref, done, arg, &pending);
	pthread_mutex_unlock(&lend->lock);
	return pending ? maas_lend_pending_start(lend, pending) : r;
}

/* Lock held. False when every transfer of that slab has been told to end. */
static bool abort_one(struct maas_lend *lend, struct maas_lend_use *use)
{
	struct maas_lend_transfer *transfer = LIST_FIRST(&use->transfers);

	if (transfer)
		maas_lend_transfer_abort(lend, use, transfer);
	return transfer;
}

/* Lock held. False when no other free has waited too long. */
static bool force_some(struct maas_lend *lend)
{
	uint64_t now_ms = lend->clock_ms();

	for (int i = 0; i < MAAS_LEND_STEP; i++) {
		struct maas_lend_pending *pending = TAILQ_FIRST(&lend->waiting);

		if (!pending || now_ms - pending->since_ms < MAAS_LEND_GRACE_MS)
			return false;
		lend->steps++;
		if (abort_one(lend, pending->use))
			continue;
		TAILQ_REMOVE(&lend->waiting, pending, link);
		TAILQ_INSERT_TAIL(&lend->forced, pending, link);
		pending->forced = true;
	}
	return true;
}

void maas_lend_free_force(struct maas_lend *lend)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&lend->lock);
		more = force_some(lend);
		pthread_mutex_unlock(&lend->lock);
		if (more)
			maas_lend_pause();
	}
}

static void retry_done(void *arg, int status)
{
	struct maas_lend_pending *pending = arg;
	struct maas_lend *lend = pending->lend;

	pthread_mutex_lock(&lend->lock);
	if (status)
		TAILQ_INSERT_TAIL(&lend->quarantined, pending, link);
	else
		release(lend, pending);
	pthread_mutex_unlock(&lend->lock);
}

/* A quarantined slab's keys die with the queue pairs that they belong to, and only rdma/ knows when
 * that is: so rdma/ is asked again. */
void maas_lend_quarantine_retry(struct maas_lend *lend)
{
	struct maas_lend_pending_list list = TAILQ_HEAD_INITIALIZER(list);
	struct maas_lend_pending *pending;

	pthread_mutex_lock(&lend->lock);
	TAILQ_CONCAT(&list, &lend->quarantined, link);
	pthread_mutex_unlock(&lend->lock);
	while ((pending = TAILQ_FIRST(&list))) {
		int r;

		TAILQ_REMOVE(&list, pending, link);
		r = lend->keys->revoke(lend->keys_ctx, pending->ref, pending->revocation,
				       retry_done, pending);
		if (r)
			retry_done(pending, r == -EALREADY ? 0 : r);
	}
}
