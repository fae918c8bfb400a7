/* SPDX-License-Identifier: Apache-2.0 */
/* A --memory-file that is refused, and what a failed start leaves behind. */
#include "tests/unit/slab/slab_file.h"

#define SLOTS_AT (MAAS_SLAB_SLOT_HEADER_BYTES + MAAS_SLAB_ANNEX_BYTES)
#define HEADER(field)                                                                              \
	(off_t) offsetof(struct maas_slab_slot_header, field),                                     \
		sizeof(((struct maas_slab_slot_header *)0)->field)
#define SLOT(index, field)                                                                         \
	(off_t)(SLOTS_AT + (index) * sizeof(struct maas_slab_slot) +                               \
		offsetof(struct maas_slab_slot, field)),                                           \
		sizeof(((struct maas_slab_slot *)0)->field)

static const uint64_t zero[4];

/* One slab of 64 bytes, in slot 0, with "precious" in it. */
static struct maas_slab_ref lend_precious(void)
{
	struct maas_slab *slab = open_pool();
	struct maas_slab_ref ref = pool_alloc(slab, 64);

	memcpy(pool_get(slab, ref).bytes, "precious", 8);
	pool_close(slab);
	return ref;
}

static void expect_precious(struct maas_slab_ref ref)
{
	struct maas_slab *slab = open_pool();

	assert_memory_equal(pool_get(slab, ref).bytes, "precious", 8);
	pool_close(slab);
}

/* ---- options and other files */

TEST(file__refuses_other_options)
{
	struct maas_slab_options options = file_options();
	struct maas_slab_ref ref = lend_precious();

	options.max_bytes = 2 * POOL_BYTES;
	expect_refused_as(&options, -EINVAL,
			  "made with --max-pool-size 32MiB, not 64MiB, and slabs are lent from it");
	options.max_bytes = POOL_BYTES;
	options.num_classes = 2;
	options.extent_bytes = EXTENT_BYTES;
	expect_refused_as(&options, -EINVAL, "other --slab-sizes");
	expect_precious(ref);
}

/* One slab that nobody has any more, in `state`. */
static void leave(enum maas_slab_slot_state state)
{
	struct maas_slab *slab = open_pool();
	struct maas_slab_ref ref = pool_alloc(slab, 64);

	memcpy(pool_get(slab, ref).bytes, "precious", 8);
	if (state == MAAS_SLAB_SLOT_DIRTY)
		pool_free(slab, ref);
	else
		assert_int_equal(maas_slab_revoke(slab, ref), 0);
	if (state == MAAS_SLAB_SLOT_QUARANTINED)
		assert_int_equal(maas_slab_quarantine(slab, ref), 0);
	pool_close(slab);
}

static void expect_begun_anew(const struct maas_slab_options *options)
{
	char id[MAAS_SLAB_ID_TEXT];
	char bytes[8];
	struct maas_slab_mark mark;
	struct maas_slab *slab;
	off_t at = offsetof(struct maas_slab_slot_header, arena_id);

	read_at(table, at, id, sizeof(id));
	assert_int_equal(maas_slab_look(options, &mark, NULL), 0);
	slab = pool_open_as(options);
	assert_string_not_equal(maas_slab_arena_id(slab), id);
	assert_int_equal(length_of(path), options->max_bytes);
	read_at(path, 0, bytes, sizeof(bytes));
	assert_memory_equal(bytes, zero, sizeof(bytes));
	pool_take(slab, 64);
	maas_slab_check(slab);
	pool_close(slab);
	remove_files();
}

