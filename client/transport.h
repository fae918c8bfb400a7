/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport of a handle, which carries its bytes: a table of operations, chosen when the handle
 * is opened. No function of a transport is called but through its table. Allocations, sessions and
 * the like are requests over HTTP (maas_call()) with either.
 */
#ifndef MAAS_CLIENT_TRANSPORT_H
#define MAAS_CLIENT_TRANSPORT_H

#include <errno.h>

#include "client/internal.h"

/* What `run` and `submit` begin with. Errors: -ECHILD, -EINVAL. */
MAAS_MUST_CHECK static inline int maas_transport_enter(const struct maas *maas, uint32_t count)
{
	int r = maas_enter(maas);

	if (!r && count - 1 >= MAAS_MAX_BATCH)
		r = maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
	return r;
}

struct maas_transport {
	enum maas_transport_type type;

	/* Whether this host can use the transport. NULL: always. Errors: -ENODEV. */
	int (*probe)(void);
	/* Leaves the handle as it was when it fails. Errors: see maas_open(). */
	int (*start)(struct maas *maas, uint64_t deadline_ms);
	/* Drops all operations under way: callers' buffers are theirs again. */
	void (*stop)(struct maas *maas);
	/* After `stop`, when nobody can call in any more. */
	void (*free)(struct maas *maas);

	/* Of maas_readv() and maas_writev(). */
	int (*run)(struct maas *maas, const struct maas_range *ranges, uint32_t count, bool read);

	/* Begins an operation, counted by maas_queue_hold() and ended by maas_queue_done(). */
	int (*submit)(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user, bool read);
	/* Frees a chain of operations whose completions were taken; the last one's `next` is NULL.
	 */
	void (*release)(struct maas *maas, struct maas_op *first, struct maas_op *last);
	/* Completes submitted operations without waiting. NULL: only a thread does. */
	void (*progress)(struct maas *maas);
	/* Waits until maas_queue_ready() or `until_ms`; may return sooner. */
	void (*wait)(struct maas *maas, uint64_t until_ms);
	/* Makes threads in `wait` look at the queue again. */
	void (*wake)(struct maas *maas);

	/* Each allocation needs a key of the session. False: what follows is NULL. */
	bool keys;
	/* As maas_call(), for a request whose answer has keys. */
	int (*call)(struct maas *maas, struct maas_request *request, uint64_t deadline_ms);
	/* Keeps the key of an answer, its member "rdma"; ignores one that makes no sense, since
	 * keys can be asked for. */
	void (*add_key)(struct maas *maas, const char *id, const json_t *rdma);
	void (*drop_key)(struct maas *maas, const char *id);
	/* Pins a buffer's memory; lets go of it. Errors: -ENOMEM, -EFAULT; -EBUSY it is in use. */
	int (*pin)(struct maas *maas, struct maas_buffer *buffer);
	int (*unpin)(struct maas *maas, struct maas_buffer *buffer);
	/* Waits until it is connected. Errors: as `start`, -EKEYREVOKED the session is lost. */
	int (*connect)(struct maas *maas, uint64_t deadline_ms);
	/* The session is lost: nothing of it is used any more. Any thread. */
	void (*session_lost)(struct maas *maas);
	/* There is a new session in the place of the lost one. */
	void (*session_renewed)(struct maas *maas);
};

extern const struct maas_transport maas_transport_http;
extern const struct maas_transport maas_transport_rdma;

/* Turns AUTO into one of the others, and starts it. Errors: see maas_open(). */
MAAS_MUST_CHECK int maas_transport_choose(struct maas *maas);

#endif
