/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every invariant of a pool, for tests: walks all lists and all slots. No operation may be under
 * way.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slab/internal.h"

/* Slabs are checked whole up to this sum, beyond it only at their ends. */
#define ZERO_CHECK_BYTES (16ull << 20)

enum mark { UNSEEN, ON_LIST, WAITING };

struct check {
	struct maas_slab *slab;
	uint8_t *marks;	       /* by slot */
	uint8_t *extent_marks; /* by extent: ON_LIST when it is in a bucket or the common pool */
	uint64_t zero_budget;
};

static void expect_at(bool good, const char *what, uint64_t index, int line)
{
	if (good)
		return;
	fprintf(stderr, "maas_slab_check: %s (index %" PRIu64 ", check.c:%d)\n", what, index, line);
	abort();
}
#define EXPECT(condition, index) expect_at(condition, #condition, index, __LINE__)

static void mark_extent(struct check *check, uint32_t index)
{
	EXPECT(index < check->slab->grown, index);
	EXPECT(check->extent_marks[index] == UNSEEN, index);
	check->extent_marks[index] = ON_LIST;
}

static void mark_slot(struct check *check, uint32_t slot, enum mark mark)
{
	struct maas_slab *slab = check->slab;
	uint32_t index = maas_slab_slot_extent(slab, slot);

	EXPECT(index < slab->grown, slot);
	EXPECT(maas_slab_slot_place(slab, slot) < slab->extents[index].bump, slot);
	EXPECT(slab->slots[slot].class_index == slab->extents[index].class_index, slot);
	EXPECT(check->marks[slot] == UNSEEN, slot);
	check->marks[slot] = (uint8_t)mark;
}

static void check_common(struct check *check)
{
	struct maas_slab *slab = check->slab;
	uint32_t index = slab->common_head;

	for (uint32_t i = 0; i < slab->common_count; i++, index = slab->extents[index].next) {
		mark_extent(check, index);
		EXPECT(!slab->extents[index].carved, index);
		EXPECT(!slab->extents[index].bump, index);
	}
	EXPECT(index == MAAS_SLAB_NONE, index);
}

static void check_bucket(struct check *check, unsigned int class_index, unsigned int bucket)
{
	struct maas_slab *slab = check->slab;
	const struct maas_slab_class *class = &slab->classes[class_index];
	uint32_t prev = MAAS_SLAB_NONE;

	EXPECT((class->heads[bucket] != MAAS_SLAB_NONE) == (class->nonempty >> bucket & 1), bucket);
	for (uint32_t index = class->heads[bucket]; index != MAAS_SLAB_NONE;) {
		const struct maas_slab_extent *extent = &slab->extents[index];

		mark_extent(check, index);
		EXPECT(extent->carved, index);
		EXPECT(extent->class_index == class_index, index);
		EXPECT(extent->bucket == bucket, index);
		EXPECT(extent->prev == prev || prev == MAAS_SLAB_NONE, index);
		EXPECT(extent->taken >= maas_slab_bucket_start(class, bucket), index);
		EXPECT(extent->taken + extent->left == maas_slab_bucket_start(class, bucket + 1),
		       index);
		EXPECT(extent->left, index);
		prev = index;
		index = extent->next;
	}
	EXPECT(prev == MAAS_SLAB_NONE || prev == class->tails[bucket], bucket);
}

static void check_delay(struct check *check, unsigned int class_index)
{
	struct maas_slab *slab = check->slab;
	const struct maas_slab_delay *delay = &slab->classes[class_index].delay;

	EXPECT(delay->due <= delay->aging && delay->aging <= delay->pushed, class_index);
	EXPECT(maas_slab_delay_count(delay) <= MAAS_SLAB_DELAY_FREES, class_index);
	for (uint64_t place = delay->popped; place < delay->pushed; place++) {
		uint32_t slot = delay->ring[place % MAAS_SLAB_DELAY_FREES];

		mark_slot(check, slot, WAITING);
		EXPECT(slab->extents[maas_slab_slot_extent(slab, slot)].class_index == class_index,
		       slot);
		EXPECT(maas_slab_slot_state(&slab->slots[slot]) == MAAS_SLAB_SLOT_DIRTY, slot);
	}
}