TEST(file__begins_anew_with_other_options_where_nothing_is_lent)
{
	static const enum maas_slab_slot_state left[] = {
		MAAS_SLAB_SLOT_DIRTY, MAAS_SLAB_SLOT_REVOKING, MAAS_SLAB_SLOT_QUARANTINED};
	static const uint64_t others[] = {64, 65536};
	struct maas_slab_options larger = file_options();
	struct maas_slab_options smaller = file_options();
	struct maas_slab_options other = file_options();

	larger.max_bytes = 2 * POOL_BYTES;
	smaller.max_bytes = POOL_BYTES / 2;
	smaller.extent_bytes = UINT64_C(2) * EXTENT_BYTES;
	other.class_bytes = others;
	other.num_classes = MAAS_ARRAY_SIZE(others);
	pool_close(open_pool());
	expect_begun_anew(&larger);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(left); i++) {
		leave(left[i]);
		expect_begun_anew(&larger);
		leave(left[i]);
		expect_begun_anew(&smaller);
		leave(left[i]);
		expect_begun_anew(&other);
	}
	/* What nobody wrote may have been lent. */
	leave(MAAS_SLAB_SLOT_DIRTY);
	write_at(table, (off_t)(SLOTS_AT + offsetof(struct maas_slab_slot, state)), "\10", 1);
	expect_refused_as(&larger, -EINVAL, "slabs are lent from it");
}

TEST(file__is_of_one_process)
{
	open_pool();
	expect_refused(-EBUSY, "in use by another process");
}

TEST(file__leaves_other_files_alone)
{
	char text[8] = "";

	write_at(path, 0, "letters", 8);
	expect_refused(-EEXIST, "holds something else");
	read_at(path, 0, text, sizeof(text));
	assert_string_equal(text, "letters");
	assert_int_equal(access(table, F_OK), -1);
	write_at(table, 0, "others", 7);
	expect_refused(-EEXIST, "no table of slabs");
	assert_int_equal(length_of(table), 7);
}

/* ---- whose it is */

TEST(file__refuses_what_is_open_to_others)
{
	static const mode_t modes[] = {0666, 0640, 0604, 0610, 0601};
	struct maas_slab_ref ref = lend_precious();

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(modes); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		expect_refused(-EPERM, "chmod 600");
		assert_int_equal(chmod(path, 0600), 0);
		assert_int_equal(chmod(table, modes[i]), 0);
		expect_refused(-EPERM, ".slots is open to others");
		assert_int_equal(chmod(table, 0600), 0);
	}
	expect_precious(ref);
}

TEST(file__refuses_another_owner)
{
	struct maas_slab_ref ref = lend_precious();

	if (geteuid())
		skip(); /* only root can give files away */
	assert_int_equal(chown(path, 65534, 65534), 0);
	expect_refused(-EPERM,
		       "belongs to uid 65534, and maasd runs as uid 0: run maasd as its owner");
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(chown(table, 65534, 65534), 0);
	expect_refused(-EPERM, ".slots belongs to uid 65534");
	assert_int_equal(chown(table, 0, 0), 0);
	expect_precious(ref);
}

TEST(file__refuses_a_second_name)
{
	struct maas_slab_ref ref = lend_precious();
	char other[96];

	snprintf(other, sizeof(other), "%s/other", dir);
	assert_int_equal(link(path, other), 0);
	expect_refused(-EPERM, "is a hard link");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(link(table, other), 0);
	expect_refused(-EPERM, ".slots is a hard link");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	expect_refused(-ELOOP, "is a symbolic link");
	assert_int_equal(rename(other, path), 0);
	expect_precious(ref);
}

