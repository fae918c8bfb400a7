/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma_lan: all of a maasd in the test's process, over the fake device, for libmaas to speak to. A
 * shared library, so that what a test counts or lets fail (fail_nth, costs) is libmaas's alone; the
 * library finds the fake device in the program.
 */
#ifndef MAAS_TESTS_UNIT_RDMA_LAN_H
#define MAAS_TESTS_UNIT_RDMA_LAN_H

#include "tests/fake/fake_verbs.h"

#define LAN_LARGEST (1u << 20) /* slabs of 4 KiB, 64 KiB and this */

#pragma GCC visibility push(default)

/* `keys` as in --rdma-keys: "auto", "window", "mr", "pool"; NULL: a server without RDMA. */
void lan_open(const struct fake_rules *rules, const char *keys);
/* After the last handle was closed: the fake finds nothing wrong then. Nothing where none is open.
 */
void lan_close(void);

/* From now on the server has these principals; the lines of a file. */
void lan_principals(const char *lines);

const char *lan_url(void);
unsigned long lan_live_slabs(void);
unsigned long lan_grants(void);
unsigned long lan_sessions(void);
/* A session has a key that only reads an allocation. */
void lan_grant_read(const char *id, const char *session);
/* The key of a session to an allocation dies. */
void lan_ungrant(const char *id, const char *session);
void lan_end_session(const char *session);

#pragma GCC visibility pop

#endif
