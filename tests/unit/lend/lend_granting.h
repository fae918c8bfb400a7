/* SPDX-License-Identifier: Apache-2.0 */
/* A lend with keys and one session, and what a call for memory with keys gave. */
#ifndef MAAS_TESTS_UNIT_LEND_GRANTING_H
#define MAAS_TESTS_UNIT_LEND_GRANTING_H

#include "tests/fake/fake_keys.h"
#include "tests/unit/lend/lend_fixture.h"

#define POOL_BYTES (1u << 20)

struct granting {
	struct fixture f;
	struct fake_keys keys;
	struct maas_lend_session_info session;
};

/* One call, and what came of it. */
struct answer {
	struct maas_slab_ref refs[4];
	struct maas_lend_allocation first;
	struct maas_lend_key grants[4];
	struct told told;
};

static inline void open_granting(struct granting *g)
{
	memset(g, 0, sizeof(*g));
	g->f = fixture_open(POOL_BYTES, &fake_key_ops, &g->keys);
	g->keys.slab = g->f.slab;
	assert_int_equal(maas_lend_session_open(g->f.lend, "s", 60, false, NULL, &g->session), 0);
}

static inline void close_granting(struct granting *g)
{
	assert_false(g->keys.slab_was_live);
	assert_int_equal(g->keys.num_under_way, 0);
	fixture_close(&g->f);
}

static inline int ask_as(struct granting *g, const struct maas_lend_alloc_request *request,
			 enum maas_lend_access access, struct answer *ret)
{
	memset(ret, 0, sizeof(*ret));
	return maas_lend_allocate_granted(g->f.lend, request, access, ret->refs, &ret->first,
					  ret->grants, tell, &ret->told);
}

/* `count` slabs of 100 bytes, with keys to read and write them. */
static inline int ask(struct granting *g, uint32_t count, const char *request_id,
		      struct answer *ret)
{
	const struct maas_lend_alloc_request request = {
		.size_bytes = 100,
		.count = count,
		.session = g->session.id,
		.request_id = request_id,
	};

	return ask_as(g, &request, MAAS_LEND_ACCESS_WRITE, ret);
}

static inline void expect_status(const struct answer *answer, int status)
{
	assert_int_equal(answer->told.calls, 1);
	assert_int_equal(answer->told.status, status);
}

/* What a failure leaves: nothing. */
static inline void expect_nothing(struct granting *g)
{
	assert_int_equal(live_slabs(&g->f), 0);
	assert_int_equal(quarantined_bytes(&g->f), 0);
	assert_int_equal(g->keys.num_keyed, 0);
	assert_int_equal(lend_stats(&g->f).request_ids, 0);
}

#endif
