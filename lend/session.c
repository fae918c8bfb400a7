/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: how they are opened, found and renewed. The records lie in an array and are used again;
 * whoever lets go of lend's lock finds a record anew, by its generation. Their end is
 * session_end.c's.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

int maas_lend_sessions_init(struct maas_lend_sessions *sessions, uint32_t max)
{
	maas_slab_id_key_random(&sessions->id_key);
	randombytes_buf(sessions->ticket_key, sizeof(sessions->ticket_key));
	sessions->max = max;
	TAILQ_INIT(&sessions->queue);
	sessions->records = calloc(max, sizeof(*sessions->records));
	if (!sessions->records)
		return -ENOMEM;
	return maas_lend_session_names_init(&sessions->names, max);
}

void maas_lend_sessions_fini(struct maas_lend_sessions *sessions)
{
	maas_lend_session_names_fini(&sessions->names);
	free(sessions->records);
}

uint32_t maas_lend_session_index(const struct maas_lend_session *session)
{
	return (uint32_t)(session - session->lend->sessions.records);
}

struct maas_lend_session *maas_lend_session_find(struct maas_lend *lend, uint32_t index,
						 uint32_t generation)
{
	struct maas_lend_session *session;

	if (index >= lend->sessions.used)
		return NULL;
	session = &lend->sessions.records[index];
	if (session->state != MAAS_LEND_SESSION_LIVE || session->generation != generation)
		return NULL;
	return session;
}

struct maas_lend_session *maas_lend_session_by_id(struct maas_lend *lend, const char *id)
{
	uint32_t index;
	uint32_t generation;

	if (maas_slab_id_decode(&lend->sessions.id_key, id, &index, &generation))
		return NULL;
	return maas_lend_session_find(lend, index, generation);
}

struct maas_lend_session *maas_lend_session_for(struct maas_lend *lend,
						const struct maas_lend_caller *caller,
						const char *id, bool or_admin)
{
	struct maas_lend_session *session = maas_lend_session_by_id(lend, id);

	if (!session || !maas_lend_may_session(lend, caller, session, or_admin))
		return NULL;
	if (caller && maas_lend_may_session(lend, caller, session, false))
		session->proof = caller->proof;
	return session;
}

void maas_lend_session_describe(const struct maas_lend_session *session, bool with_ticket,
				struct maas_lend_session_info *ret_info)
{
	const struct maas_lend *lend = session->lend;
	uint64_t left_ms =
		session->deadline_ms > lend->lease_ms ? session->deadline_ms - lend->lease_ms : 0;

	memset(ret_info, 0, sizeof(*ret_info));
	maas_slab_id_encode(&lend->sessions.id_key, maas_lend_session_index(session),
			    session->generation, ret_info->id);
	memcpy(ret_info->name, session->name, sizeof(ret_info->name));
	memcpy(ret_info->from, session->from, sizeof(ret_info->from));
	ret_info->exclusive = session->exclusive;
	if (with_ticket)
		sodium_bin2hex(ret_info->ticket, sizeof(ret_info->ticket), session->ticket,
			       sizeof(session->ticket));
	ret_info->ttl_s = session->ttl_s;
	ret_info->lease_s = (uint32_t)((left_ms + 999) / 1000);
	ret_info->age_s = maas_lend_now_s(lend) - session->created_s;
	ret_info->allocations = session->allocations;
}

static void start_lease(struct maas_lend_session *session, uint32_t ttl_s)
{
	session->ttl_s = ttl_s;
	session->deadline_ms = session->lend->lease_ms + (uint64_t)ttl_s * 1000;
}

static struct maas_lend_session *take_record(struct maas_lend *lend)
{
	struct maas_lend_sessions *sessions = &lend->sessions;
	struct maas_lend_session *session = LIST_FIRST(&sessions->free);

	if (session) {
		LIST_REMOVE(session, link);
	} else if (sessions->used < sessions->max) {
		session = &sessions->records[sessions->used++];
		session->lend = lend;
	}
	return session;
}

static int do_open(struct maas_lend *lend, const struct maas_lend_caller *caller, const char *name,
		   uint32_t ttl_s, bool exclusive, const char *from,
		   struct maas_lend_session_info *ret_info)
{
	struct maas_lend_sessions *sessions = &lend->sessions;
	struct maas_lend_session *same =
		maas_lend_session_name_find(&sessions->names, name, &lend->steps);
	struct maas_lend_session *session;
	uint32_t generation;
	int r;

