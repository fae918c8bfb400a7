/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of rdma/ share: one server over the fake device, and clients that speak to it by
 * verbs alone, so that they can do what libmaas never would. A program ends its cases with
 * server_close(), which closes the clients, too.
 */
#ifndef MAAS_TESTS_UNIT_RDMA_FIXTURE_H
#define MAAS_TESTS_UNIT_RDMA_FIXTURE_H

#include "rdma/rdma.h"
#include "tests/fake/fake_verbs.h"
#include "tests/rdma/raw_link.h"
#include "tests/unit/unit.h"

#define SERVER_SESSIONS 8
#define SERVER_GRANTS	64
#define PEER_BYTES	65536

extern struct server {
	struct maas_slab *slab;
	struct maas_rdma *rdma;
	struct maas_lend *lend;
} server;

/* What the next server is opened with; server_close() sets it to zeros. */
extern struct server_options {
	uint64_t pool_bytes; /* 0: 1 MiB */
	uint32_t max_grants; /* 0: SERVER_GRANTS */
	bool require_isolation;
} server_options;

/* On whose behalf all calls are made; NULL where the server has no principals. */
extern const struct maas_lend_caller *server_caller;

/* The mode of a TEST_MODES case. */
extern enum maas_rdma_keys mode;

/* A case for each of the two modes that isolate. */
#define TEST_MODES(name)                                                                           \
	static void name(void);                                                                    \
	static void name##__window(void)                                                           \
	{                                                                                          \
		mode = MAAS_RDMA_KEYS_WINDOW;                                                      \
		name();                                                                            \
	}                                                                                          \
	static void name##__mr(void)                                                               \
	{                                                                                          \
		mode = MAAS_RDMA_KEYS_MR;                                                          \
		name();                                                                            \
	}                                                                                          \
	static void __attribute__((constructor)) name##__add(void)                                 \
	{                                                                                          \
		test_add(#name "__window", name##__window);                                        \
		test_add(#name "__mr", name##__mr);                                                \
	}                                                                                          \
	static void name(void)

/* main() of a program whose server logs errors alone. */
#define RDMA_TEST_MAIN()                                                                           \
	int main(void)                                                                             \
	{                                                                                          \
		maas_log_set_level(MAAS_LOG_ERR);                                                  \
		return test_run(NULL, server_close);                                               \
	}

/*
 * maas_clock_ms() and maas_clock_ns() of the program run ahead by what was added: it is linked with
 * --wrap. Any thread.
 */
void clock_add_ms(uint64_t ms);

/* 0, or an error of any of the steps; then the fake finds nothing wrong with what is left. */
int server_try(const struct fake_rules *rules, enum maas_rdma_keys keys);
/* The same, and it has to succeed. */
void server_open(const struct fake_rules *rules, enum maas_rdma_keys keys);
/* Closes all but the fake device. */
void server_end(void);
/* The fake finds nothing wrong with what is left. Does nothing where no server is open. */
void server_close(void);

struct maas_lend_key_stats server_stats(void);
/* 0 where nothing of that name was counted. */
uint64_t count_of(const struct maas_lend_key_count *counts, const char *name);
uint64_t live_slabs(void);

/* ---- clients */

struct peer {
	struct maas_lend_session_info session;
	struct raw_link link;
};

/* One of the server's, without a connection; with a session of that name, unless it is NULL. */
struct peer *peer_new(const char *name);
/* Connected. */
struct peer *peer_open(const char *name);
/* Asks to connect, with `len` bytes of private data … */
void peer_ask(struct peer *peer, const void *data, size_t len);
/* … or with the session's ticket … */
void peer_ask_with_ticket(struct peer *peer);
/* … and waits for the answer. 0, or the reason (enum maas_wire_reason) of the refusal; -errno. */
int peer_answer(struct peer *peer);
/* Both of them. */
int peer_dial_with(struct peer *peer, const void *data, size_t len);
int peer_dial(struct peer *peer);
/* A new ticket. */
void peer_renew(struct peer *peer);
/* Hangs up and dials with a new ticket. */
void peer_redial(struct peer *peer);
void peer_hang_up(struct peer *peer);
/* The session, as the server knows it. Spends the ticket. */
struct maas_lend_session_ref peer_ref(struct peer *peer);
/* Waits for the next event; returns its type. */
enum rdma_cm_event_type peer_event(struct peer *peer);

/* The status of one operation. */
int peer_run(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t addr, uint32_t rkey,
	     uint32_t len);
int peer_write(struct peer *peer, const struct maas_lend_key *key);
int peer_read(struct peer *peer, const struct maas_lend_key *key);

/* ---- what a client is lent */

struct maas_lend_allocation allocate(uint64_t size_bytes);
/* All its bytes are `expected`. */
void check_bytes(const char *id, uint8_t expected);
/* Asks for a key; or waits for the answer, and returns it. */
int ask_key(const struct peer *peer, const char *id, enum maas_lend_access access,
	    struct maas_lend_key *ret_key, struct told *told);
int try_key(const struct peer *peer, const char *id, enum maas_lend_access access,
	    struct maas_lend_key *ret_key);
/* A key to write, which has to come. */
struct maas_lend_key get_key(const struct peer *peer, const char *id);
/* These wait for the end. */
int ungrant(const struct peer *peer, const char *id);
int free_it(const char *id);
int end_session(const struct peer *peer);

#endif
