/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_keys: a table of key operations with behaviour, in place of rdma/. It knows which slabs have
 * a living key and which operations are under way. The test plays the network: it confirms an
 * operation when it likes, or never.
 */
#ifndef MAAS_TESTS_FAKE_FAKE_KEYS_H
#define MAAS_TESTS_FAKE_FAKE_KEYS_H

#include "lend/lend.h"

#define FAKE_KEYS_MAX 64

enum fake_key_type {
	FAKE_KEY_GRANT,
	FAKE_KEY_UNGRANT,
	FAKE_KEY_REVOKE,
	FAKE_KEY_END_SESSION,
};

struct fake_key_op {
	enum fake_key_type type;
	struct maas_slab_ref ref;
	struct maas_lend_session_ref session;
	const struct maas_slab_ref *refs; /* of a grant, as the three behind it */
	uint32_t count;
	enum maas_lend_access access;
	struct maas_lend_key *ret_grants;
	maas_lend_key_done *done;
	void *arg;
};

struct fake_key {
	struct maas_slab_ref ref;
	struct maas_lend_session_ref session;
	enum maas_lend_access access;
	uint32_t rkey;
};

struct fake_keys {
	/* The test sets these. */
	struct maas_slab *slab;
	int start_error;       /* what an operation returns at once; 0: it starts */
	bool unconnected;      /* sessions have no connection: their end is -EALREADY */
	bool immediate;	       /* `done` comes before the operation returns */
	unsigned int max_keys; /* another one is -EDQUOT; 0: FAKE_KEYS_MAX */
	/* It reads these. */
	struct fake_key_op under_way[FAKE_KEYS_MAX];
	unsigned int num_under_way;
	unsigned int grants;
	unsigned int revokes;
	unsigned int session_ends;
	unsigned int probes;
	struct maas_lend_session_ref probed; /* the last */
	bool slab_was_live; /* a key was to be killed while new readers could still come */
	/* Living keys; to revoke those of a slab without any is -EALREADY. */
	struct fake_key keyed[FAKE_KEYS_MAX];
	unsigned int num_keyed;
	uint32_t last_rkey;
};

extern const struct maas_lend_key_ops fake_key_ops; /* ctx: a struct fake_keys */

/* A key of nobody in particular, made by the test itself. */
void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref);
/* Ends the oldest operation under way; with 0 as it would end. False when there is none. */
bool fake_keys_finish(struct fake_keys *keys, int status);
/* Keys to the slab. */
unsigned int fake_keys_count(const struct fake_keys *keys, struct maas_slab_ref ref);

#endif
