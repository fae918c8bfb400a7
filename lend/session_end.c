/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of sessions:
 *
 *     LIVE ──begin_end()──▶ ENDING: keys die ──▶ allocations are freed ──▶ frees complete ──▶ FREE
 *                                  end()              drain()                settle()
 *
 * Where the keys cannot be confirmed dead, the end goes on all the same, since each free asks for
 * the slab's own keys; then the caller is told, and housekeeping begins anew with the keys.
 *
 * Keys die and frees start without the lock, in whatever thread that is. A session may own millions
 * of allocations, and that thread may have to serve others: after some of them, or when it has no
 * memory to go on, it leaves the end in a queue to housekeeping. While the lock is not held,
 * another thread may complete the end, and the record may become another session's: an index and a
 * generation name the session, not the pointer, and after taking the lock the generation is
 * compared first.
 */
#include <errno.h>

#include "lend/internal.h"

#define CALLER_FREES (4 * MAAS_LEND_STEP) /* in the thread of who ends a session */
#define KEYS_FREES   32 /* in the thread of keys, where many sessions may end in one turn */

/* Lock held. Leaves the end to housekeeping. */
static void leave(struct maas_lend_session *session)
{
	session->queued = true;
	TAILQ_INSERT_TAIL(&session->lend->sessions.queue, session, queue_link);
}

/* Lock held. Out of the queue, if it is there. */
static void take_out(struct maas_lend_session *session)
{
	if (session->queued)
		TAILQ_REMOVE(&session->lend->sessions.queue, session, queue_link);
	session->queued = false;
}

bool maas_lend_session_settle(struct maas_lend_session *session, struct maas_lend_calls *calls)
{
	struct maas_lend_sessions *sessions = &session->lend->sessions;

	if (session->state != MAAS_LEND_SESSION_ENDING || !session->keys_told ||
	    session->allocations || session->pending)
		return false;
	take_out(session);
	maas_lend_calls_add(calls, session->done, session->arg, session->status);
	if (session->keys_live) {
		session->done = NULL;
		session->keys_told = false;
		leave(session);
		return false;
	}
	maas_lend_discharge_session(session->lend, session);
	session->state = MAAS_LEND_SESSION_FREE;
	maas_lend_session_name_remove(session);
	LIST_INSERT_HEAD(&sessions->free, session, link);
	return true;
}

/* Lock held: the session is still that one, and ending. */
static bool is_ending(const struct maas_lend_session *session, struct maas_lend_session_ref ref)
{
	return session->generation == ref.generation && session->state == MAAS_LEND_SESSION_ENDING;
}

static struct maas_lend_session_ref ref_of(const struct maas_lend_session *session)
{
	return (struct maas_lend_session_ref){maas_lend_session_index(session),
					      session->generation};
}

/* Lock held. Frees of the session's allocations a step, or up to one that has to wait; each is one
 * less of `left`. Errors: -ENOMEM. */
static int free_some(struct maas_lend_session *session, uint32_t *left,
		     struct maas_lend_pending **ret_pending)
{
	struct maas_lend *lend = session->lend;
	uint32_t list = maas_lend_lease_session(maas_lend_session_index(session));
	struct maas_slab_ref ref;
	uint32_t value;
	int r = 0;

	for (int i = 0; i < MAAS_LEND_STEP && *left && !r; i++) {
		if (!maas_lend_lease_first(&lend->leases, list, &ref, &value))
			return 0;
		r = maas_lend_free_locked(lend, ref, NULL, NULL, ret_pending);
		--*left;
	}
	return r == -EINPROGRESS ? 0 : r;
}

/*
 * Frees what the session owned, `left` allocations at most, and completes its end, as far as
 * nothing has to be waited for. No lock held. 0: complete, and with `sync` and no error `done` is
 * not called. -EINPROGRESS: somebody else completes the end, and makes the call. -ENOMEM: so does
 * housekeeping.
 */
static int drain(struct maas_lend *lend, struct maas_lend_session_ref ref, bool sync,
		 uint32_t *left)
{
	struct maas_lend_session *session = &lend->sessions.records[ref.index];
	struct maas_lend_calls calls = {0};
	int r = 0;

	pthread_mutex_lock(&lend->lock);
	while (!r && *left && is_ending(session, ref) && session->allocations) {
		struct maas_lend_pending *pending = NULL;

		r = free_some(session, left, &pending);
		pthread_mutex_unlock(&lend->lock);
		if (pending)
			(void)maas_lend_pending_start(lend, pending);
		pthread_mutex_lock(&lend->lock);
	}
	if (!r)
		r = -EINPROGRESS;
	if (is_ending(session, ref) && session->allocations) {
		leave(session);
	} else if (is_ending(session, ref)) {
		if (sync && !session->status && !session->pending)
			session->done = NULL;
		if (maas_lend_session_settle(session, &calls) && !calls.count)
			r = 0;
	}
	pthread_mutex_unlock(&lend->lock);
	maas_lend_calls_run(&calls);
	return r;
}

static void connection_ended(struct maas_lend_session *session, int status)
{
	struct maas_lend *lend = session->lend;

	pthread_mutex_lock(&lend->lock);
	session->keys_told = true;
	session->keys_live = status;
	if (status)
		session->status = -ETIMEDOUT;
	pthread_mutex_unlock(&lend->lock);
}

static void keys_done(void *arg, int status)
{
	struct maas_lend_session *session = arg;
	struct maas_lend *lend = session->lend;
	struct maas_lend_session_ref ref = ref_of(session);
	uint32_t left = KEYS_FREES;

	connection_ended(session, status);
	/* From here on somebody else may complete the end. */
	(void)drain(lend, ref, false, &left);
}

