/* SPDX-License-Identifier: Apache-2.0 */
/* The answers that are remembered, so that a request sent again is not carried out twice. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

struct maas_lend_request_entry {
	struct maas_lend_request_key key;
	uint32_t count; /* allocations */
	uint32_t added_s;
	uint32_t next; /* the older entry in its bucket */
	bool is_void;
	union {
		struct maas_slab_ref ref;	       /* if it is one … */
		struct maas_lend_request_batch *batch; /* … or several; NULL: no longer known */
	};
};
static_assert(sizeof(struct maas_lend_request_entry) <= 48, "a million of them are 48 MB");
static_assert(MAAS_AUTH_MAX_REQUEST_IDS <= MAAS_LEND_REQUESTS, "a queue holds what a line allows");
static_assert((uint64_t)MAAS_LEND_REQUEST_CHUNK * (MAAS_LEND_REQUEST_CHUNKS - 2) >=
		      MAAS_LEND_REQUESTS,
	      "the queue holds what is promised, wherever it begins in its first chunk");
static_assert(crypto_shorthash_siphashx24_BYTES == sizeof(((struct maas_lend_request_key *)0)->id),
	      "");

/* What a request for several allocations made. */
struct maas_lend_request_batch {
	TAILQ_ENTRY(maas_lend_request_batch) link;
	uint32_t number; /* of its entry */
	uint32_t count;
	struct maas_slab_ref refs[];
};

void maas_lend_requests_resize(struct maas_lend_requests *requests, uint32_t max)
{
	uint64_t max_refs = (uint64_t)max * (MAAS_LEND_BATCH_REFS / MAAS_LEND_REQUESTS);

	requests->max = max ? max : 1;
	/* One batch is always remembered. */
	requests->max_refs = max_refs < MAAS_SLAB_MAX_BATCH ? MAAS_SLAB_MAX_BATCH : max_refs;
}

int maas_lend_requests_init(struct maas_lend_requests *requests, uint32_t max)
{
	maas_lend_requests_resize(requests, max);
	TAILQ_INIT(&requests->batches);
	/* Resident only where it is used: calloc takes this size from fresh pages. */
	requests->buckets = calloc(MAAS_LEND_REQUEST_BUCKETS, sizeof(*requests->buckets));
	return requests->buckets ? 0 : -ENOMEM;
}

static struct maas_lend_request_entry *entry_at(const struct maas_lend_requests *requests,
						uint32_t number)
{
	return &requests->chunks[number / MAAS_LEND_REQUEST_CHUNK % MAAS_LEND_REQUEST_CHUNKS]
				[number % MAAS_LEND_REQUEST_CHUNK];
}

/* Its request stays known. */
static void drop_batch(struct maas_lend_requests *requests, struct maas_lend_request_batch *batch)
{
	entry_at(requests, batch->number)->batch = NULL;
	requests->batch_refs -= batch->count;
	TAILQ_REMOVE(&requests->batches, batch, link);
	assert(TAILQ_FIRST(&requests->batches) != batch); /* for the static analysis */
	free(batch);
}

void maas_lend_requests_fini(struct maas_lend_requests *requests)
{
	struct maas_lend_request_batch *batch;

	while ((batch = TAILQ_FIRST(&requests->batches)))
		drop_batch(requests, batch);
	for (size_t i = 0; i < MAAS_LEND_REQUEST_CHUNKS; i++)
		free(requests->chunks[i]);
	free(requests->buckets);
}

void maas_lend_request_key(const unsigned char key[16], const char *principal,
			   const char *request_id, const void *fields, size_t len,
			   struct maas_lend_request_key *ret_key)
{
	char id[MAAS_NAME_BYTES + MAAS_LEND_REQUEST_ID];
	/* A name has no line feed. */
	int id_len = snprintf(id, sizeof(id), "%s\n%s", principal, request_id);

	crypto_shorthash_siphashx24(ret_key->id, (const unsigned char *)id,
				    (unsigned long long)id_len, key);
	crypto_shorthash((unsigned char *)&ret_key->fields, fields, len, key);
}

static struct maas_lend_request_entry **chunk_of(struct maas_lend_requests *requests,
						 uint32_t number)
{
	return &requests->chunks[number / MAAS_LEND_REQUEST_CHUNK % MAAS_LEND_REQUEST_CHUNKS];
}

static uint32_t *bucket_of(const struct maas_lend_requests *requests,
			   const struct maas_lend_request_key *key)
{
	uint32_t hash;

	memcpy(&hash, key->id, sizeof(hash));
	return &requests->buckets[hash % MAAS_LEND_REQUEST_BUCKETS];
}

