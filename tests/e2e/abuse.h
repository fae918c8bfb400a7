/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that no client should send; each must be met with an error or a closed connection. */
#ifndef MAAS_TESTS_ABUSE_H
#define MAAS_TESTS_ABUSE_H

#include "base/base.h"

/* Requests with one known fault each. Dies when the server answers with anything else. */
void abuse_known(uint16_t port, const char *id);

/* Requests in one piece, in pieces, half closed, cut off. */
void abuse_connections(uint16_t port, const char *id);

/* `count` good requests with random bytes changed. */
void abuse_random(uint16_t port, const char *id, uint64_t seed, unsigned int count);

#endif
