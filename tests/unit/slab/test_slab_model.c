/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations on slab pools against a naive model. */
#include "tests/unit/slab/slab_model.h"

#include "tests/counts.h"

#define STALE_REFS    256
#define PHASE_OPS     5000
#define OPS_PER_CHECK 2500

/* The aim of the run for a while, so that a pool is sometimes full, empty, or of another mix. */
struct phase {
	uint64_t used_bytes;
	uint32_t classes; /* bit mask */
};

struct stale {
	struct maas_slab_ref refs[STALE_REFS];
	uint32_t next;
};

static struct phase phase_next(struct model *model)
{
	static const unsigned int percents[] = {0, 5, 20, 50, 80, 95, 200, 200};
	uint64_t max_bytes = model->extents_total * model->extent_bytes;
	uint64_t pick = test_random_below(&model->random, MAAS_ARRAY_SIZE(percents));
	uint32_t mask = (uint32_t)test_random(&model->random) & ((1u << model->num_classes) - 1);

	return (struct phase){
		.used_bytes = max_bytes * percents[pick] / 100,
		.classes = mask ? mask : 1,
	};
}

static unsigned int class_next(struct model *model, const struct phase *phase)
{
	unsigned int class;

	do
		class = (unsigned int)test_random_below(&model->random, model->num_classes);
	while (!(phase->classes & 1u << class));
	return class;
}

static uint32_t count_next(struct model *model)
{
	uint64_t roll = test_random_below(&model->random, 1000);

	if (roll < 960)
		return 1;
	return 2 + (uint32_t)test_random_below(&model->random, roll < 997 ? 20 : 1000);
}

static void op_stale(struct model *model, const struct stale *stale)
{
	uint64_t bits = test_random(&model->random);
	struct maas_slab_ref ref = stale->refs[bits % STALE_REFS];

	if (bits >> 62 == 0)
		ref.generation ^= 1u << (bits >> 32) % 32;
	if (bits >> 62 == 1)
		ref = (struct maas_slab_ref){(uint32_t)bits, (uint32_t)(bits >> 20)};
	model_stale(model, ref);
}

static void op_reclaim(struct model *model)
{
	static const uint64_t pass_ms[] = {0, 1, 100, 500, 1100};
	static const uint64_t max_bytes[] = {0, 100, 10000, MIB};
	uint64_t bits = test_random(&model->random);

	model_reclaim(model, pass_ms[bits % MAAS_ARRAY_SIZE(pass_ms)],
		      max_bytes[(bits >> 32) % MAAS_ARRAY_SIZE(max_bytes)]);
}

static void op_used(struct model *model, struct model_item *item, struct stale *stale,
		    uint64_t roll)
{
	stale->refs[stale->next++ % STALE_REFS] = item->info.ref;
	if (roll < 48)
		model_get(model, item);
	else if (roll < 53)
		model_set_ttl(model, item, (uint32_t)roll * 1000);
	else if (roll < 60)
		model_revoke(model, item);
	else if (roll < 69)
		model_release(model, item);
	else if (roll < 72)
		model_quarantine(model, item);
	else
		model_free(model, item);
}

/* One operation; more allocations than frees while the phase's aim is not reached. */
static void step(struct model *model, const struct phase *phase, struct stale *stale)
{
	uint64_t roll = test_random_below(&model->random, 100);
	bool is_below = model->used_bytes < phase->used_bytes;

	if (roll < (is_below ? 33u : 3u) || !model->num_used) {
		unsigned int class = class_next(model, phase);

		model_alloc(model, class, count_next(model));
	} else if (roll < 36) {
		op_reclaim(model);
	} else if (roll < 38) {
		op_stale(model, stale);
	} else {
		uint64_t pick = test_random_below(&model->random, model->num_used);

		op_used(model, &model->items[model->used[pick]], stale, roll);
	}
}

static void drain(struct model *model)
{
	while (model->num_used) {
		struct model_item *item = &model->items[model->used[0]];

		if (item->state == MODEL_LIVE)
			model_free(model, item);
		else
			model_release(model, item);
	}
	model->now_ms = pool_settle_at(model->slab, model->now_ms);
	model_check(model);
	assert_int_equal(pool_stats(model->slab).extents_used, 0);
}

static void run(uint64_t max_bytes, uint64_t extent_bytes, const uint64_t *class_bytes,
		unsigned int num_classes)
{
	uint64_t ops = count_slab_model_ops() / 6;
	struct stale stale = {.next = 0};
	struct phase phase = {0};
	struct model model;

	print_message("%llu bytes, %u classes\n", (unsigned long long)max_bytes, num_classes);
	model_init(&model, max_bytes, extent_bytes, class_bytes, num_classes,
		   maas_test_seed_told());
	for (uint64_t i = 0; i < ops; i++) {
		if (i % PHASE_OPS == 0)
			phase = phase_next(&model);
		if (i % OPS_PER_CHECK == 0) {
			model_walk(&model);
			model_check(&model);
		}
		step(&model, &phase, &stale);
	}
	drain(&model);
	model_fini(&model);
}

TEST(model__in_pools_of_many_shapes)
{
	run(256 * KIB, 4096, CLASSES(64));
	run(MIB, 4096, CLASSES(64, 128, 1024, 4096));
	run(MIB, 8192, CLASSES(192, 320, 4032, 4160)); /* the tails of its extents stay unused */
	run(4 * MIB, 0, CLASSES(1024, 2048, 4096, 8192, 65536));
	run(2 * MIB, 512 * KIB, CLASSES(256, 1600, 16384));
	run(64 * KIB, 64 * KIB, CLASSES(64, 512, 8192)); /* one extent */
}

TEST_MAIN(NULL, pools_close)
