/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a slab pool, one .c each: arena (the bytes), slot (the records of slabs), extent
 * (what is free in each extent, and which extent to fill next), map (how full all are), delay
 * (freed slabs that wait), class (the sizes), file, table, guard and restore (memory that outlives
 * the process), room (what the file system has), and slab.c, which holds the lock and calls them.
 *
 * "Lock held" functions are those that take a struct maas_slab and are not public.
 */
#ifndef MAAS_SLAB_INTERNAL_H
#define MAAS_SLAB_INTERNAL_H

#include <assert.h>
#include <stdatomic.h>
#include <sys/vfs.h>

#include "base/lock.h"
#include "slab/slab.h"

#define MAAS_SLAB_NONE	       UINT32_MAX /* no slot, no extent, no class */
#define MAAS_SLAB_BUCKETS      8	  /* of extents with a free slab, by how full they are */
#define MAAS_SLAB_BUCKET_FULL  MAAS_SLAB_BUCKETS /* of those without one: they are in none */
#define MAAS_SLAB_DELAY_FREES  4096
#define MAAS_SLAB_DELAY_MS     1000
#define MAAS_SLAB_SLOT_MAGIC   "maasslot"
#define MAAS_SLAB_SLOT_LAYOUT  2
#define MAAS_SLAB_RECLAIM_STEP (1u << 20) /* bytes zeroed between two holds of the lock */

/* ---- slot: what the next process needs to know of a slab; indices only, no pointers */

enum maas_slab_slot_state {
	MAAS_SLAB_SLOT_CLEAN, /* zeroed; free, or being handed out */
	MAAS_SLAB_SLOT_DIRTY, /* zeroed before it is handed out; free, waiting or being zeroed */
	MAAS_SLAB_SLOT_LIVE,
	MAAS_SLAB_SLOT_REVOKING,
	MAAS_SLAB_SLOT_QUARANTINED,
	MAAS_SLAB_SLOT_RETIRED, /* its generations are used up: kept back for ever */
};
/* The first versions of layout 2 wrote two states more while a slab was being handed out. */
#define MAAS_SLAB_SLOT_LAST_STATE 7

struct maas_slab_slot {
	uint32_t generation;
	uint32_t link; /* the next slot in a free list, or of those that are zeroed */
	uint32_t size_bytes;
	uint32_t owner;
	uint32_t created_s;
	uint32_t ttl_s;
	_Atomic uint8_t state;
	uint8_t class_index; /* as the extent's, once the slot was used in its carving */
	uint8_t lifetime;
	uint8_t reserved[5];
};
static_assert(sizeof(struct maas_slab_slot) == 32, "a slot is part of a file's layout");
static_assert(MAAS_SLAB_MAX_CLASS <= UINT32_MAX, "size_bytes is 32 bits");

/* Who but the process itself may write to the lent bytes. */
enum maas_slab_slot_writers {
	MAAS_SLAB_WRITERS_UNKNOWN, /* zero, as the first versions of layout 2 leave it */
	MAAS_SLAB_WRITERS_NONE,
	MAAS_SLAB_WRITERS_DEVICE, /* a NIC, until the process's queue pairs are gone */
};

/*
 * More on the process whose table it is. A version without it changes `pid` and leaves this: it
 * counts only where both name the same process.
 */
struct maas_slab_slot_guard {
	uint64_t pid_ns;  /* inode of the namespace that its pid is of; 0: unknown */
	uint64_t time_ns; /* and of the one that its start time is of */
	uint64_t pid_start;
	int32_t pid;
	uint32_t writers;    /* enum maas_slab_slot_writers */
	uint64_t init_start; /* when process 1 of the pid namespace began; 0: unknown */
};

