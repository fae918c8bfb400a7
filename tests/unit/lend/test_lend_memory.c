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

/* What is resident beside the lent bytes, as far as those are resident. */
static uint64_t beside_kib(void)
{
	uint64_t shared_kib = status_kib("RssShmem:");

	return status_kib("VmRSS:") - (shared_kib < LENT_KIB ? shared_kib : LENT_KIB);
}

static void allocate_million(struct fixture *f, const struct maas_lend_alloc_request *request)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct maas_lend_alloc_request batch = *request;
	struct maas_lend_allocation first;
	char id[32];

	batch.size_bytes = SLAB_BYTES;
	if (!batch.count)
		batch.count = MAAS_SLAB_MAX_BATCH;
	for (unsigned int i = 0; i < LIVE / batch.count; i++) {
		snprintf(id, sizeof(id), "request-%u", i);
		if (request->request_id)
			batch.request_id = id;
		assert_int_equal(maas_lend_allocate(f->lend, &batch, refs, &first), 0);
	}
	assert_int_equal(live_slabs(f), LIVE);
}

static void memory__of_a_million(void **state)
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

	(void)state;
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		uint64_t before_kib = beside_kib();
		struct fixture f = fixture_open(LIVE * SLAB_BYTES + (8u << 20), NULL, NULL);
		uint64_t used_kib;

		allocate_million(&f, &cases[i].request);
		used_kib = beside_kib() - before_kib;
		print_message("%s: %llu KiB\n", cases[i].name, (unsigned long long)used_kib);
		assert_true(used_kib <= cases[i].budget_kib);
		maas_lend_close(f.lend);
		maas_slab_close(f.slab);
	}
}

static void lapse__of_a_million_at_once(void **state)
{
	struct fixture f = fixture_open(LIVE * SLAB_BYTES + (8u << 20), NULL, NULL);
	const struct maas_lend_alloc_request request = {.lifetime = MAAS_LEND_LIFETIME_TTL,
							.ttl_s = 5};
	uint64_t start_ms;
	uint64_t took_ms;

	(void)state;
	allocate_million(&f, &request);
	pass_ms(&f, 4900);
	assert_int_equal(live_slabs(&f), LIVE);
	start_ms = maas_clock_ms();
	pass_ms(&f, 100);
	took_ms = maas_clock_ms() - start_ms;
	print_message("a million lapsed in %llu ms\n", (unsigned long long)took_ms);
	assert_int_equal(live_slabs(&f), 0);
	assert_int_equal(lend_stats(&f).lapsed_allocations, LIVE);
	assert_true(took_ms < LAPSE_MS);
	fixture_close(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory__of_a_million),
		cmocka_unit_test(lapse__of_a_million_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
