/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab: the memory that is lent, and which piece of it is whose.
 *
 *   arena   |extent 0       |extent 1       |extent 2       | ... reserved, not yet allocated ... |
 *           |s|s|s|s|s|s|s|s|  s  |  s  |   |       s       |
 *            class 0         class 1         class 2
 *
 *   slots   |slots of extent 0|slots of extent 1| ...   one fixed-size record per slab, elsewhere
 *
 * The arena is one reserved range of address space over a memfd or a file. It grows by extents,
 * each carved into slabs of one size class; an extent without a lent slab goes back to the common
 * pool. slab knows no sessions, keys or requests: a slab carries labels for the layer above.
 *
 * Life of a slab:
 *
 *     clean ──alloc──▶ live ──revoke──▶ revoking ──release──▶ dirty ──reclaim──▶ clean
 *       ▲                                  │ quarantine          │ (delay queue)
 *       └── zeroed ────────────────────────▼                     │
 *                                     quarantined ──release──────┘
 *
 * Threading: every function may be called from any thread; one lock inside, never held while bytes
 * are zeroed or pages are allocated. Each operation takes a constant number of steps.
 */
#ifndef MAAS_SLAB_SLAB_H
#define MAAS_SLAB_SLAB_H

#include "base/base.h"

#define MAAS_SLAB_MAX_CLASSES  32
#define MAAS_SLAB_MIN_CLASS    64	    /* bytes; every class is a multiple of it */
#define MAAS_SLAB_MAX_CLASS    (1ull << 30) /* bytes */
#define MAAS_SLAB_MAX_EXTENT   (1ull << 30) /* bytes */
#define MAAS_SLAB_MAX_BATCH    10000	    /* slabs in one maas_slab_alloc_many() */
#define MAAS_SLAB_ID_TEXT      37	    /* an id's text: a UUID and its NUL */
#define MAAS_SLAB_ID_KEY_BYTES 16
#define MAAS_SLAB_ANNEX_BYTES  (8u << 20) /* of the layer above, kept with the slots */

struct maas_slab;

/* ---- ids */

/*
 * An id is a UUID of version 8 (RFC 9562) that encodes an index, a generation and a keyed MAC
 * (SipHash-2-4) of both: look-up needs no table, and a guessed or altered id does not decode.
 */
struct maas_slab_id_key {
	unsigned char bytes[MAAS_SLAB_ID_KEY_BYTES];
};

void maas_slab_id_key_random(struct maas_slab_id_key *ret_key);

/* A random UUID (version 4), which says nothing. Threading: any thread. */
void maas_slab_id_random(char text[MAAS_SLAB_ID_TEXT]);

/* Writes the id's lower-case text and its NUL. Threading: any thread. */
void maas_slab_id_encode(const struct maas_slab_id_key *key, uint32_t index, uint32_t generation,
			 char text[MAAS_SLAB_ID_TEXT]);

/* Reads an id, in upper case too. Errors: -ENOENT maas_slab_id_encode() with `key` did not write
 * it. */
MAAS_MUST_CHECK int maas_slab_id_decode(const struct maas_slab_id_key *key, const char *text,
					uint32_t *ret_index, uint32_t *ret_generation);

/* ---- the pool */

struct maas_slab_options {
	uint64_t max_bytes;	     /* --max-pool-size; rounded down to whole extents */
	const uint64_t *class_bytes; /* borrowed during the call; any order, no duplicates */
	unsigned int num_classes;    /* 1 to MAAS_SLAB_MAX_CLASSES */
	uint64_t extent_bytes;	     /* 0: the largest class, rounded up to whole pages */
	/* --memory-file: the bytes are kept in this file and the slots in `file`.slots, for the
	 * next process; NULL: nothing is kept */
	const char *file;
	bool prealloc; /* allocate every extent's pages now */

	/* Called at every step of a long opening, with how many of how many bytes have memory (0 of
	 * 0 while a predecessor is waited for). Non-zero, such as -EINTR, ends the opening. */
	int (*tick)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *tick_ctx;
};

