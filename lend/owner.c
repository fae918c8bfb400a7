/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of owners, as indices that fit into a slab's label, in a table that may lie in a file.
 * Under lend's lock.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

static_assert(crypto_shorthash_KEYBYTES == sizeof(((struct maas_lend_owners *)0)->key), "");

int maas_lend_owners_init(struct maas_lend_owners *owners, struct maas_lend_owner_table *table)
{
	if (table->used > MAAS_LEND_MAX_OWNERS + 1)
		return -EUCLEAN;
	randombytes_buf(owners->key, sizeof(owners->key));
	owners->table = table;
	if (!table->used)
		table->used = 1;
	for (uint32_t i = 1; i < table->used; i++)
		table->records[i].live = 0;
	return 0;
}

/* Keyed, because clients choose the names. */
static uint32_t bucket_of(const struct maas_lend_owners *owners, const char *name)
{
	uint64_t hash;

	crypto_shorthash((unsigned char *)&hash, (const unsigned char *)name, strlen(name),
			 owners->key);
	return (uint32_t)(hash % MAAS_LEND_OWNER_BUCKETS);
}

uint32_t maas_lend_owner_find(const struct maas_lend_owners *owners, const char *name)
{
	uint32_t index = owners->buckets[bucket_of(owners, name)];

	while (index && strcmp(owners->table->records[index].name, name) != 0)
		index = owners->table->records[index].next;
	return index;
}

static int take_record(struct maas_lend_owners *owners, uint32_t *ret_index)
{
	if (owners->count >= MAAS_LEND_MAX_OWNERS)
		return -EUSERS;
	if (owners->free) {
		*ret_index = owners->free;
		owners->free = owners->table->records[owners->free].next;
		return 0;
	}
	*ret_index = owners->table->used++;
	return 0;
}

static void link_name(struct maas_lend_owners *owners, uint32_t index)
{
	struct maas_lend_owner *owner = &owners->table->records[index];
	uint32_t *bucket = &owners->buckets[bucket_of(owners, owner->name)];

	owner->next = *bucket;
	*bucket = index;
	owners->count++;
}

int maas_lend_owner_keep(struct maas_lend_owners *owners, uint32_t index)
{
	struct maas_lend_owner *owner;

	if (!index)
		return 0;
	if (index >= owners->table->used)
		return -EUCLEAN;
	owner = &owners->table->records[index];
	if (!memchr(owner->name, '\0', sizeof(owner->name)) || !maas_name_valid(owner->name))
		return -EUCLEAN;
	owner->live++;
	return 0;
}

int maas_lend_owners_restored(struct maas_lend_owners *owners)
{
	for (uint32_t i = owners->table->used; --i;) {
		struct maas_lend_owner *owner = &owners->table->records[i];

		if (!owner->live) {
			owner->next = owners->free;
			owners->free = i;
		} else if (maas_lend_owner_find(owners, owner->name)) {
			return -EUCLEAN;
		} else {
			link_name(owners, i);
		}
	}
	return 0;
}

int maas_lend_owner_get(struct maas_lend_owners *owners, const char *name, uint32_t count,
			uint32_t *ret_index)
{
	uint32_t index = maas_lend_owner_find(owners, name);
	struct maas_lend_owner *owner;
	int r;

	if (!index) {
		r = take_record(owners, &index);
		if (r)
			return r;
		owner = &owners->table->records[index];
		memset(owner, 0, sizeof(*owner));
		memcpy(owner->name, name, strlen(name));
		link_name(owners, index);
	}
	owners->table->records[index].live += count;
	*ret_index = index;
	return 0;
}

void maas_lend_owner_put(struct maas_lend_owners *owners, uint32_t index, uint32_t count)
{
	struct maas_lend_owner *owner = &owners->table->records[index];
	uint32_t *at;

	if (!index)
		return;
	assert(owner->live >= count);
	owner->live -= count;
	if (owner->live)
		return;
	at = &owners->buckets[bucket_of(owners, owner->name)];
	while (*at != index)
		at = &owners->table->records[*at].next;
	*at = owner->next;
	owner->next = owners->free;
	owners->free = index;
	owners->count--;
}

const char *maas_lend_owner_name(const struct maas_lend_owners *owners, uint32_t index)
{
	return index ? owners->table->records[index].name : "";
}

uint32_t maas_lend_owner_live(const struct maas_lend_owners *owners, uint32_t index)
{
	return owners->table->records[index].live;
}
