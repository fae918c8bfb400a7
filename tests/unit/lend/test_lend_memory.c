/* SPDX-License-Identifier: Apache-2.0 */
/* What a million allocations cost beside their bytes, and how long housekeeping takes for them. */
#include "tests/unit/lend/lend_fixture.h"

#define LIVE	    1000000u
#define BUDGET_KIB  (64ull * 1024) /* of resident memory, for a million live allocations */
#define SLAB_BYTES  64u
#define LENT_KIB    (LIVE * SLAB_BYTES / 1024)
#define LAPSE_MS    20000u	   /* far above what it takes: a step that is not constant fails */
#define REQUEST_KIB (56ull * 1024) /* of a million remembered request ids */
#define BATCH_KIB   (14ull * 1024) /* of a hundred, with a million allocations */

static uint64_t status_kib(const char *field)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[128];

	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, field, strlen(field)))
			kib = strtoull(line + strlen(field), NULL, 10);
	fclose(status);
	return kib;
}

/* The resident bytes, without those of the lent slabs that are resident. */
static uint64_t beside_kib(void)
{
	uint64_t shared_kib = status_kib("RssShmem:");

	return status_kib("VmRSS:") - (shared_kib < LENT_KIB ? shared_kib : LENT_KIB);
}

static void allocate_million(const struct maas_lend_alloc_request *request)
{
	struct maas_lend_alloc_request batch = *request;

	batch.size_bytes = SLAB_BYTES;
	if (!batch.count)
		batch.count = MAAS_SLAB_MAX_BATCH;
	for (unsigned int i = 0; i < LIVE / batch.count; i++) {
		if (request->request_id)
			batch.request_id = numbered("request-", i);
		allocate_as(batch);
	}
	assert_int_equal(live_slabs(), LIVE);
}

TEST(memory__of_a_million)
{
	static const struct {
		const char *name;
		struct maas_lend_alloc_request request;
		uint64_t budget_kib;
	} cases[] = {
		{"plain", {0}, BUDGET_KIB},
		{"owner", {.owner = "tsdb"}, BUDGET_KIB},
		{"ttl", {.lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 60}, BUDGET_KIB},
		{"request ids", {.request_id = "", .count = 1}, BUDGET_KIB + REQUEST_KIB},
		{"request ids of batches", {.request_id = ""}, BUDGET_KIB + BATCH_KIB},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		uint64_t before_kib = beside_kib();
		uint64_t used_kib;

		fixture_open(LIVE * SLAB_BYTES + (8u << 20), NULL, NULL);
		allocate_million(&cases[i].request);
		used_kib = beside_kib() - before_kib;
		print_message("%s: %llu KiB\n", cases[i].name, (unsigned long long)used_kib);
		assert_true(used_kib <= cases[i].budget_kib);
		fixture_close();
	}
}

TEST(lapse__of_a_million_at_once)
{
	fixture_reopen(LIVE * SLAB_BYTES + (8u << 20));
	const struct maas_lend_alloc_request request = {.lifetime = MAAS_LEND_LIFETIME_TTL,
							.ttl_s = 5};
	uint64_t start_ms, took_ms;

	allocate_million(&request);
	pass_ms(4900);
	assert_int_equal(live_slabs(), LIVE);
	start_ms = maas_clock_ms();
	/* A tick ends so many that the other work of housekeeping has its turn. */
	for (int ticks = 0; ticks < 10 && live_slabs(); ticks++)
		pass_ms(100);
	took_ms = maas_clock_ms() - start_ms;
	print_message("a million lapsed in %llu ms\n", (unsigned long long)took_ms);
	assert_int_equal(live_slabs(), 0);
	assert_int_equal(lend_stats().lapsed_allocations, LIVE);
	assert_true(took_ms < LAPSE_MS);
}

TEST_MAIN(NULL, fixture_teardown)