/*
 * Follows a chain to older and older entries. The chain ends at a number that is not older than the
 * one before: that entry has left the queue, or the numbers have wrapped and it is another
 * request's.
 */
static bool lookup(const struct maas_lend_requests *requests,
		   const struct maas_lend_request_key *key, uint32_t *ret_number)
{
	uint32_t number = *bucket_of(requests, key);
	uint32_t newer = requests->end;

	while (number - requests->first < newer - requests->first) {
		const struct maas_lend_request_entry *entry = entry_at(requests, number);

		if (!entry->is_void && !memcmp(entry->key.id, key->id, sizeof(key->id))) {
			*ret_number = number;
			return true;
		}
		newer = number;
		number = entry->next;
	}
	return false;
}

int maas_lend_request_find(const struct maas_lend_requests *requests,
			   const struct maas_lend_request_key *key, uint32_t count,
			   struct maas_slab_ref *ret_refs)
{
	const struct maas_lend_request_entry *entry;
	uint32_t number;

	if (!lookup(requests, key, &number))
		return -ENOENT;
	entry = entry_at(requests, number);
	if (entry->key.fields != key->fields || entry->count != count)
		return -ENOTUNIQ;
	if (count == 1)
		*ret_refs = entry->ref;
	else if (entry->batch)
		memcpy(ret_refs, entry->batch->refs, count * sizeof(*ret_refs));
	else
		return -ENODATA;
	return 0;
}

static void make_void(struct maas_lend_requests *requests, struct maas_lend_request_entry *entry)
{
	if (entry->count > 1 && entry->batch)
		drop_batch(requests, entry->batch);
	entry->is_void = true;
	requests->count--;
}

static void forget_first(struct maas_lend_requests *requests)
{
	uint32_t first = requests->first;
	struct maas_lend_request_entry *entry = entry_at(requests, first);

	if (!entry->is_void)
		make_void(requests, entry);
	requests->first++;
	if (first / MAAS_LEND_REQUEST_CHUNK == requests->first / MAAS_LEND_REQUEST_CHUNK)
		return;
	free(*chunk_of(requests, first));
	*chunk_of(requests, first) = NULL;
}

/* Makes room for a request with `refs` more allocations of batches. */
static int make_room(struct maas_lend_requests *requests, uint32_t refs)
{
	for (int i = 0; i < MAAS_LEND_STEP; i++) {
		struct maas_lend_request_batch *oldest = TAILQ_FIRST(&requests->batches);

		if (oldest && requests->batch_refs + refs > requests->max_refs)
			drop_batch(requests, oldest);
		else if (requests->end - requests->first >= requests->max)
			forget_first(requests);
		else
			return 0;
	}
	return -EAGAIN;
}

int maas_lend_request_batch_new(const struct maas_slab_ref *refs, uint32_t count,
				struct maas_lend_request_batch **ret_batch)
{
	struct maas_lend_request_batch *batch = malloc(sizeof(*batch) + count * sizeof(*refs));

	if (!batch)
		return -ENOMEM;
	batch->count = count;
	memcpy(batch->refs, refs, count * sizeof(*refs));
	*ret_batch = batch;
	return 0;
}

int maas_lend_request_add(struct maas_lend_requests *requests,
			  const struct maas_lend_request_key *key, struct maas_slab_ref ref,
			  struct maas_lend_request_batch *batch, uint32_t now_s,
			  uint32_t *ret_number)
{
	struct maas_lend_request_entry **chunk = chunk_of(requests, requests->end);
	uint32_t *bucket = bucket_of(requests, key);
	struct maas_lend_request_entry *entry;

	if (make_room(requests, batch ? batch->count : 0))
		return -EAGAIN;
	if (!*chunk)
		*chunk = calloc(MAAS_LEND_REQUEST_CHUNK, sizeof(**chunk));
	if (!*chunk)
		return -ENOMEM;
	entry = entry_at(requests, requests->end);
	*entry = (struct maas_lend_request_entry){
		.key = *key,
		.count = batch ? batch->count : 1,
		.added_s = now_s,
		.next = *bucket,
		.ref = ref,
	};
	if (batch) {
		entry->batch = batch;
		batch->number = requests->end;
		TAILQ_INSERT_TAIL(&requests->batches, batch, link);
		requests->batch_refs += batch->count;
	}
	*ret_number = requests->end;
	*bucket = requests->end++;
	requests->count++;
	return 0;
}

