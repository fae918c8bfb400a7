/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the device may use: callers' registered buffers, found by address, and slots of our
 * own for other bytes. `lock` guards finding and taking; slots are given back
 * without a lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "client/rdma/internal.h"

/* ---- registration */

static int fail_register(size_t len, int error)
{
	struct rlimit limit = {0};

	if (error == EFAULT)
		return maas_fail(-EFAULT,
				 "cannot pin %zu bytes: not all of them are memory that "
				 "may be written",
				 len);
	if (error != ENOMEM && error != EAGAIN)
		return maas_fail(-error, "cannot pin %zu bytes: %s", len, strerror(error));
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		return maas_fail(-ENOMEM, "cannot pin %zu bytes: out of memory", len);
	return maas_fail(-ENOMEM,
			 "cannot pin %zu bytes: the limit of locked memory is %llu KiB; raise it "
			 "with \"ulimit -l unlimited\", for a systemd service with "
			 "LimitMEMLOCK=infinity",
			 len, (unsigned long long)(limit.rlim_cur >> 10));
}

int maas_rdma_client_register(struct ibv_pd *pd, void *base, size_t len, bool written,
			      struct ibv_mr **ret_mr)
{
	/* Memory that is only read by the device may be read-only. */
	struct ibv_mr *mr = ibv_reg_mr(pd, base, len, written ? IBV_ACCESS_LOCAL_WRITE : 0);

	if (!mr)
		return fail_register(len, errno ? errno : ENOMEM);
	*ret_mr = mr;
	return 0;
}

void maas_rdma_client_deregister(struct ibv_mr *mr)
{
	int error = mr ? ibv_dereg_mr(mr) : 0;

	if (error)
		log_err("rdma: cannot deregister memory: %s", strerror(error));
}

/* ---- buffers by address */

