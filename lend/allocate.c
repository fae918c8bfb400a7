/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations, with and without keys, all or none. Memory is taken without lend's lock, because
 * pages may have to be made. A request id is looked up and noted under one of many locks, so that a
 * duplicate waits for the answer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

/* A request, checked and in one form: what a request id is compared by. No padding. */
struct canonical {
	uint64_t size_bytes;
	uint32_t count;
	uint32_t lifetime;
	uint32_t ttl_s;
	uint32_t has_session;
	uint32_t session;
	uint32_t session_generation;
	uint32_t access;
	uint32_t reserved;
	char owner[MAAS_NAME_BYTES]; /* filled up with NULs; all of them: none */
};
static_assert(sizeof(struct canonical) == 40 + MAAS_NAME_BYTES, "it is hashed as bytes");

static int check_lifetime(const struct maas_lend_alloc_request *request)
{
	switch (request->lifetime) {
	case MAAS_LEND_LIFETIME_DELETE:
		return request->ttl_s ? -EINVAL : 0;
	case MAAS_LEND_LIFETIME_TTL:
		return request->ttl_s && request->ttl_s <= MAAS_LEND_MAX_TTL_S ? 0 : -EINVAL;
	case MAAS_LEND_LIFETIME_SESSION:
		return request->session && !request->ttl_s ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static int canonicalize(struct maas_lend *lend, const struct maas_lend_alloc_request *request,
			enum maas_lend_access access, struct canonical *ret)
{
	int r = check_lifetime(request);

	if (r)
		return r;
	if (!request->count || request->count > MAAS_SLAB_MAX_BATCH || !request->size_bytes)
		return -EINVAL;
	if (request->owner && !maas_name_valid(request->owner))
		return -EINVAL;
	if (request->request_id &&
	    (!*request->request_id ||
	     strnlen(request->request_id, MAAS_LEND_REQUEST_ID) == MAAS_LEND_REQUEST_ID))
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	ret->size_bytes = request->size_bytes;
	ret->count = request->count;
	ret->lifetime = request->lifetime;
	ret->ttl_s = request->ttl_s;
	ret->access = access;
	ret->has_session = request->session != NULL;
	pthread_mutex_lock(&lend->lock);
	r = maas_lend_may_allocate(lend, request->caller, request->owner, ret->owner);
	pthread_mutex_unlock(&lend->lock);
	/* Before a quota is asked: what fits no slab is nothing that more room would help. */
	if (!r && request->size_bytes > lend->class_bytes[lend->num_classes - 1])
		r = -EFBIG;
	/* After the right: an id that cannot be one is as one that is not the caller's. */
	if (!r && request->session &&
	    maas_slab_id_decode(&lend->sessions.id_key, request->session, &ret->session,
				&ret->session_generation))
		r = -ESRCH;
	return r;
}

/* Lock held. The session of the request, if it is there and the caller's. */
static struct maas_lend_session *find_session(struct maas_lend *lend,
					      const struct maas_lend_caller *caller,
					      const struct canonical *request)
{
	struct maas_lend_session *session =
		maas_lend_session_find(lend, request->session, request->session_generation);

	return session && maas_lend_may_session(lend, caller, session, false) ? session : NULL;
}

/* Of a size that canonicalize() has let pass. */
static uint64_t slab_bytes_for(const struct maas_lend *lend, uint64_t size_bytes)
{
	unsigned int i = 0;

	while (lend->class_bytes[i] < size_bytes)
		i++;
	return lend->class_bytes[i];
}

/* What has to be known before there is a slab. */
static int prepare(struct maas_lend *lend, const struct maas_lend_alloc_request *from,
		   const struct canonical *request, uint32_t *ret_owner)
{
	const struct maas_lend_caller *caller = from->caller;
	struct maas_lend_refusal refusal;
	int r = 0;

	*ret_owner = 0;
	if (!request->has_session && !*request->owner && !caller)
		return 0;
	pthread_mutex_lock(&lend->lock);
	/* Once more, because another table may have come. */
	if (maas_lend_may(lend, caller, request->owner, MAAS_AUTH_OWN))
		r = -EACCES;
	else if (request->has_session && !find_session(lend, caller, request))
		r = -ESRCH;
	else if (*request->owner)
		r = maas_lend_charge(lend, request->owner, request->count,
				     request->count * slab_bytes_for(lend, request->size_bytes),
				     &refusal, ret_owner);
	pthread_mutex_unlock(&lend->lock);
	if (r == -ENOSR && from->refusal)
		maas_lend_tell_refusal(caller, &refusal, from->refusal);
	return r;
}

/* Lock held. Puts the slab where it ends by itself. */
static int tie_one(struct maas_lend *lend, struct maas_slab_ref ref,
		   struct maas_lend_session *session, uint32_t value)
{
	struct maas_slab_info info;
	uint32_t renewed;
	int r;

	/* Whoever found the id in a list may have freed the allocation already, or renewed it. */
	if (maas_slab_get(lend->slab, ref, &info) ||
	    maas_lend_lease_find(&lend->leases, ref, &renewed))
		return 0;
	if (!session)
		return maas_lend_lease_start(lend, ref, value);
	r = maas_lend_lease_add(&lend->leases, ref, maas_lend_lease_session(value), value);
	if (!r)
		session->allocations++;
	return r;
}

/* Lock held. */
static int tie_some(struct maas_lend *lend, const struct canonical *request,
		    const struct maas_slab_ref *refs, uint32_t count)
{
	struct maas_lend_session *session = NULL;
	uint32_t value = request->session;
	int r = 0;

	if (request->lifetime == MAAS_LEND_LIFETIME_SESSION) {
		/* It may have ended since prepare(). */
		session =
			maas_lend_session_find(lend, request->session, request->session_generation);
		if (!session)
			return -ESRCH;
	} else {
		value = maas_lend_deadline_s(lend, request->ttl_s);
	}
	for (uint32_t i = 0; i < count && !r; i++)
		r = tie_one(lend, refs[i], session, value);
	return r;
}

static int tie(struct maas_lend *lend, const struct canonical *request,
	       const struct maas_slab_ref *refs)
{
	int r = 0;

	for (uint32_t i = 0; i < request->count && !r; i += MAAS_LEND_STEP) {
		uint32_t left = request->count - i;

		pthread_mutex_lock(&lend->lock);
		r = tie_some(lend, request, refs + i,
			     left < MAAS_LEND_STEP ? left : MAAS_LEND_STEP);
		pthread_mutex_unlock(&lend->lock);
	}
	return r;
}

/* Nobody was told these ids, but a list may have shown them: so each is freed like any other. */
static void undo(struct maas_lend *lend, const struct maas_slab_ref *refs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct maas_lend_pending *pending;
		int r;

		pthread_mutex_lock(&lend->lock);
		r = maas_lend_free_locked(lend, refs[i], NULL, NULL, &pending);
		pthread_mutex_unlock(&lend->lock);
		if (pending)
			(void)maas_lend_pending_start(lend, pending);
		else if (r == -ENOMEM)
			log_err("out of memory: an allocation that failed is kept slot=%u",
				refs[i].slot);
	}
}

/* Whose request ids they are. */
static const char *name_of(const struct maas_lend_caller *caller)
{
	return caller ? caller->principal->name : "";
}

/* With a `key` the request is remembered, under the number `ret_number`. */
static int allocate(struct maas_lend *lend, const struct maas_lend_alloc_request *from,
		    const struct canonical *request, const struct maas_lend_request_key *key,
		    struct maas_slab_ref *ret_refs, uint32_t *ret_number)
{
	struct maas_slab_label label = {
		.created_s = maas_lend_now_s(lend),
		.ttl_s = request->ttl_s,
		.lifetime = (uint8_t)request->lifetime,
	};
	int r;

	r = prepare(lend, from, request, &label.owner);
	if (r)
		return r;
	/* Without the lock: pages may have to be allocated, bytes to be zeroed. */
	if (request->count == 1)
		r = maas_slab_alloc(lend->slab, request->size_bytes, &label, ret_refs);
	else
		r = maas_slab_alloc_many(lend->slab, request->size_bytes, request->count, &label,
					 ret_refs);
	if (r) {
		pthread_mutex_lock(&lend->lock);
		maas_lend_discharge(lend, label.owner, request->count,
				    request->count * slab_bytes_for(lend, request->size_bytes));
		pthread_mutex_unlock(&lend->lock);
		return r;
	}
	if (request->lifetime != MAAS_LEND_LIFETIME_DELETE)
		r = tie(lend, request, ret_refs);
	if (!r && key)
		r = maas_lend_remember(lend, name_of(from->caller), key, ret_refs, request->count,
				       ret_number);
	if (r)
		undo(lend, ret_refs, request->count);
	return r;
}

/* A new allocation follows from its request; so does the answer that is given once more. */
static void describe_new(struct maas_lend *lend, const struct canonical *request,
			 struct maas_slab_ref ref, struct maas_lend_allocation *ret)
{
	maas_lend_id(lend, ref, ret->id);
	ret->size_bytes = request->size_bytes;
	ret->actual_size_bytes = slab_bytes_for(lend, request->size_bytes);
	ret->age_s = 0;
	ret->lifetime = (enum maas_lend_lifetime)request->lifetime;
	ret->ttl_s = request->ttl_s;
	ret->lease_s = request->ttl_s;
	memcpy(ret->owner, request->owner, sizeof(ret->owner));
}

/*
 * An allocation whose keys are being made. One with a request id is known by that id already, but
 * not for good: a duplicate of the request waits for the outcome.
 */
struct maas_lend_keyed {
	struct maas_lend *lend;
	struct maas_lend_session_ref session;
	enum maas_lend_access access;
	uint32_t count;
	struct maas_slab_ref *refs; /* the caller's, as the next two are */
	struct maas_lend_allocation *first;
	struct maas_lend_key *keys;
	maas_lend_key_done *done;
	void *arg;
	struct maas_lend_request_key key;
	char principal[MAAS_NAME_BYTES]; /* whose request it is */
	uint32_t number;		 /* of the request */
	bool replayed;			 /* the allocation is that of an earlier request */
	bool listed;			 /* in lend->keyed */
	LIST_ENTRY(maas_lend_keyed) link;
	struct maas_lend_keyed_list duplicates;
};

static struct maas_lend_keyed_list *keyed_of(struct maas_lend *lend,
					     const struct maas_lend_request_key *key)
{
	uint32_t hash;

	memcpy(&hash, key->id, sizeof(hash));
	return &lend->keyed[hash % MAAS_LEND_KEYED_BUCKETS];
}

/* Lock held. */
static struct maas_lend_keyed *find_keyed(struct maas_lend *lend,
					  const struct maas_lend_request_key *key)
{
	struct maas_lend_keyed *keyed;

	LIST_FOREACH (keyed, keyed_of(lend, key), link) {
		lend->steps++;
		if (!memcmp(keyed->key.id, key->id, sizeof(key->id)))
			break;
	}
	return keyed;
}

/*
 * Lock held. Looks for the answer that was given before. -EINPROGRESS: that is not certain yet, and
 * `keyed` is the caller's no longer. Errors: -ENOENT, -ENOTUNIQ, -ENODATA.
 */
static int find_answer(struct maas_lend *lend, const char *principal,
		       const struct canonical *request, const struct maas_lend_request_key *key,
		       struct maas_slab_ref *ret_refs, struct maas_lend_keyed *keyed)
{
	const struct maas_lend_requests *requests = maas_lend_requests_of(lend, principal);
	struct maas_lend_keyed *other = find_keyed(lend, key);
	int r;

	if (!other) {
		r = requests ? maas_lend_request_find(requests, key, request->count, ret_refs)
			     : -ENOENT;
		if (!r && keyed)
			keyed->replayed = true;
		return r;
	}
	/* A request without keys is another request. */
	if (!keyed || other->key.fields != key->fields)
		return -ENOTUNIQ;
	keyed->replayed = true;
	memcpy(ret_refs, other->refs, request->count * sizeof(*ret_refs));
	describe_new(lend, request, ret_refs[0], keyed->first);
	LIST_INSERT_HEAD(&other->duplicates, keyed, link);
	return -EINPROGRESS;
}

/* Lock not held. From here on it has duplicates. */
static void list_keyed(struct maas_lend *lend, struct maas_lend_keyed *keyed)
{
	keyed->listed = true;
	pthread_mutex_lock(&lend->lock);
	LIST_INSERT_HEAD(keyed_of(lend, &keyed->key), keyed, link);
	pthread_mutex_unlock(&lend->lock);
}

/*
 * With a request id: a duplicate of a request under way waits, and then finds its answer.
 * `keyed` is NULL without keys; -EINPROGRESS as find_answer().
 */
static int allocate_once(struct maas_lend *lend, const struct canonical *request,
			 const struct maas_lend_alloc_request *from, struct maas_slab_ref *ret_refs,
			 struct maas_lend_keyed *keyed)
{
	const char *principal = name_of(from->caller);
	struct maas_lend_request_key key;
	pthread_mutex_t *lock;
	uint32_t number = 0;
	int r;

	if (!from->request_id)
		return allocate(lend, from, request, NULL, ret_refs, &number);
	maas_lend_request_key(lend->requests.key, principal, from->request_id, request,
			      sizeof(*request), &key);
	lock = &lend->request_locks[(key.id[14] << 8 | key.id[15]) % MAAS_LEND_REQUEST_LOCKS];
	/* Whoever holds this lock may be allocating gigabytes. */
	if (from->nowait ? pthread_mutex_trylock(lock) : pthread_mutex_lock(lock))
		return -EAGAIN;
	pthread_mutex_lock(&lend->lock);
	r = find_answer(lend, principal, request, &key, ret_refs, keyed);
	pthread_mutex_unlock(&lend->lock);
	if (r == -ENOENT) {
		r = allocate(lend, from, request, &key, ret_refs, &number);
		if (!r && keyed) {
			keyed->key = key;
			strncpy(keyed->principal, principal, MAAS_NAME_BYTES - 1);
			keyed->number = number;
			list_keyed(lend, keyed);
		}
	}
	pthread_mutex_unlock(lock);
	return r;
}

int maas_lend_allocate(struct maas_lend *lend, const struct maas_lend_alloc_request *request,
		       struct maas_slab_ref *ret_refs, struct maas_lend_allocation *ret_first)
{
	struct canonical canonical;
	int r;

	r = canonicalize(lend, request, MAAS_LEND_ACCESS_NONE, &canonical);
	if (!r)
		r = allocate_once(lend, &canonical, request, ret_refs, NULL);
	if (!r)
		describe_new(lend, &canonical, ret_refs[0], ret_first);
	return r;
}

/* ---- with keys */

static void start_keyed(struct maas_lend_keyed *keyed);

/* Without keys an allocation is as if it had never been, and its request id is new again. */
static void finish_keyed(struct maas_lend_keyed *keyed, int status)
{
	struct maas_lend *lend = keyed->lend;
	struct maas_lend_keyed *duplicate;
	struct maas_lend_requests *requests;

	if (keyed->listed) {
		pthread_mutex_lock(&lend->lock);
		LIST_REMOVE(keyed, link);
		requests = maas_lend_requests_of(lend, keyed->principal);
		if (status && requests)
			maas_lend_request_void(requests, &keyed->key, keyed->number);
		pthread_mutex_unlock(&lend->lock);
	}
	if (status && !keyed->replayed)
		undo(lend, keyed->refs, keyed->count);
	keyed->done(keyed->arg, status);
	/* No duplicate can be added any more. */
	while ((duplicate = LIST_FIRST(&keyed->duplicates))) {
		LIST_REMOVE(duplicate, link);
		if (status)
			finish_keyed(duplicate, status);
		else
			start_keyed(duplicate);
	}
	free(keyed);
}

static void granted(void *arg, int status)
{
	finish_keyed(arg, status);
}

static void start_keyed(struct maas_lend_keyed *keyed)
{
	struct maas_lend *lend = keyed->lend;
	int r = lend->keys->grant(lend->keys_ctx, keyed->session, keyed->refs, keyed->count,
				  keyed->access, keyed->keys, granted, keyed);

	if (r)
		finish_keyed(keyed, r);
}

static int check_connected(struct maas_lend *lend, const struct maas_lend_caller *caller,
			   const struct canonical *request, struct maas_lend_session_ref session)
{
	bool found;

	pthread_mutex_lock(&lend->lock);
	found = find_session(lend, caller, request) != NULL;
	pthread_mutex_unlock(&lend->lock);
	if (!found)
		return -ESRCH;
	return lend->keys->connected(lend->keys_ctx, session) ? 0 : -ENOTCONN;
}

int maas_lend_allocate_granted(struct maas_lend *lend,
			       const struct maas_lend_alloc_request *request,
			       enum maas_lend_access access, struct maas_slab_ref *ret_refs,
			       struct maas_lend_allocation *ret_first,
			       struct maas_lend_key *ret_keys, maas_lend_key_done *done, void *arg)
{
	struct maas_lend_session_ref session;
	struct maas_lend_keyed *keyed;
	struct canonical canonical;
	int r;

	if (!lend->keys)
		return -EOPNOTSUPP;
	if (!request->session || access == MAAS_LEND_ACCESS_NONE)
		return -EINVAL;
	r = canonicalize(lend, request, access, &canonical);
	if (r)
		return r;
	session = (struct maas_lend_session_ref){canonical.session, canonical.session_generation};
	r = check_connected(lend, request->caller, &canonical, session);
	if (r)
		return r;
	keyed = calloc(1, sizeof(*keyed));
	if (!keyed)
		return -ENOMEM;
	*keyed = (struct maas_lend_keyed){
		.lend = lend,
		.session = session,
		.access = access,
		.count = canonical.count,
		.refs = ret_refs,
		.first = ret_first,
		.keys = ret_keys,
		.done = done,
		.arg = arg,
	};
	r = allocate_once(lend, &canonical, request, ret_refs, keyed);
	if (r && r != -EINPROGRESS) /* else the one under way has it */
		free(keyed);
	if (r)
		return r; /* NOLINT(clang-analyzer-unix.Malloc) */
	describe_new(lend, &canonical, ret_refs[0], ret_first);
	start_keyed(keyed);
	return -EINPROGRESS;
}
