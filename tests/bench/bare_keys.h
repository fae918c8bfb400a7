/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_keys: keys made with nothing but verbs, the least that a server could do: windows bound in
 * chains on one queue pair, or regions registered one after the other. Threading: one thread.
 */
#ifndef MAAS_BENCH_BARE_KEYS_H
#define MAAS_BENCH_BARE_KEYS_H

#include "base/base.h"

#define BARE_KEYS 1000

struct bare_keys;

/* Errors: errno of the verbs, -ENODEV. */
MAAS_MUST_CHECK int bare_keys_open(bool windows, struct bare_keys **ret_keys);
/* BARE_KEYS keys to 1 KiB each; their end. Errors: errno of the verbs, -EIO. */
MAAS_MUST_CHECK int bare_keys_make(struct bare_keys *keys);
MAAS_MUST_CHECK int bare_keys_kill(struct bare_keys *keys);
/* NULL and what is half open are allowed. */
void bare_keys_close(struct bare_keys *keys);

#endif
