/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys for a server under test, in place of rdma/: who has which key to what, with the refusals of
 * struct maas_lend_key_ops. The test plays the device: operations end at once, or when it says so.
 * Threading: any thread.
 */
#ifndef MAAS_TESTS_HTTP_KEYS_H
#define MAAS_TESTS_HTTP_KEYS_H

#include <pthread.h>

#include "lend/lend.h"

#define HTTP_KEYS_MAX	     16384
#define HTTP_KEYS_OPS	     64
#define HTTP_KEYS_PORT	     18515
#define HTTP_KEYS_CONNECTION 7

enum http_key_op_kind {
	HTTP_KEY_GRANT,
	HTTP_KEY_UNGRANT,
	HTTP_KEY_REVOKE,
	HTTP_KEY_END_SESSION,
};

struct http_key_op {
	enum http_key_op_kind kind;
	struct maas_lend_session_ref session;
	struct maas_slab_ref ref;
	const struct maas_slab_ref *refs;
	uint32_t count;
	enum maas_lend_access access;
	struct maas_lend_key *ret_grants;
	maas_lend_key_done *done;
	void *arg;
};

struct http_key {
	struct maas_lend_session_ref session;
	struct maas_slab_ref ref;
	enum maas_lend_access access;
	uint32_t rkey;
};

struct http_keys {
	struct maas_slab *slab;

	pthread_mutex_t lock;
	/* guarded by lock; the test sets these through http_keys_set() … */
	bool unconnected;
	bool hold;	 /* operations wait for http_keys_finish() */
	int start_error; /* what grants and their ends return at once */
	uint32_t max_grants;
	struct maas_lend_key_stats stats;
	/* … and these are the fake's own */
	struct http_key_op ops[HTTP_KEYS_OPS];
	unsigned int num_ops;
	struct http_key keys[HTTP_KEYS_MAX];
	uint32_t num_keys;
	uint32_t next_rkey;
};

extern const struct maas_lend_key_ops http_key_ops; /* ctx: a struct http_keys */

void http_keys_init(struct http_keys *keys);
void http_keys_fini(struct http_keys *keys);

#define http_keys_set(keys, field, value)                                                          \
	do {                                                                                       \
		pthread_mutex_lock(&(keys)->lock);                                                 \
		(keys)->field = (value);                                                           \
		pthread_mutex_unlock(&(keys)->lock);                                               \
	} while (0)

/* Ends the oldest operation under way; 0 does it. False when there is none. */
bool http_keys_finish(struct http_keys *keys, int status);
/* Waits until `count` operations are under way. */
void http_keys_await(struct http_keys *keys, unsigned int count);
uint32_t http_keys_live(struct http_keys *keys);

#endif
