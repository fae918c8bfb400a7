/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: what server and client say to each other in the private data of a connection
 * (rdma_connect(3), rdma_accept(3), rdma_reject(3)). All fields are big-endian; the bytes come from
 * the network, perhaps cut off or padded with zeros, and mean nothing until they are checked.
 */
#ifndef MAAS_BASE_WIRE_H
#define MAAS_BASE_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define MAAS_WIRE_MAGIC	  0x4d616153u /* "MaaS" */
#define MAAS_WIRE_VERSION 1u
#define MAAS_WIRE_TICKET  16 /* bytes of a session's ticket: its hex text, decoded */

/*
 * Not said, but set at each end: how long a queue pair waits for an answer before it sends again,
 * seven times. 4.096 µs * 2^16 = 0.27 s; a device may take up to four times as long. rdma_cm's own
 * choice for RoCE is eight times that: a lost packet then stalls an operation for 2 s, and a dead
 * peer is noticed after 17 s to 69 s.
 */
#define MAAS_WIRE_ACK_TIMEOUT 16

/* The client's, with its request to connect. 56 bytes is the most that there is room for. */
struct maas_wire_connect {
	uint32_t magic;
	uint16_t version;
	uint16_t reserved; /* 0; not looked at */
	uint8_t ticket[MAAS_WIRE_TICKET];
};
static_assert(sizeof(struct maas_wire_connect) == 24, "it crosses the wire");
static_assert(offsetof(struct maas_wire_connect, version) == 4, "it crosses the wire");
static_assert(offsetof(struct maas_wire_connect, ticket) == 8, "it crosses the wire");

/* The server's, when it accepts. */
struct maas_wire_accept {
	uint32_t magic;
	uint16_t version;
	uint16_t reserved;
	uint32_t connection; /* as in every grant that is good on it */
};
static_assert(sizeof(struct maas_wire_accept) == 12, "it crosses the wire");
static_assert(offsetof(struct maas_wire_accept, connection) == 8, "it crosses the wire");

enum maas_wire_reason {
	MAAS_WIRE_VERSION_UNKNOWN = 1, /* not a request of ours, or one of another version */
	MAAS_WIRE_TICKET_UNKNOWN = 2,  /* wrong, stale or used before */
	MAAS_WIRE_DEVICE = 3,	       /* came in through another device than the server's */
	MAAS_WIRE_RESOURCES = 4,       /* the server is short of something: try again later */
	MAAS_WIRE_ENDING = 5,	       /* the server or the session is ending */
};

/* The server's, when it refuses. */
struct maas_wire_reject {
	uint32_t magic;
	uint16_t version;
	uint16_t reason; /* enum maas_wire_reason */
};
static_assert(sizeof(struct maas_wire_reject) == 8, "it crosses the wire");
static_assert(offsetof(struct maas_wire_reject, reason) == 6, "it crosses the wire");

#endif
