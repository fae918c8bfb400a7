/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent: on two hosts, b runs the scenarios and tells a what to do. They talk through files in
 * SOFTROCE_SHARE, because scenarios pull the cable. Threading: one asks at a time.
 */
#ifndef MAAS_TESTS_AGENT_H
#define MAAS_TESTS_AGENT_H

#include "auth/auth.h"
#include "tests/rdma/scenario.h"

#define AGENT_TEXT 1024

/* Of --auth-file, with owner= of its own name. */
struct principal {
	char token[MAAS_AUTH_TOKEN];
	char line[256];
};

/* Host a: does what is asked until it is told to end. Returns an exit status. */
int agent_serve(void);

/* ---- host b; each must succeed */

/* server_start() on a, in the place of what runs there; server.url is known here, too. */
void agent_start(const char *keys, const char *options);
/* The same with --auth-file, whose principals a was told before. */
void agent_start_known(const char *keys);
/*
 * Has a do one thing, and takes its answer (NULL: no matter which): "stop" maasd; "pin" the work of
 * interrupts off maasd's account; "check SEED ID...": fetch these allocations over HTTP, of which
 * the i-th must hold the bytes of agent_fill() with SEED + i; "log"; "end";
 * "principals TEXT": write the file of --auth-file, and have it read.
 */
void agent_ask(char *answer, const char *fmt, ...) MAAS_PRINTF(2, 3);
/* What maasd has done so far, all its threads together. */
struct effort {
	uint64_t cpu_ms;  /* user and system */
	uint64_t wakeups; /* how often a thread slept and went on */
};

void agent_effort(struct effort *ret_effort);
/* A metric without labels, read on a itself: the cable may be pulled. */
double agent_metric(const char *name);
/* Both hosts lose so many packets of what they send; 0: none. */
void agent_lose(unsigned int percent);
void agent_show_log(void);
/* "on" or "off" */
void agent_cable(const char *state);

/* Random bytes that both hosts can make. */
void agent_fill(uint64_t seed, uint8_t *bytes, size_t len);
/* Makes a principal, with its token in a file of its name, too. */
void principal_make(const char *name, struct principal *ret_principal);

/* Scenarios with files of their own. */
void run_cpu(const char *keys);
void run_strangers(const char *keys);

#endif
