/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a Prometheus keeps files in its allocations (prometheus/remotefile): each allocation is an
 * extent of one file, and begins with a header that says which. Anybody who may write to the memory
 * may have written the header, so nothing in it counts before it was checked. Threading: any
 * thread.
 */
#ifndef MAAS_CMD_REMOTEFILE_H
#define MAAS_CMD_REMOTEFILE_H

#include "base/base.h"
#include "client/maas.h"

#define REMOTEFILE_HEADER_BYTES 128u	   /* the file's bytes follow */
#define REMOTEFILE_MAX_EXTENT	(4u << 20) /* bytes, header included */

enum remotefile_kind {
	REMOTEFILE_CHUNKS = 1,
	REMOTEFILE_WAL,
	REMOTEFILE_WBL,
	REMOTEFILE_CHECKPOINT,
	REMOTEFILE_BLOCK,
	REMOTEFILE_SNAPSHOT,
	REMOTEFILE_KINDS, /* kinds from here on belong to a later version */
};

#define REMOTEFILE_LAST	 1u /* no extent of this file follows */
#define REMOTEFILE_FINAL 2u /* no file of this set follows */

/* A block's parts from here on are its manifests; the newest finished one counts. */
#define REMOTEFILE_MANIFEST 0x80000000u

struct remotefile_header {
	uint8_t kind; /* 1 to 255 */
	uint16_t flags;
	uint32_t number;
	uint32_t part;
	uint32_t index; /* of the extent in its file */
	uint32_t generation;
	uint32_t length; /* bytes in the extent */
	uint32_t crc;	 /* CRC-32C of these */
	uint64_t base;	 /* offset of its first byte in the file */
	uint64_t epoch;	 /* the writer's */
	uint64_t extra;
};

/*
 * The newer of the two slots in `bytes` that is whole. `size_bytes` is the size of the allocation.
 * Errors: -ENODATA there is none, -EPROTONOSUPPORT another version's, -EBADMSG a value cannot be
 * true.
 */
MAAS_MUST_CHECK int remotefile_decode(const uint8_t bytes[REMOTEFILE_HEADER_BYTES],
				      uint64_t size_bytes, struct remotefile_header *ret_header);

/* Extends `crc`, the CRC-32C of the bytes in front (0: none), by `bytes`. */
uint32_t remotefile_crc(uint32_t crc, const void *bytes, size_t len);

/* Such as "wal": Prometheus's name of the directory. */
const char *remotefile_kind_name(unsigned int kind);

/* One allocation with a header. */
struct remotefile_extent {
	struct remotefile_header header;
	char id[MAAS_ID_BYTES];
	uint64_t lent_bytes;
};

/* A file: the extents of its newest writer, up to the first gap. */
struct remotefile {
	uint8_t kind;
	bool finished; /* nothing is appended any more */
	bool final;    /* the last one of its set */
	uint32_t number;
	uint32_t part;
	uint32_t first; /* index of its first extent */
	uint32_t extents;
	uint64_t epoch;
	uint64_t stored_bytes;
	uint64_t lent_bytes;
	uint64_t extra; /* the highest of its extents */
};

/*
 * Makes files, sorted by kind, number and part, from `count` extents, which it sorts. `ret_files`
 * has room for `count`. Returns the number of files. Extents that belong to no file are not counted
 * in the sums of any.
 */
uint32_t remotefile_find(struct remotefile_extent *extents, uint32_t count,
			 struct remotefile *ret_files);

/* What a take-over would find of the log. */
enum remotefile_log {
	REMOTEFILE_LOG_NONE, /* there is none */
	REMOTEFILE_LOG_WHOLE,
	REMOTEFILE_LOG_HEADLESS, /* its beginning is missing */
	REMOTEFILE_LOG_GAP,	 /* something in the middle is missing */
};

enum remotefile_log remotefile_log_state(const struct remotefile *files, uint32_t count);

/* Where the head begins, in milliseconds since 1970; false: where the log begins. */
bool remotefile_head_begin(const struct remotefile *files, uint32_t count, int64_t *ret_ms);

/* ---- blocks */

struct remotefile_block {
	int64_t min_ms;
	int64_t max_ms; /* exclusive */
};

/* The next block from files[*at] on; moves `*at` behind it. Returns how many files it has; 0:
 * none. */
uint32_t remotefile_next_block(const struct remotefile *files, uint32_t count, uint32_t *at);
/* The manifest that counts among the files of one block; NULL: the block is not whole. */
const struct remotefile *remotefile_manifest(const struct remotefile *files, uint32_t count);

/*
 * Reads a manifest: the block's files, and its time. Errors: -EBADMSG no manifest, or too long
 * without its tombstones, -EPROTONOSUPPORT another version's, -ENODATA a file is missing, -ENOMEM.
 */
MAAS_MUST_CHECK int remotefile_read_manifest(const char *text, size_t len,
					     const struct remotefile *files, uint32_t count,
					     struct remotefile_block *ret_block);

#endif
