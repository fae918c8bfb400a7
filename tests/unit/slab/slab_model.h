/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A naive model of a slab pool: what is lent, to the byte, in arrays and plain loops, so that it is
 * right at a glance. Each model_*() runs one operation on the pool and on the model, and fails the
 * test where they differ.
 */
#ifndef MAAS_TESTS_UNIT_SLAB_MODEL_H
#define MAAS_TESTS_UNIT_SLAB_MODEL_H

#include "tests/random.h"
#include "tests/unit/slab/slab_fixture.h"

#define GRANULE MAAS_SLAB_MIN_CLASS

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

static void model_init(struct model *model, uint64_t max_bytes, uint64_t extent_bytes,
		       const uint64_t *class_bytes, unsigned int num_classes, uint64_t seed)
{
	struct maas_slab *slab = pool_open(max_bytes, extent_bytes, class_bytes, num_classes);
	struct maas_slab_stats stats = pool_stats(slab);
	size_t granules = stats.max_bytes / GRANULE;

	*model = (struct model){
		.slab = slab,
		.class_bytes = class_bytes,
		.num_classes = num_classes,
		.extent_bytes = stats.extent_bytes,
		.extents_total = stats.extents_total,
		.random = seed,
		.now_ms = maas_clock_ms(),
		.items = calloc(granules, sizeof(struct model_item)),
		.granules = calloc(granules, sizeof(uint32_t)),
		.used = calloc(granules, sizeof(uint32_t)),
	};
	assert_true(model->items && model->granules && model->used);
}

static void model_fini(struct model *model)
{
	pool_close(model->slab);
	free(model->items);
	free(model->granules);
	free(model->used);
}

static void cover(struct model *model, const struct maas_slab_info *info, uint32_t from,
		  uint32_t to)
{
	uint64_t first = info->offset / GRANULE;

	for (uint64_t i = first; i < first + info->slab_bytes / GRANULE; i++) {
		assert_int_equal(model->granules[i], from);
		model->granules[i] = to;
	}
}

/* How many slabs of `class` there is room for, when nothing free or waiting is held back. */
static uint64_t room(const struct model *model, unsigned int class)
{
	uint64_t per_extent = model->extent_bytes / model->class_bytes[class];
	uint64_t slabs = 0;

	for (uint64_t e = 0; e < model->extents_total; e++) {
		uint64_t first = e * model->extent_bytes / GRANULE;
		uint64_t used = 0;
		bool is_foreign = false;

		for (uint64_t i = 0; i < model->extent_bytes / GRANULE && !is_foreign;) {
			uint32_t at = model->granules[first + i];
			const struct model_item *item = at ? &model->items[at - 1] : NULL;

			is_foreign = item && item->class != class;
			used += item ? 1 : 0;
			i += item ? item->info.slab_bytes / GRANULE : 1;
		}
		slabs += is_foreign ? 0 : per_extent - used;
	}
	return slabs;
}

static void expect_info(const struct model_item *item, const struct maas_slab_info *info)
{
	assert_memory_equal(&info->ref, &item->info.ref, sizeof(info->ref));
	assert_int_equal(info->size_bytes, item->info.size_bytes);
	assert_int_equal(info->slab_bytes, item->info.slab_bytes);
	assert_int_equal(info->offset, item->info.offset);
	assert_ptr_equal(info->bytes, item->info.bytes);
	assert_int_equal(info->label.owner, item->info.label.owner);
	assert_int_equal(info->label.created_s, item->info.label.created_s);
	assert_int_equal(info->label.ttl_s, item->info.label.ttl_s);
	assert_int_equal(info->label.lifetime, item->info.label.lifetime);
}

static void adopt(struct model *model, unsigned int class, uint64_t size_bytes,
		  const struct maas_slab_label *label, struct maas_slab_ref ref)
{
	struct maas_slab_info info = pool_get(model->slab, ref);
	struct model_item *item = &model->items[info.offset / GRANULE];

	assert_int_equal(info.offset % GRANULE, 0);
	assert_int_equal(info.offset / model->extent_bytes,
			 (info.offset + info.slab_bytes - 1) / model->extent_bytes);
	assert_true(bytes_are_zero(info.bytes, info.slab_bytes));
	cover(model, &info, 0, (uint32_t)(info.offset / GRANULE) + 1);

	*item = (struct model_item){
		.state = MODEL_LIVE,
		.class = class,
		.pattern = test_random(&model->random),
		.info = {.ref = ref,
			 .size_bytes = size_bytes,
			 .slab_bytes = model->class_bytes[class],
			 .offset = info.offset,
			 .bytes = info.bytes,
			 .label = *label},
		.place = model->num_used,
	};
	expect_info(item, &info);
	model->used[model->num_used++] = (uint32_t)(item - model->items);
	model->used_bytes += info.slab_bytes;
	model->allocations++;
	pattern_write(info.bytes, info.slab_bytes, item->pattern);
}

