/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is connected, by address: so that no client takes all connections, or all of the memory that
 * large requests may hold. An IPv6 client has a /64 to choose its address from, so that is what
 * counts as one; a proxy or a NAT is one address. Clients of Unix sockets have one part of the
 * memory together, and as many connections as they want.
 *
 * A connection above a limit is taken into a small reserve that answers health checks, or, when
 * that is full, too, closed at once.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

static_assert(crypto_shorthash_KEYBYTES == sizeof(((struct maas_http_peers *)0)->key), "");

/* False: not counted by address. */
static bool key_of(const struct maas_http_listener *listener, const struct sockaddr *addr,
		   struct maas_http_peer_key *ret_key)
{
	memset(ret_key, 0, sizeof(*ret_key));
	ret_key->metrics = listener->metrics;
	if (addr && addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)addr;

		ret_key->family = AF_INET;
		memcpy(ret_key->bytes, &in->sin_addr, sizeof(in->sin_addr));
		return true;
	}
	if (addr && addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const void *)addr;

		/* The first 64 bits: the rest is the client's to choose. */
		ret_key->family = AF_INET6;
		memcpy(ret_key->bytes, &in->sin6_addr, sizeof(ret_key->bytes));
		return true;
	}
	return false;
}

static uint32_t hash_of(const struct maas_http_peers *peers, const struct maas_http_peer_key *key)
{
	uint64_t hash;

	crypto_shorthash((unsigned char *)&hash, (const unsigned char *)key, sizeof(*key),
			 peers->key);
	return (uint32_t)hash;
}

uint32_t maas_http_peer_hash(const struct maas_http_peers *peers, const struct maas_http_peer *peer)
{
	return hash_of(peers, &peer->key);
}

uint64_t maas_http_client(const struct maas_http_conn *conn)
{
	const struct maas_auth_principal *principal = conn->caller.lend.principal;
	const struct maas_http_peers *peers = &conn->http->peers;
	uint64_t hash = 0;

	if (principal)
		crypto_shorthash((unsigned char *)&hash, (const unsigned char *)principal->name,
				 strlen(principal->name), peers->key);
	else if (conn->peer)
		hash = maas_http_peer_hash(peers, conn->peer);
	return hash ? hash : 1;
}

static struct maas_http_peer_list *bucket_of(struct maas_http_peers *peers,
					     const struct maas_http_peer_key *key)
{
	return &peers->buckets[hash_of(peers, key) % MAAS_HTTP_PEER_BUCKETS];
}

static struct maas_http_peer *find(struct maas_http_peers *peers,
				   const struct maas_http_peer_key *key)
{
	struct maas_http_peer *peer;

	LIST_FOREACH (peer, bucket_of(peers, key), link)
		if (!memcmp(&peer->key, key, sizeof(*key)))
			return peer;
	return NULL;
}

static bool shakes_too_much(const struct maas_http_listener *listener,
			    const struct maas_http_peer *peer)
{
	unsigned int max = listener->max_handshakes;

	return max && peer && peer->handshakes >= max;
}

static enum maas_http_place place_for(const struct maas_http_listener *listener,
				      const struct maas_http_peer *peer)
{
	unsigned int max = listener->max_per_address;

	if (shakes_too_much(listener, peer))
		return MAAS_HTTP_PLACE_NONE;
	if (listener->connections < listener->max_connections &&
	    (!peer || !max || peer->connections < max))
		return MAAS_HTTP_PLACE_NORMAL;
	if (listener->reserved < MAAS_HTTP_RESERVE &&
	    (!peer || peer->reserved < MAAS_HTTP_RESERVE_PER_ADDRESS))
		return MAAS_HTTP_PLACE_RESERVE;
	return MAAS_HTTP_PLACE_NONE;
}

int maas_http_peers_init(struct maas_http_peers *peers)
{
	if (sodium_init() < 0)
		return -EIO;
	randombytes_buf(peers->key, sizeof(peers->key));
	pthread_mutex_init(&peers->lock, NULL);
	return 0;
}

void maas_http_peers_fini(struct maas_http_peers *peers)
{
	pthread_mutex_destroy(&peers->lock);
}

bool maas_http_peers_admit(struct maas_http *http, const struct maas_http_listener *listener,
			   const struct sockaddr *addr)
{
	struct maas_http_peers *peers = &http->peers;
	struct maas_http_peer_key key;
	const struct maas_http_peer none = {0};
	static struct maas_ratelimit full = MAAS_RATELIMIT(MAAS_LOG_WARN, "too many connections");
	const struct maas_http_peer *peer = NULL;
	const char *what = "a connection is taken for health checks only";
	enum maas_http_place place;

	pthread_mutex_lock(&peers->lock);
	if (key_of(listener, addr, &key)) {
		peer = find(peers, &key);
		peer = peer ? peer : &none;
	}
	place = place_for(listener, peer);
	if (place == MAAS_HTTP_PLACE_NONE)
		what = shakes_too_much(listener, peer)
			       ? "a connection was closed, its address has too many TLS handshakes "
				 "under way"
			       : "a connection was closed, there are too many";
	pthread_mutex_unlock(&peers->lock);
	if (place == MAAS_HTTP_PLACE_NORMAL)
		return true;
	log_limited(&full, "%s at=%s connections=%u of_one_address=%u", what, listener->url,
		    listener->max_connections, listener->max_per_address);
	if (place == MAAS_HTTP_PLACE_NONE)
		atomic_fetch_add_explicit(&http->metrics.refused, 1, memory_order_relaxed);
	return place != MAAS_HTTP_PLACE_NONE;
}

