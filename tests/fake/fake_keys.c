/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_keys.h. One lock; `done` functions run without it. */
#include "tests/fake/fake_keys.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/random.h"

#define NOBODY UINT32_MAX

static void unlock(struct fake_keys *const *keys)
{
	pthread_mutex_unlock(&(*keys)->lock);
}

/* Holds the lock from here to the end of the block. */
#define LOCKED(keys)                                                                               \
	struct fake_keys *const locked __attribute__((cleanup(unlock), unused)) =                  \
		(pthread_mutex_lock(&(keys)->lock), (keys))

static bool same_slab(struct maas_slab_ref a, struct maas_slab_ref b)
{
	return a.slot == b.slot && a.generation == b.generation;
}

static bool same_session(struct maas_lend_session_ref a, struct maas_lend_session_ref b)
{
	return a.index == b.index && a.generation == b.generation;
}

static bool roll(struct fake_keys *keys, unsigned int sixteenths)
{
	return keys->mode == FAKE_KEYS_RANDOM && test_random_below(&keys->random, 16) < sixteenths;
}

/* ---- what operations do in the end; lock held */

static struct fake_key *find(struct fake_keys *keys, struct maas_lend_session_ref session,
			     struct maas_slab_ref ref)
{
	struct maas_slab_info info;

	for (uint32_t i = 0; i < keys->num_keys; i++) {
		struct fake_key *key = &keys->keys[i];

		if (key->ref.slot != ref.slot)
			continue;
		/* The grant may be late; a key may not. */
		if (key->ref.generation != ref.generation &&
		    !maas_slab_get(keys->slab, ref, &info)) {
			fprintf(stderr, "a key has outlived its slab\n");
			abort();
		}
		if (same_slab(key->ref, ref) && same_session(key->session, session))
			return key;
	}
	return NULL;
}

static struct fake_key *add(struct fake_keys *keys, struct maas_lend_session_ref session,
			    struct maas_slab_ref ref, enum maas_lend_access access)
{
	struct fake_key *key = &keys->keys[keys->num_keys];

	assert(keys->num_keys < FAKE_KEYS_MAX);
	keys->num_keys++;
	*key = (struct fake_key){session, ref, access, ++keys->last_rkey};
	return key;
}

static int grant_one(struct fake_keys *keys, const struct fake_key_op *op, uint32_t i)
{
	struct fake_key *key = find(keys, op->session, op->refs[i]);
	struct maas_slab_info info;

	if (maas_slab_get(keys->slab, op->refs[i], &info))
		return -ENOENT;
	if (key && key->access != op->access)
		return -EEXIST;
	if (!key && keys->num_keys >= keys->max_keys)
		return -EDQUOT;
	if (!key)
		key = add(keys, op->session, op->refs[i], op->access);
	op->ret_keys[i] = (struct maas_lend_key){
		.addr = info.offset,
		.len_bytes = info.size_bytes,
		.rkey = key->rkey,
		.connection = FAKE_KEYS_CONNECTION,
	};
	return 0;
}

/* At random those stay that were made before one fails: the slabs' free finds them. */
static int grant_all(struct fake_keys *keys, const struct fake_key_op *op)
{
	uint32_t before = keys->num_keys;
	int r = roll(keys, 1) ? -EDQUOT : keys->unconnected || roll(keys, 1) ? -ENOTCONN : 0;

	for (uint32_t i = 0; i < op->count && !r; i++)
		r = grant_one(keys, op, i);
	if (r && keys->mode != FAKE_KEYS_RANDOM)
		keys->num_keys = before;
	return r;
}

/* The end of a session kills the keys of nobody, too: there the test means that session's. */
static bool is_hit(const struct fake_key *key, const struct fake_key_op *op)
{
	if (op->kind == FAKE_KEY_END_SESSION)
		return same_session(key->session, op->session) || key->session.index == NOBODY;
	return same_slab(key->ref, op->ref) &&
	       (op->kind == FAKE_KEY_REVOKE || same_session(key->session, op->session));
}