static void drop(struct model *model, struct model_item *item)
{
	uint32_t last = model->used[--model->num_used];

	cover(model, &item->info, (uint32_t)(item - model->items) + 1, 0);
	model->used[item->place] = last;
	model->items[last].place = item->place;
	model->used_bytes -= item->info.slab_bytes;
	model->frees++;
	item->state = MODEL_FREE;
}

/* `count` slabs of a random size of class `class`; -ENOSPC must come exactly when it is true. */
static void model_alloc(struct model *model, unsigned int class, uint32_t count)
{
	uint64_t below = class ? model->class_bytes[class - 1] : 0;
	uint64_t size =
		below + 1 + test_random_below(&model->random, model->class_bytes[class] - below);
	uint64_t bits = test_random(&model->random);
	struct maas_slab_label label = {.owner = (uint32_t)bits,
					.created_s = (uint32_t)(bits >> 11),
					.ttl_s = (uint32_t)(bits >> 23),
					.lifetime = (uint8_t)((bits >> 60) % 3)};
	struct maas_slab_ref refs[1024] = {{77, 78}};
	int r;

	assert_in_range(count, 1, MAAS_ARRAY_SIZE(refs));
	r = count == 1 ? maas_slab_alloc(model->slab, size, &label, refs)
		       : maas_slab_alloc_many(model->slab, size, count, &label, refs);
	if (r == -ENOSPC) {
		assert_true(room(model, class) < count);
		assert_int_equal(refs[0].slot, 77);
		return;
	}
	assert_int_equal(r, 0);
	for (uint32_t i = 0; i < count; i++)
		adopt(model, class, size, &label, refs[i]);
}

static void expect_contents(const struct model_item *item)
{
	assert_true(pattern_holds(item->info.bytes, item->info.slab_bytes, item->pattern));
}

/* The pool does exactly what may be done to a slab in its state. */
static bool agrees(int r, bool may)
{
	assert_int_equal(r, may ? 0 : -ENOENT);
	return may;
}

static void model_free(struct model *model, struct model_item *item)
{
	expect_contents(item);
	if (agrees(maas_slab_free(model->slab, item->info.ref), item->state == MODEL_LIVE))
		drop(model, item);
}

static void model_revoke(struct model *model, struct model_item *item)
{
	if (agrees(maas_slab_revoke(model->slab, item->info.ref), item->state == MODEL_LIVE))
		item->state = MODEL_REVOKING;
}

static void model_release(struct model *model, struct model_item *item)
{
	bool is_held = item->state == MODEL_REVOKING || item->state == MODEL_QUARANTINED;

	expect_contents(item);
	if (agrees(maas_slab_release(model->slab, item->info.ref), is_held))
		drop(model, item);
}

static void model_quarantine(struct model *model, struct model_item *item)
{
	bool may = item->state == MODEL_REVOKING;

	if (agrees(maas_slab_quarantine(model->slab, item->info.ref), may))
		item->state = MODEL_QUARANTINED;
}

static void model_get(struct model *model, struct model_item *item)
{
	struct maas_slab_info info;

	if (agrees(maas_slab_get(model->slab, item->info.ref, &info), item->state == MODEL_LIVE))
		expect_info(item, &info);
}

static void model_set_ttl(struct model *model, struct model_item *item, uint32_t ttl_s)
{
	bool may = item->state == MODEL_LIVE;

	if (agrees(maas_slab_set_ttl(model->slab, item->info.ref, ttl_s), may))
		item->info.label.ttl_s = ttl_s;
}

/* Housekeeping when `pass_ms` have gone by. */
static void model_reclaim(struct model *model, uint64_t pass_ms, uint64_t max_bytes)
{
	uint64_t zeroed = maas_slab_reclaim(model->slab, model->now_ms += pass_ms, max_bytes);
	bool is_one_slab = false;

	for (unsigned int i = 0; i < model->num_classes; i++)
		is_one_slab |= zeroed == model->class_bytes[i];
	assert_true(zeroed <= max_bytes || is_one_slab);
}