TEST(file__is_made_for_its_owner_only)
{
	static const mode_t masks[] = {0, 0277};
	struct stat st;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(masks); i++) {
		mode_t before = umask(masks[i]);
		struct maas_slab *slab = open_pool();

		umask(before);
		pool_close(slab);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(stat(table, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		remove_files();
	}
}

/* ---- what it says */

TEST(file__begins_anew_where_its_making_was_cut_off)
{
	struct maas_slab *slab = open_pool();
	uint64_t length;

	pool_close(slab);
	length = length_of(table);
	write_at(table, 0, zero, 8);
	slab = open_pool();
	pool_take(slab, 64);
	pool_close(slab);

	/* Only one of both got its size. */
	remove_files();
	write_at(path, 0, "", 0);
	write_at(table, 0, "", 0);
	assert_int_equal(truncate(table, (off_t)length), 0);
	open_pool();
}

TEST(file__never_wipes_what_was_lent)
{
	struct maas_slab_ref ref = lend_precious();
	char magic[8];

	read_at(table, 0, magic, sizeof(magic));
	write_at(table, 0, zero, 8);
	expect_refused(-EUCLEAN, "its first bytes are gone");
	write_at(table, 0, magic, sizeof(magic));
	write_at(table, 0, "M", 1);
	expect_refused(-EINVAL, "no table of slabs");
	write_at(table, 0, magic, sizeof(magic));
	expect_precious(ref);
}

/* Each alone is enough to tell that something was there. */
TEST(file__never_wipes_bytes_owners_or_slots)
{
	const off_t header_end = MAAS_SLAB_SLOT_HEADER_BYTES;
	const off_t last_slot =
		(off_t)(SLOTS_AT + POOL_BYTES / 64 * sizeof(struct maas_slab_slot)) - 1;
	const struct {
		const char *name;
		off_t at;
	} places[] = {{table, header_end}, {table, last_slot}, {path, 0}, {path, POOL_BYTES - 1}};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(places); i++) {
		remove_files();
		pool_close(open_pool());
		write_at(table, 0, zero, 8);
		write_at(places[i].name, places[i].at, "x", 1);
		expect_refused(-EUCLEAN, "damaged");
		write_at(places[i].name, places[i].at, "", 1);
		pool_close(open_pool());
	}
}

TEST(file__refuses_contradictions)
{
	static const unsigned char ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
	static const struct {
		off_t at;
		size_t len;
		const void *bytes;
		const char *words;
	} damages[] = {
		{HEADER(num_classes), zero, "number of size classes"},
		{HEADER(num_classes), ones, "number of size classes"},
		{HEADER(extent_bytes), zero, "its sizes"},
		{HEADER(max_bytes), zero, "its sizes"},
		{HEADER(max_bytes), ones, "its sizes"},
		{HEADER(class_bytes[0]), zero, "its sizes"},
		{HEADER(class_bytes[1]), ones, "its sizes"},
		{HEADER(class_bytes[3]), ones, "its sizes"},
		{HEADER(arena_id[36]), "x", "arena id"},
		{HEADER(arena_id[0]), "g", "arena id"},
		{HEADER(arena_id[8]), zero, "arena id"},
		{HEADER(id_key.bytes), zero, "its key"},
		{HEADER(grown), zero, "fewer extents than were used"},
		{HEADER(grown), ones, "number of extents"},
		{HEADER(pid), ones, "last process"},
		{HEADER(guard.writers), ones, "last process"},
		{SLOT(0, size_bytes), zero, "slot 0"},
		{SLOT(0, size_bytes), ones, "slot 0"},
		{SLOT(0, class_index), "\3", "slot 0"},
		{SLOT(0, generation), zero, "slot 0"},
		{SLOT(0, state), "\10", "slot 0"},
		{SLOT(0, state), ones, "slot 0"},
		{SLOT(0, state), "\5", "slot 0"}, /* retired before its last generation */
		{SLOT(5, state), "\2", "slot 5"}, /* live, and was never handed out */
		{SLOT(5, state), "\6", "slot 5"},
		{SLOT(5, class_index), ones, "slot 5"},
		{SLOT(1024, state), "\2", "fewer extents than were used"},
	};
	struct maas_slab_ref ref = lend_precious();

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(damages); i++) {
		char good[MAAS_SLAB_ID_KEY_BYTES];

		read_at(table, damages[i].at, good, damages[i].len);
		write_at(table, damages[i].at, damages[i].bytes, damages[i].len);
		expect_refused(-EUCLEAN, damages[i].words);
		write_at(table, damages[i].at, good, damages[i].len);
	}
	expect_precious(ref);
}

