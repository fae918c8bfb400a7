/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See async_keys.h. One lock for the keys and the operations under way; the thread of answers calls
 * back without it.
 */
#include "tests/fake/async_keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

struct key {
	struct maas_slab_ref ref;
	struct maas_lend_session_ref session;
	enum maas_lend_access access;
	LIST_ENTRY(key) link;
};

LIST_HEAD(key_list, key);

struct op {
	int (*run)(struct async_keys *keys, const struct op *op); /* lock held */
	struct maas_slab_ref ref;
	struct maas_lend_session_ref session;
	const struct maas_slab_ref *refs; /* of a grant, as the three behind it */
	uint32_t count;
	enum maas_lend_access access;
	struct maas_lend_key *ret_grants;
	maas_lend_key_done *done;
	void *arg;
	STAILQ_ENTRY(op) link;
};

struct async_keys {
	pthread_t thread;
	struct maas_slab *slab;
	uint32_t num_slots;
	struct key_list *slots;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock, as the lists are */
	STAILQ_HEAD(, op) ops;
	uint64_t living;
	uint64_t made;
	uint64_t seed;
	bool busy;
	bool settled;
	bool stop;
};

static unsigned int roll(struct async_keys *keys)
{
	keys->seed = keys->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned int)(keys->seed >> 33) % 16;
}

static bool same_session(struct maas_lend_session_ref a, struct maas_lend_session_ref b)
{
	return a.index == b.index && a.generation == b.generation;
}

/* ---- what is done in the end; lock held */

static void drop(struct async_keys *keys, struct key *key)
{
	LIST_REMOVE(key, link);
	free(key);
	keys->living--;
}

/* Every key of the slab, or of `session` alone. */
static int kill_keys(struct async_keys *keys, uint32_t slot,
		     const struct maas_lend_session_ref *session)
{
	struct key *key = LIST_FIRST(&keys->slots[slot]);
	int r = -ENOENT;

	while (key) {
		struct key *next = LIST_NEXT(key, link);

		if (!session || same_session(key->session, *session)) {
			drop(keys, key);
			r = 0;
		}
		key = next;
	}
	return r;
}

static int run_revoke(struct async_keys *keys, const struct op *op)
{
	(void)kill_keys(keys, op->ref.slot, NULL);
	return 0;
}

static int run_ungrant(struct async_keys *keys, const struct op *op)
{
	return kill_keys(keys, op->ref.slot, &op->session);
}

static int run_end_session(struct async_keys *keys, const struct op *op)
{
	for (uint32_t slot = 0; slot < keys->num_slots; slot++)
		(void)kill_keys(keys, slot, &op->session);
	return 0;
}

static struct key *find_key(struct async_keys *keys, const struct op *op, struct maas_slab_ref ref)
{
	struct key *key;

	LIST_FOREACH (key, &keys->slots[ref.slot], link) {
		if (key->ref.generation != ref.generation) {
			struct maas_slab_info info;

			/* The grant may be late; a key may not. */
			if (maas_slab_get(keys->slab, ref, &info))
				continue;
			fprintf(stderr, "a key has outlived its slab\n");
			abort();
		}
		if (same_session(key->session, op->session))
			return key;
	}
	return NULL;
}

/* The key first, then the look at the slab: so a free that comes between finds the key. */
static int make_key(struct async_keys *keys, const struct op *op, uint32_t i)
{
	struct key *key = find_key(keys, op, op->refs[i]);
	struct maas_slab_info info;

	if (key && key->access != op->access)
		return -EEXIST;
	if (!key) {
		key = calloc(1, sizeof(*key));
		if (!key)
			return -ENOMEM;
		key->ref = op->refs[i];
		key->session = op->session;
		key->access = op->access;
		LIST_INSERT_HEAD(&keys->slots[key->ref.slot], key, link);
		keys->living++;
		keys->made++;
	}
	if (maas_slab_get(keys->slab, key->ref, &info)) {
		drop(keys, key);
		return -ENOENT;
	}
	op->ret_grants[i] = (struct maas_lend_key){
		.addr = info.offset,
		.len_bytes = info.size_bytes,
		.connection = op->session.index + 1,
	};
	return 0;
}

/* Those that were made before one fails stay: the slabs' free finds them. */
static int run_grant(struct async_keys *keys, const struct op *op)
{
	unsigned int dice = roll(keys);
	int r = dice == 0 ? -EDQUOT : dice == 1 ? -ENOTCONN : 0;

	for (uint32_t i = 0; i < op->count && !r; i++)
		r = make_key(keys, op, i);
	return r;
}

/* ---- the operations */

static int start(struct async_keys *keys, const struct op *wanted, bool may_be_done)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return -ENOMEM;
	*op = *wanted;
	pthread_mutex_lock(&keys->lock);
	if (keys->settled || (may_be_done && roll(keys) < 6)) {
		int r = op->run(keys, op);

		pthread_mutex_unlock(&keys->lock);
		free(op);
		return r ? r : -EALREADY;
	}
	STAILQ_INSERT_TAIL(&keys->ops, op, link);
	pthread_cond_broadcast(&keys->changed);
	pthread_mutex_unlock(&keys->lock);
	return 0;
}