/* The table's start; what a process that maps it again must find unchanged. */
struct maas_slab_slot_header {
	char magic[8];
	uint32_t layout;
	uint32_t num_classes;
	uint64_t extent_bytes;
	uint64_t max_bytes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES];
	struct maas_slab_id_key id_key;
	char arena_id[MAAS_SLAB_ID_TEXT];
	char reserved[3];
	uint32_t grown;	    /* extents whose pages are allocated */
	int32_t pid;	    /* whose table it is, … */
	uint64_t pid_start; /* … by its start time, as pids come again */
	struct maas_slab_slot_guard guard;
	uint64_t created_s; /* since 1970; 0, as the first versions of layout 2 leave it: unknown */
};
static_assert(offsetof(struct maas_slab_slot_header, guard) == 360, "where layout 2 first ended");
static_assert(offsetof(struct maas_slab_slot_header, created_s) == 400, "where it ended next");
static_assert(sizeof(struct maas_slab_slot_header) == 408, "the header is part of a file's layout");
#define MAAS_SLAB_SLOT_HEADER_BYTES 4096

/* ---- extent: rebuilt from its slots when needed */

struct maas_slab_extent {
	uint32_t next;	    /* in its bucket or in the common pool; the last: MAAS_SLAB_NONE */
	uint32_t prev;	    /* in its bucket; the first: not set */
	uint32_t free_head; /* slots that were used before and are free again */
	uint32_t taken;	    /* slabs that cannot be handed out: used, waiting, quarantined */
	uint32_t bump;	    /* slots from here on were never used in this carving */
	uint32_t left;	    /* slabs to take until it belongs to a fuller bucket */
	uint32_t dirty;	    /* slabs in the free list that are not zeroed */
	uint8_t class_index;
	uint8_t bucket;
	bool carved;
	bool stale; /* the slabs from `bump` on may hold old bytes */
};
static_assert(sizeof(struct maas_slab_extent) == 32, "no record lies in two cache lines");

/* ---- class */

/*
 * Slots in the order they were freed. Places in it are counted from the start: `popped` is the
 * place of the oldest, `pushed` that of the next to come; ring[p % MAAS_SLAB_DELAY_FREES] is the
 * slot at place p.
 */
struct maas_slab_delay {
	uint64_t pushed;
	uint64_t popped;
	uint64_t due;	/* those before this place have waited long enough */
	uint64_t aging; /* those before this place will have at the next rotation */
	uint32_t ring[MAAS_SLAB_DELAY_FREES];
};

struct maas_slab_class {
	/* constant */
	uint64_t slab_bytes;
	uint32_t capacity; /* slabs in an extent */
	/* guarded by the pool's lock */
	uint32_t nonempty; /* bit b: bucket b has an extent */
	uint64_t free;	   /* slabs that can be handed out, over all its extents */
	uint64_t requested_bytes;
	uint32_t heads[MAAS_SLAB_BUCKETS]; /* of the buckets; MAAS_SLAB_NONE: it is empty */
	uint32_t tails[MAAS_SLAB_BUCKETS];
	uint32_t extents;
	uint64_t zeroing; /* slabs off every list while maas_slab_reclaim() zeroes them */
	uint64_t quarantined;
	uint64_t allocations;
	struct maas_slab_delay delay;
};

static inline uint64_t maas_slab_delay_count(const struct maas_slab_delay *delay)
{
	return delay->pushed - delay->popped;
}

static inline uint64_t maas_slab_class_total(const struct maas_slab_class *class)
{
	uint64_t extents = class->extents;

	return extents * class->capacity;
}

/* Slabs that are live or revoking, or about to be live. */
static inline uint64_t maas_slab_class_used(const struct maas_slab_class *class)
{
	return maas_slab_class_total(class) - class->free - maas_slab_delay_count(&class->delay) -
	       class->zeroing - class->quarantined;
}

/* ---- arena */

struct maas_slab_arena {
	uint8_t *base; /* NULL: none */
	uint64_t bytes;
	int fd;
};

/* ---- file */

/* What the opening of a --memory-file did to it. */
struct maas_slab_file_made {
	char *path; /* NULL: there is no such file */
	bool anew;  /* both files were sized for a new table */
	bool bytes; /* PATH was not there before */
	bool slots; /* nor was PATH.slots */
};

struct maas_slab_file {
	int bytes_fd;
	int slots_fd;
	bool kept; /* it holds what another process left */
	struct maas_slab_file_made made;
};

/* ---- the pool */

/* What the options come to, checked. */
struct maas_slab_geometry {
	uint64_t extent_bytes;
	uint64_t max_bytes; /* whole extents */
	uint32_t num_extents;
	uint64_t huge_bytes; /* of hugetlbfs, in which sizes of files are counted; 0: elsewhere */
	unsigned int slot_shift; /* slots of an extent: a power of two, no division */
	unsigned int num_classes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES]; /* ascending */
};

