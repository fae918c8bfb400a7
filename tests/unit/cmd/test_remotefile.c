/* SPDX-License-Identifier: Apache-2.0 */
/* What `maas prometheus` makes of the bytes in a Prometheus's allocations, which may be anything.
 */
#include "cmd/remotefile.h"
#include "tests/counts.h"
#include "tests/random.h"
#include "tests/unit/unit.h"

#define SLOT ((size_t)64)

/* ---- headers, as the other side writes them */

static void put32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static void put64(uint8_t *at, uint64_t value)
{
	put32(at, (uint32_t)value);
	put32(at + 4, (uint32_t)(value >> 32));
}

static const uint8_t magic[] = {'M', 'a', 'S', 'g', 1}; /* and the version */

static void encode(const struct remotefile_header *h, uint8_t slot[SLOT])
{
	memset(slot, 0, SLOT);
	memcpy(slot, magic, sizeof(magic));
	slot[5] = h->kind;
	slot[6] = (uint8_t)h->flags;
	slot[7] = (uint8_t)(h->flags >> 8);
	put32(slot + 8, h->number);
	put32(slot + 12, h->part);
	put32(slot + 16, h->index);
	put32(slot + 20, h->generation);
	put64(slot + 24, h->base);
	put64(slot + 32, h->epoch);
	put32(slot + 40, h->length);
	put32(slot + 44, h->crc);
	put64(slot + 48, h->extra);
	put32(slot + 60, remotefile_crc(0, slot, 60));
}

