/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of lend on grants: a task for the thread each, which asks for keys or kills them,
 * and waits for the end with the same task.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

/* True where this turn has killed enough: the task goes on in the next one. There are no more turns
 * when the thread has ended: then it is all of the rest. */
static bool next_turn(struct maas_rdma *rdma, struct maas_rdma_task *task, bool is_step)
{
	return (is_step || rdma->turn_bytes >= MAAS_RDMA_STEP_BYTES) && !maas_rdma_send(rdma, task);
}

/* ---- grant: many keys, all or none */

struct batch {
	struct maas_rdma_task task;
	struct maas_rdma_asker asker; /* `pending`: and one for the task, as long as it asks */
	struct maas_rdma *rdma;
	struct maas_lend_session_ref session;
	uint32_t count;
	struct maas_lend_key *ret_keys;
	maas_lend_key_done *done;
	void *arg;
	uint32_t connection; /* that its first key was asked of, and all have to be; 0: none yet */
	uint32_t undone;     /* refs so far, when it has failed */
};

static struct batch *batch_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct batch, task);
}

static void finish(struct batch *batch)
{
	batch->done(batch->arg, batch->asker.status);
	free(batch);
}

/* NULL: its connection is gone, perhaps replaced. */
static struct maas_rdma_conn *conn_of(const struct batch *batch)
{
	struct maas_rdma_conn *conn = maas_rdma_conn_find(batch->rdma, batch->session);

	return conn && (!batch->connection || conn->number == batch->connection) ? conn : NULL;
}

/* The grant that the batch has made; NULL: its slab may be free by now, and then the key is dead.
 */
static struct maas_rdma_grant *made_by(const struct batch *batch, uint32_t i)
{
	const struct maas_rdma_conn *conn = conn_of(batch);
	struct maas_rdma_grant *grant =
		conn ? maas_rdma_grant_find(conn, batch->asker.refs[i]) : NULL;

	return grant && grant->asker_number == batch->asker.number ? grant : NULL;
}

/* The last one first, and then the others are dead as well, as a rule. One that is not confirmed
 * dead stays known, and the slab's free will ask for it. */
static void await_undone(struct maas_rdma_task *task, int status)
{
	struct batch *batch = batch_of(task);

	(void)status;
	while (batch->undone) {
		struct maas_rdma_grant *grant = made_by(batch, --batch->undone);

		if (grant) {
			STAILQ_INSERT_TAIL(&grant->dead, task, link);
			return;
		}
	}
	finish(batch);
}

/* Kills what was made, a step in each turn, as it was made. */
static void run_undo(struct maas_rdma_task *task, int status)
{
	struct batch *batch = batch_of(task);
	uint32_t until = batch->undone + MAAS_RDMA_STEP;

	while (batch->undone < batch->asker.asked) {
		struct maas_rdma_grant *grant;

		if (next_turn(batch->rdma, task, batch->undone >= until))
			return;
		grant = made_by(batch, batch->undone++);
		if (grant)
			maas_rdma_grant_kill(grant, NULL);
	}
	task->run = await_undone;
	await_undone(task, status);
}

static void put(struct batch *batch)
{
	if (--batch->asker.pending)
		return;
	if (batch->asker.status) {
		batch->task.run = run_undo;
		run_undo(&batch->task, 0);
	} else {
		finish(batch);
	}
}

static void fail(struct batch *batch, int status)
{
	if (!batch->asker.status)
		batch->asker.status = status;
}

static void made(struct maas_rdma_asker *asker, uint32_t index, const struct maas_rdma_grant *grant,
		 int status)
{
	struct batch *batch = MAAS_CONTAINER_OF(asker, struct batch, asker);

	if (grant)
		batch->ret_keys[index] = (struct maas_lend_key){
			.addr = grant->offset,
			.len_bytes = grant->len_bytes,
			.rkey = grant->rkey,
			.connection = grant->conn->number,
		};
	else
		fail(batch, status);
	put(batch);
}

/* Asks for some of the keys. True: the task will be run again for the rest, perhaps not before
 * another batch has got the next one. */
static bool ask(struct batch *batch, struct maas_rdma_conn *conn)
{
	struct maas_rdma_asker *asker = &batch->asker;
	uint32_t left = batch->count - asker->asked;
	uint32_t until = asker->asked + (left < MAAS_RDMA_STEP ? left : MAAS_RDMA_STEP);
	int r = maas_rdma_grants_ask(conn, asker, until);

	if (r == -EINPROGRESS) {
		struct maas_rdma_grant *grant =
			maas_rdma_grant_find(conn, asker->refs[asker->asked]);

		STAILQ_INSERT_TAIL(&grant->made, &batch->task, link);
		return true;
	}
	if (r)
		fail(batch, r);
	/* In another turn, so that nobody's revocation waits for a long batch. */
	if (!asker->status && asker->asked < batch->count) {
		if (!maas_rdma_send(batch->rdma, &batch->task))
			return true;
		fail(batch, -ENOTCONN);
	}
	return false;
}

static void run_batch(struct maas_rdma_task *task, int status)
{
	struct batch *batch = batch_of(task);
	struct maas_rdma_conn *conn = conn_of(batch);

	(void)status;
	if (!batch->asker.number)
		batch->asker.number = ++batch->rdma->last_asker;
	/* What was made is dead with its connection, though the session may have another by now. */
	if (!conn || !maas_rdma_conn_usable(conn)) {
		fail(batch, -ENOTCONN);
	} else {
		batch->connection = conn->number;
		if (ask(batch, conn))
			return;
	}
	put(batch);
}

