/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fake_keys.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref)
{
	assert(keys->num_keyed < FAKE_KEYS_MAX);
	keys->keyed[keys->num_keyed++] = ref;
}

static int find_key(const struct fake_keys *keys, struct maas_slab_ref ref)
{
	for (unsigned int i = 0; i < keys->num_keyed; i++)
		if (keys->keyed[i].slot == ref.slot && keys->keyed[i].generation == ref.generation)
			return (int)i;
	return -ENOENT;
}

/* One session holds all the keys here. */
static void kill_keys(struct fake_keys *keys, const struct fake_key_op *op)
{
	int at = find_key(keys, op->ref);

	if (op->is_session)
		keys->num_keyed = 0;
	else if (at >= 0)
		keys->keyed[at] = keys->keyed[--keys->num_keyed];
}

static int start(struct fake_keys *keys, const struct fake_key_op *op)
{
	if (keys->start_error)
		return keys->start_error;
	if (keys->immediate) {
		kill_keys(keys, op);
		op->done(op->arg, 0);
		return 0;
	}
	assert(keys->num_under_way < FAKE_KEYS_MAX);
	keys->under_way[keys->num_under_way++] = *op;
	return 0;
}

static int revoke(void *ctx, struct maas_slab_ref ref, maas_key_done *done, void *arg)
{
	struct fake_keys *keys = ctx;
	const struct fake_key_op op = {.ref = ref, .done = done, .arg = arg};
	struct maas_slab_info info;

	keys->revokes++;
	if (!maas_slab_get(keys->slab, ref, &info))
		keys->slab_was_live = true;
	if (find_key(keys, ref) < 0)
		return -EALREADY;
	return start(keys, &op);
}

static int end_session(void *ctx, struct maas_session_ref session, maas_key_done *done, void *arg)
{
	struct fake_keys *keys = ctx;
	const struct fake_key_op op = {
		.is_session = true,
		.session = session,
		.done = done,
		.arg = arg,
	};

	keys->session_ends++;
	if (keys->unconnected)
		return -EALREADY;
	return start(keys, &op);
}

static void probe(void *ctx, struct maas_session_ref session)
{
	struct fake_keys *keys = ctx;

	(void)session;
	keys->probes++;
}

const struct maas_key_ops fake_key_ops = {
	.revoke = revoke, .end_session = end_session, .probe = probe};

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
		kill_keys(keys, &op);
	op.done(op.arg, status);
	return true;
}
