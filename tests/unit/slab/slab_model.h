/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A naive model of a slab pool: what is lent, to the byte. Each model_*() runs one operation on the
 * pool and on the model, and fails the test where they differ.
 */
#ifndef MAAS_TESTS_UNIT_SLAB_MODEL_H
#define MAAS_TESTS_UNIT_SLAB_MODEL_H

#include "tests/unit/slab/slab_fixture.h"

enum model_state {
	MODEL_FREE,
	MODEL_LIVE,
	MODEL_REVOKING,
	MODEL_QUARANTINED,
	MODEL_STATES,
};

struct model_item {
	enum model_state state;
	unsigned int class;
	uint64_t pattern;
	struct maas_slab_info info;
	uint32_t place; /* in model.used */
	uint32_t walk;	/* the last walk that met it */
};

struct model {
	struct maas_slab *slab;
	const uint64_t *class_bytes; /* ascending */
	unsigned int num_classes;
	uint64_t extent_bytes;
	uint64_t extents_total;
	uint64_t random;
	uint64_t now_ms;	  /* the time that the pool is told */
	struct model_item *items; /* by granule of the arena: a slab's is the one of its offset */
	uint32_t *granules;	  /* of 64 bytes: 1 + the item that covers it, or 0 */
	uint32_t *used;		  /* items that are not free, in no order */
	uint32_t num_used;
	uint32_t walk;
	uint64_t used_bytes; /* slabs */
	uint64_t allocations;
	uint64_t frees;
};

void model_init(struct model *model, uint64_t max_bytes, uint64_t extent_bytes,
		const uint64_t *class_bytes, unsigned int num_classes, uint64_t seed);
void model_fini(struct model *model);

/* `count` slabs of a random size of class `class`; -ENOSPC must come exactly when it is true. */
void model_alloc(struct model *model, unsigned int class, uint32_t count);
void model_free(struct model *model, struct model_item *item);
void model_revoke(struct model *model, struct model_item *item);
void model_release(struct model *model, struct model_item *item);
void model_quarantine(struct model *model, struct model_item *item);
void model_get(struct model *model, struct model_item *item);
void model_set_ttl(struct model *model, struct model_item *item, uint32_t ttl_s);
/* Housekeeping when `pass_ms` have gone by. */
void model_reclaim(struct model *model, uint64_t pass_ms, uint64_t max_bytes);

/* A ref that was never given out, or whose slab is gone, is unknown to every operation. */
void model_stale(struct model *model, struct maas_slab_ref ref);

/* Every live slab once, in slot order. */
void model_walk(struct model *model);

/* The figures, the contents of every slab, and the pool's own invariants. */
void model_check(struct model *model);

#endif
