/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which allocation ends when: a wheel of lists by second, lists of later rounds of the wheel, and a
 * list for each session. Under lend's
 * lock. Every operation takes constant time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

static_assert(sizeof(struct maas_lend_lease) == 16, "a million leases are 16 MB");
static_assert(MAAS_LEND_LEASE_DUE + 1 > MAAS_LEND_LEASE_HEADS &&
		      UINT32_MAX - MAAS_LEND_LEASE_DUE > MAAS_LEND_MAX_SESSIONS,
	      "every session has a head");
static_assert((MAAS_LEND_MAX_TTL_S + 1) / MAAS_LEND_LEASE_ROUND_S + 1 < MAAS_LEND_LEASE_ROUNDS,
	      "leases of two rounds never share a list");

/* The record of a slot, or NULL while its chunk was never needed. */
static struct maas_lend_lease *record(const struct maas_lend_leases *leases, uint32_t slot)
{
	return maas_lend_slots_find(&leases->slots, slot);
}

static struct maas_lend_lease *at(const struct maas_lend_leases *leases, uint32_t id)
{
	if (id >= MAAS_LEND_LEASE_HEADS)
		return &leases->heads[id - MAAS_LEND_LEASE_HEADS];
	return record(leases, id - 1);
}

int maas_lend_leases_init(struct maas_lend_leases *leases, uint32_t num_slots,
			  uint32_t max_sessions)
{
	leases->heads =
		calloc(MAAS_LEND_LEASE_DUE - MAAS_LEND_LEASE_HEADS + 1 + (size_t)max_sessions,
		       sizeof(*leases->heads));
	if (!leases->heads)
		return -ENOMEM;
	return maas_lend_slots_init(&leases->slots, num_slots, sizeof(struct maas_lend_lease));
}

void maas_lend_leases_fini(struct maas_lend_leases *leases)
{
	maas_lend_slots_fini(&leases->slots);
	free(leases->heads);
}

/* A head that was never used is all zeroes: only heads in use are touched. */
static struct maas_lend_lease *head_of(const struct maas_lend_leases *leases, uint32_t list)
{
	struct maas_lend_lease *head = at(leases, list);

	if (!head->next) {
		head->next = list;
		head->prev = list;
	}
	return head;
}

static void unlink_record(const struct maas_lend_leases *leases, struct maas_lend_lease *lease)
{
	at(leases, lease->prev)->next = lease->next;
	at(leases, lease->next)->prev = lease->prev;
	lease->next = 0;
	lease->prev = 0;
}

int maas_lend_lease_add(struct maas_lend_leases *leases, struct maas_slab_ref ref, uint32_t list,
			uint32_t value)
{
	struct maas_lend_lease *head = head_of(leases, list);
	struct maas_lend_lease *lease;

	if (ref.slot >= MAAS_LEND_LEASE_HEADS - 1)
		return -ENOSPC;
	lease = maas_lend_slots_make(&leases->slots, ref.slot);
	if (!lease)
		return -ENOMEM;
	if (lease->next)
		unlink_record(leases, lease);
	else if (list <= MAAS_LEND_LEASE_DUE)
		leases->timed++;
	lease->generation = ref.generation;
	lease->value = value;
	lease->next = list;
	lease->prev = head->prev;
	at(leases, head->prev)->next = ref.slot + 1;
	head->prev = ref.slot + 1;
	return 0;
}

bool maas_lend_lease_find(const struct maas_lend_leases *leases, struct maas_slab_ref ref,
			  uint32_t *ret_value)
{
	const struct maas_lend_lease *lease = record(leases, ref.slot);

	if (!lease || !lease->next || lease->generation != ref.generation)
		return false;
	*ret_value = lease->value;
	return true;
}

bool maas_lend_lease_remove(struct maas_lend_leases *leases, struct maas_slab_ref ref, bool timed,
			    uint32_t *ret_value)
{
	if (!maas_lend_lease_find(leases, ref, ret_value))
		return false;
	leases->timed -= timed;
	unlink_record(leases, record(leases, ref.slot));
	return true;
}

/* What stands behind `id` in `list`. */
static bool behind(const struct maas_lend_leases *leases, uint32_t list, uint32_t id,
		   struct maas_slab_ref *ret_ref, uint32_t *ret_value)
{
	uint32_t next = at(leases, id)->next;
	const struct maas_lend_lease *lease;

	if (!next || next == list)
		return false;
	lease = at(leases, next);
	ret_ref->slot = next - 1;
	ret_ref->generation = lease->generation;
	*ret_value = lease->value;
	return true;
}

bool maas_lend_lease_first(const struct maas_lend_leases *leases, uint32_t list,
			   struct maas_slab_ref *ret_ref, uint32_t *ret_value)
{
	return behind(leases, list, list, ret_ref, ret_value);
}

bool maas_lend_lease_next(const struct maas_lend_leases *leases, uint32_t list,
			  struct maas_slab_ref *ref, uint32_t *ret_value)
{
	return behind(leases, list, ref->slot + 1, ref, ret_value);
}

/* Has all of `from` be due, behind `after`, which is the head of what is due or one of it. */
static void splice_due(struct maas_lend_leases *leases, uint32_t from, uint32_t after)
{
	struct maas_lend_lease *source = head_of(leases, from);
	uint32_t before = at(leases, after)->next;

	if (source->next == from)
		return;
	at(leases, source->next)->prev = after;
	at(leases, after)->next = source->next;
	at(leases, source->prev)->next = before;
	at(leases, before)->prev = source->prev;
	source->next = from;
	source->prev = from;
}

void maas_lend_lease_turn(struct maas_lend_leases *leases, uint32_t now_s)
{
	const struct maas_lend_lease *due = head_of(leases, MAAS_LEND_LEASE_DUE);

	splice_due(leases, maas_lend_lease_list(now_s, now_s), MAAS_LEND_LEASE_DUE);
	if (now_s % MAAS_LEND_LEASE_ROUND_S == 0)
		splice_due(leases,
			   maas_lend_lease_list(now_s + MAAS_LEND_LEASE_ROUND_S,
						now_s - MAAS_LEND_LEASE_ROUND_S),
			   due->prev);
}
