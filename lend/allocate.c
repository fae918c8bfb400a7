/* SPDX-License-Identifier: Apache-2.0 */
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
	char owner[MAAS_LEND_NAME_BYTES]; /* filled up with NULs; all of them: none */
};
static_assert(sizeof(struct canonical) == 40 + MAAS_LEND_NAME_BYTES, "it is hashed as bytes");

static int check_lifetime(const struct maas_alloc_request *request)
{
	switch (request->lifetime) {
	case MAAS_LIFETIME_DELETE:
		return request->ttl_s ? -EINVAL : 0;
	case MAAS_LIFETIME_TTL:
		return request->ttl_s && request->ttl_s <= MAAS_LEND_MAX_TTL_S ? 0 : -EINVAL;
	case MAAS_LIFETIME_SESSION:
		return request->session && !request->ttl_s ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static int canonicalize(struct maas_lend *lend, const struct maas_alloc_request *request,
			enum maas_access access, struct canonical *ret)
{
	int rc = check_lifetime(request);

	if (rc)
		return rc;
	if (!request->count || request->count > MAAS_SLAB_MAX_BATCH || !request->size_bytes)
		return -EINVAL;
	if (request->owner && !maas_lend_name_valid(request->owner))
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
	if (request->session && maas_slab_id_decode(&lend->sessions.id_key, request->session,
						    &ret->session, &ret->session_generation))
		return -ESRCH;
	if (request->owner)
		memcpy(ret->owner, request->owner, strlen(request->owner));
	return 0;
}

/* What has to be known before there is a slab. */
static int prepare(struct maas_lend *lend, const struct canonical *request, uint32_t *ret_owner)
{
	int rc = 0;

	*ret_owner = 0;
	if (!request->has_session && !*request->owner)
		return 0;
	pthread_mutex_lock(&lend->lock);
	if (request->has_session &&
	    !maas_session_find(lend, request->session, request->session_generation))
		rc = -ESRCH;
	else if (*request->owner)
		rc = maas_owner_get(&lend->owners, request->owner, request->count, ret_owner);
	pthread_mutex_unlock(&lend->lock);
	return rc;
}

static void put_owner(struct maas_lend *lend, uint32_t owner, uint32_t count)
{
	if (!owner)
		return;
	pthread_mutex_lock(&lend->lock);
	maas_owner_put(&lend->owners, owner, count);
	pthread_mutex_unlock(&lend->lock);
}

/* Lock held. Puts the slab where it ends by itself. */
static int tie_one(struct maas_lend *lend, struct maas_slab_ref ref, struct maas_session *session,
		   uint32_t value)
{
	uint32_t list = session ? maas_lease_session(value) : maas_lease_wheel(value);
	struct maas_slab_info info;
	int rc;

	/* Who found the id in a list may have freed it already. */
	if (maas_slab_get(lend->slab, ref, &info))
		return 0;
	rc = maas_lease_add(&lend->leases, ref, list, value);
	if (!rc && session)
		session->allocations++;
	return rc;
}

/* Lock held. */
static int tie_some(struct maas_lend *lend, const struct canonical *request,
		    const struct maas_slab_ref *refs, uint32_t count)
{
	struct maas_session *session = NULL;
	uint32_t value = request->session;
	int rc = 0;

	if (request->lifetime == MAAS_LIFETIME_SESSION) {
		/* It may have ended since prepare(). */
		session = maas_session_find(lend, request->session, request->session_generation);
		if (!session)
			return -ESRCH;
	} else {
		value = maas_lend_deadline_s(lend, request->ttl_s);
	}
	for (uint32_t i = 0; i < count && !rc; i++)
		rc = tie_one(lend, refs[i], session, value);
	return rc;
}

static int tie(struct maas_lend *lend, const struct canonical *request,
	       const struct maas_slab_ref *refs)
{
	int rc = 0;

	for (uint32_t i = 0; i < request->count && !rc; i += MAAS_LEND_STEP) {
		uint32_t count = request->count - i;

		if (count > MAAS_LEND_STEP)
			count = MAAS_LEND_STEP;
		pthread_mutex_lock(&lend->lock);
		rc = tie_some(lend, request, refs + i, count);
		pthread_mutex_unlock(&lend->lock);
	}
	return rc;
}

static int remember(struct maas_lend *lend, const struct maas_request_key *key,
		    const struct maas_slab_ref *refs, uint32_t count, uint32_t *ret_number)
{
	struct maas_request_batch *batch = NULL;
	int rc = count > 1 ? maas_request_batch_new(refs, count, &batch) : 0;

	if (rc)
		return rc;
	do {
		pthread_mutex_lock(&lend->lock);
		rc = maas_request_add(&lend->requests, key, refs[0], batch,
				      (uint32_t)(lend->lease_ms / 1000), ret_number);
		pthread_mutex_unlock(&lend->lock);
	} while (rc == -EAGAIN);
	if (rc)
		free(batch);
	return rc;
}

/* Nobody was told these ids, but a list may have shown them: so it is a free like any other. */
static void undo(struct maas_lend *lend, const struct maas_slab_ref *refs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct maas_pending *pending;
		int rc;

		pthread_mutex_lock(&lend->lock);
		rc = maas_free_locked(lend, refs[i], NULL, NULL, &pending);
		pthread_mutex_unlock(&lend->lock);
		if (pending)
			(void)maas_pending_start(lend, pending);
		else if (rc == -ENOMEM)
			log_err("out of memory: an allocation that failed is kept slot=%u",
				refs[i].slot);
	}
}

/* With a `key` it is remembered, under `ret_number`. */
static int allocate(struct maas_lend *lend, const struct canonical *request,
		    const struct maas_request_key *key, struct maas_slab_ref *ret_refs,
		    uint32_t *ret_number)
{
	struct maas_slab_label label = {
		.created_s = maas_lend_now_s(lend),
		.ttl_s = request->ttl_s,
		.lifetime = (uint8_t)request->lifetime,
	};
	int rc;

	rc = prepare(lend, request, &label.owner);
	if (rc)
		return rc;
	/* Without the lock: pages may have to be allocated, bytes to be zeroed. */
	if (request->count == 1)
		rc = maas_slab_alloc(lend->slab, request->size_bytes, &label, ret_refs);
	else
		rc = maas_slab_alloc_many(lend->slab, request->size_bytes, request->count, &label,
					  ret_refs);
	if (rc) {
		put_owner(lend, label.owner, request->count);
		return rc;
	}
	if (request->lifetime != MAAS_LIFETIME_DELETE)
		rc = tie(lend, request, ret_refs);
	if (!rc && key)
		rc = remember(lend, key, ret_refs, request->count, ret_number);
	if (rc)
		undo(lend, ret_refs, request->count);
	return rc;
}

static uint64_t slab_bytes_for(const struct maas_lend *lend, uint64_t size_bytes)
{
	unsigned int i = 0;

	while (i + 1 < lend->num_classes && lend->class_bytes[i] < size_bytes)
		i++;
	return lend->class_bytes[i];
}

/* A new allocation follows from its request; so does the answer that is given once more. */
static void describe_new(struct maas_lend *lend, const struct canonical *request,
			 struct maas_slab_ref ref, struct maas_allocation *ret)
{
	maas_lend_id(lend, ref, ret->id);
	ret->size_bytes = request->size_bytes;
	ret->actual_size_bytes = slab_bytes_for(lend, request->size_bytes);
	ret->age_s = 0;
	ret->lifetime = (enum maas_lifetime)request->lifetime;
	ret->ttl_s = request->ttl_s;
	ret->lease_s = request->ttl_s;
	memcpy(ret->owner, request->owner, sizeof(ret->owner));
}

/*
 * An allocation whose keys are being made. One with a request id is known by that id already, but
 * not for good: who asks again with it, a twin, waits for how it ends.
 */
struct maas_granting {
	struct maas_lend *lend;
	struct maas_session_ref session;
	enum maas_access access;
	uint32_t count;
	struct maas_slab_ref *refs; /* the caller's, as the next two are */
	struct maas_allocation *first;
	struct maas_grant *grants;
	maas_key_done *done;
	void *arg;
	struct maas_request_key key;
	uint32_t number; /* of the request */
	bool replayed;	 /* the allocation is that of an earlier request */
	bool listed;	 /* in lend->grantings */
	LIST_ENTRY(maas_granting) link;
	struct maas_granting_list twins;
};

static struct maas_granting_list *grantings_of(struct maas_lend *lend,
					       const struct maas_request_key *key)
{
	uint32_t hash;

	memcpy(&hash, key->id, sizeof(hash));
	return &lend->grantings[hash % MAAS_LEND_GRANTINGS];
}

/* Lock held. */
static struct maas_granting *find_granting(struct maas_lend *lend,
					   const struct maas_request_key *key)
{
	struct maas_granting *granting;

	LIST_FOREACH (granting, grantings_of(lend, key), link) {
		lend->steps++;
		if (!memcmp(granting->key.id, key->id, sizeof(key->id)))
			break;
	}
	return granting;
}

/*
 * Lock held. Looks for the answer that was given before. -EINPROGRESS: that is not certain yet, and
 * `granting` is the caller's no longer. Errors: -ENOENT, -ENOTUNIQ, -ENODATA.
 */
static int find_answer(struct maas_lend *lend, const struct canonical *request,
		       const struct maas_request_key *key, struct maas_slab_ref *ret_refs,
		       struct maas_granting *granting)
{
	struct maas_granting *other = find_granting(lend, key);
	int rc;

	if (!other) {
		rc = maas_request_find(&lend->requests, key, request->count, ret_refs);
		if (!rc && granting)
			granting->replayed = true;
		return rc;
	}
	/* One without keys is another request. */
	if (!granting || other->key.fields != key->fields)
		return -ENOTUNIQ;
	granting->replayed = true;
	memcpy(ret_refs, other->refs, request->count * sizeof(*ret_refs));
	describe_new(lend, request, ret_refs[0], granting->first);
	LIST_INSERT_HEAD(&other->twins, granting, link);
	return -EINPROGRESS;
}

/* Lock not held. From here on it has twins. */
static void list_granting(struct maas_lend *lend, struct maas_granting *granting)
{
	granting->listed = true;
	pthread_mutex_lock(&lend->lock);
	LIST_INSERT_HEAD(grantings_of(lend, &granting->key), granting, link);
	pthread_mutex_unlock(&lend->lock);
}

/*
 * With a request id: the twin of a request that is under way waits, and then finds its answer.
 * `granting` is NULL without keys; -EINPROGRESS as find_answer().
 */
static int allocate_once(struct maas_lend *lend, const struct canonical *request,
			 const struct maas_alloc_request *from, struct maas_slab_ref *ret_refs,
			 struct maas_granting *granting)
{
	const char *request_id = from->request_id;
	struct maas_request_key key;
	pthread_mutex_t *lock;
	uint32_t number = 0;
	int rc;

	if (!request_id)
		return allocate(lend, request, NULL, ret_refs, &number);
	maas_request_key(&lend->requests, request_id, request, sizeof(*request), &key);
	lock = &lend->request_locks[(key.id[14] << 8 | key.id[15]) % MAAS_LEND_REQUEST_LOCKS];
	/* Who holds it may be allocating gigabytes. */
	if (from->nowait ? pthread_mutex_trylock(lock) : pthread_mutex_lock(lock))
		return -EAGAIN;
	pthread_mutex_lock(&lend->lock);
	rc = find_answer(lend, request, &key, ret_refs, granting);
	pthread_mutex_unlock(&lend->lock);
	if (rc == -ENOENT) {
		rc = allocate(lend, request, &key, ret_refs, &number);
		if (!rc && granting) {
			granting->key = key;
			granting->number = number;
			list_granting(lend, granting);
		}
	}
	pthread_mutex_unlock(lock);
	return rc;
}

int maas_lend_allocate(struct maas_lend *lend, const struct maas_alloc_request *request,
		       struct maas_slab_ref *ret_refs, struct maas_allocation *ret_first)
{
	struct canonical canonical;
	int rc;

	rc = canonicalize(lend, request, MAAS_ACCESS_NONE, &canonical);
	if (!rc)
		rc = allocate_once(lend, &canonical, request, ret_refs, NULL);
	if (!rc)
		describe_new(lend, &canonical, ret_refs[0], ret_first);
	return rc;
}

/* ---- with keys ------------------------------------------------------------------------------- */

static void start_granting(struct maas_granting *granting);

/* Without keys an allocation is as if it had never been, and its request id is new again. */
static void finish_granting(struct maas_granting *granting, int status)
{
	struct maas_lend *lend = granting->lend;
	struct maas_granting *twin;

	if (granting->listed) {
		pthread_mutex_lock(&lend->lock);
		LIST_REMOVE(granting, link);
		if (status)
			maas_request_void(&lend->requests, &granting->key, granting->number);
		pthread_mutex_unlock(&lend->lock);
	}
	if (status && !granting->replayed)
		undo(lend, granting->refs, granting->count);
	granting->done(granting->arg, status);
	/* Nobody can add to them any more. */
	while ((twin = LIST_FIRST(&granting->twins))) {
		LIST_REMOVE(twin, link);
		if (status)
			finish_granting(twin, status);
		else
			start_granting(twin);
	}
	free(granting);
}

static void granted(void *arg, int status)
{
	finish_granting(arg, status);
}

static void start_granting(struct maas_granting *granting)
{
	struct maas_lend *lend = granting->lend;
	int rc = lend->keys->grant(lend->keys_ctx, granting->session, granting->refs,
				   granting->count, granting->access, granting->grants, granted,
				   granting);

	if (rc)
		finish_granting(granting, rc);
}

static int check_connected(struct maas_lend *lend, struct maas_session_ref session)
{
	bool found;

	pthread_mutex_lock(&lend->lock);
	found = maas_session_find(lend, session.index, session.generation) != NULL;
	pthread_mutex_unlock(&lend->lock);
	if (!found)
		return -ESRCH;
	return lend->keys->connected(lend->keys_ctx, session) ? 0 : -ENOTCONN;
}

int maas_lend_allocate_granted(struct maas_lend *lend, const struct maas_alloc_request *request,
			       enum maas_access access, struct maas_slab_ref *ret_refs,
			       struct maas_allocation *ret_first, struct maas_grant *ret_grants,
			       maas_key_done *done, void *arg)
{
	struct maas_session_ref session;
	struct maas_granting *granting;
	struct canonical canonical;
	int rc;

	if (!lend->keys)
		return -EOPNOTSUPP;
	if (!request->session || access == MAAS_ACCESS_NONE)
		return -EINVAL;
	rc = canonicalize(lend, request, access, &canonical);
	if (rc)
		return rc;
	session = (struct maas_session_ref){canonical.session, canonical.session_generation};
	rc = check_connected(lend, session);
	if (rc)
		return rc;
	granting = calloc(1, sizeof(*granting));
	if (!granting)
		return -ENOMEM;
	*granting = (struct maas_granting){
		.lend = lend,
		.session = session,
		.access = access,
		.count = canonical.count,
		.refs = ret_refs,
		.first = ret_first,
		.grants = ret_grants,
		.done = done,
		.arg = arg,
	};
	rc = allocate_once(lend, &canonical, request, ret_refs, granting);
	if (rc == -EINPROGRESS)
		return rc; /* its twin has it. NOLINT(clang-analyzer-unix.Malloc) */
	if (rc) {
		free(granting);
		return rc;
	}
	describe_new(lend, &canonical, ret_refs[0], ret_first);
	start_granting(granting);
	return -EINPROGRESS;
}
