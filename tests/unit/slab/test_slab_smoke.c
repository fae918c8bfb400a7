/* SPDX-License-Identifier: Apache-2.0 */
/* One walk through the life of a slab; the properties are tested elsewhere. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "slab/slab.h"

static const uint64_t sizes[] = {4096, 1024};
static const struct maas_slab_label label = {.owner = 7, .created_s = 8, .ttl_s = 9, .lifetime = 1};

static struct maas_slab *open_pool(uint64_t max_bytes)
{
	struct maas_slab_options options = {.max_bytes = max_bytes,
					    .class_bytes = sizes,
					    .num_classes = MAAS_ARRAY_SIZE(sizes),
					    .extent_bytes = 16384,
					    .dir_fd = -1};
	char error[MAAS_SLAB_ERROR];
	struct maas_slab *slab;

	assert_int_equal(maas_slab_open(&options, error, &slab), 0);
	return slab;
}

static void slab__lives_and_dies(void **state)
{
	struct maas_slab *slab = open_pool(65536 + 1);
	struct maas_slab_ref ref;
	struct maas_slab_info info;
	struct maas_slab_stats stats;

	(void)state;
	assert_int_equal(maas_slab_alloc(slab, 1000, &label, &ref), 0);
	assert_int_equal(maas_slab_get(slab, ref, &info), 0);
	assert_int_equal(info.size_bytes, 1000);
	assert_int_equal(info.slab_bytes, 1024);
	assert_int_equal(info.label.ttl_s, 9);
	memset(info.bytes, 0xaa, info.slab_bytes);
	maas_slab_check(slab);

	assert_int_equal(maas_slab_revoke(slab, ref), 0);
	assert_int_equal(maas_slab_get(slab, ref, &info), -ENOENT);
	maas_slab_stats(slab, &stats);
	assert_int_equal(stats.live_slabs, 1);
	assert_int_equal(maas_slab_quarantine(slab, ref), 0);
	maas_slab_check(slab);
	assert_int_equal(maas_slab_release(slab, ref), 0);
	assert_int_equal(maas_slab_release(slab, ref), -ENOENT);
	maas_slab_check(slab);

	assert_int_equal(maas_slab_reclaim(slab, 1000, 65536), 0);
	assert_int_equal(maas_slab_reclaim(slab, 1999, 65536), 0);
	assert_int_equal(maas_slab_reclaim(slab, 2000, 65536), 1024);
	maas_slab_check(slab);
	maas_slab_stats(slab, &stats);
	assert_int_equal(stats.extents_used, 0);
	assert_int_equal(stats.frees, 1);
	assert_int_equal(stats.backed_bytes, 16384);
	maas_slab_close(slab);
}

static void slab__exhaustion_cuts_the_delay(void **state)
{
	struct maas_slab *slab = open_pool(32768);
	struct maas_slab_ref refs[32];
	struct maas_slab_info info;
	uint64_t cursor = 0;

	(void)state;
	assert_int_equal(maas_slab_alloc_many(slab, 1, 33, &label, refs), -ENOSPC);
	assert_int_equal(maas_slab_alloc_many(slab, 1, 32, &label, refs), 0);
	for (unsigned int i = 0; i < 32; i++) {
		assert_int_equal(maas_slab_next(slab, &cursor, 10, &info), 1);
		assert_int_equal(info.ref.slot, i);
		memset(info.bytes, 0xaa, info.slab_bytes);
	}
	assert_int_equal(maas_slab_next(slab, &cursor, 10, &info), -ENOENT);
	for (unsigned int i = 0; i < 32; i++)
		assert_int_equal(maas_slab_free(slab, refs[i]), 0);
	maas_slab_check(slab);

	assert_int_equal(maas_slab_alloc_many(slab, 4096, 8, &label, refs), 0);
	for (unsigned int i = 0; i < 8; i++) {
		assert_int_equal(maas_slab_get(slab, refs[i], &info), 0);
		for (unsigned int at = 0; at < 4096; at++)
			assert_int_equal(info.bytes[at], 0);
	}
	assert_int_equal(maas_slab_alloc(slab, 1, &label, refs), -ENOSPC);
	maas_slab_check(slab);
	maas_slab_close(slab);
}

static void id__round_trip(void **state)
{
	struct maas_slab_id_key key;
	char text[MAAS_SLAB_ID_TEXT];
	uint32_t index;
	uint32_t generation;

	(void)state;
	maas_slab_id_key_random(&key);
	maas_slab_id_encode(&key, 0x12345678, 0x9abcdef0, text);
	assert_int_equal(maas_slab_id_decode(&key, text, &index, &generation), 0);
	assert_int_equal(index, 0x12345678);
	assert_int_equal(generation, 0x9abcdef0);
	assert_int_equal(text[14], '8');
	text[35] = text[35] == '0' ? '1' : '0';
	assert_int_equal(maas_slab_id_decode(&key, text, &index, &generation), -ENOENT);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(slab__lives_and_dies),
		cmocka_unit_test(slab__exhaustion_cuts_the_delay),
		cmocka_unit_test(id__round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
