/* SPDX-License-Identifier: Apache-2.0 */
/* Every request for memory of slab/ fails once: each time a clean error, nothing lost. */
#include "tests/unit/slab/slab_fixture.h"

#include <dirent.h>

#include "tests/fake/fail_nth.h"

#define MANY 200

static int open_it(bool prealloc, char *error, struct maas_slab **ret_slab)
{
	struct maas_slab_options options = pool_options(MIB, 0, CLASSES(4096, 64, 1024));

	options.prealloc = prealloc;
	return maas_slab_open(&options, error, ret_slab);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void expect_works(struct maas_slab *slab)
{
	struct maas_slab_info info = pool_take(slab, 1000);

	memset(info.bytes, 1, info.slab_bytes);
	pool_free(slab, info.ref);
	pool_settle(slab);
	assert_int_equal(pool_stats(slab).extents_used, 0);
	maas_slab_check(slab);
}

static void expect_open_survives(bool prealloc)
{
	long blocks = fail_nth_blocks(), mapped_bytes = fail_nth_mapped_bytes();
	int fds = count_fds();
	bool failed = true;
	long nth;

	for (nth = 1; failed; nth++) {
		char error[MAAS_SLAB_ERROR] = "";
		struct maas_slab *slab = NULL;
		int r;

		fail_nth_arm(nth);
		r = open_it(prealloc, error, &slab);
		failed = fail_nth_disarm();
		if (r) {
			assert_true(failed);
			assert_int_equal(r, -ENOMEM);
			assert_true(strlen(error) > 0);
			assert_null(slab);
		} else {
			expect_works(slab);
			pool_close(slab);
		}
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_int_equal(fail_nth_mapped_bytes(), mapped_bytes);
		assert_int_equal(count_fds(), fds);
	}
	assert_true(nth > 2); /* something was there to fail */
}

TEST(open__every_request_fails_once)
{
	expect_open_survives(false);
	expect_open_survives(true);
}

/* One round of everything; only the allocations may fail. */
static void use(struct maas_slab *slab)
{
	struct maas_slab_ref refs[MANY], one;
	struct maas_slab_info info;
	uint64_t cursor = 0;
	int r = maas_slab_alloc_many(slab, 64, MANY, &no_label, refs);

	assert_true(r == 0 || r == -ENOMEM || r == -ENOSPC);
	for (int i = 0; !r && i < MANY; i++)
		pool_free(slab, refs[i]);

	r = maas_slab_alloc(slab, 4096, &no_label, &one);
	assert_true(r == 0 || r == -ENOMEM || r == -ENOSPC);
	if (!r) {
		assert_int_equal(maas_slab_set_ttl(slab, one, 1), 0);
		assert_int_equal(maas_slab_next(slab, &cursor, 1000, &info), 1);
		assert_int_equal(maas_slab_revoke(slab, one), 0);
		assert_int_equal(maas_slab_quarantine(slab, one), 0);
		assert_int_equal(maas_slab_release(slab, one), 0);
	}
	pool_settle(slab);
}

TEST(use__every_request_fails_once)
{
	bool failed = true;

	for (long nth = 1; failed; nth++) {
		long blocks = fail_nth_blocks(), mapped_bytes = fail_nth_mapped_bytes();
		struct maas_slab *slab = NULL;

		assert_int_equal(open_it(false, NULL, &slab), 0);
		fail_nth_arm(nth);
		use(slab);
		failed = fail_nth_disarm();

		assert_int_equal(pool_stats(slab).live_slabs, 0);
		assert_int_equal(pool_stats(slab).extents_used, 0);
		use(slab);
		expect_works(slab);
		pool_close(slab);
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_int_equal(fail_nth_mapped_bytes(), mapped_bytes);
	}
}

TEST_MAIN(NULL, pools_close)
