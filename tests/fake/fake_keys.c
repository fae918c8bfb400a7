/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_keys.h. No thread and no lock: what is under way ends when the test says so. */
#include "tests/fake/fake_keys.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NOBODY UINT32_MAX

static bool same_slab(struct maas_slab_ref a, struct maas_slab_ref b)
{
	return a.slot == b.slot && a.generation == b.generation;
}

static bool same_session(struct maas_lend_session_ref a, struct maas_lend_session_ref b)
{
	return a.index == b.index && a.generation == b.generation;
}

unsigned int fake_keys_count(const struct fake_keys *keys, struct maas_slab_ref ref)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < keys->num_keyed; i++)
		count += same_slab(keys->keyed[i].ref, ref);
	return count;
}

static struct fake_key *find_key(struct fake_keys *keys, struct maas_lend_session_ref session,
				 struct maas_slab_ref ref)
{
	for (unsigned int i = 0; i < keys->num_keyed; i++)
		if (same_slab(keys->keyed[i].ref, ref) &&
		    same_session(keys->keyed[i].session, session))
			return &keys->keyed[i];
	return NULL;
}

static struct fake_key *add_key(struct fake_keys *keys, struct maas_lend_session_ref session,
				struct maas_slab_ref ref, enum maas_lend_access access)
{
	struct fake_key *key = &keys->keyed[keys->num_keyed];

	assert(keys->num_keyed < FAKE_KEYS_MAX);
	keys->num_keyed++;
	*key = (struct fake_key){
		.ref = ref, .session = session, .access = access, .rkey = ++keys->last_rkey};
	return key;
}

void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref)
{
	add_key(keys, (struct maas_lend_session_ref){NOBODY, NOBODY}, ref, MAAS_LEND_ACCESS_WRITE);
}

/* An end kills the keys of nobody, too: there the test means that session's. */
static bool is_hit(const struct fake_key_op *op, const struct fake_key *key)
{
	switch (op->type) {
	case FAKE_KEY_REVOKE:
		return same_slab(key->ref, op->ref);
	case FAKE_KEY_UNGRANT:
		return same_slab(key->ref, op->ref) && same_session(key->session, op->session);
	case FAKE_KEY_END_SESSION:
		return same_session(key->session, op->session) || key->session.index == NOBODY;
	default:
		return false;
	}
}

static unsigned int kill_keys(struct fake_keys *keys, const struct fake_key_op *op)
{
	unsigned int kept = 0;
	unsigned int killed;

	for (unsigned int i = 0; i < keys->num_keyed; i++)
		if (!is_hit(op, &keys->keyed[i]))
			keys->keyed[kept++] = keys->keyed[i];
	killed = keys->num_keyed - kept;
	keys->num_keyed = kept;
	return killed;
}

static int make_key(struct fake_keys *keys, const struct fake_key_op *op, uint32_t i)
{
	unsigned int max = keys->max_keys ? keys->max_keys : FAKE_KEYS_MAX;
	struct fake_key *key = find_key(keys, op->session, op->refs[i]);
	struct maas_slab_info info;

	if (maas_slab_get(keys->slab, op->refs[i], &info))
		return -ENOENT;
	if (key && key->access != op->access)
		return -EEXIST;
	if (!key && keys->num_keyed >= max)
		return -EDQUOT;
	if (!key)
		key = add_key(keys, op->session, op->refs[i], op->access);
	op->ret_grants[i] = (struct maas_lend_key){
		.addr = info.offset,
		.len_bytes = info.size_bytes,
		.rkey = key->rkey,
		.connection = op->session.index + 1,
	};
	return 0;
}

static int make_keys(struct fake_keys *keys, const struct fake_key_op *op)
{
	unsigned int before = keys->num_keyed;
	int r = keys->unconnected ? -ENOTCONN : 0;

	for (uint32_t i = 0; i < op->count && !r; i++)
		r = make_key(keys, op, i);
	if (r)
		keys->num_keyed = before;
	return r;
}

