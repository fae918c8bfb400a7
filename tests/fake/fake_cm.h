/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the fake rdma_cm share. Guarded by fake_lock(). */
#ifndef MAAS_TESTS_FAKE_FAKE_CM_H
#define MAAS_TESTS_FAKE_FAKE_CM_H

#include <errno.h>
#include <rdma/rdma_cma.h>

#include "tests/fake/fake_objects.h"

/* The data that arrives fills the message's room, with zeros behind the bytes that were sent. */
#define FAKE_CM_REQUEST	    56
#define FAKE_CM_ACCEPT	    196
#define FAKE_CM_REJECT	    148

#define FAKE_CM_NO_LISTENER 8
#define FAKE_CM_REFUSED	    28

enum fake_cm_state {
	FAKE_CM_IDLE,
	FAKE_CM_LISTENING,
	FAKE_CM_ADDRESSED,
	FAKE_CM_ROUTED,
	FAKE_CM_CONNECTING, /* the request is under way, or was received */
	FAKE_CM_ACCEPTED,   /* not yet heard of by the client */
	FAKE_CM_CONNECTED,
	FAKE_CM_ENDED,
};

TAILQ_HEAD(fake_cm_events, fake_cm_event);

struct fake_cm_channel {
	struct rdma_event_channel cm; /* first; the fd counts the events */
	struct fake_cm_events events;
	unsigned int ids;
};

struct fake_cm_event {
	struct rdma_cm_event cm; /* first */
	TAILQ_ENTRY(fake_cm_event) link;
	uint8_t data[FAKE_CM_ACCEPT];
};

struct fake_cm_id {
	struct rdma_cm_id cm; /* first */
	TAILQ_ENTRY(fake_cm_id) link;
	enum fake_cm_state state;
	uint16_t port; /* of this end, once it is bound */
	uint32_t qp_num;
	uint8_t ack_timeout;
	uint8_t max_reads;
	uint8_t max_dest_reads;
	struct fake_cm_id *peer;
	unsigned int unacked;
};

static inline struct fake_cm_id *fake_cm_id_of(struct rdma_cm_id *cm)
{
	return (struct fake_cm_id *)cm;
}

/* As librdmacm returns it: -1 with errno set, or 0. */
static inline int fake_fail(int error)
{
	errno = error;
	return -1;
}

static inline int fake_result(int error)
{
	return error ? fake_fail(error) : 0;
}

/* An event with `len` bytes of private data, as it arrives in `room`. 0 or ENOMEM. */
int fake_cm_tell(struct fake_cm_id *id, enum rdma_cm_event_type type, int status, const void *data,
		 size_t len, size_t room);
static inline int fake_cm_say(struct fake_cm_id *id, enum rdma_cm_event_type type, int status)
{
	return fake_cm_tell(id, type, status, NULL, 0, 0);
}

/* The id that listens at a port, or NULL. */
struct fake_cm_id *fake_cm_listener(uint16_t port);
/* A new one for a request that came to `listener`; NULL: no memory. */
struct fake_cm_id *fake_cm_child(struct fake_cm_id *listener);
/* Takes the events that nobody has taken yet. */
void fake_cm_forget(struct fake_cm_id *id);
void fake_cm_free(struct fake_cm_id *id);
/* Tells the other end that this one goes. */
void fake_cm_part(struct fake_cm_id *id);
/* The client's end hears that it was accepted. 0 or errno. */
int fake_cm_establish(struct fake_cm_id *id);
uint16_t fake_cm_port(const struct sockaddr *addr);

#endif
