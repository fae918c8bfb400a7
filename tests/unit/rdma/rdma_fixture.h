/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of rdma/ share: a server over the fake device, and clients that speak to it by
 * verbs alone, so that they can do what libmaas never would.
 */
#ifndef MAAS_TESTS_UNIT_RDMA_FIXTURE_H
#define MAAS_TESTS_UNIT_RDMA_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rdma/rdma.h"
#include "tests/fake/fake_verbs.h"
#include "tests/rdma/raw_link.h"

#define WORLD_SESSIONS 8
#define WORLD_GRANTS   64
#define PEER_BYTES     65536

struct world {
	struct maas_slab *slab;
	struct maas_rdma *rdma;
	struct maas_lend *lend;
};

/*
 * maas_clock_ms() and maas_clock_ns() of the program run ahead by what was added; a test's program
 * is linked with maas_test_clock(). Any thread.
 */
void clock_add_ms(uint64_t ms);

/* What worlds are opened with from here on. */
extern uint64_t world_pool_bytes; /* 1 MiB */
extern uint32_t world_max_grants; /* WORLD_GRANTS */
extern bool world_isolated;	  /* --require-isolation */

/* 0, or an error of any of the steps, then nothing is left but fake_verbs_finish(). */
int world_try(struct world *world, const struct fake_rules *rules, enum maas_rdma_keys keys);
/* The fake finds nothing wrong with what is left when world_close() has ended. */
void world_open(struct world *world, const struct fake_rules *rules, enum maas_rdma_keys keys);
void world_end(struct world *world);
void world_close(struct world *world);

struct maas_lend_key_stats world_stats(const struct world *world);
/* 0 where nothing of that name was counted. */
uint64_t count_of(const struct maas_lend_key_count *counts, const char *name);
/* Waits for what has to come: asserts that it does, within ten seconds of the real clock. */
#define AWAIT(condition)                                                                           \
	do {                                                                                       \
		for (unsigned int await_ = 0; !(condition); await_++) {                            \
			assert_true(await_ < 100000);                                              \
			nap();                                                                     \
		}                                                                                  \
	} while (0)
void nap(void); /* a tenth of a millisecond */

/* ---- who waits for a `done` */

struct told {
	_Atomic int calls;
	_Atomic int status;
};

void tell(void *arg, int status);
/* Waits until it was told, once. Returns the status. */
int told(struct told *told);

/* ---- clients */

struct peer {
	struct maas_lend_session_info session;
	struct raw_link link;
};

void peer_session(struct world *world, struct peer *peer, const char *name);
/* Asks to connect, with `len` bytes of private data … */
void peer_ask(struct world *world, struct peer *peer, const void *data, size_t len);
/* … or with the session's ticket … */
void peer_ask_with_ticket(struct world *world, struct peer *peer);
/* … and waits for the answer. 0, or the reason (enum maas_wire_reason) of the refusal; -errno. */
int peer_answer(struct peer *peer);
/* Both of them. */
int peer_dial_with(struct world *world, struct peer *peer, const void *data, size_t len);
/* With the session's ticket. */
int peer_dial(struct world *world, struct peer *peer);
/* As the server knows it. Spends its ticket. */
struct maas_lend_session_ref peer_ref(struct world *world, struct peer *peer);
/* Both, and it has to succeed. */
void peer_open(struct world *world, struct peer *peer, const char *name);
/* The next event, and its type; waits. */
enum rdma_cm_event_type peer_event(struct peer *peer);
void peer_hang_up(struct peer *peer);
void peer_close(struct peer *peer);

/* The status of one operation of `len` bytes. */
int peer_run(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey,
	     uint32_t len);
int peer_write(struct peer *peer, const struct maas_lend_key *grant);
int peer_read(struct peer *peer, const struct maas_lend_key *grant);

/* ---- what a peer is lent */

struct maas_lend_allocation world_allocate(struct world *world, uint64_t size_bytes);
/* Starts; or waits, and returns its end. */
int ask_grant(struct world *world, const struct peer *peer, const char *id,
	      enum maas_lend_access access, struct maas_lend_key *ret_grant, struct told *told);
int get_grant(struct world *world, const struct peer *peer, const char *id,
	      enum maas_lend_access access, struct maas_lend_key *ret_grant);
/* Waits for the end of a free. */
int free_it(struct world *world, const char *id);
int end_session(struct world *world, const struct peer *peer);

#endif