void maas_lend_request_void(struct maas_lend_requests *requests,
			    const struct maas_lend_request_key *key, uint32_t number)
{
	struct maas_lend_request_entry *entry;

	/* It was forgotten meanwhile. */
	if (number - requests->first >= requests->end - requests->first)
		return;
	/* The numbers wrapped, and this one is another request's. */
	entry = entry_at(requests, number);
	if (entry->is_void || memcmp(entry->key.id, key->id, sizeof(key->id)) != 0)
		return;
	/* It keeps its place in the queue and in its chain. */
	make_void(requests, entry);
}

bool maas_lend_requests_forget(struct maas_lend_requests *requests, uint32_t now_s, uint32_t max)
{
	for (uint32_t i = 0; i < max; i++) {
		if (requests->first == requests->end ||
		    now_s - entry_at(requests, requests->first)->added_s < MAAS_LEND_REQUEST_S)
			return false;
		forget_first(requests);
	}
	return true;
}

/* ---- a queue for each principal */

int maas_lend_request_queues_init(struct maas_lend_request_queues *queues)
{
	randombytes_buf(queues->key, sizeof(queues->key));
	queues->at = calloc(1, sizeof(*queues->at));
	queues->count = queues->at ? 1 : 0;
	return queues->at ? 0 : -ENOMEM;
}

void maas_lend_request_queues_free(struct maas_lend_requests **at, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (at[i])
			maas_lend_requests_fini(at[i]);
		free(at[i]);
	}
	free(at);
}

/* Where the principal's queue is, or is to be; NULL: there is no such principal. */
static struct maas_lend_requests **place_of(struct maas_lend *lend, const char *principal)
{
	const struct maas_auth *table = lend->principals.table;
	const struct maas_auth_principal *found;

	if (!table)
		return *principal ? NULL : lend->requests.at;
	found = maas_auth_by_name(table, principal);
	return found ? &lend->requests.at[maas_auth_index(table, found)] : NULL;
}

struct maas_lend_requests *maas_lend_requests_of(struct maas_lend *lend, const char *principal)
{
	struct maas_lend_requests **place = place_of(lend, principal);

	return place ? *place : NULL;
}

static uint32_t max_of(const struct maas_auth *table, uint32_t principal)
{
	uint64_t max = table ? maas_auth_at(table, principal)->quota[MAAS_AUTH_REQUEST_IDS]
			     : MAAS_LEND_REQUESTS;

	return max < MAAS_LEND_REQUESTS ? (uint32_t)max : MAAS_LEND_REQUESTS;
}

static int make_queue(struct maas_lend *lend, const char *principal,
		      struct maas_lend_requests **ret_requests)
{
	struct maas_lend_requests **place = place_of(lend, principal);
	struct maas_lend_requests *made;
	uint32_t max;

	if (!place)
		return -EACCES;
	if (!*place) {
		max = max_of(lend->principals.table, (uint32_t)(place - lend->requests.at));
		made = calloc(1, sizeof(*made));
		if (!made || maas_lend_requests_init(made, max)) {
			free(made);
			return -ENOMEM;
		}
		*place = made;
	}
	*ret_requests = *place;
	return 0;
}

int maas_lend_remember(struct maas_lend *lend, const char *principal,
		       const struct maas_lend_request_key *key, const struct maas_slab_ref *refs,
		       uint32_t count, uint32_t *ret_number)
{
	struct maas_lend_request_batch *batch = NULL;
	struct maas_lend_requests *requests;
	int r = count > 1 ? maas_lend_request_batch_new(refs, count, &batch) : 0;

	if (r)
		return r;
	do {
		pthread_mutex_lock(&lend->lock);
		r = make_queue(lend, principal, &requests);
		if (!r)
			r = maas_lend_request_add(requests, key, refs[0], batch,
						  (uint32_t)(lend->lease_ms / 1000), ret_number);
		pthread_mutex_unlock(&lend->lock);
	} while (r == -EAGAIN);
	if (r)
		free(batch);
	return r;
}

void maas_lend_request_queues_take(struct maas_lend *lend, const struct maas_auth *table,
				   struct maas_lend_requests ***at, uint32_t *count)
{
	struct maas_lend_requests **now = *at;
	uint32_t before_count;

	for (uint32_t i = 0; i < *count; i++) {
		const char *name = table ? maas_auth_at(table, i)->name : "";
		struct maas_lend_requests **before = place_of(lend, name);

		if (!before || !*before)
			continue;
		now[i] = *before;
		*before = NULL;
		maas_lend_requests_resize(now[i], max_of(table, i));
	}
	*at = lend->requests.at;
	lend->requests.at = now;
	before_count = lend->requests.count;
	lend->requests.count = *count;
	*count = before_count;
}
