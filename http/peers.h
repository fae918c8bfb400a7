/* SPDX-License-Identifier: Apache-2.0 */
/* Who is connected, by address, and what each may take. */
#ifndef MAAS_HTTP_PEERS_H
#define MAAS_HTTP_PEERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/base.h"

struct maas_http;
struct maas_http_conn;

#define MAAS_HTTP_RESERVE_PER_ADDRESS 2 /* of MAAS_HTTP_RESERVE, … */
#define MAAS_HTTP_PEER_SHARE	      4 /* one address holds at most this part of what all may */
#define MAAS_HTTP_PEER_BUCKETS	      1024

struct maas_http_peer_key {
	unsigned char family;
	bool metrics;		/* at an address for metrics, where it counts for itself */
	unsigned char bytes[8]; /* an IPv4 address, or the first half of an IPv6 address */
};

struct maas_http_peer {
	LIST_ENTRY(maas_http_peer) link; /* guarded by the lock of the peers, as the counts are */
	struct maas_http_peer_key key;
	unsigned int connections;
	unsigned int reserved;
	unsigned int handshakes;     /* under way, of TLS */
	_Atomic uint64_t held_bytes; /* by its requests under way; any thread */
};

LIST_HEAD(maas_http_peer_list, maas_http_peer);

struct maas_http_peers {
	unsigned char key[16];
	_Atomic uint64_t local_held_bytes; /* by requests at Unix sockets; any thread */
	pthread_mutex_t lock;
	struct maas_http_peer_list buckets[MAAS_HTTP_PEER_BUCKETS]; /* guarded by lock */
};

/* A number for the address, which nobody outside can choose. */
uint32_t maas_http_peer_hash(const struct maas_http_peers *peers,
			     const struct maas_http_peer *peer);

/* Never 0, and the same for requests of the same client: of one principal, or where there are none,
 * of one address; Unix sockets are one then. */
uint64_t maas_http_client(const struct maas_http_conn *conn);

/* What a connection may do. */
enum maas_http_place {
	MAAS_HTTP_PLACE_NONE,
	MAAS_HTTP_PLACE_NORMAL,
	MAAS_HTTP_PLACE_RESERVE, /* health checks only */
};

struct maas_http_listener;

/* Errors: -EIO. */
MAAS_MUST_CHECK int maas_http_peers_init(struct maas_http_peers *peers);
void maas_http_peers_fini(struct maas_http_peers *peers);
/* Whether a connection that comes now would have a place. Any thread. */
bool maas_http_peers_admit(struct maas_http *http, const struct maas_http_listener *listener,
			   const struct sockaddr *addr);
/* Takes a place for a connection, until maas_http_peers_leave(). `ret_peer`: NULL where connections
 * are not counted by address. Any thread. */
enum maas_http_place maas_http_peers_enter(struct maas_http *http,
					   struct maas_http_listener *listener,
					   const struct sockaddr *addr,
					   struct maas_http_peer **ret_peer);
/* A TLS handshake of a connection with a place is over. `peer` may be NULL. Any thread. */
void maas_http_peers_shaken(struct maas_http *http, struct maas_http_peer *peer);
void maas_http_peers_leave(struct maas_http *http, struct maas_http_listener *listener,
			   enum maas_http_place place, struct maas_http_peer *peer);

#endif
