/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the thread counts, put together for whoever asks. The counters are atomics with one writer.
 */
#include <string.h>

#include "rdma/internal.h"

void maas_rdma_time_find(struct maas_rdma_times *times, uint64_t ns)
{
	unsigned int bucket = 0;

	while (bucket < MAAS_LEND_KEY_BUCKETS && ns > maas_lend_key_bounds_ns[bucket])
		bucket++;
	times->last_ns = ns;
	times->last_bucket = bucket;
}

static uint64_t load(const _Atomic uint64_t *figure)
{
	return atomic_load_explicit(figure, memory_order_relaxed);
}

static void copy_times(const struct maas_rdma_times *times, struct maas_lend_key_times *ret)
{
	for (unsigned int i = 0; i <= MAAS_LEND_KEY_BUCKETS; i++)
		ret->buckets[i] = load(&times->buckets[i]);
	ret->sum_ns = load(&times->sum_ns);
}

static const char *const reject_names[MAAS_RDMA_REASONS] = {
	[MAAS_WIRE_VERSION_UNKNOWN] = "version", [MAAS_WIRE_TICKET_UNKNOWN] = "ticket",
	[MAAS_WIRE_DEVICE] = "device",		 [MAAS_WIRE_RESOURCES] = "resources",
	[MAAS_WIRE_ENDING] = "ending",
};

void maas_rdma_stats(struct maas_rdma *rdma, struct maas_lend_key_stats *ret_stats)
{
	const struct maas_rdma_figures *figures = &rdma->figures;
	unsigned int at = 0;

	memset(ret_stats, 0, sizeof(*ret_stats));
	ret_stats->state = atomic_load(&rdma->failed) ? "failed" : "active";
	ret_stats->connecting = load(&figures->conns[MAAS_RDMA_CONN_WAITING]) +
				load(&figures->conns[MAAS_RDMA_CONN_CONNECTING]);
	ret_stats->connected = load(&figures->conns[MAAS_RDMA_CONN_LIVE]);
	ret_stats->ending = load(&figures->conns[MAAS_RDMA_CONN_ENDING]);
	ret_stats->grants = load(&rdma->num_grants);
	maas_rdma_extents_progress(rdma->extents, &ret_stats->registered_bytes,
				   &ret_stats->wanted_bytes);
	copy_times(&figures->bind, &ret_stats->bind);
	copy_times(&figures->revoke, &ret_stats->revoke);
	/* At 0, too: rate() does not see what a series begins with. */
	for (unsigned int i = IBV_WC_SUCCESS + 1; i < MAAS_RDMA_STATUSES; i++)
		ret_stats->errors[at++] = (struct maas_lend_key_count){
			ibv_wc_status_str((enum ibv_wc_status)i), load(&figures->errors[i])};
	at = 0;
	for (unsigned int i = 0; i < MAAS_RDMA_REASONS; i++)
		if (reject_names[i])
			ret_stats->rejects[at++] = (struct maas_lend_key_count){
				reject_names[i], load(&figures->rejects[i])};
}
