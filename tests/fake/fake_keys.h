/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_keys: a table of key operations with behaviour, in place of rdma/. It knows which sessions
 * have a key to which slabs, refuses what struct maas_lend_key_ops says, and aborts when a key
 * outlives its slab. Operations end as the mode says.
 *
 * Threading: any thread; a test whose lend has other threads changes a field by fake_keys_set().
 */
#ifndef MAAS_TESTS_FAKE_FAKE_KEYS_H
#define MAAS_TESTS_FAKE_FAKE_KEYS_H

#include <pthread.h>
#include <sys/queue.h>

#include "lend/lend.h"

#define FAKE_KEYS_MAX	     16384
#define FAKE_KEYS_PORT	     18515
#define FAKE_KEYS_CONNECTION 7

enum fake_keys_mode {
	FAKE_KEYS_HOLD,	   /* when the test calls fake_keys_finish() */
	FAKE_KEYS_AT_ONCE, /* before they return */
	FAKE_KEYS_RANDOM,  /* before they return, or in another thread; some with an error */
};

enum fake_key_kind {
	FAKE_KEY_GRANT,
	FAKE_KEY_UNGRANT,
	FAKE_KEY_REVOKE,
	FAKE_KEY_END_SESSION,
	FAKE_KEY_KINDS,
};

struct fake_key_op {
	enum fake_key_kind kind;
	struct maas_lend_session_ref session;
	struct maas_slab_ref ref;
	const struct maas_slab_ref *refs; /* of a grant, as the three behind it */
	uint32_t count;
	enum maas_lend_access access;
	struct maas_lend_key *ret_keys;
	maas_lend_key_done *done;
	void *arg;
	STAILQ_ENTRY(fake_key_op) link;
};

struct fake_key {
	struct maas_lend_session_ref session;
	struct maas_slab_ref ref;
	enum maas_lend_access access;
	uint32_t rkey;
};

struct fake_keys {
	struct maas_slab *slab; /* constant once the test has set it */
	pthread_mutex_t lock;
	/* Guarded by lock, as all that follows. The test sets these … */
	enum fake_keys_mode mode;
	int start_error;   /* what an operation returns instead of starting */
	bool unconnected;  /* sessions have no connection */
	uint32_t max_keys; /* another one is -EDQUOT */
	struct maas_lend_key_stats stats;
	/* … and reads these. */
	STAILQ_HEAD(, fake_key_op) ops; /* under way, the oldest first */
	unsigned int num_ops;
	unsigned int calls[FAKE_KEY_KINDS];
	unsigned int probes;
	struct maas_lend_session_ref probed; /* the last */
	struct fake_key keys[FAKE_KEYS_MAX];
	uint32_t num_keys;
	uint32_t last_rkey; /* how many keys were ever made */
	/* FAKE_KEYS_RANDOM */
	pthread_t thread;
	pthread_cond_t changed;
	uint64_t random;
	bool has_thread;
	bool is_busy;
	bool stop;
};

extern const struct maas_lend_key_ops fake_key_ops; /* ctx: a struct fake_keys */

void fake_keys_init(struct fake_keys *keys, enum fake_keys_mode mode);
/* With a thread that ends operations in FAKE_KEYS_RANDOM. */
void fake_keys_init_random(struct fake_keys *keys, uint64_t seed);
void fake_keys_fini(struct fake_keys *keys);

#define fake_keys_set(keys, field, value)                                                          \
	do {                                                                                       \
		pthread_mutex_lock(&(keys)->lock);                                                 \
		(keys)->field = (value);                                                           \
		pthread_mutex_unlock(&(keys)->lock);                                               \
	} while (0)

/* A key of nobody in particular, made by the test itself. */
void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref);
/* Ends the oldest operation under way; with 0 as it would end. False when there is none. */
bool fake_keys_finish(struct fake_keys *keys, int status);
/* Waits until `count` operations are under way. */
void fake_keys_await(struct fake_keys *keys, unsigned int count);
/* From FAKE_KEYS_RANDOM to FAKE_KEYS_AT_ONCE: waits until all that is under way has ended. */
void fake_keys_settle(struct fake_keys *keys);
/* Keys that live: to one slab, or all (NULL). */
uint32_t fake_keys_live(struct fake_keys *keys, const struct maas_slab_ref *ref);

#endif
