/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the client share: a maasd of their own, servers that misbehave, and the handles
 * under test. A program ends its cases with client_end(), which closes what is open.
 */
#ifndef MAAS_TESTS_CLIENT_FIXTURE_H
#define MAAS_TESTS_CLIENT_FIXTURE_H

#include <sys/types.h>

#include "tests/unit/client/client_options.h"
#include "tests/unit/unit.h"

#define SOME_ID "00000000-0000-8000-8741-8d35090dc78e"

/* The handle under test, and another one where a case needs it; NULL: not open. */
extern struct maas *maas;
extern struct maas *other;

/* A handle with a timeout of 10 s; `options` may be NULL. */
struct maas *client_open(const char *url, const struct maas_options *options);
void client_close(struct maas **handle);
/* Closes the handles, the stub and the proxy, and stops maasd, where they are open. */
void client_end(void);
/* The same, and what `maas` speaks to must have no allocation left, if it is maasd. */
void client_end_empty(void);

/* Memory, which has to come. */
struct maas_allocation client_alloc(struct maas *handle, uint64_t size_bytes);
/* Waits for the next completion of `maas`, which must have this status. */
struct maas_completion client_done(int status);

/* A number in /stats, such as "active_allocations". */
long client_stat(struct maas *handle, const char *name);

/* ---- a real maasd */

extern struct server {
	pid_t pid; /* 0: none */
	char url[128];
	char log[64]; /* its stderr */
} server;

/* Starts it, with a pool of 16 MiB, at `listen` or, by itself, anywhere. */
void server_start_at(const char *listen);
void server_start(void);
/* The same, and opens `maas`. */
void server_open(void);
void server_stop(void);

/* ---- files of the client */

/* Puts another file in the place of `path`, in one step. */
void put_file(const char *path, const char *text, mode_t mode);

/* ---- a server that says the same to everybody */

/* Reads each request, answers `answer` and closes; NULL: closes at once; "": never answers. */
void stub_start(const char *answer);
/* The same, and opens `maas`. */
void stub_open(const char *answer, const struct maas_options *options);
/* Up to 4 answers to the first requests in turn, the last to all others; before any request. */
void stub_say(const char *const *answers, unsigned int count);
/* Only requests with this token get that answer, others 401; at any time. */
void stub_want(const char *token);
/* The last request, head and body; while none is under way. */
const char *stub_seen(void);
const char *stub_url(void);
unsigned int stub_requests(void);
void stub_stop(void);

/* ---- a network that breaks */

/*
 * Passes connections on to maasd, one request each; of the first `losses` the answer is lost. Opens
 * `maas` at the proxy, and `other` at maasd.
 */
void proxy_open(unsigned int losses, const struct maas_options *options);
unsigned int proxy_connections(void);
void proxy_stop(void);

#endif
