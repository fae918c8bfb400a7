/* SPDX-License-Identifier: Apache-2.0 */
/* Protection domains, memory regions and windows, and whether a key opens what is asked for. */
#include "tests/fake/fake_objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAG(key)   ((key) & 0xff)
#define INDEX(key) ((key) >> 8)
#define ANY_ACCESS (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

static struct fake_context *context_of(struct ibv_context *verbs)
{
	return (struct fake_context *)verbs;
}

static struct fake_pd *pd_of(struct ibv_pd *verbs)
{
	return (struct fake_pd *)verbs;
}

/* ---- protection domains */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *verbs)
{
	FAKE_LOCKED();
	struct fake_pd *pd = fake_new(sizeof(*pd), !fake.removed && fake.live.pds < FAKE_MAX_PD);

	if (!pd)
		return NULL;
	pd->verbs.context = verbs;
	context_of(verbs)->objects++;
	fake.live.pds++;
	return &pd->verbs;
}

int ibv_dealloc_pd(struct ibv_pd *verbs)
{
	struct fake_pd *pd = pd_of(verbs);
	int error = fake_end_error();

	if (error)
		return error;
	FAKE_LOCKED();
	if (pd->objects) {
		fake_fault("a domain with %u objects in it", pd->objects);
		return EBUSY;
	}
	context_of(verbs->context)->objects--;
	fake.live.pds--;
	free(pd);
	return 0;
}

/* ---- keys */

/* 0: there is none. A key that is gone is not used again soon. */
static uint32_t new_index(void)
{
	for (uint32_t tries = 0; tries < FAKE_KEYS; tries++) {
		uint32_t index = fake.next_key++ % (FAKE_KEYS - 1) + 1;

		if (!fake.keys[index].mr && !fake.keys[index].mw)
			return index;
	}
	return 0;
}

static struct fake_key *find_key(uint32_t key)
{
	return INDEX(key) < FAKE_KEYS ? &fake.keys[INDEX(key)] : NULL;
}

/* ---- regions */

static int check_region(size_t length, unsigned int access)
{
	if (fake.removed)
		return EIO;
	if (fake.rules.region_local && (access & ANY_ACCESS))
		return EOPNOTSUPP;
	if (fake.live.mrs >= (unsigned int)fake.rules.max_mr)
		return ENOMEM;
	if (fake.rules.max_pinned && fake.pinned + length > fake.rules.max_pinned)
		return ENOMEM;
	if ((access & IBV_ACCESS_REMOTE_WRITE) && !(access & IBV_ACCESS_LOCAL_WRITE))
		return EINVAL;
	return 0;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	FAKE_LOCKED();
	int error = check_region(length, access);
	uint32_t index = error ? 0 : new_index();
	struct fake_mr *mr = fake_new(sizeof(*mr), index);

	if (!mr)
		return fake_refuse(error ? error : ENOMEM);
	mr->verbs.context = pd->context;
	mr->verbs.pd = pd;
	mr->verbs.addr = addr;
	mr->verbs.length = length;
	mr->verbs.lkey = index << 8 | 0x5a;
	mr->verbs.rkey = mr->verbs.lkey;
	mr->iova = iova;
	mr->access = access;
	fake.keys[index].mr = mr;
	fake.pinned += length;
	fake.live.mrs++;
	pd_of(pd)->objects++;
	context_of(pd->context)->objects++;
	return &mr->verbs;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, (unsigned int)access);
}

#undef ibv_reg_mr_iova
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, iova, (unsigned int)access);
}

int ibv_dereg_mr(struct ibv_mr *verbs)
{
	struct fake_mr *mr = (struct fake_mr *)verbs;
	int error = fake_end_error();

	if (error)
		return error;
	FAKE_LOCKED();
	if (mr->windows) {
		fake_fault("a region with %u windows bound to it", mr->windows);
		return EINVAL;
	}
	fake.keys[INDEX(verbs->lkey)].mr = NULL;
	fake.pinned -= verbs->length;
	fake.live.mrs--;
	pd_of(verbs->pd)->objects--;
	context_of(verbs->context)->objects--;
	free(mr);
	return 0;
}

/* ---- windows */

struct ibv_mw *fake_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	FAKE_LOCKED();
	bool room = !fake.removed && fake.live.mws < (unsigned int)fake.rules.max_mw;
	uint32_t index = room ? new_index() : 0;
	struct fake_mw *mw = fake_new(sizeof(*mw), index);

	if (!mw)
		return NULL;
	mw->key = index << 8 | 0xfd; /* so that it overflows soon */
	mw->verbs.context = pd->context;
	mw->verbs.pd = pd;
	mw->verbs.type = type;
	mw->verbs.rkey = mw->key;
	fake.keys[index].mw = mw;
	fake.live.mws++;
	pd_of(pd)->objects++;
	context_of(pd->context)->objects++;
	return &mw->verbs;
}

static void unbind(struct fake_mw *mw)
{
	if (mw->mr)
		mw->mr->windows--;
	if (mw->bound)
		fake.live.bound--;
	mw->mr = NULL;
	mw->bound = false;
	mw->leaky = false;
}

static void leave(struct fake_mw *mw)
{
	if (mw->qp)
		LIST_REMOVE(mw, link);
	mw->qp = NULL;
}

int fake_dealloc_mw(struct ibv_mw *verbs)
{
	struct fake_mw *mw = (struct fake_mw *)verbs;
	int error = fake_end_error();

	if (error)
		return error;
	FAKE_LOCKED();
	unbind(mw);
	leave(mw);
	fake.keys[INDEX(mw->key)].mw = NULL;
	fake.live.mws--;
	pd_of(verbs->pd)->objects--;
	context_of(verbs->context)->objects--;
	free(mw);
	return 0;
}

