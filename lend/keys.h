/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys to what is lent, as lend sees them: a table of operations that rdma/ fills, and what they
 * give and count.
 */
#ifndef MAAS_LEND_KEYS_H
#define MAAS_LEND_KEYS_H

#include "slab/slab.h"

/* One life of one session record, as struct maas_slab_ref is one of a slab. */
struct maas_lend_session_ref {
	uint32_t index;
	uint32_t generation;
};

enum maas_lend_access {
	MAAS_LEND_ACCESS_NONE,
	MAAS_LEND_ACCESS_READ,
	MAAS_LEND_ACCESS_WRITE, /* and read */
};

/* A key to one allocation, good on one connection of one session only. */
struct maas_lend_key {
	uint64_t addr;	    /* of the first byte, as the client writes it: an arena offset */
	uint64_t len_bytes; /* what was asked for at allocation */
	uint32_t rkey;
	uint32_t connection; /* the number of the connection that the key is good on */
};

/* Where clients connect to. */
struct maas_lend_key_address {
	char addr[46]; /* numeric */
	uint16_t port;
};

/* Upper bounds of the buckets of struct maas_lend_key_times, in ns; the last bucket has none. */
#define MAAS_LEND_KEY_BUCKETS 12
extern const uint64_t maas_lend_key_bounds_ns[MAAS_LEND_KEY_BUCKETS];

struct maas_lend_key_times {
	uint64_t buckets[MAAS_LEND_KEY_BUCKETS + 1]; /* not cumulative */
	uint64_t sum_ns;
};

struct maas_lend_key_count {
	const char *name; /* constant; NULL behind the last */
	uint64_t count;
};

#define MAAS_LEND_KEY_COUNTS 32
struct maas_lend_key_stats {
	const char *state; /* constant: "active", or "failed" once the device is gone */
	uint64_t connecting;
	uint64_t connected;
	uint64_t ending;
	uint64_t grants;
	uint64_t registered_bytes; /* of the arena, with the NIC */
	uint64_t wanted_bytes;	   /* how much of it is to be */
	struct maas_lend_key_times bind;
	struct maas_lend_key_times revoke;
	/* Completions that failed, by status; connections refused, by reason. */
	struct maas_lend_key_count errors[MAAS_LEND_KEY_COUNTS];
	struct maas_lend_key_count rejects[MAAS_LEND_KEY_COUNTS];
};

/* Ends an asynchronous key operation, with 0 or -errno. Called once, from any thread. */
typedef void maas_lend_key_done(void *arg, int status);
#define MAAS_LEND_REVOCATION 7 /* words that lend has for one: a key dies without memory, too */

/*
 * The first five start an operation and return at once: 0 and `done(arg, …)` comes later, perhaps
 * before they return; -EALREADY when there was nothing to do (`done` is not called); other errors
 * when it could not even start, which counts as not confirmed; revoke and end_session are called
 * again then. They are called without lend's lock, and `done` may start others: call it without a
 * lock that they take. Any thread.
 */
struct maas_lend_key_ops {
	/*
	 * Keys of one session to `count` allocations, all or none; a key that the session already
	 * has is given again. `refs` and `ret_keys` are borrowed until `done`. Errors:
	 * -ENOTCONN the session has no connection, -ENOENT one is not live, -EEXIST the session
	 * has a key of other access to one, -EDQUOT --max-grants, -ENOSR as maas_lend_key_charge()
	 * says, -EMLINK the device has no more keys, -ENOMEM.
	 */
	int (*grant)(void *ctx, struct maas_lend_session_ref session,
		     const struct maas_slab_ref *refs, uint32_t count, enum maas_lend_access access,
		     struct maas_lend_key *ret_keys, maas_lend_key_done *done, void *arg);
	/* Kills the session's key to the slab. Errors: -ENOMEM. */
	int (*ungrant)(void *ctx, struct maas_lend_session_ref session, struct maas_slab_ref ref,
		       maas_lend_key_done *done, void *arg);
	/* Kills every key to the slab. An error in `done`: a key could not be confirmed dead, the
	 * slab is quarantined, and this is called again every second until it confirms, or finds no
	 * key any more. `storage`, of MAAS_LEND_REVOCATION words, is borrowed until `done`. */
	int (*revoke)(void *ctx, struct maas_slab_ref ref, uint64_t *storage,
		      maas_lend_key_done *done, void *arg);
	/* Breaks the session's connection; when `done` comes, all keys of the session are dead. An
	 * error in `done`: that could not be confirmed, and this is called again until it is. */
	int (*end_session)(void *ctx, struct maas_lend_session_ref session,
			   maas_lend_key_done *done, void *arg);
	/* Looks whether the session's peer is still there; breaks the connection if it is not. */
	void (*probe)(void *ctx, struct maas_lend_session_ref session);

	/* These answer at once. */
	bool (*connected)(void *ctx, struct maas_lend_session_ref session);
	/* Where a client connects to that came to `local` by HTTP (a struct sockaddr, or NULL).
	 * False: nothing is known that it could reach. */
	bool (*address)(void *ctx, const void *local, struct maas_lend_key_address *ret_address);
	void (*stats)(void *ctx, struct maas_lend_key_stats *ret_stats);
};

#endif
