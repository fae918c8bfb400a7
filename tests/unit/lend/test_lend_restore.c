/* SPDX-License-Identifier: Apache-2.0 */
/* A restart with kept memory: allocations and owners go on, leases begin anew, sessions are gone.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lend/internal.h"
#include "tests/unit/lend/lend_fixture.h"

static char dir[] = "/dev/shm/maas-test-XXXXXX";
static char path[64];

static struct maas_slab *open_slab(void)
{
	static const uint64_t classes[] = {64, 1024};
	const struct maas_slab_options slab_options = {
		.max_bytes = 1 << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = 65536,
		.dir_fd = -1,
		.file = path,
	};
	struct maas_slab *slab = NULL;

	assert_int_equal(maas_slab_open(&slab_options, NULL, &slab), 0);
	return slab;
}

static int open_lend(struct fixture *f)
{
	const struct maas_lend_options options = {
		.slab = f->slab,
		.max_sessions = MAX_SESSIONS,
		.clock_ms = fixture_clock_ms,
	};

	return maas_lend_open(&options, &f->lend);
}

static struct fixture open_kept(void)
{
	struct fixture f = {.slab = open_slab()};

	assert_int_equal(open_lend(&f), 0);
	return f;
}

static int setup(void **state)
{
	char table[80];

	(void)state;
	snprintf(table, sizeof(table), "%s.slots", path);
	unlink(path);
	unlink(table);
	atomic_store(&fixture_now_ms, 1000000);
	return 0;
}

static int count_of(struct fixture *f, const char *owner)
{
	static struct maas_lend_allocation list[100];
	bool more = true;
	int count = list_page(f->lend, owner, NULL, 100, list, &more);

	assert_false(more);
	return count;
}

static void restart__keeps_allocations_and_owners(void **state)
{
	struct fixture f = open_kept();
	struct maas_lend_allocation one =
		ALLOCATE(&f, .size_bytes = 10, .count = 1, .owner = "one");
	struct maas_lend_allocation two =
		ALLOCATE(&f, .size_bytes = 20, .count = 1, .owner = "two");
	struct maas_lend_allocation none = ALLOCATE(&f, .size_bytes = 30, .count = 1);
	struct maas_lend_allocation got;

	(void)state;
	assert_int_equal(maas_lend_free(f.lend, one.id, NULL, NULL), 0);
	fixture_close(&f);
	f = open_kept();
	assert_int_equal(maas_lend_get(f.lend, one.id, &got), -ENOENT);
	assert_int_equal(maas_lend_get(f.lend, two.id, &got), 0);
	assert_string_equal(got.owner, "two");
	assert_int_equal(got.size_bytes, 20);
	assert_int_equal(maas_lend_get(f.lend, none.id, &got), 0);
	assert_string_equal(got.owner, "");
	assert_int_equal(count_of(&f, "two"), 1);
	assert_int_equal(count_of(&f, "one"), 0);
	assert_int_equal(lend_stats(&f).owners, 1);
	/* Old names and new ones live together, and go when their last allocation goes. */
	ALLOCATE(&f, .size_bytes = 10, .count = 1, .owner = "three");
	ALLOCATE(&f, .size_bytes = 10, .count = 1, .owner = "two");
	assert_int_equal(lend_stats(&f).owners, 2);
	assert_int_equal(count_of(&f, "two"), 2);
	assert_int_equal(maas_lend_free(f.lend, two.id, NULL, NULL), 0);
	assert_int_equal(count_of(&f, "two"), 1);
	fixture_close(&f);
}

static void restart__begins_leases_anew(void **state)
{
	struct fixture f = open_kept();
	struct maas_lend_allocation a = ALLOCATE(&f, .size_bytes = 10, .count = 1,
						 .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 10);
	struct maas_lend_allocation got;

	(void)state;
	pass_ms(&f, 8000);
	fixture_close(&f);
	f = open_kept();
	pass_ms(&f, 8000);
	assert_int_equal(maas_lend_get(f.lend, a.id, &got), 0);
	pass_ms(&f, 4000);
	assert_int_equal(maas_lend_get(f.lend, a.id, &got), -ENOENT);
	fixture_close(&f);
}

static void restart__ends_what_a_session_owned(void **state)
{
	struct fixture f = open_kept();
	struct maas_lend_session_info s;
	struct maas_lend_allocation a;
	struct maas_lend_allocation got;

	(void)state;
	assert_int_equal(maas_lend_session_open(f.lend, "s", 60, false, NULL, &s), 0);
	a = ALLOCATE(&f, .size_bytes = 10, .count = 1, .lifetime = MAAS_LEND_LIFETIME_SESSION,
		     .session = s.id, .owner = "o");
	fixture_close(&f);
	f = open_kept();
	assert_int_equal(maas_lend_session_get(f.lend, s.id, &s), -ENOENT);
	assert_int_equal(maas_lend_get(f.lend, a.id, &got), -ENOENT);
	assert_int_equal(lend_stats(&f).owners, 0);
	fixture_close(&f);
}

/* The host's clock began anew, or the file came from another host. */
static void restart__bears_a_clock_that_went_back(void **state)
{
	struct fixture f = open_kept();
	struct maas_lend_allocation a = ALLOCATE(&f, .size_bytes = 10, .count = 1);
	struct maas_lend_allocation got;

	(void)state;
	fixture_close(&f);
	atomic_store(&fixture_now_ms, 5000);
	f = open_kept();
	assert_int_equal(maas_lend_get(f.lend, a.id, &got), 0);
	assert_int_equal(got.age_s, 0);
	fixture_close(&f);
}

/* The table of owners is read, damaged and put back through the annex, as a file would be. */
static void restart__refuses_a_damaged_table_of_owners(void **state)
{
	struct fixture f = open_kept();
	struct maas_lend_owner_table *table;

	(void)state;
	ALLOCATE(&f, .size_bytes = 10, .count = 1, .owner = "one");
	ALLOCATE(&f, .size_bytes = 10, .count = 1, .owner = "two");
	fixture_close(&f);
	f.slab = open_slab();
	table = maas_slab_annex(f.slab);
	table->used = UINT32_MAX;
	assert_int_equal(open_lend(&f), -EUCLEAN);
	table->used = 2; /* less than "two" needs */
	assert_int_equal(open_lend(&f), -EUCLEAN);
	table->used = 3;
	memcpy(table->records[2].name, "one", 4);
	assert_int_equal(open_lend(&f), -EUCLEAN);
	memcpy(table->records[2].name, "t o", 4);
	assert_int_equal(open_lend(&f), -EUCLEAN);
	memcpy(table->records[2].name, "two", 4);
	assert_int_equal(open_lend(&f), 0);
	assert_int_equal(count_of(&f, "two"), 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(restart__keeps_allocations_and_owners, setup),
		cmocka_unit_test_setup(restart__begins_leases_anew, setup),
		cmocka_unit_test_setup(restart__ends_what_a_session_owned, setup),
		cmocka_unit_test_setup(restart__bears_a_clock_that_went_back, setup),
		cmocka_unit_test_setup(restart__refuses_a_damaged_table_of_owners, setup),
	};
	int failed;

	if (!mkdtemp(dir))
		return 77;
	snprintf(path, sizeof(path), "%s/memory", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	setup(NULL);
	rmdir(dir);
	return failed;
}
