/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Prometheus may have left in its allocations: slots of headers, a byte of how many in
 * front, then the text of a manifest. The slots get the checksum that they lack, so that what is
 * behind it is reached. No extent may be in two files, nor in one that it is not of.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/remotefile.h"
#include "tests/fuzz/fuzz.h"

#define MAX_EXTENTS 64u
#define SLOT_BYTES  64u

static const uint8_t magic[] = {'M', 'a', 'S', 'g', 1}; /* and the version */

static void sign(uint8_t *slot)
{
	uint32_t crc;

	memcpy(slot, magic, sizeof(magic));
	crc = remotefile_crc(0, slot, SLOT_BYTES - 4);
	for (int i = 0; i < 4; i++)
		slot[60 + i] = (uint8_t)(crc >> 8 * i);
}

static void require_files(const struct remotefile_extent *extents, uint32_t count,
			  const struct remotefile *files, uint32_t num_files)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < num_files; i++) {
		const struct remotefile *file = &files[i];
		uint64_t stored = 0;

		REQUIRE(file->extents && file->first >= end);
		end = file->first + file->extents;
		REQUIRE(end <= count);
		for (uint32_t j = 0; j < file->extents; j++) {
			const struct remotefile_header *header = &extents[file->first + j].header;

			REQUIRE(header->kind == file->kind && header->number == file->number &&
				header->part == file->part && header->epoch == file->epoch);
			REQUIRE(header->index == j && header->base == stored);
			stored += header->length;
		}
		REQUIRE(stored == file->stored_bytes);
	}
}

static void read_all(struct remotefile_extent *extents, uint32_t count, const char *text,
		     size_t len)
{
	struct remotefile files[MAX_EXTENTS];
	struct remotefile_block block;
	int64_t begin;
	uint32_t num_files = remotefile_find(extents, count, files);
	uint32_t at = 0;
	uint32_t of_block;

	require_files(extents, count, files, num_files);
	REQUIRE(remotefile_log_state(files, num_files) <= REMOTEFILE_LOG_GAP);
	(void)remotefile_head_begin(files, num_files, &begin);
	for (; (of_block = remotefile_next_block(files, num_files, &at)) > 0; at += of_block) {
		int r = remotefile_read_manifest(text, len, files + at, of_block, &block);

		REQUIRE(at + of_block <= num_files);
		REQUIRE(!r || r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ENODATA);
		(void)remotefile_manifest(files + at, of_block);
	}
	(void)!remotefile_read_manifest(text, len, NULL, 0, &block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct remotefile_extent extents[MAX_EXTENTS];
	uint32_t count = 0;
	size_t at = 1;

	for (uint32_t left = size ? data[0] % MAX_EXTENTS : 0; left && at + SLOT_BYTES <= size;
	     left--, at += SLOT_BYTES) {
		uint8_t bytes[REMOTEFILE_HEADER_BYTES] = {0};
		struct remotefile_extent *extent = &extents[count];

		memcpy(bytes, data + at, SLOT_BYTES);
		sign(bytes);
		memset(extent, 0, sizeof(*extent));
		count += !remotefile_decode(bytes, REMOTEFILE_MAX_EXTENT, &extent->header);
	}
	at = at < size ? at : size;
	read_all(extents, count, (const char *)data + at, size - at);
	return 0;
}