static int grant(void *ctx, struct maas_lend_session_ref session, const struct maas_slab_ref *refs,
		 uint32_t count, enum maas_lend_access access, struct maas_lend_key *ret_grants,
		 maas_lend_key_done *done, void *arg)
{
	const struct op op = {
		.run = run_grant,
		.session = session,
		.refs = refs,
		.count = count,
		.access = access,
		.ret_grants = ret_grants,
		.done = done,
		.arg = arg,
	};

	return start(ctx, &op, false);
}

static int ungrant(void *ctx, struct maas_lend_session_ref session, struct maas_slab_ref ref,
		   maas_lend_key_done *done, void *arg)
{
	const struct op op = {
		.run = run_ungrant, .session = session, .ref = ref, .done = done, .arg = arg};

	return start(ctx, &op, false);
}

static int revoke(void *ctx, struct maas_slab_ref ref, maas_lend_key_done *done, void *arg)
{
	const struct op op = {.run = run_revoke, .ref = ref, .done = done, .arg = arg};

	return start(ctx, &op, true);
}

static int end_session(void *ctx, struct maas_lend_session_ref session, maas_lend_key_done *done,
		       void *arg)
{
	const struct op op = {.run = run_end_session, .session = session, .done = done, .arg = arg};

	return start(ctx, &op, true);
}

static void probe(void *ctx, struct maas_lend_session_ref session)
{
	(void)ctx;
	(void)session;
}

static bool connected(void *ctx, struct maas_lend_session_ref session)
{
	struct async_keys *keys = ctx;
	bool yes;

	(void)session;
	pthread_mutex_lock(&keys->lock);
	yes = roll(keys) != 0;
	pthread_mutex_unlock(&keys->lock);
	return yes;
}

const struct maas_lend_key_ops async_key_ops = {
	.grant = grant,
	.ungrant = ungrant,
	.revoke = revoke,
	.end_session = end_session,
	.probe = probe,
	.connected = connected,
};

/* A revocation or an end that fails leaves the keys alive. */
static int carry_out(struct async_keys *keys, const struct op *op)
{
	if (!keys->settled && op->run != run_grant && roll(keys) == 0)
		return -ETIMEDOUT;
	return op->run(keys, op);
}

static void *answer(void *arg)
{
	struct async_keys *keys = arg;

	pthread_mutex_lock(&keys->lock);
	while (!keys->stop) {
		struct op *op = STAILQ_FIRST(&keys->ops);
		int status;

		if (!op) {
			pthread_cond_wait(&keys->changed, &keys->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&keys->ops, link);
		keys->busy = true;
		status = carry_out(keys, op);
		pthread_mutex_unlock(&keys->lock);
		op->done(op->arg, status);
		free(op);
		pthread_mutex_lock(&keys->lock);
		keys->busy = false;
		pthread_cond_broadcast(&keys->changed);
	}
	pthread_mutex_unlock(&keys->lock);
	return NULL;
}

/* ---- its life */

struct async_keys *async_keys_new(uint64_t seed)
{
	struct async_keys *keys = calloc(1, sizeof(*keys));

	if (!keys)
		return NULL;
	keys->seed = seed;
	STAILQ_INIT(&keys->ops);
	pthread_mutex_init(&keys->lock, NULL);
	pthread_cond_init(&keys->changed, NULL);
	if (pthread_create(&keys->thread, NULL, answer, keys)) {
		free(keys);
		return NULL;
	}
	return keys;
}

void async_keys_use(struct async_keys *keys, struct maas_slab *slab)
{
	struct maas_slab_area area;

	maas_slab_area(slab, &area);
	keys->slab = slab;
	keys->num_slots = area.num_slots;
	keys->slots = calloc(area.num_slots, sizeof(*keys->slots));
	if (!keys->slots)
		abort();
}

void async_keys_settle(struct async_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	keys->settled = true;
	while (keys->busy || !STAILQ_EMPTY(&keys->ops))
		pthread_cond_wait(&keys->changed, &keys->lock);
	pthread_mutex_unlock(&keys->lock);
}

uint64_t async_keys_living(struct async_keys *keys, uint64_t *ret_made)
{
	uint64_t living;

	pthread_mutex_lock(&keys->lock);
	living = keys->living;
	*ret_made = keys->made;
	pthread_mutex_unlock(&keys->lock);
	return living;
}

void async_keys_free(struct async_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	keys->stop = true;
	pthread_cond_broadcast(&keys->changed);
	pthread_mutex_unlock(&keys->lock);
	pthread_join(keys->thread, NULL);
	for (uint32_t slot = 0; slot < keys->num_slots; slot++)
		(void)kill_keys(keys, slot, NULL);
	pthread_cond_destroy(&keys->changed);
	pthread_mutex_destroy(&keys->lock);
	free(keys->slots);
	free(keys);
}
