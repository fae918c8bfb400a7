/* SPDX-License-Identifier: Apache-2.0 */
/* Latencies of operations, kept one by one; see latency.h. */
#include "cmd/latency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int make_room(struct latency *latency, size_t count)
{
	size_t cap = latency->cap ? latency->cap : 1024;
	uint64_t *ns;

	while (cap - latency->count < count)
		cap *= 2;
	if (cap == latency->cap)
		return 0;
	ns = realloc(latency->ns, cap * sizeof(*ns));
	if (!ns)
		return -ENOMEM;
	latency->ns = ns;
	latency->cap = cap;
	return 0;
}

int latency_add(struct latency *latency, uint64_t ns)
{
	int error = make_room(latency, 1);

	if (!error)
		latency->ns[latency->count++] = ns;
	return error;
}

int latency_merge(struct latency *latency, const struct latency *other)
{
	int error = make_room(latency, other->count);

	if (error)
		return error;
	if (other->count)
		memcpy(latency->ns + latency->count, other->ns, other->count * sizeof(*other->ns));
	latency->count += other->count;
	latency->failed += other->failed;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *left = a;
	const uint64_t *right = b;

	return (*left > *right) - (*left < *right);
}

void latency_sort(struct latency *latency)
{
	if (latency->count)
		qsort(latency->ns, latency->count, sizeof(*latency->ns), compare);
}

uint64_t latency_quantile(const struct latency *latency, double share)
{
	size_t rank;

	if (!latency->count)
		return 0;
	rank = (size_t)(share * (double)latency->count);
	if ((double)rank < share * (double)latency->count)
		rank++;
	return latency->ns[rank ? rank - 1 : 0];
}

void latency_fini(struct latency *latency)
{
	free(latency->ns);
	*latency = (struct latency){0};
}