TEST(crc__is_castagnoli)
{
	assert_int_equal(remotefile_crc(0, "123456789", 9), 0xe3069283);
	assert_int_equal(remotefile_crc(remotefile_crc(0, "1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(remotefile_crc(0, NULL, 0), 0);
}

/* The bytes of the Go half's test of the same name. */
TEST(header__golden_bytes)
{
	static const uint8_t golden[SLOT] = {
		0x4d, 0x61, 0x53, 0x67, 0x01, 0x04, 0x03, 0x00, 0x04, 0x03, 0x02, 0x01,
		0x05, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00,
		0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x00, 0xef, 0xbe, 0xad, 0xde,
		0x0d, 0x0c, 0x0b, 0x0a, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};
	uint8_t bytes[REMOTEFILE_HEADER_BYTES] = {0};
	struct remotefile_header h;

	memcpy(bytes + SLOT, golden, SLOT);
	put32(bytes + SLOT + 60, remotefile_crc(0, golden, 60));
	assert_int_equal(remotefile_decode(bytes, 138, &h), 0);
	assert_int_equal(h.kind, REMOTEFILE_CHECKPOINT);
	assert_int_equal(h.flags, REMOTEFILE_LAST | REMOTEFILE_FINAL);
	assert_int_equal(h.number, 0x01020304);
	assert_int_equal(h.part, 5);
	assert_int_equal(h.index, 6);
	assert_int_equal(h.generation, 7);
	assert_int_equal(h.base, 0x1122334455);
	assert_int_equal(h.epoch, 9);
	assert_int_equal(h.length, 10);
	assert_int_equal(h.crc, 0xdeadbeef);
	assert_int_equal(h.extra, 0x0e0a0b0c0d);
}

TEST(header__the_newer_slot_that_is_whole)
{
	struct remotefile_header new = {REMOTEFILE_WAL, .generation = 4, .length = 100};
	struct remotefile_header old = {REMOTEFILE_WAL, .generation = 3, .length = 50};
	uint8_t bytes[REMOTEFILE_HEADER_BYTES];
	struct remotefile_header h;

	for (size_t at = 0; at < 2; at++) {
		encode(&new, bytes + SLOT * at);
		encode(&old, bytes + SLOT * (size_t)!at);
		assert_int_equal(remotefile_decode(bytes, 1000, &h), 0);
		assert_int_equal(h.length, 100);
		assert_int_equal(remotefile_decode(bytes, 228, &h), 0);
		assert_int_equal(remotefile_decode(bytes, 227, &h), -EBADMSG);
		assert_int_equal(remotefile_decode(bytes, 0, &h), -EBADMSG);
		for (size_t i = 0; i < SLOT; i++) {
			bytes[SLOT * at + i] ^= 0x40;
			assert_int_equal(remotefile_decode(bytes, 1000, &h), 0);
			assert_int_equal(h.length, 50);
			bytes[SLOT * at + i] ^= 0x40;
		}
	}
}

TEST(header__none_or_another_version)
{
	struct remotefile_header wal = {.kind = REMOTEFILE_WAL, .number = 1};
	struct remotefile_header nothing = {.number = 1};
	uint8_t bytes[REMOTEFILE_HEADER_BYTES] = {0};
	struct remotefile_header h = {.number = 77};

	assert_int_equal(remotefile_decode(bytes, 1000, &h), -ENODATA);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(remotefile_decode(bytes, 1000, &h), -ENODATA);
	encode(&wal, bytes);
	bytes[4] = 2;
	assert_int_equal(remotefile_decode(bytes, 1000, &h), -ENODATA);
	put32(bytes + 60, remotefile_crc(0, bytes, 60));
	assert_int_equal(remotefile_decode(bytes, 1000, &h), -EPROTONOSUPPORT);
	encode(&wal, bytes + SLOT);
	assert_int_equal(remotefile_decode(bytes, 1000, &h), 0);
	encode(&nothing, bytes);
	encode(&nothing, bytes + SLOT);
	h.number = 77;
	assert_int_equal(remotefile_decode(bytes, 1000, &h), -EBADMSG);
	assert_int_equal(h.number, 77);
}

/* ---- files */

static struct remotefile_extent extent(enum remotefile_kind kind, uint32_t number, uint32_t index,
				       uint64_t base, uint32_t length)
{
	return (struct remotefile_extent){
		.header = {.kind = (uint8_t)kind,
			   .number = number,
			   .index = index,
			   .base = base,
			   .length = length,
			   .epoch = 5},
		.lent_bytes = 1000,
	};
}

TEST(files__hang_together)
{
	struct remotefile_extent e[] = {
		extent(REMOTEFILE_WAL, 7, 2, 30, 5),   /* behind a gap: base 25 is next */
		extent(REMOTEFILE_WAL, 7, 1, 10, 15),  /* … */
		extent(REMOTEFILE_CHUNKS, 9, 0, 0, 1), /* comes first */
		extent(REMOTEFILE_WAL, 7, 0, 0, 10),   /* … */
		extent(REMOTEFILE_WAL, 7, 1, 10, 15),  /* twice */
		extent(REMOTEFILE_WAL, 8, 1, 10, 15),  /* without a beginning */
		extent(REMOTEFILE_WBL, 7, 0, 0, 99),   /* an older writer's */
		extent(REMOTEFILE_WBL, 7, 0, 0, 3),    /* … */
		extent(REMOTEFILE_KINDS, 1, 0, 0, 4),  /* of a later version */
		extent(REMOTEFILE_WAL, 6, 0, 1ull << 63, UINT32_MAX), /* where nothing can be */
	};
	struct remotefile f[MAAS_ARRAY_SIZE(e)];

	e[6].header.epoch = 4;
	e[0].header.extra = 8;
	e[1].header.extra = 6;
	e[1].header.flags = REMOTEFILE_LAST;
	e[4].header.extra = 6;
	e[4].header.flags = REMOTEFILE_LAST;
	assert_int_equal(remotefile_find(e, MAAS_ARRAY_SIZE(e), f), 4);
	assert_int_equal(f[0].kind, REMOTEFILE_CHUNKS);
	assert_int_equal(f[1].kind, REMOTEFILE_WAL);
	assert_int_equal(f[1].number, 7);
	assert_int_equal(f[1].extents, 2);
	assert_int_equal(f[1].stored_bytes, 25);
	assert_int_equal(f[1].lent_bytes, 2000);
	assert_int_equal(f[1].extra, 6);
	assert_true(f[1].finished);
	assert_false(f[1].final);
	assert_int_equal(e[f[1].first].header.index, 0);
	assert_int_equal(e[f[1].first + 1].header.index, 1);
	assert_int_equal(f[2].kind, REMOTEFILE_WBL);
	assert_int_equal(f[2].stored_bytes, 3);
	assert_int_equal(f[3].kind, REMOTEFILE_KINDS);
	assert_int_equal(remotefile_find(NULL, 0, f), 0);
	assert_string_equal(remotefile_kind_name(REMOTEFILE_WAL), "wal");
	assert_string_equal(remotefile_kind_name(REMOTEFILE_KINDS), "unknown");
	assert_string_equal(remotefile_kind_name(0), "unknown");
}

/* Whatever the headers say, related figures agree, and nothing is counted twice. */
TEST(files__random)
{
	uint64_t seed = maas_test_seed_told();

	for (int round = 0; round < 3000; round++) {
		struct remotefile_extent e[40];
		struct remotefile f[MAAS_ARRAY_SIZE(e)];
		uint32_t count = (uint32_t)(test_random(&seed) % MAAS_ARRAY_SIZE(e));
		uint32_t extents = 0;
		uint32_t files;

		for (uint32_t i = 0; i < count; i++) {
			uint64_t roll = test_random(&seed);

			e[i] = extent(1 + roll % 2, roll >> 8 & 1, roll >> 16 & 3,
				      10 * (roll >> 24 & 3), 10);
			e[i].header.epoch = roll >> 32 & 1;
		}
		files = remotefile_find(e, count, f);
		for (uint32_t i = 0; i < files; i++) {
			extents += f[i].extents;
			assert_int_equal(f[i].stored_bytes, 10 * f[i].extents);
			for (uint32_t j = 0; j < f[i].extents; j++) {
				const struct remotefile_header *h = &e[f[i].first + j].header;

				assert_int_equal(h->kind, f[i].kind);
				assert_int_equal(h->number, f[i].number);
				assert_int_equal(h->epoch, f[i].epoch);
				assert_int_equal(h->index, j);
				assert_int_equal(h->base, 10 * j);
			}
		}
		assert_true(extents <= count);
	}
}

/* ---- the log */

static struct remotefile files[32];
static uint32_t count;

static void no_files(void)
{
	count = 0;
}

static struct remotefile *add(enum remotefile_kind kind, uint32_t number, uint32_t part,
			      bool finished)
{
	files[count] = (struct remotefile){
		.kind = (uint8_t)kind, .number = number, .part = part, .finished = finished};
	return &files[count++];
}

/*
 * Files as a text: w(al), l (wbl), k (checkpoint) or c(hunks), and the number; "." and the part;
 * "+" for one that is finished, "!" for the last of its set.
 */
static void expect_log(const char *text, enum remotefile_log wanted)
{
	static const enum remotefile_kind kinds[] = {['w'] = REMOTEFILE_WAL,
						     ['l'] = REMOTEFILE_WBL,
						     ['k'] = REMOTEFILE_CHECKPOINT,
						     ['c'] = REMOTEFILE_CHUNKS};
	char *at;

	count = 0;
	for (const char *word = text; *word; word = at + strspn(at, " ")) {
		uint32_t number = (uint32_t)strtoul(word + 1, &at, 10);
		struct remotefile *file = add(kinds[(unsigned char)*word], number, 0, false);

		file->part = *at == '.' ? (uint32_t)strtoul(at + 1, &at, 10) : 0;
		file->finished = *at == '+' && at++;
		file->final = *at == '!' && at++;
	}
	if (remotefile_log_state(files, count) != wanted)
		fail_msg("\"%s\": %d", text, remotefile_log_state(files, count));
}

TEST(log__without_a_checkpoint)
{
	expect_log("", REMOTEFILE_LOG_NONE);
	expect_log("c1+", REMOTEFILE_LOG_NONE);
	expect_log("c1+ w0+", REMOTEFILE_LOG_WHOLE);
	expect_log("c1+ w0+ w1", REMOTEFILE_LOG_WHOLE);
	expect_log("c1+ w0+ w1 w2", REMOTEFILE_LOG_GAP); /* the one before is not complete */
	expect_log("c1+ w0+ w1+ w2", REMOTEFILE_LOG_WHOLE);
	expect_log("c1+ w7+ w1+ w2", REMOTEFILE_LOG_HEADLESS);
	expect_log("c1+ w0+ w1+ w3", REMOTEFILE_LOG_GAP);
	expect_log("c1+ w0+ w1+ w2 l5+ l6", REMOTEFILE_LOG_WHOLE);
	expect_log("c1+ w0+ w1+ w2 l5+ l7", REMOTEFILE_LOG_GAP);
}

TEST(log__behind_a_checkpoint)
{
	expect_log("w4+ w5+ w6", REMOTEFILE_LOG_HEADLESS);
	expect_log("w4+ w5+ w6 k3+ k3.1+!", REMOTEFILE_LOG_WHOLE);
	/* One is on its way, and then what it stands for is on its way out. */
	expect_log("w4+ w5+ w6 k3+ k3.1+! k5+", REMOTEFILE_LOG_WHOLE);
	expect_log("w2+ w5+ w6 k3+ k3.1+! k5+!", REMOTEFILE_LOG_WHOLE);
	expect_log("w2+ w5+ w6 k3+ k3.1+! k5!", REMOTEFILE_LOG_GAP);
	expect_log("w4+ w5+ w6 k3.1+ k3.1+! k5!", REMOTEFILE_LOG_HEADLESS);
	expect_log("w4+ w5+ w6 k3+ k3.1+ k5!", REMOTEFILE_LOG_HEADLESS);
}

TEST(log__highest_numbers)
{
	expect_log("w4294967295+ l4294967295+ l4294967295.1+", REMOTEFILE_LOG_HEADLESS);
	expect_log("w4294967295+ l4294967295+ l4294967295.1+ k4294967295+!", REMOTEFILE_LOG_GAP);
}

TEST(head__begins_where_the_newest_segment_says)
{
	int64_t ms = 7;

	assert_false(remotefile_head_begin(files, count, &ms));
	add(REMOTEFILE_CHUNKS, 1, 0, true)->extra = UINT64_MAX;
	add(REMOTEFILE_WAL, 1, 0, true);
	assert_false(remotefile_head_begin(files, count, &ms));
	assert_int_equal(ms, 7);
	add(REMOTEFILE_WAL, 2, 0, true)->extra = (uint64_t)-5 ^ UINT64_C(1) << 63;
	assert_true(remotefile_head_begin(files, count, &ms));
	assert_int_equal(ms, -5);
	add(REMOTEFILE_WAL, 3, 0, true)->extra = 1700000000000 ^ UINT64_C(1) << 63;
	assert_true(remotefile_head_begin(files, count, &ms));
	assert_int_equal(ms, 1700000000000);
}

/* ---- blocks */

/* {"minTime":1000,"maxTime":2000} */
#define META  "eyJtaW5UaW1lIjoxMDAwLCJtYXhUaW1lIjoyMDAwfQ=="
#define FILES "[{\"name\":\"index\",\"size\":30},{\"name\":\"chunks/000001\",\"size\":40}]"

static struct remotefile_block block;

static int read_manifest(const char *text)
{
	return remotefile_read_manifest(text, strlen(text), files, count, &block);
}

static void add_whole_block(void)
{
	add(REMOTEFILE_BLOCK, 3, 1, true)->stored_bytes = 30;
	add(REMOTEFILE_BLOCK, 3, 2, true)->stored_bytes = 40;
	add(REMOTEFILE_BLOCK, 3, REMOTEFILE_MANIFEST + 4, true);
}

TEST(blocks__one_after_another)
{
	uint32_t at = 0;

	assert_int_equal(remotefile_next_block(files, count, &at), 0);
	add(REMOTEFILE_WAL, 1, 0, true);
	add(REMOTEFILE_BLOCK, 1, 1, true);
	add(REMOTEFILE_BLOCK, 1, REMOTEFILE_MANIFEST, true);
	add(REMOTEFILE_BLOCK, 1, REMOTEFILE_MANIFEST + 1, true);
	add(REMOTEFILE_BLOCK, 1, REMOTEFILE_MANIFEST + 2, false);
	add(REMOTEFILE_BLOCK, 2, 1, true);
	add(REMOTEFILE_SNAPSHOT, 2, 0, true);
	assert_int_equal(remotefile_next_block(files, count, &at), 4);
	assert_int_equal(at, 1);
	assert_ptr_equal(remotefile_manifest(files + at, 4), &files[3]);
	at += 4;
	assert_int_equal(remotefile_next_block(files, count, &at), 1);
	assert_null(remotefile_manifest(files + at, 1));
	at++;
	assert_int_equal(remotefile_next_block(files, count, &at), 0);
}

TEST(manifest__of_a_whole_block)
{
	const char *good =
		"{\"version\":1,\"files\":" FILES ",\"meta\":\"" META "\",\"tombstones\":null}";

	add_whole_block();
	assert_int_equal(read_manifest(good), 0);
	assert_int_equal(block.min_ms, 1000);
	assert_int_equal(block.max_ms, 2000);
	files[1].stored_bytes = 39;
	assert_int_equal(read_manifest(good), -ENODATA);
	files[1].stored_bytes = 40;
	files[1].finished = false;
	assert_int_equal(read_manifest(good), -ENODATA);
	files[1].finished = true;
	files[0].part = 3;
	assert_int_equal(read_manifest(good), -ENODATA);
	count = 0;
	assert_int_equal(read_manifest(good), -ENODATA);
}

TEST(manifest__that_is_none)
{
	static const struct {
		const char *text;
		int error;
	} cases[] = {
		{"", -EBADMSG},
		{"[]", -EBADMSG},
		{"{\"version\":1}", -EBADMSG},
		{"{\"version\":1,\"files\":{}}", -EBADMSG},
		{"{\"version\":2,\"files\":[]}", -EPROTONOSUPPORT},
		{"{\"version\":1,\"files\":[]}", -EBADMSG},
		{"{\"version\":1,\"files\":[1],\"meta\":\"" META "\"}", -ENODATA},
		{"{\"version\":1,\"files\":[{\"size\":-1}],\"meta\":\"" META "\"}", -ENODATA},
		{"{\"version\":1,\"files\":[],\"meta\":7}", -EBADMSG},
		{"{\"version\":1,\"files\":[],\"meta\":\"\"}", -EBADMSG},
		{"{\"version\":1,\"files\":[],\"meta\":\"e30\"}", -EBADMSG},  /* not four */
		{"{\"version\":1,\"files\":[],\"meta\":\"e30=\"}", -EBADMSG}, /* {} */
		{"{\"version\":1,\"files\":[],\"meta\":\"e3==\"}", -EBADMSG}, /* { */
		{"{\"version\":1,\"files\":[],\"meta\":\"e==0\"}", -EBADMSG}, /* … */
		{"{\"version\":1,\"files\":[],\"meta\":\"====\"}", -EBADMSG}, /* … */
		{"{\"version\":1,\"files\":[],\"meta\":\"e30=e30=\"}", -EBADMSG},
		{"{\"version\":1,\"files\":[],\"meta\":\"e3 =\"}", -EBADMSG},
		/* {"minTime":1e9,"maxTime":2} */
		{"{\"version\":1,\"files\":[],\"meta\":\"eyJtaW5UaW1lIjoxZTksIm1heFRpbWUiOjJ9\"}",
		 -EBADMSG},
	};

	add_whole_block();
	block = (struct remotefile_block){7, 8};
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		if (read_manifest(cases[i].text) != cases[i].error)
			fail_msg("%s: %d", cases[i].text, read_manifest(cases[i].text));
	assert_int_equal(block.min_ms, 7);
	assert_int_equal(block.max_ms, 8);
}

/* A tree of JSON takes many times its text; tombstones take as much as there are of them. */
TEST(manifest__that_is_long)
{
	static const char begin[] =
		"{\"version\":1,\"files\":[],\"meta\":\"" META "\",\"tombstones\":\"";
	static const char end[] = "\"}";
	static char text[1 << 20];
	char *last = text + sizeof(text) - sizeof(end);

	memset(text, 'A', sizeof(text));
	memcpy(text, begin, sizeof(begin) - 1);
	memcpy(last, end, sizeof(end));
	assert_int_equal(read_manifest(text), 0);
	*last = 'A';
	assert_int_equal(read_manifest(text), -EBADMSG);
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, begin, sizeof(begin) - 1);
	memcpy(text + sizeof(begin) - 1, end, sizeof(end) - 1);
	assert_int_equal(read_manifest(text), -EBADMSG);
}

TEST_MAIN(no_files, NULL)