/*
 * Makes an empty pool. On failure `error` (MAAS_SLAB_ERROR bytes, may be NULL) holds a sentence for
 * the operator that names the option at fault.
 * With `file`, what was live when the last process ended is live again, under the same ids; waits
 * up to ten seconds for what that process's NIC may still write, where there is such a thing. A
 * failed opening leaves no file that was not there before.
 * Errors: -EINVAL options that contradict each other, or what the file was made with while slabs
 * are lent from it, -EBUSY the file is in use, -EPERM it is not this user's alone, -EUCLEAN its
 * table is damaged, -ENOMEM, -ENOSPC (prealloc), what `tick` says, errno of memfd_create(2),
 * mmap(2), open(2).
 */
#define MAAS_SLAB_ERROR 400
MAAS_MUST_CHECK int maas_slab_open(const struct maas_slab_options *options, char *error,
				   struct maas_slab **ret_slab);
void maas_slab_close(struct maas_slab *slab);

/* As maas_slab_close(), for a start that fails later on: files that this opening made are removed,
 * unless something was lent from them. NULL is allowed. */
void maas_slab_discard(struct maas_slab *slab);

/*
 * Notes in the file whether a device may write to the pool by itself, so that the next process
 * knows what it has to wait for. Called before the first queue pair is made and after the last one
 * is destroyed. When the pool is opened, no device writes.
 */
void maas_slab_set_remote(struct maas_slab *slab, bool remote);

/* ---- the file system */

/* What `file` and its table may grow to, and what their file system has for them. */
struct maas_slab_room {
	uint64_t max_bytes;    /* of the pool, in whole … */
	uint64_t extent_bytes; /* … extents */
	uint64_t need_bytes;   /* of a full pool and its table */
	uint64_t held_bytes;   /* of them, what the files have already */
	uint64_t room_bytes;   /* with what they have; UINT64_MAX: no limit is known */
	uint64_t total_bytes;  /* of the file system; UINT64_MAX as above */
	bool huge;	       /* hugetlbfs: not of the machine's common memory */
	bool disk;	       /* not memory at all */
};

/* Makes and opens nothing. Without options->file: what a pool in memory needs. Errors: -EINVAL bad
 * options, -ENOSPC there is no room for an empty pool, errno of statfs(2); with a sentence. */
MAAS_MUST_CHECK int maas_slab_room(const struct maas_slab_options *options, char *error,
				   struct maas_slab_room *ret_room);

/* From now on an allocation that has to wait for pages fails with -ECANCELED: the program ends. */
void maas_slab_stop(struct maas_slab *slab);

/* How the annex of kept memory begins; zeros, where nothing is kept. */
struct maas_slab_mark {
	unsigned char bytes[16];
};

/*
 * Whether a pool could be opened with options->file: looks at what is there, and makes and changes
 * nothing. Its slots are looked at when it is opened. Errors: as maas_slab_open(), with a sentence.
 */
MAAS_MUST_CHECK int maas_slab_look(const struct maas_slab_options *options,
				   struct maas_slab_mark *ret_mark, char *error);

/* What the file system of an open pool's files has left; UINT64_MAX: no file, or no limit. */
uint64_t maas_slab_room_left(const struct maas_slab *slab);

/* Whether the pool is of what a control group's limit of memory counts: no huge pages, no disk. */
bool maas_slab_in_memory(const struct maas_slab *slab);

/* One life of one slab: the slot's index and the generation that each allocation raises by one. */
struct maas_slab_ref {
	uint32_t slot;
	uint32_t generation;
};

/* What the layer above notes on a slab; kept in the slot, without meaning here. */
struct maas_slab_label {
	uint32_t owner;
	uint32_t created_s;
	uint32_t ttl_s;
	uint8_t lifetime;
};