static bool is_zero(const uint8_t *bytes, uint64_t len_bytes)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, len_bytes - 1);
}

static void check_zero(struct check *check, uint32_t slot, uint64_t slab_bytes)
{
	const uint8_t *bytes =
		check->slab->arena.base + maas_slab_slot_offset(check->slab, slot, slab_bytes);

	if (check->zero_budget >= slab_bytes) {
		check->zero_budget -= slab_bytes;
		EXPECT(is_zero(bytes, slab_bytes), slot);
	} else {
		EXPECT(is_zero(bytes, MAAS_SLAB_MIN_CLASS), slot);
		EXPECT(is_zero(bytes + slab_bytes - MAAS_SLAB_MIN_CLASS, MAAS_SLAB_MIN_CLASS),
		       slot);
	}
}

static void check_free_list(struct check *check, uint32_t index)
{
	struct maas_slab *slab = check->slab;
	const struct maas_slab_extent *extent = &slab->extents[index];
	const struct maas_slab_class *class = &slab->classes[extent->class_index];
	uint32_t slot = extent->free_head;
	uint32_t count = 0;
	uint32_t dirty = 0;

	for (; slot != MAAS_SLAB_NONE; slot = slab->slots[slot].link) {
		uint8_t state = maas_slab_slot_state(&slab->slots[slot]);

		mark_slot(check, slot, ON_LIST);
		EXPECT(maas_slab_slot_extent(slab, slot) == index, slot);
		EXPECT(state == MAAS_SLAB_SLOT_CLEAN || state == MAAS_SLAB_SLOT_DIRTY, slot);
		if (state == MAAS_SLAB_SLOT_CLEAN)
			check_zero(check, slot, class->slab_bytes);
		dirty += state == MAAS_SLAB_SLOT_DIRTY;
		count++;
	}
	EXPECT(dirty == extent->dirty, index);
	EXPECT(extent->bump <= class->capacity, index);
	/* every slab below `bump` is taken or in the list */
	EXPECT(count + extent->taken == extent->bump, index);
	slot = index << slab->geo.slot_shift;
	for (uint32_t i = extent->bump; !extent->stale && i < class->capacity; i++)
		check_zero(check, slot + i, class->slab_bytes);
}

/* What a class has, counted slot by slot. */
struct sum {
	uint64_t capacity; /* constant */
	uint64_t slab_bytes;
	uint64_t extents;
	uint64_t free;
	uint64_t used;
	uint64_t waiting;
	uint64_t quarantined;
	uint64_t requested_bytes;
};

static void count_slot(struct check *check, uint32_t slot_index, struct sum *sum)
{
	const struct maas_slab_slot *slot = &check->slab->slots[slot_index];
	uint8_t mark = check->marks[slot_index];

	switch ((enum maas_slab_slot_state)maas_slab_slot_state(slot)) {
	case MAAS_SLAB_SLOT_CLEAN:
		EXPECT(mark == ON_LIST, slot_index);
		sum->free++;
		return;
	case MAAS_SLAB_SLOT_DIRTY:
		EXPECT(mark == ON_LIST || mark == WAITING, slot_index);
		sum->free += mark == ON_LIST;
		sum->waiting += mark == WAITING;
		return;
	case MAAS_SLAB_SLOT_LIVE:
	case MAAS_SLAB_SLOT_REVOKING:
		EXPECT(mark == UNSEEN, slot_index);
		EXPECT(slot->generation, slot_index);
		EXPECT(slot->size_bytes && slot->size_bytes <= sum->slab_bytes, slot_index);
		sum->used++;
		sum->requested_bytes += slot->size_bytes;
		return;
	case MAAS_SLAB_SLOT_QUARANTINED:
	case MAAS_SLAB_SLOT_RETIRED:
		EXPECT(mark == UNSEEN, slot_index);
		sum->quarantined++;
		return;
	}
	expect_at(false, "a slot without a valid state, or an operation is under way", slot_index,
		  __LINE__);
}

