/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the device may use: slots of our own, through which small transfers are copied, and
 * callers' registered buffers, found by address.
 */
#ifndef MAAS_CLIENT_RDMA_MEMORY_H
#define MAAS_CLIENT_RDMA_MEMORY_H

#include <infiniband/verbs.h>

#include "client/internal.h"

/* ---- slots */

enum {
	MAAS_SLOT_SMALL,
	MAAS_SLOT_LARGE,
	MAAS_SLOT_KINDS,
};

struct maas_rdma_client_slot {
	struct maas_rdma_client_slot *next;
	unsigned int kind;
	char *at;
	char *to; /* a read: where the bytes go when they are there */
	size_t len;
};

struct maas_rdma_client_slots {
	char *memory;
	struct ibv_mr *mr;
	struct maas_rdma_client_slot *all;
	struct maas_rdma_client_slot *idle[MAAS_SLOT_KINDS];		   /* holds `lock` */
	_Atomic(struct maas_rdma_client_slot *) returned[MAAS_SLOT_KINDS]; /* any thread */
};

/* Bytes up to this size go through slots, others are registered for the operation. */
#define MAAS_RDMA_COPY (64u << 10)

MAAS_MUST_CHECK int maas_rdma_client_slots_init(struct maas_rdma_client_slots *slots,
						struct ibv_pd *pd);
void maas_rdma_client_slots_fini(struct maas_rdma_client_slots *slots);
/* Holds `lock`. A slot for `len` bytes, MAAS_RDMA_COPY at most; NULL: none is free. */
MAAS_MUST_CHECK struct maas_rdma_client_slot *
maas_rdma_client_slot_get(struct maas_rdma_client_slots *slots, size_t len);
/* Any thread. All of a chain, which is empty then. */
void maas_rdma_client_slots_put(struct maas_rdma_client_slots *slots,
				struct maas_rdma_client_slot **chain);

/* ---- callers' registered buffers. Holds `lock`. */

struct maas_rdma_client_regions {
	struct maas_buffer **sorted;
	const struct maas_buffer *last; /* found; NULL: none */
	size_t count;
	size_t room;
};

static inline bool maas_rdma_client_holds(const struct maas_buffer *buffer, const void *at,
					  size_t len)
{
	size_t before = (uintptr_t)at - buffer->base;

	return before < buffer->len && len <= buffer->len - before;
}

/* See maas_rdma_client_region_find(). */
MAAS_MUST_CHECK const struct ibv_mr *
maas_rdma_client_region_seek(struct maas_rdma_client_regions *regions, const void *at, size_t len);

/* The region of the buffer that holds these bytes, or NULL. Most operations use the buffer of the
 * one before. */
MAAS_MUST_CHECK static inline const struct ibv_mr *
maas_rdma_client_region_find(struct maas_rdma_client_regions *regions, const void *at, size_t len)
{
	if (regions->last && maas_rdma_client_holds(regions->last, at, len))
		return regions->last->mr;
	return maas_rdma_client_region_seek(regions, at, len);
}

/* Registers memory; a failure is told in a sentence. Errors: -ENOMEM, -EFAULT. */
MAAS_MUST_CHECK int maas_rdma_client_register(struct ibv_pd *pd, void *base, size_t len,
					      bool written, struct ibv_mr **ret_mr);
void maas_rdma_client_deregister(struct ibv_mr *mr); /* NULL is allowed */

#endif
