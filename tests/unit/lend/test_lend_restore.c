/* SPDX-License-Identifier: Apache-2.0 */
/* A restart with kept memory: allocations and owners stay, leases start again, sessions are gone.
 */
#include <unistd.h>

#include "lend/internal.h"
#include "tests/unit/lend/lend_auth.h"

static char dir[32];
static char path[64];

static void open_slab(void)
{
	static const uint64_t classes[] = {64, 1024};
	const struct maas_slab_options slab_options = {
		.max_bytes = 1 << 20,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.extent_bytes = 65536,
		.file = path,
	};

	assert_int_equal(maas_slab_open(&slab_options, NULL, &f.slab), 0);
}

static int open_lend(void)
{
	const struct maas_lend_options options = fixture_options();

	return maas_lend_open(&options, &f.lend);
}

static void open_kept(void)
{
	open_slab();
	assert_int_equal(open_lend(), 0);
}

static void restart(void)
{
	fixture_close();
	open_kept();
}

static void setup(void)
{
	strcpy(dir, "/dev/shm/maas-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/memory", dir);
	atomic_store(&fixture_now_ms, 1000000);
	open_kept();
}

static void teardown(void)
{
	char slots[80];

	fixture_teardown();
	table_end();
	snprintf(slots, sizeof(slots), "%s.slots", path);
	unlink(path);
	unlink(slots);
	rmdir(dir);
}

static int count_of(const char *owner)
{
	int count = list_page(owner, NULL, 100);

	assert_false(more);
	return count;
}

TEST(restart__keeps_allocations_and_owners)
{
	struct maas_lend_allocation one = allocate_for("one");
	struct maas_lend_allocation two = ALLOCATE(.size_bytes = 20, .owner = "two");
	struct maas_lend_allocation none = ALLOCATE(.size_bytes = 30);

	assert_int_equal(free_now(&one), 0);
	restart();
	assert_false(exists(&one));
	expect_found(&two, "20 of 64 bytes of two, 0 s old, delete 0 of 0 s");
	expect_found(&none, "30 of 64 bytes of (nobody), 0 s old, delete 0 of 0 s");
	assert_int_equal(count_of("two"), 1);
	assert_int_equal(count_of("one"), 0);
	expect_state("slabs 2, owners 1");
	/* Old names and new ones live together, and go when their last allocation goes. */
	allocate_for("three");
	allocate_for("two");
	expect_state("slabs 4, owners 2");
	assert_int_equal(count_of("two"), 2);
	assert_int_equal(free_now(&two), 0);
	assert_int_equal(count_of("two"), 1);
}

TEST(restart__begins_leases_anew)
{
	struct maas_lend_allocation a = allocate_ttl(10);

	pass_ms(8000);
	restart();
	expect_lapse(&a, 10000);
}

TEST(restart__ends_what_a_session_owned)
{
	struct maas_lend_session_info s = open_session("s", false);
	struct maas_lend_allocation a =
		ALLOCATE(.size_bytes = 10, .lifetime = MAAS_LEND_LIFETIME_SESSION, .session = s.id,
			 .owner = "o");

	restart();
	assert_int_equal(maas_lend_session_get(f.lend, NULL, s.id, &s), -ENOENT);
	assert_false(exists(&a));
	expect_state("");
}

/* Principals come over memory that others have left: some of it nobody but admins reaches. */
TEST(restart__tells_what_no_line_reaches)
{
	static const char *const owners[] = {"a", "seen", "lost", "lost"};
	struct maas_lend_usage usage;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(owners); i++)
		allocate_for(owners[i]);
	ALLOCATE(.size_bytes = 65);
	restart();
	use("a uid=1 owner=a\nr uid=2 read=seen\nops uid=3 admin\n");
	maas_lend_unreached(f.lend, &usage);
	expect_usage(&usage, "bytes 1152, allocations 3, owners 1");
	expect_used("a", "bytes 64, allocations 1, owners 1");
}

/* The host's clock started again, or the file came from another host. */
TEST(restart__bears_a_clock_that_went_back)
{
	struct maas_lend_allocation a = allocate_plain();

	atomic_store(&fixture_now_ms, 5000);
	restart();
	assert_int_equal(look_up(&a).age_s, 0);
}

/* The table of owners is read, damaged and put back through the annex, as a file would be. */
TEST(restart__refuses_a_damaged_table_of_owners)
{
	struct maas_lend_owner_table *owners;

	allocate_for("one");
	allocate_for("two");
	fixture_close();
	open_slab();
	owners = maas_slab_annex(f.slab);
	owners->used = UINT32_MAX;
	assert_int_equal(open_lend(), -EUCLEAN);
	owners->used = 2; /* less than "two" needs */
	assert_int_equal(open_lend(), -EUCLEAN);
	owners->used = 3;
	memcpy(owners->records[2].name, "one", 4);
	assert_int_equal(open_lend(), -EUCLEAN);
	memcpy(owners->records[2].name, "t o", 4);
	assert_int_equal(open_lend(), -EUCLEAN);
	memcpy(owners->records[2].name, "two", 4);
	assert_int_equal(open_lend(), 0);
	assert_int_equal(count_of("two"), 1);
}

int main(void)
{
	return access("/dev/shm", W_OK) ? 77 : test_run(setup, teardown);
}
