/* SPDX-License-Identifier: Apache-2.0 */
/* The headers of a Prometheus's extents, and the files that the extents make; see remotefile.h. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/remotefile.h"

/* ---- the header: two slots, written in turn. prometheus/remotefile/header.go has the layout
 */

#define SLOT_BYTES 64u
#define MAGIC	   0x6753614du /* "MaSg" */
#define VERSION	   1

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/* Bit by bit: only headers are checked, and now and then a manifest. */
uint32_t remotefile_crc(uint32_t crc, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= at[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static int decode_slot(const uint8_t *slot, struct remotefile_header *ret_header)
{
	if (get32(slot) != MAGIC || get32(slot + 60) != remotefile_crc(0, slot, 60))
		return -ENODATA;
	if (slot[4] != VERSION)
		return -EPROTONOSUPPORT;
	*ret_header = (struct remotefile_header){
		.kind = slot[5],
		.flags = get16(slot + 6),
		.number = get32(slot + 8),
		.part = get32(slot + 12),
		.index = get32(slot + 16),
		.generation = get32(slot + 20),
		.base = get64(slot + 24),
		.epoch = get64(slot + 32),
		.length = get32(slot + 40),
		.crc = get32(slot + 44),
		.extra = get64(slot + 48),
	};
	return 0;
}

int remotefile_decode(const uint8_t bytes[REMOTEFILE_HEADER_BYTES], uint64_t size_bytes,
		      struct remotefile_header *ret_header)
{
	struct remotefile_header slots[2];
	int first = decode_slot(bytes, &slots[0]);
	int second = decode_slot(bytes + SLOT_BYTES, &slots[1]);
	const struct remotefile_header *newer = &slots[0];

	if (first && second)
		return first == -EPROTONOSUPPORT ? first : second;
	if (first || (!second && slots[1].generation > slots[0].generation))
		newer = &slots[1];
	if (!newer->kind || size_bytes < REMOTEFILE_HEADER_BYTES ||
	    newer->length > size_bytes - REMOTEFILE_HEADER_BYTES)
		return -EBADMSG;
	*ret_header = *newer;
	return 0;
}

const char *remotefile_kind_name(unsigned int kind)
{
	static const char *const names[REMOTEFILE_KINDS] = {
		[REMOTEFILE_CHUNKS] = "chunks_head",
		[REMOTEFILE_WAL] = "wal",
		[REMOTEFILE_WBL] = "wbl",
		[REMOTEFILE_CHECKPOINT] = "checkpoint",
		[REMOTEFILE_BLOCK] = "block",
		[REMOTEFILE_SNAPSHOT] = "chunk_snapshot",
	};

	return kind && kind < REMOTEFILE_KINDS ? names[kind] : "unknown";
}

/* ---- files */

static int order(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_names(const struct remotefile_header *a, const struct remotefile_header *b)
{
	int by_kind = order(a->kind, b->kind);
	int by_number = order(a->number, b->number);

	if (by_kind)
		return by_kind;
	return by_number ? by_number : order(a->part, b->part);
}

/* Sorts the newest writer's extents first. */
static int compare_extents(const void *left, const void *right)
{
	const struct remotefile_header *a = &((const struct remotefile_extent *)left)->header;
	const struct remotefile_header *b = &((const struct remotefile_extent *)right)->header;
	int by_name = compare_names(a, b);
	int by_epoch = order(b->epoch, a->epoch);

	if (by_name)
		return by_name;
	return by_epoch ? by_epoch : order(a->index, b->index);
}

static void begin_file(struct remotefile *file, const struct remotefile_header *header,
		       uint32_t first)
{
	*file = (struct remotefile){
		.kind = header->kind,
		.number = header->number,
		.part = header->part,
		.epoch = header->epoch,
		.first = first,
	};
}

/* Takes the file's next extent; refuses one of an older writer, behind a gap, or there twice. */
static bool take_extent(struct remotefile *file, const struct remotefile_extent *extent)
{
	const struct remotefile_header *header = &extent->header;

	if (header->epoch != file->epoch || header->index != file->extents ||
	    header->base != file->stored_bytes)
		return false;
	file->extents++;
	file->stored_bytes += header->length;
	file->lent_bytes += extent->lent_bytes;
	file->finished = header->flags & REMOTEFILE_LAST;
	file->final = header->flags & REMOTEFILE_FINAL;
	if (header->extra > file->extra)
		file->extra = header->extra;
	return true;
}

static void swap(struct remotefile_extent *a, struct remotefile_extent *b)
{
	struct remotefile_extent old = *a;

	*a = *b;
	*b = old;
}

uint32_t remotefile_find(struct remotefile_extent *extents, uint32_t count,
			 struct remotefile *ret_files)
{
	uint32_t files = 0;

	if (count)
		qsort(extents, count, sizeof(*extents), compare_extents);
	for (uint32_t i = 0; i < count;) {
		struct remotefile *file = &ret_files[files];
		struct remotefile_header name = extents[i].header;

		begin_file(file, &name, i);
		for (; i < count && !compare_names(&name, &extents[i].header); i++)
			/* The file's extents stay together; others move behind them. */
			if (take_extent(file, &extents[i]))
				swap(&extents[file->first + file->extents - 1], &extents[i]);
		files += file->extents > 0;
	}
	return files;
}

/* ---- the log */

/* Finds the files of a kind, which lie together. Returns their number. */
static uint32_t of_kind(const struct remotefile *files, uint32_t count, enum remotefile_kind kind,
			const struct remotefile **ret_first)
{
	uint32_t first = 0;
	uint32_t end;

	while (first < count && files[first].kind < kind)
		first++;
	for (end = first; end < count && files[end].kind == kind; end++)
		;
	*ret_first = files + first;
	return end - first;
}

/* Whether these parts are a whole checkpoint. */
static bool is_whole_set(const struct remotefile *parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!parts[i].finished || parts[i].final != (i + 1 == count) || parts[i].part != i)
			return false;
	return count > 0;
}

/* The number of the newest whole checkpoint; -1: there is none. */
static int64_t newest_checkpoint(const struct remotefile *files, uint32_t count)
{
	const struct remotefile *parts;
	uint32_t end = of_kind(files, count, REMOTEFILE_CHECKPOINT, &parts);

	while (end) {
		uint32_t begin = end - 1;

		while (begin && parts[begin - 1].number == parts[end - 1].number)
			begin--;
		if (is_whole_set(parts + begin, end - begin))
			return parts[begin].number;
		end = begin;
	}
	return -1;
}

/* Whether the numbers are consecutive from `first` on, and each file but the last is complete. */
static bool is_contiguous(const struct remotefile *log, uint32_t count, int64_t first)
{
	for (uint32_t i = 0; i < count; i++)
		if (log[i].number != first + i || (!log[i].finished && i + 1 < count))
			return false;
	return true;
}

enum remotefile_log remotefile_log_state(const struct remotefile *files, uint32_t count)
{
	int64_t checkpoint = newest_checkpoint(files, count);
	const struct remotefile *wal;
	const struct remotefile *wbl;
	uint32_t wals = of_kind(files, count, REMOTEFILE_WAL, &wal);
	uint32_t wbls = of_kind(files, count, REMOTEFILE_WBL, &wbl);

	if (checkpoint < 0 && !wals)
		return REMOTEFILE_LOG_NONE;
	for (; wals && wal->number <= checkpoint; wals--)
		wal++;
	if (checkpoint < 0 && wal->number)
		return REMOTEFILE_LOG_HEADLESS;
	if (!is_contiguous(wal, wals, checkpoint + 1) ||
	    (wbls && !is_contiguous(wbl, wbls, wbl->number)))
		return REMOTEFILE_LOG_GAP;
	return REMOTEFILE_LOG_WHOLE;
}

bool remotefile_head_begin(const struct remotefile *files, uint32_t count, int64_t *ret_ms)
{
	const struct remotefile *wal;
	uint32_t wals = of_kind(files, count, REMOTEFILE_WAL, &wal);
	uint64_t extra = 0;

	for (uint32_t i = 0; i < wals; i++)
		if (wal[i].extra > extra)
			extra = wal[i].extra;
	if (!extra)
		return false;
	/* The sign bit is inverted, so that times sort as unsigned numbers. */
	*ret_ms = (int64_t)(extra ^ UINT64_C(1) << 63);
	return true;
}
