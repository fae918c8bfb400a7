/* SPDX-License-Identifier: Apache-2.0 */
/* The edges of a pool's options and of each size class. */
#include "tests/unit/slab/slab_fixture.h"

#define DEFAULT_CLASSES KIB, 2 * KIB, 4 * KIB, 8 * KIB, 512 * KIB, MIB, 4 * MIB

static uint64_t smallest_class_for(const uint64_t *class_bytes, size_t num_classes, uint64_t size)
{
	uint64_t best = 0;

	for (size_t i = 0; i < num_classes; i++) {
		if (class_bytes[i] >= size && (!best || class_bytes[i] < best))
			best = class_bytes[i];
	}
	return best;
}

static void expect_size(struct maas_slab *slab, const uint64_t *class_bytes, size_t num_classes,
			uint64_t size)
{
	uint64_t expected = smallest_class_for(class_bytes, num_classes, size);
	struct maas_slab_info info;

	if (!size || !expected) {
		assert_int_equal(pool_try_alloc(slab, size), size ? -EFBIG : -EINVAL);
		return;
	}
	info = pool_take(slab, size);
	assert_int_equal(info.size_bytes, size);
	assert_int_equal(info.slab_bytes, expected);
	memset(info.bytes, 0xff, info.slab_bytes);
	pool_free(slab, info.ref);
}

static void expect_every_edge(uint64_t max_bytes, uint64_t extent_bytes,
			      const uint64_t *class_bytes, size_t num_classes)
{
	struct maas_slab *slab = pool_open(max_bytes, extent_bytes, class_bytes, num_classes);
	struct maas_slab_stats stats = pool_stats(slab);

	for (size_t i = 0; i < num_classes; i++) {
		for (uint64_t size = class_bytes[i] - 1; size <= class_bytes[i] + 1; size++)
			expect_size(slab, class_bytes, num_classes, size);
		maas_slab_check(slab);
	}
	expect_size(slab, class_bytes, num_classes, 0);
	expect_size(slab, class_bytes, num_classes, 1);
	expect_size(slab, class_bytes, num_classes, UINT64_MAX);

	assert_int_equal(stats.num_classes, num_classes);
	for (size_t i = 1; i < num_classes; i++)
		assert_true(stats.classes[i - 1].slab_bytes < stats.classes[i].slab_bytes);
	pool_close(slab);
}

TEST(alloc__every_class_edge)
{
	uint64_t most[MAAS_SLAB_MAX_CLASSES];

	expect_every_edge(64 * MIB, 0, CLASSES(DEFAULT_CLASSES));
	expect_every_edge(64 * KIB, 4096, CLASSES(64));
	expect_every_edge(MIB, 0, CLASSES(4096, 64, 1024, 128));
	expect_every_edge(MIB, 16384, CLASSES(15680, 192, 4160, 320, 4032, 256));
	expect_every_edge(4 * MIB, MIB, CLASSES(64, MIB - 64, MIB));
	for (size_t i = 0; i < MAAS_SLAB_MAX_CLASSES; i++)
		most[i] = MAAS_SLAB_MIN_CLASS * (MAAS_SLAB_MAX_CLASSES - i);
	expect_every_edge(MIB, 4096, most, MAAS_SLAB_MAX_CLASSES);
}

TEST(alloc__failure_leaves_the_result_alone)
{
	struct maas_slab *slab = POOL(MIB, 4096, 64, 4096);
	struct maas_slab_ref refs[2] = {{7, 8}, {9, 10}};

	assert_int_equal(maas_slab_alloc(slab, 0, &no_label, refs), -EINVAL);
	assert_int_equal(maas_slab_alloc(slab, 4097, &no_label, refs), -EFBIG);
	assert_int_equal(maas_slab_alloc_many(slab, 0, 2, &no_label, refs), -EINVAL);
	assert_int_equal(maas_slab_alloc_many(slab, 4097, 2, &no_label, refs), -EFBIG);
	assert_int_equal(maas_slab_alloc_many(slab, 64, 0, &no_label, refs), -EINVAL);
	assert_int_equal(maas_slab_alloc_many(slab, 64, MAAS_SLAB_MAX_BATCH + 1, &no_label, refs),
			 -EINVAL);
	assert_int_equal(refs[0].slot, 7);
	assert_int_equal(refs[1].generation, 10);
	assert_int_equal(pool_stats(slab).allocations, 0);
	assert_int_equal(pool_stats(slab).extents_used, 0);
}