static uint32_t kill_keys(struct fake_keys *keys, const struct fake_key_op *op)
{
	uint32_t before = keys->num_keys;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < before; i++)
		if (!is_hit(&keys->keys[i], op))
			keys->keys[kept++] = keys->keys[i];
	keys->num_keys = kept;
	return before - kept;
}

/* An operation that fails kills no key. */
static int carry_out(struct fake_keys *keys, const struct fake_key_op *op)
{
	if (op->kind == FAKE_KEY_GRANT)
		return grant_all(keys, op);
	if (roll(keys, 1))
		return -ETIMEDOUT;
	return !kill_keys(keys, op) && op->kind == FAKE_KEY_UNGRANT ? -ENOENT : 0;
}

/* ---- operations */

static uint32_t count_to(const struct fake_keys *keys, struct maas_slab_ref ref)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < keys->num_keys; i++)
		count += same_slab(keys->keys[i].ref, ref);
	return count;
}

/* Operations with nothing to do, and those that the test refuses. */
static int refuse(const struct fake_keys *keys, const struct fake_key_op *op)
{
	struct maas_slab_info info;

	if (op->kind == FAKE_KEY_REVOKE && !maas_slab_get(keys->slab, op->ref, &info)) {
		fprintf(stderr, "a key is to be killed while new readers can still come\n");
		abort();
	}
	if (op->kind == FAKE_KEY_END_SESSION
		    ? keys->unconnected
		    : op->kind != FAKE_KEY_GRANT && !count_to(keys, op->ref))
		return -EALREADY;
	return keys->start_error;
}

static int start(struct fake_keys *keys, const struct fake_key_op *wanted)
{
	struct fake_key_op *op = NULL;
	int status, r;

	pthread_mutex_lock(&keys->lock);
	keys->calls[wanted->kind]++;
	r = refuse(keys, wanted);
	if (!r && (keys->mode == FAKE_KEYS_AT_ONCE || roll(keys, 6))) {
		status = carry_out(keys, wanted);
		pthread_mutex_unlock(&keys->lock);
		wanted->done(wanted->arg, status);
		return 0;
	}
	if (!r) {
		op = malloc(sizeof(*op));
		assert(op);
		*op = *wanted;
		STAILQ_INSERT_TAIL(&keys->ops, op, link);
		keys->num_ops++;
		pthread_cond_broadcast(&keys->changed);
	}
	pthread_mutex_unlock(&keys->lock);
	return r;
}

static int grant(void *ctx, struct maas_lend_session_ref session, const struct maas_slab_ref *refs,
		 uint32_t count, enum maas_lend_access access, struct maas_lend_key *ret_keys,
		 maas_lend_key_done *done, void *arg)
{
	return start(ctx, &(struct fake_key_op){FAKE_KEY_GRANT, .session = session, .refs = refs,
						.count = count, .access = access,
						.ret_keys = ret_keys, .done = done, .arg = arg});
}

static int ungrant(void *ctx, struct maas_lend_session_ref session, struct maas_slab_ref ref,
		   maas_lend_key_done *done, void *arg)
{
	return start(ctx, &(struct fake_key_op){FAKE_KEY_UNGRANT, session, ref, .done = done,
						.arg = arg});
}

/* Nothing else may be in the storage that is lent. */
static int revoke_all(void *ctx, struct maas_slab_ref ref, uint64_t *storage,
		      maas_lend_key_done *done, void *arg)
{
	memset(storage, 0xa5, MAAS_LEND_REVOCATION * sizeof(*storage));
	return start(ctx,
		     &(struct fake_key_op){FAKE_KEY_REVOKE, .ref = ref, .done = done, .arg = arg});
}

static int end_session(void *ctx, struct maas_lend_session_ref session, maas_lend_key_done *done,
		       void *arg)
{
	return start(ctx, &(struct fake_key_op){FAKE_KEY_END_SESSION, session, .done = done,
						.arg = arg});
}

static void probe(void *ctx, struct maas_lend_session_ref session)
{
	struct fake_keys *keys = ctx;

	LOCKED(keys);
	keys->probes++;
	keys->probed = session;
}

static bool connected(void *ctx, struct maas_lend_session_ref session)
{
	struct fake_keys *keys = ctx;

	(void)session;
	LOCKED(keys);
	return !keys->unconnected && !roll(keys, 1);
}