struct maas_slab_info {
	struct maas_slab_ref ref;
	uint64_t size_bytes; /* asked for */
	uint64_t slab_bytes; /* of the class */
	uint64_t offset;     /* of the slab in the arena */
	uint8_t *bytes;	     /* the slab in this process; remote-writable: trust nothing in it */
	struct maas_slab_label label;
};

/*
 * Takes a zeroed slab of the smallest class that holds `size_bytes`.
 * Errors: -EINVAL for 0, -EFBIG above the largest class, -ENOSPC when no slab and no extent is free
 * or the backing file has no space.
 */
MAAS_MUST_CHECK int maas_slab_alloc(struct maas_slab *slab, uint64_t size_bytes,
				    const struct maas_slab_label *label,
				    struct maas_slab_ref *ret_ref);

/* `count` slabs (1 to MAAS_SLAB_MAX_BATCH), all or none. Errors: as maas_slab_alloc(). */
MAAS_MUST_CHECK int maas_slab_alloc_many(struct maas_slab *slab, uint64_t size_bytes,
					 uint32_t count, const struct maas_slab_label *label,
					 struct maas_slab_ref *ret_refs);

/* Whether such an allocation would have a new extent made now, and wait for its pages. */
bool maas_slab_must_grow(struct maas_slab *slab, uint64_t size_bytes, uint32_t count);

/* Describes a live slab. Errors: -ENOENT when `ref` is not live (any 64 bits may be passed). */
MAAS_MUST_CHECK int maas_slab_get(struct maas_slab *slab, struct maas_slab_ref ref,
				  struct maas_slab_info *ret_info);

/* Notes a new `ttl_s`. Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_slab_set_ttl(struct maas_slab *slab, struct maas_slab_ref ref,
				      uint32_t ttl_s);

/* Live to revoking: from here on the slab is unknown to maas_slab_get(). Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_slab_revoke(struct maas_slab *slab, struct maas_slab_ref ref);

/*
 * Revoking or quarantined to dirty: nobody can reach the bytes any more, the slab waits for reuse.
 * Errors: -ENOENT when it is in neither state.
 */
MAAS_MUST_CHECK int maas_slab_release(struct maas_slab *slab, struct maas_slab_ref ref);

/* maas_slab_revoke() and maas_slab_release() in one step, for a slab without keys and readers. */
MAAS_MUST_CHECK int maas_slab_free(struct maas_slab *slab, struct maas_slab_ref ref);

/* Revoking to quarantined: a key may still be alive; the bytes stay out of use. Errors: -ENOENT. */
MAAS_MUST_CHECK int maas_slab_quarantine(struct maas_slab *slab, struct maas_slab_ref ref);

/*
 * The next live slab at or after slot `*cursor`, in slot order; moves `*cursor` past it. Examines
 * at most `max_slots` used slots, so that a long walk never holds the lock long. Returns 1 with
 * `ret_info` set, 0 when the budget ran out (call again), -ENOENT at the end.
 */
MAAS_MUST_CHECK int maas_slab_next(struct maas_slab *slab, uint64_t *cursor, uint32_t max_slots,
				   struct maas_slab_info *ret_info);

/*
 * Housekeeping, to be called several times a second. Slabs that were freed at least a second before
 * `now_ms` (monotonic) are zeroed and join their extents' free lists. Freed slabs are counted at
 * most once a second, and a slab's wait begins when it is counted: it lasts one to two seconds.
 * Bounded: zeroes at most `max_bytes`, at least one slab. Returns how many bytes were zeroed; 0:
 * nothing is due.
 */
uint64_t maas_slab_reclaim(struct maas_slab *slab, uint64_t now_ms, uint64_t max_bytes);

/* ---- figures */

struct maas_slab_class_stats {
	uint64_t slab_bytes;
	uint64_t pool_bytes;	  /* extents carved for the class */
	uint64_t requested_bytes; /* asked for by the live slabs */
	uint64_t total_slabs;	  /* used + free + waiting + quarantined */
	uint64_t used_slabs;	  /* live or revoking */
	uint64_t waiting_slabs;	  /* freed, in the delay queue or being zeroed */
	uint64_t quarantined_slabs;
	uint64_t free_slabs; /* the rest */
};

