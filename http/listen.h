/* SPDX-License-Identifier: Apache-2.0 */
/* listen: one address that the server listens at, and its socket file. */
#ifndef MAAS_HTTP_LISTEN_H
#define MAAS_HTTP_LISTEN_H

#include <sys/types.h>

#include "http/http.h"

#define MAAS_HTTP_URL 160

struct maas_http_listener {
	struct maas_http *http;
	bool metrics; /* it serves /health, /ready and /metrics, and nothing else */
	bool secure;  /* its connections are encrypted */
	unsigned int max_connections;
	unsigned int max_per_address; /* of clients; 0: no limit */
	unsigned int max_handshakes;  /* of TLS under way from one address; 0: no limit */
	char url[MAAS_HTTP_URL];      /* "" while it does not listen */
	/* guarded by the lock of the peers */
	unsigned int connections;
	unsigned int reserved;
	/* of the socket file */
	dev_t dev;
	ino_t ino;
};

/*
 * Opens a listening socket for "HOST:PORT", "[IPV6]:PORT" or "unix:PATH". `ret_listener` says where
 * it listens, with the port that was really taken; `secure` is the caller's, and false after a Unix
 * socket. A socket file that nobody listens at is replaced, nothing else is; a new one has
 * socket_mode and socket_group of `options` before anybody can connect. Returns the descriptor.
 * Errors: -EINVAL, -EEXIST the path is no socket, -EPERM the group is not one of the process's, and
 * errno of bind(2).
 */
MAAS_MUST_CHECK int maas_http_listen(const char *address, const struct maas_http_options *options,
				     struct maas_http_listener *ret_listener);
/* Whether maas_http_listen() would succeed, beside the addresses whose descriptors the caller still
 * has. `ret_fd` is -1 on an error, and where the socket file of a dead server would be replaced:
 * the file stays. Errors: as there. */
MAAS_MUST_CHECK int maas_http_listen_check(const char *address,
					   const struct maas_http_options *options,
					   struct maas_http_listener *ret_listener, int *ret_fd);
/* Removes the listener's socket file, unless another one has taken its place. */
void maas_http_unlisten(const struct maas_http_listener *listener);

#endif
