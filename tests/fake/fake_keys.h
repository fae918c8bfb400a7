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

struct fake_key_op {
	bool is_session;
	struct maas_slab_ref ref;
	struct maas_session_ref session;
	maas_key_done *done;
	void *arg;
};

struct fake_keys {
	/* The test sets these. */
	struct maas_slab *slab;
	int start_error;  /* what an operation returns at once; 0: it starts */
	bool unconnected; /* sessions have no connection: their end is -EALREADY */
	bool immediate;	  /* `done` comes with 0 before the operation returns */
	/* It reads these. */
	struct fake_key_op under_way[FAKE_KEYS_MAX];
	unsigned int num_under_way;
	unsigned int revokes;
	unsigned int session_ends;
	unsigned int probes;
	bool slab_was_live; /* a key was to be killed while new readers could still come */
	/* Slabs that have a key; to revoke those of another one is -EALREADY. */
	struct maas_slab_ref keyed[FAKE_KEYS_MAX];
	unsigned int num_keyed;
};

extern const struct maas_key_ops fake_key_ops; /* ctx: a struct fake_keys */

void fake_keys_grant(struct fake_keys *keys, struct maas_slab_ref ref);
/* Ends the oldest operation under way; with 0 its keys are dead. False when there is none. */
bool fake_keys_finish(struct fake_keys *keys, int status);

#endif
