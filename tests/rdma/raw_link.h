/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_link: the RDMA of a client by hand, on a real device and on the fake one (fake_verbs.h):
 * connections by librdmacm, work requests with any address and any key.
 *
 * Errors: -errno, unless said otherwise. Threading: each object one thread at a time.
 */
#ifndef MAAS_TESTS_RAW_LINK_H
#define MAAS_TESTS_RAW_LINK_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "base/base.h"
#include "base/wire.h"

#define RAW_ID 40

/* Whose ticket it is, and where it is good. */
struct raw_session {
	char id[RAW_ID];
	char ticket[2 * MAAS_WIRE_TICKET + 1];
	char addr[46];
	uint16_t port;
};

#define RAW_DEPTH 64

struct raw_link {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint8_t *bytes; /* of ours, registered */
	size_t len;
	uint32_t connection; /* as the server said when it accepted */
	uint16_t reason;     /* as it said when it refused */
};

/* Fills the private data with the session's ticket. Errors: -EINVAL it is no hex text. */
int raw_hello(const struct raw_session *session, struct maas_wire_connect *ret_hello);

/*
 * Asks to connect with `hello_len` bytes of private data, and with `len` bytes of our own to read
 * to and write from; then waits for the answer. Errors: -ECONNREFUSED with link->reason (0: nobody
 * gave one), -ETIMEDOUT, -EHOSTUNREACH, those of the calls. The link is then closed.
 */
int raw_ask(struct raw_link *link, const struct raw_session *session, const void *hello,
	    uint8_t hello_len, size_t len);
int raw_answer(struct raw_link *link);
/* Both. */
int raw_connect_with(struct raw_link *link, const struct raw_session *session, const void *hello,
		     uint8_t hello_len, size_t len);
/* The same, with the session's ticket. */
int raw_connect(struct raw_link *link, const struct raw_session *session, size_t len);

/* Asks for a connection, takes the answer and never says that it came. */
int raw_connect_halfway(struct raw_link *link, const struct raw_session *session);

/* A closed and a half-built one are allowed. */
void raw_close(struct raw_link *link);

/*
 * One read or write of `len` bytes between link->bytes + at and `addr`, and its completion.
 * Returns its status (enum ibv_wc_status) or -ETIMEDOUT after ten seconds.
 */
int raw_run(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	    uint32_t rkey);

/* Posts without waiting; `id` comes with the completion. Errors: -ENOMEM the queue is full. */
int raw_post(struct raw_link *link, enum ibv_wr_opcode opcode, size_t at, size_t len, uint64_t addr,
	     uint32_t rkey, uint64_t id);

/* Waits for one completion. Returns 1, or 0 when none came in time. */
int raw_poll(struct raw_link *link, struct ibv_wc *ret_wc, unsigned int timeout_ms);

/* Sets the queue pair to ERR: what is under way completes, flushed. */
void raw_break(struct raw_link *link);

#endif
