/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The remembered answers against a naive model: requests for one and for many come, are asked for
 * again, are void, grow old, at random; what is known, what is forgotten and in which order is what
 * the model says.
 */
#include "tests/counts.h"
#include "tests/random.h"
#include "tests/unit/lend/lend_fixture.h"

#include "lend/internal.h"

struct known {
	struct maas_lend_request_key key;
	uint32_t count;
	uint32_t added_s;
	uint32_t number; /* as it was given */
	uint32_t seed;	 /* its refs follow from it */
	bool is_void;
	bool has_refs;
};

struct model {
	struct maas_lend_requests requests;
	struct known *all; /* in the order in which they came */
	uint32_t first;
	uint32_t end;
	uint64_t refs; /* of batches */
	uint64_t live;
	uint32_t now_s;
	uint64_t random;
};

static const unsigned char request_key[16] = "a test's key";

static const struct maas_slab_ref *refs_of(const struct known *known)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];

	for (uint32_t i = 0; i < known->count; i++)
		refs[i] = (struct maas_slab_ref){known->seed + i, known->seed ^ i};
	return refs;
}

static void drop_refs(struct model *model, struct known *known)
{
	if (known->count > 1 && known->has_refs)
		model->refs -= known->count;
	known->has_refs = false;
}

static void forget_first(struct model *model)
{
	struct known *known = &model->all[model->first++];

	drop_refs(model, known);
	model->live -= !known->is_void;
}

static void model_add(struct model *model, const struct known *known)
{
	if (known->count > 1)
		model->refs += known->count;
	for (uint32_t i = model->first; model->refs > MAAS_LEND_BATCH_REFS; i++)
		if (model->all[i].count > 1)
			drop_refs(model, &model->all[i]);
	if (model->end - model->first == MAAS_LEND_REQUESTS)
		forget_first(model);
	model->all[model->end++] = *known;
	model->live++;
}

/* Large batches often enough that their lists fill the room there is. */
static uint32_t random_count(struct model *model)
{
	uint64_t roll = test_random_below(&model->random, 100);

	if (roll < 70)
		return 1;
	return 2 +
	       (uint32_t)test_random_below(&model->random, roll < 85 ? 5 : MAAS_SLAB_MAX_BATCH - 1);
}

static void add(struct model *model)
{
	const struct maas_slab_ref *refs;
	struct known known = {
		.count = random_count(model),
		.added_s = model->now_s,
		.seed = (uint32_t)test_random(&model->random),
		.has_refs = true,
	};
	struct maas_lend_request_batch *batch = NULL;
	char id[32];
	int r;

	snprintf(id, sizeof(id), "r-%u", model->end);
	maas_lend_request_key(request_key, "", id, &known.count, sizeof(known.count), &known.key);
	refs = refs_of(&known);
	if (known.count > 1)
		assert_int_equal(maas_lend_request_batch_new(refs, known.count, &batch), 0);
	do {
		r = maas_lend_request_add(&model->requests, &known.key, refs[0], batch,
					  model->now_s, &known.number);
	} while (r == -EAGAIN);
	assert_int_equal(r, 0);
	model_add(model, &known);
}

/* Old and new ones, and sometimes one that was forgotten. */
static struct known *pick(struct model *model)
{
	uint32_t live = model->end - model->first;

	if (!model->end)
		return NULL;
	if (!live || !test_random_below(&model->random, 10))
		return &model->all[test_random_below(&model->random, model->end)];
	return &model->all[model->first + test_random_below(&model->random, live)];
}

static bool is_known(const struct model *model, const struct known *known)
{
	return known >= &model->all[model->first] && !known->is_void;
}

static void ask(struct model *model)
{
	static struct maas_slab_ref refs[MAAS_SLAB_MAX_BATCH];
	struct known *known = pick(model);
	struct maas_lend_request_key other;
	int r;

	if (!known)
		return;
	r = maas_lend_request_find(&model->requests, &known->key, known->count, refs);
	if (!is_known(model, known)) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	other = known->key;
	other.fields++;
	assert_int_equal(maas_lend_request_find(&model->requests, &other, known->count, refs),
			 -ENOTUNIQ);
	assert_int_equal(r, known->has_refs ? 0 : -ENODATA);
	if (!r)
		assert_memory_equal(refs, refs_of(known), known->count * sizeof(*refs));
}

static void make_void(struct model *model)
{
	struct known *known = pick(model);

	if (!known)
		return;
	maas_lend_request_void(&model->requests, &known->key, known->number);
	if (!is_known(model, known))
		return;
	drop_refs(model, known);
	known->is_void = true;
	model->live--;
}

static void grow_old(struct model *model)
{
	model->now_s += (uint32_t)test_random_below(&model->random, 40);
	while (maas_lend_requests_forget(&model->requests, model->now_s, 7))
		;
	while (model->first < model->end &&
	       model->now_s - model->all[model->first].added_s >= MAAS_LEND_REQUEST_S)
		forget_first(model);
}

TEST(requests__random)
{
	struct model model = {.random = maas_test_seed_told(), .now_s = UINT32_MAX - 1000};
	uint64_t ops = count_lend_request_ops();
	uint64_t most_refs = 0;

	assert_int_equal(maas_lend_requests_init(&model.requests, MAAS_LEND_REQUESTS), 0);
	/* The numbers wrap around in the middle. */
	model.requests.first = UINT32_MAX - (uint32_t)ops / 8;
	model.requests.end = model.requests.first;
	model.all = calloc(ops, sizeof(*model.all));
	assert_non_null(model.all);
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t roll = test_random_below(&model.random, 1000);

		if (roll < 400)
			add(&model);
		else if (roll < 900)
			ask(&model);
		else if (roll < 920)
			make_void(&model);
		else if (i % 25000 >= 20000)
			grow_old(&model);
		assert_int_equal(model.requests.count, model.live);
		assert_int_equal(model.requests.batch_refs, model.refs);
		if (model.refs > most_refs)
			most_refs = model.refs;
	}
	/* It was full. */
	assert_true(most_refs > MAAS_LEND_BATCH_REFS - MAAS_SLAB_MAX_BATCH);
	maas_lend_requests_fini(&model.requests);
	free(model.all);
}

TEST_MAIN(NULL, NULL)