	if (!maas_lend_may_open(lend, caller, name))
		return -EACCES;
	/* An exclusive one is the only one of its name. */
	if (same && (exclusive || same->exclusive))
		return -EEXIST;
	session = take_record(lend);
	if (!session)
		return -EUSERS;
	r = maas_lend_charge_session(lend, caller);
	if (r) {
		LIST_INSERT_HEAD(&sessions->free, session, link);
		return r;
	}
	generation = session->generation + 1;
	memset(session, 0, sizeof(*session));
	session->lend = lend;
	session->generation = generation;
	session->state = MAAS_LEND_SESSION_LIVE;
	session->exclusive = exclusive;
	session->created_s = maas_lend_now_s(lend);
	memcpy(session->name, name, strlen(name));
	snprintf(session->from, sizeof(session->from), "%s", from ? from : "");
	if (caller) {
		memcpy(session->principal, caller->principal->name,
		       strlen(caller->principal->name));
		session->proof = caller->proof;
	}
	maas_lend_session_name_add(&sessions->names, session, same);
	sessions->live++;
	start_lease(session, ttl_s);
	maas_lend_ticket_new(session);
	maas_lend_session_describe(session, true, ret_info);
	return 0;
}

int maas_lend_session_open(struct maas_lend *lend, const struct maas_lend_caller *caller,
			   const char *name, uint32_t ttl_s, bool exclusive, const char *from,
			   struct maas_lend_session_info *ret_info)
{
	int r;

	if ((*name && !maas_name_valid(name)) || (exclusive && !*name))
		return -EINVAL;
	if (ttl_s > lend->max_session_ttl_s)
		return -ERANGE;
	if (!ttl_s)
		ttl_s = MAAS_LEND_SESSION_S < lend->max_session_ttl_s ? MAAS_LEND_SESSION_S
								      : lend->max_session_ttl_s;
	pthread_mutex_lock(&lend->lock);
	r = do_open(lend, caller, name, ttl_s, exclusive, from, ret_info);
	pthread_mutex_unlock(&lend->lock);
	return r;
}

uint32_t maas_lend_session_named(struct maas_lend *lend, const struct maas_lend_caller *caller,
				 const char *name, struct maas_lend_session_info *ret_infos,
				 uint32_t max, bool *ret_more)
{
	const struct maas_lend_session *first;
	const struct maas_lend_session *session;
	uint32_t count = 0;

	pthread_mutex_lock(&lend->lock);
	first = maas_lend_session_name_find(&lend->sessions.names, name, &lend->steps);
	if (maas_lend_may(lend, caller, name, MAAS_AUTH_READ))
		first = NULL;
	session = first;
	/* As many steps as answers: of those that are ending there may be many. */
	for (uint32_t i = 0; session && i < max; i++) {
		lend->steps++;
		if (session->state == MAAS_LEND_SESSION_LIVE) {
			maas_lend_session_describe(session, false, &ret_infos[count]);
			ret_infos[count++].id[0] = '\0';
		}
		session = session->next == first ? NULL : session->next;
	}
	pthread_mutex_unlock(&lend->lock);
	*ret_more = session;
	return count;
}

uint32_t maas_lend_session_max_ttl_s(const struct maas_lend *lend)
{
	return lend->max_session_ttl_s;
}

int maas_lend_session_get(struct maas_lend *lend, const struct maas_lend_caller *caller,
			  const char *id, struct maas_lend_session_info *ret_info)
{
	struct maas_lend_session *session;

	pthread_mutex_lock(&lend->lock);
	session = maas_lend_session_for(lend, caller, id, true);
	if (session)
		maas_lend_session_describe(session, false, ret_info);
	pthread_mutex_unlock(&lend->lock);
	return session ? 0 : -ENOENT;
}

int maas_lend_session_renew(struct maas_lend *lend, const struct maas_lend_caller *caller,
			    const char *id, uint32_t ttl_s, struct maas_lend_session_info *ret_info)
{
	struct maas_lend_session *session;

	if (ttl_s > lend->max_session_ttl_s)
		return -ERANGE;
	pthread_mutex_lock(&lend->lock);
	session = maas_lend_session_for(lend, caller, id, true);
	if (session) {
		start_lease(session, ttl_s ? ttl_s : session->ttl_s);
		maas_lend_session_describe(session, false, ret_info);
	}
	pthread_mutex_unlock(&lend->lock);
	return session ? 0 : -ENOENT;
}

int maas_lend_session_ticket(struct maas_lend *lend, const struct maas_lend_caller *caller,
			     const char *id, struct maas_lend_session_info *ret_info)
{
	struct maas_lend_session *session;

	pthread_mutex_lock(&lend->lock);
	session = maas_lend_session_for(lend, caller, id, false);
	if (session) {
		maas_lend_ticket_new(session);
		maas_lend_session_describe(session, true, ret_info);
	}
	pthread_mutex_unlock(&lend->lock);
	return session ? 0 : -ENOENT;
}
