/* SPDX-License-Identifier: Apache-2.0 */
/* owner: names, as 32-bit indices in the slabs' labels. Threading: under lend's lock. */
#ifndef MAAS_LEND_OWNER_H
#define MAAS_LEND_OWNER_H

#include <assert.h>

#include "lend/lend.h"

#define MAAS_LEND_OWNER_BUCKETS 16384

/* Fixed size and no pointers, so that the table can lie beside the slots in a file. */
struct maas_lend_owner {
	char name[MAAS_NAME_BYTES];
	uint32_t next; /* in its bucket, or in the free list; 0: none */
	uint32_t live; /* allocations that name it */
};

/* Lies in the annex of the pool. */
struct maas_lend_owner_table {
	uint32_t used;		 /* records ever used, [0] included; 0: the table is new */
	uint32_t has_principals; /* 1: the memory was used with principals last */
	struct maas_lend_owner records[MAAS_LEND_MAX_OWNERS + 1]; /* [0] is no owner */
};
static_assert(sizeof(struct maas_lend_owner) == 72, "an owner is part of a file's layout");
static_assert(sizeof(struct maas_lend_owner_table) <= MAAS_SLAB_ANNEX_BYTES,
	      "it lies in the annex");

struct maas_lend_owners {
	unsigned char key[16];
	struct maas_lend_owner_table *table;
	uint32_t free;
	uint32_t count;
	uint32_t buckets[MAAS_LEND_OWNER_BUCKETS];
};

/* The table may be that of another process: then names only count, until
 * maas_lend_owners_restored(). Errors: -EUCLEAN it cannot be one. */
MAAS_MUST_CHECK int maas_lend_owners_init(struct maas_lend_owners *owners,
					  struct maas_lend_owner_table *table);
/* Counts one kept allocation of the owner at `index`. Errors: -EUCLEAN there is no such owner. */
MAAS_MUST_CHECK int maas_lend_owner_keep(struct maas_lend_owners *owners, uint32_t index);
/* Every kept allocation was counted: sorts the names into those in use and the free ones. Errors:
 * -EUCLEAN a name is there twice. */
MAAS_MUST_CHECK int maas_lend_owners_restored(struct maas_lend_owners *owners);
/* The index of `name`; 0: no allocation has that owner. */
uint32_t maas_lend_owner_find(const struct maas_lend_owners *owners, const char *name);
/* Notes `count` more allocations of `name`. Errors: -EUSERS too many different owners. */
MAAS_MUST_CHECK int maas_lend_owner_get(struct maas_lend_owners *owners, const char *name,
					uint32_t count, uint32_t *ret_index);
void maas_lend_owner_put(struct maas_lend_owners *owners, uint32_t index, uint32_t count);
/* How many allocations name it. */
uint32_t maas_lend_owner_live(const struct maas_lend_owners *owners, uint32_t index);
const char *maas_lend_owner_name(const struct maas_lend_owners *owners, uint32_t index);

#endif
