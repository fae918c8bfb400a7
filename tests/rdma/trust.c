/* SPDX-License-Identifier: Apache-2.0 */
/* What keys open, and what they do not. */
#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB   ((size_t)4096)
#define VICTIM 0x56
#define OWNER  0x4f

static enum ibv_wr_opcode opcode_of(uint64_t i)
{
	return i % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
}

/*
 * The pool is one slab, so that the next owner has the one that was freed. The stale key is tried
 * by turns before and after the next owner wrote.
 */
static void try_stale(struct borrower *first, struct borrower *next, uint64_t i)
{
	struct raw_key stale;
	struct raw_key key;

	borrower_reconnect(first);
	borrower_alloc(first, SLAB, &stale);
	borrower_free(first, &stale);
	borrower_alloc(next, SLAB, &key);
	require_equal(key.addr, stale.addr, "address of the next owner's slab");
	must_hold(&next->link, &key, 0, "what the next owner finds");
	if (i & 2)
		must_fill(&next->link, &key, OWNER);
	must_refuse(&first->link, opcode_of(i), 1 + i * 7 % SLAB, stale.addr, stale.rkey);
	must_hold(&next->link, &key, i & 2 ? OWNER : 0, "what the next owner has");
	borrower_free(next, &key);
}

void trust_stale(const char *keys)
{
	uint64_t count = count_device_stale();
	struct borrower first;
	struct borrower next;

	server_start(keys, "--slab-sizes 4KiB --max-pool-size 4KiB");
	borrower_open(&first, SLAB);
	borrower_open(&next, SLAB);
	for (uint64_t i = 0; i < count; i++)
		try_stale(&first, &next, i);
	note("%llu stale keys", (unsigned long long)count);
	borrower_end(&first);
	borrower_end(&next);
}

static struct borrower victim, thief;
static struct raw_key key; /* the victim's */

static void begin(const char *keys)
{
	server_start(keys, "");
	borrower_open(&victim, SLAB);
	borrower_open(&thief, SLAB);
	borrower_alloc(&victim, SLAB, &key);
	must_fill(&victim.link, &key, VICTIM);
}

/* A live key in other hands: each of the two has a key of its own to the same bytes. */
void trust_foreign(const char *keys)
{
	uint64_t count = count_device_foreign();

	begin(keys);
	for (uint64_t i = 0; i < count; i++) {
		struct raw_key own;

		borrower_reconnect(&thief);
		if (i % 3 == 1)
			borrower_alloc(&thief, SLAB, &own);
		must_refuse(&thief.link, opcode_of(i), SLAB, key.addr, key.rkey);
		if (i % 3 == 1)
			borrower_free(&thief, &own);
		must_hold(&victim.link, &key, VICTIM, "the victim's bytes");
	}
	must_hold_http(victim.http, &key, VICTIM, "the victim's bytes");
	note("%llu attempts", (unsigned long long)count);
	borrower_end(&victim);
	borrower_end(&thief);
}

/* Near the victim's key, near the thief's own, and anywhere. */
static uint32_t guess(uint64_t *random, uint64_t i, const struct raw_key *own)
{
	uint32_t bits = (uint32_t)test_random(random);

	switch (i % 4) {
	case 0:
		return key.rkey ^ (1 + bits % 255);
	case 1:
		return own->rkey ^ (1 + bits % 255);
	case 2:
		return key.rkey + ((1 + bits % 8) << 8);
	default:
		return bits;
	}
}

void trust_guessed(const char *keys)
{
	uint64_t random = maas_test_seed();
	uint64_t count = count_device_guesses();
	struct raw_key own;

	begin(keys);
	borrower_alloc(&thief, SLAB, &own);
	for (uint64_t i = 0; i < count; i++) {
		uint32_t rkey;

		borrower_reconnect(&thief);
		borrower_grant(&thief, own.id, "rw", &own);
		do
			rkey = guess(&random, i, &own);
		while (rkey == own.rkey);
		must_refuse(&thief.link, opcode_of(i / 4), SLAB, key.addr, rkey);
	}
	must_hold(&victim.link, &key, VICTIM, "the victim's bytes");
	note("%llu guesses", (unsigned long long)count);
	borrower_end(&victim);
	borrower_end(&thief);
}

/* One byte before and one behind, alone and at the end of what is allowed. */
static void try_bounds(const struct raw_key *own, uint64_t i)
{
	const struct {
		uint64_t len, addr;
	} outside[] = {
		{1, own->addr - 1},
		{1, own->addr + own->len},
		{own->len + 1, own->addr - 1},
		{own->len + 1, own->addr},
	};
	uint64_t place = i / 2 % MAAS_ARRAY_SIZE(outside);

	must_refuse(&thief.link, opcode_of(i), outside[place].len, outside[place].addr, own->rkey);
}

/* Allocations smaller than their slab: the rest of the slab is out of bounds too. */
void trust_bounds(const char *keys)
{
	static const size_t sizes[] = {SLAB, 1000, 1, 3 * SLAB - 1};
	struct raw_key victims[3];

	server_start(keys, "");
	borrower_open(&victim, SLAB);
	borrower_open(&thief, 4 * SLAB);
	for (size_t s = 0; s < MAAS_ARRAY_SIZE(sizes); s++) {
		struct raw_key own;

		borrower_alloc(&victim, sizes[s], &victims[0]);
		borrower_alloc(&thief, sizes[s], &own);
		borrower_alloc(&victim, sizes[s], &victims[1]);
		borrower_alloc(&victim, sizes[s], &victims[2]);
		for (size_t v = 0; v < MAAS_ARRAY_SIZE(victims); v++)
			must_fill(&victim.link, &victims[v], VICTIM);
		for (uint64_t i = 0; i < count_device_bounds(); i++) {
			borrower_reconnect(&thief);
			borrower_grant(&thief, own.id, "rw", &own);
			try_bounds(&own, i);
		}
		for (size_t v = 0; v < MAAS_ARRAY_SIZE(victims); v++)
			must_hold(&victim.link, &victims[v], VICTIM, "the neighbour's bytes");
	}
	borrower_end(&victim);
	borrower_end(&thief);
}
