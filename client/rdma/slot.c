/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "client/rdma/internal.h"

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
	unsigned int kind = len > kinds[MAAS_SLOT_SMALL].bytes ? MAAS_SLOT_LARGE : MAAS_SLOT_SMALL;
	struct maas_rdma_client_slot *slot = take(slots, kind);

	if (!slot)
		slot = take(slots, kind == MAAS_SLOT_SMALL ? MAAS_SLOT_LARGE : MAAS_SLOT_SMALL);
	if (slot)
		slot->len = len < kinds[slot->kind].bytes ? len : kinds[slot->kind].bytes;
	return slot;
}

void maas_rdma_client_slots_put(struct maas_rdma_client_slots *slots,
				struct maas_rdma_client_slot *chain)
{
	while (chain) {
		struct maas_rdma_client_slot *slot = chain;

		chain = slot->next;
		slot->next = atomic_load(&slots->returned[slot->kind]);
		while (!atomic_compare_exchange_weak(&slots->returned[slot->kind], &slot->next,
						     slot))
			;
	}
}
