/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http: the control plane: routes, JSON, metrics text, and the slabs' bytes over HTTP. The calls
 * are described in docs/openapi.yaml.
 */
#ifndef MAAS_HTTP_HTTP_H
#define MAAS_HTTP_HTTP_H

#include <sys/types.h>

#include "lend/lend.h"
#include "tls/tls.h"

struct maas_http;

/* What /health and /stats say of the data plane; strings are constant, NULL prints null. */
struct maas_http_rdma {
	const char *state; /* where there are no keys that say it themselves; NULL: "off" */
	const char *device;
	const char *gid;
	uint16_t port;
	const char *keys;
	/* NULL prints null; else a JSON object: what the start-up self-test proved */
	const char *isolation_json;
	bool isolated; /* that a key opens its own bytes alone */
	/* The parts of that, as in struct maas_rdma_isolation. */
	bool bounds;
	bool foreign;
	bool revocation;
	bool access;
};

#define MAAS_HTTP_MAX_HEADER_BYTES (24u << 10)
#define MAAS_HTTP_RESERVE	   32 /* connections to each address beyond the limit, for health checks */
/* Of listen_metrics: connections to each address, and of one client there. */
#define MAAS_HTTP_METRICS_CONNECTIONS		  128
#define MAAS_HTTP_METRICS_CONNECTIONS_PER_ADDRESS 32

/* The workers of each address where the option says `asked`; 0: one for each CPU, at most 16. */
unsigned int maas_http_threads(unsigned int asked);

struct maas_http_options {
	struct maas_slab *slab; /* borrowed, as lend */
	struct maas_lend *lend;
	const char *const *listen; /* "0.0.0.0:3000", "[::]:3000", "unix:/run/maas.sock" */
	unsigned int num_listen;
	/* Addresses for /health, /ready and /metrics alone: with connections of their own, and with
	 * the right `metrics` for whoever reaches them. */
	const char *const *listen_metrics;
	unsigned int num_listen_metrics;
	struct maas_tls *tls; /* of the TCP addresses of `listen`; a reference is taken; NULL: they
				 are plain */
	const gid_t *socket_group; /* of unix: sockets; NULL: that of the process */
	unsigned int threads;	   /* workers for each address, see maas_http_threads() */
	/* Limits, of which none is 0; maasd's options have the defaults. */
	mode_t socket_mode;	      /* of unix: sockets */
	unsigned int max_connections; /* for each address of `listen` */
	size_t max_body_bytes;	      /* of a JSON body that is a list */
	size_t max_header_bytes;      /* at most MAAS_HTTP_MAX_HEADER_BYTES */
	uint64_t max_held_bytes;      /* of large bodies and answers, all in all */
	unsigned int timeout_s;	      /* a connection without progress is closed */

	unsigned int max_connections_per_address; /* of clients; 0: no limit */
	const char *const *hosts; /* --host: names of this server besides the machine's own */
	unsigned int num_hosts;
	const char *boot_id;
	struct maas_http_rdma rdma;
};

/*
 * Binds and serves every address, or none; maas_http_url() says where.
 * On failure `error` (MAAS_HTTP_ERROR bytes) names the address and the cause.
 * Errors: -EINVAL bad address, -EADDRINUSE, -EACCES, …
 */
#define MAAS_HTTP_ERROR 512
MAAS_MUST_CHECK int maas_http_start(const struct maas_http_options *options, char *error,
				    struct maas_http **ret_http);

/*
 * Whether each address of `options` could be served, which only needs the addresses and the
 * options of sockets. Listens for a moment, answers nobody and leaves nothing. Errors and `error`:
 * as maas_http_start().
 */
MAAS_MUST_CHECK int maas_http_check(const struct maas_http_options *options, char *error);

/* Where the address number `index` of `listen` is served, with its real port, such as
 * "https://0.0.0.0:3000" or "unix:/run/maas.sock"; NULL after the last. Lives as long as `http`. */
const char *maas_http_url(const struct maas_http *http, unsigned int index);
/* The same of `listen_metrics`. */
const char *maas_http_metrics_url(const struct maas_http *http, unsigned int index);

/* For /metrics: whether the configuration could be read again, just now. */
void maas_http_reloaded(struct maas_http *http, bool ok);

/* Connections that come from now on show what `tls` has, and the certificates of all clients are
 * held to it. A reference is taken. Any thread. */
void maas_http_set_tls(struct maas_http *http, struct maas_tls *tls);

/* /ready answers 503 `draining`; requests go on being served. */
void maas_http_drain(struct maas_http *http);

/* From now on requests are answered 503 `stopping`, but those that ask how the server is: once
 * maas_http_active() was 0, no other one is carried out. */
void maas_http_close(struct maas_http *http);

/* Requests under way, data transfers included. */
uint64_t maas_http_active(struct maas_http *http);

/* Housekeeping, about ten times a second, after maas_lend_tick(): cuts connections that trickle
 * past their time, or whose transfers hold up a free. */
void maas_http_tick(struct maas_http *http);

/* Closes every connection and frees. A free that still waits goes on in lend. NULL is allowed. */
void maas_http_stop(struct maas_http *http);

#endif