/* A sum of all that a file holds. */
static uint64_t sum_of(const char *name)
{
	static uint64_t words[8192];
	uint64_t sum = length_of(name);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	while ((len = read(fd, words, sizeof(words))) > 0)
		for (size_t i = 0; i < (size_t)len / sizeof(words[0]); i++)
			sum = (sum ^ words[i]) * UINT64_C(0x100000001b3);
	assert_int_equal(len, 0);
	close(fd);
	return sum;
}

/* Of an older maasd, or of a newer one: the way back stays open. */
TEST(file__of_another_layout_stays_as_it_is)
{
	static const uint32_t layouts[] = {0, MAAS_SLAB_SLOT_LAYOUT - 1, MAAS_SLAB_SLOT_LAYOUT + 1,
					   UINT32_MAX};
	const off_t layout_at = offsetof(struct maas_slab_slot_header, layout);
	const uint32_t ours = MAAS_SLAB_SLOT_LAYOUT;
	struct maas_slab_ref ref = lend_precious();

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(layouts); i++) {
		uint64_t sums[2];

		write_at(table, layout_at, &layouts[i], sizeof(layouts[i]));
		sums[0] = sum_of(path);
		sums[1] = sum_of(table);
		expect_refused(-EINVAL, "start the maasd that made it");
		assert_int_equal(sum_of(path), sums[0]);
		assert_int_equal(sum_of(table), sums[1]);
	}
	write_at(table, layout_at, &ours, sizeof(ours));
	expect_precious(ref);
}

TEST(file__refuses_what_was_cut_off)
{
	lend_precious();
	assert_int_equal(truncate(path, 4096), 0);
	expect_refused(-EUCLEAN, "cut off");
	assert_int_equal(truncate(path, POOL_BYTES), 0);
	assert_int_equal(truncate(table, SLOTS_AT), 0);
	expect_refused(-EUCLEAN, "cut off");
}

/* The guard lies where the first versions of layout 2 left zeros. */
TEST(file__opens_what_an_earlier_version_made)
{
	struct maas_slab_ref ref = lend_precious();
	const struct maas_slab_slot_guard none = {0};
	const int32_t nobody = 0;

	write_at(table, (off_t)offsetof(struct maas_slab_slot_header, guard), &none, sizeof(none));
	write_at(table, (off_t)offsetof(struct maas_slab_slot_header, pid), &nobody,
		 sizeof(nobody));
	expect_precious(ref);
}

/* ---- starts that fail */

static int interrupt(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	unsigned int *left = ctx;

	assert_true(done_bytes <= total_bytes);
	return *left && --*left ? 0 : -EINTR;
}

static void expect_interrupted(unsigned int steps)
{
	struct maas_slab_options options = file_options();

	options.prealloc = true;
	options.tick = interrupt;
	options.tick_ctx = &steps;
	expect_refused_as(&options, -EINTR, "");
}

TEST(open__takes_back_what_it_made)
{
	expect_interrupted(1);
	expect_no_files();
	expect_interrupted(100);
	expect_no_files();
}

TEST(open__leaves_files_that_were_there)
{
	struct maas_slab_ref ref;

	write_at(path, 0, "", 0);
	expect_interrupted(3);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(length_of(path), 0);
	assert_int_equal(access(table, F_OK), -1);

	ref = lend_precious();
	expect_interrupted(1); /* while it is restored */
	expect_interrupted(3); /* while the rest is allocated */
	expect_precious(ref);
}

TEST(discard__removes_only_what_nobody_used)
{
	struct maas_slab *slab = open_pool();
	struct maas_slab_ref ref;

	pool_discard(slab);
	expect_no_files();
	slab = open_pool();
	ref = pool_alloc(slab, 64);
	pool_discard(slab);
	slab = open_pool();
	assert_int_equal(pool_try_get(slab, ref), 0);
	pool_discard(slab);
	slab = open_pool();
	assert_int_equal(pool_try_get(slab, ref), 0);
}

int main(void)
{
	return file_test_run();
}
