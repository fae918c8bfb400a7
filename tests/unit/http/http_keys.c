/* SPDX-License-Identifier: Apache-2.0 */
/* See http_keys.h. One lock; callbacks run without it. */
#include "tests/unit/http/http_keys.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

static bool same_slab(struct maas_slab_ref a, struct maas_slab_ref b)
{
	return a.slot == b.slot && a.generation == b.generation;
}

static bool same_session(struct maas_lend_session_ref a, struct maas_lend_session_ref b)
{
	return a.index == b.index && a.generation == b.generation;
}

static struct http_key *find(struct http_keys *keys, struct maas_lend_session_ref session,
			     struct maas_slab_ref ref)
{
	for (uint32_t i = 0; i < keys->num_keys; i++)
		if (same_slab(keys->keys[i].ref, ref) &&
		    same_session(keys->keys[i].session, session))
			return &keys->keys[i];
	return NULL;
}

static bool is_hit(const struct http_key *key, const struct http_key_op *op)
{
	return (op->kind == HTTP_KEY_END_SESSION || same_slab(key->ref, op->ref)) &&
	       (op->kind == HTTP_KEY_REVOKE || same_session(key->session, op->session));
}

/* How many keys an operation ends; ends them when `kill`. */
static unsigned int hit(struct http_keys *keys, const struct http_key_op *op, bool kill)
{
	unsigned int hits = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < keys->num_keys; i++) {
		bool is = is_hit(&keys->keys[i], op);

		hits += is;
		if (!is || !kill)
			keys->keys[kept++] = keys->keys[i];
	}
	keys->num_keys = kept;
	return hits;
}

/* A look-up by ref is too slow for a batch of new ones, which is what large ones are here. */
static int grant_one(struct http_keys *keys, const struct http_key_op *op, uint32_t i)
{
	struct http_key *key = op->count > 100 ? NULL : find(keys, op->session, op->refs[i]);
	struct maas_slab_info info;

	if (maas_slab_get(keys->slab, op->refs[i], &info))
		return -ENOENT;
	if (key && key->access != op->access)
		return -EEXIST;
	if (!key) {
		if (keys->num_keys == keys->max_grants)
			return -EDQUOT;
		key = &keys->keys[keys->num_keys++];
		*key = (struct http_key){op->session, op->refs[i], op->access, ++keys->next_rkey};
	}
	op->ret_grants[i] = (struct maas_lend_key){
		.addr = info.offset,
		.len_bytes = info.size_bytes,
		.rkey = key->rkey,
		.connection = HTTP_KEYS_CONNECTION,
	};
	return 0;
}

static int perform(struct http_keys *keys, const struct http_key_op *op)
{
	uint32_t before = keys->num_keys;

	if (op->kind != HTTP_KEY_GRANT) {
		hit(keys, op, true);
		return 0;
	}
	for (uint32_t i = 0; i < op->count; i++) {
		int r = grant_one(keys, op, i);

		if (r) {
			keys->num_keys = before;
			return r;
		}
	}
	return 0;
}

static int start(struct http_keys *keys, const struct http_key_op *op)
{
	int status;

	pthread_mutex_lock(&keys->lock);
	if (op->kind == HTTP_KEY_GRANT && keys->unconnected)
		status = -ENOTCONN;
	else if (op->kind != HTTP_KEY_GRANT && !hit(keys, op, false))
		status = -EALREADY;
	else if (op->kind <= HTTP_KEY_UNGRANT)
		status = keys->start_error;
	else
		status = 0;
	if (status || keys->hold) {
		if (!status) {
			assert(keys->num_ops < HTTP_KEYS_OPS);
			keys->ops[keys->num_ops++] = *op;
		}
		pthread_mutex_unlock(&keys->lock);
		return status;
	}
	status = perform(keys, op);
	pthread_mutex_unlock(&keys->lock);
	op->done(op->arg, status);
	return 0;
}

