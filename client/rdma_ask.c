/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys are asked for side by side: the server has no request for many, and one after the other they
 * take as many round trips as there are allocations.
 */
#include <stdio.h>
#include <string.h>

#include "client/rdma_internal.h"

static void *ask(void *arg)
{
	struct maas_verbs_ask *one = arg;

	maas_error_clear();
	one->error = maas_verbs_grant_ask(one->verbs, &one->id, one->deadline_ms);
	snprintf(one->words, sizeof(one->words), "%s", maas_error());
	return NULL;
}

static bool is_among(const struct maas_verbs_ask *asks, uint32_t count,
		     const struct maas_verbs_id *id)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(&asks[i].id, id, sizeof(*id)) == 0)
			return true;
	return false;
}

uint32_t maas_verbs_asks_find(struct maas_verbs *verbs, const struct maas_verbs_op *op,
			      struct maas_verbs_ask asks[MAAS_VERBS_ASKS])
{
	/* Others want a connection, too: the session's lease above all. */
	uint32_t spare = verbs->maas->options.max_connections;
	uint32_t most = spare > 3 ? spare - 2 : 1;
	const struct maas_verbs_range *range = maas_verbs_missing(verbs, op, op->ranges);
	uint32_t count = 0;

	if (most > MAAS_VERBS_ASKS)
		most = MAAS_VERBS_ASKS;
	while (range) {
		if (!is_among(asks, count, &range->id)) {
			asks[count] = (struct maas_verbs_ask){.verbs = verbs, .id = range->id};
			if (++count >= most)
				break;
		}
		range = maas_verbs_missing(verbs, op, range + 1);
	}
	return count;
}

void maas_verbs_asks_run(struct maas_verbs_ask *asks, uint32_t count, uint64_t deadline_ms)
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
