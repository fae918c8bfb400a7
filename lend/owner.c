/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

#define FIRST_CAP 64

static_assert(crypto_shorthash_KEYBYTES == sizeof(((struct maas_owners *)0)->key), "");

bool maas_lend_name_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				  "._:/@-");

	return len && len < MAAS_LEND_NAME_BYTES && !name[len];
}

void maas_owners_init(struct maas_owners *owners)
{
	randombytes_buf(owners->key, sizeof(owners->key));
	owners->used = 1;
}

void maas_owners_fini(struct maas_owners *owners)
{
	free(owners->records);
}

/* Keyed, because clients choose the names. */
static uint32_t bucket_of(const struct maas_owners *owners, const char *name)
{
	uint64_t hash;

	crypto_shorthash((unsigned char *)&hash, (const unsigned char *)name, strlen(name),
			 owners->key);
	return (uint32_t)(hash % MAAS_OWNER_BUCKETS);
}

uint32_t maas_owner_find(const struct maas_owners *owners, const char *name)
{
	uint32_t index = owners->buckets[bucket_of(owners, name)];

	while (index && strcmp(owners->records[index].name, name) != 0)
		index = owners->records[index].next;
	return index;
}

static int grow(struct maas_owners *owners)
{
	uint32_t cap = owners->cap ? owners->cap * 2 : FIRST_CAP;
	struct maas_owner *records = realloc(owners->records, cap * sizeof(*records));

	if (!records)
		return -ENOMEM;
	owners->records = records;
	owners->cap = cap;
	return 0;
}

static int take_record(struct maas_owners *owners, uint32_t *ret_index)
{
	int rc;

	if (owners->count >= MAAS_LEND_MAX_OWNERS)
		return -EUSERS;
	if (owners->free) {
		*ret_index = owners->free;
		owners->free = owners->records[owners->free].next;
		return 0;
	}
	if (owners->used >= owners->cap) {
		rc = grow(owners);
		if (rc)
			return rc;
	}
	*ret_index = owners->used++;
	return 0;
}

int maas_owner_get(struct maas_owners *owners, const char *name, uint32_t count,
		   uint32_t *ret_index)
{
	uint32_t index = maas_owner_find(owners, name);
	struct maas_owner *owner;
	uint32_t bucket;
	int rc;

	if (!index) {
		rc = take_record(owners, &index);
		if (rc)
			return rc;
		owner = &owners->records[index];
		bucket = bucket_of(owners, name);
		memset(owner, 0, sizeof(*owner));
		memcpy(owner->name, name, strlen(name));
		owner->next = owners->buckets[bucket];
		owners->buckets[bucket] = index;
		owners->count++;
	}
	owners->records[index].live += count;
	*ret_index = index;
	return 0;
}

void maas_owner_put(struct maas_owners *owners, uint32_t index, uint32_t count)
{
	struct maas_owner *owner = &owners->records[index];
	uint32_t *at;

	if (!index)
		return;
	assert(owner->live >= count);
	owner->live -= count;
	if (owner->live)
		return;
	at = &owners->buckets[bucket_of(owners, owner->name)];
	while (*at != index)
		at = &owners->records[*at].next;
	*at = owner->next;
	owner->next = owners->free;
	owners->free = index;
	owners->count--;
}

const char *maas_owner_name(const struct maas_owners *owners, uint32_t index)
{
	return index ? owners->records[index].name : "";
}