static void check_extent(struct check *check, uint32_t index, struct sum *sums)
{
	struct maas_slab *slab = check->slab;
	const struct maas_slab_extent *extent = &slab->extents[index];
	struct sum *sum = &sums[extent->class_index];
	uint32_t slot = index << slab->geo.slot_shift;

	EXPECT((check->extent_marks[index] == UNSEEN) ==
		       (extent->carved && extent->taken == sum->capacity),
	       index);
	for (uint32_t i = extent->bump; i < 1u << slab->geo.slot_shift; i++)
		EXPECT(maas_slab_slot_state(&slab->slots[slot + i]) <= MAAS_SLAB_SLOT_DIRTY,
		       slot + i);
	if (!extent->carved)
		return;
	EXPECT(extent->taken, index);
	EXPECT((extent->bucket == MAAS_SLAB_BUCKET_FULL) == (extent->taken == sum->capacity),
	       index);
	for (uint32_t i = 0; i < extent->bump; i++)
		count_slot(check, slot + i, sum);
	sum->free += sum->capacity - extent->bump;
	sum->extents++;
}

static void check_sums(const struct maas_slab_class *class, const struct sum *sum,
		       unsigned int index)
{
	EXPECT(class->extents == sum->extents, index);
	EXPECT(class->free == sum->free, index);
	EXPECT(maas_slab_class_used(class) == sum->used, index);
	EXPECT(class->quarantined == sum->quarantined, index);
	EXPECT(maas_slab_delay_count(&class->delay) == sum->waiting, index);
	EXPECT(class->requested_bytes == sum->requested_bytes, index);
	EXPECT(!class->zeroing, index);
	EXPECT(sum->used <= class->allocations, index);
	EXPECT(sum->used + sum->free + sum->waiting + sum->quarantined ==
		       sum->extents * sum->capacity,
	       index);
}

static void check_all(struct check *check)
{
	struct maas_slab *slab = check->slab;
	struct sum sums[MAAS_SLAB_MAX_CLASSES] = {0};

	EXPECT(slab->grown <= slab->geo.num_extents, slab->grown);
	EXPECT(!slab->growing && !slab->zeroing, 0);
	check_common(check);
	for (unsigned int i = 0; i < slab->geo.num_classes; i++) {
		sums[i] = (struct sum){.capacity = slab->classes[i].capacity,
				       .slab_bytes = slab->classes[i].slab_bytes};
		for (unsigned int b = 0; b < MAAS_SLAB_BUCKETS; b++)
			check_bucket(check, i, b);
		check_delay(check, i);
	}
	for (uint32_t i = 0; i < slab->grown; i++) {
		if (slab->extents[i].carved)
			check_free_list(check, i);
	}
	for (uint32_t i = 0; i < slab->grown; i++)
		check_extent(check, i, sums);
	for (uint32_t i = slab->grown; i < slab->geo.num_extents; i++)
		EXPECT(!slab->extents[i].carved && !slab->extents[i].bump, i);
	for (unsigned int i = 0; i < slab->geo.num_classes; i++)
		check_sums(&slab->classes[i], &sums[i], i);
}

void maas_slab_check(struct maas_slab *slab)
{
	struct check check = {.slab = slab, .zero_budget = ZERO_CHECK_BYTES};

	maas_lock_take(&slab->lock);
	check.marks = calloc(((size_t)slab->grown << slab->geo.slot_shift) + 1, 1);
	check.extent_marks = calloc((size_t)slab->grown + 1, 1);
	EXPECT(check.marks && check.extent_marks, slab->grown);
	check_all(&check);
	free(check.marks);
	free(check.extent_marks);
	maas_lock_release(&slab->lock);
}
