/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent: on two hosts, b runs the scenarios and tells a what to do. They talk through files in
 * SOFTROCE_SHARE, because scenarios pull the cable. Threading: one asks at a time.
 */
#ifndef MAAS_TESTS_AGENT_H
#define MAAS_TESTS_AGENT_H

#include "tests/rdma/scenario.h"

#define AGENT_TEXT 1024

/* Host a: does what is asked until it is told to end. Returns an exit status. */
int agent_serve(void);

/* ---- host b; each must succeed */

/* server_start() on a, in the place of what runs there; server.url is known here, too. */
void agent_start(const char *options, ...) MAAS_PRINTF(1, 2);
void agent_stop(void);
/* What maasd did so far. */
void agent_effort(struct effort *ret_effort);
/* Keeps the work of interrupts off maasd's account. */
void agent_pin(void);
/* A metric without labels, read on a itself: the cable may be pulled. */
double agent_metric(const char *name);
/*
 * Fetches the allocations of SOFTROCE_SHARE/ids over HTTP on a; the i-th must hold the bytes of
 * agent_fill() with `seed` + i.
 */
void agent_check_bytes(uint64_t seed);
/* Both hosts lose so many packets of what they send; 0: none. */
void agent_lose(unsigned int percent);
/* Shows maasd's log. */
void agent_show_log(void);
void agent_end(void);

void agent_pull_cable(void);
void agent_plug_cable(void);

/* Random bytes that both hosts can make. */
void agent_fill(uint64_t seed, uint8_t *bytes, size_t len);
/* SOFTROCE_SHARE/`name` */
void agent_path(const char *name, char path[256]);

#endif
