/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/async_keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

struct op {
	maas_key_done *done;
	void *arg;
	int status;
	STAILQ_ENTRY(op) link;
};

struct async_keys {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	STAILQ_HEAD(, op) ops;
	uint64_t seed;
	bool busy;
	bool settled;
	bool stop;
};

static int start(struct async_keys *keys, maas_key_done *done, void *arg)
{
	struct op *op = calloc(1, sizeof(*op));
	unsigned int dice;

	if (!op)
		return -ENOMEM;
	pthread_mutex_lock(&keys->lock);
	keys->seed = keys->seed * 6364136223846793005u + 1442695040888963407u;
	dice = keys->settled ? 0 : (unsigned int)(keys->seed >> 33) % 16;
	if (dice < 6) {
		pthread_mutex_unlock(&keys->lock);
		free(op);
		return -EALREADY;
	}
	op->done = done;
	op->arg = arg;
	op->status = dice == 6 ? -ETIMEDOUT : 0;
	STAILQ_INSERT_TAIL(&keys->ops, op, link);
	pthread_cond_broadcast(&keys->changed);
	pthread_mutex_unlock(&keys->lock);
	return 0;
}

static int revoke(void *ctx, struct maas_slab_ref ref, maas_key_done *done, void *arg)
{
	(void)ref;
	return start(ctx, done, arg);
}

static int end_session(void *ctx, struct maas_session_ref session, maas_key_done *done, void *arg)
{
	(void)session;
	return start(ctx, done, arg);
}

static void probe(void *ctx, struct maas_session_ref session)
{
	(void)ctx;
	(void)session;
}

const struct maas_key_ops async_key_ops = {
	.revoke = revoke, .end_session = end_session, .probe = probe};

static void *answer(void *arg)
{
	struct async_keys *keys = arg;

	pthread_mutex_lock(&keys->lock);
	while (!keys->stop) {
		struct op *op = STAILQ_FIRST(&keys->ops);

		if (!op) {
			pthread_cond_wait(&keys->changed, &keys->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&keys->ops, link);
		keys->busy = true;
		pthread_mutex_unlock(&keys->lock);
		op->done(op->arg, op->status);
		free(op);
		pthread_mutex_lock(&keys->lock);
		keys->busy = false;
		pthread_cond_broadcast(&keys->changed);
	}
	pthread_mutex_unlock(&keys->lock);
	return NULL;
}

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

void async_keys_settle(struct async_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	keys->settled = true;
	while (keys->busy || !STAILQ_EMPTY(&keys->ops))
		pthread_cond_wait(&keys->changed, &keys->lock);
	pthread_mutex_unlock(&keys->lock);
}

void async_keys_free(struct async_keys *keys)
{
	pthread_mutex_lock(&keys->lock);
	keys->stop = true;
	pthread_cond_broadcast(&keys->changed);
	pthread_mutex_unlock(&keys->lock);
	pthread_join(keys->thread, NULL);
	pthread_cond_destroy(&keys->changed);
	pthread_mutex_destroy(&keys->lock);
	free(keys);
}