static bool within(uint64_t addr, uint64_t len, uint64_t base, uint64_t size)
{
	return addr >= base && len <= size && addr - base <= size - len;
}

static bool may_bind(const struct fake_qp *qp, const struct fake_mw *mw,
		     const struct fake_work *work)
{
	const struct fake_mr *mr = (const struct fake_mr *)work->bind.mr;

	if (mw->verbs.type != IBV_MW_TYPE_2 || mw->bound || mw->leaky)
		return false;
	if (mw->verbs.pd != qp->verbs.pd || mr->verbs.pd != qp->verbs.pd)
		return false;
	if (INDEX(work->rkey) != INDEX(mw->key) || TAG(work->rkey) == TAG(mw->key))
		return false;
	/* As rxe: a program that binds by ibv_post_send(3) has to keep mw->rkey up to date. */
	if (work->mw_rkey != mw->key)
		return false;
	if (!(mr->access & IBV_ACCESS_MW_BIND))
		return false;
	if ((work->bind.mw_access_flags & IBV_ACCESS_REMOTE_WRITE) &&
	    !(mr->access & IBV_ACCESS_LOCAL_WRITE))
		return false;
	return within(work->bind.addr, work->bind.length, mr->iova, mr->verbs.length);
}

enum ibv_wc_status fake_memory_bind(struct fake_qp *qp, const struct fake_work *work)
{
	struct fake_mw *mw = (struct fake_mw *)work->mw;
	uint8_t *used = &mw->used[TAG(work->rkey) / 8];
	uint8_t bit = (uint8_t)(1u << TAG(work->rkey) % 8);

	fake.counts.binds++;
	if (!may_bind(qp, mw, work))
		return IBV_WC_MW_BIND_ERR;
	if (*used & bit)
		fake_fault("the key %#x of a window comes again", work->rkey);
	*used |= bit;
	mw->key = work->rkey;
	mw->bound = true;
	mw->mr = (struct fake_mr *)work->bind.mr;
	mw->mr->windows++;
	leave(mw);
	mw->qp = qp;
	LIST_INSERT_HEAD(&qp->windows, mw, link);
	mw->addr = work->bind.addr;
	mw->length = work->bind.length;
	mw->access = work->bind.mw_access_flags;
	fake.live.bound++;
	return IBV_WC_SUCCESS;
}

enum ibv_wc_status fake_memory_invalidate(struct fake_qp *qp, uint32_t rkey)
{
	struct fake_key *key = find_key(rkey);
	struct fake_mw *mw = key ? key->mw : NULL;

	fake.counts.invalidations++;
	if (!mw || mw->key != rkey || !mw->bound || mw->qp != qp)
		return IBV_WC_LOC_QP_OP_ERR;
	if (fake.rules.window_revocation) {
		unbind(mw);
	} else {
		mw->leaky = true;
		mw->bound = false;
		fake.live.bound--;
	}
	return IBV_WC_SUCCESS;
}

void fake_memory_forget(struct fake_qp *qp)
{
	struct fake_mw *mw;

	while ((mw = LIST_FIRST(&qp->windows))) {
		fake_fault("a queue pair goes before a %s window of it",
			   mw->bound ? "bound" : "spare");
		leave(mw);
	}
}

/* ---- access */

void *fake_memory_local(const struct fake_qp *qp, const struct ibv_sge *sge, bool written)
{
	struct fake_key *key = find_key(sge->lkey);
	struct fake_mr *mr = key ? key->mr : NULL;

	if (!mr || mr->verbs.lkey != sge->lkey || mr->verbs.pd != qp->verbs.pd)
		return NULL;
	if (written && !(mr->access & IBV_ACCESS_LOCAL_WRITE))
		return NULL;
	if (!within(sge->addr, sge->length, mr->iova, mr->verbs.length))
		return NULL;
	return (char *)mr->verbs.addr + (sge->addr - mr->iova);
}

static bool window_opens(const struct fake_qp *qp, const struct fake_mw *mw, uint64_t addr,
			 size_t len)
{
	if (!mw->bound && !mw->leaky)
		return false;
	if (fake.rules.window_foreign && mw->qp != qp)
		return false;
	return !fake.rules.window_bounds || within(addr, len, mw->addr, mw->length);
}

/* Where the device does not look which they are, any remote right is as good as all. */
static unsigned int rights(unsigned int access, bool enforced)
{
	return enforced || !(access & ANY_ACCESS) ? access : access | ANY_ACCESS;
}

void *fake_memory_remote(const struct fake_qp *qp, uint64_t addr, size_t len, uint32_t rkey,
			 bool written)
{
	unsigned int needed = written ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;
	struct fake_key *key = find_key(rkey);
	struct fake_mr *mr = key ? key->mr : NULL;
	struct fake_mw *mw = key ? key->mw : NULL;
	unsigned int access;

	if (mw && mw->key == rkey && window_opens(qp, mw, addr, len)) {
		mr = mw->mr;
		access = rights(mw->access, fake.rules.window_access);
	} else if (mr && mr->verbs.rkey == rkey) {
		access = rights(mr->access, fake.rules.region_access);
	} else {
		return NULL;
	}
	if (!(access & needed) || !(qp->access & needed) || mr->verbs.pd != qp->verbs.pd)
		return NULL;
	if (!within(addr, len, mr->iova, mr->verbs.length))
		return NULL;
	return (char *)mr->verbs.addr + (addr - mr->iova);
}
