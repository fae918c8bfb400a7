/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: lists of allocations that end by themselves. Lists are rings of 32-bit ids, closed by
 * their head, so that an allocation leaves its list without knowing which one that is:
 *
 *   wheel[deadline_s mod 8192]   those whose lease ends in that second, of this round of 4096
 *                                seconds or of the next
 *   round[deadline_s / 4096]     those whose lease ends in that round, which comes later
 *   due                          those of a second that has come, and of a round that has become
 *                                the next, until housekeeping has looked at them
 *   session[index]               those that end with the session
 *
 * So what ends within 4096 seconds is found without a look at what ends later.
 *
 * Threading: under lend's lock.
 */
#ifndef MAAS_LEND_LEASE_H
#define MAAS_LEND_LEASE_H

#include "lend/lend.h"
#include "lend/slots.h"

#define MAAS_LEND_LEASE_ROUND_S 4096
#define MAAS_LEND_LEASE_WHEEL	(2 * MAAS_LEND_LEASE_ROUND_S)
#define MAAS_LEND_LEASE_ROUNDS	8192	    /* more than the longest lease has */
#define MAAS_LEND_LEASE_HEADS	0xffe00000u /* ids from here on are heads; below: slot + 1 */
#define MAAS_LEND_LEASE_ROUND	(MAAS_LEND_LEASE_HEADS + MAAS_LEND_LEASE_WHEEL)
#define MAAS_LEND_LEASE_DUE	(MAAS_LEND_LEASE_ROUND + MAAS_LEND_LEASE_ROUNDS)

/* The record of a slot, or the head of a list. */
struct maas_lend_lease {
	uint32_t next; /* ids; 0: in no list */
	uint32_t prev;
	uint32_t generation;
	uint32_t value; /* deadline_s, or the session's index */
};

struct maas_lend_leases {
	struct maas_lend_lease *heads;
	struct maas_lend_slots slots;
	uint64_t timed; /* allocations in the lists of time */
};

/* The list of leases that end in `deadline_s`, where the lease clock is at `now_s`, before that. */
static inline uint32_t maas_lend_lease_list(uint32_t deadline_s, uint32_t now_s)
{
	uint32_t round = deadline_s / MAAS_LEND_LEASE_ROUND_S;

	if (round - now_s / MAAS_LEND_LEASE_ROUND_S < 2)
		return MAAS_LEND_LEASE_HEADS + deadline_s % MAAS_LEND_LEASE_WHEEL;
	return MAAS_LEND_LEASE_ROUND + round % MAAS_LEND_LEASE_ROUNDS;
}

static inline uint32_t maas_lend_lease_session(uint32_t index)
{
	return MAAS_LEND_LEASE_DUE + 1 + index;
}

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_leases_init(struct maas_lend_leases *leases, uint32_t num_slots,
					  uint32_t max_sessions);
void maas_lend_leases_fini(struct maas_lend_leases *leases);
/* Puts the allocation into `list`, out of the list that it is in. Errors: -ENOMEM, -ENOSPC; not for
 * one that was in a list before. */
MAAS_MUST_CHECK int maas_lend_lease_add(struct maas_lend_leases *leases, struct maas_slab_ref ref,
					uint32_t list, uint32_t value);
/* Both return false when the allocation is in no list. */
bool maas_lend_lease_find(const struct maas_lend_leases *leases, struct maas_slab_ref ref,
			  uint32_t *ret_value);
/* `timed`: it is not in the list of a session. */
bool maas_lend_lease_remove(struct maas_lend_leases *leases, struct maas_slab_ref ref, bool timed,
			    uint32_t *ret_value);
/* The first allocation of `list`; false: the list is empty. */
bool maas_lend_lease_first(const struct maas_lend_leases *leases, uint32_t list,
			   struct maas_slab_ref *ret_ref, uint32_t *ret_value);
/* Moves on to what follows `ref` in its list, which is `list`; false: `ref` was the last. */
bool maas_lend_lease_next(const struct maas_lend_leases *leases, uint32_t list,
			  struct maas_slab_ref *ref, uint32_t *ret_value);
/* The second `now_s` has come: what ends in it is due, before all else, and at the start of a round
 * all that ends in the next one is, to be put on the wheel. In constant time. */
void maas_lend_lease_turn(struct maas_lend_leases *leases, uint32_t now_s);

#endif
