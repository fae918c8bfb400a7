/* SPDX-License-Identifier: Apache-2.0 */
/* A lend with keys and one session, and what a call for memory with keys gave. */
#ifndef MAAS_TESTS_UNIT_LEND_KEYS_H
#define MAAS_TESTS_UNIT_LEND_KEYS_H

#include "tests/fake/fake_keys.h"
#include "tests/unit/lend/lend_fixture.h"

static struct fake_keys keys;

/* One call, and what came of it. */
struct answer {
	struct maas_lend_alloc_request request; /* lend borrows it until it is told */
	struct maas_slab_ref refs[4];
	struct maas_lend_allocation first;
	struct maas_lend_key grants[4];
	struct told told;
};

static struct answer answer;

/* A lend with keys. */
static inline void keys_open(uint64_t max_bytes)
{
	fake_keys_init(&keys, FAKE_KEYS_HOLD);
	fixture_open(max_bytes, &fake_key_ops, &keys);
	keys.slab = f.slab;
	memset(&answer, 0, sizeof(answer));
}

static inline void keys_teardown(void)
{
	assert_int_equal(keys.num_ops, 0);
	fixture_teardown();
	fake_keys_fini(&keys);
}

static inline void finish(int status)
{
	assert_true(fake_keys_finish(&keys, status));
}

static inline void granting_setup(void)
{
	keys_open(1u << 20);
	assert_int_equal(open_by(NULL, "s"), 0);
}

static inline void granting_reopen(void)
{
	keys_teardown();
	granting_setup();
}

static inline int ask_as(struct maas_lend_alloc_request request, enum maas_lend_access access,
			 struct answer *ret)
{
	request.size_bytes = 100;
	*ret = (struct answer){.request = request};
	return maas_lend_allocate_granted(f.lend, &ret->request, access, ret->refs, &ret->first,
					  ret->grants, tell, &ret->told);
}

/* `count` slabs of 100 bytes, with keys to read and write them. */
static inline int ask(uint32_t count, const char *request_id, struct answer *ret)
{
	const struct maas_lend_alloc_request request = {
		.count = count, .session = session.id, .request_id = request_id};

	return ask_as(request, MAAS_LEND_ACCESS_WRITE, ret);
}

/* The same, which has to begin … */
static inline void start(uint32_t count, const char *request_id, struct answer *ret)
{
	assert_int_equal(ask(count, request_id, ret), -EINPROGRESS);
}

/* … and to end. */
static inline void obtain(uint32_t count, const char *request_id, struct answer *ret)
{
	keys.mode = FAKE_KEYS_AT_ONCE;
	start(count, request_id, ret);
	expect_told(&ret->told, 0);
}

static inline void finish_all(void)
{
	while (fake_keys_finish(&keys, 0))
		continue;
}

/* What a failure leaves: nothing. */
static inline void expect_nothing(void)
{
	assert_int_equal(live_slabs(), 0);
	assert_int_equal(quarantined_bytes(), 0);
	assert_int_equal(keys.num_keys, 0);
	assert_int_equal(lend_stats().request_ids, 0);
}

#endif
