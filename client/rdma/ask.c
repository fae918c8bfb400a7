/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys are asked for side by side: the server has no request for many, and one after the other they
 * take as many round trips as there are allocations.
 */
#include <stdio.h>
#include <string.h>

#include "client/rdma/internal.h"

static void *ask(void *arg)
{
	struct maas_rdma_client_ask *one = arg;

	maas_error_clear();
	one->error = maas_rdma_client_grant_ask(one->rdma, &one->id, one->deadline_ms);
	snprintf(one->words, sizeof(one->words), "%s", maas_error());
	return NULL;
}

static bool is_among(const struct maas_rdma_client_ask *asks, uint32_t count,
		     const struct maas_rdma_client_id *id)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(&asks[i].id, id, sizeof(*id)) == 0)
			return true;
	return false;
}

uint32_t maas_rdma_client_asks_find(struct maas_rdma_client *rdma,
				    const struct maas_rdma_client_op *op,
				    struct maas_rdma_client_ask asks[MAAS_RDMA_ASKS])
{
	/* Others want a connection, too: the session's lease above all. */
	uint32_t spare = rdma->maas->options.max_connections;
	uint32_t most = spare > 3 ? spare - 2 : 1;
	const struct maas_rdma_client_range *range = maas_rdma_client_missing(rdma, op, op->ranges);
	uint32_t count = 0;

	if (most > MAAS_RDMA_ASKS)
		most = MAAS_RDMA_ASKS;
	while (range) {
		if (!is_among(asks, count, &range->id)) {
			asks[count] = (struct maas_rdma_client_ask){.rdma = rdma, .id = range->id};
			if (++count >= most)
				break;
		}
		range = maas_rdma_client_missing(rdma, op, range + 1);
	}
	return count;
}

void maas_rdma_client_asks_run(struct maas_rdma_client_ask *asks, uint32_t count,
			       uint64_t deadline_ms)
{
	for (uint32_t i = 0; i < count; i++)
		asks[i].deadline_ms = deadline_ms;
	for (uint32_t i = 1; i < count; i++)
		asks[i].beside = !maas_thread_start(&asks[i].thread, ask, &asks[i]);
	for (uint32_t i = 0; i < count; i++)
		if (!asks[i].beside)
			ask(&asks[i]);
	for (uint32_t i = 0; i < count; i++)
		if (asks[i].beside)
			pthread_join(asks[i].thread, NULL);
}
