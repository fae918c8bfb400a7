/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async_keys: a table of key operations whose answers come from a thread of its own, at random: at
 * once, late, or as a failure. For tests with many threads; fake_keys is for those with one.
 */
#ifndef MAAS_TESTS_FAKE_ASYNC_KEYS_H
#define MAAS_TESTS_FAKE_ASYNC_KEYS_H

#include "lend/lend.h"

struct async_keys;

extern const struct maas_key_ops async_key_ops; /* ctx: a struct async_keys */

/* NULL when it cannot be made. */
struct async_keys *async_keys_new(uint64_t seed);
/* Answers what is under way, from now on everything at once and without failure. */
void async_keys_settle(struct async_keys *keys);
void async_keys_free(struct async_keys *keys);

#endif
