/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys by memory regions: in mr mode one for each grant, of exactly its bytes, in its session's own
 * protection domain; in pool mode the extent's, which everybody may use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

static struct maas_ratelimit stuck =
	MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: cannot deregister a grant");

static void register_grant(struct maas_rdma_grant *grant)
{
	unsigned int access = IBV_ACCESS_REMOTE_READ;
	int r = 0;

	if (grant->access == MAAS_LEND_ACCESS_WRITE)
		access |= IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
	grant->rdma->turn_bytes += grant->len_bytes;
	grant->mr = ibv_reg_mr_iova(grant->conn->pd, grant->rdma->area.base + grant->offset,
				    grant->len_bytes, grant->offset, access);
	if (grant->mr)
		grant->rkey = grant->mr->rkey;
	else
		r = maas_rdma_explain("register a grant", grant->len_bytes,
				      errno ? -errno : -ENOMEM);
	maas_rdma_grant_made(grant, r);
}

void maas_rdma_region_make(struct maas_rdma_grant *grant)
{
	struct ibv_mr *mr;

	if (grant->rdma->keys == MAAS_RDMA_KEYS_MR) {
		register_grant(grant);
		return;
	}
	mr = maas_rdma_extent_find(grant->rdma->extents, grant->offset);
	if (!mr) {
		maas_rdma_grant_await_extent(grant);
		return;
	}
	grant->rkey = mr->rkey;
	maas_rdma_grant_made(grant, 0);
}

void maas_rdma_region_kill(struct maas_rdma_grant *grant)
{
	struct maas_rdma_conn *conn = grant->conn;

	if (!grant->mr || maas_rdma_region_destroy(grant)) {
		maas_rdma_grant_killed(grant, 0);
		return;
	}
	maas_rdma_grant_killed(grant, -EIO);
	maas_rdma_conn_end(conn, "a region cannot be deregistered");
}

bool maas_rdma_region_destroy(struct maas_rdma_grant *grant)
{
	int err = ibv_dereg_mr(grant->mr);

	grant->rdma->turn_bytes += grant->len_bytes;
	if (err) {
		log_limited(&stuck, "rdma: cannot deregister a grant: %s", strerror(err));
		return false;
	}
	grant->mr = NULL;
	return true;
}