struct maas_slab {
	/* constant after maas_slab_open() */
	struct maas_slab_geometry geo;
	struct maas_slab_arena arena;
	struct maas_slab_slot *slots;
	struct maas_slab_extent *extents;
	struct maas_slab_slot_header *header; /* then the annex, then the slots, in one map */
	size_t slots_map_bytes;
	int slots_fd; /* -1: no file */
	size_t extents_map_bytes;
	struct maas_slab_file_made made; /* for maas_slab_discard() */
	uint64_t kept;			 /* allocations that the process before has left */

	struct maas_lock lock;
	/* guarded by lock */
	uint64_t steps;
	uint32_t grown;	      /* extents whose pages are allocated: the first ones */
	uint32_t num_slots;   /* of those extents */
	uint32_t common_head; /* the common pool: extents without a class, last in first out */
	uint32_t common_count;
	bool stopping;		       /* nobody waits for pages any more */
	bool growing;		       /* one thread allocates the pages of extent `grown` */
	bool short_of_space;	       /* the last one that tried could not */
	uint32_t zeroing;	       /* slabs that are being zeroed, all classes */
	uint64_t rotated_ms;	       /* when the delay queues last noted how long they are */
	struct maas_lock_cond changed; /* growing or zeroing came to an end */
	struct maas_slab_class classes[MAAS_SLAB_MAX_CLASSES];
};

static inline uint32_t maas_slab_slot_extent(const struct maas_slab *slab, uint32_t slot)
{
	return slot >> slab->geo.slot_shift;
}

/* The slot's place in its extent. */
static inline uint32_t maas_slab_slot_place(const struct maas_slab *slab, uint32_t slot)
{
	return slot & ((1u << slab->geo.slot_shift) - 1);
}

static inline uint8_t maas_slab_slot_state(const struct maas_slab_slot *slot)
{
	return atomic_load_explicit(&slot->state, memory_order_acquire);
}

static inline void maas_slab_slot_set_state(struct maas_slab_slot *slot,
					    enum maas_slab_slot_state state)
{
	atomic_store_explicit(&slot->state, (uint8_t)state, memory_order_release);
}

/* The slot must have been used in its extent's carving. */
static inline struct maas_slab_class *maas_slab_slot_class(struct maas_slab *slab,
							   const struct maas_slab_slot *slot)
{
	return &slab->classes[slot->class_index];
}

/* Where the slab lies in the arena. Its extent must be carved. */
static inline uint64_t maas_slab_slot_offset(const struct maas_slab *slab, uint32_t slot,
					     uint64_t slab_bytes)
{
	return maas_slab_slot_extent(slab, slot) * slab->geo.extent_bytes +
	       maas_slab_slot_place(slab, slot) * slab_bytes;
}

/* The slot of `ref` when it is in `state`, live or one that follows it, else NULL. */
static inline struct maas_slab_slot *maas_slab_slot_find(struct maas_slab *slab,
							 struct maas_slab_ref ref,
							 enum maas_slab_slot_state state)
{
	struct maas_slab_slot *slot;

	slab->steps++;
	if (ref.slot >= slab->num_slots)
		return NULL;
	slot = &slab->slots[ref.slot];
	if (slot->generation != ref.generation || maas_slab_slot_state(slot) != state)
		return NULL;
	return slot;
}

/* Notes that the first `grown` extents have pages now. */
static inline void maas_slab_set_grown(struct maas_slab *slab, uint32_t grown)
{
	slab->grown = grown;
	slab->num_slots = grown << slab->geo.slot_shift;
	slab->header->grown = grown;
}

/* Lets a freed slab wait, behind those of its class. The queue must not be full. */
static inline void maas_slab_delay_push(struct maas_slab_delay *delay, uint32_t slot)
{
	delay->ring[delay->pushed++ % MAAS_SLAB_DELAY_FREES] = slot;
}

/* A step of a long opening; non-zero when it is to end. */
static inline int maas_slab_tick(const struct maas_slab_options *options, uint64_t done_bytes,
				 uint64_t total_bytes)
{
	return options->tick ? options->tick(options->tick_ctx, done_bytes, total_bytes) : 0;
}