int maas_rdma_request_grant(void *ctx, struct maas_lend_session_ref session,
			    const struct maas_slab_ref *refs, uint32_t count,
			    enum maas_lend_access access, struct maas_lend_key *ret_keys,
			    maas_lend_key_done *done, void *arg)
{
	struct batch *batch = malloc(sizeof(*batch));
	int r;

	if (!batch)
		return -ENOMEM;
	*batch = (struct batch){
		.task.run = run_batch,
		.asker = {.refs = refs, .access = access, .pending = 1, .made = made},
		.rdma = ctx,
		.session = session,
		.count = count,
		.ret_keys = ret_keys,
		.done = done,
		.arg = arg,
	};
	r = maas_rdma_send(ctx, &batch->task);
	if (r)
		free(batch);
	return r;
}

/* ---- revoke and ungrant */

struct revocation {
	struct maas_rdma_task task;
	struct maas_rdma *rdma;
	struct maas_lend_session_ref session; /* of an ungrant */
	struct maas_slab_ref ref;
	maas_lend_key_done *done;
	void *arg;
};

static_assert(sizeof(struct revocation) <= MAAS_LEND_REVOCATION * sizeof(uint64_t),
	      "it lives in what lend has for it");

static struct revocation *revocation_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct revocation, task);
}

/* Once it is told, its storage may be gone. */
static void end_revocation(struct maas_rdma_task *task, int status)
{
	const struct revocation *revocation = revocation_of(task);

	revocation->done(revocation->arg, status);
}

/* All of the slab's keys are dying, and nobody gets another: they are waited for one by one. One
 * whose connection could not be ended is tried once more, at once. */
static void await_dead(struct maas_rdma_task *task, int status)
{
	struct revocation *revocation = revocation_of(task);
	struct maas_rdma_grant *grant;

	while (!status && (grant = maas_rdma_grant_first(revocation->rdma, revocation->ref))) {
		if (!grant->conn->quiet) {
			maas_rdma_grant_kill(grant, task);
			return;
		}
		if (next_turn(revocation->rdma, task, false))
			return;
		maas_rdma_grant_kill(grant, NULL);
		if (grant == maas_rdma_grant_first(revocation->rdma, revocation->ref))
			status = -EIO;
	}
	end_revocation(task, status);
}

/* Has all of the slab's keys die, a step in each turn. */
static void run_revoke(struct maas_rdma_task *task, int status)
{
	struct revocation *revocation = revocation_of(task);
	struct maas_rdma_grant *grant = maas_rdma_grant_first(revocation->rdma, revocation->ref);
	struct maas_rdma_grant *next;
	uint32_t killed = 0;

	for (; grant; grant = next) {
		next = grant->next;
		if (grant->state != MAAS_RDMA_GRANT_LIVE && grant->state != MAAS_RDMA_GRANT_BINDING)
			continue;
		if (next_turn(revocation->rdma, task, killed++ >= MAAS_RDMA_STEP))
			return;
		maas_rdma_grant_kill(grant, NULL);
	}
	task->run = await_dead;
	await_dead(task, status);
}

static bool has_keys(const struct maas_rdma *rdma, struct maas_slab_ref ref)
{
	return ref.slot < rdma->area.num_slots && atomic_load(&rdma->keyed[ref.slot]);
}

int maas_rdma_request_revoke(void *ctx, struct maas_slab_ref ref, uint64_t *storage,
			     maas_lend_key_done *done, void *arg)
{
	struct revocation *revocation = (void *)storage;

	if (!has_keys(ctx, ref))
		return -EALREADY;
	*revocation = (struct revocation){
		.task.run = run_revoke,
		.rdma = ctx,
		.ref = ref,
		.done = done,
		.arg = arg,
	};
	return maas_rdma_send(ctx, &revocation->task);
}

static void end_ungrant(struct maas_rdma_task *task, int status)
{
	end_revocation(task, status);
	free(revocation_of(task));
}

static void run_ungrant(struct maas_rdma_task *task, int status)
{
	const struct revocation *revocation = revocation_of(task);
	struct maas_rdma_conn *conn = maas_rdma_conn_find(revocation->rdma, revocation->session);
	struct maas_rdma_grant *grant = conn ? maas_rdma_grant_find(conn, revocation->ref) : NULL;

	(void)status;
	task->run = end_ungrant;
	if (grant)
		maas_rdma_grant_kill(grant, task);
	else
		end_ungrant(task, -ENOENT);
}

int maas_rdma_request_ungrant(void *ctx, struct maas_lend_session_ref session,
			      struct maas_slab_ref ref, maas_lend_key_done *done, void *arg)
{
	struct revocation *revocation;
	int r;

	if (!has_keys(ctx, ref))
		return -EALREADY;
	revocation = malloc(sizeof(*revocation));
	if (!revocation)
		return -ENOMEM;
	*revocation = (struct revocation){
		.task.run = run_ungrant,
		.rdma = ctx,
		.session = session,
		.ref = ref,
		.done = done,
		.arg = arg,
	};
	r = maas_rdma_send(ctx, &revocation->task);
	if (r)
		free(revocation);
	return r;
}
