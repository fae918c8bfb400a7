/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RDMA transport of a handle: the bytes travel by one-sided reads and writes, straight from the
 * caller's thread; everything else stays with HTTP. What is not possible at once (a key that is
 * missing, a connection that broke, a full queue) is done by the one thread of the transport.
 *
 *	maas_submit_read() ─┬─▶ posted ────────┬─▶ done ──▶ maas_poll()
 *	                    │     ▲     broken │
 *	                    │  waiting (full)  │
 *	                    │     ▲            │
 *	                    └───▶ todo ◀───────┘
 *	                     (key, connection)
 *
 * Includes no verbs: the rest of the library need not know them.
 */
#ifndef MAAS_CLIENT_RDMA_H
#define MAAS_CLIENT_RDMA_H

#include "client/internal.h"

struct maas_verbs;

/* Looks for an RDMA device that this process can use. Errors: -ENODEV. */
MAAS_MUST_CHECK int maas_verbs_look(void);

/* Makes a transport that is connected to nothing. Errors: -ENOMEM, -EMFILE. */
MAAS_MUST_CHECK int maas_verbs_new(struct maas *maas, struct maas_verbs **ret_verbs);

/*
 * Connects for the first time, with the handle's session, and starts the thread. Errors: -ENODEV no
 * RDMA device here leads to the server, -EOPNOTSUPP the server has none, -ENOMEM with the limit of
 * locked memory, -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT, -EACCES, -EPROTO, -ENOBUFS, -ESHUTDOWN,
 * and those of the session.
 */
MAAS_MUST_CHECK int maas_verbs_start(struct maas_verbs *verbs);

/* Ends the thread and the connection. NULL is allowed. Callers' buffers are theirs again. */
void maas_verbs_stop(struct maas_verbs *verbs);
/* After maas_verbs_stop(), when nobody can call in any more. NULL is allowed. */
void maas_verbs_free(struct maas_verbs *verbs);

/* The session is lost: closes the connection at once. Any thread. */
void maas_verbs_lost(struct maas_verbs *verbs);
/* There is a new session in the place of the lost one. */
void maas_verbs_renewed(struct maas_verbs *verbs);

/* Waits until it is connected. Errors: as maas_verbs_start(), -EKEYREVOKED the session is lost. */
MAAS_MUST_CHECK int maas_verbs_need(struct maas_verbs *verbs);
/* The server says that connection `number` is no more; the next need makes another. */
void maas_verbs_broken(struct maas_verbs *verbs, uint32_t number);
/* The number of the connection, 0: none. */
MAAS_MUST_CHECK uint32_t maas_verbs_number(struct maas_verbs *verbs);

/* The key in an answer, its member "rdma"; what makes no sense is asked for again when needed. */
void maas_verbs_add_grant(struct maas_verbs *verbs, const char *id, const json_t *rdma);
void maas_verbs_drop_grant(struct maas_verbs *verbs, const char *id);

/* Pins a buffer's memory; lets go of it. Errors: -ENOMEM, -EFAULT; -EBUSY it is in use. */
MAAS_MUST_CHECK int maas_verbs_pin(struct maas_verbs *verbs, struct maas_buffer *buffer);
MAAS_MUST_CHECK int maas_verbs_unpin(struct maas_verbs *verbs, struct maas_buffer *buffer);

/* Of maas_readv() and maas_writev(), maas_submit_…(), maas_poll() and maas_event_fd(). */
MAAS_MUST_CHECK int maas_verbs_run(struct maas_verbs *verbs, const struct maas_range *ranges,
				   uint32_t count, bool read);
MAAS_MUST_CHECK int maas_verbs_submit(struct maas_verbs *verbs, const struct maas_range *ranges,
				      uint32_t count, uint32_t timeout_ms, void *user, bool read);
MAAS_MUST_CHECK int maas_verbs_poll(struct maas_verbs *verbs,
				    struct maas_completion *ret_completions, uint32_t max,
				    int timeout_ms);
MAAS_MUST_CHECK int maas_verbs_event_fd(struct maas_verbs *verbs);

#endif
