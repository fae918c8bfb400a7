/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The regions of the arena. Pinning an extent of a gigabyte takes a second and more, so a thread of
 * its own does that, and nobody's revocation waits for it. A lock guards the extents and is free
 * while one is pinned.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/thread.h"
#include "rdma/internal.h"

#define FAILED_MS 1000 /* a failure is the answer for this long; then it is tried again */

static struct ibv_mr *pin(struct maas_rdma_extents *extents, const struct maas_rdma_extent *extent,
			  int *ret_error)
{
	uint64_t offset = (uint64_t)(extent - extents->extents) * extents->extent_bytes;
	struct ibv_mr *mr = ibv_reg_mr_iova(extents->rdma->pd, extents->rdma->area.base + offset,
					    extents->extent_bytes, offset, extents->access);

	if (!mr)
		*ret_error = maas_rdma_explain("register an extent", extents->extent_bytes,
					       errno ? -errno : -ENOMEM);
	return mr;
}

/* Lock held; not while it pins. */
static void register_one(struct maas_rdma_extents *extents, struct maas_rdma_extent *extent)
{
	struct maas_rdma_task *task;
	struct ibv_mr *mr;
	int error = 0;

	pthread_mutex_unlock(&extents->lock);
	mr = pin(extents, extent, &error);
	atomic_store_explicit(&extent->mr, mr, memory_order_release);
	pthread_mutex_lock(&extents->lock);
	extent->state = mr ? MAAS_RDMA_EXTENT_READY : MAAS_RDMA_EXTENT_FAILED;
	extent->error = error;
	extent->failed_ms = maas_clock_ms();
	if (mr)
		atomic_fetch_add(&extents->registered_bytes, extents->extent_bytes);
	else
		atomic_fetch_sub(&extents->wanted_bytes, extents->extent_bytes);
	while ((task = STAILQ_FIRST(&extent->waiting))) {
		STAILQ_REMOVE_HEAD(&extent->waiting, link);
		if (maas_rdma_send(extents->rdma, task))
			log_debug("rdma: a grant is forgotten, the server ends");
	}
}

static void *run(void *arg)
{
	struct maas_rdma_extents *extents = arg;
	struct maas_rdma_extent *extent;

	pthread_mutex_lock(&extents->lock);
	while (!extents->stop) {
		extent = STAILQ_FIRST(&extents->asked);
		if (!extent) {
			pthread_cond_wait(&extents->changed, &extents->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&extents->asked, link);
		register_one(extents, extent);
	}
	pthread_mutex_unlock(&extents->lock);
	return NULL;
}

/* Lock held. */
static void ask(struct maas_rdma_extents *extents, struct maas_rdma_extent *extent)
{
	extent->state = MAAS_RDMA_EXTENT_ASKED;
	STAILQ_INIT(&extent->waiting);
	STAILQ_INSERT_TAIL(&extents->asked, extent, link);
	atomic_fetch_add(&extents->wanted_bytes, extents->extent_bytes);
	pthread_cond_signal(&extents->changed);
}

int maas_rdma_extents_open(struct maas_rdma *rdma, bool register_all,
			   struct maas_rdma_extents **ret_extents)
{
	uint64_t extent_bytes = rdma->area.extent_bytes;
	uint32_t count = (uint32_t)(rdma->area.bytes / extent_bytes);
	struct maas_rdma_extents *extents =
		calloc(1, sizeof(*extents) + count * sizeof(extents->extents[0]));
	int r;

	if (!extents)
		return -ENOMEM;
	extents->rdma = rdma;
	extents->extent_bytes = extent_bytes;
	extents->count = count;
	extents->access = IBV_ACCESS_LOCAL_WRITE;
	if (rdma->keys == MAAS_RDMA_KEYS_WINDOW)
		extents->access |= IBV_ACCESS_MW_BIND; /* windows are the only doors */
	else
		extents->access |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
	STAILQ_INIT(&extents->asked);
	pthread_mutex_init(&extents->lock, NULL);
	pthread_cond_init(&extents->changed, NULL);
	for (uint32_t i = 0; register_all && i < count; i++)
		ask(extents, &extents->extents[i]);
	r = maas_thread_start(&extents->thread, run, extents);
	extents->running = !r;
	if (r) {
		maas_rdma_extents_close(extents);
		return r;
	}
	*ret_extents = extents;
	return 0;
}

void maas_rdma_extents_stop(struct maas_rdma_extents *extents)
{
	struct maas_rdma_extent *extent;

	if (!extents || !extents->running)
		return;
	pthread_mutex_lock(&extents->lock);
	extents->stop = true;
	pthread_cond_signal(&extents->changed);
	pthread_mutex_unlock(&extents->lock);
	pthread_join(extents->thread, NULL);
	extents->running = false;
	/* Those who wait are told; no server binds windows for them any more. */
	while ((extent = STAILQ_FIRST(&extents->asked))) {
		STAILQ_REMOVE_HEAD(&extents->asked, link);
		extent->state = MAAS_RDMA_EXTENT_FAILED;
		maas_rdma_tasks_run(maas_rdma_tasks_take(&extent->waiting), 0);
	}
}

void maas_rdma_extents_close(struct maas_rdma_extents *extents)
{
	if (!extents)
		return;
	for (uint32_t i = 0; i < extents->count; i++)
		if (extents->extents[i].mr && ibv_dereg_mr(extents->extents[i].mr))
			log_err("rdma: cannot deregister an extent");
	pthread_cond_destroy(&extents->changed);
	pthread_mutex_destroy(&extents->lock);
	free(extents);
}

int maas_rdma_extent_await(struct maas_rdma_extents *extents, uint64_t offset,
			   struct maas_rdma_task *task)
{
	struct maas_rdma_extent *extent = &extents->extents[offset / extents->extent_bytes];
	int r = 0;

	pthread_mutex_lock(&extents->lock);
	if (extent->state == MAAS_RDMA_EXTENT_READY) {
		r = maas_rdma_send(extents->rdma, task);
	} else if (extent->state == MAAS_RDMA_EXTENT_FAILED &&
		   maas_clock_ms() < extent->failed_ms + FAILED_MS) {
		r = extent->error;
	} else {
		if (extent->state != MAAS_RDMA_EXTENT_ASKED)
			ask(extents, extent);
		STAILQ_INSERT_TAIL(&extent->waiting, task, link);
	}
	pthread_mutex_unlock(&extents->lock);
	return r;
}

void maas_rdma_extents_progress(const struct maas_rdma_extents *extents, uint64_t *ret_registered,
				uint64_t *ret_wanted)
{
	*ret_registered = extents ? atomic_load(&extents->registered_bytes) : 0;
	*ret_wanted = extents ? atomic_load(&extents->wanted_bytes) : 0;
}