/* The first that does not lie below `at`. */
static size_t seek(const struct maas_rdma_client_regions *regions, uintptr_t at)
{
	size_t low = 0;
	size_t high = regions->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct maas_buffer *buffer = regions->sorted[middle];

		if (buffer->base + (buffer->len - 1) < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct ibv_mr *maas_rdma_client_region_seek(struct maas_rdma_client_regions *regions,
						  const void *at, size_t len)
{
	size_t index = seek(regions, (uintptr_t)at);

	if (index == regions->count || !maas_rdma_client_holds(regions->sorted[index], at, len))
		return NULL;
	regions->last = regions->sorted[index];
	return regions->last->mr;
}

/* Holds the lock. */
static int insert(struct maas_rdma_client_regions *regions, struct maas_buffer *buffer)
{
	size_t index;

	if (regions->count == regions->room) {
		size_t room = regions->room ? 2 * regions->room : 8;
		struct maas_buffer **sorted =
			realloc(regions->sorted, room * sizeof(struct maas_buffer *));

		if (!sorted)
			return maas_fail(-ENOMEM, "out of memory");
		regions->sorted = sorted;
		regions->room = room;
	}
	index = seek(regions, buffer->base);
	memmove(&regions->sorted[index + 1], &regions->sorted[index],
		(regions->count - index) * sizeof(struct maas_buffer *));
	regions->sorted[index] = buffer;
	regions->count++;
	return 0;
}

int maas_rdma_client_pin(struct maas *maas, struct maas_buffer *buffer)
{
	struct maas_rdma_client *rdma = maas->rdma;
	int r;

	r = maas_rdma_client_register(rdma->device.pd, (void *)buffer->base, buffer->len, true,
				      &buffer->mr);
	if (r)
		return r;
	maas_lock_take(&rdma->lock);
	r = insert(&rdma->regions, buffer);
	maas_lock_release(&rdma->lock);
	if (r)
		maas_rdma_client_deregister(buffer->mr);
	return r;
}

/* Holds the lock. Whether an operation that is not done has bytes in the buffer. */
static bool is_used(const struct maas_rdma_client *rdma, const struct maas_buffer *buffer)
{
	for (uint32_t i = 0; i < atomic_load(&rdma->ops_used); i++) {
		const struct maas_rdma_client_op *op = &rdma->ops[i];
		unsigned int state = atomic_load(&op->state);

		if (state != MAAS_OP_QUEUED && state != MAAS_OP_POSTED)
			continue;
		for (const struct maas_rdma_client_range *range = op->ranges; range < op->end;
		     range++)
			if (maas_rdma_client_holds(buffer, range->buf, range->len))
				return true;
	}
	return false;
}

int maas_rdma_client_unpin(struct maas *maas, struct maas_buffer *buffer)
{
	struct maas_rdma_client *rdma = maas->rdma;
	struct maas_rdma_client_regions *regions = &rdma->regions;
	size_t index;
	int r = 0;

	maas_lock_take(&rdma->lock);
	if (is_used(rdma, buffer)) {
		r = -EBUSY;
	} else {
		index = seek(regions, buffer->base);
		regions->count--;
		regions->last = NULL;
		memmove(&regions->sorted[index], &regions->sorted[index + 1],
			(regions->count - index) * sizeof(struct maas_buffer *));
	}
	maas_lock_release(&rdma->lock);
	if (!r)
		maas_rdma_client_deregister(buffer->mr);
	return r;
}

/* ---- slots */

/* 2 MiB in all, so that the usual limit of 8 MiB of locked memory leaves room for the rest. */
static const struct kind {
	size_t bytes;
	size_t count;
} kinds[MAAS_SLOT_KINDS] = {
	[MAAS_SLOT_SMALL] = {4u << 10, 128},
	[MAAS_SLOT_LARGE] = {MAAS_RDMA_COPY, 24},
};

static size_t all_bytes(void)
{
	size_t bytes = 0;

	for (size_t i = 0; i < MAAS_SLOT_KINDS; i++)
		bytes += kinds[i].bytes * kinds[i].count;
	return bytes;
}

static void carve(struct maas_rdma_client_slots *slots)
{
	struct maas_rdma_client_slot *slot = slots->all;
	char *at = slots->memory;

	for (unsigned int kind = 0; kind < MAAS_SLOT_KINDS; kind++) {
		for (size_t i = 0; i < kinds[kind].count; i++, slot++) {
			slot->kind = kind;
			slot->at = at;
			slot->next = slots->idle[kind];
			slots->idle[kind] = slot;
			at += kinds[kind].bytes;
		}
	}
}

int maas_rdma_client_slots_init(struct maas_rdma_client_slots *slots, struct ibv_pd *pd)
{
	size_t count = 0;
	void *memory;

	for (size_t i = 0; i < MAAS_SLOT_KINDS; i++)
		count += kinds[i].count;
	memory =
		mmap(NULL, all_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return maas_fail(-ENOMEM, "out of memory");
	slots->memory = memory;
	slots->all = calloc(count, sizeof(*slots->all));
	if (!slots->all)
		return maas_fail(-ENOMEM, "out of memory");
	carve(slots);
	return maas_rdma_client_register(pd, memory, all_bytes(), true, &slots->mr);
}

void maas_rdma_client_slots_fini(struct maas_rdma_client_slots *slots)
{
	maas_rdma_client_deregister(slots->mr);
	free(slots->all);
	if (slots->memory)
		munmap(slots->memory, all_bytes());
	*slots = (struct maas_rdma_client_slots){0};
}

static struct maas_rdma_client_slot *take(struct maas_rdma_client_slots *slots, unsigned int kind)
{
	struct maas_rdma_client_slot *slot;

	if (!slots->idle[kind])
		slots->idle[kind] = atomic_exchange(&slots->returned[kind], NULL);
	slot = slots->idle[kind];
	if (slot)
		slots->idle[kind] = slot->next;
	return slot;
}

struct maas_rdma_client_slot *maas_rdma_client_slot_get(struct maas_rdma_client_slots *slots,
							size_t len)
{
	struct maas_rdma_client_slot *slot = NULL;

	if (len <= kinds[MAAS_SLOT_SMALL].bytes)
		slot = take(slots, MAAS_SLOT_SMALL);
	if (!slot)
		slot = take(slots, MAAS_SLOT_LARGE);
	if (slot)
		slot->len = len;
	return slot;
}

void maas_rdma_client_slots_put(struct maas_rdma_client_slots *slots,
				struct maas_rdma_client_slot **chain)
{
	struct maas_rdma_client_slot *next = *chain;

	while (next) {
		struct maas_rdma_client_slot *slot = next;

		next = slot->next;
		slot->next = atomic_load(&slots->returned[slot->kind]);
		while (!atomic_compare_exchange_weak(&slots->returned[slot->kind], &slot->next,
						     slot))
			;
	}
	*chain = NULL;
}
