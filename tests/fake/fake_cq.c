/* SPDX-License-Identifier: Apache-2.0 */
/* Completion channels and queues. */
#include "tests/fake/fake_objects.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- channels */

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *verbs)
{
	struct fake_channel *channel = fake_new(sizeof(*channel), true);

	if (!channel)
		return NULL;
	channel->verbs.context = verbs;
	channel->verbs.fd = fake_count_fd();
	TAILQ_INIT(&channel->ready);
	FAKE_LOCKED();
	fake.live.channels++;
	((struct fake_context *)verbs)->objects++;
	return &channel->verbs;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *verbs)
{
	struct fake_channel *channel = (struct fake_channel *)verbs;

	if (fake_due(FAKE_ENDS))
		return EBUSY;
	FAKE_LOCKED();
	if (verbs->refcnt) {
		fake_fault("a channel with %d completion queues", verbs->refcnt);
		return EBUSY;
	}
	fake.live.channels--;
	((struct fake_context *)verbs->context)->objects--;
	close(verbs->fd);
	free(channel);
	return 0;
}

static struct fake_cq *take_ready(struct fake_channel *channel)
{
	struct fake_cq *cq = TAILQ_FIRST(&channel->ready);

	if (!cq)
		return NULL;
	fake_count_down(channel->verbs.fd);
	TAILQ_REMOVE(&channel->ready, cq, link);
	cq->unacked++;
	if (--cq->events)
		TAILQ_INSERT_TAIL(&channel->ready, cq, link);
	return cq;
}

int ibv_get_cq_event(struct ibv_comp_channel *verbs, struct ibv_cq **ret_cq, void **ret_context)
{
	struct fake_channel *channel = (struct fake_channel *)verbs;
	struct fake_cq *cq = NULL;

	while (!cq) {
		if (!fake_count_wait(verbs->fd))
			return -1;
		FAKE_LOCKED();
		cq = take_ready(channel);
	}
	*ret_cq = &cq->verbs;
	*ret_context = cq->verbs.cq_context;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *verbs, unsigned int count)
{
	struct fake_cq *cq = (struct fake_cq *)verbs;

	FAKE_LOCKED();
	if (count > cq->unacked)
		fake_fault("%u events acknowledged, %u came", count, cq->unacked);
	else
		cq->unacked -= count;
}

/* ---- queues */

struct ibv_cq *ibv_create_cq(struct ibv_context *verbs, int cqe, void *cq_context,
			     struct ibv_comp_channel *channel, int comp_vector)
{
	FAKE_LOCKED();
	bool wrong = cqe < 1 || cqe > FAKE_MAX_CQE;
	size_t size = sizeof(struct fake_cq) + (size_t)cqe * sizeof(struct fake_completion);
	struct fake_cq *cq = fake_new(size, !wrong && !fake.removed && fake.live.cqs < FAKE_MAX_CQ);

	(void)comp_vector;
	if (!cq)
		return fake_refuse(wrong ? EINVAL : ENOMEM);
	cq->verbs.context = verbs;
	cq->verbs.channel = channel;
	cq->verbs.cq_context = cq_context;
	cq->verbs.cqe = cqe;
	cq->channel = (struct fake_channel *)channel;
	cq->depth = (unsigned int)cqe;
	if (channel)
		channel->refcnt++;
	fake.live.cqs++;
	((struct fake_context *)verbs)->objects++;
	return &cq->verbs;
}

static void forget_events(struct fake_cq *cq)
{
	if (cq->unacked)
		fake_fault("%u events not acknowledged: a real one would hang here", cq->unacked);
	if (!cq->events)
		return;
	TAILQ_REMOVE(&cq->channel->ready, cq, link);
	for (; cq->events; cq->events--)
		fake_count_down(cq->channel->verbs.fd);
}

int ibv_destroy_cq(struct ibv_cq *verbs)
{
	struct fake_cq *cq = (struct fake_cq *)verbs;
	int error = fake_end_error();

	if (error)
		return error;
	FAKE_LOCKED();
	if (cq->qps) {
		fake_fault("a completion queue of %u queue pairs", cq->qps);
		return EBUSY;
	}
	forget_events(cq);
	if (cq->channel)
		cq->channel->verbs.refcnt--;
	fake.live.cqs--;
	((struct fake_context *)verbs->context)->objects--;
	free(cq);
	return 0;
}

int fake_req_notify_cq(struct ibv_cq *verbs, int solicited_only)
{
	struct fake_cq *cq = (struct fake_cq *)verbs;

	(void)solicited_only;
	if (fake_due(FAKE_MAKES))
		return EIO;
	FAKE_LOCKED();
	cq->armed = true;
	return 0;
}

void fake_cq_add(struct fake_cq *cq, const struct fake_completion *completion)
{
	unsigned int count = atomic_load(&cq->count);

	if (count == cq->depth) {
		fake_fault("a completion queue of %u overflows", cq->depth);
		return;
	}
	cq->completions[(cq->head + count) % cq->depth] = *completion;
	atomic_store(&cq->count, count + 1);
	if (!cq->armed || !cq->channel)
		return;
	cq->armed = false;
	if (!cq->events++)
		TAILQ_INSERT_TAIL(&cq->channel->ready, cq, link);
	fake_count_up(cq->channel->verbs.fd);
}

int fake_poll_cq(struct ibv_cq *verbs, int max, struct ibv_wc *ret_wcs)
{
	struct fake_cq *cq = (struct fake_cq *)verbs;
	int n = 0;

	if (!atomic_load(&cq->count))
		return 0;
	FAKE_LOCKED();
	for (; n < max && atomic_load(&cq->count); atomic_fetch_sub(&cq->count, 1)) {
		const struct fake_completion *completion = &cq->completions[cq->head];
		struct fake_qp *qp = fake_qp_find(completion->wc.qp_num);

		ret_wcs[n++] = completion->wc;
		if (qp && qp->freed < completion->upto)
			qp->freed = completion->upto;
		cq->head = (cq->head + 1) % cq->depth;
	}
	return n;
}