static bool address(void *ctx, const void *local, struct maas_lend_key_address *ret_address)
{
	const struct sockaddr_in *in = local;

	(void)ctx;
	*ret_address = (struct maas_lend_key_address){.addr = "192.0.2.1", .port = FAKE_KEYS_PORT};
	if (in)
		inet_ntop(AF_INET, &in->sin_addr, ret_address->addr, sizeof(ret_address->addr));
	return true;
}

static void stats(void *ctx, struct maas_lend_key_stats *ret_stats)
{
	struct fake_keys *keys = ctx;

	LOCKED(keys);
	*ret_stats = keys->stats;
	ret_stats->grants = keys->num_keys;
}

const struct maas_lend_key_ops fake_key_ops = {
	.grant = grant,
	.ungrant = ungrant,
	.revoke = revoke_all,
	.end_session = end_session,
	.probe = probe,
	.connected = connected,
	.address = address,
	.stats = stats,
};

/* ---- the test's side */

/* Lock held, which it gives up for `done`. */
static void finish_first(struct fake_keys *keys, int status)
{
	struct fake_key_op *op = STAILQ_FIRST(&keys->ops);

	STAILQ_REMOVE_HEAD(&keys->ops, link);
	keys->num_ops--;
	keys->is_busy = true;
	if (!status)
		status = carry_out(keys, op);
	pthread_mutex_unlock(&keys->lock);
	op->done(op->arg, status);
	free(op);
	pthread_mutex_lock(&keys->lock);
	keys->is_busy = false;
	pthread_cond_broadcast(&keys->changed);
}

static void *finish_all(void *arg)
{
	struct fake_keys *keys = arg;

	LOCKED(keys);
	while (!keys->stop) {
		if (keys->num_ops)
			finish_first(keys, 0);
		else
			pthread_cond_wait(&keys->changed, &keys->lock);
	}
	return NULL;
}

void fake_keys_init(struct fake_keys *keys, enum fake_keys_mode mode)
{
	memset(keys, 0, sizeof(*keys));
	pthread_mutex_init(&keys->lock, NULL);
	pthread_cond_init(&keys->changed, NULL);
	STAILQ_INIT(&keys->ops);
	keys->mode = mode;
	keys->max_keys = FAKE_KEYS_MAX;
	keys->stats.state = "active";
}

void fake_keys_init_random(struct fake_keys *keys, uint64_t seed)
{
	fake_keys_init(keys, FAKE_KEYS_RANDOM);
	keys->random = seed;
	keys->has_thread = !pthread_create(&keys->thread, NULL, finish_all, keys);
	assert(keys->has_thread);
}

void fake_keys_fini(struct fake_keys *keys)
{
	fake_keys_set(keys, stop, true);
	pthread_cond_broadcast(&keys->changed);
	if (keys->has_thread)
		pthread_join(keys->thread, NULL);
	pthread_cond_destroy(&keys->changed);
	pthread_mutex_destroy(&keys->lock);
}

void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref)
{
	add(keys, (struct maas_lend_session_ref){NOBODY, NOBODY}, ref, MAAS_LEND_ACCESS_WRITE);
}

bool fake_keys_finish(struct fake_keys *keys, int status)
{
	LOCKED(keys);
	if (!keys->num_ops)
		return false;
	finish_first(keys, status);
	return true;
}

void fake_keys_await(struct fake_keys *keys, unsigned int count)
{
	LOCKED(keys);
	while (keys->num_ops < count)
		pthread_cond_wait(&keys->changed, &keys->lock);
}

void fake_keys_settle(struct fake_keys *keys)
{
	LOCKED(keys);
	keys->mode = FAKE_KEYS_AT_ONCE;
	while (keys->is_busy || keys->num_ops)
		pthread_cond_wait(&keys->changed, &keys->lock);
}

uint32_t fake_keys_live(struct fake_keys *keys, const struct maas_slab_ref *ref)
{
	LOCKED(keys);
	return ref ? count_to(keys, *ref) : keys->num_keys;
}
