/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async_keys: a table of key operations whose answers come from a thread of its own, at random: at
 * once, late, or as a failure. It knows which keys live, and aborts when one outlives its slab. For
 * tests with many threads; fake_keys is for those with one.
 */
#ifndef MAAS_TESTS_FAKE_ASYNC_KEYS_H
#define MAAS_TESTS_FAKE_ASYNC_KEYS_H

#include "lend/lend.h"

struct async_keys;

extern const struct maas_lend_key_ops async_key_ops; /* ctx: a struct async_keys */

/* NULL when it cannot be made. */
struct async_keys *async_keys_new(uint64_t seed);
/* Whose slabs the keys are to; before the first operation. */
void async_keys_use(struct async_keys *keys, struct maas_slab *slab);
/* Answers what is under way, from now on everything at once and without failure. */
void async_keys_settle(struct async_keys *keys);
/* Living keys, and those that were ever made. */
uint64_t async_keys_living(struct async_keys *keys, uint64_t *ret_made);
void async_keys_free(struct async_keys *keys);

#endif
