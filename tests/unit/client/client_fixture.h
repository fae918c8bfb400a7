/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the client share: a maasd of their own, and servers that misbehave. */
#ifndef MAAS_TESTS_CLIENT_FIXTURE_H
#define MAAS_TESTS_CLIENT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/types.h>

#include "client/maas.h"

/* ---- a real maasd */

struct client_server {
	pid_t pid;
	char url[128];
	char log[64]; /* its stderr */
};

/* Starts it at `listen`, with a pool of 16 MiB; a failure ends the test. */
void client_server_start(struct client_server *server, const char *listen);
void client_server_stop(struct client_server *server);

/* A handle with short timeouts; `options` may be NULL. */
struct maas *client_open(const char *url, const struct maas_options *options);

/* Waits up to 10 s for the condition. */
#define CLIENT_WAIT(condition)                                                                     \
	do {                                                                                       \
		for (int tries_ = 0; !(condition) && tries_ < 1000; tries_++)                      \
			client_nap_ms(10);                                                         \
		assert_true(condition);                                                            \
	} while (0)
void client_nap_ms(unsigned int ms);

/* A number in /stats, such as "active_allocations". */
long client_stat(struct maas *maas, const char *name);

/* ---- a server that says the same to everybody */

struct client_stub;

/* Reads each request, answers `answer` and closes; NULL: closes at once; "": never answers. */
struct client_stub *client_stub_start(const char *answer);
/* Up to 4 answers to the first requests in turn, the last to all others; before any request. */
void client_stub_say(struct client_stub *stub, const char *const *answers, unsigned int count);
/* The last request, head and body; while none is under way. */
const char *client_stub_seen(const struct client_stub *stub);
const char *client_stub_url(const struct client_stub *stub);
unsigned int client_stub_requests(struct client_stub *stub);
void client_stub_stop(struct client_stub *stub);

/* ---- a wire that breaks */

struct client_wire;

/* Passes connections on to `url`, one request each; of the first `losses` the answer is lost. */
struct client_wire *client_wire_start(const char *url, unsigned int losses);
const char *client_wire_url(const struct client_wire *wire);
unsigned int client_wire_connections(struct client_wire *wire);
void client_wire_stop(struct client_wire *wire);

#endif