static int carry_out(struct fake_keys *keys, const struct fake_key_op *op)
{
	if (op->type == FAKE_KEY_GRANT)
		return make_keys(keys, op);
	return !kill_keys(keys, op) && op->type == FAKE_KEY_UNGRANT ? -ENOENT : 0;
}

static int start(struct fake_keys *keys, const struct fake_key_op *op)
{
	if (keys->start_error)
		return keys->start_error;
	if (keys->immediate) {
		op->done(op->arg, carry_out(keys, op));
		return 0;
	}
	assert(keys->num_under_way < FAKE_KEYS_MAX);
	keys->under_way[keys->num_under_way++] = *op;
	return 0;
}

static int grant(void *ctx, struct maas_lend_session_ref session, const struct maas_slab_ref *refs,
		 uint32_t count, enum maas_lend_access access, struct maas_lend_key *ret_grants,
		 maas_lend_key_done *done, void *arg)
{
	struct fake_keys *keys = ctx;
	const struct fake_key_op op = {
		.type = FAKE_KEY_GRANT,
		.session = session,
		.refs = refs,
		.count = count,
		.access = access,
		.ret_grants = ret_grants,
		.done = done,
		.arg = arg,
	};

	keys->grants++;
	return start(keys, &op);
}

static int ungrant(void *ctx, struct maas_lend_session_ref session, struct maas_slab_ref ref,
		   maas_lend_key_done *done, void *arg)
{
	const struct fake_key_op op = {
		.type = FAKE_KEY_UNGRANT,
		.session = session,
		.ref = ref,
		.done = done,
		.arg = arg,
	};

	return fake_keys_count(ctx, ref) ? start(ctx, &op) : -EALREADY;
}

static int revoke(void *ctx, struct maas_slab_ref ref, maas_lend_key_done *done, void *arg)
{
	struct fake_keys *keys = ctx;
	const struct fake_key_op op = {
		.type = FAKE_KEY_REVOKE, .ref = ref, .done = done, .arg = arg};
	struct maas_slab_info info;

	keys->revokes++;
	if (!maas_slab_get(keys->slab, ref, &info))
		keys->slab_was_live = true;
	return fake_keys_count(keys, ref) ? start(keys, &op) : -EALREADY;
}

static int end_session(void *ctx, struct maas_lend_session_ref session, maas_lend_key_done *done,
		       void *arg)
{
	struct fake_keys *keys = ctx;
	const struct fake_key_op op = {
		.type = FAKE_KEY_END_SESSION, .session = session, .done = done, .arg = arg};

	keys->session_ends++;
	return keys->unconnected ? -EALREADY : start(keys, &op);
}

static void probe(void *ctx, struct maas_lend_session_ref session)
{
	struct fake_keys *keys = ctx;

	keys->probes++;
	keys->probed = session;
}

static bool connected(void *ctx, struct maas_lend_session_ref session)
{
	const struct fake_keys *keys = ctx;

	(void)session;
	return !keys->unconnected;
}

static void address(void *ctx, const void *local, struct maas_lend_key_address *ret_address)
{
	(void)ctx;
	*ret_address = (struct maas_lend_key_address){.port = 4711};
	snprintf(ret_address->addr, sizeof(ret_address->addr), "%s",
		 local ? "10.0.0.1" : "10.0.0.2");
}

static void stats(void *ctx, struct maas_lend_key_stats *ret_stats)
{
	const struct fake_keys *keys = ctx;

	*ret_stats = (struct maas_lend_key_stats){.state = "active", .grants = keys->num_keyed};
}

const struct maas_lend_key_ops fake_key_ops = {
	.grant = grant,
	.ungrant = ungrant,
	.revoke = revoke,
	.end_session = end_session,
	.probe = probe,
	.connected = connected,
	.address = address,
	.stats = stats,
};

bool fake_keys_finish(struct fake_keys *keys, int status)
{
	struct fake_key_op op;

	if (!keys->num_under_way)
		return false;
	op = keys->under_way[0];
	keys->num_under_way--;
	memmove(&keys->under_way[0], &keys->under_way[1],
		keys->num_under_way * sizeof(keys->under_way[0]));
	if (!status)
		status = carry_out(keys, &op);
	op.done(op.arg, status);
	return true;
}