static int grant(void *ctx, struct maas_lend_session_ref session, const struct maas_slab_ref *refs,
		 uint32_t count, enum maas_lend_access access, struct maas_lend_key *ret_grants,
		 maas_lend_key_done *done, void *arg)
{
	return start(ctx, &(struct http_key_op){.kind = HTTP_KEY_GRANT,
						.session = session,
						.refs = refs,
						.count = count,
						.access = access,
						.ret_grants = ret_grants,
						.done = done,
						.arg = arg});
}

static int ungrant(void *ctx, struct maas_lend_session_ref session, struct maas_slab_ref ref,
		   maas_lend_key_done *done, void *arg)
{
	return start(ctx, &(struct http_key_op){.kind = HTTP_KEY_UNGRANT,
						.session = session,
						.ref = ref,
						.done = done,
						.arg = arg});
}

static int revoke_all(void *ctx, struct maas_slab_ref ref, maas_lend_key_done *done, void *arg)
{
	return start(ctx, &(struct http_key_op){
				  .kind = HTTP_KEY_REVOKE, .ref = ref, .done = done, .arg = arg});
}

static int end_session(void *ctx, struct maas_lend_session_ref session, maas_lend_key_done *done,
		       void *arg)
{
	return start(ctx, &(struct http_key_op){.kind = HTTP_KEY_END_SESSION,
						.session = session,
						.done = done,
						.arg = arg});
}

static void probe(void *ctx, struct maas_lend_session_ref session)
{
	(void)ctx;
	(void)session;
}

static bool connected(void *ctx, struct maas_lend_session_ref session)
{
	struct http_keys *keys = ctx;
	bool is;

	(void)session;
	pthread_mutex_lock(&keys->lock);
	is = !keys->unconnected;
	pthread_mutex_unlock(&keys->lock);
	return is;
}

static void address(void *ctx, const void *local, struct maas_lend_key_address *ret_address)
{
	const struct sockaddr_in *in = local;

	(void)ctx;
	*ret_address = (struct maas_lend_key_address){.addr = "192.0.2.1", .port = HTTP_KEYS_PORT};
	if (in)
		inet_ntop(AF_INET, &in->sin_addr, ret_address->addr, sizeof(ret_address->addr));
}

static void stats(void *ctx, struct maas_lend_key_stats *ret_stats)
{
	struct http_keys *keys = ctx;

	pthread_mutex_lock(&keys->lock);
	*ret_stats = keys->stats;
	ret_stats->grants = keys->num_keys;
	pthread_mutex_unlock(&keys->lock);
}

const struct maas_lend_key_ops http_key_ops = {
	.grant = grant,
	.ungrant = ungrant,
	.revoke = revoke_all,
	.end_session = end_session,
	.probe = probe,
	.connected = connected,
	.address = address,
	.stats = stats,
};

void http_keys_init(struct http_keys *keys)
{
	memset(keys, 0, sizeof(*keys));
	pthread_mutex_init(&keys->lock, NULL);
	keys->max_grants = HTTP_KEYS_MAX;
	keys->stats.state = "active";
}

void http_keys_fini(struct http_keys *keys)
{
	pthread_mutex_destroy(&keys->lock);
}

bool http_keys_finish(struct http_keys *keys, int status)
{
	struct http_key_op op;

	pthread_mutex_lock(&keys->lock);
	if (!keys->num_ops) {
		pthread_mutex_unlock(&keys->lock);
		return false;
	}
	op = keys->ops[0];
	keys->num_ops--;
	memmove(&keys->ops[0], &keys->ops[1], keys->num_ops * sizeof(keys->ops[0]));
	if (!status)
		status = perform(keys, &op);
	pthread_mutex_unlock(&keys->lock);
	op.done(op.arg, status);
	return true;
}

void http_keys_await(struct http_keys *keys, unsigned int count)
{
	unsigned int num_ops;

	do {
		usleep(1000);
		pthread_mutex_lock(&keys->lock);
		num_ops = keys->num_ops;
		pthread_mutex_unlock(&keys->lock);
	} while (num_ops < count);
}

uint32_t http_keys_live(struct http_keys *keys)
{
	uint32_t count;

	pthread_mutex_lock(&keys->lock);
	count = keys->num_keys;
	pthread_mutex_unlock(&keys->lock);
	return count;
}
