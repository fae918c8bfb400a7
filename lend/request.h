/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: the answers that are remembered by request id. A queue of entries, numbered, one for
 * each request. The oldest go first, so a link to a number that left the queue ends its chain:
 * nothing is unlinked. What a request for several allocations made lies beside the queue, as far as
 * there is room: the oldest batches are forgotten first, and their requests stay known. Each
 * principal has a queue of its own, so that nobody's requests push out another's.
 *
 * Threading: under lend's lock, unless said otherwise.
 */
#ifndef MAAS_LEND_REQUEST_H
#define MAAS_LEND_REQUEST_H

#include "lend/lend.h"

#define MAAS_LEND_REQUEST_CHUNK	  4096
#define MAAS_LEND_REQUEST_CHUNKS  256 /* one more than MAAS_LEND_REQUESTS needs, at each end */
#define MAAS_LEND_REQUEST_BUCKETS (1u << 18)

/* What is kept of a request: keyed hashes, whatever its size. */
struct maas_lend_request_key {
	unsigned char id[16];
	uint64_t fields; /* of everything but the id */
};

struct maas_lend_request_entry;
struct maas_lend_request_batch;
TAILQ_HEAD(maas_lend_request_batches, maas_lend_request_batch);

struct maas_lend_requests {
	uint32_t max;	   /* requests */
	uint64_t max_refs; /* in batches */
	struct maas_lend_request_entry *chunks[MAAS_LEND_REQUEST_CHUNKS];
	uint32_t *buckets; /* the newest entry of each */
	uint32_t first;	   /* numbers wrap around */
	uint32_t end;
	uint64_t count;				  /* those that are not void */
	struct maas_lend_request_batches batches; /* oldest first */
	uint64_t batch_refs;			  /* in them */
};

/* By principal of the table, or one queue where there is no table. */
struct maas_lend_request_queues {
	unsigned char key[16];		/* constant */
	struct maas_lend_requests **at; /* NULL where nothing was remembered yet */
	uint32_t count;
};

struct maas_lend;

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_request_queues_init(struct maas_lend_request_queues *queues);
/* `at`: of maas_lend_request_queues_take(). No lock held. */
void maas_lend_request_queues_free(struct maas_lend_requests **at, uint32_t count);
/* The queue of the principal of that name ("": there is no table), or NULL. */
struct maas_lend_requests *maas_lend_requests_of(struct maas_lend *lend, const char *principal);
/* Remembers what a request of the principal made, and says its number. No lock held. Errors:
 * -ENOMEM, -EACCES there is no such principal any more. */
MAAS_MUST_CHECK int maas_lend_remember(struct maas_lend *lend, const char *principal,
				       const struct maas_lend_request_key *key,
				       const struct maas_slab_ref *refs, uint32_t count,
				       uint32_t *ret_number);
/* Another table comes: each of its principals takes its queue along into `at`, which has room for
 * all; the queues of before, as far as they are left, are in `at` and `count` afterwards. */
void maas_lend_request_queues_take(struct maas_lend *lend, const struct maas_auth *table,
				   struct maas_lend_requests ***at, uint32_t *count);

/* A queue of `max` requests. Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_requests_init(struct maas_lend_requests *requests, uint32_t max);
void maas_lend_requests_resize(struct maas_lend_requests *requests, uint32_t max);
void maas_lend_requests_fini(struct maas_lend_requests *requests);
/* An id is its principal's ("": there are none): another's same id is another request. Threading:
 * any thread, no lock: the hash's key is constant. */
void maas_lend_request_key(const unsigned char key[16], const char *principal,
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
 * one allocation. -EAGAIN: after one step of making room there is still none; let go of the lock,
 * and call this again. Errors: -ENOMEM.
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