struct maas_slab_stats {
	uint64_t max_bytes; /* after rounding to extents */
	uint64_t extent_bytes;
	uint64_t extents_total;
	uint64_t extents_used;	  /* carved for a class */
	uint64_t backed_bytes;	  /* extents whose pages were allocated so far */
	uint64_t allocations;	  /* since the start, without those that were kept */
	uint64_t frees;		  /* since the start */
	uint64_t live_slabs;	  /* live or revoking, all classes */
	uint64_t live_bytes;	  /* their slabs' sizes */
	uint64_t requested_bytes; /* what was asked for */
	uint64_t quarantined_bytes;
	bool has_file;	     /* --memory-file */
	bool short_of_space; /* the file system, or the machine, refused the last extent */
	unsigned int num_classes;
	struct maas_slab_class_stats classes[MAAS_SLAB_MAX_CLASSES]; /* by size, ascending */
};

/* O(classes). What stands in `classes` behind num_classes is undefined. */
void maas_slab_stats(struct maas_slab *slab, struct maas_slab_stats *ret_stats);

#define MAAS_SLAB_MAP_ENTRIES 1024
#define MAAS_SLAB_MAP_EXTENTS (1u << 20) /* of the largest pool that has a map */

/* Some neighbouring extents. */
struct maas_slab_map_entry {
	uint64_t slab_bytes;  /* 0: they are free, or carved for several classes */
	uint64_t slabs;	      /* of those that are carved; 0: all are free */
	uint64_t taken;	      /* slabs that cannot be handed out: used, waiting, quarantined */
	uint64_t taken_bytes; /* their sizes */
};

/* The extents by address; those behind the last entry are free. */
struct maas_slab_map {
	uint32_t extents;   /* of the pool */
	uint32_t per_entry; /* extents of an entry: a power of two */
	uint32_t count;	    /* entries up to the last that is not free */
	uint32_t cursor;
	struct maas_slab_map_entry entries[MAAS_SLAB_MAP_ENTRIES];
};

/* Begins a map. Errors: -E2BIG the pool has more than MAAS_SLAB_MAP_EXTENTS extents. */
MAAS_MUST_CHECK int maas_slab_map_start(const struct maas_slab *slab, struct maas_slab_map *map);
/* Goes on with some extents more, a bounded number under the lock. False at the map's end. */
MAAS_MUST_CHECK bool maas_slab_map_next(struct maas_slab *slab, struct maas_slab_map *map);

/* The key of this arena's ids. */
const struct maas_slab_id_key *maas_slab_id_key(const struct maas_slab *slab);

/* The arena's id, a random UUID that names the life of the bytes. */
const char *maas_slab_arena_id(const struct maas_slab *slab);

/* When the arena was made, in seconds since 1970: a restart with kept memory leaves it as it was.
 * 0: by a version that did not note it. */
uint64_t maas_slab_created_s(const struct maas_slab *slab);

/* MAAS_SLAB_ANNEX_BYTES for the layer above, zeroed in a new pool, kept with the slots. */
void *maas_slab_annex(const struct maas_slab *slab);

/* Where the bytes lie, for registering them with a device; constant. */
struct maas_slab_area {
	uint8_t *base;	/* page-aligned; only extents that were handed out have pages */
	uint64_t bytes; /* whole extents; extent n begins at n * extent_bytes */
	uint64_t extent_bytes;
	uint32_t num_slots; /* a ref's slot is below it */
};

void maas_slab_area(const struct maas_slab *slab, struct maas_slab_area *ret_area);

/* ---- for tests */

/* Steps taken by all operations so far: list moves and slots touched. */
uint64_t maas_slab_steps(const struct maas_slab *slab);

/* Aborts with a message when an invariant is broken. O(slots); no operation may be under way. */
void maas_slab_check(struct maas_slab *slab);

#endif