/* error.c */
/* Writes a sentence for the operator into `error` (MAAS_SLAB_ERROR bytes, or NULL); returns `r`. */
int maas_slab_refuse(char *error, int r, const char *fmt, ...) MAAS_PRINTF(3, 4);

/* class.c */
MAAS_MUST_CHECK int maas_slab_geometry_init(struct maas_slab_geometry *geo,
					    const struct maas_slab_options *options, char *error);
void maas_slab_class_init(struct maas_slab_class *class, uint64_t slab_bytes,
			  uint64_t extent_bytes);

/* arena.c */
/* The file system of the pool's bytes; all zero for a memfd. Errors: errno of fstatfs(2). */
MAAS_MUST_CHECK int maas_slab_arena_fs(const struct maas_slab_options *options,
				       struct statfs *ret_fs);
/* Reserves `bytes` of `fd`, which is the arena's from then on, even on failure. No page is
 * allocated. Errors: of mmap(2). */
MAAS_MUST_CHECK int maas_slab_arena_open(struct maas_slab_arena *arena, int fd, uint64_t bytes);
/* Allocates the pages of a range, zeroed. Errors: -ENOSPC. Threading: any thread. */
MAAS_MUST_CHECK int maas_slab_arena_back(struct maas_slab_arena *arena, uint64_t offset,
					 uint64_t bytes);
void maas_slab_arena_close(struct maas_slab_arena *arena);

/* id.c */
/* True for the text of a UUID and its NUL. */
bool maas_slab_id_is_text(const char text[MAAS_SLAB_ID_TEXT]);

/* file.c */
/*
 * Opens and locks `path` and its table, both of the sizes that the pool's geometry makes.
 * Owns: the caller, both descriptors and made.path. Errors: as maas_slab_open(), with a sentence;
 * what it made is then removed.
 */
MAAS_MUST_CHECK int maas_slab_file_open(const struct maas_slab_geometry *geo, const char *path,
					char *error, struct maas_slab_file *ret_file);
/* Takes back what the opening did to the files, which are still locked. Kept ones stay. */
void maas_slab_file_undo(const struct maas_slab_file *file);

/* table.c */
/*
 * Looks at two locked files, either of which may be empty or damaged: sets `ret_kept` when they
 * hold a table that fits `geo`, clears it when they are to be made anew, as where nothing is lent
 * from a table of other options. Nothing is changed.
 * Errors: -EINVAL other options, -EEXIST something else, -EUCLEAN damaged; with a sentence.
 */
MAAS_MUST_CHECK int maas_slab_table_check(const struct maas_slab_geometry *geo,
					  const struct maas_slab_file *file, char *error,
					  bool *ret_kept);

/* guard.c */
/*
 * Waits until nothing of the process that the table names can write to the bytes any more.
 * Errors: -EBUSY it is there still, with a sentence; what options->tick says.
 */
MAAS_MUST_CHECK int maas_slab_guard_wait(const struct maas_slab_slot_header *header,
					 const struct maas_slab_options *options, char *error);
/* Notes this process in the table; no device writes yet. */
void maas_slab_guard_sign(struct maas_slab_slot_header *header);

/* restore.c */
/* Finds what is live in a kept table and rebuilds the rest. Errors: -EUCLEAN, -ENOSPC; what
 * options->tick says. */
MAAS_MUST_CHECK int maas_slab_restore(struct maas_slab *slab,
				      const struct maas_slab_options *options, char *error);

/* slot.c */
size_t maas_slab_slots_bytes(const struct maas_slab_geometry *geo);
/* Where the slots of an extent begin in the table. */
size_t maas_slab_slots_offset(const struct maas_slab_geometry *geo, uint32_t extent);
/* Maps the table; `fd` (taken; -1: memory of this process) holds one already if `kept`. */
MAAS_MUST_CHECK int maas_slab_slots_open(struct maas_slab *slab, int fd, bool kept);
/* Allocates the pages of an extent's slots. Errors: -ENOSPC. */
MAAS_MUST_CHECK int maas_slab_slots_back(struct maas_slab *slab, uint32_t extent);
/* Zeroes the bytes of a slab that is taken and not live. Lock not held: nobody else uses it. */
void maas_slab_slot_zero(struct maas_slab *slab, uint32_t slot);
void maas_slab_slots_close(struct maas_slab *slab);

