/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: lists of allocations that end by themselves. Lists are rings of 32-bit ids, closed by
 * their head, so that an allocation leaves its list without knowing which one that is:
 *
 *   wheel[deadline_s mod 4096]   the allocations whose lease ends in that second, or rounds later
 *   due                          those of a second that has come, until housekeeping looked at them
 *   session[index]               those that end with the session
 *
 * Threading: under lend's lock.
 */
#ifndef MAAS_LEND_LEASE_H
#define MAAS_LEND_LEASE_H

#include "lend/lend.h"
#include "lend/slots.h"

#define MAAS_LEND_LEASE_WHEEL 4096
#define MAAS_LEND_LEASE_HEADS 0xffe00000u /* ids from here on are heads; below: slot + 1 */
#define MAAS_LEND_LEASE_DUE   (MAAS_LEND_LEASE_HEADS + MAAS_LEND_LEASE_WHEEL)

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
};

static inline uint32_t maas_lend_lease_wheel(uint32_t deadline_s)
{
	return MAAS_LEND_LEASE_HEADS + deadline_s % MAAS_LEND_LEASE_WHEEL;
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
bool maas_lend_lease_remove(struct maas_lend_leases *leases, struct maas_slab_ref ref,
			    uint32_t *ret_value);
/* The first allocation of `list`; false: the list is empty. */
bool maas_lend_lease_first(const struct maas_lend_leases *leases, uint32_t list,
			   struct maas_slab_ref *ret_ref, uint32_t *ret_value);
/* Appends all of `from` to `to`, in constant time. */
void maas_lend_lease_splice(struct maas_lend_leases *leases, uint32_t from, uint32_t to);

#endif
