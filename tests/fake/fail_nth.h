/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fail_nth: makes the n-th request for memory fail, once, for every n in turn:
 *
 *     for (n = 1, fired = true; fired; n++) {
 *             fail_nth_arm(n);
 *             r = maas_thing_new(&thing);
 *             fired = fail_nth_disarm();
 *             ...
 *     }
 *
 * A test program asks for it with `maas_fail_nth(TARGET)` in CMake, which wraps malloc(3) and its
 * kin, mmap(2) and munmap(2) at link time: requests of our own statically linked code count,
 * requests inside shared libraries do not.
 */
#ifndef MAAS_TESTS_FAKE_FAIL_NTH_H
#define MAAS_TESTS_FAKE_FAIL_NTH_H

#include <stdbool.h>

/* The `nth` request from now on, 1 the next, fails with ENOMEM. Threading: counts all threads. */
void fail_nth_arm(long nth);

/* No request fails any more. Returns whether one did. */
bool fail_nth_disarm(void);

/* Requests of the calling thread do not count, as long as it says so: they are not under test. */
void fail_nth_spare(bool spare);

/* Requests of the calling thread so far. */
unsigned long fail_nth_requests(void);

/* Blocks allocated and not freed, mappings made and not unmapped, by the wrapped code. */
long fail_nth_blocks(void);
long fail_nth_mapped_bytes(void);

#endif