/* Lock held. From here on callers do not find the session. */
static void begin_end(struct maas_lend_session *session, maas_lend_free_done *done, void *arg)
{
	session->state = MAAS_LEND_SESSION_ENDING;
	session->lend->sessions.live--;
	session->done = done;
	session->arg = arg;
	session->keys_told = false;
}

/* Kills the keys, and goes on as drain() does. No lock held. Another error: the keys may live, and
 * housekeeping tries it again. */
static int end(struct maas_lend *lend, struct maas_lend_session_ref ref, bool sync, uint32_t *left)
{
	struct maas_lend_session *session = &lend->sessions.records[ref.index];
	int r = -EALREADY;

	if (lend->keys)
		r = lend->keys->end_session(lend->keys_ctx, ref, keys_done, session);
	if (!r)
		return -EINPROGRESS;
	if (r == -EALREADY) {
		connection_ended(session, 0);
		return drain(lend, ref, sync, left);
	}
	pthread_mutex_lock(&lend->lock);
	leave(session);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

int maas_lend_session_end(struct maas_lend *lend, const struct maas_lend_caller *caller,
			  const char *id, maas_lend_free_done *done, void *arg)
{
	struct maas_lend_session_ref ref = {0};
	struct maas_lend_session *session;
	uint32_t left = CALLER_FREES;

	pthread_mutex_lock(&lend->lock);
	session = maas_lend_session_for(lend, caller, id, true);
	if (session) {
		ref = ref_of(session);
		begin_end(session, done, arg);
	}
	pthread_mutex_unlock(&lend->lock);
	if (!session)
		return -ENOENT;
	return end(lend, ref, true, &left) ? -EINPROGRESS : 0;
}

/* Lock held. Two thirds of the lease went by without a sign of life. */
static bool is_late(const struct maas_lend_session *session)
{
	uint64_t ttl_ms = (uint64_t)session->ttl_s * 1000;

	return session->state == MAAS_LEND_SESSION_LIVE && session->lend->keys &&
	       session->deadline_ms < session->lend->lease_ms + ttl_ms / 3;
}

/* Lock held. True when the session's end is to begin; then it has, here. */
static bool is_due(struct maas_lend_session *session)
{
	struct maas_lend *lend = session->lend;

	if (session->state != MAAS_LEND_SESSION_LIVE || session->deadline_ms > lend->lease_ms)
		return false;
	begin_end(session, NULL, NULL);
	lend->stats.lapsed_sessions++;
	return true;
}

void maas_lend_sessions_lapse(struct maas_lend *lend)
{
	struct maas_lend_sessions *sessions = &lend->sessions;
	uint32_t index = 0;

	pthread_mutex_lock(&lend->lock);
	while (index < sessions->used) {
		struct maas_lend_session *session = &sessions->records[index];
		struct maas_lend_session_ref ref = {index++, session->generation};
		bool late;

		if (is_due(session)) {
			log_info("session lapsed name=\"%s\" ttl=%u", session->name,
				 session->ttl_s);
			leave(session);
		}
		late = is_late(session);
		if (!late && index % MAAS_LEND_STEP)
			continue;
		pthread_mutex_unlock(&lend->lock);
		if (late)
			lend->keys->probe(lend->keys_ctx, ref);
		pthread_mutex_lock(&lend->lock);
	}
	pthread_mutex_unlock(&lend->lock);
}

bool maas_lend_sessions_go_on(struct maas_lend *lend)
{
	uint32_t left = MAAS_LEND_STEP;
	int r = 0;

	while (left && (!r || r == -EINPROGRESS)) {
		struct maas_lend_session_ref ref = {0};
		struct maas_lend_session *session;
		bool keys_told = false;

		pthread_mutex_lock(&lend->lock);
		session = TAILQ_FIRST(&lend->sessions.queue);
		if (session) {
			ref = ref_of(session);
			keys_told = session->keys_told;
			take_out(session);
		}
		pthread_mutex_unlock(&lend->lock);
		if (!session)
			return false;
		left--;
		r = keys_told ? drain(lend, ref, false, &left) : end(lend, ref, false, &left);
	}
	return !r || r == -EINPROGRESS;
}

void maas_lend_sessions_end_if(struct maas_lend *lend, const struct maas_lend_change *change)
{
	struct maas_lend_sessions *sessions = &lend->sessions;
	uint32_t left = MAAS_LEND_STEP;
	uint32_t index = 0;

	pthread_mutex_lock(&lend->lock);
	while (index < sessions->used) {
		struct maas_lend_session *session = &sessions->records[index];
		struct maas_lend_session_ref ref = {index++, session->generation};
		const char *why =
			session->state == MAAS_LEND_SESSION_LIVE
				? maas_lend_lost(change, session->principal, session->proof)
				: NULL;

		if (why)
			begin_end(session, NULL, NULL);
		if (!why && index % MAAS_LEND_STEP)
			continue;
		pthread_mutex_unlock(&lend->lock);
		if (why) {
			log_info("session ended, %s name=\"%s\" principal=%s", why, session->name,
				 session->principal);
			left--;
			(void)end(lend, ref, false, &left);
		}
		if (!left) {
			maas_lend_pause();
			left = MAAS_LEND_STEP;
		}
		pthread_mutex_lock(&lend->lock);
	}
	pthread_mutex_unlock(&lend->lock);
}
