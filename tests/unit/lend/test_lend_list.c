/* SPDX-License-Identifier: Apache-2.0 */
/* Owners, and lists in pages. */
#include "tests/unit/lend/lend_fixture.h"

#define PAGE 100

TEST(name__valid)
{
	static const char *const good[] = {
		"a", "tsdb-0", "A.b_c:d/e@f-9",
		"123456789012345678901234567890123456789012345678901234567890123"};
	static const char *const bad[] = {
		"",	    " ",
		"a b",	    "a\n",
		"\xc3\xa9", "a\"",
		"a%",	    "a&b",
		"a+b",	    "1234567890123456789012345678901234567890123456789012345678901234"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(good); i++)
		assert_true(maas_name_valid(good[i]));
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_false(maas_name_valid(bad[i]));
}

TEST(owner__lives_as_long_as_its_allocations)
{
	struct maas_lend_allocation a = ALLOCATE(.owner = "one");
	struct maas_lend_allocation b = ALLOCATE(.owner = "one");
	struct maas_lend_allocation c = ALLOCATE(.owner = "two");

	expect_state("slabs 3, owners 2");
	assert_int_equal(free_now(&a), 0);
	expect_state("slabs 2, owners 2");
	assert_int_equal(free_now(&b), 0);
	expect_state("slabs 1, owners 1");
	/* The freed record serves the next name, and nobody is renamed by it. */
	ALLOCATE(.owner = "three");
	assert_string_equal(look_up(&c).owner, "two");
}

TEST(owner__of_an_allocation_that_failed)
{
	fixture_reopen(65536);
	assert_int_equal(TRY_ALLOCATE(.size_bytes = 65536, .count = 2, .owner = "nobody"), -ENOSPC);
	expect_state("");
}

TEST(owners__at_most_65536)
{
	struct maas_lend_allocation last = {0};

	for (unsigned int i = 0; i < MAAS_LEND_MAX_OWNERS; i++)
		last = allocate_for(numbered("owner-", i));
	assert_int_equal(TRY_ALLOCATE(.size_bytes = 64, .owner = "another"), -EUSERS);
	expect_state("slabs 65536, owners 65536");
	assert_int_equal(free_now(&last), 0);
	allocate_for("another");
	allocate_for("owner-12345");
}

/* So many that most share a bucket: those that stay are found when their neighbours have gone. */
TEST(owner__is_found_when_its_neighbours_have_gone)
{
	static struct maas_lend_allocation all[40000];

	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(all); i++)
		all[i] = allocate_for(numbered("owner-", i));
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(all); i += 2)
		assert_int_equal(free_now(&all[i]), 0);
	expect_state("slabs 20000, owners 20000");
	/* An owner that is not found would count as a new one. */
	for (unsigned int i = 1; i < MAAS_ARRAY_SIZE(all); i += 2)
		allocate_for(numbered("owner-", i));
	expect_state("slabs 40000, owners 20000");
	assert_int_equal(list_page("owner-1", NULL, 2), 2);
	assert_int_equal(list_page("owner-2", NULL, 2), 0);
}

TEST(list__of_no_owner)
{
	struct maas_lend_allocation a;

	allocate_for("one");
	a = allocate_for(NULL);
	allocate_for("two");
	assert_int_equal(list_page("", NULL, 3), 1);
	assert_string_equal(page[0].id, a.id);
	assert_string_equal(page[0].owner, "");
	assert_int_equal(free_now(&a), 0);
	assert_int_equal(list_page("", NULL, 3), 0);
}

TEST(list__refuses)
{
	more = true;
	assert_int_equal(list_page(NULL, "nonsense", 1), -ENOENT);
	assert_int_equal(list_page(NULL, NULL, 0), -EINVAL);
	assert_int_equal(list_page(NULL, NULL, 1), 0);
	assert_false(more);
	assert_int_equal(list_page("nobody", NULL, 1), 0);
}

TEST(list__more_is_told_at_the_edge)
{
	for (int i = 0; i < 4; i++)
		allocate_for("o");
	allocate_for(NULL);
	assert_int_equal(list_page("o", NULL, 3), 3);
	assert_true(more);
	assert_int_equal(list_page("o", NULL, 4), 4);
	assert_false(more);
	assert_int_equal(list_page("o", page[2].id, 4), 1);
	assert_false(more);
	assert_int_equal(list_page(NULL, NULL, 4), 4);
	assert_true(more);
}

/* Walks all pages of `owner`, and frees the page's last one each time when `freeing`. */
static unsigned int walk(const char *owner, bool freeing, struct maas_lend_allocation *ret,
			 unsigned int max)
{
	char after[MAAS_SLAB_ID_TEXT] = "";
	unsigned int count = 0;

	for (more = true; more;) {
		int got = list_page(owner, *after ? after : NULL, PAGE);

		assert_true(got >= 0);
		assert_true(!more || got == PAGE);
		for (int i = 0; i < got; i++) {
			assert_true(count < max);
			ret[count++] = page[i];
		}
		if (!got)
			break;
		memcpy(after, page[got - 1].id, sizeof(after));
		if (freeing)
			assert_int_equal(free_now(&page[got - 1]), 0);
	}
	return count;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct maas_lend_allocation *)a)->id,
		      ((const struct maas_lend_allocation *)b)->id);
}

TEST(list__pages_are_complete_while_others_free)
{
	static struct maas_lend_allocation mine[1000];
	static struct maas_lend_allocation seen[2000];
	static struct maas_lend_allocation others[1000];
	unsigned int count;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(mine); i++) {
		mine[i] = ALLOCATE(.size_bytes = i % 3 ? 64 : 1000, .owner = "mine",
				   .lifetime = MAAS_LEND_LIFETIME_TTL, .ttl_s = 60);
		others[i] = ALLOCATE(.size_bytes = i % 5 ? 64 : 1000, .owner = "other");
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i += 2)
		assert_int_equal(free_now(&others[i]), 0);
	count = walk("mine", true, seen, MAAS_ARRAY_SIZE(seen));
	assert_int_equal(count, MAAS_ARRAY_SIZE(mine));
	qsort(mine, MAAS_ARRAY_SIZE(mine), sizeof(mine[0]), by_id);
	qsort(seen, count, sizeof(seen[0]), by_id);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(mine); i++) {
		assert_string_equal(mine[i].id, seen[i].id);
		assert_string_equal(seen[i].owner, "mine");
		assert_int_equal(seen[i].size_bytes, mine[i].size_bytes);
		assert_int_equal(seen[i].lease_s, 60);
	}
	count = walk(NULL, false, seen, MAAS_ARRAY_SIZE(seen));
	assert_int_equal(count, live_slabs());
}

TEST_MAIN(fixture_setup, fixture_teardown)