/* Lock held. NULL: out of memory. */
static struct maas_http_peer *get(struct maas_http_peers *peers,
				  const struct maas_http_peer_key *key)
{
	struct maas_http_peer *peer = find(peers, key);

	if (peer)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->key = *key;
	LIST_INSERT_HEAD(bucket_of(peers, key), peer, link);
	return peer;
}

/* Lock held. A peer goes with its last connection. */
static void put(struct maas_http_peer *peer)
{
	if (peer->connections || peer->reserved)
		return;
	LIST_REMOVE(peer, link);
	free(peer);
}

enum maas_http_place maas_http_peers_enter(struct maas_http *http,
					   struct maas_http_listener *listener,
					   const struct sockaddr *addr,
					   struct maas_http_peer **ret_peer)
{
	struct maas_http_peers *peers = &http->peers;
	enum maas_http_place place = MAAS_HTTP_PLACE_NONE;
	struct maas_http_peer *peer = NULL;
	struct maas_http_peer_key key;
	bool counted = key_of(listener, addr, &key);

	pthread_mutex_lock(&peers->lock);
	if (counted)
		peer = get(peers, &key);
	if (!counted || peer)
		place = place_for(listener, peer);
	if (place == MAAS_HTTP_PLACE_NORMAL) {
		listener->connections++;
		if (peer)
			peer->connections++;
	} else if (place == MAAS_HTTP_PLACE_RESERVE) {
		listener->reserved++;
		if (peer)
			peer->reserved++;
	} else if (peer) {
		put(peer);
		peer = NULL;
	}
	if (peer && listener->secure)
		peer->handshakes++;
	pthread_mutex_unlock(&peers->lock);
	*ret_peer = peer;
	return place;
}

void maas_http_peers_shaken(struct maas_http *http, struct maas_http_peer *peer)
{
	if (!peer)
		return;
	pthread_mutex_lock(&http->peers.lock);
	peer->handshakes--;
	pthread_mutex_unlock(&http->peers.lock);
}

void maas_http_peers_leave(struct maas_http *http, struct maas_http_listener *listener,
			   enum maas_http_place place, struct maas_http_peer *peer)
{
	struct maas_http_peers *peers = &http->peers;

	if (place == MAAS_HTTP_PLACE_NONE)
		return;
	pthread_mutex_lock(&peers->lock);
	if (place == MAAS_HTTP_PLACE_NORMAL) {
		listener->connections--;
		if (peer)
			peer->connections--;
	} else {
		listener->reserved--;
		if (peer)
			peer->reserved--;
	}
	if (peer)
		put(peer);
	pthread_mutex_unlock(&peers->lock);
}

/* ---- what large requests hold */

/* Of what a request holds, the part beyond what each may. */
static uint64_t counted(uint64_t bytes)
{
	return bytes > MAAS_HTTP_FREE_BYTES ? bytes - MAAS_HTTP_FREE_BYTES : 0;
}

/* NULL where addresses are not told apart. */
static _Atomic uint64_t *held_by_peer(struct maas_http_conn *conn)
{
	if (!conn->http->options.max_connections_per_address)
		return NULL;
	return conn->peer ? &conn->peer->held_bytes : &conn->http->peers.local_held_bytes;
}

static bool add_within(_Atomic uint64_t *held, uint64_t bytes, uint64_t max)
{
	uint64_t before;

	if (!held || !bytes)
		return true;
	before = atomic_fetch_add_explicit(held, bytes, memory_order_relaxed);
	if (before + bytes <= max)
		return true;
	atomic_fetch_sub_explicit(held, bytes, memory_order_relaxed);
	return false;
}

static void give_back(_Atomic uint64_t *held, uint64_t bytes)
{
	if (held && bytes)
		atomic_fetch_sub_explicit(held, bytes, memory_order_relaxed);
}

int maas_http_hold(struct maas_http_conn *conn, uint64_t bytes)
{
	struct maas_http_request *req = &conn->req;
	uint64_t max = conn->http->options.max_held_bytes;
	uint64_t more = counted(req->wanted_bytes + bytes) - counted(req->wanted_bytes);

	if (!add_within(held_by_peer(conn), more, max / MAAS_HTTP_PEER_SHARE))
		return -EBUSY;
	if (!add_within(&conn->http->held_bytes, more, max)) {
		give_back(held_by_peer(conn), more);
		return -EBUSY;
	}
	req->wanted_bytes += bytes;
	return 0;
}

void maas_http_give_back(struct maas_http_conn *conn, uint64_t bytes)
{
	struct maas_http_request *req = &conn->req;
	uint64_t less = counted(req->wanted_bytes) - counted(req->wanted_bytes - bytes);

	req->wanted_bytes -= bytes;
	give_back(&conn->http->held_bytes, less);
	give_back(held_by_peer(conn), less);
}

void maas_http_unhold(struct maas_http_conn *conn)
{
	maas_http_give_back(conn, conn->req.wanted_bytes);
}