/* With so many extents of the largest class as fit. */
TEST(open__starts_empty)
{
	struct maas_slab *slab = POOL(64 * MIB + 4 * MIB - 1, 0, DEFAULT_CLASSES);
	struct maas_slab_stats stats = pool_stats(slab);
	uint64_t cursor = 0;
	struct maas_slab_info info;

	assert_int_equal(stats.max_bytes, 64 * MIB);
	assert_int_equal(stats.extent_bytes, 4 * MIB);
	assert_int_equal(stats.extents_total, 16);
	assert_int_equal(stats.extents_used, 0);
	assert_int_equal(stats.backed_bytes, 0);
	assert_int_equal(stats.allocations + stats.frees + stats.live_slabs, 0);
	assert_int_equal(stats.num_classes, 7);
	for (unsigned int i = 0; i < stats.num_classes; i++)
		assert_int_equal(stats.classes[i].total_slabs, 0);
	assert_int_equal(maas_slab_next(slab, &cursor, 100, &info), -ENOENT);
}

TEST(open__extent_defaults_to_largest_class_in_pages)
{
	struct maas_slab *slab = POOL(MIB, 0, 64, 4160);

	assert_int_equal(pool_stats(slab).extent_bytes, 8192);
}

TEST(open__prealloc_backs_every_extent)
{
	struct maas_slab_options options = pool_options(4 * MIB, 0, CLASSES(1024, 65536));
	struct maas_slab *slab;

	options.prealloc = true;
	slab = pool_open_as(&options);
	assert_int_equal(pool_stats(slab).backed_bytes, 4 * MIB);
	assert_int_equal(pool_stats(slab).extents_used, 0);
}

TEST(open__two_arenas_differ_in_id_and_key)
{
	struct maas_slab *a = POOL(MIB, 0, 1024);
	struct maas_slab *b = POOL(MIB, 0, 1024);

	assert_int_equal(strlen(maas_slab_arena_id(a)), MAAS_SLAB_ID_TEXT - 1);
	assert_string_not_equal(maas_slab_arena_id(a), maas_slab_arena_id(b));
	assert_memory_not_equal(maas_slab_id_key(a), maas_slab_id_key(b),
				sizeof(struct maas_slab_id_key));
	pool_close(a);
}

TEST(close__of_none)
{
	maas_slab_close(NULL);
	maas_slab_discard(NULL);
}

TEST(open__refuses_and_names_the_option)
{
	uint64_t many[MAAS_SLAB_MAX_CLASSES + 1];
	const struct {
		const char *option; /* that the sentence must name */
		uint64_t max_bytes, extent_bytes;
		const uint64_t *class_bytes;
		size_t num_classes;
	} cases[] = {
		{"slab-sizes", MIB, 0, NULL, 0},
		{"slab-sizes", MIB, 0, CLASSES(0)},
		{"slab-sizes", MIB, 0, CLASSES(63)},
		{"slab-sizes", MIB, 0, CLASSES(65)},
		{"slab-sizes", MIB, 0, CLASSES(1024, 100)},
		{"slab-sizes", MIB, 0, CLASSES(1024, 2048, 1024)},
		{"slab-sizes", MIB, 0, CLASSES(UINT64_MAX - 63)},
		{"slab-sizes", 8ull << 30, 0, CLASSES(MAAS_SLAB_MAX_CLASS + 64)},
		{"slab-sizes", MIB, 4096, many, MAAS_ARRAY_SIZE(many)},
		{"extent-size", MIB, 4096, CLASSES(1024, 8192)},
		{"extent-size", MIB, 4096 + 64, CLASSES(1024)},
		{"extent-size", 8ull << 30, (1ull << 30) + 4096, CLASSES(1024)},
		{"extent-size", MIB, UINT64_MAX, CLASSES(1024)},
		{"max-pool-size", 0, 0, CLASSES(1024)},
		{"max-pool-size", 4095, 0, CLASSES(1024)},
		{"max-pool-size", MIB - 1, MIB, CLASSES(1024)},
		{"max-pool-size", UINT64_MAX, 0, CLASSES(1024)},
		/* 2^34 slots, and an index has 32 bits */
		{"max-pool-size", 1ull << 40, 0, CLASSES(64)},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(many); i++)
		many[i] = MAAS_SLAB_MIN_CLASS * (i + 1);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const struct maas_slab_options options =
			pool_options(cases[i].max_bytes, cases[i].extent_bytes,
				     cases[i].class_bytes, cases[i].num_classes);
		struct maas_slab *slab = NULL;

		expect_refused_as(&options, -EINVAL, cases[i].option);
		assert_int_equal(maas_slab_open(&options, NULL, &slab), -EINVAL);
	}
}

TEST(open__refuses_a_directory_that_is_none)
{
	struct maas_slab_options options = pool_options(MIB, 0, CLASSES(1024));

	options.file = "/nowhere/file";
	expect_refused_as(&options, -ENOENT, "--memory-file");
}

TEST_MAIN(NULL, pools_close)
