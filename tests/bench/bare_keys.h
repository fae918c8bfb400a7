/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_keys: keys made with nothing but verbs, the least that a server could do: windows bound in
 * chains on one queue pair, or regions registered one after the other. A failure ends the program.
 * Threading: one thread.
 */
#ifndef MAAS_BENCH_BARE_KEYS_H
#define MAAS_BENCH_BARE_KEYS_H

#include "base/base.h"

#define BARE_KEYS 1000

void bare_keys_open(bool windows);
/* BARE_KEYS keys to 1 KiB each; their end. */
void bare_keys_make(void);
void bare_keys_kill(void);
void bare_keys_close(void);

#endif
