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
	char owner[MAAS_LEND_NAME_BYTES]; /* filled up with NULs; all of them: none */
};
static_assert(sizeof(struct canonical) == 32 + MAAS_LEND_NAME_BYTES, "it is hashed as bytes");

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
			struct canonical *ret)
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
	ret->has_session = request->session != NULL;
	if (request->session && maas_id_decode(&lend->sessions.id_key, request->session,
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

/* Lock held. Puts the slabs where they end by themselves. */
static int tie(struct maas_lend *lend, const struct canonical *request,
	       const struct maas_slab_ref *refs)
{
	struct maas_session *session = NULL;
	struct maas_slab_info info;
	uint32_t list;
	uint32_t value;

	if (request->lifetime == MAAS_LIFETIME_SESSION) {
		/* It may have ended since prepare(). */
		session = maas_session_find(lend, request->session, request->session_generation);
		if (!session)
			return -ESRCH;
		value = request->session;
		list = maas_lease_session(value);
	} else {
		value = maas_lend_deadline_s(lend, request->ttl_s);
		list = maas_lease_wheel(value);
	}
	for (uint32_t i = 0; i < request->count; i++) {
		int rc;

		/* Who found the id in a list may have freed it already. */
		if (maas_slab_get(lend->slab, refs[i], &info))
			continue;
		rc = maas_lease_add(&lend->leases, refs[i], list, value);
		if (rc)
			return rc;
		if (session)
			session->allocations++;
	}
	return 0;
}

static int conclude(struct maas_lend *lend, const struct canonical *request,
		    const struct maas_request_key *key, const struct maas_slab_ref *refs)
{
	int rc = 0;

	if (request->lifetime == MAAS_LIFETIME_DELETE && !key)
		return 0;
	pthread_mutex_lock(&lend->lock);
	if (request->lifetime != MAAS_LIFETIME_DELETE)
		rc = tie(lend, request, refs);
	if (!rc && key)
		rc = maas_request_add(&lend->requests, key, refs, request->count,
				      (uint32_t)(lend->lease_ms / 1000));
	pthread_mutex_unlock(&lend->lock);
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

static int allocate(struct maas_lend *lend, const struct canonical *request,
		    const struct maas_request_key *key, struct maas_slab_ref *ret_refs)
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
	rc = conclude(lend, request, key, ret_refs);
	if (rc)
		undo(lend, ret_refs, request->count);
	return rc;
}

/* What became of a request: the key of its id, and whether it made anything. */
struct outcome {
	struct maas_request_key key;
	bool has_key;
	bool replayed; /* the answer was there */
};

/* With a request id: the twin of a request that is under way waits, and then finds its answer. */
static int allocate_once(struct maas_lend *lend, const struct canonical *request,
			 const char *request_id, struct maas_slab_ref *ret_refs,
			 struct outcome *ret_outcome)
{
	struct maas_request_key *key = &ret_outcome->key;
	pthread_mutex_t *lock;
	int rc;

	*ret_outcome = (struct outcome){.has_key = request_id != NULL};
	if (!request_id)
		return allocate(lend, request, NULL, ret_refs);
	maas_request_key(&lend->requests, request_id, request, sizeof(*request), key);
	lock = &lend->request_locks[key->id[15] % MAAS_LEND_REQUEST_LOCKS];
	pthread_mutex_lock(lock);
	pthread_mutex_lock(&lend->lock);
	rc = maas_request_find(&lend->requests, key, request->count, ret_refs);
	pthread_mutex_unlock(&lend->lock);
	ret_outcome->replayed = !rc;
	if (rc == -ENOENT)
		rc = allocate(lend, request, key, ret_refs);
	pthread_mutex_unlock(lock);
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

int maas_lend_allocate(struct maas_lend *lend, const struct maas_alloc_request *request,
		       struct maas_slab_ref *ret_refs, struct maas_allocation *ret_first)
{
	struct canonical canonical;
	struct outcome outcome;
	int rc;

	rc = canonicalize(lend, request, &canonical);
	if (!rc)
		rc = allocate_once(lend, &canonical, request->request_id, ret_refs, &outcome);
	if (!rc)
		describe_new(lend, &canonical, ret_refs[0], ret_first);
	return rc;
}

/* ---- with keys ------------------------------------------------------------------------------- */

struct granting {
	struct maas_lend *lend;
	const struct maas_slab_ref *refs; /* the caller's, until `done` */
	uint32_t count;
	struct outcome outcome;
	maas_key_done *done;
	void *arg;
};

/* Without keys the allocation is as if it had never been, and its request id is new again. */
static void take_back(const struct granting *granting)
{
	struct maas_lend *lend = granting->lend;

	if (granting->outcome.replayed)
		return;
	if (granting->outcome.has_key) {
		pthread_mutex_lock(&lend->lock);
		maas_request_void(&lend->requests, &granting->outcome.key);
		pthread_mutex_unlock(&lend->lock);
	}
	undo(lend, granting->refs, granting->count);
}

static void granted(void *arg, int status)
{
	struct granting *granting = arg;

	if (status)
		take_back(granting);
	granting->done(granting->arg, status);
	free(granting);
}

static int check_connected(struct maas_lend *lend, const struct canonical *request,
			   struct maas_session_ref *ret_session)
{
	bool found;

	*ret_session = (struct maas_session_ref){request->session, request->session_generation};
	pthread_mutex_lock(&lend->lock);
	found = maas_session_find(lend, ret_session->index, ret_session->generation) != NULL;
	pthread_mutex_unlock(&lend->lock);
	if (!found)
		return -ESRCH;
	return lend->keys->connected(lend->keys_ctx, *ret_session) ? 0 : -ENOTCONN;
}

int maas_lend_allocate_granted(struct maas_lend *lend, const struct maas_alloc_request *request,
			       enum maas_access access, struct maas_slab_ref *ret_refs,
			       struct maas_allocation *ret_first, struct maas_grant *ret_grants,
			       maas_key_done *done, void *arg)
{
	struct maas_session_ref session;
	struct canonical canonical;
	struct granting *granting;
	int rc;

	if (!lend->keys)
		return -EOPNOTSUPP;
	if (!request->session || access == MAAS_ACCESS_NONE)
		return -EINVAL;
	rc = canonicalize(lend, request, &canonical);
	if (!rc)
		rc = check_connected(lend, &canonical, &session);
	if (rc)
		return rc;
	granting = malloc(sizeof(*granting));
	if (!granting)
		return -ENOMEM;
	*granting = (struct granting){
		.lend = lend,
		.refs = ret_refs,
		.count = canonical.count,
		.done = done,
		.arg = arg,
	};
	rc = allocate_once(lend, &canonical, request->request_id, ret_refs, &granting->outcome);
	if (rc)
		goto err_free;
	describe_new(lend, &canonical, ret_refs[0], ret_first);
	rc = lend->keys->grant(lend->keys_ctx, session, ret_refs, canonical.count, access,
			       ret_grants, granted, granting);
	if (!rc)
		return -EINPROGRESS;
	take_back(granting);

err_free:
	free(granting);
	return rc;
}
