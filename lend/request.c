/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

struct maas_request_entry {
	/* of the first entry of a request */
	struct maas_request_key key;
	uint32_t count; /* entries of the request; 0 in those that follow the first */
	uint32_t added_s;
	uint32_t next; /* the older entry in its bucket */
	bool is_void;
	/* of every entry */
	uint32_t slot;
	uint32_t generation;
};
static_assert(sizeof(struct maas_request_entry) <= 48, "a million of them are 48 MB");
static_assert((uint64_t)MAAS_REQUEST_CHUNK * (MAAS_REQUEST_CHUNKS - 2) >= MAAS_LEND_REQUESTS,
	      "the queue holds what is promised, wherever it begins in its first chunk");
static_assert(crypto_shorthash_siphashx24_BYTES == sizeof(((struct maas_request_key *)0)->id), "");

int maas_requests_init(struct maas_requests *requests)
{
	randombytes_buf(requests->key, sizeof(requests->key));
	/* Resident only where it is used: calloc takes this size from fresh pages. */
	requests->buckets = calloc(MAAS_REQUEST_BUCKETS, sizeof(*requests->buckets));
	return requests->buckets ? 0 : -ENOMEM;
}

void maas_requests_fini(struct maas_requests *requests)
{
	for (size_t i = 0; i < MAAS_REQUEST_CHUNKS; i++)
		free(requests->chunks[i]);
	free(requests->buckets);
}

void maas_request_key(const struct maas_requests *requests, const char *request_id,
		      const void *fields, size_t len, struct maas_request_key *ret_key)
{
	crypto_shorthash_siphashx24(ret_key->id, (const unsigned char *)request_id,
				    strlen(request_id), requests->key);
	crypto_shorthash((unsigned char *)&ret_key->fields, fields, len, requests->key);
}

static struct maas_request_entry **chunk_of(struct maas_requests *requests, uint32_t number)
{
	return &requests->chunks[number / MAAS_REQUEST_CHUNK % MAAS_REQUEST_CHUNKS];
}

static struct maas_request_entry *entry_at(const struct maas_requests *requests, uint32_t number)
{
	return &requests->chunks[number / MAAS_REQUEST_CHUNK % MAAS_REQUEST_CHUNKS]
				[number % MAAS_REQUEST_CHUNK];
}

static uint32_t *bucket_of(const struct maas_requests *requests, const struct maas_request_key *key)
{
	uint32_t hash;

	memcpy(&hash, key->id, sizeof(hash));
	return &requests->buckets[hash % MAAS_REQUEST_BUCKETS];
}

/*
 * Follows a chain to older and older entries. A number that is not among those older than the one
 * before has left the queue, or is a stranger's since the numbers wrapped: the chain ends there.
 */
static bool lookup(const struct maas_requests *requests, const struct maas_request_key *key,
		   uint32_t *ret_number)
{
	uint32_t number = *bucket_of(requests, key);
	uint32_t newer = requests->end;

	while (number - requests->first < newer - requests->first) {
		const struct maas_request_entry *entry = entry_at(requests, number);

		if (entry->count && !entry->is_void &&
		    !memcmp(entry->key.id, key->id, sizeof(key->id))) {
			*ret_number = number;
			return true;
		}
		newer = number;
		number = entry->next;
	}
	return false;
}

int maas_request_find(const struct maas_requests *requests, const struct maas_request_key *key,
		      uint32_t count, struct maas_slab_ref *ret_refs)
{
	uint32_t number;

	if (!lookup(requests, key, &number))
		return -ENOENT;
	if (entry_at(requests, number)->key.fields != key->fields ||
	    entry_at(requests, number)->count != count)
		return -ENOTUNIQ;
	for (uint32_t i = 0; i < count; i++) {
		const struct maas_request_entry *entry = entry_at(requests, number + i);

		ret_refs[i].slot = entry->slot;
		ret_refs[i].generation = entry->generation;
	}
	return 0;
}

static void forget_first(struct maas_requests *requests)
{
	uint32_t first = requests->first;
	uint32_t next = first + entry_at(requests, first)->count;

	if (!entry_at(requests, first)->is_void)
		requests->count--;
	for (; first / MAAS_REQUEST_CHUNK != next / MAAS_REQUEST_CHUNK;
	     first += MAAS_REQUEST_CHUNK) {
		free(*chunk_of(requests, first));
		*chunk_of(requests, first) = NULL;
	}
	requests->first = next;
}

static int reserve(struct maas_requests *requests, uint32_t count)
{
	uint32_t last = requests->end + count - 1;
	uint32_t number = requests->end;

	for (;;) {
		struct maas_request_entry **chunk = chunk_of(requests, number);

		if (!*chunk)
			*chunk = calloc(MAAS_REQUEST_CHUNK, sizeof(**chunk));
		if (!*chunk)
			return -ENOMEM;
		if (number / MAAS_REQUEST_CHUNK == last / MAAS_REQUEST_CHUNK)
			return 0;
		number += MAAS_REQUEST_CHUNK;
	}
}

int maas_request_add(struct maas_requests *requests, const struct maas_request_key *key,
		     const struct maas_slab_ref *refs, uint32_t count, uint32_t now_s)
{
	uint32_t *bucket = bucket_of(requests, key);
	struct maas_request_entry *head;
	int rc;

	while (requests->end - requests->first + count > MAAS_LEND_REQUESTS)
		forget_first(requests);
	rc = reserve(requests, count);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < count; i++) {
		struct maas_request_entry *entry = entry_at(requests, requests->end + i);

		memset(entry, 0, sizeof(*entry));
		entry->slot = refs[i].slot;
		entry->generation = refs[i].generation;
	}
	head = entry_at(requests, requests->end);
	head->key = *key;
	head->count = count;
	head->added_s = now_s;
	head->next = *bucket;
	*bucket = requests->end;
	requests->end += count;
	requests->count++;
	return 0;
}

void maas_request_void(struct maas_requests *requests, const struct maas_request_key *key,
		       struct maas_slab_ref first)
{
	struct maas_request_entry *entry;
	uint32_t number;

	if (!lookup(requests, key, &number))
		return;
	entry = entry_at(requests, number);
	/* It was forgotten meanwhile, and the id belongs to a later request. */
	if (entry->slot != first.slot || entry->generation != first.generation)
		return;
	/* It keeps its place in the queue and in its chain. */
	entry->is_void = true;
	requests->count--;
}

bool maas_requests_forget(struct maas_requests *requests, uint32_t now_s, uint32_t max)
{
	for (uint32_t i = 0; i < max; i++) {
		if (requests->first == requests->end ||
		    now_s - entry_at(requests, requests->first)->added_s < MAAS_LEND_REQUEST_S)
			return false;
		forget_first(requests);
	}
	return true;
}