/* extent.c */
MAAS_MUST_CHECK int maas_slab_extents_open(struct maas_slab *slab);
void maas_slab_extents_close(struct maas_slab *slab);

/* The taken slabs from which on an extent is in the bucket; of the full one: all. */
static inline uint32_t maas_slab_bucket_start(const struct maas_slab_class *class, uint32_t bucket)
{
	return (bucket * class->capacity + MAAS_SLAB_BUCKETS - 1) / MAAS_SLAB_BUCKETS;
}

/* What maas_slab_extent_take() does now and then: it carves an extent of the common pool for the
 * class, picks a slot that was never used in this carving, puts an extent into a fuller bucket. */
uint32_t maas_slab_extent_carve(struct maas_slab *slab, struct maas_slab_class *class);
uint32_t maas_slab_extent_pick_new(struct maas_slab *slab, uint32_t index);
void maas_slab_extent_rise(struct maas_slab *slab, struct maas_slab_class *class, uint32_t index);

/* The first extent of its bucket has become too full for it. */
static inline void maas_slab_extent_leave(struct maas_slab *slab, struct maas_slab_class *class,
					  uint32_t index, struct maas_slab_extent *extent)
{
	uint8_t bucket = extent->bucket;

	class->heads[bucket] = extent->next;
	if (extent->next == MAAS_SLAB_NONE)
		class->nonempty &= ~(1u << bucket);
	if (bucket < MAAS_SLAB_BUCKETS - 1)
		maas_slab_extent_rise(slab, class, index);
	else
		extent->bucket = MAAS_SLAB_BUCKET_FULL;
}

/* Takes a slab of the fullest extent, under its next generation. There must be one: a free one of
 * the class, or an extent in the common pool. In the header, as each allocation does it. */
static inline struct maas_slab_slot *maas_slab_extent_take(struct maas_slab *slab,
							   struct maas_slab_class *class,
							   struct maas_slab_ref *ret_ref)
{
	uint32_t index = class->nonempty ? class->heads[31 - __builtin_clz(class->nonempty)]
					 : maas_slab_extent_carve(slab, class);
	struct maas_slab_extent *extent = &slab->extents[index];
	uint32_t slot_index = extent->free_head;
	struct maas_slab_slot *slot;

	if (slot_index == MAAS_SLAB_NONE) {
		slot_index = maas_slab_extent_pick_new(slab, index);
		slot = &slab->slots[slot_index];
	} else {
		slot = &slab->slots[slot_index];
		if (maas_slab_slot_state(slot) == MAAS_SLAB_SLOT_DIRTY)
			extent->dirty--;
		extent->free_head = slot->link;
		slot->generation++;
	}
	ret_ref->slot = slot_index;
	slab->steps++;
	class->free--;
	extent->taken++;
	if (!--extent->left)
		maas_slab_extent_leave(slab, class, index, extent);
	ret_ref->generation = slot->generation;
	return slot;
}

/* Makes a taken slab free again, `state` clean or dirty. */
void maas_slab_extent_join(struct maas_slab *slab, uint32_t slot, enum maas_slab_slot_state state);
/* Takes an extent of which `taken` slabs are in use and the free ones below `bump` are dirty and
 * chained from `free_head`. */
void maas_slab_extent_restore(struct maas_slab *slab, uint32_t index,
			      const struct maas_slab_extent *extent);
/* Adds an extent without a class to the common pool. */
void maas_slab_extent_to_common(struct maas_slab *slab, uint32_t index);

/* delay.c */
/* The oldest slot; the queue must not be empty. */
uint32_t maas_slab_delay_pop(struct maas_slab *slab, struct maas_slab_class *class);
/* Frees one waiting slab before its time, of `class` if it has one. False: none waits. */
bool maas_slab_delay_cut(struct maas_slab *slab, struct maas_slab_class *class);
/* Notes the time: what waited for MAAS_SLAB_DELAY_MS is due. */
void maas_slab_delay_rotate(struct maas_slab *slab, uint64_t now_ms);

#endif
