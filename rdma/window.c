/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys by type-2B memory windows, each bound on its session's queue pair over an extent's region.
 * They are allocated after their queue pair and kept for the next grant, because to make one is
 * slow on real devices.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

#define SPARE	     16384 /* windows that are kept for the next grants, or an eighth of the device's */

#define WRITE_ACCESS (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

struct maas_rdma_window {
	SLIST_ENTRY(maas_rdma_window) link;
	struct ibv_mw *mw;
	uint32_t rkey; /* the last that it was bound with */
	uint32_t binds;
};

static struct maas_ratelimit no_window =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: cannot allocate a memory window");
static struct maas_ratelimit stuck =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: cannot free a memory window");

static struct maas_rdma_grant *grant_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct maas_rdma_grant, work.task);
}

MAAS_COLD static int new_window(struct maas_rdma_conn *conn, struct maas_rdma_window **ret_window)
{
	struct maas_rdma_window *window = calloc(1, sizeof(*window));
	int r;

	if (!window)
		return -ENOMEM;
	window->mw = ibv_alloc_mw(conn->pd, IBV_MW_TYPE_2);
	if (!window->mw) {
		r = -errno;
		log_limited(&no_window,
			    "rdma: cannot allocate a memory window: %s; the device has %d",
			    strerror(-r), conn->rdma->device->attr.max_mw);
		free(window);
		return r == -EIO || r == -ENODEV ? r : -EMLINK;
	}
	window->rkey = window->mw->rkey;
	*ret_window = window;
	return 0;
}

/* False: it may still be bound. */
static bool free_window(struct maas_rdma_window *window)
{
	int err = ibv_dealloc_mw(window->mw);

	if (err) {
		log_limited(&stuck, "rdma: cannot free a memory window: %s", strerror(err));
		return false;
	}
	free(window);
	return true;
}

static void keep(struct maas_rdma_conn *conn, struct maas_rdma_window_list *list,
		 struct maas_rdma_window *window)
{
	SLIST_INSERT_HEAD(list, window, link);
	conn->rdma->num_windows++;
}

static struct maas_rdma_window *take(struct maas_rdma_conn *conn,
				     struct maas_rdma_window_list *list)
{
	struct maas_rdma_window *window = SLIST_FIRST(list);

	if (window) {
		SLIST_REMOVE_HEAD(list, link);
		conn->rdma->num_windows--;
	}
	return window;
}

static int free_windows(struct maas_rdma_conn *conn, struct maas_rdma_window_list *list)
{
	for (unsigned int i = 0; !SLIST_EMPTY(list); i++) {
		struct maas_rdma_window *window;

		if (i == MAAS_RDMA_STEP)
			return -EAGAIN;
		window = take(conn, list);
		if (!free_window(window)) {
			keep(conn, list, window);
			return -EBUSY;
		}
	}
	return 0;
}

int maas_rdma_windows_free(struct maas_rdma_conn *conn)
{
	int r = free_windows(conn, &conn->windows);

	return r ? r : free_windows(conn, &conn->retired);
}

/* ---- bind */

static void bound(struct maas_rdma_task *task, int status)
{
	maas_rdma_grant_made(grant_of(task), status == IBV_WC_SUCCESS ? 0 : -EIO);
}

static void bind_window(struct maas_rdma_grant *grant, struct maas_rdma_window *window,
			struct ibv_mr *mr)
{
	struct ibv_send_wr *wr = &grant->work.wr;

	/* The provider names the window by its last key; only ibv_bind_mw(3) sets it. */
	window->mw->rkey = window->rkey;
	window->rkey = ibv_inc_rkey(window->rkey);
	window->binds++;
	grant->window = window;
	grant->rkey = window->rkey;
	wr->opcode = IBV_WR_BIND_MW;
	wr->invalidate_rkey = 0; /* rxe's provider looks at it here, too */
	wr->bind_mw.mw = window->mw;
	wr->bind_mw.rkey = window->rkey;
	wr->bind_mw.bind_info.mr = mr;
	wr->bind_mw.bind_info.addr = grant->offset;
	wr->bind_mw.bind_info.length = grant->len_bytes;
	wr->bind_mw.bind_info.mw_access_flags =
		grant->access == MAAS_LEND_ACCESS_WRITE ? WRITE_ACCESS : IBV_ACCESS_REMOTE_READ;
	grant->work.task.run = bound;
	maas_rdma_conn_post(grant->conn, &grant->work);
}

static void bind_new(struct maas_rdma_grant *grant, struct ibv_mr *mr)
{
	struct maas_rdma_window *window;
	int r = new_window(grant->conn, &window);

	if (r)
		maas_rdma_grant_made(grant, r);
	else
		bind_window(grant, window, mr);
}

void maas_rdma_window_bind(struct maas_rdma_grant *grant)
{
	struct ibv_mr *mr = maas_rdma_extent_find(grant->rdma->extents, grant->offset);
	struct maas_rdma_window *window;

	if (!mr) {
		maas_rdma_grant_await_extent(grant);
		return;
	}
	window = take(grant->conn, &grant->conn->windows);
	if (window)
		bind_window(grant, window, mr);
	else
		bind_new(grant, mr);
}

/* ---- kill */

/* A client that once had many keys must not keep the device's windows from the others. */
static bool has_room(const struct maas_rdma *rdma)
{
	int device = rdma->device->attr.max_mw;

	return rdma->num_windows < SPARE &&
	       (device <= 0 || rdma->num_windows < (uint32_t)device / 8);
}

static void invalidated(struct maas_rdma_task *task, int status)
{
	struct maas_rdma_grant *grant = grant_of(task);
	struct maas_rdma_window *window = grant->window;

	/* Flushed, it may have taken effect or not: the connection ends, and that settles it. */
	if (status != IBV_WC_SUCCESS) {
		maas_rdma_grant_killed(grant, -EIO);
		return;
	}
	grant->window = NULL;
	/* After too many binds its key would come again. */
	if (window->binds < MAAS_RDMA_BINDS && has_room(grant->rdma))
		keep(grant->conn, &grant->conn->windows, window);
	else if (!free_window(window))
		keep(grant->conn, &grant->conn->retired, window);
	maas_rdma_grant_killed(grant, 0);
}

void maas_rdma_window_kill(struct maas_rdma_grant *grant)
{
	grant->work.wr.opcode = IBV_WR_LOCAL_INV;
	grant->work.wr.invalidate_rkey = grant->rkey;
	grant->work.task.run = invalidated;
	maas_rdma_conn_post(grant->conn, &grant->work);
}

bool maas_rdma_window_destroy(struct maas_rdma_grant *grant)
{
	if (!free_window(grant->window))
		return false;
	grant->window = NULL;
	return true;
}