/* A ref that was never given out, or whose slab is gone, is unknown to every operation. */
static void model_stale(struct model *model, struct maas_slab_ref ref)
{
	struct maas_slab_info info;

	for (uint32_t i = 0; i < model->num_used; i++) {
		if (!memcmp(&model->items[model->used[i]].info.ref, &ref, sizeof(ref)))
			return;
	}
	assert_int_equal(maas_slab_get(model->slab, ref, &info), -ENOENT);
	assert_int_equal(maas_slab_set_ttl(model->slab, ref, 1), -ENOENT);
	assert_int_equal(maas_slab_revoke(model->slab, ref), -ENOENT);
	assert_int_equal(maas_slab_release(model->slab, ref), -ENOENT);
	assert_int_equal(maas_slab_free(model->slab, ref), -ENOENT);
	assert_int_equal(maas_slab_quarantine(model->slab, ref), -ENOENT);
}

static uint64_t count_state(const struct model *model, enum model_state state)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < model->num_used; i++)
		count += model->items[model->used[i]].state == state;
	return count;
}

/* Every live slab once, in slot order. */
static void model_walk(struct model *model)
{
	struct maas_slab_info info;
	uint64_t cursor = 0;
	uint64_t met = 0;
	uint64_t empty = 0;
	int64_t slot = -1;
	int r;

	model->walk++;
	for (;;) {
		uint64_t budget = 1 + test_random_below(&model->random, 300);

		r = maas_slab_next(model->slab, &cursor, (uint32_t)budget, &info);
		if (r == -ENOENT)
			break;
		if (!r) {
			assert_true(++empty < 1000000);
			continue;
		}
		struct model_item *item = &model->items[info.offset / GRANULE];

		assert_int_equal(r, 1);
		assert_int_equal(item->state, MODEL_LIVE);
		expect_info(item, &info);
		assert_true(info.ref.slot > slot);
		assert_true(item->walk != model->walk);
		item->walk = model->walk;
		slot = info.ref.slot;
		met++;
	}
	assert_int_equal(met, count_state(model, MODEL_LIVE));
}

static void check_class(const struct model *model, const struct maas_slab_stats *stats,
			unsigned int class)
{
	const struct maas_slab_class_stats *c = &stats->classes[class];
	uint64_t per_extent = model->extent_bytes / model->class_bytes[class];
	uint64_t slabs[MODEL_STATES] = {0};
	uint64_t requested = 0;

	for (uint32_t i = 0; i < model->num_used; i++) {
		const struct model_item *item = &model->items[model->used[i]];

		if (item->class != class)
			continue;
		slabs[item->state]++;
		if (item->state != MODEL_QUARANTINED)
			requested += item->info.size_bytes;
	}
	assert_int_equal(c->slab_bytes, model->class_bytes[class]);
	assert_int_equal(c->pool_bytes % model->extent_bytes, 0);
	assert_int_equal(c->total_slabs, c->pool_bytes / model->extent_bytes * per_extent);
	assert_int_equal(c->used_slabs, slabs[MODEL_LIVE] + slabs[MODEL_REVOKING]);
	assert_int_equal(c->quarantined_slabs, slabs[MODEL_QUARANTINED]);
	assert_int_equal(c->requested_bytes, requested);
	assert_int_equal(c->total_slabs,
			 c->used_slabs + c->waiting_slabs + c->quarantined_slabs + c->free_slabs);
}

static void check_stats(const struct model *model)
{
	struct maas_slab_stats stats = pool_stats(model->slab);
	uint64_t live = 0, live_bytes = 0, requested = 0, quarantined = 0, pool = 0;

	assert_int_equal(stats.num_classes, model->num_classes);
	for (unsigned int i = 0; i < stats.num_classes; i++) {
		const struct maas_slab_class_stats *c = &stats.classes[i];

		check_class(model, &stats, i);
		live += c->used_slabs;
		live_bytes += c->used_slabs * c->slab_bytes;
		requested += c->requested_bytes;
		quarantined += c->quarantined_slabs * c->slab_bytes;
		pool += c->pool_bytes;
	}
	assert_int_equal(stats.live_slabs, live);
	assert_int_equal(stats.live_bytes, live_bytes);
	assert_int_equal(stats.requested_bytes, requested);
	assert_int_equal(stats.quarantined_bytes, quarantined);
	assert_int_equal(live_bytes + quarantined, model->used_bytes);
	assert_int_equal(stats.extents_used * stats.extent_bytes, pool);
	assert_in_range(stats.extents_used, 0, stats.extents_total);
	assert_in_range(stats.backed_bytes, pool, stats.max_bytes);
	assert_int_equal(stats.allocations, model->allocations);
	assert_int_equal(stats.frees, model->frees + count_state(model, MODEL_QUARANTINED));
}

/* The figures, the contents of every slab, and the pool's own invariants. */
static void model_check(struct model *model)
{
	check_stats(model);
	for (uint32_t i = 0; i < model->num_used; i++)
		expect_contents(&model->items[model->used[i]]);
	maas_slab_check(model->slab);
}

#endif
