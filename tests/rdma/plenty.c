/* SPDX-License-Identifier: Apache-2.0 */
/* Many grants at once, all of which are good; what comes behind --max-grants is in the unit tests.
 */
#include <stdlib.h>

#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB  1024
#define BATCH 10000u
#define TRIED 200

static uint32_t batch_of(uint64_t left)
{
	return left < BATCH ? (uint32_t)left : BATCH;
}

/* Not the first and last only: any. */
static void use_and_check(struct borrower *borrower, const struct raw_key *keys, uint64_t count)
{
	uint64_t random = maas_test_seed();
	uint64_t picked[TRIED];

	for (size_t i = 0; i < TRIED; i++) {
		picked[i] = i == 0 ? 0 : i == 1 ? count - 1 : test_random_below(&random, count);
		must_fill(&borrower->link, &keys[picked[i]], (uint8_t)(picked[i] % 251));
	}
	for (size_t i = 0; i < TRIED; i++)
		must_hold(&borrower->link, &keys[picked[i]], (uint8_t)(picked[i] % 251),
			  "one of many");
}

void plenty_grants(const char *keys)
{
	uint64_t count = count_device_grants();
	struct raw_key *all = calloc(count, sizeof(*all));
	struct borrower other;
	struct borrower many;
	struct raw_key key;
	uint64_t started_ms;

	require(all, "out of memory");
	server_start(keys, "--slab-sizes 1KiB --extent-size 1MiB --max-pool-size 256MiB "
			   "--max-grants 200000");
	borrower_open(&many, SLAB);
	borrower_open(&other, SLAB);
	started_ms = maas_clock_ms();
	for (uint64_t i = 0; i < count; i += BATCH) {
		uint32_t n = batch_of(count - i);
		int status = raw_alloc_many(many.http, &many.session, SLAB, n, &all[i]);

		require(status == 200, "grant %llu and %u more: %d %s", (unsigned long long)i, n,
			status, raw_error(many.http));
	}
	note("%llu grants", (unsigned long long)count);
	note_time("granted", started_ms);
	require_equal(server_metric("maas_rdma_grants"), count, "maas_rdma_grants");
	use_and_check(&many, all, count);
	borrower_alloc(&other, SLAB, &key);
	must_fill(&other.link, &key, 0x22);
	must_hold(&other.link, &key, 0x22, "another session's bytes beside them");
	borrower_free(&other, &key);

	started_ms = maas_clock_ms();
	for (uint64_t i = 0; i < count / 2; i += BATCH)
		require_equal(raw_free_many(many.http, &all[i], batch_of(count / 2 - i)), 200,
			      "POST /free");
	note_time("half freed", started_ms);
	require_equal(server_metric("maas_rdma_grants"), count - count / 2, "maas_rdma_grants");
	use_and_check(&many, all + count / 2, count - count / 2);
	started_ms = maas_clock_ms();
	borrower_end(&many);
	note_time("session ended", started_ms);
	server_await("maas_rdma_grants", 0, 5000);
	borrower_end(&other);
	server_stop();
	free(all);
}
