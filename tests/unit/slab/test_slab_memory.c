/* SPDX-License-Identifier: Apache-2.0 */
/* What a million live slabs cost beside the bytes that are lent. */
#include "tests/unit/slab/slab_fixture.h"

#define LIVE	     1000000
#define POOL_BYTES   (1024 * MIB)
#define RECORD_BYTES 32
#define MAX_BESIDE   (40 * MIB)

/* Resident bytes of the process, without the mappings in [skip, skip + len). */
static uint64_t resident_bytes(const uint8_t *skip, uint64_t len)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	bool is_counted = true;
	uint64_t resident = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		char *end;
		uint64_t from = strtoull(line, &end, 16);

		if (end != line && *end == '-')
			is_counted = from < (uintptr_t)skip ||
				     strtoull(end + 1, NULL, 16) > (uintptr_t)skip + len;
		else if (!strncmp(line, "Rss:", 4) && is_counted)
			resident += strtoull(line + 4, NULL, 10) * KIB;
	}
	fclose(file);
	return resident;
}

TEST(memory__a_million_slabs_cost_a_record_each)
{
	uint64_t before = resident_bytes(NULL, 0);
	struct maas_slab *slab = POOL(POOL_BYTES, 4 * MIB, KIB, 2 * KIB, 4 * MIB);
	struct maas_slab_info info = pool_get(slab, pool_alloc(slab, KIB));
	const uint8_t *arena = info.bytes - info.offset;
	uint64_t beside = resident_bytes(arena, POOL_BYTES) - before;

	print_message("beside the arena, 1 live: %llu KiB\n", beside / KIB);
	assert_in_range(beside, 0, 2 * MIB); /* nothing is spent on slabs that nobody asked for */

	for (int i = 1; i < LIVE; i++) {
		info = pool_get(slab, pool_alloc(slab, KIB));
		info.bytes[0] = 1;
	}
	beside = resident_bytes(arena, POOL_BYTES) - before;
	print_message("beside the arena, %d live: %llu KiB\n", LIVE, beside / KIB);
	assert_in_range(beside, MIB, MAX_BESIDE);
	assert_in_range(beside / LIVE, 1, RECORD_BYTES + 4);
	assert_true(resident_bytes(NULL, 0) - before > beside + LIVE * KIB); /* the arena counts */
}

TEST_MAIN(NULL, pools_close)
