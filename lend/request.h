/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: the answers that are remembered by request id. A queue of entries, numbered, one for
 * each request. The oldest go first, so a link to a number that left the queue ends its chain:
 * nothing is unlinked. What a request for several allocations made lies beside the queue, as far as
 * there is room: the oldest batches are forgotten first, and their requests stay known.
 *
 * Threading: under lend's lock, unless said otherwise.
 */
#ifndef MAAS_LEND_REQUEST_H
#define MAAS_LEND_REQUEST_H

#include "lend/lend.h"

#define MAAS_LEND_REQUEST_CHUNK	  4096
#define MAAS_LEND_REQUEST_CHUNKS  256 /* one more than MAAS_LEND_REQUESTS needs, at each end */
#define MAAS_LEND_REQUEST_BUCKETS (1u << 20)

/* What is kept of a request: keyed hashes, whatever its size. */
struct maas_lend_request_key {
	unsigned char id[16];
	uint64_t fields; /* of everything but the id */
};

struct maas_lend_request_entry;
struct maas_lend_request_batch;
TAILQ_HEAD(maas_lend_request_batches, maas_lend_request_batch);

struct maas_lend_requests {
	unsigned char key[16];
	struct maas_lend_request_entry *chunks[MAAS_LEND_REQUEST_CHUNKS];
	uint32_t *buckets; /* the newest entry of each */
	uint32_t first;	   /* numbers wrap around */
	uint32_t end;
	uint64_t count;				  /* those that are not void */
	struct maas_lend_request_batches batches; /* oldest first */
	uint64_t batch_refs;			  /* in them */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_requests_init(struct maas_lend_requests *requests);
void maas_lend_requests_fini(struct maas_lend_requests *requests);
/* An id is its principal's ("": there are none): another's same id is another request. Threading:
 * any thread, no lock: the hash's key is constant. */
void maas_lend_request_key(const struct maas_lend_requests *requests, const char *principal,
			   const char *request_id, const void *fields, size_t len,
			   struct maas_lend_request_key *ret_key);
/* What the request made. Errors: -ENOENT it is not known, -ENOTUNIQ it is, with other fields,
 * -ENODATA it is, but what it made was forgotten. */
MAAS_MUST_CHECK int maas_lend_request_find(const struct maas_lend_requests *requests,
					   const struct maas_lend_request_key *key, uint32_t count,
					   struct maas_slab_ref *ret_refs);
/* A batch for maas_lend_request_add(), or for free(3). Threading: no lock. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_request_batch_new(const struct maas_slab_ref *refs, uint32_t count,
						struct maas_lend_request_batch **ret_batch);
/*
 * Adds a request that made `ref`, or the several of `batch`, which is owned from then on; NULL:
 * one allocation. -EAGAIN: after one step of making room there is still none for the batch; let go
 * of the lock, and call this again. Errors: -ENOMEM.
 */
MAAS_MUST_CHECK int maas_lend_request_add(struct maas_lend_requests *requests,
					  const struct maas_lend_request_key *key,
					  struct maas_slab_ref ref,
					  struct maas_lend_request_batch *batch, uint32_t now_s,
					  uint32_t *ret_number);
/* What the request of that number made is gone: from now on its id is new. */
void maas_lend_request_void(struct maas_lend_requests *requests,
			    const struct maas_lend_request_key *key, uint32_t number);
/* Forgets up to `max` requests that are too old at `now_s`; false: no more are. */
bool maas_lend_requests_forget(struct maas_lend_requests *requests, uint32_t now_s, uint32_t max);

#endif
